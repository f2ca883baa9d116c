"""A wide Gaussian blur at the price of a narrow one."""

from __future__ import annotations

import cv2
import numpy as np

GRID = 2.5  # cells of a grid that a sigma of a blur on it has at least


def wide_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of x (H, W) or (H, W, C) float32, on a grid that is fine enough for it."""
    return enlarged(coarse_blur(x, sigma), x.shape[:2])


def coarse_blur(x: np.ndarray, sigma: float, cells: float = GRID) -> np.ndarray:
    """The same as the grid has it, (h, w) or (h, w, C). cells: that sigma has at least."""
    small = reduced(x, max(1, int(sigma / cells)))
    across, down = small.shape[1] / x.shape[1], small.shape[0] / x.shape[0]
    return cv2.GaussianBlur(small, (0, 0), sigmaX=sigma * across, sigmaY=sigma * down)


def reduced(x: np.ndarray, times: int) -> np.ndarray:
    """x (H, W) or (H, W, C) averaged by area onto a grid with cells of so many pixels a side."""
    if times == 1:
        return x
    h, w = x.shape[:2]
    size = (max(1, w // times), max(1, h // times))
    return cv2.resize(x, size, interpolation=cv2.INTER_AREA)


def enlarged(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """What a grid has, at full size (H, W)."""
    if x.shape[:2] == size:
        return x
    return cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR)

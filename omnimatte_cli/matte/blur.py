"""A wide Gaussian blur at the price of a narrow one."""

from __future__ import annotations

import cv2
import numpy as np

GRID = 2.5  # cells of a grid that a sigma of a blur on it has at least


def wide_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of x (H, W) or (H, W, C) float32, on a grid that is fine enough for it."""
    h, w = x.shape[:2]
    step = max(1, int(sigma / GRID))
    if step == 1:
        return cv2.GaussianBlur(x, (0, 0), sigma)
    size = (max(1, w // step), max(1, h // step))
    small = cv2.resize(x, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigmaX=sigma * size[0] / w, sigmaY=sigma * size[1] / h)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR)

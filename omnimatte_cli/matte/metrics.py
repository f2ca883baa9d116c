"""Scores of reconstructions and layers."""

from __future__ import annotations

import math

import cv2
import numpy as np

from omnimatte_cli.arrays import to_float

REGION_THRESHOLD = 63.75  # beta of the published evaluation, on 0 .. 255 values


class PSNR:
    """Peak signal-to-noise ratio over many frames, in dB, for colours in [0, 1]."""

    def __init__(self) -> None:
        self.error, self.count = 0.0, 0

    def add(self, result: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> None:
        """result, truth: (H, W, 3) float; where: (H, W) bool, the pixels that count."""
        square = np.square(result - truth)
        if where is not None:
            square = square[where]
        self.error += float(square.sum(dtype=np.float64))
        self.count += square.size

    def add_error(self, error: float, count: int) -> None:
        """Squared errors, summed over `count` numbers in [0, 1]."""
        # A difference of sums may end a little below 0.
        self.error += max(error, 0.0)
        self.count += count

    def merge(self, other: PSNR) -> None:
        """Count another score's pixels too."""
        self.error += other.error
        self.count += other.count

    @property
    def value(self) -> float | None:
        """The ratio, at most 100 dB; None where nothing was counted."""
        if self.count == 0:
            return None
        return min(-10 * math.log10(self.error / self.count), 100.0) if self.error else 100.0


def effect_region(solo: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """Where an object with its effects changes the plate (the published evaluation's rule).

    solo, plate: (..., 3) on the scale 0 .. 255. Returns (...) bool: sum over RGB of the squared
    difference is at least beta = 63.75.
    """
    return np.square(solo.astype(np.float32) - plate).sum(-1) >= REGION_THRESHOLD


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean arrays; 1 if both are empty."""
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two pictures (H, W, 3) uint8, mean over channels.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
    with a Gaussian window of sigma 1.5.
    """

    def blur(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (11, 11), 1.5)

    x, y = to_float(a).astype(np.float64), to_float(b).astype(np.float64)
    c1, c2 = 0.01**2, 0.03**2
    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    top = (2 * mx * my + c1) * (2 * cov + c2)
    full = top / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(full[5:-5, 5:-5].mean())

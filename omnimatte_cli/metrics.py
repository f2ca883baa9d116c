"""Scores of reconstructions and layers."""

from __future__ import annotations

import math

import numpy as np

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

    def merge(self, other: PSNR) -> None:
        """Count another score's pixels too."""
        self.error += other.error
        self.count += other.count

    @property
    def value(self) -> float | None:

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

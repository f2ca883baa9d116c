"""Colours as small numbers: by their histograms objects are told apart, and known again."""

from __future__ import annotations

import cv2
import numpy as np

LIGHTNESS_STEP = 16  # of 256, a colour bin's height
CHROMA_STEP, CHROMA_BINS = 6, 16  # of a and b in 8-bit Lab, around grey
COLOURS = (256 // LIGHTNESS_STEP) * CHROMA_BINS**2


def colour_bins(frame: np.ndarray) -> np.ndarray:
    """Colour bin of each pixel of (h, w, 3) uint8, (h, w) int32 in [0, COLOURS)."""
    lab = cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), 0.8), cv2.COLOR_RGB2LAB).astype(np.int32)
    half = CHROMA_BINS // 2
    a, b = (
        np.clip((lab[..., c] - 128 + CHROMA_STEP * half) // CHROMA_STEP, 0, CHROMA_BINS - 1)
        for c in (1, 2)
    )
    bins: np.ndarray = (lab[..., 0] // LIGHTNESS_STEP * CHROMA_BINS + a) * CHROMA_BINS + b
    return bins


def colour_histogram(bins: np.ndarray) -> np.ndarray:
    """Histogram (COLOURS,) float32 with sum 1 of colour bins, smoothed over near colours."""
    counts = np.bincount(bins.ravel(), minlength=COLOURS).astype(np.float32)
    cube = counts.reshape(-1, CHROMA_BINS, CHROMA_BINS)
    for axis in range(3):
        padded = np.pad(cube, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        low, high = (np.take(padded, range(s, s + cube.shape[axis]), axis) for s in (0, 2))
        cube = 0.5 * cube + 0.25 * (low + high)
    return cube.ravel() / max(float(cube.sum()), 1e-6)


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Bhattacharyya coefficient of two histograms: 1 for the same, 0 for disjoint colours."""
    return float(np.sqrt(a * b).sum())

"""Straight-alpha layers of one frame in NumPy: only where there is alpha is any work done."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def alpha_box(layer: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of (H, W, 4) that hold alpha, or None where it is empty."""
    seen = layer[..., 3] > 0
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def lay_over(layers: Iterable[np.ndarray], image: np.ndarray) -> np.ndarray:
    """Layers (H, W, 4), back to front, over an image (H, W, 3), which stays as it is; float32.

    Porter and Duff, "Compositing Digital Images", SIGGRAPH 1984: the `over` operator.
    """
    out = np.array(image, np.float32)
    for rgba in layers:
        box = alpha_box(rgba)
        if box is not None:
            below, layer = out[box], rgba[box]
            below += layer[..., 3:] * (layer[..., :3] - below)
    return out


def merge(layers: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Layers (H, W, 4), back to front, as one layer of straight alpha, (H, W, 4) float32."""
    out = np.zeros((*size, 4), np.float32)  # premultiplied
    for rgba in layers:
        box = alpha_box(rgba)
        if box is not None:
            below, alpha = out[box], rgba[box][..., 3:]
            below *= 1 - alpha
            below[..., :3] += alpha * rgba[box][..., :3]
            below[..., 3:] += alpha
    out[..., :3] /= np.maximum(out[..., 3:], np.float32(1e-6))
    return out

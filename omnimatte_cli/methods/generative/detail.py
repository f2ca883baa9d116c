"""Detail of the video in layers: its own pixels where one layer is all that is seen."""

from __future__ import annotations

import numpy as np

OPAQUE = 0.98  # alpha that the camera sees, above which a layer takes the video's own pixels


def seen_alphas(layers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Alpha that the camera sees of each layer through those in front, (N, H, W).

    layers: (N, H, W, 4); order: (N,) back to front.
    """
    out = np.empty(layers.shape[:3], np.float32)
    clear = np.ones(layers.shape[1:3], np.float32)
    for i in order[::-1]:
        out[i] = layers[i, ..., 3] * clear
        clear = clear * (1 - layers[i, ..., 3])
    return out


def copy_detail(
    layers: np.ndarray, frame: np.ndarray, masks: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Take the video's own pixels where a layer is all that the camera sees; alpha stays.

    Supplement D and the authors' code: where the alpha that is seen exceeds 0.98, or in the
    object's mask and no other's. layers: (N, H, W, 4) float32; frame: (H, W, 3) float32.
    """
    seen = seen_alphas(layers, order)
    alone = masks & (masks.sum(0) == 1)
    out = layers.copy()
    for i in range(len(layers)):
        where = (seen[i] > OPAQUE) | alone[i]
        out[i, ..., :3] = np.where(where[..., None], frame, layers[i, ..., :3])
    return out

"""Layers as they are delivered: the video's own pixels where one is opaque, and their composite."""

from __future__ import annotations

import numpy as np

from omnimatte_cli.arrays import to_float, to_uint8
from omnimatte_cli.matte.resolve import FrameLayers, edge_extend

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


def written_layers(layers: np.ndarray, plate: np.ndarray, order: np.ndarray) -> FrameLayers:
    """Layers (N, H, W, 4) float32 as they are written, and their composite over the plate."""
    rgba = to_uint8(layers)
    composite = to_float(plate)
    clear = np.ones(plate.shape[:2], np.float32)
    for i in order:
        alpha = to_float(rgba[i, ..., 3])
        colour = to_float(rgba[i, ..., :3])
        composite = composite + alpha[..., None] * (colour - composite)
        clear = clear * (1 - alpha)
        rgba[i, ..., :3] = edge_extend(rgba[i, ..., :3], alpha)
    return FrameLayers(rgba, composite, clear)

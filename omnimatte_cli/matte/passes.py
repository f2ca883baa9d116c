"""A layer in parts: shadow, reflection, body, whose `over` in this order is the whole layer.

Two layers of the same colour C, the front one with alpha f and the back one with alpha r, are over
each other one layer of colour C and alpha 1 - (1 - f)(1 - r). So a layer of alpha a is split
without any error into a front part of alpha f <= a and a back part of alpha r = (a - f) / (1 - f),
both of the layer's own colour. An effect that is a reflection to a share t has the front part f =
t a; the shadow behind it then has r = (1 - t) a / (1 - t a), 0 where t is 1.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte.compositing import straight
from omnimatte_cli.matte.effects import Effect

SHADOW, REFLECTION, BODY = "shadow", "reflection", "body"
PASSES = (SHADOW, REFLECTION, BODY)  # stacking order, back to front


def split_alpha(alpha: np.ndarray, front: np.ndarray) -> np.ndarray:
    """What the back part of a layer of `alpha` has, if the front part has `front`. All (H, W)."""
    return np.where(front < 1, (alpha - front) / np.maximum(1 - front, 1e-6), 0).astype(np.float32)


def effect_passes(effect: Effect) -> tuple[np.ndarray, np.ndarray]:
    """Shadow and reflection, each (H, W, 4); the reflection over the shadow is the effect."""
    whole = straight(effect.light, effect.alpha)
    return _split(whole, effect.mirror * effect.alpha)


def split_layer(rgba: np.ndarray, body: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Parts (3, H, W, 4) in the order of PASSES of a layer (H, W, 4).

    body: (H, W), alpha of the body's part, at most the layer's; mirror: (H, W) in [0, 1], the share
    of the rest that is a reflection.
    """
    rest, front = _split(rgba, np.minimum(body, rgba[..., 3]))
    return np.stack([*_split(rest, mirror * rest[..., 3]), front])


def _split(rgba: np.ndarray, front: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Back and front part of a layer (H, W, 4), the front one with alpha `front` (H, W)."""
    channels = cv2.split(rgba)

    def part(alpha: np.ndarray) -> np.ndarray:
        return cv2.merge([*(c * (alpha > 0) for c in channels[:3]), alpha])

    return part(split_alpha(channels[3], front)), part(np.asarray(front, np.float32))

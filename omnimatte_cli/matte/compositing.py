"""The `over` operator on NumPy arrays, straight alpha, float32 in [0, 1].

Porter and Duff, "Compositing Digital Images", SIGGRAPH 1984.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

ALPHA_FLOOR = 1e-6  # below this a colour cannot be told from its premultiplied value


def grey(x: np.ndarray) -> np.ndarray:
    """A number a pixel (H, W) float32 as a grey picture (H, W, 3).

    NumPy is ten times slower where it must broadcast over a last axis of three.
    """
    x = np.ascontiguousarray(x)
    return cv2.merge((x, x, x))


def colours(rgba: np.ndarray) -> np.ndarray:
    """The colours (H, W, 3) of a layer (H, W, 4), contiguous."""
    return cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)


def layer_over(rgba: np.ndarray, below: np.ndarray) -> np.ndarray:
    """One straight-alpha layer (H, W, 4) over a picture (H, W, 3). Returns (H, W, 3)."""
    return below + grey(rgba[..., 3]) * (colours(rgba) - below)


def composite(
    rgba: np.ndarray, below: np.ndarray, order: Sequence[int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Layers (N, H, W, 4) over a picture (H, W, 3), `order` from back to front.

    Returns the composite (H, W, 3) and the transmittance (H, W): how much of `below` is seen.
    """
    out = below
    seen = np.ones(below.shape[:2], np.float32)
    for i in order:
        out = layer_over(rgba[i], out)
        seen = seen * (1 - rgba[i, ..., 3])
    return out, seen


def merge(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Two straight-alpha layers (H, W, 4) as the one layer that looks the same over any ground."""
    through = (1 - front[..., 3]) * back[..., 3]
    alpha = front[..., 3] + through
    light = grey(front[..., 3]) * colours(front) + grey(through) * colours(back)
    return straight(light, alpha)


def straight(light: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Premultiplied colour (H, W, 3) and alpha (H, W) as a straight-alpha layer (H, W, 4).

    Colour is 0 where alpha is; elsewhere it is clipped to [0, 1].
    """
    alpha = np.ascontiguousarray(alpha, np.float32)
    gain = (alpha > 0) / np.maximum(alpha, np.float32(ALPHA_FLOOR))
    channels = [np.clip(c * gain, 0, 1) for c in cv2.split(light.astype(np.float32, copy=False))]
    return cv2.merge((*channels, alpha))

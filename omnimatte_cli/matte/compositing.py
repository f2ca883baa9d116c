"""The `over` operator on NumPy arrays, straight alpha, float32 in [0, 1].

Porter and Duff, "Compositing Digital Images", SIGGRAPH 1984.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ALPHA_FLOOR = 1e-6  # below this a colour cannot be told from its premultiplied value


def layer_over(rgba: np.ndarray, below: np.ndarray) -> np.ndarray:
    """One straight-alpha layer (H, W, 4) over a picture (H, W, 3). Returns (H, W, 3)."""
    return below + rgba[..., 3:] * (rgba[..., :3] - below)


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
    light = front[..., 3:] * front[..., :3] + through[..., None] * back[..., :3]
    return straight(light, alpha)


def straight(light: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Premultiplied colour (H, W, 3) and alpha (H, W) as a straight-alpha layer (H, W, 4).

    Colour is 0 where alpha is; elsewhere it is clipped to [0, 1].
    """
    out = np.empty((*alpha.shape, 4), np.float32)
    colour = light / np.maximum(alpha, ALPHA_FLOOR)[..., None]
    out[..., :3] = np.clip(colour, 0, 1) * (alpha > 0)[..., None]
    out[..., 3] = alpha
    return out

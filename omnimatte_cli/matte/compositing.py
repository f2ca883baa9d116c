"""The `over` operator on NumPy arrays, straight alpha, float32 in [0, 1].

Porter and Duff, "Compositing Digital Images", SIGGRAPH 1984.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from omnimatte_cli.matte.box import bounding_box

ALPHA_FLOOR = 1e-6  # below this a colour cannot be told from its premultiplied value


def grey(x: np.ndarray) -> np.ndarray:
    """A number a pixel (H, W) float32 as a grey picture (H, W, 3).

    NumPy is ten times slower where it must broadcast over a last axis of three.
    """
    x = np.ascontiguousarray(x)
    return cv2.merge((x, x, x))


def repeated(x: np.ndarray, channels: int) -> np.ndarray:
    """A number a pixel (H, W) float32 as (H, W, C), or as it is for one channel."""
    return x if channels == 1 else cv2.merge([x] * channels)


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


def lay_over(layers: Iterable[np.ndarray], image: np.ndarray) -> np.ndarray:
    """Layers (H, W, 4), back to front, over an image (H, W, 3), which stays as it is; float32.

    Only where a layer has alpha is any work done.
    """
    out = np.array(image, np.float32)
    for rgba in layers:
        box = bounding_box(rgba[..., 3] > 0)
        if box is not None:
            out[box.slices] = layer_over(rgba[box.slices], out[box.slices])
    return out


def transmittance(layers: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """How much of what is below is seen through layers (H, W, 4), (H, W) float32."""
    seen = np.ones(size, np.float32)
    for rgba in layers:
        seen *= 1 - rgba[..., 3]
    return seen


def merge(layers: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Layers (H, W, 4), back to front, as the one layer that looks the same over any ground."""
    out = np.zeros((*size, 4), np.float32)  # premultiplied
    for rgba in layers:
        box = bounding_box(rgba[..., 3] > 0)
        if box is not None:
            below, part = out[box.slices], rgba[box.slices]
            below *= 1 - part[..., 3:]
            below[..., :3] += grey(part[..., 3]) * colours(part)
            below[..., 3] += part[..., 3]
    return straight(out[..., :3], out[..., 3])


def straight(light: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Premultiplied colour (H, W, 3) and alpha (H, W) as a straight-alpha layer (H, W, 4).

    Colour is 0 where alpha is; elsewhere it is clipped to [0, 1].
    """
    alpha = np.ascontiguousarray(alpha, np.float32)
    gain = (alpha > 0) / np.maximum(alpha, np.float32(ALPHA_FLOOR))
    channels = [np.clip(c * gain, 0, 1) for c in cv2.split(light.astype(np.float32, copy=False))]
    return cv2.merge((*channels, alpha))

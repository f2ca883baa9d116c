"""Layers in closed form at full size, from plate, frame and ownership. Pure functions on arrays.

With C the composite so far, back to front, and d the change that a layer has to make, the sparsest
layer that makes it has alpha = max over channels of d / (1 - C) where d > 0 and -d / C where d < 0,
and colour C + d / alpha. Any larger alpha makes the same change with a colour nearer to the
frame's; in the object's own body alpha is 1 and the colour is the frame's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import to_float
from omnimatte_cli.ownership import FrameShares, smoothstep

SMOOTHING = 1.5  # pixels; sigma over which a faint change must be coherent to count
EVIDENCE = (1.0, 2.0)  # smoothed change, in noise deviations: none of it counts below, all above
BODY_CHANGE = (0.02, 0.12)  # change that makes an edge pixel of a mask transparent .. opaque
NOISE_FRAMES = 8  # frames that the noise is measured in
NOISE_FLOOR = 1 / 255
EXTENSION = 5  # pixels by which colour continues under alpha 0, for filtering without dark fringes


@dataclass(frozen=True)
class FrameLayers:
    """One frame's layers as they are written.

    rgba: (N, H, W, 4) uint8 straight alpha. composite: (H, W, 3) float32 in [0, 1], these very
    8-bit layers over the plate. transmittance: (H, W) float32, how much of the plate is seen.
    """

    rgba: np.ndarray
    composite: np.ndarray
    transmittance: np.ndarray


def least_alpha(change: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The smallest alpha with which some colour in [0, 1] makes `change` over `below`.

    change, below: (H, W, 3) float32. Returns (H, W) float32; above 1 only if below + change is not
    a colour.
    """
    room = np.where(change > 0, 1 - below, below)
    return channel_max(np.abs(change) / np.maximum(room, 1e-6))


def channel_max(x: np.ndarray) -> np.ndarray:
    """(H, W, 3) to (H, W): several times faster than NumPy's reduction over a short last axis."""
    return np.maximum(np.maximum(x[..., 0], x[..., 1]), x[..., 2])


def quantise_layer(
    alpha: np.ndarray, change: np.ndarray, below: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """8-bit colour and alpha that make `change` over `below` as nearly as 8 bits can.

    alpha: (H, W) in [0, 1], at least `least_alpha`. It is rounded up, and the colour computed for
    the rounded alpha. Returns colour (H, W, 3) and alpha (H, W), uint8.
    """
    alpha8 = np.ceil(np.clip(alpha, 0, 1) * 255 - 1e-3).astype(np.uint8)
    colour = below + change / np.maximum(to_float(alpha8), 1 / 255)[..., None]
    colour8 = (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8)
    return colour8, alpha8


def resolve_frame(
    frame: np.ndarray, plate: np.ndarray, shares: FrameShares, order: np.ndarray, noise: float
) -> FrameLayers:
    """Every object's layer in one frame.

    frame, plate: (H, W, 3) uint8. order: (N,) back to front. noise: standard deviation of the
    residual where nothing happens, in [0, 1].
    """
    picture, below = to_float(frame), to_float(plate)
    residual = picture - below
    coherent = channel_max(np.abs(cv2.GaussianBlur(residual, (0, 0), SMOOTHING)))
    evidence = smoothstep(coherent, *(noise * x for x in EVIDENCE))
    opaque = smoothstep(channel_max(np.abs(residual)), *BODY_CHANGE)

    rgba = np.zeros((len(order), *frame.shape[:2], 4), np.uint8)
    clear = np.ones(frame.shape[:2], np.float32)
    owned = np.zeros_like(clear)
    composite = below
    for i in order:
        body, edge = shares.body[i], shares.edge[i]
        owned = owned + shares.weights[i] * np.maximum(evidence, body)
        # Towards the sum of all shares so far, so that rounding in one layer is mended in the next.
        goal = below + owned[..., None] * residual
        touched = (shares.weights[i] > 0) & ((evidence > 0) | (body > 0))
        change = np.where(touched[..., None], goal - composite, 0)
        # At the mask's rim the residual says what is object and what is plate.
        solid = np.maximum(body, smoothstep(edge, 0.4, 0.6) * opaque) * (shares.weights[i] > 0.5)
        alpha = np.maximum(least_alpha(change, composite), solid) * touched
        colour8, alpha8 = quantise_layer(alpha, change, composite)
        a = to_float(alpha8)
        composite = composite + a[..., None] * (to_float(colour8) - composite)
        clear = clear * (1 - a)
        rgba[i, ..., :3], rgba[i, ..., 3] = extend_colour(colour8, a), alpha8
    return FrameLayers(rgba, composite, clear)


def extend_colour(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Continue colours under alpha 0 from their surroundings; elsewhere unchanged.

    colour: (H, W, 3) uint8; alpha: (H, W) float32. Returns (H, W, 3) uint8, 0 far from the layer.
    """
    size = (2 * EXTENSION + 1,) * 2
    near = cv2.blur(colour * alpha[..., None], size)
    weight = cv2.blur(alpha, size)
    spread = near / np.maximum(weight, 1e-4)[..., None]
    out = np.where((alpha > 0)[..., None], colour, np.clip(spread + 0.5, 0, 255))
    return out.astype(np.uint8)


def remaining_plate(frame: np.ndarray, plate: np.ndarray, layers: FrameLayers) -> np.ndarray:
    """The plate with what nobody owns, such that the layers over it give the frame back.

    frame, plate: (H, W, 3) uint8. Returns (H, W, 3) uint8.
    """
    rest = to_float(frame) - layers.composite
    seen = layers.transmittance[..., None]
    out = to_float(plate) + np.where(seen > 1 / 255, rest / np.maximum(seen, 1 / 255), 0)
    return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)


def residual_noise(frames: np.ndarray, plates: np.ndarray, masks: np.ndarray) -> float:
    """Standard deviation of the residual where nothing happens, in [0, 1], at least 1/255.

    frames: (T, h, w, 3) uint8; plates: (1 or T, h, w, 3) uint8; masks: (N, T, h, w) bool. The
    smaller half of the residual outside the masks stands for the noise: effects cover less.
    """
    values = [
        np.abs(frames[t].astype(np.int16) - plates[t if len(plates) > 1 else 0])[
            ~masks[:, t].any(0)
        ]
        for t in range(0, len(frames), max(1, len(frames) // NOISE_FRAMES))
    ]
    merged = np.concatenate(values)
    # The mean of the lower half is finer than the median of whole levels: for normal noise the
    # lower half of |x| has mean 0.322 sigma.
    lower = np.sort(merged, axis=None)[: max(1, merged.size // 2)]
    return max(float(lower.mean()) / 0.322 / 255, NOISE_FLOOR) if merged.size else NOISE_FLOOR

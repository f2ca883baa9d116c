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

from omnimatte_cli.arrays import frame_or_static, to_float
from omnimatte_cli.matte.ownership import FrameWeights, smoothstep

SMOOTHING = 1.5  # pixels; sigma over which a faint change must be coherent to count
EVIDENCE = (0.3, 0.6)  # smoothed change, in noise deviations: nothing counts below, all above
BODY_CHANGE = (0.02, 0.12)  # change that makes an edge pixel of a mask transparent .. opaque
NOISE_FRAMES = 48  # frames that the noise is measured in
RESTLESS_QUANTILE = 0.3  # over time, of a pixel's residual
RESTLESS_BLUR = 2.0  # sigma in working pixels; few frames make a rough quantile
RESTLESS_LIMIT = 5.0  # times the general noise; a pixel can be no more restless than that
NOISE_FLOOR = 1 / 255
PARTIAL_CHANGE = 3 / 255  # the most of a change that may be split between objects and nobody
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


def min_alpha(change: np.ndarray, below: np.ndarray) -> np.ndarray:
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

    alpha: (H, W) in [0, 1], at least `min_alpha`. It is rounded up, and the colour computed for
    the rounded alpha. Returns colour (H, W, 3) and alpha (H, W), uint8.
    """
    alpha8 = np.ceil(np.clip(alpha, 0, 1) * 255 - 1e-3).astype(np.uint8)
    colour = below + change / np.maximum(to_float(alpha8), 1 / 255)[..., None]
    colour8 = (np.clip(colour, 0, 1) * 255 + 0.5).astype(np.uint8)
    return colour8, alpha8


def resolve_frame(
    frame: np.ndarray,
    plate: np.ndarray,
    shares: FrameWeights,
    order: np.ndarray,
    noise: np.ndarray | float,
) -> FrameLayers:
    """Every object's layer in one frame.

    frame, plate: (H, W, 3) uint8. order: (N,) back to front. noise: (H, W) or a number, deviation
    of the residual where nothing happens, in [0, 1].
    """
    picture, below = to_float(frame), to_float(plate)
    residual = picture - below
    coherent = channel_max(np.abs(cv2.GaussianBlur(residual, (0, 0), SMOOTHING)))
    evidence = smoothstep(coherent / noise, *EVIDENCE)
    size = channel_max(np.abs(residual))
    opaque = smoothstep(size, *BODY_CHANGE)
    weights = commit_large_changes(shares.weights * np.maximum(evidence, shares.body), size)

    rgba = np.zeros((len(order), *frame.shape[:2], 4), np.uint8)
    clear = np.ones(frame.shape[:2], np.float32)
    owned = np.zeros_like(clear)
    composite = below
    for i in order:
        body, edge = shares.body[i], shares.edge[i]
        owned = owned + weights[i]
        # Towards the sum of all shares so far, so that rounding in one layer is mended in the next.
        goal = below + owned[..., None] * residual
        touched = weights[i] > 0
        change = np.where(touched[..., None], goal - composite, 0)
        # At the mask's rim the residual says what is object and what is plate.
        solid = np.maximum(body, smoothstep(edge, 0.4, 0.6) * opaque) * (weights[i] > 0.5)
        alpha = np.maximum(min_alpha(change, composite), solid) * touched
        colour8, alpha8 = quantise_layer(alpha, change, composite)
        a = to_float(alpha8)
        composite = composite + a[..., None] * (to_float(colour8) - composite)
        clear = clear * (1 - a)
        rgba[i, ..., :3], rgba[i, ..., 3] = edge_extend(colour8, a), alpha8
    return FrameLayers(rgba, composite, clear)


def commit_large_changes(weights: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Give large changes wholly to the objects or wholly to nobody.

    A part of a small change may stay with nobody, which keeps layers soft where they fade; part of
    a large one would be seen in neither the layers nor the plate.
    weights: (N, H, W) that sum to at most 1; size: (H, W), the change, in [0, 1].
    """
    total = weights.sum(0)
    large = size * np.minimum(total, 1 - total) > PARTIAL_CHANGE
    factor = np.where(total >= 0.5, 1 / np.maximum(total, 1e-6), 0)
    return np.where(large, weights * factor, weights)


def edge_extend(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Continue colours under alpha 0 from their surroundings; elsewhere unchanged.

    colour: (H, W, 3) uint8; alpha: (H, W) float32. Returns (H, W, 3) uint8, 0 far from the layer.
    """
    size = (2 * EXTENSION + 1,) * 2
    near = cv2.blur(colour * alpha[..., None], size)
    weight = cv2.blur(alpha, size)
    spread = near / np.maximum(weight, 1e-4)[..., None]
    out = np.where((alpha > 0)[..., None], colour, np.clip(spread + 0.5, 0, 255))
    return out.astype(np.uint8)


def residual_plate(frame: np.ndarray, plate: np.ndarray, layers: FrameLayers) -> np.ndarray:
    """The plate with what nobody owns, such that the layers over it give the frame back.

    frame, plate: (H, W, 3) uint8. Returns (H, W, 3) uint8.
    """
    rest = to_float(frame) - layers.composite
    seen = layers.transmittance[..., None]
    out = to_float(plate) + np.where(seen > 1 / 255, rest / np.maximum(seen, 1 / 255), 0)
    return (np.clip(out, 0, 1) * 255 + 0.5).astype(np.uint8)


def residual_noise(frames: np.ndarray, plates: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """How much the residual varies where nothing happens, (h, w) float32 in [0, 1].

    frames: (T, h, w, 3) uint8; plates: (1 or T, h, w, 3) uint8; masks: (N, T, h, w) bool.
    Everywhere at least the picture's general noise, the deviation of the smaller half of the
    residual outside the masks; more where a pixel itself is restless (leaves, water), by a low
    quantile over time, which effects that come and go do not reach.
    """
    picks = range(0, len(frames), max(1, len(frames) // NOISE_FRAMES))
    residual = np.stack(
        [np.abs(frames[t].astype(np.int16) - frame_or_static(plates, t)) for t in picks]
    ).astype(np.float32)
    covered = masks[:, picks.start :: picks.step].any(0)
    calm = np.sort(residual[~covered], axis=None)
    general: float = NOISE_FLOOR
    if calm.size:
        # For normal noise the lower half of |x| has mean 0.322 sigma.
        general = max(float(calm[: max(1, calm.size // 2)].mean()) / 0.322 / 255, NOISE_FLOOR)
    residual[covered] = np.nan
    some = ~covered.all(0)
    local = np.zeros(some.shape, np.float32)
    # For normal noise the quantile 0.3 of |x| is 0.385 sigma.
    quiet = seen_quantile(residual[:, some], RESTLESS_QUANTILE)
    local[some] = quiet.mean(-1) / 0.385 / 255
    smooth = cv2.GaussianBlur(local, (0, 0), RESTLESS_BLUR)
    return np.clip(smooth, general, RESTLESS_LIMIT * general).astype(np.float32)


def seen_quantile(x: np.ndarray, q: float) -> np.ndarray:
    """What `np.nanquantile(x, q, axis=0)` gives, without its Python call for every column.

    x: (T, ...) float32; no column is NaN alone.
    """
    x = np.sort(x, axis=0)  # NaN comes last
    place = q * (np.count_nonzero(~np.isnan(x), axis=0)[None] - 1)
    low = np.floor(place).astype(np.intp)
    below, above = (np.take_along_axis(x, i, 0)[0] for i in (low, np.ceil(place).astype(np.intp)))
    return below + (above - below) * (place - low)[0].astype(np.float32)

"""Who owns each pixel's difference from the plate.

Given the plate, everything that an object adds to the picture is in the residual D = frame - plate.
What is left to say is whose each pixel of D is. An `Ownership` says it at working size, where it is
smooth; `frame_weights` turns it into weights at full size with the help of the masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy.sparse import csr_matrix

from omnimatte_cli.arrays import Plate, Size, eight_bits, frame_or_static
from omnimatte_cli.matte.blur import enlarged_mask
from omnimatte_cli.matte.box import Box, bounding_box
from omnimatte_cli.scratch import EVERY, release, scratch_array

BLUR = 1.0  # sigma in working pixels of a predicted layer's weight: layers are a little off
UNOWNED = 0.03  # weight of 'unowned', on the scale of a change summed over 3 channels (0 .. 3)
SILENT = 0.01  # added to every layer's weight, on that scale: where all are silent, none is right
OWNED = (0.47, 0.53)  # share of all weights that the objects need: none below, everything above
POSSIBLE = 0.3  # the same at working size: below, upsampling leaves nothing of it
SHARPNESS = 2  # power of the weights in the split between objects: the larger one takes more
GRID_BLUR = 0.8  # sigma in working pixels of a blur after upsampling, against stairs
EDGE = 0.006  # sigma of a mask's soft edge, share of the picture's mean side: rough masks' error
BODY_WEIGHT = 2.0  # weight of an object in its own body and just around it


@dataclass(frozen=True)
class Ownership:
    """One soft assignment of the residual at working size.

    weights: (N, T, h, w) float16, 0 or more, any common scale.
    unowned: (T, h, w) or (1, 1, 1) float16, the weight of no object: noise, faults of the
    plate, strangers. strangers: (T, h, w) float16, what of that is theirs; None: nobody was told of
    any.
    """

    weights: np.ndarray
    unowned: np.ndarray
    strangers: np.ndarray | None = None

    def __post_init__(self) -> None:
        assert self.weights.ndim == 4 and self.unowned.ndim == 3, (
            self.weights.shape,
            self.unowned.shape,
        )


def layer_weights(layer: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The weight that a predicted layer gives its object: how much it changes the plate, blurred.

    layer: (h, w, 4) float32 straight alpha; plate: (h, w, 3) float32; both in [0, 1].
    Returns (h, w) float32 on a scale of 0 .. 3.
    """
    change = layer[..., 3:] * (layer[..., :3] - plate)
    return cv2.GaussianBlur(np.abs(change).sum(2), (0, 0), BLUR)


def product(layers: Ownership, network: Ownership) -> Ownership:
    """The predicted layers and the ownership network say together who owns a change.

    Whether anyone does, the network says alone: after a few hundred steps of finetuning the layers
    miss faint effects, but know whose the others are.
    """
    both = (layers.weights.astype(np.float32) + SILENT) * network.weights
    owned = network.weights.sum(0, dtype=np.float32)
    weights = both * (owned / np.maximum(both.sum(0), 1e-9))
    return Ownership(weights.astype(np.float16), network.unowned)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic between."""
    x = np.asarray(x - low)
    x /= high - low
    np.clip(x, 0, 1, out=x)
    slope = 3 - 2 * x
    x *= x
    x *= slope
    return x


@dataclass(frozen=True)
class FrameWeights:
    """Who owns one full-size frame.

    weights: (N, H, W) float32 in [0, 1]; they sum to at most 1, the rest is nobody's.
    body: (N, H, W) float32 in [0, 1]: how surely a pixel is the object itself, 1 well inside its
    visible mask, falling to 0 at the mask's edge.
    edge: (N, H, W) float32 in [0, 1]: the mask with a soft edge, 0.5 on its outline.
    """

    weights: np.ndarray
    body: np.ndarray
    edge: np.ndarray


def frame_weights(
    ownership: Ownership,
    t: int,
    masks: np.ndarray,
    order: np.ndarray,
    box: Box | None = None,
) -> FrameWeights:
    """Ownership weights of frame t at the size of its masks, or of a part of it.

    masks: (N, H, W) bool; order: (N,) indices back to front. Where masks overlap the front object's
    counts. An object owns its own body and a narrow edge around it; nobody else does. box: the part
    (None: all), on whose border no mask may lie.
    """
    height, width = masks.shape[1:]
    size = (height, width)
    box = box or Box.whole(size)
    visible = masks[:, box.rows, box.columns].copy()
    for place, i in enumerate(order):
        for front in order[place + 1 :]:
            visible[i] &= ~masks[front][box.slices]
    sigma = EDGE * (height * width) ** 0.5
    edge = np.stack([soft_edge(m, sigma) for m in visible])

    unowned = frame_or_static(ownership.unowned, t)
    if unowned.size > 1:
        everything = upsample(np.concatenate([ownership.weights[:, t], unowned[None]]), size, box)
        weights, unowned = everything[:-1], everything[-1]
    else:
        weights = upsample(ownership.weights[:, t], size, box)
        unowned = unowned.astype(np.float32)
    # An object's weight is as large as its change; in and around its body it is certain.
    weights += BODY_WEIGHT * smoothstep(edge, 0.1, 0.5)
    body = visible.any(0)
    weights = np.where(body, visible.astype(np.float32), weights)
    total = weights.sum(0)
    owned = smoothstep(total / np.maximum(total + unowned, 1e-6), *OWNED)
    owned = np.where(body, 1, owned)  # whatever the network says: a mask has no holes
    split = weights**SHARPNESS
    weights = split * (owned / np.maximum(split.sum(0), 1e-6))
    return FrameWeights(weights, smoothstep(edge, 0.5, 0.95), edge)


def owned_part(ownership: Ownership, t: int, masks: np.ndarray, margin: int) -> Box | None:
    """The part of frame t that any object may own, or whose mask it has, grown by a margin.

    masks: (N, H, W) bool. margin: pixels. Beyond it `frame_weights` would be 0 everywhere. None:
    nobody owns anything.
    """
    total = ownership.weights[:, t].sum(0, dtype=np.float32)
    unowned = frame_or_static(ownership.unowned, t).astype(np.float32)
    share = total / np.maximum(total + unowned, 1e-6)
    size = (masks.shape[1], masks.shape[2])
    return bounding_box(possible(share, size) | masks.any(0), margin)


def possible(share: np.ndarray, size: Size) -> np.ndarray:
    """Where objects may own half of a pixel once their share (h, w) is upsampled, (H, W) bool."""
    # Upsampling spreads a pixel over its neighbours: four on each side see all of it.
    near = cv2.dilate(share, np.ones((9, 9), np.uint8)) > POSSIBLE
    return enlarged_mask(near, size)


def soft_edge(mask: np.ndarray, sigma: float) -> np.ndarray:
    """A mask (H, W) bool blurred over its outline only, float32 in [0, 1]."""
    out = np.zeros(mask.shape, np.float32)
    sigma = max(sigma, 0.5)
    box = bounding_box(mask, round(4 * sigma) + 2)  # further than the blur reaches
    if box is not None:
        out[box.slices] = cv2.GaussianBlur(mask[box.slices].astype(np.float32), (0, 0), sigma)
    return out


def upsample(x: np.ndarray, size: Size, box: Box | None = None) -> np.ndarray:
    """(K, h, w) to (K, H, W) float32, or to a part, without a trace of the working pixel grid."""
    count, h, w = x.shape
    if (h, w) == size:
        part = x if box is None else x[:, box.rows, box.columns]
        return np.maximum(part, 0, dtype=np.float32)
    rows, columns = (enlarging(n, to) for n, to in zip((h, w), size, strict=True))
    if box is not None:
        rows, columns = rows[box.rows], columns[box.columns]
    # Both products take pictures side by side: (h, K * w), then (w, K * H).
    tall = rows @ np.ascontiguousarray(x.transpose(1, 0, 2), np.float32).reshape(h, -1)
    tall = tall.reshape(-1, count, w).transpose(2, 1, 0)
    out = columns @ np.ascontiguousarray(tall).reshape(w, -1)
    out = np.ascontiguousarray(out.reshape(len(out), count, -1).transpose(1, 2, 0))
    return np.maximum(out, 0, out=out)


@lru_cache(maxsize=16)
def enlarging(short: int, long: int) -> csr_matrix:
    """The matrix (long, short) that enlarges a line of pixels and blurs it against stairs.

    A cubic resize and a Gaussian blur are linear and work on rows and columns one after the other,
    so the two together are one sparse matrix for each side: a few products a pixel, however wide
    the blur, and any part of the picture by itself.
    """
    lines = cv2.resize(
        np.eye(short, dtype=np.float32), (short, long), interpolation=cv2.INTER_CUBIC
    )
    sigma = GRID_BLUR * long / short
    if sigma > GRID_BLUR:
        lines = cv2.GaussianBlur(lines, (1, 2 * round(4 * sigma) + 1), sigmaX=1, sigmaY=sigma)
    lines[np.abs(lines) < 1e-7] = 0
    return csr_matrix(lines)


def working_plates(plate: Plate, size: Size, frames: int) -> np.ndarray:
    """The plate at working size, (1 or T, h, w, 3) uint8."""
    h, w = size
    count = 1 if plate.moving is None else frames
    out = scratch_array((count, h, w, 3), np.uint8)
    stream = plate.stream()
    for t in range(count):
        out[t] = eight_bits(cv2.resize(next(stream), (w, h), interpolation=cv2.INTER_AREA))
        if t % EVERY == 0:
            release(out)
    return out

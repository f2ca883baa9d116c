"""Who owns the pixels around a body, in its mask or beside it: who owns what changes as they do.

Around its mask an object is believed without being asked, as masks are rough and pixels on an
outline are mixed. But most of that rim is ground on which nothing but the codec's ringing changes.
So a pixel's owners are the mean of those around it whose change from the plate is like its own: a
bilateral filter, guided by the change. Bodies have no say in it.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte.blur import enlarged, reduced
from omnimatte_cli.matte.box import bounding_box

FINE = 160  # pixels of the mean side up to which every pixel is looked at; beyond, cells of several
REACH = 0.03  # of the mean side: radius of the filter
TAPS = 3  # pixels looked at along that radius
NEAR = 0.8  # of the radius: sigma by which nearer pixels count more
ALIKE = 0.02  # sigma of the difference between two changes, all channels
EDGE = 0.02  # soft mask from which a pixel is in the rim
SEEN = 0.5  # share of a cell outside of bodies, below which it has no say


def settled_rims(
    weights: np.ndarray, edge: np.ndarray, body: np.ndarray, change: np.ndarray, side: float
) -> np.ndarray:
    """Ownership (N, H, W) in which rims are owned as what changes alike around them is.

    weights: (N, H, W) float32 that sum to 1 at most. edge: (H, W) float32, the soft masks'
    largest. body: (H, W) bool, all bodies. change: (H, W, 3) float32, frame less plate, in [-1, 1].
    side: mean side of the picture that these are part of, in pixels.
    """
    rim = (edge > EDGE) & ~body
    radius = REACH * side
    box = bounding_box(rim, round(radius) + 1)
    if box is None:
        return weights
    less = max(1, int(side / FINE))
    box = box.aligned(less, body.shape)
    part = box.slices
    outside = (~body[part]).astype(np.float32)
    seen = reduced(outside, less)
    scale = 1 / np.maximum(seen, 1e-3)

    def mean(plane: np.ndarray) -> np.ndarray:
        return reduced(plane * outside, less) * scale

    like = np.stack([mean(plane) for plane in cv2.split(change[part])])
    own = np.stack([mean(plane[part]) for plane in weights])
    wanted = reduced(rim[part].astype(np.float32), less) > 0
    settled = _filtered(own, like, seen > SEEN, wanted, radius / less)
    inner = rim[part]
    rims = np.stack([plane[part][inner] for plane in weights])
    rims += np.stack([enlarged(more, outside.shape)[inner] for more in settled - own])
    np.clip(rims, 0, 1, out=rims)
    rims /= np.maximum(rims.sum(0), 1)
    result = weights.copy()
    for plane, values in zip(result, rims, strict=True):
        plane[part][inner] = values
    return result


def _filtered(
    values: np.ndarray, like: np.ndarray, seen: np.ndarray, wanted: np.ndarray, radius: float
) -> np.ndarray:
    """values (N, h, w) that at `wanted` pixels (h, w) are the mean of those around with a say.

    like: (3, h, w), by which pixels are compared. seen: (h, w) bool, who has a say.
    """
    y, x = np.nonzero(wanted)
    here = like[:, y, x]
    total = np.zeros((len(values), len(y)), np.float32)
    count = np.zeros(len(y), np.float32)
    for down, across in _offsets(radius):
        rows = np.clip(y + down, 0, seen.shape[0] - 1)
        columns = np.clip(x + across, 0, seen.shape[1] - 1)
        apart = np.square(like[:, rows, columns] - here).sum(0)
        far = (down * down + across * across) / (2 * (NEAR * radius) ** 2)
        say = np.exp(-far - apart / (2 * ALIKE**2)) * seen[rows, columns]
        total += say * values[:, rows, columns]
        count += say
    result = values.copy()
    result[:, y, x] = np.where(count > 1e-6, total / np.maximum(count, 1e-6), values[:, y, x])
    return result


def _offsets(radius: float) -> list[tuple[int, int]]:
    """Places within a radius, (down, across) in pixels: TAPS along it, or all there are."""
    steps = [round(k * max(radius / TAPS, 1)) for k in range(-TAPS, TAPS + 1)]
    return [(y, x) for y in steps for x in steps if y * y + x * x <= radius * radius + 0.01]

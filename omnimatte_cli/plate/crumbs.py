"""Crumbs: bits of an effect that few samples show beside what is never seen, on plain ground.

The ownership network misses pieces of a shadow or a mirror image in some frames. Where an object
hardly leaves, those few frames are all that show the ground beside the hole, and the plate has a
torn rim there. Where the ground around is plain, water or sand, such a piece is told by its colour:
the ground does not vary as much. It counts as never seen. Where the ground has texture nothing is
told, and nothing taken.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, full_scale
from omnimatte_cli.matte.blur import wide_blur
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.matte.compositing import grey

SCARCE = 0.35  # share of the samples that a typical pixel has: at most so many are scarce,
WELL = 0.5  # and at least so many tell what the ground is
STRANGE = 12.0  # levels off the mean of the ground around: at least so much is strange,
TIMES = 5.0  # and so many of its deviations
LARGE = 60.0  # levels; a larger difference counts as this
AROUND = 0.03  # of the width: sigma over which the ground is told,
FARTHER = (4.0, 1e-3)  # and from so many of those, with this weight, where there is none so near
REACH = 4.0  # such sigmas around what is scarce that are looked at
NEAR = 0.05  # of the width: as far from a hole
FINE = 0.7  # pixels; of a blur of what is compared


def crumbs(image: np.ndarray, count: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Where a plate is no ground although some samples show it, (H, W) bool.

    image: (H, W, 3) uint8 or uint16, the plate. count: (H, W), samples of each pixel. hole: (H, W)
    bool, where it is not known.
    """
    out = np.zeros_like(hole)
    if not hole.any() or hole.all():
        return out
    width = hole.shape[1]
    typical = np.median(count[~hole])
    near = cv2.distanceTransform((~hole).view(np.uint8), cv2.DIST_L2, 3) <= NEAR * width
    scarce = near & ~hole & (count <= SCARCE * typical)
    box = bounding_box(scarce, round(REACH * AROUND * width))
    if box is None:
        return out
    part, sigma = box.slices, AROUND * width
    colours = image[part].astype(np.float32) * np.float32(255 / full_scale(image.dtype))
    usual = (~hole & (count >= WELL * typical))[part].astype(np.float32)
    mean = _around(colours, usual, sigma)
    apart = channel_max(np.abs(cv2.GaussianBlur(colours, (0, 0), FINE) - mean))
    spread = np.sqrt(_around(np.square(np.minimum(apart, LARGE)), usual, sigma))
    found = scarce[part] & (apart > np.maximum(STRANGE, TIMES * spread))
    square = np.ones((3, 3), np.uint8)
    out[part] = scarce[part] & (cv2.dilate(found.view(np.uint8), square) > 0)
    return out


def _around(x: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Weighted mean of x (H, W) or (H, W, 3) around each pixel."""
    times, share = FARTHER
    layers = cv2.merge([*cv2.split(x * (grey(weight) if x.ndim == 3 else weight)), weight])
    sums = wide_blur(layers, sigma) + np.float32(share) * wide_blur(layers, times * sigma)
    total = np.maximum(sums[..., -1:], 1e-6)
    return np.asarray((sums[..., :-1] / total).reshape(x.shape), np.float32)

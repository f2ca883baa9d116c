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
from omnimatte_cli.matte.blur import mean_around
from omnimatte_cli.matte.box import bounding_box

SCARCE = 0.35  # share of the samples that a typical pixel has: at most so many are scarce,
WELL = 0.5  # and at least so many tell what the ground is
STRANGE = 12.0  # levels off the mean of the ground around: at least so much is strange,
TIMES = 5.0  # and so many of its deviations
LARGE = 60.0  # levels; a larger difference counts as this
AROUND = 0.03  # of the width: sigma over which the ground is told
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
    scarce = ~hole & (count <= SCARCE * typical)
    # A step to the side counts a little less than a pixel.
    near = bounding_box(hole, round(1.1 * NEAR * width) + 1)
    assert near is not None
    there = np.ascontiguousarray(~hole[near.slices]).view(np.uint8)
    far = np.ones_like(hole)
    far[near.slices] = cv2.distanceTransform(there, cv2.DIST_L2, 3) > NEAR * width
    scarce &= ~far
    box = bounding_box(scarce, round(REACH * AROUND * width))
    if box is None:
        return out
    part, sigma = box.slices, AROUND * width
    colours = image[part].astype(np.float32) * np.float32(255 / full_scale(image.dtype))
    usual = (~hole & (count >= WELL * typical))[part].astype(np.float32)
    mean = mean_around(colours, usual, sigma)
    apart = channel_max(cv2.absdiff(cv2.GaussianBlur(colours, (0, 0), FINE), mean))
    square = np.square(np.minimum(apart, LARGE))[..., None]
    spread = np.sqrt(mean_around(square, usual, sigma)[..., 0])
    found = scarce[part] & (apart > np.maximum(STRANGE, TIMES * spread))
    found = cv2.dilate(found.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    out[part] = scarce[part] & found
    return out

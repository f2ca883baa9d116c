"""What is never seen: filled from patches of what is, and joined without a seam.

Holes are parts of the picture behind objects that never leave. What lies outside of every frame is
no hole: it is only continued smoothly, so that nothing harsh is warped into a frame's edge.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, full_scale
from omnimatte_cli.matte.blur import carried
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.plate.patches import find_sources
from omnimatte_cli.plate.seams import copied

SPECK = 24  # pixels: smaller holes are filled smoothly
MANY = 12  # holes, the largest ones, that are filled from patches
JOINED = 8  # pixels: holes so near to each other are filled together
NEAR = 1.5  # times the hole's longer side: how far away patches may come from
LEAST_NEAR = 0.25  # of the picture's longer side, if that is farther
EDGE = 4  # pixels around a hole in which both pictures are compared
MISMATCH = 10.0  # levels: the edge's differences count less beyond it, or beyond the typical one
RING = 1 / 120  # of the height: as far around a hole, what was hardly seen is an object's fringe
HARDLY = 0.25  # share of the frames that show a picture's typical pixel
SEEN_WELL = 3  # frames that must show a pixel with no object near it


def fill_hole(image: np.ndarray, hole: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """image (H, W, 3) uint8 or uint16 with hole (H, W) bool filled; the rest stays.

    outside: (H, W) bool, parts of the hole that no patches are looked for: they go on smoothly.
    """
    if not hole.any() or hole.all():
        return image
    blocked = np.zeros_like(hole) if outside is None else outside
    result = smooth_fill(image, hole | blocked)
    for box, part, unknown in _parts(hole & ~blocked, hole | blocked):
        sources = find_sources(image[box], part, unknown & ~part)
        if sources is not None:
            result[box] = np.where(
                part[..., None], copied(image[box], part, unknown, sources), result[box]
            )
    return result


def fringed(
    hole: np.ndarray, count: np.ndarray, clear: Callable[[int], np.ndarray] | None = None
) -> np.ndarray:
    """A hole (H, W) bool with the pixels around it that were hardly seen.

    count: (H, W), how many frames show each pixel. Next to an object that hardly moves the few
    frames in which its grown mask leaves a pixel free show the object's own edge. clear: from a
    distance in pixels to (H, W), how many frames show each pixel at least so far from all objects:
    what a few do is seen well, however short; None: that is not known.
    """
    if not hole.any() or hole.all():
        return hole
    reach = max(2, round(hole.shape[0] * RING))
    near = cv2.dilate(hole.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    fringe = near & ~hole & (count < HARDLY * np.median(count[~hole]))
    if clear is not None and fringe.any():
        fringe &= clear(reach) < SEEN_WELL
    return hole | fringe


def _parts(hole: np.ndarray, unknown: np.ndarray) -> list[tuple]:
    """The holes one by one: a box around each, and in it (h, w) bool the hole and all unknown."""
    side = 2 * JOINED + 1
    grown = cv2.dilate(hole.astype(np.uint8), np.ones((side, side), np.uint8))
    count, labels = cv2.connectedComponents(grown)
    labels[~hole] = 0
    areas = np.bincount(labels.ravel(), minlength=count)
    h, w = hole.shape
    found = []
    for label in sorted(range(1, count), key=lambda i: -areas[i])[:MANY]:
        if areas[label] < SPECK:
            break
        y, x = np.nonzero(labels == label)
        span = max(np.ptp(y), np.ptp(x)) + 1
        margin = round(max(NEAR * span, LEAST_NEAR * max(h, w)))
        box = np.s_[
            max(0, y.min() - margin) : y.max() + margin + 1,
            max(0, x.min() - margin) : x.max() + margin + 1,
        ]
        found.append((box, labels[box] == label, unknown[box]))
    return found


def smooth_fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """image (H, W, 3) with values carried smoothly into the hole (H, W) bool."""
    if not hole.any() or hole.all():
        return image
    filled = carried(image.astype(np.float32), (~hole).astype(np.float32))
    return np.where(hole[..., None], _rounded(filled, image.dtype), image)


def membrane(image: np.ndarray, other: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """image (H, W, 3) with `other` in the hole, shifted smoothly to meet it at its edge.

    Edges that do not go on in `other` count little: they would be drawn into the hole.
    """
    result, box = image.copy(), bounding_box(hole, EDGE)
    if box is None:
        return result
    part, side = box.slices, 2 * EDGE + 1
    inside, here, there = hole[part], image[part], other[part]
    near = cv2.dilate(inside.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    edge, where = near & ~inside, inside[..., None]
    if not edge.any():
        result[part] = np.where(where, there, here)
        return result
    difference = here.astype(np.float32) - there
    apart = channel_max(np.abs(difference))
    one = full_scale(image.dtype) / 255  # a level
    typical = max(MISMATCH * one, float(np.median(apart[edge])))
    weight = edge / (1 + (apart / typical) ** 2)
    inward = carried(difference, cv2.blur(weight.astype(np.float32), (3, 3)) * edge)
    result[part] = np.where(where, _rounded(there + inward, image.dtype), here)
    return result


def _rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return np.clip(np.rint(values), 0, full_scale(dtype)).astype(dtype)

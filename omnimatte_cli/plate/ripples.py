"""Ripples: what a canvas loses of ground that moves by itself, from beside the hole that it fills.

The median of frames far apart has no waves left: where it stands in for what no neighbour shows it
is a flat patch in a rippled lake. There the detail of the frame's own plate is added, from the same
rows to the side, where waves are alike and go on from one frame to the next.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, full_scale
from omnimatte_cli.matte.blur import mean_around, wide_blur
from omnimatte_cli.matte.box import Box, bounding_box
from omnimatte_cli.matte.effects import channel_sum
from omnimatte_cli.matte.ownership import smoothstep

FINE = 0.012  # of the width: sigma of the blur that detail differs from
AROUND = 0.06  # of the width: over which is told how much detail there is
MISSING = (0.8, 1.6)  # levels of detail that the canvas has too little: nothing is added .. all
THING = 9.0  # times the typical square of detail: no ripple but something in the water
ALIKE = 15.0  # levels, by which the ground there may differ: sand has no planks
STEP = 1 / 32  # of the width, between places that are tried
FAR = 0.2  # of the hole that a place as far off as the picture is wide must show more
PLACES = 3  # that detail is taken from, the one that shows most of the hole's first


def rippled(
    image: np.ndarray, plate: np.ndarray, canvas: np.ndarray, hole: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    """A plate filled from a canvas, with the detail that the canvas lacks.

    image: (H, W, 3) uint8 or uint16, filled. plate, canvas: the same before, and what filled it.
    hole: (H, W) bool. seen: (H, W) bool, where neighbours show enough of the plate.
    """
    width = hole.shape[1]
    box = bounding_box(hole, round(2 * AROUND * width))
    if box is None:
        return image
    level = np.float32(full_scale(image.dtype) / 255)
    seen = seen & ~hole
    told = _lacking(plate, canvas, box, seen, level)
    if told is None or not told[0][hole[box.slices]].any():
        return image
    gain, most = told
    rows, columns = box.rows, box.columns
    own, ground = _parted(plate[rows], level, FINE * width)
    _, filled = _parted(image[box.slices], level, FINE * width)
    thing = (channel_sum(own * own) / 3 > most).astype(np.uint8)
    seen = seen[rows] & (cv2.dilate(thing, np.ones((3, 3), np.uint8)) == 0)
    result, left = image.copy(), hole[rows].copy()
    found, part = image[box.slices].astype(np.float32), hole[box.slices]
    gain = gain * level
    for shift in _places(left, seen):
        y, x = np.nonzero((left & _shifted(seen, shift))[:, columns])
        there = y, x + columns.start + shift
        alike = channel_max(np.abs(ground[there] - filled[y, x])) < ALIKE
        y, x, there = y[alike], x[alike], (y[alike], there[1][alike])
        found[y, x] += gain[y, x, None] * own[there]
        left[y, x + columns.start] = False
    top = full_scale(image.dtype)
    result[box.slices][part] = np.clip(np.rint(found[part]), 0, top)
    return result


def _lacking(
    plate: np.ndarray, canvas: np.ndarray, box: Box, seen: np.ndarray, level: np.float32
) -> tuple[np.ndarray, float] | None:
    """Which share of a plate's detail its canvas lacks, (h, w) in a part of them, and the largest
    square of such detail. None where nothing tells. level: of 255, in their type."""
    width, part = plate.shape[1], box.slices
    known = seen[part]
    if not known.any():
        return None
    squares = []
    for image in (plate, canvas):
        detail, _ = _parted(image[part], level, FINE * width)
        squares.append(channel_sum(detail * detail) / 3)
    most = THING * float(np.median(squares[0][known])) + 1e-6
    energies = np.minimum(cv2.merge(squares), np.float32(most))
    near, far = cv2.split(mean_around(energies, known.astype(np.float32), AROUND * width))
    missing = np.sqrt(np.maximum(near - far, 0))
    return smoothstep(missing, *MISSING) * missing / np.sqrt(np.maximum(near, 1e-6)), most


def _parted(image: np.ndarray, level: np.float32, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Detail and the smooth rest of a picture (H, W, 3), in levels of 255."""
    levels = image.astype(np.float32) / level
    smooth = wide_blur(levels, sigma)
    return levels - smooth, smooth


def _places(hole: np.ndarray, seen: np.ndarray) -> list[int]:
    """How many pixels to the right to look for the hole's detail, the best place first."""
    width = hole.shape[1]
    step = 2 * max(1, round(STEP * width / 2))
    tried = [s for k in range(1, width // step) for s in (-k * step, k * step)]
    left, there = hole[::2, ::2].copy(), seen[::2, ::2]
    found: list[int] = []
    while tried and left.any() and len(found) < PLACES:
        many = np.count_nonzero(left)
        inside = np.flatnonzero(left.any(0))
        first, stop = int(inside[0]), int(inside[-1]) + 1
        scores = []
        for s in tried:
            a, b = max(first, -(s // 2)), min(stop, left.shape[1] - s // 2)
            shown = left[:, a:b] & there[:, a + s // 2 : b + s // 2] if a < b else np.zeros(0)
            scores.append(np.count_nonzero(shown) / many - FAR * abs(s) / width)
        best = tried[int(np.argmax(scores))]
        found.append(best)
        left &= ~_shifted(there, best // 2)
    return found


def _shifted(x: np.ndarray, shift: int) -> np.ndarray:
    """x (H, W) or (H, W, C) as it is `shift` pixels to the right of each pixel; 0 beyond."""
    out = np.zeros_like(x)
    if shift > 0:
        out[:, :-shift] = x[:, shift:]
    else:
        out[:, -shift:] = x[:, :shift]
    return out

"""Movers that nobody masked are left out of the plate where other frames show the place without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, frame_or_static
from omnimatte_cli.camera.canvas import stack_frames, stretches
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte.blur import enlarged_mask
from omnimatte_cli.matte.box import disc
from omnimatte_cli.matte.ownership import Ownership

ENOUGH = 0.15  # share of the samples that must show a place without anybody,
FEWEST = 4  # and samples at least: with fewer, who stands there is part of the scene
BARELY = 3  # samples, for a pixel among such
GROWTH = 0.012  # of the picture's mean side, by which a mover is grown: its rim and its motion


def without_passing(
    strangers: np.ndarray | None,
    hidden: Callable[[int], np.ndarray],
    samples: Sequence[int],
    size: Size,
    frames: np.ndarray,
    camera: Camera,
    ownership: Ownership | None = None,
) -> Callable[[int], np.ndarray] | None:
    """What movers without a mask hide of frame t, (H, W) bool of `size`; None: there are none.

    strangers: (S, T, h, w) bool at working size, or None. hidden: what else hides the scene in
    frame t, (h, w) bool: masks, and what objects own. samples: the frames that the plate of a
    camera that stands still is made of. frames: (T, h, w, 3); camera: of that size. A mover hides a
    place only if enough samples show it without movers and without `hidden`. ownership: which says
    what movers own beside themselves, their shadows; None: nothing is known of that.
    """
    if strangers is None or not len(strangers):
        return None
    h, w = strangers.shape[2:]
    reach = max(1, round(GROWTH * (h * w) ** 0.5))
    kernel = disc(reach)

    def moving(t: int) -> np.ndarray:
        there = np.asarray(strangers[:, t].any(0))
        grown = cv2.dilate(there.view(np.uint8), kernel).view(bool)
        return grown if ownership is None else grown | strangers_pixels(ownership, t)

    def hides(t: int) -> np.ndarray:
        return moving(t) | hidden(t)

    enough = (
        _seen_often(frames, camera, hides) if camera.moving else _in_enough(hides, samples, kernel)
    )

    def passing(t: int) -> np.ndarray:
        return enlarged_mask(moving(t) & enough(t), size)

    return passing


def strangers_pixels(ownership: Ownership, t: int) -> np.ndarray:
    """What movers without a mask own of frame t, their shadows included, (h, w) bool."""
    if ownership.strangers is None:
        return np.zeros(ownership.weights.shape[2:], bool)
    theirs = ownership.strangers[t].astype(np.float32)
    rest = frame_or_static(ownership.unowned, t).astype(np.float32) - theirs
    return theirs > ownership.weights[:, t].astype(np.float32).sum(0) + rest


def _in_enough(
    hides: Callable[[int], np.ndarray], samples: Sequence[int], kernel: np.ndarray
) -> Callable[[int], np.ndarray]:
    """Which pixels of any frame enough samples show, before a camera that stands still."""
    shown = sum((~hides(t) for t in samples), np.zeros((), np.int32))
    enough = np.asarray(shown) >= max(FEWEST, ENOUGH * len(samples))
    # Between such pixels single ones stay nearly as well seen, and would stay as specks of him.
    closed = cv2.morphologyEx(enough.view(np.uint8), cv2.MORPH_CLOSE, kernel)
    enough = closed.view(bool) & (np.asarray(shown) >= BARELY)
    return lambda t: enough


def _seen_often(
    frames: np.ndarray, camera: Camera, hides: Callable[[int], np.ndarray]
) -> Callable[[int], np.ndarray]:
    """Which pixels of frame t enough frames show, of those before which the camera passes them."""

    def nothing(t: int) -> np.ndarray:
        return np.zeros(camera.size, bool)

    found = []
    for stretch in stretches(camera):
        stack = stack_frames(frames, camera, (hides, nothing), stretch)
        shown, within = (seen.sum(0) for seen in stack.shown)
        found.append((stack, shown >= np.maximum(FEWEST, ENOUGH * within)))

    def enough(t: int) -> np.ndarray:
        stack, often = next(each for each in found if t in each[0].frames)
        return stack.seen_from(camera, t, often)

    return enough

"""Grounds that never rest: what leaves, grass and water change by themselves is nobody's.

Before a static camera such a place changes from one look to the next whether or not anyone is near
it. An effect there has to change more than that. An effect that rests changes nothing between two
looks, and one that comes and goes is not there for most of the time: neither makes a place
restless. Where an object is near all the time nothing is known, and nothing is taken from it.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import at_most, channel_max
from omnimatte_cli.matte.ownership import Ownership, smoothstep
from omnimatte_cli.scratch import EVERY, release

PAIRS = 64  # pairs of frames that are compared
FEWEST = 8  # pairs without an object near that a place must have
NEAR = 0.1  # of the height: objects change what is nearer
AROUND = 0.055  # of the height: a place is as restless as the most restless of its surroundings
RESTLESS = (2.0, 4.0)  # times the picture's general noise: quiet .. restless
SOMEBODYS = (0.4, 0.7)  # share of a place's changes that objects own: its own .. somebody's
ABOVE = (1.0, 2.0)  # times what a place does by itself: its own change .. somebody's


def restlessness(frames: np.ndarray, masks: np.ndarray, stride: int) -> np.ndarray:
    """How much each place changes by itself from one look to the next, (h, w) float32 in [0, 1].

    frames: (T, h, w, 3) uint8, before a static camera. masks: (N, T, h, w) bool. stride: frames
    between two looks. The median over pairs of frames without an object near, of the largest
    channel's change, largest around each place; 0 where there are too few.
    """
    length, h, w = frames.shape[:3]
    starts = at_most(np.arange(max(0, length - stride)), PAIRS)
    if len(starts) < FEWEST:
        return np.zeros((h, w), np.float32)
    reach = round(NEAR * h)
    around = np.ones((2 * round(AROUND * h / 2) + 1,) * 2, np.uint8)
    changes = np.empty((len(starts), h, w), np.uint8)
    free = np.empty((len(starts), h, w), bool)
    for k, t in enumerate(starts):
        change = channel_max(cv2.absdiff(frames[t], frames[t + stride]))
        changes[k] = cv2.dilate(np.asarray(change), around)
        free[k] = ~(near(masks[:, t], reach) | near(masks[:, t + stride], reach))
    release(frames, masks)
    count = free.sum(0)
    # What is not free comes last, so that the median of the rest is at half of their number.
    line = np.sort(np.where(free, changes, 255), axis=0)
    middle = np.take_along_axis(line, np.maximum(count - 1, 0)[None] // 2, 0)[0]
    return np.where(count >= FEWEST, middle, 0).astype(np.float32) / 255


def near(masks: np.ndarray, reach: int) -> np.ndarray:
    """Where an object of (N, h, w) bool is within a square of `reach` pixels, (h, w) bool."""
    square = np.ones((2 * reach + 1,) * 2, np.uint8)
    some = np.asarray(masks.any(0), np.uint8)
    return np.asarray(cv2.dilate(some, square)) > 0


def leave_restless(
    ownership: Ownership, frames: np.ndarray, plate: np.ndarray, masks: np.ndarray, stride: int
) -> None:
    """Take from the objects, in place, what a place changes by itself.

    plate: (h, w, 3) uint8, one for all frames. masks: (N, T, h, w) bool, near which nothing is
    taken. What is taken is unowned.
    """
    level = restlessness(frames, masks, stride)
    known = level > 0
    if not known.any():
        return
    quiet = max(float(np.median(level[known])), 1 / 255)
    doubt = smoothstep(level / quiet, *RESTLESS)
    if not doubt.any():
        return
    # Where most of what happens is somebody's it does not happen by itself: an image in a mirror.
    reach = round(NEAR * len(plate))
    owned, happened = np.zeros_like(level), np.full_like(level, 1e-6)
    for t in range(len(frames)):
        change = channel_max(cv2.absdiff(frames[t], plate)).astype(np.float32)
        change[near(masks[:, t], reach)] = 0
        happened += change
        owned += change * ownership.weights[:, t].sum(0, dtype=np.float32)
    sigma = AROUND * len(plate)
    share = cv2.GaussianBlur(owned, (0, 0), sigma) / cv2.GaussianBlur(happened, (0, 0), sigma)
    doubt = np.asarray(doubt * (1 - smoothstep(share, *SOMEBODYS)), np.float32)
    for t in range(len(frames)):
        size = channel_max(cv2.absdiff(frames[t], plate)).astype(np.float32) / 255
        own = smoothstep(size / np.maximum(level, 1 / 255), *ABOVE)
        kept = np.asarray(1 - doubt * (1 - cv2.GaussianBlur(own, (0, 0), 1)), np.float32)
        kept[near(masks[:, t], reach)] = 1
        mine = ownership.weights[:, t].astype(np.float32)
        ownership.weights[:, t] = mine * kept
        ownership.unowned[t] += (mine.sum(0) * (1 - kept)).astype(np.float16)
        if t % EVERY == 0:
            release(frames, masks, ownership.weights, ownership.unowned)

"""What stands still stays still: ownership over time.

The ownership network answers every frame a little differently. Where a frame looks like its
neighbours, their answers are as good as its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, frame_or_static
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.scratch import release, scratch_array

MEMORY = 1.0  # seconds after which an answer counts 1/e where nothing changes
ALIKE = 5.0  # levels of change from frame to frame at which the answers before count 1/e
DRIFT = 8.0  # levels by which a frame may differ from the mean of those that its answer is from
BLOCK = 64  # frames that are gone through at a time


def average_static(ownership: Ownership, frames: np.ndarray, fps: float) -> Ownership:
    """Average ownership over the frames before and after for as long as a pixel does not change.

    ownership: weights (N, T, h, w) and unowned (T, h, w) or (1, 1, 1) float16. frames: (T, h, w, 3)
    uint8 at the same size. fps: frames a second. An exponential average in each direction of time,
    which a change of the pixel's neighbourhood ends; the clip is gone through in blocks, so that
    beside the result some 100 bytes a working pixel are held for every BLOCK frames. Where
    something moves the answers stay as they are.
    """
    length = len(frames)
    if length < 2:
        return ownership
    fade = np.float32(np.exp(-1 / (fps * MEMORY)))
    single = ownership.unowned.size == 1
    weights = scratch_array(ownership.weights.shape, np.float16)
    unowned = ownership.unowned if single else scratch_array(ownership.unowned.shape, np.float16)
    starts = range(0, length, BLOCK)
    # Forwards once for the state in which each block begins; then, from the last block on,
    # forwards again within it and backwards through it.
    before: list[_Running] = []
    running = _Running(fade)
    for start in starts:
        before.append(running.copy())
        if start == starts[-1]:
            break
        for t in range(start, start + BLOCK):
            running.add(_answer(ownership, t), frames[t])
        release(frames, ownership.weights, ownership.unowned)
    backwards = _Running(fade)
    for start, running in zip(reversed(starts), reversed(before), strict=True):
        block = range(start, min(start + BLOCK, length))
        past = []
        for t in block:
            running.add(_answer(ownership, t), frames[t])
            past.append((running.mean.astype(np.float16), running.weight.astype(np.float16)))
        for t in reversed(block):
            own = _answer(ownership, t)
            backwards.add(own, frames[t])
            mean, count = past.pop()
            # Both directions hold the frame's own answer: it counts once.
            earlier = count.astype(np.float32)
            total = mean * earlier + backwards.mean * backwards.weight - own
            out = total / np.maximum(earlier + backwards.weight - 1, 1e-6)
            weights[:, t] = out[:-1]
            if not single:
                unowned[t] = out[-1]
        release(frames, ownership.weights, ownership.unowned, weights, unowned)
    return Ownership(weights, unowned, ownership.strangers)


def _answer(ownership: Ownership, t: int) -> np.ndarray:
    """Weights and unowned of frame t as one array (N + 1, h, w) float32."""
    n, _, h, w = ownership.weights.shape
    out = np.empty((n + 1, h, w), np.float16)
    out[:-1] = ownership.weights[:, t]
    out[-1] = frame_or_static(ownership.unowned, t)
    return out.astype(np.float32)


@dataclass
class _Running:
    """The mean answer (N + 1, h, w) of a frame and those before, and their weight (h, w), at least
    1. look: the mean picture. last: the last one."""

    fade: np.float32
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    weight: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    look: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    last: np.ndarray | None = None

    def copy(self) -> _Running:
        """The same state; its arrays are never changed in place."""
        return replace(self)

    def add(self, own: np.ndarray, frame: np.ndarray) -> None:
        """One frame more: its answer and its picture (h, w, 3) uint8."""
        picture = frame.astype(np.float32)
        if self.last is None:
            self.mean, self.weight, self.look = own, np.ones(own.shape[1:], np.float32), picture
        else:
            alike = _alike(picture, self.last, ALIKE)
            alike *= _alike(picture, self.look, DRIFT)
            kept = self.fade * self.weight * alike
            self.weight = kept + 1
            share = kept / self.weight
            self.mean = own + share * (self.mean - own)
            self.look = picture + grey(share) * (self.look - picture)
        self.last = picture


def _alike(picture: np.ndarray, other: np.ndarray, scale: float) -> np.ndarray:
    """How little each place differs, (h, w) in [0, 1]: the least over its nearest neighbours."""
    change = channel_max(np.abs(cv2.blur(picture - other, (3, 3))))
    return cv2.erode(np.exp(-np.square(change / scale)), np.ones((3, 3), np.uint8))

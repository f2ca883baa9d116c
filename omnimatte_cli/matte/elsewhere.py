"""The frames in which what is hidden now was seen, and how the object moved to there.

Looked for at working size, where all frames of a clip are at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, frame_or_static, to_float
from omnimatte_cli.matte.box import Box, bounding_box
from omnimatte_cli.matte.hidden import DIFFERS, difference
from omnimatte_cli.matte.motion import FEWEST, View, likely_shift, similarity
from omnimatte_cli.matte.ownership import Ownership, smoothstep

AROUND = 6  # strides of the ownership network, a quarter of a second each, that are looked at
WHOLE = 16  # of them, in which the object is once seen best
STEP = 2  # frames of a stride that are
TOUCHING = 4  # working pixels around what is an object's, in which it may be hidden
NEAR = 4.0  # sigma in working pixels around what is hidden, in which both frames must agree
ANYWHERE = 0.02  # weight of the rest of the object
ENOUGH = (0.4, 0.6)  # of all that is seen of it around, seen now: tells no motion .. tells it
LEAST = 0.5  # of the area that is seen now, which must be seen of it there
BEST = 3  # references of a frame, at most
UNSEEN = 0.3  # what counts as much as a reference that shows nothing of what is hidden,
PASSED = 0.015  # and a stride: mean difference of colour and alpha


@dataclass(frozen=True)
class Reference:
    """A frame that shows what is hidden now.

    motion: (2, 3), a similarity from the object's pixels now to those there, at full size. belief:
    in [0, 1].
    """

    frame: int
    motion: np.ndarray
    belief: float


@dataclass(frozen=True)
class Clip:
    """What is known of a clip at working size.

    frames: (T, h, w, 3) uint8. masks: (N, T, h, w) bool. order: (T, N) back to front. ownership: at
    the same size. stride: frames in a quarter of a second. kept: frames that are at hand at full
    size. size: (H, W), that size.
    """

    frames: np.ndarray
    masks: np.ndarray
    order: np.ndarray
    ownership: Ownership
    stride: int
    kept: Collection[int]
    size: Size

    def front(self, i: int, t: int) -> np.ndarray:
        """Where bodies are before object i, (h, w) bool."""
        order = self.order[t].tolist()
        before = order[order.index(i) + 1 :]
        return np.asarray(self.masks[before, t].any(0))

    def area(self, i: int, t: int) -> int:
        """How much is seen of object i's body, pixels."""
        return int(np.count_nonzero(self.masks[i, t] & ~self.front(i, t)))

    def view(self, i: int, t: int) -> View:
        """The same as a picture."""
        front = self.front(i, t)
        seen = (self.masks[i, t] & ~front).astype(np.float32)
        layer = cv2.merge([*(c * seen for c in cv2.split(to_float(self.frames[t]))), seen])
        return View(layer, 1 - front.astype(np.float32))

    def owned(self, i: int, t: int) -> np.ndarray:
        """What is seen of object i, effects included, (h, w) float32 of 0 or 1."""
        weights = self.ownership.weights[:, t].astype(np.float32)
        unowned = frame_or_static(self.ownership.unowned, t)
        mine = weights[i] > 0.5 * (weights.sum(0) + unowned)
        return ((mine | self.masks[i, t]) & ~self.front(i, t)).astype(np.float32)

    def place(self, i: int, t: int, margin: int) -> Box | None:
        """Where at full size anything is seen of object i, grown by a margin in pixels."""
        box = bounding_box(self.owned(i, t) > 0)
        if box is None:
            return None
        spans = []
        for part, few, many in zip(box.slices, self.frames.shape[1:3], self.size, strict=True):
            start, stop = part.start * many // few - margin, -(-part.stop * many // few) + margin
            spans.append(slice(max(0, start), min(many, stop)))
        return Box(*spans)

    def around(self, t: int, strides: int) -> list[int]:
        """Every few frames around frame t, for so many strides before and after it."""
        step, reach = max(1, self.stride // STEP), strides * self.stride
        first, stop = max(0, t - reach), min(len(self.frames), t + reach + 1)
        return [s for s in range(-(-first // step) * step, stop, step) if s != t]

    def enlarged(self, motion: np.ndarray) -> np.ndarray:
        """A motion (2, 3) between working pixels as one between those of the full size."""
        h, w = self.frames.shape[1:3]
        scale = np.diag([self.size[1] / w, self.size[0] / h, 1.0])
        scale[:2, 2] = np.diag(scale)[:2] * 0.5 - 0.5
        whole = np.vstack([motion, [0, 0, 1]])
        return np.asarray((scale @ whole @ np.linalg.inv(scale))[:2])


def moved(x: np.ndarray, motion: np.ndarray, size: Size) -> np.ndarray:
    """Another frame's picture (h, w) or (h, w, C) where a motion (2, 3) to there takes it from."""
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(x, motion, size[::-1], flags=how)


def references(clip: Clip) -> Callable[[int, int], list[Reference]]:
    """What finds, for object i in frame t, the frames that show what is hidden of it; best first.

    Which they are depends on no other call.
    """
    view, owned = lru_cache(maxsize=48)(clip.view), lru_cache(maxsize=96)(clip.owned)
    area = lru_cache(maxsize=4096)(clip.area)
    size = (clip.frames.shape[1], clip.frames.shape[2])
    near = np.ones((2 * TOUCHING + 1, 2 * TOUCHING + 1), np.uint8)

    def found(i: int, t: int) -> list[Reference]:
        front = clip.front(i, t).astype(np.float32)
        if not (front * cv2.dilate(owned(i, t), near)).any():
            return []
        here = view(i, t)
        choices: list[tuple[float, int, Reference, np.ndarray]] = []
        # A part of it that is too small matches anything.
        whole = max(area(i, s) for s in [t, *clip.around(t, WHOLE)])
        shown = float(smoothstep(np.float32(here.area / max(whole, 1.0)), *ENOUGH))
        if here.area < FEWEST or shown == 0:
            return []
        for s in clip.around(t, AROUND):
            if s not in clip.kept:
                continue
            there = view(i, s)
            if there.area < LEAST * here.area:
                continue
            shift = likely_shift(here, there)
            motion = similarity(here, there, np.column_stack([np.eye(2), shift]))
            if motion is None:
                continue
            known = moved(there.known, motion, size)
            hole = front * moved(owned(i, s), motion, size)
            if not hole.any():
                continue
            layer = moved(there.layer, motion, size)
            differ, told = difference(here.layer, layer, here.known * known)
            told = told * (cv2.GaussianBlur(hole, (0, 0), NEAR) + ANYWHERE)
            miss = float((differ * told).sum() / max(told.sum(), 1e-6))
            if miss < DIFFERS[1]:
                belief = shown * float(1 - smoothstep(np.float32(miss), *DIFFERS))
                choices.append((miss, s, Reference(s, clip.enlarged(motion), belief), hole))
        # Of all that any reference shows there.
        every = np.max([hole for *_, hole in choices], axis=0) if choices else front
        best: list[Reference] = []
        left = every
        while choices and len(best) < BEST:

            def cost(choice: tuple, left: np.ndarray = left, every: np.ndarray = every) -> float:
                miss, s, _, hole = choice
                unseen = 1 - float(np.minimum(hole, left).sum() / every.sum())
                return float(miss + UNSEEN * unseen + PASSED * abs(s - t) / clip.stride)

            pick = min(range(len(choices)), key=lambda k: (cost(choices[k]), choices[k][1]))
            *_, reference, hole = choices.pop(pick)
            if not np.minimum(hole, left).any():
                break
            best.append(reference)
            left = np.maximum(left - hole, 0)
        return best

    return found

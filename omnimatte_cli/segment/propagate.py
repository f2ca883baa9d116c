"""Carry masks from the frames where they are known to all others, forwards and backwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from omnimatte_cli.arrays import Size, pack_mask, unpack_mask
from omnimatte_cli.camera.flow import agreement, backward_flow, mismatch, warp_mask
from omnimatte_cli.progress import Progress, Silent

AGREES = 0.6  # IoU from which a second opinion confirms the carried mask
AREA_JUMP = 2.0  # factor by which a believable area changes from one frame to the next
EDGE_JUMP = 4.0  # ... where the object is cut off by the picture's edge
CONTAINS = 0.8  # share of the smaller mask that then lies in the larger
REMNANT = 0.08  # share of its largest area at which what sticks to the picture's edge is gone
SURE = 0.85  # quality from which a second opinion may overrule a carried mask that flow doubts
FADE = 0.985  # confidence kept from one frame to the next, if nothing speaks against it
DOUBT = 0.8  # ... if the second opinion disagrees
LOST = 0.12  # confidence below which an object counts as lost
UNLIKE = 40.0  # grey levels by which a carried pixel may change if its flow is not consistent
SMALLEST = 12  # pixels below which an object counts as gone

Keys = Mapping[str, Mapping[int, np.ndarray]]  # object -> frame -> known mask (h, w) bool


class Correct(Protocol):
    """A second opinion on a carried mask, such as SAM's."""

    def __call__(self, t: int, name: str, carried: np.ndarray) -> tuple[np.ndarray, float] | None:
        """A better mask (h, w) bool of the object in frame t and its quality in [0, 1], or None.

        `carried` is empty where the object is away: then the answer may bring it back.
        """


@dataclass
class Carried:
    """One object in one frame: packed mask, confidence in [0, 1], frames from a known mask.

    largest: its largest area in pixels so far.
    """

    mask: bytes
    confidence: float
    distance: int
    area: int
    largest: int = 0


def propagate(
    frames: np.ndarray,
    keys: Keys,
    correct: Correct | None = None,
    every: int = 1,
    progress: Progress | None = None,
) -> dict[str, list[Carried]]:
    """Masks of each object in all frames (T, h, w, 3) uint8.

    Known masks are kept exactly, with confidence 1. Between two of them, both are carried towards
    each other, and the more confident one counts. `correct` is asked in every `every`-th frame,
    counted from the known one.
    """
    progress = progress or Silent()
    count = len(frames)
    progress.stage("carrying masks", 2 * (count - 1))
    ahead = _sweep(frames, keys, correct, every, 1, progress)
    back = _sweep(frames, keys, correct, every, -1, progress)
    nothing = Carried(pack_mask(np.zeros(frames.shape[1:3], bool)), 0.0, count, 0)
    result = {}
    for name in keys:
        pairs = [(a.get(name), b.get(name)) for a, b in zip(ahead, back, strict=True)]
        result[name] = [better(a, b) or nothing for a, b in pairs]
    return result


def settle(
    frame_before: np.ndarray,
    frame: np.ndarray,
    before: Mapping[str, Carried],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Masks of the frame before carried into this frame, and how consistent the flow is on each.

    Frames: (h, w, 3) uint8. Returns masks (h, w) bool, and shares in [0, 1] by object.
    """
    size = frame.shape[:2]
    there = backward_flow(frame, frame_before)
    sound = agreement(there, backward_flow(frame_before, frame))
    # What flow cannot follow and what looks different there is no longer the object: it left.
    other = (~sound) & (mismatch(frame, frame_before, there) > UNLIKE)
    carried = {n: warp_mask(unpack_mask(c.mask, size), there) & ~other for n, c in before.items()}
    consistent = {n: float(sound[m].mean()) if m.any() else 0.0 for n, m in carried.items()}
    return carried, consistent


def _sweep(
    frames: np.ndarray,
    keys: Keys,
    correct: Correct | None,
    every: int,
    direction: int,
    progress: Progress,
) -> list[dict[str, Carried]]:
    """One pass through the clip: by frame, the objects met so far."""
    count, size = len(frames), frames.shape[1:3]
    result: list[dict[str, Carried]] = [{} for _ in range(count)]
    state: dict[str, Carried] = {}
    order = range(count) if direction > 0 else range(count - 1, -1, -1)
    for done, t in enumerate(order):
        carried: dict[str, np.ndarray] = {}
        consistent: dict[str, float] = {}
        if any(c.area for c in state.values()):
            carried, consistent = settle(frames[t - direction], frames[t], state)
        now: dict[str, Carried] = {}
        masks: dict[str, np.ndarray] = {}
        for name, known in keys.items():
            if t in known:
                masks[name] = known[t]
                now[name] = Carried(b"", 1.0, 0, 0)
            elif name in state:
                mask = carried.get(name, np.zeros(size, bool))
                ask = correct if (state[name].distance + 1) % every == 0 else None
                masks[name], confidence = _judge(
                    t, name, mask, consistent.get(name, 0.0), state[name], ask
                )
                now[name] = Carried(b"", confidence, state[name].distance + 1, 0)
        for name, mask in _without_theft(masks, carried, now).items():
            area = int(mask.sum())
            largest = max(area, state[name].largest if name in state else 0)
            now[name].mask, now[name].area, now[name].largest = pack_mask(mask), area, largest
        result[t] = state = now
        progress.step(done + (0 if direction > 0 else count - 1))
    return result


def _judge(
    t: int,
    name: str,
    carried: np.ndarray,
    consistency: float,
    before: Carried,
    correct: Correct | None,
) -> tuple[np.ndarray, float]:
    """The better of carried mask and second opinion, and the confidence in it."""
    area = int(carried.sum())
    confidence = before.confidence * FADE * (0.9 + 0.1 * consistency)
    left = area < REMNANT * before.largest and at_edge(carried)
    if area < SMALLEST or left or before.confidence < LOST:
        carried, area = np.zeros_like(carried), 0
        confidence = max(before.confidence * FADE, LOST)
    answer = correct(t, name, carried) if correct else None
    if answer is None:
        jump = before.area > 0 and not 1 / AREA_JUMP < area / before.area < AREA_JUMP
        return carried, confidence * (DOUBT if jump and area else 1)
    mask, quality = answer
    found = int(mask.sum())
    if found < SMALLEST and (consistency < 0.5 or quality >= SURE):
        return np.zeros_like(carried), confidence  # it is not there any more
    if area == 0:
        # It was away: only a sure answer brings it back.
        sure = quality >= SURE and found >= SMALLEST
        return (mask, 0.7 * quality) if sure else (carried, confidence)
    both = float((mask & carried).sum())
    common = both / max(float((mask | carried).sum()), 1)
    # At the picture's edge an object may come in (or go) faster than it grows elsewhere.
    entering = both >= CONTAINS * min(area, found) and at_edge(
        carried | unpack_mask(before.mask, (carried.shape[0], carried.shape[1]))
    )
    limit = EDGE_JUMP if entering else AREA_JUMP
    jump = not 1 / limit < found / area < limit
    if (common >= AGREES or entering) and not jump:
        if quality < SURE:  # an opinion that saw no more than flow did: confidence cannot recover
            return mask, confidence * (0.9 + 0.1 * common)
        # Two ways to the same mask: confidence may recover, towards the second's own.
        return mask, min(0.5 * before.confidence + 0.5 * quality * (0.5 + 0.5 * common), 1.0)
    if quality >= SURE and consistency < 0.5 and not jump:
        return mask, confidence * DOUBT
    return carried, confidence * DOUBT


def at_edge(mask: np.ndarray) -> bool:
    """Whether a mask (h, w) bool touches the edge of the picture."""
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _without_theft(
    masks: dict[str, np.ndarray], carried: dict[str, np.ndarray], now: dict[str, Carried]
) -> dict[str, np.ndarray]:
    """No correction may take pixels that only another object was carried to."""
    result = {}
    for name, mask in masks.items():
        if now[name].distance and name in carried:
            others = [m for n, m in carried.items() if n != name and n in masks]
            if others:
                mask = mask & ~(np.any(others, axis=0) & ~carried[name])
        result[name] = mask
    return result


def better(a: Carried | None, b: Carried | None) -> Carried | None:
    """Of the two sweeps' masks of one frame, the one to believe."""
    if a is None or b is None:
        return a or b
    if a.distance == 0 or b.distance == 0:
        return a if a.distance == 0 else b
    # An object that left before one known frame and came back before the next is seen by one only.
    if (a.area == 0) != (b.area == 0):
        seen = a if a.area else b
        other = b if a.area else a
        return seen if seen.confidence >= 2 * LOST else other
    return a if (a.confidence, -a.distance) >= (b.confidence, -b.distance) else b


def disjoint(chosen: Mapping[str, Carried], size: Size) -> dict[str, Carried]:
    """One frame's masks of size (h, w), by object, no pixel in two of them: known ones stay."""
    taken = np.zeros(size, bool)
    result = dict(chosen)
    for name, each in sorted(chosen.items(), key=lambda c: -c[1].confidence):
        mask = unpack_mask(each.mask, size)
        if each.distance and (mask & taken).any():
            mask &= ~taken
            result[name] = replace(each, mask=pack_mask(mask), area=int(np.count_nonzero(mask)))
        taken |= mask
    return result

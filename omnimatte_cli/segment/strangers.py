"""Movers that nobody masked: they own what they change, as hidden objects, and get no layer.

Without them the ownership network has to give a passing car, which is as sure a change as any, to
one of the objects that it knows, or to none.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from omnimatte_cli.arrays import unpack_mask
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.scratch import EVERY, release, scratch_array
from omnimatte_cli.segment.moving import find_moving, masks_of
from omnimatte_cli.segment.track import Track

MOST = 6  # strangers that are followed, the largest first
OVERLAP = 0.3  # share of a mover inside the objects' grown masks, from which it is one of them,
BESIDE = 0.2  # and share beside them, in thick pieces, from which there is somebody else in it, too
GROWTH = 0.02  # of the height: by how much the objects' masks grow
FEWEST_FRAMES = 3  # in which a stranger must be seen
LEAST_AREA = 0.0008  # of the picture, mean over the frames that show it
TRAVEL = 0.45  # of its mean side, the root of its area: how far a stranger moves without a gap
RATE = 12.5  # frames a second that are enough to follow them
TRACKING_WIDTH = 448  # pixels at which movers are looked for: small ones need some


class Enlarged:
    """Frames (T, h, w, 3) uint8, each made `scale` times as large when it is asked for."""

    def __init__(self, frames: np.ndarray, scale: int) -> None:
        self.frames = frames
        length, h, w, channels = frames.shape
        self.shape = (length, h * scale, w * scale, channels)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray:
        if isinstance(index, np.ndarray):
            return np.stack([self[int(t)] for t in index])
        if index % EVERY == 0:
            release(self.frames)
        size = self.shape[2], self.shape[1]
        return cv2.resize(self.frames[index], size, interpolation=cv2.INTER_CUBIC)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[t] for t in range(len(self)))


def find_strangers(frames: np.ndarray, masks: np.ndarray, fps: float = RATE) -> np.ndarray:
    """Masks of what moves before a static camera and is no masked object, (S, T, h, w) bool.

    frames: (T, h, w, 3) uint8; masks: (N, T, h, w) bool.
    fps: frames a second. Above RATE only some frames are looked at, and those between have the mask
    of the nearest: hidden objects need no exact outline.
    """
    step = max(1, round(fps / RATE))
    if step > 1:
        few = find_strangers(frames[::step], masks[:, ::step])
        nearest = np.minimum((np.arange(len(frames)) + step // 2) // step, few.shape[1] - 1)
        found = scratch_array((len(few), *frames.shape[:3]), bool)
        for t, near in enumerate(nearest):
            found[:, t] = few[:, near] & ~np.any(masks[:, t], axis=0)
            if t % EVERY == 0:
                release(found, few, masks)
        return found
    length, h, w = frames.shape[:3]
    none = np.zeros((0, length, h, w), bool)
    scale = max(1, round(TRACKING_WIDTH / w))
    still = Camera.static(length, (h, w))
    moving = find_moving(Enlarged(frames, scale), camera=still, resting=False)
    radius = max(1, round(GROWTH * h))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)

    def known(t: int) -> np.ndarray:
        return cv2.dilate(np.any(masks[:, t], axis=0).astype(np.uint8), kernel) > 0

    others: list[np.ndarray] = []
    for track in moving.tracks:
        if len(others) == MOST:
            break
        mask = _stack(track, moving.size, length, (h, w))
        area = np.count_nonzero(mask)
        if not area:
            continue
        inside = {t: mask[t] & known(t) for t in np.flatnonzero(mask.any((1, 2))).tolist()}
        share = sum(np.count_nonzero(m) for m in inside.values()) / area
        for t, own in inside.items():
            mask[t] &= ~own
            if share >= OVERLAP:  # an object; but who walks past it may be in the same track
                rest = cv2.morphologyEx(mask[t].astype(np.uint8), cv2.MORPH_OPEN, kernel) > 0
                mask[t] = rest & mask[t]
        apart = share < OVERLAP or np.count_nonzero(mask) >= BESIDE * area
        if apart and is_mover(mask):
            others.append(mask)
    if not others:
        return none
    together = scratch_array((len(others), length, h, w), bool)
    for i, mask in enumerate(others):
        together[i] = mask
        release(together, mask)
    return together


def is_mover(mask: np.ndarray) -> bool:
    """Whether a mover's mask (T, h, w) bool is one: seen, large and on its way."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    seen = np.count_nonzero(areas)
    if seen < FEWEST_FRAMES or areas.sum() < LEAST_AREA * mask[0].size * seen:
        return False
    return travel(mask) >= TRAVEL * np.sqrt(areas.sum() / seen)


def travel(mask: np.ndarray) -> float:
    """How far the middle of a mover's mask (T, h, w) bool gets while it is in sight, in pixels.

    What stands still and comes and goes is no stranger: where a shadow began or ended its way, the
    picture differs from the median of all frames.
    """
    furthest = 0.0
    way: list[tuple[float, float]] = []
    for each in mask:
        rows, columns = np.nonzero(each)
        if not len(rows):
            way = []
            continue
        way.append((rows.mean(), columns.mean()))
        furthest = max(furthest, float(np.linalg.norm(np.ptp(way, axis=0))))
    return furthest


def _stack(track: Track, size: tuple[int, int], length: int, small: tuple[int, int]) -> np.ndarray:
    """A track's masks at working size, (T, h, w) bool."""
    h, w = small
    out = scratch_array((length, h, w), bool)
    for t, packed in enumerate(masks_of([track], length)):
        mask = unpack_mask(packed, size).astype(np.float32)
        out[t] = cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA) >= 0.5
        if t % EVERY == 0:
            release(out)
    return out

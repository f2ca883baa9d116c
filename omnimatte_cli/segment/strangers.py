"""Movers that nobody masked: they own what they change, as hidden objects, and get no layer.

Without them the ownership network has to give a passing car, which is as sure a change as any, to
one of the objects that it knows, or to none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, channel_max, unpack_mask
from omnimatte_cli.camera.model import Camera, project
from omnimatte_cli.matte.box import disc
from omnimatte_cli.scratch import EVERY, release, scratch_array
from omnimatte_cli.segment import motion
from omnimatte_cli.segment.backdrop import REACH, TOLERANCE
from omnimatte_cli.segment.moving import WORKERS, find_moving, masks_of
from omnimatte_cli.segment.track import Track
from omnimatte_cli.segment.tracking import track

MOST = 6  # strangers that are followed, the largest first
OVERLAP = 0.3  # share of a mover inside the objects' grown masks, from which it is one of them,
BESIDE = 0.2  # and share beside them, in thick pieces, from which there is somebody else in it, too
GROWTH = 0.02  # of the height: by how much the objects' masks grow
FEWEST_FRAMES = 3  # in which a stranger must be seen
LEAST_AREA = 0.0008  # of the picture, mean over the frames that show it
TRAVEL = 0.45  # of its mean side, the root of its area: how far a stranger moves without a gap
NOISE_OF_HALF = 0.8  # deviations of noise in the median of its largest of three channels
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
    enlarged = Enlarged(frames, enlargement(w))
    still = Camera.static(length, (h, w))
    known = Known(masks)
    moving = find_moving(enlarged, camera=still, resting=False, wanted=known.may_miss)
    return apart_from(moving.tracks, moving.size, masks, still)


def find_strangers_over(
    frames: np.ndarray, plates: np.ndarray, masks: np.ndarray, camera: Camera, seen: Sequence[int]
) -> np.ndarray:
    """The same over plates of single frames, before a camera that moves.

    plates: (T, h, w, 3) uint8, of the frames in `seen`, ascending; others are not looked at, and
    have the mask of the nearest that is, as the camera sees it from there. camera: of that size.
    """
    length, h, w = frames.shape[:3]
    chosen = np.array(seen)
    scale = enlargement(w)
    pictures, scenes = Enlarged(frames[chosen], scale), Enlarged(plates[chosen], scale)
    known = masks[:, chosen].any(0)
    apart = [channel_max(cv2.absdiff(frames[t], plates[t])) for t in seen]
    noise = NOISE_OF_HALF * float(np.median(np.stack(apart)[~known])) if not known.all() else 0.0
    level = motion.noise_of(np.full(pictures.shape[1:3], noise, np.float32))

    def found_in(k: int) -> np.ndarray:
        scene = motion.scene_of(scenes[k], level, REACH, TOLERANCE)
        return motion.foreground(pictures[k], scene)

    with ThreadPoolExecutor(WORKERS) as pool:
        foregrounds = list(pool.map(found_in, range(len(chosen))))
    size = foregrounds[0].shape
    some = replace(
        camera.scaled((size[0], size[1])),
        homographies=camera.scaled((size[0], size[1])).homographies[chosen],
        inliers=camera.inliers[chosen],
        rms=camera.rms[chosen],
        reference=0,
        cuts=(),
    )
    seen_masks = Known(masks[:, chosen])
    missed = any(seen_masks.may_miss(k, each) for k, each in enumerate(foregrounds))
    tracks = track(pictures, foregrounds, some) if missed else []
    few = apart_from(tracks, (size[0], size[1]), masks[:, chosen], some.scaled((h, w)))
    found = scratch_array((len(few), length, h, w), bool)
    middles = (chosen[1:] + chosen[:-1] + 1) // 2
    for t in range(length):
        near = int(np.searchsorted(middles, t, side="right"))
        hidden = masks[:, t].any(0)
        seen_from = camera.between(int(chosen[near]), t)
        for i, mask in enumerate(few[:, near]):
            if mask.any():
                there = cv2.warpPerspective(
                    mask.astype(np.uint8), seen_from, (w, h), flags=cv2.INTER_NEAREST
                )
                found[i, t] = (there > 0) & ~hidden
        if t % EVERY == 0:
            release(found, few, masks)
    return found


class Known:
    """Where masked objects are, and a little around them. masks: (N, T, h, w) bool."""

    def __init__(self, masks: np.ndarray) -> None:
        self.masks = masks
        self.kernel = disc(max(1, round(GROWTH * masks.shape[2])))

    def at(self, t: int) -> np.ndarray:
        """In frame t, (h, w) bool."""
        return cv2.dilate(np.any(self.masks[:, t], axis=0).astype(np.uint8), self.kernel) > 0

    def may_miss(self, t: int, foreground: np.ndarray) -> bool:
        """Whether so much moves beside them in frame t that somebody else may: a mover is at least
        as large in one frame as in the mean.

        foreground: (H, W) bool, all that moves, at any size.
        """
        beside = made_small(foreground, self.masks.shape[2:]) & ~self.at(t)
        return bool(np.count_nonzero(beside) >= LEAST_AREA * beside.size)


def made_small(mask: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A mask (H, W) bool at another size, on where half of a pixel is covered."""
    share = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(share >= 0.5)


def enlargement(width: int) -> int:
    """How many times larger frames of a width are looked at."""
    return max(1, round(TRACKING_WIDTH / width))


def apart_from(
    tracks: Sequence[Track], size: Size, masks: np.ndarray, camera: Camera
) -> np.ndarray:
    """The tracks of pictures of a `size` that are no masked object, (S, T, h, w) bool.

    masks: (N, T, h, w) bool. camera: of frames of that size.
    """
    length, h, w = masks.shape[1:]
    known = Known(masks)
    others: list[np.ndarray] = []
    for each in tracks:
        if len(others) == MOST:
            break
        mask = _stack(each, size, length, (h, w))
        area = np.count_nonzero(mask)
        if not area:
            continue
        inside = {t: mask[t] & known.at(t) for t in np.flatnonzero(mask.any((1, 2))).tolist()}
        share = sum(np.count_nonzero(m) for m in inside.values()) / area
        for t, own in inside.items():
            mask[t] &= ~own
            if share >= OVERLAP:  # an object; but who walks past it may be in the same track
                rest = cv2.morphologyEx(mask[t].astype(np.uint8), cv2.MORPH_OPEN, known.kernel) > 0
                mask[t] = rest & mask[t]
        apart = share < OVERLAP or np.count_nonzero(mask) >= BESIDE * area
        if apart and is_mover(mask, camera):
            others.append(mask)
    together = scratch_array((len(others), length, h, w), bool)
    for i, mask in enumerate(others):
        together[i] = mask
        release(together, mask)
    return together


def is_mover(mask: np.ndarray, camera: Camera) -> bool:
    """Whether a mover's mask (T, h, w) bool is one: seen, large and on its way over the scene."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    seen = np.count_nonzero(areas)
    if seen < FEWEST_FRAMES or areas.sum() < LEAST_AREA * mask[0].size * seen:
        return False
    return travel(mask, camera) >= TRAVEL * np.sqrt(areas.sum() / seen)


def travel(mask: np.ndarray, camera: Camera) -> float:
    """How far the middle of a mover's mask (T, h, w) bool gets while it is in sight, in pixels of
    the frame in the middle of what shows it.

    What stands still and comes and goes is no stranger: where a shadow began or ended its way, the
    picture differs from the median of all frames.
    """
    furthest = 0.0
    way: list[np.ndarray] = []
    shown = np.flatnonzero(mask.any((1, 2)))
    middle = int(shown[len(shown) // 2]) if len(shown) else 0
    for t, each in enumerate(mask):
        rows, columns = np.nonzero(each)
        if not len(rows):
            way = []
            continue
        here = np.array((columns.mean(), rows.mean()))
        way.append(project(camera.between(t, middle), here) if camera.moving else here)
        furthest = max(furthest, float(np.linalg.norm(np.ptp(way, axis=0))))
    return furthest


def _stack(track: Track, size: tuple[int, int], length: int, small: tuple[int, int]) -> np.ndarray:
    """A track's masks at working size, (T, h, w) bool."""
    out = scratch_array((length, *small), bool)
    for t, packed in enumerate(masks_of([track], length)):
        out[t] = made_small(unpack_mask(packed, size), small)
        if t % EVERY == 0:
            release(out)
    return out

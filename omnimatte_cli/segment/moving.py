"""Everything that moves, before a camera that stands or moves, and which of it the user means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, pack_mask, resize_frames, unpack_mask
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.errors import NoObjectError
from omnimatte_cli.media.cuts import find_cuts
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.scratch import EVERY, release
from omnimatte_cli.segment import motion
from omnimatte_cli.segment.backdrop import Backdrop, find_motion
from omnimatte_cli.segment.prompts import Box, Point, Prompt
from omnimatte_cli.segment.track import Track
from omnimatte_cli.segment.tracking import track

WORKERS = 2  # threads that look for what moves
BOX_FITS = 0.3  # IoU of a user's box with a moving object's own, from which they are the same
NEAR_POINT = 0.01  # share of the picture's width by which a point may miss a moving object


@dataclass(frozen=True)
class Moving:
    """What moves: objects, the largest first; each frame's foreground; how the camera does.

    backdrop: the scenes behind, at the size in which they were looked for.
    """

    tracks: list[Track]
    foregrounds: list[bytes]
    size: Size
    camera: Camera
    backdrop: Backdrop

    def foreground(self, t: int) -> np.ndarray:
        """All that moves in frame t, (h, w) bool."""
        return unpack_mask(self.foregrounds[t], self.size)


def find_moving(
    frames: motion.Frames,
    progress: Progress | None = None,
    camera: Camera | None = None,
    resting: bool = True,
) -> Moving:
    """Everything that moves in frames (T, h, w, 3) uint8, whether or not the camera does.

    camera: how it moves, at any size; None: it is found out. resting: whether to look for what
    rests most of the time, too.
    """
    progress = progress or Silent()
    # Thresholds and kernels are tuned for one size; wider frames serve SAM.
    h, w = frames.shape[1:3]
    if w > motion.WORKING_WIDTH:
        size = round(h * motion.WORKING_WIDTH / w), motion.WORKING_WIDTH
        frames = resize_frames(frames, size)
    small = (frames.shape[1], frames.shape[2])
    progress.stage("finding what moves", len(frames))
    known = camera is not None
    camera = camera.scaled(small) if camera is not None else find_motion(frames)
    cuts = camera.cuts if known or camera.moving else find_cuts(list(frames))
    backdrop = Backdrop(frames, camera, cuts)
    if resting:
        backdrop.uncover(frames)
    foregrounds: list[bytes] = []

    def found_in(t: int) -> bytes:  # the frame is made where it is used, so that few are held
        return pack_mask(motion.foreground(frames[t], backdrop.scene(t)))

    with ThreadPoolExecutor(WORKERS) as pool:
        for found in pool.map(found_in, range(len(frames))):
            foregrounds.append(found)
            progress.step(len(foregrounds))
            if len(foregrounds) % EVERY == 0 and isinstance(frames, np.ndarray):
                release(frames)
    tracks: list[Track] = []
    for scene in backdrop.scenes:
        masks = (unpack_mask(foregrounds[t], small) for t in scene)
        part = frames if len(scene) == len(frames) else frames[np.array(scene)]
        tracks += track(part, masks, camera, scene.start)
    for number, each in enumerate(tracks):
        each.number = number
    tracks.sort(key=lambda t: t.weight, reverse=True)
    if small != (h, w):
        foregrounds = [_enlarge(f, small, (h, w)) for f in foregrounds]
        for each in tracks:
            each.masks = {t: _enlarge(m, small, (h, w)) for t, m in each.masks.items()}
            each.size = (h, w)
    return Moving(tracks, foregrounds, (h, w), camera.scaled((h, w)), backdrop)


def choose_tracks(moving: Moving, max_objects: int) -> tuple[list[Track], list[str]]:
    """The most prominent moving objects, and a note on what was left out."""
    if not moving.tracks:
        raise NoObjectError(
            "Nothing was found that moves before the background: point at the object with --point "
            "or --box, or give masks with --masks."
        )
    left = len(moving.tracks) - max_objects
    notes = []
    if left > 0:
        notes.append(
            f"{len(moving.tracks)} things move; the {max_objects} largest are kept "
            f"(--max-objects), {left} belong to the background now."
        )
    return moving.tracks[:max_objects], notes


def tracks_meant(prompts: Sequence[Prompt], moving: Moving) -> list[Track]:
    """The moving objects that the prompts of one object point at, the most prominent first."""
    meant: dict[int, Track] = {}
    refused: set[int] = set()
    reach = max(NEAR_POINT * moving.size[1], 2.0)
    for prompt in prompts:
        candidates = [t for t in moving.tracks if prompt.frame in t.masks]
        for point in prompt.points:
            away = {t.number: _distance(t, prompt.frame, point) for t in candidates}
            nearest = min(candidates, key=lambda t: away[t.number], default=None)
            if nearest is None or away[nearest.number] > (reach if point.inside else 0):
                continue
            if point.inside:
                meant[nearest.number] = nearest
            else:
                refused.add(nearest.number)
        if prompt.box is not None:
            fitting = [t for t in candidates if _box_iou(prompt.box, t.at(prompt.frame)) > BOX_FITS]
            meant |= {t.number: t for t in fitting}
    chosen = [t for n, t in meant.items() if n not in refused]
    return sorted(chosen, key=lambda t: t.weight, reverse=True)


def masks_of(tracks: Sequence[Track], frames: int) -> list[bytes]:
    """Union of some tracks in each frame, packed."""
    if len(tracks) == 1:
        empty = pack_mask(np.zeros(tracks[0].size, bool))
        return [tracks[0].masks.get(t, empty) for t in range(frames)]
    return [pack_mask(np.any([k.at(t) for k in tracks], axis=0)) for t in range(frames)]


def confidence_of(tracks: Sequence[Track], frames: int) -> list[float]:
    def at(t: int) -> float:
        return 1 - min((k.doubt[t] for k in tracks if t in k.masks), default=1.0)

    return [at(t) for t in range(frames)]


def _distance(each: Track, t: int, point: Point) -> float:
    """Pixels from a point to a track's mask in frame t, 0 on it."""
    mask = each.at(t)
    h, w = mask.shape
    x = min(max(int(point.x), 0), w - 1)
    y = min(max(int(point.y), 0), h - 1)
    if mask[y, x]:
        return 0.0
    ys, xs = np.nonzero(mask)
    return float(np.sqrt(((xs - x) ** 2 + (ys - y) ** 2).min())) if len(xs) else float("inf")


def _box_iou(box: Box, mask: np.ndarray) -> float:
    """IoU of a box with the box around a mask (h, w) bool."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    across = min(box.x1, x + w) - max(box.x0, x)
    down = min(box.y1, y + h) - max(box.y0, y)
    common = max(across, 0) * max(down, 0)
    return common / ((box.x1 - box.x0) * (box.y1 - box.y0) + w * h - common)


def same_tracks(known: Mapping[int, np.ndarray], moving: Moving) -> list[Track]:
    """The moving objects that known masks show."""
    same = []
    for each in moving.tracks:
        for t, mask in known.items():
            other = each.at(t)
            if (mask & other).sum() > 0.4 * max(int((mask | other).sum()), 1):
                same.append(each)
                break
    return same


def _enlarge(packed: bytes, size: Size, larger: Size) -> bytes:
    mask = unpack_mask(packed, size).astype(np.float32)
    return pack_mask(cv2.resize(mask, larger[::-1], interpolation=cv2.INTER_LINEAR) >= 0.5)

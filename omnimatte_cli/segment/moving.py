"""Everything that moves, before a camera that stands or moves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from omnimatte_cli.segment.evidence import KEPT, Evidence
from omnimatte_cli.segment.track import Track
from omnimatte_cli.segment.tracking import track

WORKERS = 2  # threads that look for what moves


@dataclass(frozen=True)
class Moving:
    """What moves: objects, the largest first; each frame's foreground; how the camera does.

    evidence: what the frames say, and the scenes behind, at the size in which they were looked at.
    """

    tracks: list[Track]
    foregrounds: list[bytes]
    size: Size
    camera: Camera
    evidence: Evidence

    def foreground(self, t: int) -> np.ndarray:
        """All that moves in frame t, (h, w) bool."""
        return unpack_mask(self.foregrounds[t], self.size)


def find_moving(
    frames: motion.Frames,
    progress: Progress | None = None,
    camera: Camera | None = None,
    resting: bool = True,
    wanted: Callable[[int, np.ndarray], bool] | None = None,
) -> Moving:
    """Everything that moves in frames (T, h, w, 3) uint8, whether or not the camera does.

    camera: how it moves, at any size; None: it is found out. resting: whether to look for what
    rests most of the time, too. wanted: whether the frame of this number, with this foreground
    (h, w) bool of some size, may show what is asked for; where none does, nothing is followed.
    None: all do.
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
    backdrop = Backdrop(frames, camera, cuts, resting)
    if resting:
        backdrop.uncover(frames)
    evidence = Evidence(frames, backdrop, KEPT if resting else 0)
    foregrounds: list[bytes] = []

    def found_in(t: int) -> bytes:  # the frame is made where it is used, so that few are held
        if not resting:
            return pack_mask(motion.foreground(frames[t], backdrop.scene(t)))
        return pack_mask(evidence.at(t).foreground)

    with ThreadPoolExecutor(WORKERS) as pool:
        for found in pool.map(found_in, range(len(frames))):
            foregrounds.append(found)
            progress.step(len(foregrounds))
            if len(foregrounds) % EVERY == 0 and isinstance(frames, np.ndarray):
                release(frames)
    tracks: list[Track] = []
    some = wanted is None or any(
        wanted(t, unpack_mask(found, small)) for t, found in enumerate(foregrounds)
    )
    for scene in backdrop.scenes if some else ():
        masks = (unpack_mask(foregrounds[t], small) for t in scene)
        part = frames if len(scene) == len(frames) else frames[np.array(scene)]
        tracks += track(part, masks, camera, scene.start, evidence.flow)
    for number, each in enumerate(tracks):
        each.number = number
    tracks.sort(key=lambda t: t.weight, reverse=True)
    if small != (h, w):
        foregrounds = [_enlarge(f, small, (h, w)) for f in foregrounds]
        for each in tracks:
            each.masks = {t: _enlarge(m, small, (h, w)) for t, m in each.masks.items()}
            each.size = (h, w)
    return Moving(tracks, foregrounds, (h, w), camera.scaled((h, w)), evidence)


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


def masks_of(tracks: Sequence[Track], frames: int) -> list[bytes]:
    """Union of some tracks in each frame, packed."""
    if len(tracks) == 1:
        empty = pack_mask(np.zeros(tracks[0].size, bool))
        return [tracks[0].masks.get(t, empty) for t in range(frames)]
    return [pack_mask(np.any([k.at(t) for k in tracks], axis=0)) for t in range(frames)]


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

"""The ways to masks at working size: what moves, what SAM sees, what the user corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, pack_mask, unpack_mask
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.errors import MaskError
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.segment.clean import away, clean_frames
from omnimatte_cli.segment.cut import complete
from omnimatte_cli.segment.doubts import doubt_of_first
from omnimatte_cli.segment.follow import carried_to, follow
from omnimatte_cli.segment.motion import fill_holes
from omnimatte_cli.segment.moving import (
    Moving,
    choose_tracks,
    find_moving,
    same_tracks,
)
from omnimatte_cli.segment.prompts import Box, Prompt
from omnimatte_cli.segment.propagate import Carried, propagate
from omnimatte_cli.segment.seed import first_masks
from omnimatte_cli.segment.track import Track

SPECK = 0.05  # share of a moving object's area, below which a piece apart is none of it
MOST = 1.15  # times its usual area that an object may have where it touches others
NEAREST = 5  # clean frames from which an object's usual area is taken
HOLLOW = 0.04  # share of a moving object's area, up to which a hole in it is none


class Segmenter(Protocol):
    """What SAM does for us; `sam.Sam` is one (its module needs torch, this one does not)."""

    def prompt(self, t: int, prompt: Prompt) -> tuple[np.ndarray, float]:
        """Mask (h, w) bool and quality in [0, 1] for the user's prompt in frame t."""

    def again(self, t: int, mask: np.ndarray) -> tuple[np.ndarray, float]:
        """Mask and quality in frame t, prompted with a mask (h, w) bool that is near."""


@runtime_checkable
class Follower(Protocol):
    """What SAM 2 does for us, a whole clip at once; `sam2.Sam2` is one."""

    def follow(
        self, known: Mapping[str, Mapping[int, Prompt | np.ndarray]], progress: Progress
    ) -> dict[str, list[Carried]]:
        """Masks in every frame from prompts or masks (h, w) bool, by object and frame."""


@dataclass(frozen=True)
class Rough:
    """Rough masks at working size.

    masks: packed (h, w) bool, by object and frame. confidence: in [0, 1], by object and frame.
    method: "motion", "sam" or "sam2".
    """

    size: Size
    masks: dict[str, list[bytes]]
    confidence: dict[str, list[float]]
    notes: list[str] = field(default_factory=list)
    method: str = "motion"


def by_motion(
    frames: np.ndarray,
    prompts: Sequence[Prompt],
    max_objects: int,
    seed: int,
    progress: Progress | None = None,
    first: int = 0,
    camera: Camera | None = None,
) -> Rough:
    """Masks of what moves: all of it, or what the prompts point at.

    frames: (T, h, w, 3) uint8; prompts in their pixels. What prompts point at need not move.
    first: the number that frame 0 has in messages. camera: how it moves; None: it is found out.
    Raises InputError where there are no prompts and nothing moves.
    """
    moving = find_moving(frames, progress, camera)
    if not prompts:
        return _all_that_moves(frames, moving, max_objects, seed, progress)
    keys: dict[str, dict[int, np.ndarray]] = {p.name: {} for p in prompts}
    result = Rough(moving.size, {}, {})
    for t in sorted({p.frame for p in prompts}):
        here = [p for p in prompts if p.frame == t]
        # Two that are pointed at in different frames may be one behind the other in both.
        present = carried_to(t, frames, keys, moving.evidence, moving.tracks)
        cut_out = first_masks(frames, here, moving.evidence, moving.tracks, seed, present)
        for name, found in cut_out.items():
            if not found.mask.any():
                raise MaskError(
                    f"Nothing could be cut out for '{name}' in frame {first + t}: draw a --box "
                    "around it, or use SAM (--sam vit_b)."
                )
            keys[name][t] = found.mask
            doubt = doubt_of_first(name, first + t, found)
            result.notes.extend([doubt] if doubt else [])
    _add(result, follow(frames, keys, moving.evidence, moving.tracks, progress))
    return result


def _all_that_moves(
    frames: np.ndarray, moving: Moving, max_objects: int, seed: int, progress: Progress | None
) -> Rough:
    """The most prominent moving objects: as motion shows them where it shows them well.

    From these frames they are followed to all others together.
    """
    tracks, notes = choose_tracks(moving, max_objects)
    keys: dict[str, dict[int, np.ndarray]] = {}
    nothing = np.zeros(moving.size, bool)
    for i, each in enumerate(tracks, 1):
        name = f"object{i}"
        others = [k for k in moving.tracks if k is not each]
        scene = next(s for s in moving.evidence.backdrop.scenes if each.last in s)
        keys[name] = dict.fromkeys(away(each, scene, len(frames)), nothing)
        for t in clean_frames(each, others):
            keys[name][t] = completed(frames[t], t, each, others, seed)
    found = follow(frames, keys, moving.evidence, moving.tracks, progress)
    result = Rough(moving.size, {}, {}, notes)
    _add(result, found)
    for each, name in zip(tracks, keys, strict=True):
        rest = [masks for n, masks in result.masks.items() if n != name]
        values = result.confidence[name]
        for t in each.masks.keys() - keys[name].keys():
            fused = _fused(each, t, result.masks[name], rest, keys[name])
            if fused is not None:
                result.masks[name][t] = pack_mask(fused)
                values[t] = values[t] or 1 - each.doubt[t]
        for t in each.masks.keys() & keys[name].keys():
            values[t] = 1 - each.doubt[t]
    return result


def _fused(
    track: Track,
    t: int,
    own: Sequence[bytes],
    others: Sequence[Sequence[bytes]],
    known: Mapping[int, np.ndarray],
) -> np.ndarray | None:
    """What was followed to frame t with what moves there and is no other's, (h, w) bool.

    own, others: followed masks by frame, packed. known: masks of the clean frames. None: it would
    be too much for one object.
    """
    followed = unpack_mask(own[t], track.size)
    fused = track.at(t)
    for masks in others:
        fused &= ~unpack_mask(masks[t], track.size)
    fused |= followed
    nearest = sorted((k for k in known if k in track.masks), key=lambda k: abs(k - t))[:NEAREST]
    usual = float(np.median([np.count_nonzero(known[k]) for k in nearest]))
    fits = np.count_nonzero(fused) <= MOST * usual
    return fused if fits or not followed.any() else None


def completed(
    frame: np.ndarray, t: int, track: Track, others: Sequence[Track], seed: int
) -> np.ndarray:
    """The mask of a track in frame t (h, w, 3) uint8, completed by its colours, (h, w) bool."""
    mask = track.at(t)
    taken = np.zeros_like(mask)
    for other in others:
        if t in other.masks:
            taken |= other.at(t)
    mask = complete(frame, mask, taken & ~mask, seed)
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    # With a border around it, what is outside of the mask is no hole.
    window = np.s_[max(y - 1, 0) : y + h + 1, max(x - 1, 0) : x + w + 1]
    inner = mask[window]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inner.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= SPECK * np.count_nonzero(inner)
    large[0] = False
    inner = large[labels]
    # A coat of the colour of the wall behind it: where the rest of the coat is seen, it is there.
    holes = HOLLOW * np.count_nonzero(inner) / inner.size
    result = np.zeros_like(mask)
    result[window] = fill_holes(inner.astype(np.uint8), holes) > 0
    return result & ~(taken & ~track.at(t))


def by_sam(
    frames: np.ndarray,
    prompts: Sequence[Prompt],
    sam: Segmenter,
    every: int,
    max_objects: int,
    progress: Progress | None = None,
    first: int = 0,
    camera: Camera | None = None,
) -> Rough:
    """Masks by SAM, in the prompted frames first, then wherever they are carried to.

    frames: (T, h, w, 3) uint8; prompts in their pixels. Without prompts, the boxes of what moves
    are the prompts. What moves also brings back objects that were away.
    """
    progress = progress or Silent()
    moving = find_moving(frames, progress, camera)
    size = frames.shape[1:3]
    keys: dict[str, dict[int, np.ndarray]] = {}
    hints: dict[str, list[Track]] = {}
    notes: list[str] = []
    if prompts:
        progress.stage("SAM looks at the prompts", len(prompts))
        for done, p in enumerate(prompts, 1):
            mask, quality = sam.prompt(p.frame, p)
            if not mask.any():
                raise MaskError(
                    f"SAM finds nothing at the prompt for '{p.name}' in frame {first + p.frame}: "
                    "move the point, or draw a --box."
                )
            if quality < 0.5:
                notes.append(
                    f"SAM is not sure of '{p.name}' in frame {first + p.frame} "
                    f"({quality:.2f}): "
                    "look at it, or add points."
                )
            keys.setdefault(p.name, {})[p.frame] = mask
            progress.step(done, p.name)
        hints = {n: same_tracks(known, moving) for n, known in keys.items()}
    else:
        tracks, notes = choose_tracks(moving, max_objects)
        progress.stage("SAM looks at what moves", len(tracks))
        for i, each in enumerate(tracks, 1):
            # Where most of it is seen it is least cut off or hidden.
            t = max(each.areas, key=lambda t: each.areas[t])
            mask, quality = sam.again(t, each.at(t))
            common = float((mask & each.at(t)).sum()) / max(float((mask | each.at(t)).sum()), 1)
            good = quality >= 0.5 and common >= 0.4
            keys[f"object{i}"] = {t: mask if good else each.at(t)}
            hints[f"object{i}"] = [each]
            progress.step(i)

    def look(t: int, name: str, carried: np.ndarray) -> tuple[np.ndarray, float] | None:
        if carried.any():
            return sam.again(t, carried)
        for hint in hints.get(name, ()):
            if t in hint.masks:
                return sam.again(t, hint.at(t))
        return None

    result = Rough(size, {}, {}, notes, "sam")
    _add(result, propagate(frames, keys, look, every, progress))
    return result


def known_of(
    frames: np.ndarray,
    prompts: Sequence[Prompt],
    max_objects: int,
    progress: Progress,
    camera: Camera | None = None,
) -> tuple[dict[str, dict[int, Prompt | np.ndarray]], list[str]]:
    """What is known beforehand, by object and frame, and notes: the prompts, else what moves."""
    known: dict[str, dict[int, Prompt | np.ndarray]] = {}
    for p in prompts:
        known.setdefault(p.name, {})[p.frame] = p
    if prompts:
        return known, []
    tracks, notes = choose_tracks(find_moving(frames, progress, camera), max_objects)
    for i, each in enumerate(tracks, 1):
        t = max(each.areas, key=lambda t: each.areas[t])
        x, y, w, h = cv2.boundingRect(each.at(t).astype(np.uint8))
        known[f"object{i}"] = {t: Prompt(f"object{i}", t, (), Box(x, y, x + w, y + h))}
    return known, notes


def by_following(
    frames: np.ndarray,
    known: Mapping[str, Mapping[int, Prompt | np.ndarray]],
    sam: Follower,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
) -> Rough:
    """Masks by SAM 2 from what is known of each object, by frame."""
    result = Rough(frames.shape[1:3], {}, {}, list(notes), "sam2")
    _add(result, sam.follow(known, progress or Silent()))
    return result


def by_kept(
    frames: np.ndarray,
    keys: Mapping[str, Mapping[int, np.ndarray]],
    sam: Segmenter | None,
    every: int,
    seed: int,
    progress: Progress | None = None,
    camera: Camera | None = None,
) -> Rough:
    """Masks carried from frames that the user corrected, by object and frame (h, w) bool.

    SAM gives the second opinion if it is there; else they are followed as prompts are.
    """
    result = Rough(frames.shape[1:3], {}, {}, [], "motion" if sam is None else "sam")
    if sam is None:
        moving = find_moving(frames, progress, camera)
        _add(result, follow(frames, keys, moving.evidence, moving.tracks, progress))
        return result
    segmenter = sam

    def opinion(t: int, name: str, carried: np.ndarray) -> tuple[np.ndarray, float] | None:
        return segmenter.again(t, carried) if carried.any() else None

    _add(result, propagate(frames, keys, opinion, every, progress))
    return result


def _add(result: Rough, found: Mapping[str, Sequence[Carried]]) -> None:
    for name, frames in found.items():
        result.masks[name] = [c.mask for c in frames]
        result.confidence[name] = [c.confidence if c.area else 0.0 for c in frames]

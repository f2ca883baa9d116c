"""What a user must know about masks that were carried: where they are doubtful or lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from omnimatte_cli.arrays import Size, unpack_mask
from omnimatte_cli.segment.looks import grown
from omnimatte_cli.segment.motion import fill_holes
from omnimatte_cli.segment.propagate import at_edge
from omnimatte_cli.segment.result import UNSURE
from omnimatte_cli.segment.seed import First

FEWEST = 3  # frames in a row that are worth a sentence
TOUCH = 6  # pixels from another object at which one may have gone behind it
TINY, HUGE = 0.0002, 0.35  # shares of the picture that a first mask rarely has
ALIKE = 0.3  # share of colours that set an object apart from the ground, below which they do not
ALIKE_MOTION = 0.3  # ... of change against the scene behind, and of motion
REMEDY = (
    "point at it there again (--point {name}:{frame}:X,Y), correct a frame (--corrected, --keep), "
    "or use SAM (--sam)"
)


# Of 66 objects found in rendered clips, 32 of 52 that are wrong (IoU below 0.75) and 2 of 14 that
# are right are said to be doubtful with these.
HOLLOW = 0.25  # share of a mask's area, filled, from which its holes are no gap between limbs
JUMP = 1.5  # factor by which an area changes at once where two become one, or one is cut in half
WITHIN = 2  # frames that are at once
REGIMES = 3  # frames on each side from which the areas before and after are taken
RESTS = 0.15  # share of the frames that an object may be lost for, else it is worth a sentence


def doubts_of_found(
    masks: dict[str, list[bytes]], size: Size, first: int, cuts: Sequence[int] = ()
) -> list[str]:
    """At most one sentence on each object that was found by what moves: what is likely wrong.

    masks: by object and frame, packed (h, w) bool. first: the number of frame 0. cuts: frames with
    which a new scene begins, in which an object need not be.
    """
    said = []
    for name, packed in masks.items():
        planes = [unpack_mask(m, size) for m in packed]
        found = [
            (where, why)
            for flags, why in (
                (_hollow(planes), "it is hollow, as a ring"),
                (
                    _jumped(planes, up=True),
                    "it is suddenly larger, as if it held something else, too",
                ),
                (_jumped(planes, up=False), "it is suddenly smaller, as if a part were missing"),
                (
                    _missing(name, masks, planes, size, cuts),
                    "it is not found, where it should be in the picture",
                ),
            )
            for where in _runs(flags)
            if where[1] - where[0] >= FEWEST
        ]
        if found:
            reasons = "; ".join(f"{_frames(*where, first)} {why}" for where, why in sorted(found))
            middle = first + sum(sorted(found)[0][0]) // 2
            said.append(
                f"The mask of '{name}' is likely wrong: {reasons}. Look at it; if it is wrong, "
                f"{REMEDY.format(name=name, frame=middle)}."
            )
    return said


def _hollow(planes: Sequence[np.ndarray]) -> list[bool]:
    """By frame, whether much of the filled mask is a hole."""
    flags = []
    for mask in planes:
        filled = fill_holes(mask.astype(np.uint8), 1.0)
        flags.append(bool(mask.any()) and 1 - mask.sum() / filled.sum() > HOLLOW)
    return flags


def _jumped(planes: Sequence[np.ndarray], up: bool) -> list[bool]:
    """By frame, whether the area is that after a jump up (or down), until it jumps back."""
    areas = np.array([float(m.sum()) for m in planes])
    # What the picture's edge cuts off changes its area at once, and means nothing.
    whole = np.array([m.any() and not at_edge(grown(m, 2)) for m in planes])
    flags = [False] * len(planes)
    for t in range(len(planes)):
        before = _usual(areas, whole, t - REGIMES, t)
        after = _usual(areas, whole, t + WITHIN, t + WITHIN + REGIMES)
        ratio = after / before if before and after else 1.0
        if (ratio if up else 1 / ratio) < JUMP:
            continue
        stop = t + WITHIN
        level = np.sqrt(before * after)
        while stop < len(planes) and areas[stop] and (areas[stop] > level) == up and whole[stop]:
            stop += 1
        flags[t + WITHIN : stop] = [True] * (stop - t - WITHIN)
    return flags


def _usual(areas: np.ndarray, whole: np.ndarray, start: int, stop: int) -> float:
    """The median area of the whole masks among some frames, 0 where they are too few."""
    part = slice(max(start, 0), max(stop, 0))
    values = areas[part][whole[part]]
    return float(np.median(values)) if len(values) >= WITHIN else 0.0


def _missing(
    name: str,
    masks: dict[str, list[bytes]],
    planes: Sequence[np.ndarray],
    size: Size,
    cuts: Sequence[int],
) -> list[bool]:
    """By frame, whether the object is lost and neither left the picture nor went behind another."""
    lost = [not m.any() for m in planes]
    flags = [False] * len(planes)
    for start, stop in _runs(lost):
        away = _away(name, masks, size, start, stop, cuts)
        if stop - start >= RESTS * len(planes) and not away:
            flags[start:stop] = [True] * (stop - start)
    return flags


def doubt_of_first(name: str, frame: int, first: First) -> str | None:
    """A sentence on what was cut out for a prompt in a frame, where little speaks for it."""
    share = float(first.mask.mean())
    if share < TINY:
        why = "it is tiny"
    elif share > HUGE:
        why = f"it covers {share:.0%} of the picture"
    elif first.colour < ALIKE and max(first.change, first.motion) < ALIKE_MOTION:
        why = "its colours are those of the ground around it, and it moves as the ground does"
    elif first.two:
        why = "it holds much of two things that move, and one may be a neighbour"
    else:
        return None
    return (
        f"What was cut out for '{name}' in frame {frame} is doubtful: {why}. Look at it; if it is "
        f"wrong, {REMEDY.format(name=name, frame=frame)}."
    )


def doubts_of(
    masks: dict[str, list[bytes]],
    confidence: dict[str, list[float]],
    size: Size,
    first: int,
    cuts: Sequence[int] = (),
) -> list[str]:
    """Sentences on masks by object and frame, packed (h, w) bool. first: the number of frame 0.
    cuts: frames with which a new scene begins.

    An object that goes out at the picture's edge, or behind another and comes back, is not lost.
    """
    said = []
    for name in masks:
        seen = [c > 0 for c in confidence[name]]
        weak = [s and c < UNSURE for s, c in zip(seen, confidence[name], strict=True)]
        for start, stop in _runs(weak):
            if stop - start >= FEWEST:
                where = _frames(start, stop, first)
                said.append(
                    f"The mask of '{name}' is doubtful {where}: what it holds looks little like "
                    "what was pointed at. Look at it; if it is wrong, "
                    f"{REMEDY.format(name=name, frame=first + (start + stop) // 2)}."
                )
        for start, stop in _runs([not s for s in seen]):
            if stop - start >= FEWEST and not _away(name, masks, size, start, stop, cuts):
                said.append(
                    f"'{name}' is not found {_frames(start, stop, first)}, where it should be in "
                    "the picture. If it is there, "
                    f"{REMEDY.format(name=name, frame=first + start)}."
                )
    return said


def _runs(flags: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Stretches of True, from and up to."""
    start = None
    for t, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = t
        elif not flag and start is not None:
            yield start, t
            start = None


def _frames(start: int, stop: int, first: int) -> str:
    return f"in frames {first + start} to {first + stop - 1}"


def _away(
    name: str,
    masks: dict[str, list[bytes]],
    size: Size,
    start: int,
    stop: int,
    cuts: Sequence[int],
) -> bool:
    """Whether an object may be out of the picture, or hidden, in frames `start` up to `stop`, or in
    another scene than these."""
    if start in cuts or stop in cuts:
        return True
    count = len(masks[name])
    hidden = 0
    for t in (start - 1, stop):
        if not 0 <= t < count:
            continue
        mask = unpack_mask(masks[name][t], size)
        if at_edge(grown(mask, 2)):
            return True
        others = [unpack_mask(m[t], size) for n, m in masks.items() if n != name]
        hidden += bool((grown(mask, TOUCH) & np.any(others, axis=0)).any()) if others else 0
    # Behind another object at one end, and seen again at the other.
    return hidden > 0 and start > 0 and stop < count

"""What a user must know about masks that were carried: where they are doubtful or lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from omnimatte_cli.arrays import Size, unpack_mask
from omnimatte_cli.segment.looks import grown
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


def doubt_of_first(name: str, frame: int, first: First) -> str | None:
    """A sentence on what was cut out for a prompt in a frame, where little speaks for it."""
    share = float(first.mask.mean())
    if share < TINY:
        why = "it is tiny"
    elif share > HUGE:
        why = f"it covers {share:.0%} of the picture"
    elif first.colour < ALIKE and max(first.change, first.motion) < ALIKE_MOTION:
        why = "its colours are those of the ground around it, and it moves as the ground does"
    else:
        return None
    return (
        f"What was cut out for '{name}' in frame {frame} is doubtful: {why}. Look at it; if it is "
        f"wrong, {REMEDY.format(name=name, frame=frame)}."
    )


def doubts_of(
    masks: dict[str, list[bytes]], confidence: dict[str, list[float]], size: Size, first: int
) -> list[str]:
    """Sentences on masks by object and frame, packed (h, w) bool. first: the number of frame 0.

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
            if stop - start >= FEWEST and not _away(name, masks, size, start, stop):
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


def _away(name: str, masks: dict[str, list[bytes]], size: Size, start: int, stop: int) -> bool:
    """Whether an object may be out of the picture, or hidden, in frames `start` up to `stop`."""
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

"""Scene cuts: frames that have nothing in common with the one before."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from omnimatte_cli.scratch import EVERY, release

SIZE = (36, 64)  # (h, w) at which frames are compared
MARGIN = (6, 10)  # pixels by which a camera may move things from one frame to the next
ALIKE = 0.5  # correlation from which two frames show the same place
PLACE_JUMP = 12.0  # mean grey levels by which the same place differs, at least
STANDS_OUT = 2.5  # by how much a cut differs more than the frames around it
NEIGHBOURS = 6  # frames on either side that say what is usual
FLASH = 2  # frames that a flash or a passer-by may take
NAMED = 5  # cuts that are named in the note


def find_cuts(frames: Sequence[np.ndarray] | np.ndarray) -> tuple[int, ...]:
    """Numbers of the frames with which a new scene begins, from frames (H, W, 3) uint8 RGB.

    A cut changes the picture far more than the frames around it do, and no shift, gain or offset
    of the frame before explains the one after; a pan is a shift, a flash a gain that passes.
    """
    if len(frames) < 2:
        return ()
    small = []
    for t, frame in enumerate(frames):
        small.append(cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA))
        if t % EVERY == 0:
            release(frame)
    apart = np.array([0.0, *(_apart(a, b) for a, b in itertools.pairwise(small))])
    cuts: list[int] = []
    for t in np.flatnonzero(apart >= PLACE_JUMP).tolist():
        near = np.r_[apart[max(1, t - NEIGHBOURS) : t], apart[t + 1 : t + 1 + NEIGHBOURS]]
        usual = float(np.median(near)) if near.size else 0.0
        if apart[t] < STANDS_OUT * max(usual, 1.0) or _alike(small[t - 1], small[t]):
            continue
        around = [(a, b) for a in range(t - 1 - FLASH, t) for b in range(t, t + 1 + FLASH)]
        if not any(a >= 0 and b < len(small) and _alike(small[a], small[b]) for a, b in around):
            cuts.append(t)
    return tuple(cuts)


def cuts_note(cuts: Sequence[int], first: int = 0) -> str:
    """A sentence about scene cuts. first: the number of frame 0 in the whole video."""
    which = ", ".join(str(first + t) for t in cuts[:NAMED]) + (", ..." if len(cuts) > NAMED else "")
    count = "A new scene begins" if len(cuts) == 1 else f"{len(cuts)} new scenes begin"
    return (
        f"{count} at frame {which}: one plate cannot serve several scenes; "
        "use --split-cuts, or choose a part with --frames."
    )


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the middle of one frame is found in the other."""
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float32) for f in (a, b)]
    y, x = MARGIN
    middle = np.ascontiguousarray(grey[0][y:-y, x:-x])
    if middle.std() < 1:  # nothing to find in it: by what is where
        return _apart(a, b) < PLACE_JUMP
    found = cv2.matchTemplate(grey[1], middle, cv2.TM_CCOEFF_NORMED)
    return float(found.max()) >= ALIKE


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference in grey levels."""
    return float(cv2.absdiff(a, b).mean())

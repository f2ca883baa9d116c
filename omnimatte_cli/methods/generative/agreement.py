"""Does a solo video show its object where the shot has it, and at the same time?

Two solo videos that were swapped, and one that a removal model padded in front, have the right size
and length and show the shot's own ground. Their objects tell: where an object's mask is, its solo
has to look like the shot.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnimatte_cli.methods.generative.bodies import eroded
from omnimatte_cli.methods.generative.solos import SoloError

FARTHEST = 8  # frames by which a solo may be early or late to be recognised as that
BETTER = 0.6  # of the difference as it lies, that it must fall to when moved in time
EMPTY = 2.0  # how much nearer to the background than to the shot a solo is that lacks its object
PROBES = 24  # frames in which that is looked at
TOLD = 0.04  # difference, 0 .. 1, of shot and background from which a pixel tells them apart
ENOUGH = 50  # such pixels of an object, below which nothing is said


def check_objects(
    names: Sequence[str],
    solos: np.ndarray,
    shot: np.ndarray,
    plates: np.ndarray,
    masks: np.ndarray,
) -> None:
    """Raise SoloError where a solo lacks its object or shows it early or late.

    solos: (N, T, h, w, 3) uint8. shot: (T, h, w, 3) uint8. plates: (1 or T, h, w, 3) uint8. masks:
    (N, T, h, w) bool, of the shot.
    """
    for i, name in enumerate(names):
        alone = masks[i] & (masks.sum(0) == 1)
        seen = np.stack([eroded(mask, 3) for mask in alone])
        ground = np.broadcast_to(plates, shot.shape)
        seen &= difference(shot, ground) > TOLD
        if int(seen.sum()) < ENOUGH:
            continue
        late = delay(solos[i], shot, seen)
        if late:
            count = f"{abs(late)} frame{'s' if abs(late) > 1 else ''}"
            when = f"{count} {'late' if late > 0 else 'early'}"
            raise SoloError(
                f"The solo '{name}' video shows '{name}' {when}: cut or pad it so that its first "
                "frame is the shot's."
            )
        here, there = (difference(solos[i], other)[seen].mean() for other in (shot, ground))
        if here > EMPTY * there:
            raise SoloError(
                f"The solo '{name}' video shows the background where the mask of '{name}' is: "
                "were two solos swapped?"
            )


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean difference of colours of (..., 3) uint8, (...) float32 in [0, 1]."""
    return np.abs(a.astype(np.int16) - b).mean(-1, dtype=np.float32) / 255


def delay(solo: np.ndarray, shot: np.ndarray, seen: np.ndarray) -> int:
    """By how many frames a solo (T, h, w, 3) is late (negative: early); 0 where that is not clear.

    seen: (T, h, w) bool, pixels of the shot that show the object.
    """
    frames = len(shot)
    reach = min(FARTHEST, frames // 3)
    shown = [t for t in range(reach, frames - reach) if seen[t].any()]
    if not shown:
        return 0
    spread = np.linspace(0, len(shown) - 1, min(PROBES, len(shown))).round().astype(int)
    probes = [shown[k] for k in spread]
    found = {}
    for late in range(-reach, reach + 1):
        pairs = [(solo[t + late][seen[t]], shot[t][seen[t]]) for t in probes]
        found[late] = float(
            difference(*(np.concatenate(x) for x in zip(*pairs, strict=True))).mean()
        )
    best = min(found, key=lambda late: found[late])
    return best if found[best] < BETTER * found[0] else 0

"""Masks that blink: a part that is lost or gained for a frame or two is taken from the neighbours.

Trackers drop a leg, or a whole object, for a frame, and what they drop would stand in the plate and
be missing in the layer. A frame is suspected where an object's area differs from what it is around;
there the masks of the frames around are brought along the optical flow, and where nearly all of
them say otherwise than the frame's own, and the picture there looks as it does in theirs, they are
believed. What passes behind something else keeps its mask: the picture looks different.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, pack_mask
from omnimatte_cli.camera.flow import dense_flow, mismatch, warp_mask
from omnimatte_cli.scratch import release

REACH = 2  # frames to each side that are asked
SUSPECT = 0.12  # share by which an area must differ from those before and after
LEAST_AREA = 12  # working pixels; smaller objects say nothing
ALIKE = 24.0  # grey levels that the picture may differ where a neighbour is believed
FEWEST = 2  # neighbours that must look alike
NEARLY_ALL = 0.75  # share of them that must agree
CHANGED = 0.04  # share of the area that a mending must change
NAMED = 8  # frames that a note names


def mend_masks(
    frames: np.ndarray, masks: Masks, small: np.ndarray, numbers: Sequence[int]
) -> tuple[Masks, list[str]]:
    """Masks without blinks, and a sentence for each object whose masks were mended.

    frames: (T, h, w, 3) uint8 at working size. small: the masks at that size, (N, T, h, w) bool.
    numbers: of the frames, for the sentences. Frames at the clip's ends are left as they are.
    """
    packed = [list(each) for each in masks.packed]
    notes = []
    for i, name in enumerate(masks.names):
        mended = []
        for t in suspects(small[i]):
            change = blink(frames, small[i], t)
            if change is None:
                continue
            lost, gained = (_enlarged(x, masks.size) for x in change)
            packed[i][t] = pack_mask((masks.at(i, t) | lost) & ~gained)
            mended.append(numbers[t])
        if mended:
            rest = f" and {len(mended) - NAMED} more" if len(mended) > NAMED else ""
            where = f"{', '.join(str(n) for n in mended[:NAMED])}{rest}"
            frame = "frame" if len(mended) == 1 else "frames"
            notes.append(
                f"The mask of {name} blinks in {frame} {where}: mended from the frames around "
                "(--no-mend-masks keeps it)."
            )
    if not notes:
        return masks, []
    given = tuple(tuple(each) for each in packed)
    return replace(masks, packed=given, notes=(*masks.notes, *notes)), notes


def suspects(masks: np.ndarray) -> list[int]:
    """Frames whose mask is smaller or larger than before and after, of one object (T, h, w).

    An object that comes in or leaves grows or shrinks to one side only.
    """
    area = np.array([float(np.count_nonzero(mask)) for mask in masks])
    release(masks)
    found = []
    for t in range(1, len(area) - 1):
        before, after = area[max(0, t - REACH) : t], area[t + 1 : t + REACH + 1]
        low, high = min(before.max(), after.max()), max(before.min(), after.min())
        if low < LEAST_AREA:
            continue
        if area[t] < (1 - SUSPECT) * low or area[t] > (1 + SUSPECT) * high:
            found.append(t)
    return found


def blink(frames: np.ndarray, masks: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What frame t's mask lost and gained against those around, both (h, w) bool.

    frames: (T, h, w, 3) uint8; masks: (T, h, w) bool, of one object. None: nothing that counts.
    """
    others = [k for k in range(max(0, t - REACH), min(len(masks), t + REACH + 1)) if k != t]
    own = masks[t]
    inside, asked = np.zeros(own.shape, int), np.zeros(own.shape, int)
    grey = {k: cv2.cvtColor(frames[k], cv2.COLOR_RGB2GRAY) for k in (t, *others)}
    for k in others:
        flow = dense_flow(grey[t], grey[k], small=True)
        alike = mismatch(frames[t], frames[k], flow) < ALIKE
        inside += warp_mask(masks[k], flow) & alike
        asked += alike
    enough = asked >= FEWEST
    share = inside / np.maximum(asked, 1)
    # Single pixels at the outline are the masks' ordinary roughness.
    lost = _opened(enough & (share >= NEARLY_ALL) & ~own)
    gained = _opened(enough & (share <= 1 - NEARLY_ALL) & own)
    usual = float(np.median([np.count_nonzero(masks[k]) for k in others]))
    if np.count_nonzero(lost | gained) < CHANGED * usual:
        return None
    before, after = np.count_nonzero(own), np.count_nonzero((own | lost) & ~gained)
    return (lost, gained) if abs(after - usual) < abs(before - usual) else None


def _opened(mask: np.ndarray) -> np.ndarray:
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8)) > 0


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    whole = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_LINEAR)
    return whole >= 0.5

"""Pieces of what is nobody's: the shadow under a car without a mask, a bit of a wave.

The ownership network answers pixel by pixel, and now and then gives an object a part of something
that is clearly another's. What changes in one piece has one owner: where most of it is nobody's,
and no mask is near, all of it is.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, frame_or_static
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.scratch import EVERY, release

CHANGED = 20  # levels, from which a pixel belongs to a piece
MINORITY = 0.4  # share of a piece's change that objects own: below, they own nothing of it
NEAR = 5  # pixels a side of the square in which a mask is near: those pieces are the object's
AROUND = 5  # pixels a side of the square by which a piece's soft edge is taken in


def leave_minorities(
    ownership: Ownership, frames: np.ndarray, plates: np.ndarray, masks: np.ndarray
) -> None:
    """Take from the objects, in place, their parts of pieces that are mostly nobody's.

    frames: (T, h, w, 3) uint8. plates: (1 or T, h, w, 3) uint8. masks: (N, T, h, w) bool. What is
    taken is unowned.
    """
    near, around = (np.ones((side,) * 2, np.uint8) for side in (NEAR, AROUND))
    for t, frame in enumerate(frames):
        size = np.asarray(channel_max(cv2.absdiff(frame, frame_or_static(plates, t))))
        number, labels = cv2.connectedComponents((size >= CHANGED).astype(np.uint8))
        mine = ownership.weights[:, t].astype(np.float32)
        owned = mine.sum(0)
        labelled = labels.ravel()
        whole = np.bincount(labelled, size.ravel(), number)
        part = np.bincount(labelled, (size * owned).ravel(), number)
        bodies = cv2.dilate(np.asarray(masks[:, t].any(0), np.uint8), near) > 0
        nobodys = (part > 0) & (part < MINORITY * whole)
        nobodys[labels[bodies]] = False
        nobodys[0] = False
        if nobodys.any():
            taken = cv2.dilate(nobodys[labels].astype(np.uint8), around) > 0
            taken &= (labels == 0) | nobodys[labels]
            taken &= ~bodies
            ownership.weights[:, t] = np.where(taken, 0, mine)
            ownership.unowned[t] += np.where(taken, owned, 0).astype(np.float16)
        if t % EVERY == 0:
            release(frames, masks, ownership.weights, ownership.unowned)

"""Parts of bodies that rough masks leave out: a racket beside its player, an arm.

The ownership network gives what is far from a mask and no effect to nobody, so that such a part
would be in no layer, nor in the plate. What nobody owns is taken for a part of a body where

- its colour is far from any that the plate has near by, so that it is neither the ground nor the
  ground beside, of a plate that is a pixel or two off,
- there is enough of it in one piece, which ends at edges that the frame has and the plate has not:
  the plate's own faults are edges of the plate,
- it is attached to a mask, near it and small beside it, and no known stranger is in it: somebody
  else who walks past is larger, or reaches farther.

Masks grow by such pieces, and are as rough there as they are elsewhere.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.blur import enlarged_mask, reduced
from omnimatte_cli.matte.box import boxes_around, cropped, disc

FINE = 480  # pixels of the mean side up to which every pixel is looked at; beyond, cells of several
# Lengths are shares of the picture's mean side, the root of its area.
REACH = 0.2  # how far a missed part is from its mask at most
GAP = 0.018  # between a mask and what is attached to it, what joins them being thin
LEAST = 0.015  # side of the least piece
LEAST_PIXELS = 12  # that are large, in the least piece of a small picture

NOBODYS = 0.5  # share of a pixel that no object owns
DENOISE = 0.7  # pixels; sigma of a blur of what is compared
BESIDE = 5  # pixels; side of the square in which the plate may have a colour
LARGE = (8.0, 28 / 255)  # noise deviations, and share of white, that it is off by
WHOLE = (4.0, 12 / 255)  # the same, of what belongs to a piece that has enough of the former
DENSE = 0.4  # share of a piece that is large
CLOSED = 0.008  # radius of the holes and notches in pieces that are closed
SMALL = 0.3  # times the mask's area that all of its missed parts are at most
ROUND = 1.0  # times the root of the mask's area that a missed part is from it at most
OWN_EDGE = 1.5  # times that the frame changes over a piece's border as the plate does
STRANGE = 0.1  # share of a piece in strangers' masks from which it is theirs


def missed_parts(
    frame: np.ndarray,
    plate: np.ndarray,
    owned: np.ndarray,
    masks: np.ndarray,
    noise: np.ndarray | float,
    side: float,
    strange: np.ndarray | None = None,
) -> np.ndarray:
    """What masks (N, H, W) bool leave out of their bodies, (N, H, W) bool.

    frame, plate: (H, W, 3) float32 in [0, 1]. owned: (H, W) in [0, 1], what any object owns. noise:
    (H, W) or a number, deviation of frame - plate where nothing happens, in [0, 1]. side: mean side
    of the picture that these are part of, in pixels. strange: (H, W) bool, strangers; None: there
    are none.
    """
    out = np.zeros(masks.shape, bool)
    known = np.asarray(masks.any(0))
    for box in boxes_around(known, round(REACH * side)):
        part = box.slices
        change = channel_max(cv2.absdiff(frame[part], plate[part]))
        free = (owned[part] < 1 - NOBODYS) & ~known[part]
        if np.count_nonzero(free & (change > LARGE[1])) < least_piece(side):
            continue
        less = max(1, int(side / FINE))
        here, below = reduced(frame[part], less), reduced(plate[part], less)
        mine = reduced_masks(masks[:, part[0], part[1]], less)
        near = cropped(noise, box)
        grain = reduced(near, less) if isinstance(near, np.ndarray) else near
        there = reduced(free.astype(np.float32), less) > 0.5
        somebody = None if strange is None else reduced_masks(strange[part][None], less)[0]
        found = pieces(here, below, there, mine, grain, side / less, somebody)
        for i in np.flatnonzero(found.any((1, 2))):
            out[i][part] |= enlarged_mask(found[i], known[part].shape) & ~known[part]
    return out


def reduced_masks(masks: np.ndarray, times: int) -> np.ndarray:
    """Masks (N, H, W) bool on a grid with cells of so many pixels a side, (N, h, w) bool."""
    if times == 1:
        return masks
    return np.stack([reduced(m.astype(np.float32), times) >= 0.5 for m in masks])


def pieces(
    frame: np.ndarray,
    plate: np.ndarray,
    free: np.ndarray,
    masks: np.ndarray,
    noise: np.ndarray | float,
    side: float,
    strange: np.ndarray | None = None,
) -> np.ndarray:
    """`missed_parts` of a part of a picture. free: (H, W) bool, what nobody owns."""
    out = np.zeros(masks.shape, bool)
    frame = cv2.GaussianBlur(frame, (0, 0), DENOISE)
    off = off_plate(frame, plate)
    large, whole = (free & (off > np.maximum(k * noise, least)) for k, least in (LARGE, WHOLE))
    shut = cv2.morphologyEx(whole.astype(np.uint8), cv2.MORPH_CLOSE, disc(CLOSED * side))
    count, names, facts, _ = cv2.connectedComponentsWithStats(np.asarray(shut & free, np.uint8))
    areas = facts[:, cv2.CC_STAT_AREA]
    much = np.bincount(names[large], minlength=count)
    candidates = np.flatnonzero((much >= least_piece(side)) & (much >= DENSE * areas))
    if not len(candidates):
        return out
    away = [cv2.distanceTransform((~m).view(np.uint8), cv2.DIST_L2, 3) for m in masks]
    room = np.count_nonzero(masks, axis=(1, 2))
    for k in candidates:
        piece = names == k
        # A mask that is empty is as far away as can be.
        gaps = [d[piece].min() if n else np.inf for d, n in zip(away, room, strict=True)]
        i = int(np.argmin(gaps))
        most = min(ROUND * np.sqrt(room[i]), REACH * side - 2)
        if gaps[i] > GAP * side or away[i][piece].max() > most:
            continue
        if strange is not None and np.count_nonzero(strange & piece) > STRANGE * areas[k]:
            continue
        if has_own_edge(piece, frame, plate, free):
            out[i] |= piece
    small = np.count_nonzero(out, axis=(1, 2)) <= SMALL * room
    return out & small[:, None, None]


def off_plate(frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """How far colours are from all that the plate has near by, (H, W) in [0, 1], largest channel.

    frame, plate: (H, W, 3).
    """
    square = np.ones((BESIDE, BESIDE), np.uint8)
    over = channel_max(frame - cv2.dilate(plate, square))
    under = channel_max(cv2.erode(plate, square) - frame)
    return np.maximum(np.maximum(over, under), 0)


def has_own_edge(piece: np.ndarray, frame: np.ndarray, plate: np.ndarray, free: np.ndarray) -> bool:
    """Whether a piece (H, W) bool ends where the frame has an edge and the plate has less of one.

    frame, plate: (H, W, 3). free: (H, W) bool, what nobody owns; beside the rest, where a piece
    ends for another reason, nothing is asked.
    """
    square = np.ones((3, 3), np.uint8)
    clear = cv2.erode(free.astype(np.uint8), square) > 0
    border = (cv2.morphologyEx(piece.astype(np.uint8), cv2.MORPH_GRADIENT, square) > 0) & clear
    own, below = (
        channel_max(cv2.morphologyEx(x, cv2.MORPH_GRADIENT, square))[border].sum()
        for x in (frame, plate)
    )
    return bool(own >= OWN_EDGE * below)


def least_piece(side: float) -> float:
    """Pixels of the least piece in a picture with this mean side."""
    return max((LEAST * side) ** 2, LEAST_PIXELS)

"""Stains: ground under an effect that hardly leaves, which passed for the plate when missed.

The ownership network misses some of a shadow or a mirror image in some frames. Where no other
frames show the ground free, their median has a piece of the effect in it, with an edge all around
that is no edge of the scene: where the effect covers what is beside it too, there is none to see.
A true edge stays to be seen in shade, in logarithms, and under a mirror image, in levels. One that
neither shows is the plate's own, and what it goes around never showed the plate.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte.box import disc
from omnimatte_cli.plate.seams import Pairs

WIDE = 7  # pixels: what is owned by narrower pieces are rims of things in parallax
APART = 2  # pixels between what is compared: edges of effects are soft
EDGE = 12.0  # levels: a smaller difference of the plate is no edge
GONE = 0.4  # share of it that is left where it is not to be seen
FEWEST = 3  # frames that must be asked,
MOSTLY = 0.5  # and share of them that must not show it
BLACK = 8.0  # levels added before logarithms
AROUND = 4.0  # pixels, a sigma: over which the colours of both sides are told
LEAST = 8  # pixels: fewer are no stain
# Share of its border that must be such an edge: shade that ends at a wall has one on that side.
CLOSED = 0.6
NEAR = 8  # pixels around it, where somebody's effect or body must be
ALWAYS = 0.8  # in this share of the frames: what is dark by itself is also seen alone


def stained(
    images: np.ndarray, seen: np.ndarray, free: np.ndarray, plate: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """Where a plate has stains, (h, w) bool.

    images: (K, h, w, 3) uint8, frames in the plate's coordinates. seen: (K, h, w) bool, where no
    body is. free: the same, and no effect. plate: (h, w, 3) uint8, the median of what is free, of
    `count` frames, (h, w).
    """
    known, square = count > 0, np.ones((WIDE, WIDE), np.uint8)
    taken = [cv2.morphologyEx((~x).view(np.uint8), cv2.MORPH_OPEN, square) > 0 for x in free]
    free = seen & ~np.stack(taken)
    found = np.zeros_like(known)
    edges = _false_edges(images, seen, free, plate, known)
    for wrong, right in (edges, edges[::-1]):
        for part in _enclosed(wrong, right, plate, known):
            if never_alone(part, seen, free):
                found |= part
    # Edges of effects are soft.
    return known & (cv2.dilate(found.view(np.uint8), np.ones((2 * APART + 1,) * 2)) > 0)


def _false_edges(
    images: np.ndarray, seen: np.ndarray, free: np.ndarray, plate: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of pixels with an edge of the plate between them that is not to be seen where the
    second is owned, and the first looks as the plate does: flat indices (P,) of each."""
    square = np.ones((2 * APART + 1,) * 2, np.uint8)
    near = cv2.dilate((seen & ~free).any(0).astype(np.uint8), square) > 0
    asked = known & near
    pairs = Pairs.where(lambda a, b: asked[a] & asked[b], APART, known.shape)
    flat = plate.reshape(-1, 3).astype(np.float32)
    edge = np.abs(flat[pairs.p] - flat[pairs.q]).mean(1)
    p, q = pairs.p[edge > EDGE], pairs.q[edge > EDGE]
    p, q = np.concatenate([p, q]), np.concatenate([q, p])
    edge = _apart(flat[p], flat[q])
    many, gone = np.zeros(len(p), np.int64), np.zeros(len(p), np.int64)
    for image, shown, clear in zip(images, seen, free, strict=True):
        shown, clear, colours = shown.ravel(), clear.ravel(), image.reshape(-1, 3)
        here = np.flatnonzero(shown[q] & ~clear[q] & shown[p])
        first, second = (colours[x[here]].astype(np.float32) for x in (p, q))
        same = (_apart(first, second) < GONE * edge[:, here]).all(0)
        same &= np.abs(first - flat[p[here]]).mean(1) < GONE * edge[0, here]
        many[here] += 1
        gone[here] += same
    false = (many >= FEWEST) & (gone >= MOSTLY * many)
    return p[false], q[false]


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far colours (P, 3) are apart, in levels and in logarithms, (2, P)."""
    ratio = np.log(a + BLACK) - np.log(b + BLACK)
    return np.stack([np.abs(x).mean(1) for x in (a - b, ratio)])


def _enclosed(
    wrong: np.ndarray, right: np.ndarray, plate: np.ndarray, known: np.ndarray
) -> list[np.ndarray]:
    """Pieces of a plate within edges whose inner and outer pixels are given, each (h, w) bool."""
    shape = known.shape
    sides = []
    for pixels in (wrong, right):
        sums, many = np.zeros((known.size, 3), np.float32), np.zeros(known.size, np.float32)
        np.add.at(sums, wrong, plate.reshape(-1, 3)[pixels].astype(np.float32))
        np.add.at(many, wrong, np.float32(1))
        weight = cv2.GaussianBlur(many.reshape(shape), (0, 0), AROUND)
        mean = cv2.GaussianBlur(sums.reshape(*shape, 3), (0, 0), AROUND)
        sides.append(np.abs(plate * weight[..., None] - mean).sum(2))
    like = known & (weight > 1e-3) & (sides[0] < sides[1])
    square = np.ones((3, 3), np.uint8)
    at_edge = cv2.dilate((many.reshape(shape) > 0).astype(np.uint8), square) > 0
    number, labels, stats, _ = cv2.connectedComponentsWithStats(like.astype(np.uint8))
    pieces = []
    for label in range(1, number):
        if stats[label, cv2.CC_STAT_AREA] < LEAST:
            continue
        piece = labels == label
        border = piece & (cv2.dilate((known & ~piece).astype(np.uint8), square) > 0)
        if at_edge[border].sum() >= CLOSED * max(border.sum(), 1):
            pieces.append(piece)
    return pieces


def never_alone(piece: np.ndarray, seen: np.ndarray, free: np.ndarray) -> bool:
    """Whether somebody's body or effect is near whenever a piece (h, w) bool is seen."""
    around = cv2.dilate(piece.astype(np.uint8), disc(NEAR)) > 0
    views = [clear for shown, clear in zip(seen, free, strict=True) if shown[piece].mean() >= 0.5]
    beside = sum((~clear[around]).sum() >= LEAST for clear in views)
    return beside >= ALWAYS * len(views)

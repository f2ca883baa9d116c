"""Copied patches joined in their gradients, so that neither their seams nor their light show.

Of all pictures, the one whose differences between neighbours are most like those at the sources,
and which meets what is around the hole (Perez et al. 2003). Where two patches meet, both say what
the difference is: a step between them is no gradient of either, and goes away.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import full_scale

ITERATIONS = 200  # at most, of conjugate gradients
TOLERANCE = 1e-4  # relative, at which they end
MISMATCH = 20.0  # levels: an edge by which the copy is off by more has hardly any say


def copied(
    image: np.ndarray, hole: np.ndarray, unknown: np.ndarray, sources: np.ndarray
) -> np.ndarray:
    """image (H, W, 3) uint8 or uint16 with the hole (H, W) bool copied from `sources`.

    unknown: (H, W) bool, the hole and whatever else is not to be looked at. sources: (H, W) int64,
    flat indices of known pixels, in the hole at least; -1 elsewhere.
    """
    from scipy import sparse  # where there is a hole to fill: a tenth of a second
    from scipy.sparse.linalg import cg

    top = full_scale(image.dtype)
    flat = image.reshape(-1, 3).astype(np.float64) * (255 / top)
    h, w = hole.shape
    known = ~unknown.ravel()
    number = np.full(h * w, -1)
    inside = np.flatnonzero(hole)
    number[inside] = np.arange(len(inside))
    source = sources.ravel()
    start = flat[source[inside]]
    thickness = 2 * cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3).max()
    hold = 1 / max(float(thickness), 4.0) ** 2  # colours are held over about the hole's thickness
    diagonal = np.full(len(inside), hold)
    target = hold * start
    rows, columns, values = [], [], []
    grid = np.arange(h * w).reshape(h, w)
    for p, q, step in (
        (grid[:, :-1].ravel(), grid[:, 1:].ravel(), 1),
        (grid[:-1].ravel(), grid[1:].ravel(), w),
    ):
        of_hole = number[p] >= 0, number[q] >= 0
        both = of_hole[0] & of_hole[1]
        rim = (of_hole[0] & known[q]) | (of_hole[1] & known[p])
        p, q = p[both | rim], q[both | rim]
        change, said = _changes(flat, known, source, p, q, step)
        a, b = number[p], number[q]
        weight = np.where(said, 1.0, 0.1)
        # An edge of what is known that the copy does not go on with would be drawn into the hole.
        there = np.where((a >= 0)[:, None], flat[q] - change, flat[p] + change)
        own = start[np.where(a >= 0, a, b)]
        miss = np.abs(there - own).max(1)
        at_rim = (a < 0) | (b < 0)
        weight = np.where(at_rim, weight * np.exp(-((miss / MISMATCH) ** 2)), weight)
        for mine, other, sign in ((a, b, -1.0), (b, a, 1.0)):
            here = mine >= 0
            np.add.at(diagonal, mine[here], weight[here])
            pull = sign * change
            pull = np.where((other < 0)[:, None], pull + flat[q if sign < 0 else p], pull)
            np.add.at(target, mine[here], weight[here, None] * pull[here])
        inner = (a >= 0) & (b >= 0)
        rows += [a[inner], b[inner]]
        columns += [b[inner], a[inner]]
        values += [-weight[inner]] * 2
    size = len(inside)
    rows += [np.arange(size)]
    columns += [np.arange(size)]
    matrix = sparse.csr_matrix(
        (np.concatenate([*values, diagonal]), (np.concatenate(rows), np.concatenate(columns))),
        shape=(size, size),
    )
    balance = sparse.diags(1 / diagonal)
    solved = [
        cg(matrix, target[:, c], x0=start[:, c], rtol=TOLERANCE, maxiter=ITERATIONS, M=balance)[0]
        for c in range(3)
    ]
    result = image.copy()
    levels = np.stack(solved, -1) * (top / 255)
    result.reshape(-1, 3)[inside] = np.clip(np.rint(levels), 0, top).astype(image.dtype)
    return result


def _changes(
    flat: np.ndarray,
    known: np.ndarray,
    source: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    step: int,
) -> tuple[np.ndarray, np.ndarray]:
    """What the sources say that pixel q differs from p: (P, 3), and where they say it, (P,) bool.

    The mean of what lies beside p's source and beside q's, as far as that is known.
    """
    total, count = np.zeros((len(p), 3)), np.zeros(len(p))
    for pixel, sign in ((p, 1), (q, -1)):
        at = source[pixel]
        beside = at + sign * step
        good = (at >= 0) & (beside >= 0) & (beside < len(flat))
        good[good] = known[beside[good]]
        total[good] += sign * (flat[beside[good]] - flat[at[good]])
        count += good
    return total / np.maximum(count, 1)[:, None], count > 0

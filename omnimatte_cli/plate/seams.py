"""Copied patches joined in their gradients, so that neither their seams nor their light show.

Of all pictures, the one whose differences between neighbours are most like those at the sources,
and which meets what is around the hole (Perez et al. 2003). Where two patches meet, both say what
the difference is: a step between them is no gradient of either, and goes away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import full_scale

ITERATIONS = 200  # at most, of conjugate gradients
TOLERANCE = 1e-4  # relative, at which they end
MISMATCH = 20.0  # levels: an edge by which the copy is off by more has hardly any say


@dataclass(frozen=True)
class Pairs:
    """Pairs of pixels, p before q, (P,) flat indices of a picture."""

    p: np.ndarray
    q: np.ndarray

    @classmethod
    def where(cls, wanted: Callable[..., np.ndarray], step: int, shape: tuple[int, ...]) -> Pairs:
        """Pairs `step` pixels apart, across and down. wanted: of an index of the first and of the
        second pixels of all pairs, which to take, bool."""
        grid = np.arange(shape[0] * shape[1]).reshape(shape)
        across = np.s_[:, :-step], np.s_[:, step:]
        down = np.s_[:-step], np.s_[step:]
        firsts, seconds = [], []
        for a, b in (across, down):
            chosen = wanted(a, b)
            firsts.append(grid[a][chosen])
            seconds.append(grid[b][chosen])
        return cls(np.concatenate(firsts), np.concatenate(seconds))

    def __len__(self) -> int:
        return len(self.p)

    def part(self, start: int, many: int) -> Pairs:
        return Pairs(self.p[start : start + many], self.q[start : start + many])


def copied(
    image: np.ndarray, hole: np.ndarray, unknown: np.ndarray, sources: np.ndarray
) -> np.ndarray:
    """image (H, W, 3) uint8 or uint16 with the hole (H, W) bool copied from `sources`.

    unknown: (H, W) bool, the hole and whatever else is not to be looked at. sources: (H, W) int64,
    flat indices of known pixels, in the hole at least; -1 elsewhere.
    """
    top = full_scale(image.dtype)
    flat = image.reshape(-1, 3).astype(np.float64) * (255 / top)
    h, w = hole.shape
    known = ~unknown.ravel()
    inside = hole.ravel()
    source = sources.ravel()
    start = flat.copy()
    start[inside] = flat[source[inside]]
    thickness = 2 * cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3).max()
    hold = 1 / max(float(thickness), 4.0) ** 2  # colours are held over about the hole's thickness
    grid = np.arange(h * w).reshape(h, w)
    ends, changes, weights = [], [], []
    for p, q, step in (
        (grid[:, :-1].ravel(), grid[:, 1:].ravel(), 1),
        (grid[:-1].ravel(), grid[1:].ravel(), w),
    ):
        both = inside[p] & inside[q]
        rim = (inside[p] & known[q]) | (inside[q] & known[p])
        p, q = p[both | rim], q[both | rim]
        change, said = _changes(flat, known, source, p, q, step)
        weight = np.where(said, 1.0, 0.1)
        # An edge of what is known that the copy does not go on with would be drawn into the hole.
        there = np.where(inside[p][:, None], flat[q] - change, flat[p] + change)
        own = start[np.where(inside[p], p, q)]
        miss = np.abs(there - own).max(1)
        at_rim = ~(inside[p] & inside[q])
        ends.append((p, q))
        changes.append(change)
        weights.append(np.where(at_rim, weight * np.exp(-((miss / MISMATCH) ** 2)), weight))
    p, q = (np.concatenate(x) for x in zip(*ends, strict=True))
    change, weight = np.concatenate(changes), np.concatenate(weights)
    solved = with_differences(start.reshape(h, w, 3), hole, p, q, change, weight, hold)
    levels = solved[hole] * (top / 255)
    result = image.copy()
    result[hole] = np.clip(np.rint(levels), 0, top).astype(image.dtype)
    return result


def with_differences(
    values: np.ndarray,
    hole: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    change: np.ndarray,
    weight: np.ndarray,
    hold: float = 0.0,
) -> np.ndarray:
    """values (H, W, 3) of which those in the hole (H, W) bool have given differences, as nearly as
    least squares can, float64. Outside they stay.

    p, q: (P,) flat indices of pairs of pixels, one at least of each in the hole. change: (P, 3),
    what q has more than p. weight: (P,), positive. hold: weight by which a pixel of the hole keeps
    the value that it has; those values are where the search starts, too.
    """
    from scipy import sparse  # where there is a hole to fill: a tenth of a second
    from scipy.sparse.linalg import cg

    flat = values.reshape(-1, 3).astype(np.float64)
    inside = np.flatnonzero(hole)
    number = np.full(hole.size, -1)
    number[inside] = np.arange(len(inside))
    start = flat[inside]
    diagonal, target = np.full(len(inside), hold), hold * start
    a, b = number[p], number[q]
    for mine, other, end, sign in ((a, b, q, -1.0), (b, a, p, 1.0)):
        here = mine >= 0
        np.add.at(diagonal, mine[here], weight[here])
        pull = sign * change + np.where((other < 0)[:, None], flat[end], 0)
        np.add.at(target, mine[here], weight[here, None] * pull[here])
    inner = (a >= 0) & (b >= 0)
    size = np.arange(len(inside))
    off = -weight[inner]
    entries = np.concatenate([off, off, diagonal])
    rows, columns = (
        np.concatenate([*x, size]) for x in ((a[inner], b[inner]), (b[inner], a[inner]))
    )
    matrix = sparse.csr_matrix((entries, (rows, columns)), shape=(len(size), len(size)))
    balance = sparse.diags(1 / diagonal)
    for c in range(3):
        flat[inside, c], _ = cg(
            matrix, target[:, c], x0=start[:, c], rtol=TOLERANCE, maxiter=ITERATIONS, M=balance
        )
    return flat.reshape(values.shape)


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

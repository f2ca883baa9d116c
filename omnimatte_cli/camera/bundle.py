"""All homographies at once: a sparse bundle adjustment over pairs of frames, against drift.

Unknown is one homography H_t (frame to canvas) a frame. A point p of frame a that frame b has at q
leaves the residual r = proj(H_b^-1 H_a p) - q in pixels of b. Steps are taken in each frame's own
coordinates, H_t <- H_t (I + D_t) with D_t[2, 2] = 0: then with M = H_b^-1 H_a and y = M p,

    dy = M D_a p - D_b y

to first order, and no derivative of an inverse is needed. Gauss-Newton with Levenberg's damping on
the sparse normal equations (8 x 8 blocks), robust by reweighting (Cauchy).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from omnimatte_cli.camera.model import normalised
from omnimatte_cli.camera.tracking import Pair
from omnimatte_cli.scratch import EVERY, release

if TYPE_CHECKING:
    from scipy import sparse

ROBUST = 0.7  # pixels, scale of Cauchy's weights
ITERATIONS = 15
# The matrix is symmetric and positive definite: pivots stay on the diagonal. Pivoting by size would
# begin with the frame that all others are paired with, and fill the matrix: 6 GB for 10 000 frames.
DEFINITE: dict[str, Any] = {
    "permc_spec": "MMD_AT_PLUS_A",
    "diag_pivot_thresh": 0.0,
    "options": {"SymmetricMode": True},
}
ENOUGH = 1e-4  # relative gain of the cost below which it has converged


def adjust(homographies: np.ndarray, pairs: Sequence[Pair], fixed: int, width: int) -> np.ndarray:
    """Refined homographies (T, 3, 3), frame to canvas in pixels; that of frame `fixed` stays.

    width: of the frames in pixels, which scales coordinates to about 1. Frames in no pair stay, and
    of frames that no chain of pairs ties to the fixed one the first.
    """
    # A tenth of a second, which runs before a static camera do without.
    from scipy import sparse
    from scipy.sparse.linalg import splu

    to_unit = np.diag([2 / width, 2 / width, 1.0])
    to_unit[:2, 2] = -1
    to_pixels = np.linalg.inv(to_unit)
    unit = to_unit @ homographies @ to_pixels
    held = _held(len(unit), pairs, fixed)
    scale = width / 2  # pixels per unit
    damping = 1e-6
    cost = _cost(unit, pairs, to_unit, scale)
    for _ in range(ITERATIONS):
        matrix, gradient = _normal_equations(unit, pairs, to_unit, scale, held)
        damped = matrix + sparse.diags(damping * (matrix.diagonal() + 1e-9))
        step = splu(damped.tocsc(), **DEFINITE).solve(-gradient).reshape(-1, 8)
        moved = normalised(unit @ (np.eye(3) + _as_matrix(step)))
        after = _cost(moved, pairs, to_unit, scale)
        if after < cost:
            gain, unit, cost, damping = 1 - after / cost, moved, after, damping / 10
            if gain < ENOUGH:
                break
        else:
            damping *= 30
            if damping > 1e3:
                break
    # The gauge: the fixed frame's step is zero but for the damping's rounding.
    return normalised(to_pixels @ unit @ to_unit)


def residuals(homographies: np.ndarray, pair: Pair) -> np.ndarray:
    """(P, 2): where the homographies put a pair's points in its second frame, less where they are.

    In pixels of the second frame.
    """
    motion = np.linalg.solve(homographies[pair.second], homographies[pair.first])
    mapped = pair.start @ motion[:, :2].T + motion[:, 2]
    return mapped[:, :2] / mapped[:, 2:] - pair.end


def jacobian(motion: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a pair's projected points by the steps D of its two frames: twice (P, 2, 8).

    motion: (3, 3), H_b^-1 H_a. start: (P, 3) homogeneous points of frame a. The eight numbers of a
    step are D's rows without the last entry.
    """
    y = start @ motion.T
    x, w = y[:, :2], y[:, 2:]
    # Derivative of proj at y: (P, 2, 3).
    proj = np.zeros((len(y), 2, 3))
    proj[:, 0, 0] = proj[:, 1, 1] = 1 / w[:, 0]
    proj[:, :, 2] = -x / w**2
    a = (proj @ motion)[:, :, :, None] * start[:, None, None, :]
    b = -proj[:, :, :, None] * y[:, None, None, :]
    return a.reshape(len(y), 2, 9)[..., :8], b.reshape(len(y), 2, 9)[..., :8]


def _points(
    pairs: Sequence[Pair], to_unit: np.ndarray
) -> Iterator[tuple[Pair, tuple[np.ndarray, np.ndarray]]]:
    """Each pair with its points, twice (P, 3), of unit coordinates: made when they are needed."""
    for number, pair in enumerate(pairs):
        if number % EVERY == 0:
            release(pair.start, pair.end)
        yield pair, (_unit(pair.start, to_unit), _unit(pair.end, to_unit))


def _unit(points: np.ndarray, to_unit: np.ndarray) -> np.ndarray:
    homogeneous = np.ones((len(points), 3))
    homogeneous[:, :2] = points
    return homogeneous @ to_unit.T


def _held(count: int, pairs: Sequence[Pair], fixed: int) -> np.ndarray:
    """(T,) bool: one frame of each set that pairs tie together, the fixed one where it belongs."""
    first = np.arange(count)  # of each frame's set
    first[fixed] = -1
    for pair in pairs:
        a, b = sorted((first[pair.first], first[pair.second]))
        if a != b:
            first[first == b] = a
    held = first == np.arange(count)
    held[fixed] = True
    return held


def _as_matrix(step: np.ndarray) -> np.ndarray:
    """(T, 8) steps to (T, 3, 3) with the last entry 0."""
    return np.c_[step, np.zeros(len(step))].reshape(-1, 3, 3)


def _misses(unit: np.ndarray, pair: Pair, points: tuple[np.ndarray, np.ndarray]) -> tuple:
    motion = np.linalg.solve(unit[pair.second], unit[pair.first])
    y = points[0] @ motion.T
    return motion, y[:, :2] / y[:, 2:] - points[1][:, :2]


def _cost(unit: np.ndarray, pairs: Sequence[Pair], to_unit: np.ndarray, scale: float) -> float:
    total = 0.0
    for pair, where in _points(pairs, to_unit):
        _, miss = _misses(unit, pair, where)
        total += np.log1p((miss**2).sum(1) * (scale / ROBUST) ** 2).sum()
    return total


def _normal_equations(
    unit: np.ndarray, pairs: Sequence[Pair], to_unit: np.ndarray, scale: float, held: np.ndarray
) -> tuple[sparse.csc_matrix, np.ndarray]:
    """J^T W J (8T x 8T, sparse) and J^T W r (8T,), with Cauchy's weights.

    held: (T,) bool, frames that stay.
    """
    from scipy import sparse

    count = len(unit)
    gradient = np.zeros((count, 8))
    diagonal = np.zeros((count, 8, 8))
    blocks, rows, columns = [], [], []
    for pair, where in _points(pairs, to_unit):
        motion, miss = _misses(unit, pair, where)
        weight = 1 / (1 + (miss**2).sum(1) * (scale / ROBUST) ** 2)
        a, b = jacobian(motion, where[0])
        root = np.sqrt(weight)[:, None, None] * (scale / ROBUST)
        a, b = (a * root).reshape(-1, 8), (b * root).reshape(-1, 8)
        r = (miss[:, :, None] * root).reshape(-1)
        i, j = pair.first, pair.second
        gradient[i] += a.T @ r
        gradient[j] += b.T @ r
        diagonal[i] += a.T @ a
        diagonal[j] += b.T @ b
        cross = a.T @ b
        blocks += [cross, cross.T]
        rows += [i, j]
        columns += [j, i]
    # What is held is so by a weight far above all others.
    hold = 1e6 * max(1.0, float(diagonal[:, range(8), range(8)].max()))
    diagonal[held] += hold * np.eye(8)
    gradient[held] = 0
    rows += range(count)
    columns += range(count)
    data = np.concatenate([np.array(blocks).reshape(-1, 8, 8), diagonal])
    inner = np.arange(8)
    row = (np.array(rows)[:, None, None] * 8 + inner[:, None] + 0 * inner).ravel()
    column = (np.array(columns)[:, None, None] * 8 + 0 * inner[:, None] + inner).ravel()
    shape = (8 * count, 8 * count)
    matrix = sparse.coo_matrix((data.ravel(), (row, column)), shape=shape).tocsc()
    return matrix, gradient.reshape(-1)

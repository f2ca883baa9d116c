"""Means over Gaussian windows of several sizes at once, summed on a reduced grid."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte.blur import enlarged, reduced
from omnimatte_cli.matte.compositing import grey

GRID = 0.75  # least sigma of the finest window, in cells of the grid that windows are summed on


def grid_step(sigma: float) -> int:
    """Pixels of a cell of the grid that windows are summed on. sigma: pixels, of the finest."""
    return max(1, int(sigma / GRID))


class Windows:
    """Weighted means over Gaussian windows of several sizes, on a reduced grid.

    weight: (H, W) float32, what a pixel counts. sigmas: in pixels, coarse to fine. The grid is as
    coarse as the finest window allows.
    """

    def __init__(self, weight: np.ndarray, sigmas: list[float]) -> None:
        self.shape = weight.shape
        self.step = grid_step(sigmas[-1])
        self.weight, self.weights = weight, grey(weight)
        self.sigmas = [max(s / self.step, 0.5) for s in sigmas]
        self.small = self.reduced(weight)
        self.total = [np.maximum(w, 1e-4) for w in self._blurred(self.small)]
        self.totals = [grey(t) for t in self.total]
        self.plain: dict[int, np.ndarray] = {}  # the weight's blur by one sigma alone

    def reduced(self, x: np.ndarray) -> np.ndarray:
        """(H, W, ...) averaged onto the grid, by area."""
        return reduced(x, self.step)

    def enlarged(self, x: np.ndarray) -> np.ndarray:
        """(h, w, ...) of the grid at full size, (H, W, ...)."""
        return enlarged(x, self.shape)

    def _blurred(self, x: np.ndarray, coarsest: int = 0) -> list[np.ndarray]:
        out, before = [], 0.0
        for sigma in self.sigmas[coarsest:][::-1]:
            x = cv2.GaussianBlur(x, (0, 0), max((sigma**2 - before**2) ** 0.5, 0.3))
            out.append(x)
            before = sigma
        return out[::-1]

    def means(self, x: np.ndarray) -> list[np.ndarray]:
        """Means of x (H, W) or (H, W, 3) float32 in the windows of every size, on the grid."""
        sums = self._blurred(self._weighted(x))
        return [s / t for s, t in zip(sums, self._totals(x), strict=True)]

    def mean(self, x: np.ndarray, level: int) -> np.ndarray:
        """The same in the windows of one size."""
        return self._blurred(self._weighted(x), level)[0] / self._totals(x)[level]

    def _weighted(self, x: np.ndarray) -> np.ndarray:
        return self.reduced(x * (self.weight if x.ndim == 2 else self.weights))

    def _totals(self, x: np.ndarray) -> list[np.ndarray]:
        return self.total if x.ndim == 2 else self.totals

    def smooth(self, x: np.ndarray, level: int) -> np.ndarray:
        """x (h, w) of the grid, blurred by one of the sigmas and weighted as `means` are."""
        sigma = self.sigmas[level]
        if level not in self.plain:
            self.plain[level] = np.maximum(cv2.GaussianBlur(self.small, (0, 0), sigma), 1e-4)
        return cv2.GaussianBlur(x * self.small, (0, 0), sigma) / self.plain[level]

    def count(self, level: int) -> np.ndarray:
        """How many pixels a window has, (h, w)."""
        area = 4 * np.pi * (self.sigmas[level] * self.step) ** 2
        return np.maximum(area * self.total[level], 1.0)

"""Wide blurs at the price of narrow ones, and values carried into holes."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte.compositing import repeated

GRID = 2.5  # cells of a grid that a sigma of a blur on it has at least
FARTHER = (4.0, 1e-3)  # times a sigma over which else is averaged, with this weight


def wide_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur of x (H, W) or (H, W, C) float32, on a grid that is fine enough for it."""
    return enlarged(coarse_blur(x, sigma), x.shape[:2])


def mean_around(x: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Weighted mean of x (H, W, C) float32 around each pixel, from farther where nothing is near.

    weight: (H, W) float32 in [0, 1]. sigma: pixels.
    """
    times, share = FARTHER
    layers = cv2.merge([*(cv2.multiply(c, weight) for c in cv2.split(x)), weight])
    sums = wide_blur(layers, sigma)
    sums += np.float32(share) * wide_blur(layers, times * sigma)
    *values, total = cv2.split(sums)
    total = np.maximum(total, 1e-6)
    return cv2.merge([np.divide(c, total) for c in values]).reshape(x.shape)


def coarse_blur(x: np.ndarray, sigma: float, cells: float = GRID) -> np.ndarray:
    """The same as the grid has it, (h, w) or (h, w, C). cells: that sigma has at least."""
    small = reduced(x, max(1, int(sigma / cells)))
    across, down = small.shape[1] / x.shape[1], small.shape[0] / x.shape[0]
    return cv2.GaussianBlur(small, (0, 0), sigmaX=sigma * across, sigmaY=sigma * down)


def reduced(x: np.ndarray, times: int) -> np.ndarray:
    """x (H, W) or (H, W, C) averaged by area onto a grid with cells of so many pixels a side."""
    if times == 1:
        return x
    h, w = x.shape[:2]
    size = (max(1, w // times), max(1, h // times))
    return cv2.resize(x, size, interpolation=cv2.INTER_AREA)


def enlarged(x: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """What a grid has, at full size (H, W)."""
    if x.shape[:2] == size:
        return x
    return cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR)


def enlarged_mask(there: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A mask (h, w) bool by nearest neighbour at full size, (H, W) bool."""
    large = cv2.resize(there.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
    return np.asarray(large.view(bool))


def carried(values: np.ndarray, weight: np.ndarray, belief: float = 1.0) -> np.ndarray:
    """Values (H, W) or (H, W, C) float32, C up to 4, smoothly where a weight in [0, 1] is below 1.

    weight: (H, W). belief: times its weight by which a value counts before means over larger areas,
    which fill in for what has little: pull-push, Gortler et al., "The Lumigraph", SIGGRAPH 1996.
    """
    channels = 1 if values.ndim == 2 else values.shape[2]
    levels = [(values * repeated(weight, channels), weight)]
    while min(levels[-1][1].shape) > 1:
        v, k = levels[-1]
        size = (max(1, (k.shape[1] + 1) // 2), max(1, (k.shape[0] + 1) // 2))
        value = cv2.resize(v, size, interpolation=cv2.INTER_AREA)
        levels.append((value, cv2.resize(k, size, interpolation=cv2.INTER_AREA)))
        if levels[-1][1].min() > 0:
            break
    v, k = levels[-1]
    full: np.ndarray = v / repeated(np.maximum(k, 1e-6), channels)
    for v, k in reversed(levels[:-1]):
        full = cv2.resize(full, k.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = repeated(np.minimum(belief * k, 1), channels)
        full = v / repeated(np.maximum(k, 1e-6), channels) * share + full * (1 - share)
    return full

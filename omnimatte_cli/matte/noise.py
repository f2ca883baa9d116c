"""How much the residual varies where nothing happens."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import frame_or_static
from omnimatte_cli.ranks import ranked

NOISE_FRAMES = 48  # frames that the noise is measured in
RESTLESS_QUANTILE = 0.3  # over time, of a pixel's residual
RESTLESS_BLUR = 2.0  # sigma in working pixels; few frames make a rough quantile
RESTLESS_LIMIT = 5.0  # times the general noise; a pixel can be no more restless than that
NOISE_FLOOR = 1 / 255
LOWER_HALF_MEAN = 0.322  # of |x| for normal noise, in deviations
LOWER_QUANTILE = 0.385  # the RESTLESS_QUANTILE of |x| for normal noise, in deviations


def residual_noise(
    frames: np.ndarray,
    plates: np.ndarray,
    masks: np.ndarray,
    variation: np.ndarray | None = None,
) -> np.ndarray:
    """How much the residual varies where nothing happens, (h, w) float32 in [0, 1].

    frames: (T, h, w, 3) uint8; plates: (1 or T, h, w, 3) uint8; masks: (N, T, h, w) bool.
    variation: (h, w) float32 in [0, 1], how much the plate's samples vary at each pixel (its
    deviation over time), where it is known; the noise is nowhere below it, up to the limit.
    Everywhere at least the picture's general noise, the deviation of the smaller half of the
    residual outside the masks; more where a pixel itself is restless (leaves, water), by a low
    quantile over time, which effects that come and go do not reach.
    """
    picks = range(0, len(frames), max(1, len(frames) // NOISE_FRAMES))
    residual = np.stack([cv2.absdiff(frames[t], frame_or_static(plates, t)) for t in picks])
    covered = np.any(masks[:, picks.start :: picks.step], axis=0)
    general: float = NOISE_FLOOR
    levels = np.bincount(residual[~covered].reshape(-1), minlength=256)
    if levels.any():
        half = max(1, int(levels.sum()) // 2)
        quiet = np.repeat(np.arange(256, dtype=np.float32), levels)[:half]
        general = max(float(quiet.mean()) / LOWER_HALF_MEAN / 255, NOISE_FLOOR)
    seen = ~covered.all(0)
    local = np.zeros(seen.shape, np.float32)
    low = seen_quantile(residual[:, seen], ~covered[:, seen], RESTLESS_QUANTILE)
    local[seen] = low.mean(-1) / LOWER_QUANTILE / 255
    if variation is not None:
        assert variation.shape == local.shape, (variation.shape, local.shape)
        local = np.maximum(local, variation)
    smooth = cv2.GaussianBlur(local, (0, 0), RESTLESS_BLUR)
    return np.clip(smooth, general, RESTLESS_LIMIT * general).astype(np.float32)


def seen_quantile(x: np.ndarray, seen: np.ndarray, q: float) -> np.ndarray:
    """What `np.quantile(x, q, axis=0)` gives of what is seen of each column, (P, C) float32.

    x: (T, P, C) uint8. seen: (T, P) bool, once at least in each column.
    """
    count = np.count_nonzero(seen, axis=0)
    place = np.repeat(q * (count - 1), x.shape[2])
    low = np.floor(place).astype(np.intp)
    # The largest value sorts to the end, where it does not count.
    flat = np.where(seen[..., None], x, np.uint8(255)).reshape(len(x), -1)
    below, above = (ranked(flat, i).astype(np.float32) for i in (low, np.ceil(place).astype(int)))
    return (below + (above - below) * (place - low).astype(np.float32)).reshape(x.shape[1:])

"""How much the residual varies where nothing happens."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import frame_or_static

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
    residual = np.stack(
        [np.abs(frames[t].astype(np.int16) - frame_or_static(plates, t)) for t in picks]
    ).astype(np.float32)
    covered = masks[:, picks.start :: picks.step].any(0)
    quiet = np.sort(residual[~covered], axis=None)
    general: float = NOISE_FLOOR
    if quiet.size:
        smaller = float(quiet[: max(1, quiet.size // 2)].mean())
        general = max(smaller / LOWER_HALF_MEAN / 255, NOISE_FLOOR)
    residual[covered] = np.nan
    seen = ~covered.all(0)
    local = np.zeros(seen.shape, np.float32)
    low = seen_quantile(residual[:, seen], RESTLESS_QUANTILE)
    local[seen] = low.mean(-1) / LOWER_QUANTILE / 255
    if variation is not None:
        assert variation.shape == local.shape, (variation.shape, local.shape)
        local = np.maximum(local, variation)
    smooth = cv2.GaussianBlur(local, (0, 0), RESTLESS_BLUR)
    return np.clip(smooth, general, RESTLESS_LIMIT * general).astype(np.float32)


def seen_quantile(x: np.ndarray, q: float) -> np.ndarray:
    """What `np.nanquantile(x, q, axis=0)` gives, without its Python call for every column.

    x: (T, ...) float32; no column is NaN alone.
    """
    x = np.sort(x, axis=0)  # NaN comes last
    place = q * (np.count_nonzero(~np.isnan(x), axis=0)[None] - 1)
    low = np.floor(place).astype(np.intp)
    below, above = (np.take_along_axis(x, i, 0)[0] for i in (low, np.ceil(place).astype(np.intp)))
    return below + (above - below) * (place - low)[0].astype(np.float32)

"""From the network's two small clips to two layers at full size that blend to the input."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import to_float

GAIN_RADIUS = 2  # small pixels to each side that a detail's gain is found over
GAIN_NOISE = 0.02  # deviation of the blend below which it says nothing about a layer
MAX_GAIN = 2.0  # of a detail: it is half as strong in the blend as in a layer of share 1/2
PASSES = 3  # in which both layers are brought into [0, 1] without changing their blend


def detail_gain(small: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """How much of the blend's detail each place of a layer has, (h, w, 3).

    The slope of the layer over the blend in a small window, as in a guided filter: where an edge of
    the blend is the layer's own it is high, where it is the other layer's it is near 0.
    """
    side = (2 * GAIN_RADIUS + 1,) * 2

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.blur(x, side, borderType=cv2.BORDER_REFLECT)

    ms, ml = mean(small), mean(layer)
    covariance = mean(small * layer) - ms * ml
    variance = mean(small * small) - ms * ms
    return np.clip(covariance / (variance + GAIN_NOISE**2), 0, MAX_GAIN)


def enlarged(frame: np.ndarray, small: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """A layer (h, w, 3) at the size of the frame (H, W, 3), with its share of the frame's detail.

    small: the frame at the layer's size. All float32 in [0, 1].
    """
    if frame.shape == small.shape:
        return layer
    size = frame.shape[1::-1]

    def up(x: np.ndarray) -> np.ndarray:
        return cv2.resize(x, size, interpolation=cv2.INTER_CUBIC)

    gain = cv2.resize(detail_gain(small, layer), size, interpolation=cv2.INTER_LINEAR)
    return up(layer) + gain * (frame - up(small))


def recomposed(
    frame: np.ndarray, first: np.ndarray, second: np.ndarray, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """The layers with what their blend lacks of the frame, spread equally, both in [0, 1]."""
    for _ in range(PASSES):
        rest = frame - ((1 - alpha) * first + alpha * second)
        first, second = np.clip(first + rest, 0, 1), np.clip(second + rest, 0, 1)
    # What one could not take because it ended at black or white, the other does.
    second = np.clip((frame - (1 - alpha) * first) / alpha, 0, 1)
    first = np.clip((frame - alpha * second) / (1 - alpha), 0, 1)
    return first, second


@dataclass(frozen=True)
class Unmixed:
    """What was found. small: (T, h, w, 3) uint8, the clip. layers: (2, T, h, w, 3) float16 in
    [0, 1], at that size. alpha: (T,), the second's share."""

    small: np.ndarray
    layers: np.ndarray
    alpha: np.ndarray

    def at(self, t: int, frame: np.ndarray) -> np.ndarray:
        """Both layers of frame t (H, W, 3) uint8 as (2, H, W, 4) float32 straight alpha.

        The first is opaque and the second has the same alpha everywhere: over each other they give
        the frame.
        """
        full, small = to_float(frame), to_float(self.small[t])
        pair = [enlarged(full, small, layer[t].astype(np.float32)) for layer in self.layers]
        alpha = float(self.alpha[t])
        pair = list(recomposed(full, pair[0], pair[1], alpha))
        shares = [np.full((*full.shape[:2], 1), a, np.float32) for a in (1.0, alpha)]
        layers = [np.concatenate(x, 2) for x in zip(pair, shares, strict=True)]
        return np.stack(layers).astype(np.float32)

"""The sparsest layer that makes a given change exactly, pixel by pixel.

Over a picture C, a layer that changes it by d needs an alpha of at least the maximum over the
channels of d / (1 - C) where d > 0 and of -d / C where d < 0; its colour is C + d / alpha.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.ownership import smoothstep

ROOM_FLOOR = 1e-6
SURE_CHANGE = (1.0, 3.0)  # change in noise deviations that needs no alpha .. its whole alpha
SURE_ROOM = 0.06  # least room that a change is divided by, where black and white are noisy too


def min_alpha(change: np.ndarray, below: np.ndarray) -> np.ndarray:
    """The smallest alpha with which some colour in [0, 1] makes `change` over `below`.

    change, below: (H, W, 3) float32. Returns (H, W) float32; above 1 only if below + change is not
    a colour.
    """
    room = np.where(change > 0, 1 - below, below)
    np.maximum(room, ROOM_FLOOR, out=room)
    return channel_max(np.divide(np.abs(change), room, out=room))


def sure_min_alpha(change: np.ndarray, below: np.ndarray, noise: np.ndarray | float) -> np.ndarray:
    """`min_alpha` of what cannot be noise, (H, W) float32 in [0, 1].

    noise: (H, W) or a number, deviation of `change` where nothing happens. A change within it needs
    no alpha, and a channel that is nearly black does not multiply it.
    """
    size = np.abs(change)
    grain = cv2.merge([noise] * 3) if isinstance(noise, np.ndarray) else noise
    size *= smoothstep(size / grain, *SURE_CHANGE)
    room = np.where(change > 0, 1 - below, below)
    size /= np.maximum(room, SURE_ROOM, out=room)
    return np.minimum(channel_max(size), 1)

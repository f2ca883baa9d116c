"""Movers that nobody masked are left out of the plate where other frames show the place without."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from omnimatte_cli.arrays import Size

ENOUGH = 0.15  # share of the samples that must show a place without anybody,
FEWEST = 4  # and samples at least: with fewer, who stands there is part of the scene
GROWTH = 0.012  # of the picture's mean side, by which a mover is grown: its rim and its motion


def without_passing(
    strangers: np.ndarray | None,
    hidden: Callable[[int], np.ndarray],
    samples: Sequence[int],
    size: Size,
) -> Callable[[int], np.ndarray] | None:
    """What movers without a mask hide of frame t, (H, W) bool of `size`; None: there are none.

    strangers: (S, T, h, w) bool at working size, or None. hidden: what else hides the scene in
    frame t, (h, w) bool: masks, and what objects own. samples: the frames that the plate is made
    of. A mover hides a place only if enough samples show it without movers and without `hidden`.
    """
    if strangers is None or not len(strangers):
        return None
    h, w = strangers.shape[2:]
    reach = max(1, round(GROWTH * (h * w) ** 0.5))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1,) * 2)

    def moving(t: int) -> np.ndarray:
        return cv2.dilate(np.asarray(strangers[:, t].any(0)).view(np.uint8), kernel).view(bool)

    shown = np.zeros((h, w), np.int32)
    for t in samples:
        shown += ~(moving(t) | hidden(t))
    enough = shown >= max(FEWEST, ENOUGH * len(samples))

    def passing(t: int) -> np.ndarray:
        there = (moving(t) & enough).view(np.uint8)
        return cv2.resize(there, size[::-1], interpolation=cv2.INTER_NEAREST).view(bool)

    return passing

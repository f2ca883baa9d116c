"""Trimasks: what a removal model shall keep, what it shall remove, and what may change.

Stage 1 of "Generative Omnimatte" (Lee et al., CVPR 2025): white keeps an object, black removes one
with its effects, grey is everything else, where effects may have to go. Where two objects overlap,
removal wins.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import Size

KEEP, REST, REMOVE = 255, 127, 0  # levels, as in the authors' files
COVERED = 240  # of 255: a resized mask is on where its area average is at least this
GROWTH = 11 / 672  # of the width: side of the square that masks are grown by for removal


def trimask(masks: np.ndarray, keep: int | None) -> np.ndarray:
    """The trimask of one frame.

    masks: (N, H, W) bool. keep: the object that stays, for its solo video; None for the clean
    background, from which all objects go. Returns (H, W) uint8 of KEEP, REST and REMOVE.
    """
    out = np.full(masks.shape[1:], REST, np.uint8)
    if keep is not None:
        out[masks[keep]] = KEEP
    for i, mask in enumerate(masks):
        if i != keep:
            out[mask] = REMOVE
    return out


def shrink_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask (H, W) bool at another size: on where nearly the whole area of a pixel is covered."""
    if mask.shape == size:
        return mask
    levels = mask.astype(np.float32) * 255
    return cv2.resize(levels, size[::-1], interpolation=cv2.INTER_AREA) >= COVERED


def grow_mask(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask (H, W) bool grown by a square of `side` pixels; 0 and 1 leave it as it is."""
    if side <= 1:
        return mask
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def default_growth(width: int) -> int:
    """Side in pixels of the square that masks are grown by in a video of this width; odd."""
    return round(width * GROWTH) // 2 * 2 + 1

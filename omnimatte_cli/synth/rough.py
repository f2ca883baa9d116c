"""Masks as people and segmenters give them: too large, too small, filled, wavering, coarse."""

from __future__ import annotations

import math

import cv2
import numpy as np

from omnimatte_cli.matte.box import disc
from omnimatte_cli.synth.clips import fill, outline
from omnimatte_cli.synth.figures import wavering

RIGHT = 0.4  # share of the masks that are the truth
OFF = 0.03  # of the figure's height, that a mask is off by on average, and its bounds in pixels
OFF_PIXELS = (1.5, 9.0)
CARELESS = 0.2  # share of the masks that are three times as far off
EVERYWHERE = 0.45  # share of the masks whose whole outline is off; of the rest, parts of it are
OPENED, GROWN, SHRUNK, WAVERING = 0.25, 0.35, 0.3, 0.6  # shares of them to which that happens
CLOSED, PIECES, SHADED, COARSE = 0.4, 0.5, 0.3, 0.2  # shares of all
ADDED = 0.75  # share of the wrong pieces that are too much, not too little
BLURRED = 0.3  # share of the masks that are soft


def rough_mask(
    rng: np.random.Generator, alpha: np.ndarray, height: float, light: np.ndarray
) -> np.ndarray:
    """A mask of alpha (S, S) in [0, 1], (S, S) float32 in [0, 1].

    height: pixels, of the figure. light: (S, S), of the ground; masks may take in dark shadows.
    """
    mask: np.ndarray = (alpha > 0.5).astype(np.uint8)
    if rng.random() < RIGHT:
        return mask.astype(np.float32)
    off = float(np.clip(OFF * height, *OFF_PIXELS)) * math.exp(rng.normal(-0.4, 0.7))
    if rng.random() < CARELESS:
        off *= 3
    if rng.random() < CLOSED:  # gaps between legs
        radius = max(1, round(min(off * rng.uniform(0.5, 2.5), 28)))
        wide = np.pad(mask, 32)
        mask = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, disc(radius))[32:-32, 32:-32]
    if rng.random() < EVERYWHERE:
        mask = off_everywhere(rng, mask, off)
    if rng.random() < PIECES:
        mask = with_wrong_pieces(rng, mask, off)
    if rng.random() < SHADED:
        dark = (light < rng.uniform(0.4, 0.75)).astype(np.uint8)
        mask = np.maximum(mask, np.minimum(dark, cv2.dilate(mask, disc(min(4 * off, 30)))))
    if rng.random() < COARSE:
        side, cell = len(mask), int(rng.integers(2, 7))
        small = cv2.resize(mask, (side // cell, side // cell), interpolation=cv2.INTER_AREA)
        how = cv2.INTER_NEAREST if rng.random() < 0.5 else cv2.INTER_LINEAR
        mask = cv2.resize(small, (side, side), interpolation=how)
    soft: np.ndarray = mask.astype(np.float32)
    if rng.random() < BLURRED:
        soft = cv2.GaussianBlur(soft, (0, 0), rng.uniform(0.5, 1.5))
    return np.clip(soft, 0, 1)


def off_everywhere(rng: np.random.Generator, mask: np.ndarray, off: float) -> np.ndarray:
    """A mask (S, S) uint8 too large, too small, wavering, without thin parts."""
    if rng.random() < OPENED:
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, disc(max(1, round(0.6 * off))))
    radius, luck = round(min(off * rng.uniform(0.3, 1.3), 20)), rng.random()
    if luck < GROWN:
        mask = cv2.dilate(mask, disc(radius))
    elif luck < GROWN + SHRUNK:
        mask = cv2.erode(mask, disc(min(radius, 6)))
    if rng.random() < WAVERING:
        mask = wavering(rng, mask, off * rng.uniform(0.2, 0.9), rng.uniform(4, 40))
    return mask


def with_wrong_pieces(rng: np.random.Generator, mask: np.ndarray, off: float) -> np.ndarray:
    """A mask (S, S) uint8 with bulges and bites at its outline, some `off` pixels large."""
    rows, columns = np.nonzero(cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, disc(1)))
    for _ in range(int(rng.integers(1, 4)) if len(rows) else 0):
        k = int(rng.integers(len(rows)))
        place = np.array([columns[k], rows[k]], float)
        fill(mask, outline(rng, place, off * rng.uniform(1, 3.5)), rng.random() < ADDED)
    return mask

"""Grounds that move by themselves: water, leaves. Behind objects near frames count, toned.

Where an object hides the sea, samples from long before and after meet in hard edges. So where the
frames next to t differ from each other, what lies behind its objects comes from the few nearest
samples, brought smoothly to the colours around. Elsewhere all samples count: parallax and the grain
of small frames pass for restlessness, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, eight_bits, full_scale
from omnimatte_cli.matte.blur import coarse_blur, enlarged, wide_blur
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.plate.align import REFERENCE_WIDTH
from omnimatte_cli.ranks import columns, masked_ranks

NEAREST = 6  # samples whose spread tells what is restless
FEW = 5  # samples that count where all is restless
CALM, RESTLESS = 0.8, 2.0  # levels of half the interquartile range above grain: none, all of it
GRAIN = 20  # percentile of that range over the frame which is taken for grain
AREA = 8.0  # pixels, at REFERENCE_WIDTH, over which restlessness is blurred
TONE = 14.0  # pixels, over which colours around an object are carried in
EFFECT = 70.0  # levels: what differs by more is an effect, not tone
SMALL = 0.02  # share of restlessness below which nothing is done


@dataclass(frozen=True)
class Samples:
    """Aligned neighbours of one frame, the nearest in time first.

    images: (K, H, W, 3) uint8 or uint16, the largest value where not shown; shown: (K, H, W) bool.
    """

    images: np.ndarray
    shown: np.ndarray


def restlessness(samples: Samples) -> np.ndarray:
    """How much each pixel of small samples (K, h, w) uint8 moves by itself, (h, w) in [0, 1].

    Only the nearest samples are to be given: a shadow that passes slowly differs in the far ones.
    """
    count = samples.shown.sum(0)
    h, w = count.shape
    _, spread = masked_ranks(*columns(samples.images, samples.shown))
    levels = channel_max(spread.reshape(h, w, 3))
    known = (count >= 3).astype(np.float32)
    sigma = AREA * w / REFERENCE_WIDTH
    stacked = np.dstack([levels * known, known])
    blurred = cv2.GaussianBlur(stacked, (0, 0), sigma)
    # Where nothing is known, behind objects, it is as around them.
    wide = wide_blur(stacked, 4 * sigma)
    near = blurred[..., 1] > 0.2
    value = np.where(near, blurred[..., 0], wide[..., 0])
    weight = np.where(near, blurred[..., 1], wide[..., 1])
    levels = value / np.maximum(weight, 1e-3)
    levels -= np.percentile(levels, GRAIN)
    return np.clip((levels - CALM) / (RESTLESS - CALM), 0, 1).astype(np.float32)


def settle(samples: Samples, frame: np.ndarray, hidden: np.ndarray, small: tuple[int, int]) -> None:
    """Make samples fit for a median behind objects, if the ground is restless; changed in place.

    frame: (H, W, 3), the frame that they are aligned to; hidden: (H, W) bool, its objects.
    """
    if not hidden.any():
        return
    nearest = _reduced(samples, small, slice(NEAREST))
    restless = restlessness(nearest)
    if restless.mean() < SMALL:
        return
    h, w = hidden.shape
    full = cv2.resize(restless, (w, h), interpolation=cv2.INTER_LINEAR)
    few = (full > 0.05) & hidden
    if not few.any():
        return
    others = _reduced(samples, small, slice(NEAREST, None))
    _tone(samples, frame, hidden, restless, (nearest, others))
    allowed = np.where(few, np.rint(FEW + (1 - full) * 2 * FEW), 255).astype(np.uint8)
    taken = np.zeros((h, w), np.uint8)
    blank = np.full_like(frame, full_scale(frame.dtype))
    for image, shown in zip(samples.images, samples.shown, strict=True):
        shown &= taken < allowed
        taken += shown
        cv2.copyTo(blank, (~shown).view(np.uint8), image)


def _tone(
    samples: Samples,
    frame: np.ndarray,
    hidden: np.ndarray,
    restless: np.ndarray,
    smaller: Sequence[Samples],
) -> None:
    """Shift samples behind objects by the smooth difference that they have around them.

    smaller: the same samples at the size of `restless`, in parts.
    """
    h, w = hidden.shape
    size = restless.shape[::-1]
    here = eight_bits(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
    covered = cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
    sigma = TONE * size[0] / REFERENCE_WIDTH
    around = bounding_box(hidden)
    assert around is not None
    box = around.slices
    inside = hidden[box]
    low = [x for part in smaller for x in part.images]
    seen = [x for part in smaller for x in part.shown]
    for image, shown, values, known in zip(samples.images, samples.shown, low, seen, strict=True):
        part = shown[box] & inside
        if not part.any():
            continue
        apart = cv2.split(cv2.subtract(here, values, dtype=cv2.CV_32F))
        largest = reduce(np.maximum, (np.abs(c) for c in apart))
        weight = np.exp(-((largest / EFFECT) ** 2)) * (known & ~covered)
        stacked = cv2.merge([*(c * weight for c in apart), weight])
        *sums, total = cv2.split(_carried(stacked, sigma))
        floor, top = np.add(total, np.float32(1e-5)), full_scale(image.dtype)
        shift = cv2.merge([c / floor * restless * np.float32(top / 255) for c in sums])
        shift = cv2.resize(shift, (w, h), interpolation=cv2.INTER_LINEAR)[box]
        toned = cv2.add(shift, image[box], dtype=cv2.CV_32F)
        np.clip(np.rint(toned, out=toned), 0, top - 1, out=toned)
        cv2.copyTo(toned.astype(image.dtype), part.view(np.uint8), image[box])


def _carried(x: np.ndarray, sigma: float) -> np.ndarray:
    """x (h, w, 4) blurred by sigma, and the more widely the deeper inside what has no weight."""
    total: np.ndarray | None = None
    for scale, share in ((8, 0.002), (3, 0.05), (1, 1.0)):  # each on the grid that it needs
        part = share * coarse_blur(x, scale * sigma)
        total = part if total is None else part + enlarged(total, part.shape[:2])
    assert total is not None
    return enlarged(total, x.shape[:2])


def _reduced(samples: Samples, small: tuple[int, int], which: slice) -> Samples:
    """Some samples at a smaller size (h, w), uint8; shown where all of a pixel is."""
    size = small[::-1]
    images = np.zeros((len(samples.images[which]), *small, 3), np.uint8)
    shown = np.zeros(images.shape[:3], bool)
    for k, (image, there) in enumerate(
        zip(samples.images[which], samples.shown[which], strict=True)
    ):
        images[k] = eight_bits(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
        share = cv2.resize(there.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        shown[k] = share > 0.999
    return Samples(images, shown)

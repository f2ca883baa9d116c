"""What objects leave behind: a wake, footprints, dust. The plate shows the scene before them.

An effect is nobody's once its object is far, so that where a boat passed early, most frames that
are free of owners show its wake, and their median keeps it. Where a place looked otherwise before
anyone was near it than it does afterwards, what was there before counts.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, eight_bits
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.median import Coverage
from omnimatte_cli.ranks import columns, masked_ranks

WIDTH = 160  # pixels at which is looked for what changed
FEWEST = 8  # samples from before that are enough,
LEAST = 0.25  # and as many for each one from afterwards
CHANGED = 12.0  # levels, by which the two must differ at least,
CERTAIN = 4.0  # and times the deviation that such a difference has by chance
DEVIATION = 1.86  # times half the interquartile range / sqrt(n): of a median of normal noise
SPECK = 6  # pixels: fewer together are no trace


def traces(samples: FrameSamples, coverage: Coverage) -> np.ndarray:
    """Which places look otherwise after objects were there than before, (H, W) bool.

    samples: of a camera that stands still. coverage: what hides the plate in each of them, objects
    and their effects.
    """
    height, width = samples.size
    nothing = np.zeros(samples.size, bool)
    if coverage.hidden is None:
        return nothing
    scale = min(1.0, WIDTH / width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    frames, hidden = [], []
    for t, bits in zip(samples.indices, coverage.hidden, strict=True):
        small = cv2.resize(samples.frame(t), size[::-1], interpolation=cv2.INTER_AREA)
        frames.append(eight_bits(small))
        covers = np.unpackbits(bits, axis=1, count=width)
        share = cv2.resize(covers * np.float32(1), size[::-1], interpolation=cv2.INTER_AREA)
        hidden.append(share > 0)
    line, covered = np.stack(frames), np.stack(hidden)
    touched = np.logical_or.accumulate(covered)
    again = np.logical_or.accumulate(covered[::-1])[::-1]
    (first, noise, many), (last, other, more) = (_median(line, ~x) for x in (touched, again))
    enough = (many >= FEWEST) & (many >= LEAST * more) & (more >= FEWEST)
    apart = channel_max(np.abs(first - last))
    change = enough & (apart > np.maximum(CHANGED, CERTAIN * np.hypot(noise, other)))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(change.astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= SPECK
    large[0] = False
    if not large.any():
        return nothing
    return cv2.resize(large[labels].astype(np.float32), (width, height)) > 0.5


def _median(frames: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The median of the frames (S, h, w, 3) that show each pixel, (h, w, 3) float32; the deviation
    that it has, (h, w) levels; and how many frames show it, (h, w)."""
    h, w = shown.shape[1:]
    count = shown.sum(0)
    median, spread = masked_ranks(*columns(frames, shown))
    deviation = DEVIATION * channel_max(spread.reshape(h, w, 3)) / np.sqrt(np.maximum(count, 1))
    return median.reshape(h, w, 3).astype(np.float32), deviation, count

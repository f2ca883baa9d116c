"""Scene cuts: frames that have nothing in common with the one before."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SIZE = (36, 64)  # (h, w) at which frames are compared
BINS = 12  # of brightness and each opponent colour
HISTOGRAM_JUMP = 0.35  # share of the pixels whose colour is not in the frame before
PLACE_JUMP = 18.0  # mean grey levels by which the same place differs
STANDS_OUT = 3.0  # by how much a cut differs more than the frames around it
NEIGHBOURS = 6  # frames on either side that say what is usual
NAMED = 5  # cuts that are named in the note


def find_cuts(frames: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Numbers of the frames with which a new scene begins, from frames (H, W, 3) uint8 RGB.

    A cut changes both what colours there are and what is where, far more than the frames around it
    change: fast motion changes the second, a flash passes within a frame or two.
    """
    if len(frames) < 2:
        return ()
    small = [cv2.resize(f, SIZE[::-1], interpolation=cv2.INTER_AREA) for f in frames]
    histograms = [_histogram(f) for f in small]
    colours, places = np.zeros(len(small)), np.zeros(len(small))
    for t in range(1, len(small)):
        colours[t] = _unlike(histograms[t - 1], histograms[t])
        places[t] = _apart(small[t - 1], small[t])
    cuts: list[int] = []
    for t in range(1, len(small)):
        if colours[t] < HISTOGRAM_JUMP or places[t] < PLACE_JUMP:
            continue
        near = np.r_[places[max(1, t - NEIGHBOURS) : t], places[t + 1 : t + 1 + NEIGHBOURS]]
        usual = float(np.median(near)) if near.size else 0.0
        if places[t] < STANDS_OUT * max(usual, 1.0):
            continue
        # A flash: two frames later everything is as it was.
        after = min(t + 2, len(small) - 1)
        if after > t and _apart(small[t - 1], small[after]) < places[t] / 3:
            continue
        if cuts and t - cuts[-1] < 3 and _apart(small[cuts[-1] - 1], small[t]) < places[t] / 3:
            continue
        cuts.append(t)
    return tuple(cuts)


def cuts_note(cuts: Sequence[int]) -> str:
    """A sentence about scene cuts."""
    which = ", ".join(map(str, cuts[:NAMED])) + (", ..." if len(cuts) > NAMED else "")
    count = "A new scene begins" if len(cuts) == 1 else f"{len(cuts)} new scenes begin"
    return (
        f"{count} at frame {which}: one plate cannot serve several scenes; "
        "use --split-cuts, or choose a part with --frames."
    )


def _histogram(frame: np.ndarray) -> np.ndarray:
    """Shares of brightness, red-green and blue-yellow, (3, BINS)."""
    r, g, b = (frame[..., i].astype(np.float32) for i in range(3))
    planes = ((r + g + b) / 3, (r - g) / 2 + 128, (b - (r + g) / 2) / 2 + 128)
    rows = [np.histogram(p, BINS, (0, 256))[0] for p in planes]
    return np.stack(rows) / frame[..., 0].size


def _unlike(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the pixels that change bins, smoothed by a bin, at most over the three planes."""
    kernel = np.array([0.25, 0.5, 0.25])
    smooth = [[np.convolve(row, kernel, "same") for row in h] for h in (a, b)]
    return float(max(0.5 * np.abs(x - y).sum() for x, y in zip(*smooth, strict=True)))


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(cv2.absdiff(a, b).mean())

"""What stands still stays still: ownership over time.

The ownership network answers every frame a little differently. Where a frame looks like its
neighbours, their answers are as good as its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from omnimatte_cli.matte.ownership import Ownership

MEMORY = 1.0  # seconds after which an answer counts 1/e where nothing changes
ALIKE = 5.0  # levels of change from frame to frame at which the answers before count 1/e
DRIFT = 8.0  # levels by which a frame may differ from the mean of those that its answer is from


def average_static(ownership: Ownership, frames: np.ndarray, fps: float) -> Ownership:
    """Average ownership over the frames before and after for as long as a pixel does not change.

    ownership: weights (N, T, h, w) and unowned (T, h, w) or (1, 1, 1) float16. frames: (T, h, w, 3)
    uint8 at the same size. fps: frames a second. An exponential average in each direction of time,
    which a change of the pixel's neighbourhood ends; with the result it takes 6 (N + 1) + 2 bytes a
    working pixel and frame. Where something moves the answers stay
    as they are.
    """
    length = len(frames)
    if length < 2:
        return ownership
    fade = np.float32(np.exp(-1 / (fps * MEMORY)))
    answers = _answers(ownership, length)
    past = np.empty_like(answers)
    counts = np.empty((length, *frames.shape[1:3]), np.float16)
    for t, mean, weight in _running(answers, frames, range(length), fade):
        past[t], counts[t] = mean, weight
    out = np.empty_like(answers)
    for t, mean, weight in _running(answers, frames, range(length - 1, -1, -1), fade):
        # Both directions hold the frame's own answer: it counts once.
        before = counts[t].astype(np.float32)
        own = answers[t].astype(np.float32)
        total = past[t] * before + mean * weight - own
        out[t] = total / np.maximum(before + weight - 1, 1e-6)
    weights = np.ascontiguousarray(np.moveaxis(out[:, :-1], 0, 1))
    return Ownership(weights, out[:, -1] if ownership.unowned.size > 1 else ownership.unowned)


def _answers(ownership: Ownership, length: int) -> np.ndarray:
    """Weights and unowned as one array (T, N + 1, h, w) float16."""
    n, _, h, w = ownership.weights.shape
    out = np.empty((length, n + 1, h, w), np.float16)
    out[:, :-1] = np.moveaxis(ownership.weights, 1, 0)
    out[:, -1] = ownership.unowned
    return out


def _running(
    answers: np.ndarray, frames: np.ndarray, order: range, fade: np.float32
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each frame in order, with the mean answer (N + 1, h, w) of it and those before, and their
    weight (h, w), at least 1."""
    mean: np.ndarray | None = None
    weight = look = np.zeros(0, np.float32)
    before = -1
    for t in order:
        own = answers[t].astype(np.float32)
        picture = frames[t].astype(np.float32)
        if mean is None:
            mean, weight, look = own, np.ones(own.shape[1:], np.float32), picture
        else:
            alike = _alike(picture, frames[before].astype(np.float32), ALIKE)
            alike *= _alike(picture, look, DRIFT)
            kept = fade * weight * alike
            weight = kept + 1
            share = kept / weight
            mean = own + share * (mean - own)
            look = picture + share[..., None] * (look - picture)
        before = t
        yield t, mean, weight


def _alike(picture: np.ndarray, other: np.ndarray, scale: float) -> np.ndarray:
    """How little each place differs, (h, w) in [0, 1]: the least over its nearest neighbours."""
    change = np.maximum.reduce(cv2.split(np.abs(cv2.blur(picture - other, (3, 3)))))
    return cv2.erode(np.exp(-np.square(change / scale)), np.ones((3, 3), np.uint8))

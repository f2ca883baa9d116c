"""What stands still stays still: masks and ownership over time.

The ownership network answers every frame a little differently, and masks wobble and blink. Where a
frame looks like its neighbours, their answers are as good as its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from omnimatte_cli.camera.flow import backward_flow, warp_mask
from omnimatte_cli.matte.ownership import Ownership

MEMORY = 1.0  # seconds after which an answer counts 1/e where nothing changes
ALIKE = 5.0  # levels of change from frame to frame at which the answers before count 1/e
DRIFT = 8.0  # levels by which a frame may differ from the mean of those that its answer is from
MASK_REACH = 2  # frames to each side whose masks are asked


def average_static(ownership: Ownership, frames: np.ndarray, fps: float) -> Ownership:
    """Average ownership over the frames before and after for as long as a pixel does not change.

    ownership: claims (N, T, h, w) and nobody (T, h, w) or (1, 1, 1) float16. frames: (T, h, w, 3)
    uint8 at the same size. fps: frames a second. An exponential average in each direction of time,
    which a change of the pixel's neighbourhood ends; besides the result it holds one direction's
    averages, 2 (N + 1) + 2 bytes a working pixel and frame. Where something moves the answers stay
    as they are.
    """
    length = len(frames)
    if length < 2:
        return ownership
    fade = np.float32(np.exp(-1 / (fps * MEMORY)))
    answers = _answers(ownership, length)
    past = np.empty_like(answers)
    weights = np.empty((length, *frames.shape[1:3]), np.float16)
    for t, mean, weight in _running(answers, frames, range(length), fade):
        past[t], weights[t] = mean, weight
    out = np.empty_like(answers)
    for t, mean, weight in _running(answers, frames, range(length - 1, -1, -1), fade):
        # Both directions hold the frame's own answer: it counts once.
        before = weights[t].astype(np.float32)
        own = answers[t].astype(np.float32)
        total = past[t] * before + mean * weight - own
        out[t] = total / np.maximum(before + weight - 1, 1e-6)
    claims = np.ascontiguousarray(np.moveaxis(out[:, :-1], 0, 1))
    return Ownership(claims, out[:, -1] if ownership.nobody.size > 1 else ownership.nobody)


def _answers(ownership: Ownership, length: int) -> np.ndarray:
    """Claims and nobody as one array (T, N + 1, h, w) float16."""
    n, _, h, w = ownership.claims.shape
    out = np.empty((length, n + 1, h, w), np.float16)
    out[:, :-1] = np.moveaxis(ownership.claims, 1, 0)
    out[:, -1] = ownership.nobody
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


def agreed_masks(frames: Iterator[np.ndarray], masks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Masks that follow neither a wobble nor a blink: (N, H, W) float32 for each frame.

    frames: (H, W, 3) uint8; masks: (N, H, W) bool. What most masks of the frames around say,
    brought along the flow; between 0 and 1 where they disagree. Five frames and masks are held.
    """
    window: list[tuple[np.ndarray, np.ndarray]] = []
    place = 0
    for pair in zip(frames, masks, strict=True):
        window.append(pair)
        if len(window) > 2 * MASK_REACH + 1:
            window.pop(0)
            place -= 1
        if len(window) > place + MASK_REACH:
            yield agreed_mask(window, place)
            place += 1
    while place < len(window):
        yield agreed_mask(window, place)
        place += 1


def agreed_mask(window: list[tuple[np.ndarray, np.ndarray]], place: int) -> np.ndarray:
    """What the masks of a few frames say together of the one at `place`, (N, H, W) float32.

    0 or 1 where all, or all but one of at least four, agree; the share of them elsewhere.
    """
    frame, mask = window[place]
    if not any(m.any() for _, m in window):
        return mask.astype(np.float32)
    votes = mask.astype(np.float32)
    for k, (other, there) in enumerate(window):
        if k != place:
            flow = backward_flow(frame, other)
            votes += np.stack([warp_mask(m, flow) for m in there])
    count = len(window)
    slack = 1 if count >= 4 else 0
    return np.clip((votes - slack) / max(count - 2 * slack, 1), 0, 1)

"""The same change keeps its owner: opinions of neighbouring frames meet along the change's motion.

Each frame is answered for almost on its own, so a mirror image far from its object can have one
owner in one frame and another in the next. The residual's optical flow says where a change was in
the frame before; there the opinions of both frames are about the same thing and are pooled.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from omnimatte_cli.ownership import Ownership
from omnimatte_cli.progress import Progress

MEMORY = 0.5  # seconds after which an opinion counts 1/e
ALIKE = 12.0  # levels by which a change may differ along its way before it counts 1/e
SMOOTH = 1.0  # sigma in working pixels of the residual's blur, against noise
GAIN = 4  # of the residual in the picture that the flow is taken of: effects are faint
LEAST = 1e-3  # share added to every object's: no opinion is infinitely sure
SAY = 0.02  # weight of an opinion where nobody owns anything; 1 where all is owned
SMALLEST = 16  # pixels of a side that the optical flow needs


def steady(
    ownership: Ownership, frames: np.ndarray, plates: np.ndarray, fps: float, progress: Progress
) -> Ownership:
    """Pool the split of each change between the objects over neighbouring frames.

    ownership: claims (N, T, h, w), which are not changed. frames: (T, h, w, 3) uint8; plates:
    (1 or T, h, w, 3) uint8; h and w at least 16; fps: frames a second. How much anyone owns of a
    pixel, the sum of the claims and `nobody`, stays as it is, and so does an object that claims
    nothing in a frame. Frames in which other objects claim something do not share their opinions:
    an object out of sight says nothing about whose a change was while it was there.

    The pool is logarithmic, the shares' weighted geometric mean (Genest and Zidek, "Combining
    Probability Distributions", 1986); an opinion weighs as much as is owned, and less by its age.
    """
    count, length, height, width = ownership.claims.shape
    if count < 2 or length < 2:
        return ownership
    assert min(height, width) >= SMALLEST, (height, width)
    progress.stage("steadying", 2 * length)
    fade = float(np.exp(-1 / (fps * MEMORY)))
    past = np.empty((length, count + 1, height, width), np.float16)  # enough for logarithms
    for t, known in gathered(ownership, frames, plates, range(length), fade):
        past[t] = known - opinion(ownership, t)  # which the way back counts, too
        progress.step(t + 1)
    claims = np.empty_like(ownership.claims)
    for t, known in gathered(ownership, frames, plates, range(length - 1, -1, -1), fade):
        total = known + past[t]
        share = np.exp(total[:-1] / total[-1])
        own = ownership.claims[:, t].astype(np.float32)
        share *= own.any((1, 2), keepdims=True)
        claims[:, t] = share * (own.sum(0) / np.maximum(share.sum(0), 1e-9))
        progress.step(2 * length - t)
    return Ownership(claims, ownership.nobody)


def residual(frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """What a frame adds to the plate, in levels, blurred: (h, w, 3) float32."""
    return cv2.GaussianBlur(frame.astype(np.float32) - plate, (0, 0), SMOOTH)


def opinion(ownership: Ownership, t: int) -> np.ndarray:
    """The logarithms of a frame's shares times their weight, then the weight: (N + 1, h, w)."""
    claims = ownership.claims[:, t].astype(np.float32)
    owned = claims.sum(0)
    everyone = owned + ownership.nobody[t if len(ownership.nobody) > 1 else 0]
    weight = owned / np.maximum(everyone, 1e-6) + SAY
    least = np.maximum(LEAST * everyone, 1e-6)
    share = (claims + least) / (owned + len(claims) * least)
    return np.concatenate([np.log(share) * weight, weight[None]])


def gathered(
    ownership: Ownership, frames: np.ndarray, plates: np.ndarray, order: range, fade: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Each frame's opinion with those of the frames before it in `order`, brought to its place."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    claiming = np.asarray(ownership.claims.any((2, 3)))
    last: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None
    for t in order:
        change = residual(frames[t], plates[t if len(plates) > 1 else 0])
        picture = np.clip(GAIN * np.abs(change).mean(2), 0, 255).astype(np.uint8)
        known = opinion(ownership, t)
        if last is not None and np.array_equal(claiming[:, t], claiming[:, last[0]]):
            _, before, pictured, there = last
            way = flow.calc(picture, pictured, np.zeros((*picture.shape, 2), np.float32))
            x, y = columns + way[..., 0], rows + way[..., 1]
            differs = np.abs(moved(before, x, y) - change).max(2)
            trust = fade * np.exp(-np.square(differs / ALIKE))
            known += trust * np.moveaxis(moved(np.moveaxis(there, 0, -1), x, y), -1, 0)
        yield t, known
        last = t, change, picture, known


def moved(x: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A picture (h, w, C) float32 sampled at (columns, rows) of its own, both (h, w) float32."""
    return cv2.remap(x, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

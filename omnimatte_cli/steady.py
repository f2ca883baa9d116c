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
LEAST = 1e-3  # claim added to every object's: no opinion is infinitely sure
SAY = 0.02  # weight of an opinion where nobody owns anything, on the claims' scale


def steady(
    ownership: Ownership, frames: np.ndarray, plates: np.ndarray, fps: float, progress: Progress
) -> Ownership:
    """Pool the split of each change between the objects over neighbouring frames.

    ownership: claims (N, T, h, w), which are not changed. frames: (T, h, w, 3) uint8; plates:
    (1 or T, h, w, 3) uint8; fps: frames a second. How much anyone owns of a pixel, the sum of the
    claims and `nobody`, stays as it is, and so does an object that claims nothing in a frame.

    The pool is logarithmic, the shares' weighted geometric mean (Genest and Zidek, "Combining
    Probability Distributions", 1986): a frame that is sure outweighs many that are not.
    """
    count, length = ownership.claims.shape[:2]
    if count < 2 or length < 2:
        return ownership
    progress.stage("steadying", 2 * length)
    fade = float(np.exp(-1 / (fps * MEMORY)))
    # Half precision holds logarithms well enough, and this is the one large array here.
    past = np.empty((length, count + 1, *ownership.claims.shape[2:]), np.float16)
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
    weight = claims.sum(0) + SAY
    share = (claims + LEAST) / (claims + LEAST).sum(0)
    return np.concatenate([np.log(share) * weight, weight[None]])


def gathered(
    ownership: Ownership, frames: np.ndarray, plates: np.ndarray, order: range, fade: float
) -> Iterator[tuple[int, np.ndarray]]:
    """Each frame's opinion with those of the frames before it in `order`, brought to its place."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for t in order:
        change = residual(frames[t], plates[t % len(plates)])
        picture = np.clip(GAIN * np.abs(change).mean(2), 0, 255).astype(np.uint8)
        known = opinion(ownership, t)
        if last is not None:
            before, pictured, there = last
            way = flow.calc(picture, pictured, np.zeros((*picture.shape, 2), np.float32))
            x, y = columns + way[..., 0], rows + way[..., 1]
            differs = np.abs(moved(before, x, y) - change).max(2)
            trust = fade * np.exp(-np.square(differs / ALIKE))
            known += trust * np.moveaxis(moved(np.moveaxis(there, 0, -1), x, y), -1, 0)
        yield t, known
        last = change, picture, known


def moved(x: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A picture (h, w, C) float32 sampled at (columns, rows) of its own, both (h, w) float32."""
    return cv2.remap(x, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

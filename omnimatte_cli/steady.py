"""The same change keeps its owner: opinions of neighbouring frames meet along the change's motion.

Each frame is answered for almost on its own, so a mirror image far from its object can have one
owner in one frame and another in the next. The residual's optical flow says where a change was in
the frame before; there the opinions of both frames are about the same thing and are pooled.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from omnimatte_cli.flow import follow, search
from omnimatte_cli.ownership import Ownership
from omnimatte_cli.progress import Progress

MEMORY = 0.5  # seconds after which an opinion counts 1/e
ALIKE = 12.0  # levels by which a change may differ along its way before it counts 1/e
SMOOTH = 1.0  # sigma in working pixels of the residual's blur, against noise
GAIN = 4  # of the residual in the picture that the flow is taken of: effects are faint
LEAST = 1e-3  # share added to every object's: no opinion is infinitely sure
SAY = 0.02  # weight of an opinion where nobody owns anything; 1 where all is owned


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
    progress.stage("steadying", 2 * length)
    fade = float(np.exp(-1 / (fps * MEMORY)))
    past = np.empty((length, count + 1, height, width), np.float16)  # enough for logarithms
    for t, _, before in gathered(ownership, frames, plates, range(length), fade):
        past[t] = before
        progress.step(t + 1)
    claims = np.empty_like(ownership.claims)
    for t, own, after in gathered(ownership, frames, plates, range(length)[::-1], fade):
        total = past[t] + own + after
        share = np.exp(total[:-1] / total[-1])
        claimed = ownership.claims[:, t].astype(np.float32)
        share *= claimed.any((1, 2), keepdims=True)
        claims[:, t] = share * (claimed.sum(0) / np.maximum(share.sum(0), 1e-9))
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
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each frame, its opinion, and those of the frames before it in `order`, brought to its place.

    Both opinions are as from `opinion`; where nothing is brought all is 0.
    """
    claiming = np.asarray(ownership.claims.any((2, 3)))
    last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for t in order:
        change = residual(frames[t], plates[t if len(plates) > 1 else 0])
        picture = np.clip(GAIN * np.abs(change).mean(2), 0, 255).astype(np.uint8)
        own = opinion(ownership, t)
        brought = np.zeros_like(own)
        if last is not None and np.array_equal(claiming[:, t], claiming[:, t - order.step]):
            change_there, picture_there, known_there = last
            way = search(picture, picture_there)
            differs = np.abs(follow(change_there, way) - change).max(2)
            trust = fade * np.exp(-np.square(differs / ALIKE))
            known = follow(np.moveaxis(known_there, 0, -1), way)
            brought = trust * np.moveaxis(known, -1, 0)
        yield t, own, brought
        last = change, picture, own + brought

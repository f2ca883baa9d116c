"""The same change keeps its owner.

Each frame is answered for almost on its own, so a mirror image far from its object can have one
owner in one frame and another in the next. The residual's optical flow says where a change was in
the frame before; there the opinions of both frames are about the same thing and are pooled.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import cv2
import numpy as np

from omnimatte_cli.arrays import frame_or_static
from omnimatte_cli.camera.flow import dense_flow, warp, warp_error
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.progress import Progress
from omnimatte_cli.scratch import EVERY, release, scratch_array

MEMORY = 0.5  # seconds after which an opinion counts 1/e
ALIKE = 12.0  # levels by which a change may differ along its way before it counts 1/e
SMOOTH = 1.0  # sigma in working pixels of the residual's blur, against noise
GAIN = 4.0  # of faint residuals in the picture that the flow is taken of; strong ones saturate
LEAST = 1e-3  # share added to every object's: no opinion is infinitely sure
SAY = 0.02  # weight of an opinion where nobody owns anything; 1 where all is owned


def pool_over_time(
    ownership: Ownership,
    frames: np.ndarray,
    plates: np.ndarray,
    fps: float,
    progress: Progress,
) -> Ownership:
    """Pool the split of each change between the objects over neighbouring frames.

    ownership: claims (N, T, h, w), which are not changed. frames: (T, h, w, 3) uint8; plates:
    (1 or T, h, w, 3) uint8; h and w at least 16; fps: frames a second.
    How much anyone owns of a pixel, the sum of the claims and `nobody`, stays as it is, and so does
    an object that claims nothing in a frame. Frames in which other objects claim something do not
    share their opinions: an object out of sight says nothing about whose a change was while it was
    there.

    The pool is logarithmic, the shares' weighted geometric mean (Genest and Zidek, "Combining
    Probability Distributions", 1986); an opinion weighs as much as is owned, and less by its age.
    """
    count, length, height, width = ownership.weights.shape
    if count < 2 or length < 2:
        return ownership
    progress.stage("steadying", length)
    # Halves are enough for logarithms.
    shape = (length, count + 1, height, width)
    past, future = (scratch_array(shape, np.float16) for _ in range(2))
    claiming = np.asarray(ownership.weights.any((2, 3)))

    stopped = Event()

    def gather(into: np.ndarray, order: range) -> None:
        for t, found in gathered(ownership, claiming, frames, plates, order, fps):
            into[t] = found
            if t % EVERY == 0:
                release(into, ownership.weights, frames, plates)
            if stopped.is_set():
                break

    # The two directions know nothing of each other, and the flow does not hold Python's lock.
    with ThreadPoolExecutor(2) as pool:
        jobs = [
            pool.submit(gather, past, range(length)),
            pool.submit(gather, future, range(length)[::-1]),
        ]
        try:
            for job in jobs:
                job.result()
        finally:
            stopped.set()  # an interrupt does not wait for the rest of the clip
    claims = scratch_array(ownership.weights.shape, ownership.weights.dtype)
    for t in range(length):
        total = past[t].astype(np.float32) + future[t]
        share = np.exp(total[:-1] / total[-1])
        claimed = ownership.weights[:, t].astype(np.float32)
        share *= claiming[:, t, None, None]
        claims[:, t] = share * (claimed.sum(0) / np.maximum(share.sum(0), 1e-9))
        if t % EVERY == 0:
            release(past, future, claims, ownership.weights)
        progress.step(t + 1)
    return Ownership(claims, ownership.unowned)


def residual(frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """What a frame adds to the plate, in levels, blurred: (h, w, 3) float32."""
    return cv2.GaussianBlur(frame.astype(np.float32) - plate, (0, 0), SMOOTH)


def visible(change: np.ndarray) -> np.ndarray:
    """A residual (h, w, 3) in levels as a picture to search in, (h, w) uint8.

    Faint effects are amplified; the inside of a body that differs much keeps its texture.
    """
    mean = np.full(3, GAIN / 3 / 255, np.float32)  # a product is much faster than a mean of three
    return (255 * np.tanh(np.abs(change) @ mean)).astype(np.uint8)


def opinion(ownership: Ownership, t: int) -> np.ndarray:
    """The logarithms of a frame's shares times their weight, then the weight: (N + 1, h, w)."""
    claims = ownership.weights[:, t].astype(np.float32)
    owned = claims.sum(0)
    everyone = owned + frame_or_static(ownership.unowned, t)
    weight = owned / np.maximum(everyone, 1e-6) + SAY
    least = np.maximum(LEAST * everyone, 1e-6)
    share = (claims + least) / (owned + len(claims) * least)
    return np.concatenate([np.log(share) * weight, weight[None]])


def gathered(
    ownership: Ownership,
    claiming: np.ndarray,
    frames: np.ndarray,
    plates: np.ndarray,
    order: range,
    fps: float,
) -> Iterator[tuple[int, np.ndarray]]:
    """Each frame, and what is gathered there: half its own opinion, and those of earlier frames.

    Earlier in `order`; their opinions are brought along the flow. The other half comes with the
    other order. What is gathered has the form of `opinion`. claiming: (N, T) bool, who claims
    anything in which frame; the rest as in `pool_over_time`.
    """
    fade = np.float32(np.exp(-1 / (fps * MEMORY)))  # what one frame's distance leaves
    last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    for t in order:
        change = residual(frames[t], frame_or_static(plates, t))
        picture = visible(change)
        own = opinion(ownership, t)
        brought = np.zeros_like(own)
        if last is not None:
            change_there, picture_there, known_there = last
            if np.array_equal(claiming[:, t], claiming[:, t - order.step]):
                way = dense_flow(picture, picture_there, small=True, refined=False)
                differs = warp_error(change, change_there, way)
                trust = fade * np.exp(-np.square(differs / ALIKE))
                known = warp(np.moveaxis(known_there, 0, -1), way)
                brought = trust * np.moveaxis(known, -1, 0)
        yield t, brought + own / 2
        last = change, picture, own + brought

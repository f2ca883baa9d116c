"""A frame's plate comes near to the sharpness of the frame, or to its blur by motion.

A median of neighbours that were moved in place is softer than each of them, and a frame of a fast
pan is more blurred than its neighbours. One small kernel for the whole picture, found by least
squares where both show the same detail, brings the plate's detail near to the frame's. It is
symmetric, so that it moves nothing, and its twelve numbers are from thousands of pixels: what only
the frame shows does not get into the plate. Waves and leaves, whose detail is never the same, have
no say. Codecs keep more of every second frame: kernels that are nearly alike are averaged over some
frames, so that plates do not pulse. One that is another, as where a pan begins or ends, holds at
once.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import at_most, channel_max, eight_bits, full_scale
from omnimatte_cli.matte.ownership import smoothstep

RADIUS = 2  # pixels of the kernel
SAMPLES = 20_000  # pixels that are looked at, at most
FEWEST = 2_000  # with fewer nothing is known
WINDOW = 9  # pixels a side, in which detail is compared
ALIKE = 0.8  # correlation of detail from which it is the same
DETAIL = 2.0  # levels, deviation of the plate's detail from which it is any
CHANGE = 40.0  # levels by which a place that shows the scene differs at most
SHARE = 0.25  # of a frame's own kernel in the mean with those before
ALIKE_KERNELS = (0.6, 1.2)  # sum of their differences: averaged .. a frame's own holds
PRIOR = 1.0  # levels; deviation of detail below which a kernel stays near to none

# Half of the kernel's places, row and column from its middle; the other half is opposite.
HALF = [(y, x) for y in range(RADIUS + 1) for x in range(-RADIUS, RADIUS + 1) if (y, x) > (0, 0)]


def sharpness(
    plate: np.ndarray, frame: np.ndarray, hidden: np.ndarray, before: np.ndarray | None
) -> np.ndarray | None:
    """The kernel that gives a plate its frame's sharpness, (5, 5) float64 of sum 1; None: none.

    plate, frame: (H, W, 3) uint8 or uint16. hidden: (H, W) bool, what the frame does not show of
    the scene. before: the kernel of the frame before, if that belongs to the same shot.
    """
    own = fitted_kernel(plate, frame, same_detail(plate, frame, hidden))
    if before is None:
        return own
    if own is None:  # what was known fades
        own, share = np.zeros_like(before), SHARE
        own[RADIUS, RADIUS] = 1
    else:
        apart = np.abs(own - before).sum()
        share = SHARE + (1 - SHARE) * float(smoothstep(apart, *ALIKE_KERNELS))
    return before + share * (own - before)


def sharpened(plate: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    """The plate (H, W, 3) with such a kernel, of the same dtype."""
    if kernel is None:
        return plate
    return np.asarray(cv2.filter2D(plate, -1, kernel, borderType=cv2.BORDER_REFLECT_101))


def same_detail(plate: np.ndarray, frame: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Where both have detail, and the same one, (H, W) bool; nowhere near the picture's edge."""
    images = [eight_bits(x) for x in (plate, frame)]
    fine = []
    for image in images:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        fine.append(grey - _mean(grey))
    power, other = (_mean(cv2.multiply(x, x)) for x in fine)
    common = _mean(cv2.multiply(*fine))
    there = power > DETAIL**2
    there &= common > ALIKE * cv2.sqrt(cv2.multiply(power, other))
    there &= channel_max(cv2.absdiff(*images)) < CHANGE
    there &= ~hidden
    for edge in (there[:RADIUS], there[-RADIUS:], there[:, :RADIUS], there[:, -RADIUS:]):
        edge[:] = False
    return there


def fitted_kernel(plate: np.ndarray, frame: np.ndarray, there: np.ndarray) -> np.ndarray | None:
    """The kernel that makes the plate's detail the frame's, (5, 5) float64 of sum 1.

    plate, frame: (H, W, 3). there: (H, W) bool, where both show the same. None: too few pixels.
    """
    places = np.flatnonzero(there)
    if len(places) < FEWEST:
        return None
    places = at_most(places, SAMPLES)
    level, width = np.float32(255 / full_scale(plate.dtype)), plate.shape[1]
    flat = plate.reshape(-1, 3)

    def around(y: int, x: int) -> np.ndarray:
        step = y * width + x
        both = cv2.add(flat[places - step], flat[places + step], dtype=cv2.CV_32F)
        return np.asarray(both * (level / 2))

    own = flat[places] * level
    terms = np.stack([(around(y, x) - own).ravel() for y, x in HALF])
    change = (frame.reshape(-1, 3)[places] * level - own).ravel()
    ridge = PRIOR**2 * len(change) * np.eye(len(HALF))
    found = np.linalg.solve((terms @ terms.T).astype(np.float64) + ridge, terms @ change)
    kernel = np.zeros((2 * RADIUS + 1,) * 2)
    for (y, x), share in zip(HALF, found, strict=True):
        kernel[RADIUS + y, RADIUS + x] = kernel[RADIUS - y, RADIUS - x] = share / 2
    kernel[RADIUS, RADIUS] = 1 - found.sum()
    return kernel


def _mean(x: np.ndarray) -> np.ndarray:
    return cv2.blur(x, (WINDOW, WINDOW))

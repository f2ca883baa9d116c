"""What lies behind objects stands still from one frame's plate to the next.

Every frame has neighbours, gaps and joins of its own, so that a place which few frames show, or
none, looks a little different in each plate, and the layers before it flicker. Each plate is mixed
there with the one before, as the camera sees it from this frame. What is in sight is left as it is.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, full_scale
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.plate.median import grown_mask

KEPT = 0.75  # share of the plate before, where both are alike
UNLIKE = 30.0  # levels, by which they differ where the one before has hardly any say: it was wrong
AROUND = 0.02  # of the width: as far around what is hidden, too, as its outline comes and goes
EDGE = 5  # pixels over which the mixture sets in, and of rim around it


def steadied(
    image: np.ndarray, before: np.ndarray, motion: np.ndarray, hidden: np.ndarray
) -> np.ndarray:
    """The plate `image` (H, W, 3) uint8 or uint16 with a share of the one `before` it.

    motion: (3, 3), pixels of this frame to pixels of the frame before. hidden: (H, W) bool, what
    this frame does not show of the scene.
    """
    hidden = grown_mask(hidden, round(AROUND * hidden.shape[1]))
    box = bounding_box(hidden, EDGE)
    if box is None:
        return image
    part = box.slices
    h, w = hidden[part].shape
    there = motion @ np.array([[1, 0, box.columns.start], [0, 1, box.rows.start], [0, 0, 1.0]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    old = cv2.warpPerspective(before, there, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    known = cv2.warpPerspective(
        np.ones(hidden.shape, np.uint8),
        there,
        (w, h),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    level = np.float32(full_scale(image.dtype) / 255)
    apart = cv2.subtract(image[part], old, dtype=cv2.CV_32F)
    # The light of two frames: what they differ by around what is hidden.
    rim = ~hidden[part] & (known > 0)
    places = np.flatnonzero(rim)
    if len(places):
        some = apart.reshape(-1, 3)[places[:: max(1, len(places) // 5000)]]
        light = [np.median(c) for c in np.ascontiguousarray(some.T)]
        apart = cv2.subtract(apart, np.array([*light, 0], np.float64))
    depth = cv2.distanceTransform(np.pad(hidden[part], 1).astype(np.uint8), cv2.DIST_L2, 3)
    inside = np.minimum(depth[1:-1, 1:-1] / EDGE, 1) * known
    size = cv2.blur(channel_max(np.abs(apart)), (5, 5)) / level
    weight = KEPT * inside * np.exp(-((size / UNLIKE) ** 2))
    result = image.copy()
    mixed = image[part] - grey(weight) * apart
    result[part] = np.clip(np.rint(mixed), 0, full_scale(image.dtype)).astype(image.dtype)
    return result

"""Movers that nobody masked: they own what they change, as hidden objects, and get no layer.

Without them the ownership network has to give a passing car, which is as sure a change as any, to
one of the objects that it knows, or to none.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import unpack_mask
from omnimatte_cli.segment.moving import find_moving, masks_of
from omnimatte_cli.segment.track import Track

MOST = 6  # strangers that are followed, the largest first
OVERLAP = 0.3  # share of a mover inside the objects' grown masks, from which it is one of them
GROWTH = 0.02  # of the height: by how much the objects' masks grow
FEWEST_FRAMES = 3  # in which a stranger must be seen
LEAST_AREA = 0.0008  # of the picture, mean over the frames that show it
RATE = 12.5  # frames a second that are enough to follow them
TRACKING_WIDTH = 448  # pixels at which movers are looked for: small ones need some


def find_strangers(frames: np.ndarray, masks: np.ndarray, fps: float = RATE) -> np.ndarray:
    """Masks of what moves before a static camera and is no masked object, (S, T, h, w) bool.

    frames: (T, h, w, 3) uint8; masks: (N, T, h, w) bool. None are found where the camera moves.
    fps: frames a second. Above RATE only some frames are looked at, and those between have the mask
    of the nearest: hidden objects need no exact outline.
    """
    step = max(1, round(fps / RATE))
    if step > 1:
        few = find_strangers(frames[::step], masks[:, ::step])
        nearest = np.minimum((np.arange(len(frames)) + step // 2) // step, few.shape[1] - 1)
        return few[:, nearest] & ~np.any(masks, axis=0)
    length, h, w = frames.shape[:3]
    none = np.zeros((0, length, h, w), bool)
    scale = max(1, round(TRACKING_WIDTH / w))
    large = [cv2.resize(f, (w * scale, h * scale), interpolation=cv2.INTER_CUBIC) for f in frames]
    moving, _ = find_moving(np.stack(large))
    if moving is None:
        return none
    radius = max(1, round(GROWTH * h))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    known = np.stack([cv2.dilate(u.astype(np.uint8), kernel) > 0 for u in np.any(masks, axis=0)])
    found: list[np.ndarray] = []
    for track in moving.tracks:
        if len(found) == MOST:
            break
        mask = _stack(track, moving.size, length, (h, w))
        area, seen = np.count_nonzero(mask), int(mask.any((1, 2)).sum())
        if seen < FEWEST_FRAMES or area < LEAST_AREA * h * w * seen:
            continue
        if np.count_nonzero(mask & known) < OVERLAP * area:
            found.append(mask & ~known)
    return np.stack(found) if found else none


def _stack(track: Track, size: tuple[int, int], length: int, small: tuple[int, int]) -> np.ndarray:
    """A track's masks at working size, (T, h, w) bool."""
    h, w = small
    out = np.zeros((length, h, w), bool)
    for t, packed in enumerate(masks_of([track], length)):
        mask = unpack_mask(packed, size).astype(np.float32)
        out[t] = cv2.resize(mask, (w, h), interpolation=cv2.INTER_AREA) >= 0.5
    return out

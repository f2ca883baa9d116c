"""Dense optical flow between two frames, and masks carried along it."""

from __future__ import annotations

import cv2
import numpy as np

FLOW_WIDTH = 480  # pixels; flow of wider frames is computed at this width and enlarged
INCONSISTENT = 1.5  # pixels that forward and backward flow may disagree


def backward_flow(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Where each pixel of `frame` is found in `other`: (h, w, 2) float32 offsets (x, y) in pixels.

    Both frames are (h, w, 3) uint8 RGB. Dense inverse search (Kroeger et al. 2016).
    """
    h, w = frame.shape[:2]
    scale = min(1.0, FLOW_WIDTH / w)
    # The search needs pictures of at least its coarsest patches.
    size = (max(round(w * scale), 16), max(round(h * scale), 16))
    grey = [
        cv2.cvtColor(cv2.resize(f, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for f in (frame, other)
    ]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = search.calc(grey[0], grey[1], None)  # type: ignore[call-overload]
    if size == (w, h):
        return flow
    flow = cv2.resize(flow, (w, h), interpolation=cv2.INTER_LINEAR)
    return flow * np.array([w / size[0], h / size[1]], np.float32)


def carry(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The mask (h, w) bool of the other frame seen from this one, along `backward_flow`."""
    h, w = mask.shape
    x = np.arange(w, dtype=np.float32)[None] + flow[..., 0]
    y = np.arange(h, dtype=np.float32)[:, None] + flow[..., 1]
    # What comes from outside the picture was not masked.
    moved = cv2.remap(mask.astype(np.float32), x, y, cv2.INTER_LINEAR, borderValue=0)
    return moved >= 0.5


def agreement(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where following `there` and then `back` returns to the start, (h, w) bool.

    there: flow from frame to other; back: flow from other to frame; both (h, w, 2) in pixels.
    """
    h, w = there.shape[:2]
    x = np.arange(w, dtype=np.float32)[None] + there[..., 0]
    y = np.arange(h, dtype=np.float32)[:, None] + there[..., 1]
    returned = cv2.remap(back, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    miss = np.sqrt(((there + returned) ** 2).sum(2))
    # Longer ways may end a little further off.
    return miss <= INCONSISTENT + 0.05 * np.sqrt((there**2).sum(2))


def mismatch(frame: np.ndarray, other: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """How different each pixel looks from where `backward_flow` finds it, (h, w) float32.

    frame, other: (h, w, 3) uint8. In grey levels, the largest of three channels, smoothed.
    """
    h, w = frame.shape[:2]
    x = np.arange(w, dtype=np.float32)[None] + flow[..., 0]
    y = np.arange(h, dtype=np.float32)[:, None] + flow[..., 1]
    found = cv2.remap(other, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.blur(cv2.absdiff(frame, found).max(2).astype(np.float32), (5, 5))

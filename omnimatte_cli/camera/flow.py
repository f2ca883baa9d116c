"""Dense optical flow between two frames, and what is carried along it."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max

FLOW_WIDTH = 480  # pixels; flow of wider frames is computed at this width and enlarged
SMALLEST = 16  # pixels of a side: the search needs pictures of at least its coarsest patches
INCONSISTENT = 1.5  # pixels that forward and backward flow may disagree


def dense_flow(
    picture: np.ndarray, other: np.ndarray, small: bool = False, refined: bool = True
) -> np.ndarray:
    """Where each pixel of `picture` is found in `other`: (h, w, 2) float32 (x, y) offsets, pixels.

    Both are (h, w) uint8 with sides of at least 16. small: pictures of working size, where half
    the resolution, at which the search ends otherwise, is too little. refined: after each scale by
    the variational steps, which take half of the time there. Dense inverse search (Kroeger et al.
    2016).
    """
    assert min(picture.shape) >= SMALLEST, picture.shape
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if small:
        method.setFinestScale(0)
        # Fewer patches and steps than the preset's, which at full size would take twice as long.
        method.setPatchStride(4)
        method.setGradientDescentIterations(16)
        method.setVariationalRefinementIterations(3 if refined else 0)
    return method.calc(picture, other, None)  # type: ignore[call-overload]


def least_squares_step(
    xx: np.ndarray, xy: np.ndarray, yy: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """The motion (h, w, 2) float32 (x, y), pixels, that takes away a change (Lucas, Kanade 1981).

    xx, xy, yy: (h, w), means of products of slopes, xx and yy with a ridge. x, y: (h, w), means of
    slopes times the change.
    """
    scale = 1 / (xx * yy - xy * xy)
    return cv2.merge([(xy * y - yy * x) * scale, (xy * x - xx * y) * scale])


def warp(x: np.ndarray, flow: np.ndarray, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """The other frame's (h, w) or (h, w, C) picture seen from this one, along its `flow`.

    border: OpenCV's, for what comes from outside; cv2.BORDER_CONSTANT gives 0.
    """
    h, w = flow.shape[:2]
    columns = np.arange(w, dtype=np.float32)[None] + flow[..., 0]
    rows = np.arange(h, dtype=np.float32)[:, None] + flow[..., 1]
    return cv2.remap(x, columns, rows, cv2.INTER_LINEAR, borderMode=border)


def warp_error(x: np.ndarray, other: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """How far each pixel is from what its `flow` leads to: (h, w), the largest of three channels.

    x, other: (h, w, 3) of one type, which is also the result's.
    """
    return channel_max(cv2.absdiff(x, warp(other, flow)))


def backward_flow(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """`dense_flow` between two frames of any size, both (h, w, 3) uint8 RGB."""
    h, w = frame.shape[:2]
    scale = min(1.0, FLOW_WIDTH / w)
    size = (max(round(w * scale), SMALLEST), max(round(h * scale), SMALLEST))
    here, there = (
        cv2.cvtColor(cv2.resize(f, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        for f in (frame, other)
    )
    flow = dense_flow(here, there)
    if size == (w, h):
        return flow
    flow = cv2.resize(flow, (w, h), interpolation=cv2.INTER_LINEAR)
    return flow * np.array([w / size[0], h / size[1]], np.float32)


def warp_mask(mask: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The mask (h, w) bool of the other frame seen from this one, along `backward_flow`."""
    # What comes from outside the picture was not masked. Only places can be, from which the
    # longest way leads to the mask.
    result = np.zeros(mask.shape, bool)
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    longest = cv2.norm(flow, cv2.NORM_INF)
    if w == 0 or not np.isfinite(longest):
        return result
    reach = int(longest) + 2
    top, left = max(y - reach, 0), max(x - reach, 0)
    window = np.s_[top : y + h + reach, left : x + w + reach]
    part = flow[window]
    columns = np.arange(left, left + part.shape[1], dtype=np.float32)[None] + part[..., 0]
    rows = np.arange(top, top + part.shape[0], dtype=np.float32)[:, None] + part[..., 1]
    source, border = mask.astype(np.float32), cv2.BORDER_CONSTANT
    result[window] = cv2.remap(source, columns, rows, cv2.INTER_LINEAR, borderMode=border) >= 0.5
    return result


def agreement(there: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where following `there` and then `back` returns to the start, (h, w) bool.

    there: flow from frame to other; back: flow from other to frame; both (h, w, 2) in pixels.
    """
    miss = _lengths(there + warp(back, there))
    # Longer ways may end a little further off.
    return miss <= INCONSISTENT + 0.05 * _lengths(there)


def _lengths(offsets: np.ndarray) -> np.ndarray:
    """(h, w) of (h, w, 2)."""
    x, y = offsets[..., 0], offsets[..., 1]
    return np.sqrt(x * x + y * y)


def mismatch(frame: np.ndarray, other: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """How different each pixel looks from where `backward_flow` finds it, (h, w) float32.

    frame, other: (h, w, 3) uint8. In grey levels, the largest of three channels, smoothed.
    """
    return cv2.blur(warp_error(frame, other, flow).astype(np.float32), (5, 5))

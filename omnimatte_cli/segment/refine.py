"""From masks at working size to masks at the video's size, and in which order they lie."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, unpack_mask
from omnimatte_cli.media.images import luma

RADIUS = 4  # pixels at working size over which mask and picture are related
SMOOTH = 0.004  # variance of brightness (range 0 to 1) below which an edge is none
ORDER_WINDOW = 5  # frames on either side over which positions are averaged


def enlarge_mask(mask: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """A mask (h, w) bool at the size of its frame (H, W, 3) uint8, its edge drawn to the frame's.

    A guided filter (He et al. 2010): around each pixel the mask is a linear function of brightness,
    fitted at the mask's size and evaluated at the frame's.
    """
    h, w = mask.shape
    height, width = frame.shape[:2]
    if (h, w) == (height, width) or not mask.any():
        return mask if mask.shape == frame.shape[:2] else np.zeros((height, width), bool)
    grey = luma(frame)
    guide = cv2.resize(grey, (w, h), interpolation=cv2.INTER_AREA)
    target = mask.astype(np.float32)
    box = (2 * RADIUS + 1, 2 * RADIUS + 1)
    mean_guide, mean_target = cv2.blur(guide, box), cv2.blur(target, box)
    variance = cv2.blur(guide * guide, box) - mean_guide**2
    covariance = cv2.blur(guide * target, box) - mean_guide * mean_target
    slope = covariance / (variance + SMOOTH)
    offset = mean_target - slope * mean_guide
    slope, offset = (
        cv2.resize(cv2.blur(v, box), (width, height), interpolation=cv2.INTER_LINEAR)
        for v in (slope, offset)
    )
    guided = slope * grey + offset
    plain = cv2.resize(target, (width, height), interpolation=cv2.INTER_LINEAR)
    # Only the edge is drawn anew; far from it the mask is right, whatever the picture shows.
    edge = (plain > 0.02) & (plain < 0.98)
    reach = max(round(width / w), 1)
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    band = cv2.dilate(edge.astype(np.uint8), kernel) > 0
    return np.where(band, guided, plain) >= 0.5


def occlusion_order(masks: list[list[bytes]], size: Size) -> np.ndarray:
    """Which object is in front, from where it stands: (T, N) indices, back to front.

    masks: packed (h, w) bool by object and frame. On the ground seen from above, what ends lower in
    the picture is nearer. Where two are cut off by the lower edge, the larger one is. Positions
    are averaged over time, so that objects do not change places with each step they take.
    """
    n, count = len(masks), len(masks[0])
    bottom = np.full((n, count), np.nan)
    area = np.full((n, count), np.nan)
    for i, frames in enumerate(masks):
        for t, packed in enumerate(frames):
            rows = unpack_mask(packed, size).sum(1)
            if rows.any():
                bottom[i, t] = np.flatnonzero(rows)[-1] + 1
                area[i, t] = rows.sum()
    height = size[0]
    score = np.zeros((n, count))
    for i in range(n):
        seen = np.flatnonzero(~np.isnan(bottom[i]))
        if not seen.size:
            continue
        # A cut-off object reaches further down than is seen: by its size, at most a picture.
        low = bottom[i, seen] / height + np.where(
            bottom[i, seen] >= height - 1, np.sqrt(area[i, seen]) / height, 0
        )
        for t in range(count):
            near = seen[np.abs(seen - t) <= ORDER_WINDOW]
            # Absent: where it was seen last, or will be first.
            chosen = near if near.size else seen[[np.argmin(np.abs(seen - t))]]
            score[i, t] = low[np.searchsorted(seen, chosen)].mean()
    return np.argsort(score, axis=0, kind="stable").T

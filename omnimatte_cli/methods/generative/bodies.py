"""The objects' bodies in their solo videos, and in which order they lie.

A solo video shows an object whole, also where others hide it in the shot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from omnimatte_cli.arrays import (
    ALPHABETICAL,
    Masks,
    Size,
    channel_max,
    frame_or_static,
    pack_mask,
    to_float,
)
from omnimatte_cli.matte.box import disc
from omnimatte_cli.matte.resolve import SMOOTHING
from omnimatte_cli.methods.generative.closed_form import WINDOW, window_alpha
from omnimatte_cli.methods.generative.solos import SoloError
from omnimatte_cli.segment.refine import occlusion_order

BODY_LEVEL = 0.06  # change that no shadow explains, at least this, of what is taken for body
BODY_NOISE = 2.0  # the same in deviations of single pixels
BODY_CLOSE = 1 / 60  # of the height: gaps of a guessed body that are closed
DEPTH_WINDOW = 5  # frames on either side over which depths are averaged


def unshadowed(solo: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The change that no shadow explains, (H, W) float32, a little smoothed.

    solo, plate: (H, W, 3) float32. A shadow is the plate times a factor that is smooth in space.
    What is lighter than the plate is no shadow: light counts as body, which a mask can correct.
    """
    sigma = max(2.0, 3 * WINDOW * solo.shape[0])
    change = solo - plate
    alpha = window_alpha(solo, plate, np.ones(solo.shape[:2], np.float32), sigma)
    shadow = np.where((change.sum(2) > 0), 0, alpha)[..., None]
    error = channel_max(np.abs(cv2.GaussianBlur(change + shadow * plate, (0, 0), SMOOTHING)))
    # The window reaches beyond the body; what does not change is no part of it.
    size = channel_max(np.abs(cv2.GaussianBlur(change, (0, 0), SMOOTHING)))
    return np.minimum(error, size)


def guess_body(solo: np.ndarray, plates: np.ndarray) -> np.ndarray:
    """Where the object itself is, from its solo video alone: (T, h, w) bool.

    solo: (T, h, w, 3) uint8; plates: (1 or T, h, w, 3) uint8. What no shadow explains is taken for
    the body, in its largest connected part. Rough: a mask is better.
    """
    height = solo.shape[1]
    kernel = disc(max(1, round(height * BODY_CLOSE)))
    out = np.zeros(solo.shape[:3], bool)
    for t, frame in enumerate(solo):
        error = unshadowed(to_float(frame), to_float(frame_or_static(plates, t)))
        rough = cv2.morphologyEx((error > BODY_LEVEL).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
        rough = cv2.morphologyEx(rough, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(rough)
        if len(stats) > 1:
            out[t] = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return out


def hidden_body(
    solo: np.ndarray, plate: np.ndarray, mask: np.ndarray, front: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """The mask and what the solo video completes of the body behind nearer objects, (H, W) bool.

    solo, plate: (H, W, 3) uint8; mask: (H, W) bool, the visible body; front: (H, W) bool, those of
    objects in front; noise: (H, W), of single pixels. Of `front` the parts that differ from the
    plate as no shadow does and that touch the object's mask.
    """
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8))
    if not (near.astype(bool) & front).any():
        return mask
    s, p = to_float(solo), to_float(plate)
    part = front & (unshadowed(s, p) > np.maximum(BODY_LEVEL, BODY_NOISE * noise))
    part = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    _, labels = cv2.connectedComponents((part | (near > 0)).astype(np.uint8))
    touching = np.unique(labels[near > 0])
    return mask | (part & np.isin(labels, touching[touching > 0]))


def guess_masks(solos: np.ndarray, plates: np.ndarray, names: Sequence[str], size: Size) -> Masks:
    """Masks at the shot's size, guessed from the solo videos at working size. Rough.

    solos: (N, T, h, w, 3) uint8; plates: (1 or T, h, w, 3) uint8. Raises SoloError where a solo
    video shows no object.
    """
    packed = []
    for name, solo in zip(names, solos, strict=True):
        bodies = guess_body(solo, plates)
        if not bodies.any():
            raise SoloError(
                f"The solo video of '{name}' shows nothing that the background does not: is it the "
                "right one? If so, give --masks."
            )
        packed.append(tuple(pack_mask(enlarged_mask(m, size)) for m in bodies))
    note = "The masks were guessed from the solo videos: --masks gives better outlines."
    order = np.tile(np.arange(len(names)), (solos.shape[1], 1))
    return Masks(tuple(names), size, order, tuple(packed), notes=(note,))


def enlarged_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """(h, w) bool at (H, W), its outline smooth."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)
    return cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5


def eroded(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask (H, W) bool shrunk by a square; outside of the frame counts as object."""
    kernel = np.ones((side, side), np.uint8)
    return cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0


def ordered(masks: Masks, depth: np.ndarray | None) -> Masks:
    """The masks with an order where the user gave none: by depth, else by what stands lower.

    depth: (T, h, w) float, brighter is nearer, or None.
    """
    if masks.order_source != ALPHABETICAL or len(masks.names) == 1:
        return masks
    if depth is not None:
        small = masks.resized((depth.shape[1], depth.shape[2]))
        return replace(masks, order=depth_order(depth, small), order_source="depth video")
    order = occlusion_order([list(p) for p in masks.packed], masks.size)
    return replace(masks, order=order, order_source="lower edge of each mask")


def depth_order(depth: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Order from a depth video, (T, N) back to front: nearer is brighter, by the median in a mask.

    depth: (T, h, w) float; masks: (N, T, h, w) bool. Depths are averaged over a few frames; where
    an object is out of sight the nearest frame that shows it counts.
    """
    n, t = masks.shape[:2]
    score = np.zeros((n, t))
    for i in range(n):
        seen = np.flatnonzero(masks[i].any((1, 2)))
        if not seen.size:
            continue
        medians = np.array([np.median(depth[k][masks[i, k]]) for k in seen])
        for k in range(t):
            near = np.abs(seen - k) <= DEPTH_WINDOW
            chosen = near if near.any() else np.abs(seen - k) == np.abs(seen - k).min()
            score[i, k] = medians[chosen].mean()
    return np.argsort(score, axis=0, kind="stable").T

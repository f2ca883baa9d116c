"""Effects that rest: a pixel that looks the same whether it is owned or not never showed the plate.

The ownership network finds the shadow of an object that stands still in most frames and misses it
in some. In those the shadow would pass for the plate. Where an effect left, its pixel looks
different from then on. So do stains (`plate/stains.py`), which need not be found in most.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.camera.canvas import Hidden, Stack, stack_frames, stretches
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.plate.stains import stained
from omnimatte_cli.plate.turned import Turned, turned_claims
from omnimatte_cli.ranks import median_shown

MOSTLY = 0.7  # share of the frames that must say a pixel is owned
ALIKE = 6  # levels, by which a channel may differ between the two
SPECK = 8  # pixels: fewer together decide nothing


def resting_effects(
    frames: np.ndarray, camera: Camera, hidden: Hidden, owned: Hidden
) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    """What rests in frame t besides what is owned there, and what is owned there and is the plate,
    (H, W) bool each.

    frames: (T, H, W, 3) uint8, small ones. hidden: frame t's grown masks. owned: its pixels that
    effects change, as far as is known.
    """
    found: list[tuple[Stack, np.ndarray, Turned]] = []
    for run in stretches(camera) if camera.moving or camera.cuts else [range(len(camera))]:
        stack = stack_frames(frames, camera, (hidden, lambda t: hidden(t) | owned(t)), run)
        seen, free = stack.shown
        pictures = median_shown(stack.images, free), median_shown(stack.images, seen & ~free)
        rest = rests(*pictures[0], *pictures[1])
        rest |= stained(stack.images, seen, free, *pictures[0])
        found.append((stack, rest, turned_claims(stack.images, seen, free, *pictures[0])))

    def at(t: int) -> tuple[np.ndarray, np.ndarray]:
        stack, where, turned = next(each for each in found if t in each[0].frames)
        shade, ground = turned.seen(stack, camera, t, frames[t])
        return stack.seen_from(camera, t, where) | shade, ground

    return at


def rests(
    free: np.ndarray, free_count: np.ndarray, taken: np.ndarray, taken_count: np.ndarray
) -> np.ndarray:
    """Which pixels look alike owned and not, and mostly are owned, (h, w) bool.

    free, taken: (h, w, 3) uint8, the medians of the frames that own a pixel not and that own it;
    free_count, taken_count: (h, w), how many those are.
    """
    both = (free_count > 0) & (taken_count > 0)
    mostly = taken_count > MOSTLY * (free_count.astype(np.int64) + taken_count)
    apart = channel_max(cv2.absdiff(free, taken))
    rest = both & mostly & (apart < ALIKE)
    never = (free_count == 0) & (taken_count > 0)
    _, labels, stats, _ = cv2.connectedComponentsWithStats((rest | never).astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] >= SPECK
    return rest & large[labels]

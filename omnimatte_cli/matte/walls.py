"""Plain ground that a careless mask takes in: wall beside a coat, plain floor.

The matting network looks for the ground's pattern and for outlines; a piece of white wall as wide
as the body, in a mask, may be a white body to it. Here the ground's light is followed into the mask
from outside, where nothing covers the ground, from window to window: a gain a channel,

    frame_c = k_c * plate_c,

fitted to what has been found to be ground so far. What such a light makes of the plate, very
nearly, and what goes on from outside the mask up to an edge in the frame, is ground.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.blur import coarse_blur, enlarged, reduced
from omnimatte_cli.matte.box import boxes_around, cropped, disc
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.matte.effects import channel_sum
from omnimatte_cli.matte.ownership import smoothstep

# Lengths are shares of the picture's mean side, the root of its area.
LIGHT = 0.00625  # sigma of the windows in which a light is fitted: 3 px at 640x360
WIDE = 0.04  # the same at first
WINDOW = 0.02  # side of what is no speck
REACH = 0.05  # how far around a mask the ground is looked at
FREE = 0.02  # soft mask up to which a pixel shows the ground
STEPS = 24  # from window to window, at most
SETTLED = 4.0  # squares of a sigma that change at the last of them
CELLS = 1.5  # of a grid that windows are summed on, in the sigma of one
FINEST = 1.5  # pixels of a grid that LIGHT has at least

DENOISE = 0.7  # pixels of that grid; sigma of a blur of what is compared
NOISE, SHARE = 0.006, 0.01  # least deviation, and share of the lit ground, that is no difference
OFF_GROUND = (1.0, 2.0)  # deviations from the lit ground: ground .. not
LIT = (0.7, 0.85, 1.05, 1.1)  # gains: too dark .. a shadow, on average; a light .. too bright
ENOUGH = (0.03, 0.1)  # share of a window that is ground: no light is known .. it is
DENSE = (0.25, 0.5)  # share of a window that is ground: chance .. ground
SPECK = 0.3  # how surely a pixel is ground that belongs to a piece of it
RING = 5  # pixels; side of the square that reaches from the ground over its end
EDGE = (2.0, 5.0)  # deviations from the lit ground beyond its end: gradual .. an edge
ENDS = (0.6, 0.3, 0.15)  # share of the end that must be an edge: small pieces, large, huge ones
LARGE, HUGE = 12.0, 36.0  # times the least piece
CHANCE = (0.002, 0.004)  # share of a mask's rim: ground by chance, the mask is right .. ground


def plain_ground(
    frame: np.ndarray, plate: np.ndarray, edge: np.ndarray, noise: np.ndarray | float, side: float
) -> np.ndarray:
    """How surely each pixel of a mask shows plain ground, (H, W) float32 in [0, 1]; 0 elsewhere.

    frame, plate: (H, W, 3) float32 in [0, 1]. edge: (H, W) in [0, 1], a mask with a soft edge.
    noise: (H, W) or a number, the residual's deviation where nothing happens. side: mean side of
    the picture that these are part of, in pixels.
    """
    out = np.zeros(edge.shape, np.float32)
    for box in boxes_around(edge > FREE, round(REACH * side)):
        part = box.slices
        out[part] = _shown(frame[part], plate[part], edge[part], cropped(noise, box), side)
    return out


def without_ground(bodies: np.ndarray, taken: np.ndarray, side: float) -> np.ndarray:
    """Bodies (N, H, W) in [0, 1] without the ground `taken` from them, (H, W) in [0, 1].

    What was left of their outlines beside it goes with it. side: as above.
    """
    if not taken.any():
        return bodies
    rest, least = bodies * (1 - taken), (WINDOW * side) ** 2
    around = cv2.dilate((taken > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    for body in rest:
        body[small_pieces(body > SPECK, least, around)] = 0
    return rest


def _shown(
    frame: np.ndarray, plate: np.ndarray, soft: np.ndarray, noise: np.ndarray | float, side: float
) -> np.ndarray:
    """`plain_ground` for the part of a picture around some masks."""
    step = max(1, int(LIGHT * side / FINEST))
    near = reduced(noise, step) if isinstance(noise, np.ndarray) else noise
    f, p = (cv2.GaussianBlur(reduced(x, step), (0, 0), DENOISE) for x in (frame, plate))
    edge = reduced(soft, step)
    mask = edge >= 0.5
    side /= step
    least = (WINDOW * side) ** 2
    found, off = follow_light(f, p, edge > FREE, near, LIGHT * side, WIDE * side)
    found *= ends_at_edges(found > SPECK, off, mask, least)
    found = without_specks(found * mask, mask, least)
    found *= smoothstep(share_of_rim(found, mask, LIGHT * side), *CHANCE)
    return np.asarray(enlarged(found, soft.shape) * (soft >= 0.5), np.float32)


def follow_light(
    frame: np.ndarray,
    plate: np.ndarray,
    mask: np.ndarray,
    noise: np.ndarray | float,
    sigma: float,
    wide: float,
) -> tuple[np.ndarray, np.ndarray]:
    """What of a mask (H, W) bool is the plate in the light around, (H, W) float32 in [0, 1].

    frame, plate: (H, W, 3). sigma, wide: pixels, of a window and of the first ones. Each step goes
    about a window further. Also returns how far each pixel is from the lit ground, (H, W) in
    deviations.
    """
    squares, products = plate * plate, frame * plate
    variance = np.square(np.maximum(noise, NOISE))
    variance = grey(np.broadcast_to(np.float32(variance), mask.shape))
    outside = (~mask).astype(np.float32)
    weight = off = outside
    # The first windows are wide: gaps that the mask encloses are in the light around it.
    for window in (wide, wide, *[sigma] * STEPS):
        w = grey(weight)
        gain = coarse_blur(w * products, window, CELLS)
        gain /= coarse_blur(w * squares, window, CELLS) + 1e-4
        light = channel_sum(gain) / 3
        likely = smoothstep(coarse_blur(weight, window, CELLS), *ENOUGH)
        likely *= smoothstep(light, *LIT[:2])
        likely *= 1 - smoothstep(channel_max(gain), *LIT[2:])
        lit = enlarged(gain, mask.shape)
        lit *= plate
        rest = frame - lit
        rest *= rest
        lit *= np.float32(SHARE)
        lit *= lit
        lit += variance
        rest /= lit
        off = np.sqrt(channel_sum(rest) / 3)
        found = (1 - smoothstep(off, *OFF_GROUND)) * enlarged(likely, mask.shape)
        before, weight = weight, np.where(mask, found, outside * found)
        # Around the mask what is light and what is not may waver for ever.
        if window == sigma and np.abs(weight - before)[mask].sum() < SETTLED * sigma * sigma:
            break
    found = cv2.morphologyEx(weight * mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # Scattered pixels of a body are like any ground by chance.
    return found * smoothstep(cv2.GaussianBlur(found + outside, (0, 0), sigma), *DENSE), off


def share_of_rim(found: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """Of the rim of a mask (H, W) bool, of this width in pixels, the share that was found.

    found: (H, W) float32 in [0, 1].
    """
    rim = _rim(mask, width)
    return np.asarray(found[rim].sum() / max(1, np.count_nonzero(rim)), np.float32)


def _rim(mask: np.ndarray, width: float) -> np.ndarray:
    """The pixels of a mask (H, W) bool that are no farther than this from its outline."""
    return mask & (cv2.erode(mask.astype(np.uint8), disc(width), borderValue=0) == 0)


def ends_at_edges(there: np.ndarray, off: np.ndarray, mask: np.ndarray, least: float) -> np.ndarray:
    """The pieces of plain ground that go on from outside a mask and end at an edge in it, (H, W).

    there: (H, W) bool, where it may be. off: (H, W) deviations from it. mask: (H, W) bool. least:
    pixels, of what is no speck.
    """
    pieces = (there & mask).astype(np.uint8)
    count, names, facts, _ = cv2.connectedComponentsWithStats(pieces)
    moored = np.zeros(count, bool)
    around = cv2.dilate((~mask & there).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    moored[np.unique(names[around])] = True
    # Each pixel of the ring around has the name of a piece next to it.
    ring = cv2.dilate(names.astype(np.float32), np.ones((RING, RING), np.uint8)).astype(np.int32)
    ring[there | ~mask] = 0
    length = np.bincount(ring.ravel(), minlength=count)
    edge = np.bincount(ring.ravel(), smoothstep(off, *EDGE).ravel(), minlength=count)
    area = facts[:, cv2.CC_STAT_AREA]
    kind = np.digitize(area, [LARGE * least, HUGE * least])
    kept = moored & (edge >= length * np.take(ENDS, kind))  # all of a mask has no end
    kept[0] = False
    return np.asarray(kept[names])


def without_specks(found: np.ndarray, mask: np.ndarray, least: float) -> np.ndarray:
    """What was found in a mask, with neither islands of ground in the body nor of body in it.

    found: (H, W) float32 in [0, 1]. mask: (H, W) bool. least: pixels, of what is no island.
    """
    ground = (found > SPECK) | ~mask
    found = np.where(small_pieces(ground, least) & mask, 0, found)
    taken = found > SPECK
    around = cv2.dilate(taken.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    # Small pieces of a mask that touch no ground were small before.
    return np.where(small_pieces(mask & ~taken, least, around), 1, found).astype(np.float32)


def small_pieces(there: np.ndarray, least: float, touch: np.ndarray | None = None) -> np.ndarray:
    """The connected pieces of `there` (H, W) bool of fewer than `least` pixels, (H, W) bool.

    touch: (H, W) bool, which they have to touch; None: nothing.
    """
    _, names, facts, _ = cv2.connectedComponentsWithStats(there.astype(np.uint8))
    small = facts[:, cv2.CC_STAT_AREA] < least
    if touch is not None:
        touched = np.zeros_like(small)
        touched[np.unique(names[touch])] = True
        small &= touched
    small[0] = False
    return np.asarray(small[names])

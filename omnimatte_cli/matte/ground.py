"""Ground that a rough mask takes in: floor around shoes, grass between legs.

Inside a mask the ground tells itself from the body by the plate's own texture. In from outside the
mask, where nothing covers the ground, its light is followed from window to window: a gain a
channel,

    frame_c = k_c * plate_c,

fitted to what has been found to be ground so far. A pixel that such a light makes is ground as far
as its surroundings show the plate's detail as well,

    r^2 = m[f p]^2 / (m[f f] m[p p]),

f and p the frame's and the plate's detail, m[.] the mean over the pixels found in a window. A body
in the ground's colours does not have the ground's pattern.

Plain ground has no detail to show. It has to be much nearer to the plate in the light around, to go
on from outside the mask, and to end at the body's edge: a body that the light is followed into by
mistake is left gradually. Where neither holds nothing is taken from the mask, and neither where
hardly any of its rim is ground: such a mask is right, and what is like the ground in it by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.blur import coarse_blur, enlarged, reduced, wide_blur
from omnimatte_cli.matte.box import boxes_around, cropped, disc
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.matte.effects import channel_sum
from omnimatte_cli.matte.ownership import smoothstep

# Lengths are shares of the picture's mean side, the root of its area.
LIGHT = 0.00625  # sigma of the windows in which a light is fitted: 3 px at 640x360
DETAIL = 0.00625  # sigma of what is no detail any more
WIDE = 0.04  # the same at first
WINDOW = 0.02  # sigma of the windows in which details are compared
REACH = 0.05  # how far around a mask the ground is looked at
FREE = 0.02  # soft mask up to which a pixel shows the ground
STEPS = 24  # from window to window, at most
SETTLED = 4.0  # squares of a sigma that change at the last of them
CELLS = 1.5  # of a grid that windows are summed on, in the sigma of one
FINEST = 3.0  # pixels of a grid that LIGHT has at least

DENOISE = 0.7  # pixels of that grid; sigma of a blur of what is compared
OFF_GROUND = (1.0, 2.0)  # deviations from the lit ground: ground .. not
ENOUGH = (0.03, 0.1)  # share of a window that is ground: no light is known .. it is
DENSE = (0.25, 0.5)  # share of a window that is ground: chance .. ground
SHOWN = (0.3, 0.5)  # share of the frame's detail that is the plate's: not to be told .. ground
SAMPLES = (0.2, 0.6)  # pixels in a window, over those in a detail's: too few .. enough
SPECK = 0.3  # how surely a pixel is ground that belongs to an island
DETAILED = (0.006, 0.012)  # deviation of the plate's detail: plain .. textured
RING = 5  # pixels; side of the square that reaches from plain ground over its end
EDGE = (2.0, 5.0)  # deviations from the lit ground beyond its end: gradual .. an edge
ENDS = (0.6, 0.3, 0.15)  # share of the end that must be an edge: small pieces, large, huge ones
BY_CHANCE = (0.01, 0.03)  # the same, near a pixel
CHANCE = (0.002, 0.004)  # share of a mask's rim: ground by chance, the mask is right .. ground
LARGE, HUGE = 12.0, 36.0  # times the least piece
HUES, LIGHTS = 24, 6  # steps of red or blue less green, and of brightness: one kind of colour
MOST_HUE = 1.5  # range of red or blue less green that these steps are of
SMALL = 0.25  # times the least piece, from which a piece's colours are compared
ALONG = (
    1.2,
    1.6,
)  # outline of a mask along a piece, over the root of its area: in the body .. at it
ALIKE = (0.2, 0.4)  # like SHARED, where the plate's detail is shown
SHARED = (0.05, 0.15)  # of the colours of a piece, that the rest has as well: ground .. body
GAP = 2.0  # times the least piece, of ground that the body encloses


@dataclass(frozen=True)
class Likeness:
    """When a pixel is like the lit ground.

    noise: least deviation. share: the same, of the lit ground. lit: gains of the light: too dark ..
    a shadow, on average; a light .. too bright, in any channel.
    """

    noise: float
    share: float
    lit: tuple[float, float, float, float]


PATTERNED = Likeness(0.012, 0.05, (0.1, 0.25, 1.1, 1.25))
PLAIN = Likeness(0.006, 0.01, (0.7, 0.85, 1.05, 1.1))


def shown_ground(
    frame: np.ndarray, plate: np.ndarray, edge: np.ndarray, noise: np.ndarray | float, side: float
) -> np.ndarray:
    """How surely each pixel of a mask shows the ground, (H, W) float32 in [0, 1]; 0 elsewhere.

    frame, plate: (H, W, 3) float32 in [0, 1]. edge: (H, W) in [0, 1], a mask with a soft edge.
    noise: (H, W) or a number, the residual's deviation where nothing happens. side: mean side of
    the picture that these are part of, in pixels.
    """
    out = np.zeros(edge.shape, np.float32)
    for box in boxes_around(edge > FREE, round(REACH * side)):
        part = box.slices
        near = cropped(noise, box)
        out[part] = _shown(frame[part], plate[part], edge[part], near, side)
    return out


def without_ground(masks: np.ndarray, taken: np.ndarray, side: float) -> np.ndarray:
    """Masks (N, H, W) in [0, 1] without the ground `taken` from them, (H, W) in [0, 1].

    Corners of their outlines that were left beside it go with it. side: as above.
    """
    if not taken.any():
        return masks
    rest, least = masks * (1 - taken), (WINDOW * side) ** 2
    around = cv2.dilate((taken > 0.5).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    for mask in rest:
        mask[small_pieces(mask > SPECK, least, around)] = 0
    return rest


def free_of_ground(mask: np.ndarray, taken: np.ndarray, side: float) -> np.ndarray:
    """How surely a mask (H, W) takes in no ground near each pixel, (H, W) float32 in [0, 1].

    taken: (H, W) in [0, 1], the ground that was found in it. side: as above.
    """
    if not taken.any():
        return np.ones(mask.shape, np.float32)
    rim = _rim(mask > 0.5, LIGHT * side).astype(np.float32)
    near, all_of_it = (wide_blur(x, REACH * side) for x in (rim * taken, rim))
    return np.asarray(1 - smoothstep(near / np.maximum(all_of_it, 1e-6), *BY_CHANCE))


def _shown(
    frame: np.ndarray, plate: np.ndarray, soft: np.ndarray, noise: np.ndarray | float, side: float
) -> np.ndarray:
    """`shown_ground` for the part of a picture around some masks."""
    step = max(1, int(LIGHT * side / FINEST))
    near = reduced(noise, step) if isinstance(noise, np.ndarray) else noise
    f, p = (cv2.GaussianBlur(reduced(x, step), (0, 0), DENOISE) for x in (frame, plate))
    edge = reduced(soft, step)
    mask = edge >= 0.5
    side /= step
    covered, wide, least = edge > FREE, WIDE * side, (WINDOW * side) ** 2
    found, _ = follow_light(f, p, covered, near, LIGHT * side, wide, PATTERNED)
    found = found * mask
    if np.count_nonzero(found > SPECK) < least:
        return np.zeros_like(soft)
    shown = found * shows_detail(f, p, found, DETAIL * side, WINDOW * side)
    inside = enclosed(found > SPECK, mask, GAP * least)
    gaps = found * (1 - smoothstep(shared_colours(f, inside, mask, shown, least), *SHARED))
    found = np.maximum(shown * supported(f, shown > SPECK, mask, least), gaps)
    plain, off = follow_light(f, p, covered, near, LIGHT * side, wide, PLAIN)
    plain = plain * ends_at_edges(plain > SPECK, off, mask, least)
    found = without_specks(np.maximum(found, plain * mask), mask, least)
    found *= smoothstep(share_of_rim(found, mask, LIGHT * side), *CHANCE)
    found = np.maximum(found, gaps)
    return np.asarray(enlarged(found, soft.shape) * (soft >= 0.5), np.float32)


def follow_light(
    frame: np.ndarray,
    plate: np.ndarray,
    mask: np.ndarray,
    noise: np.ndarray | float,
    sigma: float,
    wide: float,
    like: Likeness,
) -> tuple[np.ndarray, np.ndarray]:
    """What of a mask (H, W) bool is the plate in the light around, (H, W) float32 in [0, 1].

    frame, plate: (H, W, 3). sigma, wide: pixels, of a window and of the first ones. Each step goes
    about a window further. Also returns how far each pixel is from the lit ground, (H, W) in
    deviations.
    """
    squares, products = plate * plate, frame * plate
    variance = np.square(np.maximum(noise, like.noise))
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
        likely *= smoothstep(light, *like.lit[:2])
        likely *= 1 - smoothstep(channel_max(gain), *like.lit[2:])
        lit = enlarged(gain, mask.shape)
        lit *= plate
        rest = frame - lit
        rest *= rest
        lit *= np.float32(like.share)
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


def supported(frame: np.ndarray, there: np.ndarray, mask: np.ndarray, least: float) -> np.ndarray:
    """How far what else is known of a piece is for ground with the plate's detail, (H, W) float32.

    frame: (H, W, 3). there: (H, W) bool, the pieces, in a mask (H, W) bool. least: pixels, of what
    is no speck. Fur may have the pattern of a fence by chance, but it has the fur's colours, and
    does not lie along the outline.
    """
    count, names, facts, _ = cv2.connectedComponentsWithStats(there.astype(np.uint8))
    length, area = np.bincount(names[_rim(mask, 1)], minlength=count), facts[:, cv2.CC_STAT_AREA]
    along = smoothstep(length / np.sqrt(area), *ALONG)
    doubtful = (along < 1) & (area >= SMALL * least)
    along[0], doubtful[0] = 0, False
    own = 1 - smoothstep(shared_colours(frame, doubtful[names], mask, there, least), *ALIKE)
    return np.asarray(np.maximum(along[names], own), np.float32)


def shared_colours(
    frame: np.ndarray, there: np.ndarray, mask: np.ndarray, shown: np.ndarray, least: float
) -> np.ndarray:
    """Which share of the colours of a piece of a mask the rest has as well, (H, W) float32.

    frame: (H, W, 3) in [0, 1]. there: (H, W) bool, the pieces; elsewhere it is 1. mask: (H, W)
    bool. shown: (H, W) in [0, 1], how surely it is ground for other reasons, and no rest. least:
    pixels, fewer of which tell nothing.
    """
    out = np.ones(there.shape, np.float32)
    if not there.any():
        return out
    count, names = cv2.connectedComponents(there.astype(np.uint8))
    kinds, names, body = kinds_of_colour(frame[mask]), names[mask], shown[mask] < 0.5
    shares = np.ones(count, np.float32)
    for i in range(1, count):
        piece = names == i
        rest = body & ~piece
        if np.count_nonzero(rest) >= least:
            both = [spread_counts(kinds[x]) / np.count_nonzero(x) for x in (rest, piece)]
            shares[i] = np.minimum(*both).sum()
    out[mask] = shares[names]
    return out


def kinds_of_colour(colours: np.ndarray) -> np.ndarray:
    """Numbers of (M, 3) colours in [0, 1]: a hue in some light has one, (M,) int32."""
    red, green, blue = (colours[:, c] for c in range(3))
    hues = [HUES * np.clip(0.5 + (x - green) / MOST_HUE, 0, 0.999) for x in (red, blue)]
    light = LIGHTS * np.clip((red + green + blue) / 3, 0, 0.999)
    first, second, third = (x.astype(np.int32) for x in (*hues, light))
    return np.asarray((first * HUES + second) * LIGHTS + third)


def spread_counts(kinds: np.ndarray) -> np.ndarray:
    """How many colours are of each kind, shared with the kinds next to it: noise is no difference.

    kinds: (M,), of `kinds_of_colour`. Returns (HUES, HUES, LIGHTS), which sums to M.
    """
    counts = np.bincount(kinds, minlength=HUES * HUES * LIGHTS)
    cube: np.ndarray = counts.reshape(HUES, HUES, LIGHTS)
    for axis in range(3):
        wide = np.pad(cube, [(int(a == axis),) * 2 for a in range(3)], "edge")
        before, here, after = (
            np.take(wide, np.arange(cube.shape[axis]) + step, axis) for step in range(3)
        )
        cube = (before + 2 * here + after) / 4
    return cube


def enclosed(there: np.ndarray, mask: np.ndarray, least: float) -> np.ndarray:
    """The pieces of `there` (H, W) bool that a mask encloses all around, (H, W) bool.

    mask: (H, W) bool. least: pixels, of what is no speck.
    """
    inner = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    _, names, facts, _ = cv2.connectedComponentsWithStats((there & mask).astype(np.uint8))
    kept = facts[:, cv2.CC_STAT_AREA] >= least
    kept[np.unique(names[~inner])] = False  # what touches the outline, and all that is not there
    return np.asarray(kept[names])


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


def shows_detail(
    frame: np.ndarray,
    plate: np.ndarray,
    weight: np.ndarray,
    fine: float,
    window: float,
) -> np.ndarray:
    """How surely the frame has the plate's detail around each pixel, (H, W) float32 in [0, 1].

    frame, plate: (H, W, 3). weight: (H, W) in [0, 1], the pixels that are compared. fine: pixels;
    sigma of what is no detail any more. window: pixels; sigma of what is compared.
    """
    w = grey(weight)
    count = cv2.GaussianBlur(weight, (0, 0), fine)
    f, p = (
        x - cv2.GaussianBlur(w * x, (0, 0), fine) / grey(np.maximum(count, 1e-6))
        for x in (frame, plate)
    )
    count = cv2.GaussianBlur(weight, (0, 0), window)
    ff, pp, fp = (
        cv2.GaussianBlur(channel_sum(w * x), (0, 0), window) / np.maximum(count, 1e-6)
        for x in (f * f, p * p, f * p)
    )
    share = np.square(np.maximum(fp, 0)) / np.maximum(ff * pp, 1e-12)
    found = smoothstep(share, *SHOWN) * smoothstep(count * (window / fine) ** 2, *SAMPLES)
    return np.asarray(found * smoothstep(np.sqrt(pp / 3), *DETAILED), np.float32)

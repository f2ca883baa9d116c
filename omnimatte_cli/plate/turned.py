"""Claims that are turned round: what rests in most frames passed for the plate, and the ground for
an effect.

Where the end of a shadow lies most of the time, the first plate has the shadow, and the frames that
show the ground are brighter than it: these are owned, and the dark ones are left to make the next
plate. But what is owned there goes on as the ground around it, and the plate does not, and shadows
of the object are beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.camera.canvas import Stack
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte.box import disc
from omnimatte_cli.plate.median import grown_mask
from omnimatte_cli.plate.stains import never_alone
from omnimatte_cli.ranks import median_shown

FEWEST = 2  # frames that own a pixel, and as many that do not
BRIGHTER = 8  # levels, by which one channel must be brighter where it is owned,
NO_DARKER = 4  # and each of them
LEAST = 16  # pixels of a piece, or of its surroundings
CLOSE = 3  # pixels: gaps between parts of a piece
BESIDE = 5  # pixels from a body, within which nothing is learnt
NEAR = 2  # pixels around a piece that are of its edge
RING = 7  # pixels around that, which show the ground beside it
DARKER = 16.0  # levels: shade is as much darker than its surroundings,
CONTINUES = 0.15  # and in this share of that, at most, the ground may differ from them
TWO_COLOURS = 0.7  # share of it that most of the surroundings may differ by among themselves
FARTHER = 12  # pixels around a piece in which the plate may be in the same shade
SHADED = (0.2, 0.5)  # share of the piece's shade from which it is at the edge, and within


@dataclass(frozen=True)
class Turned:
    """Places of a stack whose owned frames show the ground.

    where: (h, w) bool. shade, ground: (h, w, 3) uint8, how they look in shade, and beside it.
    """

    where: np.ndarray
    shade: np.ndarray
    ground: np.ndarray

    def seen(
        self, stack: Stack, camera: Camera, t: int, frame: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """What of frame t (H, W, 3) uint8 is in shade, and what shows the ground, (H, W) bool."""
        where = stack.seen_from(camera, t, self.where)
        if not where.any():
            return where, where
        motion, flags = stack.homography(camera, t), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

        def apart(picture: np.ndarray) -> np.ndarray:
            there = cv2.warpPerspective(picture, motion, camera.size[::-1], flags=flags)
            return np.asarray(cv2.absdiff(there, frame)).sum(2, dtype=np.int32)

        shaded = where & (apart(self.shade) <= apart(self.ground))
        return shaded, where & ~shaded


def turned_claims(
    images: np.ndarray, seen: np.ndarray, free: np.ndarray, plate: np.ndarray, count: np.ndarray
) -> Turned:
    """Where claims are turned round.

    images: (K, h, w, 3) uint8, frames in the plate's coordinates. seen: (K, h, w) bool, where no
    body is. free: the same, and no effect. plate: (h, w, 3) uint8, the median of what is free, of
    `count` frames, (h, w).
    """
    # What is owned next to a body may be its rim.
    apart = np.stack([~grown_mask(~x, BESIDE) for x in seen])
    owned, times = median_shown(images, apart & ~free)
    change = owned.astype(np.int16) - plate
    both = (count >= FEWEST) & (times >= FEWEST)
    up = both & (change.min(2) > -NO_DARKER) & (channel_max(change) > BRIGHTER)
    down = both & (change.max(2) < NO_DARKER) & (channel_max(-change) > BRIGHTER)
    where, ground = np.zeros_like(both), plate.copy()
    joined = cv2.morphologyEx(up.view(np.uint8), cv2.MORPH_CLOSE, disc(CLOSE))
    number, labels = cv2.connectedComponents(joined)
    shadows = grown_mask(down, NEAR + 1)
    for label in range(1, number):
        piece = up & (labels == label)
        if piece.sum() < LEAST or not (piece & shadows).any():
            continue
        ring = grown_mask(piece, NEAR + RING) & ~grown_mask(piece, NEAR) & (count > 0) & ~up & ~down
        if ring.sum() < LEAST:
            continue
        # Light drifts: each frame tells how its own surroundings look.
        dark, lit = contrasts(images, seen, free, piece, ring)
        if dark > -DARKER or abs(lit) > CONTINUES * -dark:
            continue
        # Beside an edge of the scene there is ground in two colours.
        low, high = np.percentile(plate[ring].mean(1), (20, 80))
        if high - low > TWO_COLOURS * -dark:
            continue
        if not never_alone(piece, seen, free):
            continue
        beside = np.median(plate[ring], axis=0)
        shade = (beside - plate).mean(2)
        soft, full = (shade > x * shade[piece].mean() for x in SHADED)
        # What is dark by itself is dark in all frames.
        bright = seen & ((beside - images).mean(3) < SHADED[1] * shade[piece].mean())
        leaves = (count > 0) & (bright.sum(0) >= FEWEST)
        piece |= full & leaves & grown_mask(piece, FARTHER)
        piece |= soft & leaves & grown_mask(piece, NEAR)
        where |= piece
        ground[piece] = beside
    return Turned(where, plate, ground)


def contrasts(
    images: np.ndarray, seen: np.ndarray, free: np.ndarray, piece: np.ndarray, ring: np.ndarray
) -> tuple[float, float]:
    """How much brighter a piece is than the ring around it, each (h, w) bool, in levels: at its
    darkest and at its brightest, but for a frame each. images, seen, free: as of `turned_claims`.
    """
    line = np.full((len(images), np.count_nonzero(piece)), np.nan)
    for values, image, there, clear in zip(line, images, seen, free, strict=True):
        around = image[ring & clear]
        if len(around) >= LEAST:
            beside = np.median(around, axis=0).mean()
            values[:] = np.where(there[piece], image[piece].mean(1) - beside, np.nan)
    line = np.sort(line, axis=0)  # what is not known comes last
    many = np.isfinite(line).sum(0)
    known = many >= 2 * FEWEST
    if not known.any():
        return 0.0, 0.0
    low = line[FEWEST - 1, known]
    high = np.take_along_axis(line, np.maximum(many - FEWEST, 0)[None], 0)[0, known]
    return float(np.median(low)), float(np.median(high))

"""Shadows that pass for the plate: of two looks of a place that differ by light, the brighter.

A shadow that rests for most of a clip is in the first plate, and who owns what is told by what
differs from that: the shadow seems to be the scene, and the lit ground after it left somebody's
effect. Or the network finds the shadow in some frames and misses it in others. A shadow takes a
share of the light, much the same share of each channel, so that where a place near what objects own
is brighter at times by such a gain, it is in shadow at the others. A thing in parallax changes its
colour, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.ranks import ranked

# Logarithms of gains, unless said otherwise.
GAIN = 0.113  # by which some of a shadow must be darker: 12 %
PENUMBRA = 0.05  # by which all of it must be
TINT = 0.2  # by which the channels' gains may differ from their mean
UNLIKE = 0.15  # by which a pixel may be darker than both looks
DARK = 0.4  # share of the shadow's gain from which a frame's pixel is taken to be in it
LIGHT = 0.9  # share of what changes together that must change by light alone
# Percentiles of the gains where nobody owns anything. All of a shadow must exceed the first, which
# is at most RESTLESS where anything can be told, and some of it the second.
CONTROL = 98.0, 99.5
RESTLESS = 0.07
LEAST_CONTROL = 200  # pixels that those are told from
FLOOR = 4.0  # levels, added before logarithms are taken
BRIGHTEST = 8  # of so many samples that show a place, one may be brighter than it is
FEWEST = 5  # samples that must show a place
OWNED = 2  # samples that must own a place, or one at most NEAR pixels from it
NEAR = 2  # pixels
SEEDS = 3  # pixels of a shadow that must be darker by GAIN
SPECK = 8  # pixels: smaller ones are none
CLIPPED = 252  # levels


@dataclass(frozen=True)
class Shade:
    """A place's two looks on a canvas.

    where: (h, w) bool, which pixels have two. lit, dark: (h, w, 3) float32, logarithms of either.
    """

    where: np.ndarray
    lit: np.ndarray
    dark: np.ndarray

    def of(self, frame: np.ndarray, motion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is in shadow in a frame (H, W, 3) uint8, and what is lit, two (H, W) bool.

        motion: (3, 3), pixels of the frame to pixels of the canvas.
        """
        shaded, lit = np.zeros((2, *frame.shape[:2]), bool)
        inverse = cv2.WARP_INVERSE_MAP
        there = cv2.warpPerspective(
            self.where.view(np.uint8),
            motion,
            frame.shape[1::-1],
            flags=inverse | cv2.INTER_NEAREST,
        )
        box = bounding_box(there > 0, 1)
        if box is None:
            return shaded, lit
        part, near = box.slices, _grown(there[box.slices] > 0, 1)
        corner = np.array([[1, 0, box.columns.start], [0, 1, box.rows.start], [0, 0, 1.0]])
        bright, dark = (
            cv2.warpPerspective(
                x, motion @ corner, near.shape[::-1], flags=inverse | cv2.INTER_LINEAR
            )
            for x in (self.lit, self.dark)
        )
        darker, tint = gains(bright, logarithm(frame[part]))
        gain = (bright - dark).mean(2)
        in_shadow = darker > np.maximum(DARK * gain, PENUMBRA)
        alike = (tint < TINT) & (darker < gain + UNLIKE)
        shaded[part], lit[part] = near & in_shadow & alike, near & ~in_shadow
        return shaded, lit


def find_shade(
    images: np.ndarray, seen: np.ndarray, owned: np.ndarray, plate: np.ndarray
) -> Shade | None:
    """Where a place is brighter at times than its plate; None: nowhere.

    images: (K, h, w, 3) uint8, aligned samples. seen: (K, h, w) bool, not behind an object. owned:
    (K, h, w) bool, of those, what is somebody's effect. plate: (h, w, 3) uint8, of the others.
    """
    count = seen.sum(0)
    smooth = np.stack([cv2.blur(image, (3, 3)) for image in images])
    smooth[~seen] = 255  # sorts to the end, where it does not count
    place = np.maximum(count - 1 - np.maximum(1, count // BRIGHTEST), 0)
    flat = smooth.reshape(len(smooth), -1)
    brightest = ranked(flat, np.repeat(place.reshape(-1), 3)).reshape(plate.shape)
    lit, dark = logarithm(brightest, blurred=True), logarithm(plate)
    gain, tint = gains(lit, dark)
    known = (count >= FEWEST) & (brightest.max(2) < CLIPPED)
    owners = owned.sum(0)
    control = known & ~_grown(owners > 0, 2 * NEAR) & (count > FEWEST)
    if np.count_nonzero(control) < LEAST_CONTROL:
        return None
    often, seldom = np.percentile(gain[control], CONTROL)
    if often > RESTLESS:
        return None
    least, most = max(PENUMBRA, float(often)), max(GAIN, float(seldom))
    near = _grown(owners >= OWNED, NEAR)
    changed = known & (gain > least) & _grown(near, NEAR)
    possible = changed & (tint < TINT)
    seeds = possible & near & (gain > most)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(changed.view(np.uint8))
    seeded, light = (np.bincount(labels[x], minlength=len(stats)) for x in (seeds, possible))
    area = stats[:, cv2.CC_STAT_AREA]
    enough = (seeded >= SEEDS) & (area >= SPECK) & (light >= LIGHT * area)
    enough[0] = False
    if not enough.any():
        return None
    # Shadows sway, and a penumbra lies between the two looks: both are smoothed once more.
    return Shade(enough[labels] & possible, cv2.blur(lit, (3, 3)), cv2.blur(dark, (3, 3)))


def gains(bright: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By how much one look (h, w, 3) of logarithms is brighter, (h, w), and by how much a channel
    differs from that at most, (h, w)."""
    by = bright - other
    mean = by.mean(2)
    return mean, np.abs(by - mean[..., None]).max(2)


def logarithm(image: np.ndarray, blurred: bool = False) -> np.ndarray:
    """Of an image (h, w, 3) uint8, smoothed unless it is `blurred`: (h, w, 3) float32."""
    smooth = image if blurred else cv2.blur(image, (3, 3))
    return np.log(smooth.astype(np.float32) + np.float32(FLOOR))


def _grown(mask: np.ndarray, reach: int) -> np.ndarray:
    side = 2 * reach + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0

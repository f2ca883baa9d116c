"""One frame of the scene seen from another: homography, then a smooth residual motion.

A homography leaves parallax, the lens and the shutter. What is left is found by dense flow where
both frames show the scene, and smoothed: finely far from masks, and stiffly near and in them, where
it is extrapolated and a free motion would bend poles and lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import local

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, eight_bits
from omnimatte_cli.camera.model import normalised, scale_matrix
from omnimatte_cli.camera.tracking import even_light
from omnimatte_cli.matte.blur import reduced
from omnimatte_cli.matte.box import Box
from omnimatte_cli.plate.slight import CELL, slight_motion

FLOW_WIDTH = 320  # pixels at which residual motion is searched, down to that resolution itself
SMALLEST = 24  # pixels a side, which the search needs
STRIDE, SMALL_STRIDE = 5, 4  # pixels between patches of 8, at that resolution and below it
STEPS = 8  # of gradient descent a patch
REFERENCE_WIDTH = 640  # pixels: the width at which the following lengths are given
FINE = 4.0  # pixels, by which the motion is blurred far from masks
STIFF = 40.0  # pixels, near and in them
NEAR = 10.0  # pixels, how softly one goes over into the other
REACH = 6  # pixels of flow around masks where the search's patches touch what is hidden
TOLERANCE = 20.0  # levels of evened light, beyond which a match is not trusted
PRIOR_FINE, PRIOR_STIFF = 1e-2, 1e-2  # weight of no motion at all, for where nothing is known


@dataclass(frozen=True)
class Shot:
    """A frame ready to be aligned. image: (H, W, 3) uint8 or uint16. hidden: (H, W) bool, not the
    scene.

    even: (h, w) uint8, the frame for flow; covered: (h, w) uint8, 1 where hidden there. unlit: (h,
    w) uint8, 1 where a body is, so that nothing is known of the scene's light.
    """

    image: np.ndarray
    hidden: np.ndarray
    even: np.ndarray
    covered: np.ndarray
    unlit: np.ndarray

    def part(self, box: Box) -> Shot:
        """A part of a frame that is no wider than FLOW_WIDTH."""
        assert self.even.shape == self.hidden.shape, (self.even.shape, self.hidden.shape)
        fields = (self.image, self.hidden, self.even, self.covered, self.unlit)
        return Shot(*(np.ascontiguousarray(x[box.slices]) for x in fields))


def flow_size(size: Size) -> Size:
    """(h, w) at which residual motion of frames (H, W) is searched."""
    scale = min(1.0, FLOW_WIDTH / size[1])
    return max(SMALLEST, round(size[0] * scale)), max(SMALLEST, round(size[1] * scale))


def prepare(image: np.ndarray, hidden: np.ndarray, bodies: np.ndarray | None = None) -> Shot:
    """A frame (H, W, 3) and where it does not show the scene, (H, W) bool.

    bodies: (H, W) bool, what of that are bodies and no effects on the scene; None: all.
    """
    h, w = flow_size(image.shape[:2])
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (w, h), interpolation=cv2.INTER_AREA)
    there = _touched(hidden, (h, w))
    side = 2 * REACH + 1
    covered = cv2.dilate(there, np.ones((side, side), np.uint8))
    unlit = there if bodies is None else _touched(bodies, (h, w))
    return Shot(image, hidden, even_light(eight_bits(grey)), covered, unlit)


def _touched(mask: np.ndarray, size: Size) -> np.ndarray:
    """The pixels (h, w) of which a mask (H, W) bool holds any part, uint8."""
    share = cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
    return (share > 0).astype(np.uint8)


class Aligner:
    """Brings other frames into the view of one, for several threads. Holds what all share."""

    def __init__(self, size: Size, width: int | None = None) -> None:
        """size: of the one's picture. width: of whole frames, where that is a part of one."""
        self.size = size
        self.flow_size = flow_size(size)
        self.pixel = (width or self.flow_size[1]) / REFERENCE_WIDTH
        self.scale = scale_matrix(size, self.flow_size)
        self.grid = _pixels(size)
        self.small_grid = _pixels(self.flow_size)
        # The centres of the small pixels, in pixels of the frame.
        self.centres = cv2.perspectiveTransform(self.small_grid, np.linalg.inv(self.scale))
        self.searches = local()

    def align(
        self, target: Shot, other: Shot, homography: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """`other` from the view of `target`: image (H, W, 3), shown (H, W) bool.

        homography: (3, 3), pixels of target to pixels of other, which may be larger. Not shown is
        what lies outside of the other frame or is hidden in it; what is hidden in the target is
        shown.
        """
        h, w = self.size
        flow = self._residual(target, other, homography)
        larger = np.array([w / self.flow_size[1], h / self.flow_size[0], 0, 0])
        # Both motions are so smooth that what is small is enlarged once they are joined.
        moved = cv2.add(self.centres, cv2.multiply(flow, larger))
        there = cv2.perspectiveTransform(moved, homography)
        where = cv2.resize(there - self.centres, (w, h), interpolation=cv2.INTER_LINEAR)
        where += self.grid
        image = cv2.remap(  # type: ignore[call-overload]
            other.image, where, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        # Bilinear, so that a pixel of which any part is hidden counts as such.
        hidden = cv2.remap(  # type: ignore[call-overload]
            other.hidden.astype(np.uint8) * 255,
            where,
            None,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=255.0,
        )
        return image, hidden < 64

    def lit(self, target: Shot, other: Shot, homography: np.ndarray) -> np.ndarray:
        """Where both show the scene in some light, effects included, (H, W) bool of target."""
        h, w = self.flow_size
        motion, flags = self._small(homography), cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        unlit = cv2.warpPerspective(other.unlit, motion, (w, h), flags=flags, borderValue=1.0)
        unlit = np.maximum(unlit, target.unlit)
        return cv2.resize(unlit, self.size[::-1], interpolation=cv2.INTER_NEAREST) == 0

    def _small(self, homography: np.ndarray) -> np.ndarray:
        """The same motion (3, 3) between pixels of the size at which flow is searched."""
        return normalised(self.scale @ homography @ np.linalg.inv(self.scale))

    def _search(self) -> cv2.DISOpticalFlow:
        """This thread's search for motion: it keeps state while it runs."""
        if not hasattr(self.searches, "flow"):
            self.searches.flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
            self.searches.flow.setFinestScale(0)
            small = self.flow_size[1] < FLOW_WIDTH
            self.searches.flow.setPatchStride(SMALL_STRIDE if small else STRIDE)
            self.searches.flow.setGradientDescentIterations(STEPS)
        flow: cv2.DISOpticalFlow = self.searches.flow
        return flow

    def _residual(self, target: Shot, other: Shot, homography: np.ndarray) -> np.ndarray:
        """Smooth motion (h, w, 2) float32 that is left after the homography, pixels of target."""
        h, w = self.flow_size
        motion = self._small(homography)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpPerspective(
            other.even, motion, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        covered = cv2.warpPerspective(other.covered, motion, (w, h), flags=flags, borderValue=1.0)
        unknown = (covered | target.covered).astype(np.float32)
        pixel = self.pixel
        near = reduced(unknown, CELL)
        near = np.clip(3 * cv2.GaussianBlur(near, (0, 0), NEAR * pixel / CELL), 0, 1)
        slight = slight_motion(target.even, seen, unknown, near, STIFF * pixel)
        if slight is not None:
            return slight
        flow = self._search().calc(target.even, seen, None)  # type: ignore[call-overload]
        columns, rows = cv2.split(self.small_grid + flow)
        found = cv2.remap(seen, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        miss = cv2.blur(cv2.absdiff(found, target.even).astype(np.float32), (3, 3))
        weight = np.exp(-((miss / TOLERANCE) ** 2)) * (1 - unknown)
        x, y = cv2.split(flow)
        weighted = cv2.merge([x * weight, y * weight, weight])
        fine = _blurred(weighted, FINE * pixel, PRIOR_FINE)
        # The stiff part is so smooth that a quarter of the resolution is enough.
        stiff = cv2.resize(
            _blurred(reduced(weighted, CELL), STIFF * pixel / CELL, PRIOR_STIFF), (w, h)
        )
        return fine + cv2.resize(cv2.merge([near, near]), (w, h)) * (stiff - fine)


def _pixels(size: Size) -> np.ndarray:
    """(h, w, 2) float32: x and y of every pixel."""
    h, w = size
    return np.dstack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)))


def _blurred(weighted: np.ndarray, sigma: float, prior: float) -> np.ndarray:
    """Normalised convolution of (h, w, 3): motion times weight, and weight; to (h, w, 2)."""
    x, y, weight = cv2.split(cv2.GaussianBlur(weighted, (0, 0), max(sigma, 0.3)))
    weight += prior
    return cv2.merge([x / weight, y / weight])

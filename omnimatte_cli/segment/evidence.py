"""What a frame says about each pixel, whatever object it is of: colour, change, and motion.

Each is a small number, so that an object, and the ground around it, are three histograms. What a
histogram of the ground shares with that of the object has no weight then: waves that differ from
the plate as a swimmer does, or a ground of a coat's colour, do not count.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.camera.flow import backward_flow
from omnimatte_cli.segment.backdrop import Backdrop
from omnimatte_cli.segment.colours import colour_bins
from omnimatte_cli.segment.motion import (
    Frames,
    change_of,
)

CHANGE_LEVELS = (0.3, 0.6, 1.0, 1.5, 2.5)  # of the threshold from which a pixel differs
CHANGES = 4 * (len(CHANGE_LEVELS) + 1) + 1  # levels, shadow or not, mover or not; the last: unknown
KEPT = 75_000_000  # pixels of maps of 4 bytes a pixel that are kept
MOTION_EDGES = tuple(float(x) for x in np.linspace(-1.5, 1.5, 8))
MOTIONS = len(MOTION_EDGES) + 1


@dataclass(frozen=True)
class Seen:
    """One frame: bins of colour (h, w) uint16, of change (h, w) uint8, foreground (h, w) bool."""

    colour: np.ndarray
    change: np.ndarray
    foreground: np.ndarray

    def within(self, window: tuple) -> Seen:
        """The same of a part of the frame."""
        return Seen(self.colour[window], self.change[window], self.foreground[window])


class Evidence:
    """Colour and change of every frame of a clip (T, h, w, 3) uint8, and how pixels move between
    two frames, made when asked for.

    backdrop: the scenes behind, of the same size. What was asked for last is kept, so that a way
    back through the clip finds what the way there made. kept: pixels of it.
    """

    def __init__(self, frames: Frames, backdrop: Backdrop, kept: int = KEPT) -> None:
        self.frames, self.backdrop = frames, backdrop
        self.size: Size = (frames.shape[1], frames.shape[2])
        self.kept: OrderedDict[tuple[int, ...], tuple[np.ndarray, ...]] = OrderedDict()
        self.most = max(kept // (self.size[0] * self.size[1]), 4)

    def at(self, t: int) -> Seen:
        """What frame t says."""
        return Seen(*self._kept((t,), self._look))

    def flow(self, t: int, other: int) -> np.ndarray:
        """`backward_flow` from frame t to another, (h, w, 2) float32."""
        return self._kept((t, other), self._match)[0].astype(np.float32)

    def _look(self, t: int) -> tuple[np.ndarray, ...]:
        frame = self.frames[t]
        change = change_of(frame, self.backdrop.scene(t))
        level = np.zeros(self.size, np.uint8)
        for edge in CHANGE_LEVELS:
            level += change.level >= edge
        change_bins = (level * 2 + change.shadow) * 2 + change.foreground
        change_bins[~change.known] = CHANGES - 1
        return colour_bins(frame).astype(np.uint16), change_bins, change.foreground

    def _match(self, t: int, other: int) -> tuple[np.ndarray, ...]:
        return (backward_flow(self.frames[t], self.frames[other]).astype(np.float16),)

    def _kept(
        self, key: tuple[int, ...], make: Callable[..., tuple[np.ndarray, ...]]
    ) -> tuple[np.ndarray, ...]:
        found = self.kept.pop(key, None) or make(*key)
        self.kept[key] = found  # the latest
        if len(self.kept) > self.most:
            self.kept.popitem(last=False)
        return found

    def camera_flow(self, t: int, other: int) -> np.ndarray:
        """Where the scene's pixels of frame t lie in another, as offsets (h, w, 2) float32."""
        h, w = self.size
        if not self.backdrop.camera.moving:
            return np.zeros((h, w, 2), np.float32)
        matrix = self.backdrop.camera.between(t, other)
        x, y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
        grid = np.stack([x, y], -1)
        return cv2.perspectiveTransform(grid, matrix).astype(np.float32) - grid


def motion_bins(flow: np.ndarray, scene: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Whether pixels move with an object or with the scene, (h, w) uint8 in [0, MOTIONS).

    flow, scene: (h, w, 2) in pixels; own: (2,), the object's.
    """
    with_object, with_scene = _lengths(flow - own), _lengths(flow - scene)
    rather = (with_scene - with_object) / (0.5 + 0.5 * (with_scene + with_object))
    bins = np.zeros(rather.shape, np.uint8)
    for edge in MOTION_EDGES:
        bins += rather >= edge
    return bins


def _lengths(offsets: np.ndarray) -> np.ndarray:
    """(h, w) of (h, w, 2), float32."""
    offsets = offsets.astype(np.float32, copy=False)
    return cv2.magnitude(offsets[..., 0].copy(), offsets[..., 1].copy())


def histogram(bins: np.ndarray, count: int) -> np.ndarray:
    """Histogram (count,) float32 with sum 1 of bins, every bin a little filled."""
    counts = np.bincount(bins.ravel(), minlength=count).astype(np.float32)
    return (counts / max(float(counts.sum()), 1.0) + 0.02) / (1 + 0.02 * count)

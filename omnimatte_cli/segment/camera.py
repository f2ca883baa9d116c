"""Does the camera move? Sparse features between frames, near and far apart."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.segment.motion import Frames

STILL = 0.004  # displacement of the scene, share of the picture's width, that counts as static
PAIRS = 8  # pairs of frames looked at, each at two distances
FEATURES = 400
TILES = 5  # rows and columns of the picture that each give their share of the features
STAYS = 0.7  # pixels within which a feature counts as not moved
ENOUGH = 12  # features that must agree before a motion is believed


@dataclass(frozen=True)
class CameraMotion:
    """How far the static part of the scene moves: shares of the picture's width.

    far: between frames far apart, the largest believable shift. near: typical shift from one frame
    to the next. moving: whether a static-camera method will fail.
    """

    far: float
    near: float
    moving: bool


def camera_motion(frames: Frames) -> CameraMotion:
    """Judge the camera from frames (T, h, w, 3) uint8.

    Between two frames the features on the scene agree on one affine map, found by RANSAC; those on
    movers do not. Frames far apart show slow drift; a fast pan loses its features there, and shows
    between neighbours instead.
    """
    greys = {}

    def grey(t: int) -> np.ndarray:
        if t not in greys:
            greys[t] = _even(cv2.cvtColor(frames[t], cv2.COLOR_RGB2GRAY))
        return greys[t]

    count, width = len(frames), frames.shape[2]
    starts = np.unique(np.linspace(0, count - 2, PAIRS).round().astype(int))
    near = [_shift(grey(t), grey(t + 1)) for t in starts]
    far = [_shift(grey(0), grey(t + 1)) for t in starts[1:]]
    typical = float(np.median([s for s in near if s is not None] or [0.0])) / width
    known = [s for s in far if s is not None]
    # One wrong pair must not condemn a clip: take the upper third.
    furthest = float(np.percentile(known, 67)) / width if known else 0.0
    # Noise alone moves features by about a tenth of a pixel, which does not add up over frames.
    pan = typical * width > 0.4 and typical * (count - 1) > STILL * 2
    return CameraMotion(furthest, typical, furthest > STILL or pan)


def _even(grey: np.ndarray) -> np.ndarray:
    """Brightness and contrast made equal everywhere, as a drifting exposure must not look moving.

    (h, w) uint8 in and out.
    """
    fine = grey.astype(np.float32)
    fine -= cv2.GaussianBlur(fine, (0, 0), 8)
    spread = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 16))
    return np.clip(128 + 40 * fine / (spread + 4), 0, 255).astype(np.uint8)


def _shift(first: np.ndarray, second: np.ndarray) -> float | None:
    """Median displacement of the scene in pixels, None where too few features say anything."""
    h, w = first.shape
    # Spread over the picture, so that one textured mover does not hold the majority.
    tiles = [(y * h // TILES, x * w // TILES) for y in range(TILES) for x in range(TILES)]
    points = []
    for y, x in tiles:
        found = _corners(first[y : y + h // TILES, x : x + w // TILES])
        if found is not None:
            points.append(found + np.array([x, y], np.float32))
    if not points:
        return None
    start = np.concatenate(points).astype(np.float32)
    options = {"winSize": (21, 21), "maxLevel": 4}
    end, found, _ = cv2.calcOpticalFlowPyrLK(first, second, start, None, **options)  # type: ignore
    back, again, _ = cv2.calcOpticalFlowPyrLK(second, first, end, None, **options)  # type: ignore
    same = np.abs(back - start).max((1, 2)) < 0.5
    good = (found.ravel() > 0) & (again.ravel() > 0) & same
    if good.sum() < ENOUGH:
        return None
    a, b = start[good, 0], end[good, 0]
    tile = (a * TILES // (w, h)).astype(int) @ (1, TILES)
    distance = np.sqrt(((b - a) ** 2).sum(1))
    # If features over a third of the picture have not moved, the scene is static, whatever else
    # does: a pan leaves none in place.
    still = distance < STAYS
    if still.sum() >= ENOUGH and len(np.unique(tile[still])) > len(np.unique(tile)) / 3:
        return float(np.median(distance[still]))
    _, inlier = cv2.estimateAffinePartial2D(a, b, ransacReprojThreshold=1.5)
    if inlier is None:
        return None
    agree = inlier.ravel() > 0
    # A mover is coherent too, but does not fill the picture.
    spread = len(np.unique(tile[agree])) > len(np.unique(tile)) / 2
    if agree.sum() < max(ENOUGH, 0.3 * len(a)) or not spread:
        return None
    return float(np.median(distance[agree]))


def _corners(tile: np.ndarray) -> np.ndarray | None:
    found = cv2.goodFeaturesToTrack(tile, FEATURES // TILES**2, 0.02, 5)
    return None if found is None else found.reshape(-1, 1, 2)

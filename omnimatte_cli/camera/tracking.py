"""Points of the scene found again in another frame, and the homography that most of them share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from omnimatte_cli.camera.direct import align, explained
from omnimatte_cli.camera.model import corners, normalised, project, sane

WORKING_WIDTH = 640  # pixels; wider frames are tracked in a copy of this width
TILES = (5, 8)  # rows and columns of the frame, each of which gives its share of points
POINTS_PER_TILE = 12
CORNER = 30.0  # smallest eigenvalue, in levels squared, of the structure of a point worth tracking
WINDOW = 17  # pixels, side of the tracker's window
LEVELS = 3  # times that pictures are halved for it,
FEW_LEVELS = 1  # and where it is known to some pixels where points went
RETURN = 0.4  # pixels by which tracking there and back may miss the start
THRESHOLD = 1.0  # pixels, the scale of MAGSAC's inliers
FEW = 40  # inliers below which a homography's eight numbers are too many: four are fitted
MIN_INLIERS = 20
MORE = 1.1  # times the cells that tracked points explain, from which all pixels know better
FAR = 1.0  # pixels, up to which a motion does no harm if there is none
MOST = 0.5  # of the picture must have detail: a shadow that crosses a bare wall is no scene
MIN_SHARE = 0.3  # of tracked points, that must be inliers
SIFT_POINTS = 1200
RATIO = 0.8  # Lowe's: nearest over second nearest descriptor


@dataclass(frozen=True)
class View:
    """One frame prepared for tracking: grey (h, w) uint8 with even light."""

    frame: int
    grey: np.ndarray
    hidden: np.ndarray  # (h, w) uint8, nonzero in grown masks

    @cached_property
    def points(self) -> np.ndarray:
        """Where tracking begins, (P, 1, 2) float32 (x, y)."""
        return _corners(self.grey, self.hidden)


@dataclass(frozen=True)
class Pair:
    """Points of frame `first` and where frame `second` has them: (P, 2) float64 (x, y) pixels.

    homography: (3, 3), first to second. tracked: points that were found again, inliers or not.
    """

    first: int
    second: int
    start: np.ndarray
    end: np.ndarray
    homography: np.ndarray
    tracked: int

    @property
    def share(self) -> float:
        return len(self.start) / max(self.tracked, 1)

    def counted_from(self, frame: int) -> Pair:
        return replace(self, first=self.first - frame, second=self.second - frame)


def view(frame: int, grey: np.ndarray, hidden: np.ndarray | None) -> View:
    """Prepare a grey (h, w) uint8 frame; hidden: (h, w) bool, where the scene is not seen."""
    mask: np.ndarray = np.zeros(grey.shape, np.uint8)
    if hidden is not None:
        side = 2 * max(2, round(0.015 * grey.shape[1])) + 1
        mask = cv2.dilate(hidden.astype(np.uint8), np.ones((side, side), np.uint8))
    return View(frame, even_light(grey), mask)


def even_light(grey: np.ndarray) -> np.ndarray:
    """Brightness and contrast made equal everywhere, so that light that changes does not move.

    (h, w) uint8 in and out. What is flat stays flat: noise of a few levels is not blown up.
    """
    fine = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 0.7)
    fine = cv2.subtract(fine, cv2.GaussianBlur(fine, (0, 0), 8))
    spread = cv2.sqrt(cv2.blur(cv2.blur(fine * fine, (33, 33)), (33, 33)))
    spread += 8
    fine *= 40
    np.divide(fine, spread, out=fine)
    fine += 128
    return np.clip(fine, 0, 255, out=fine).astype(np.uint8)


def _corners(even: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Well-textured points spread over the frame, (P, 1, 2) float32."""
    strength = cv2.cornerMinEigenVal(even, 5, ksize=3) * (255**2 / 2)  # OpenCV's scale, undone
    strength[hidden > 0] = 0
    strength[: WINDOW // 2] = strength[-(WINDOW // 2) :] = 0
    strength[:, : WINDOW // 2] = strength[:, -(WINDOW // 2) :] = 0
    peak = (strength == cv2.dilate(strength, np.ones((9, 9), np.uint8))) & (strength > CORNER)
    y, x = np.nonzero(peak)
    tile = (y * TILES[0] // even.shape[0]) * TILES[1] + x * TILES[1] // even.shape[1]
    order = np.lexsort((-strength[y, x], tile))
    _, first = np.unique(tile[order], return_index=True)
    starts = np.repeat(first, np.diff([*first, len(order)]))
    keep = order[np.arange(len(order)) - starts < POINTS_PER_TILE]
    return np.stack([x[keep], y[keep]], -1).astype(np.float32)[:, None]


def track(a: View, b: View, guess: np.ndarray) -> Pair | None:
    """Find a's points in b; guess: (3, 3), about where they went. None where too few agree.

    Where few points agree, all pixels are asked (direct.py), and what explains more counts.
    """
    return better_of(track_points(a, b, guess), a, b, guess)


def better_of(pair: Pair | None, a: View, b: View, guess: np.ndarray) -> Pair | None:
    """A pair from corners where many agree, else what all pixels say where this explains more."""
    if pair is not None and len(pair.start) >= FEW:
        return pair
    hidden = (a.hidden, b.hidden)
    motion = align(a.grey, b.grey, hidden, guess)
    if motion is None or not sane(normalised(motion), a.grey.shape):
        return pair
    best = explained(a.grey, b.grey, hidden, motion)
    start, told = best.middles, best.told
    if told < MOST * best.shown or len(start) < max(MIN_INLIERS, MIN_SHARE * told):
        return pair
    # On a smooth ramp many motions fit nearly as well as none: what goes far must match better.
    ends = corners((a.grey.shape[0], a.grey.shape[1]))
    if np.linalg.norm(project(motion, ends) - ends, axis=1).max() > FAR:
        still = explained(a.grey, b.grey, hidden, np.eye(3))
        if best.apart > still.apart:
            return pair
    if pair is not None:
        others = explained(a.grey, b.grey, hidden, pair.homography).middles
        if len(start) <= MORE * len(others):
            return pair
    motion = normalised(motion)
    return Pair(a.frame, b.frame, start, project(motion, start), motion, told)


def track_points(a: View, b: View, guess: np.ndarray, levels: int = LEVELS) -> Pair | None:
    """`track` by corners alone.

    b is seen through the guess first, so that turns and zooms between far frames do not matter.
    levels: FEW_LEVELS where the guess is right to some pixels.
    """
    if len(a.points) < MIN_INLIERS:
        return None
    seen = b.grey
    if not np.array_equal(guess, np.eye(3)):
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpPerspective(seen, guess, seen.shape[::-1], flags=how, borderValue=128.0)
    options = {"winSize": (WINDOW, WINDOW), "maxLevel": levels}
    end, found, _ = cv2.calcOpticalFlowPyrLK(a.grey, seen, a.points, None, **options)  # type: ignore
    back, again, _ = cv2.calcOpticalFlowPyrLK(seen, a.grey, end, None, **options)  # type: ignore
    good = (found.ravel() > 0) & (again.ravel() > 0)
    good &= np.hypot(*(back - a.points)[:, 0].T) < RETURN
    start = a.points[good, 0].astype(np.float64)
    end = project(guess, end[good, 0].astype(np.float64))
    return agree(a, b, start, end)


def match(a: View, b: View) -> Pair | None:
    """Points of a found in b by SIFT, for motions too large to be tracked."""
    sift = cv2.SIFT.create(SIFT_POINTS)
    found = [
        sift.detectAndCompute(v.grey, np.where(v.hidden > 0, 0, 255).astype(np.uint8))
        for v in (a, b)
    ]
    (keys_a, desc_a), (keys_b, desc_b) = found
    if desc_a is None or desc_b is None or min(len(keys_a), len(keys_b)) < MIN_INLIERS:
        return None
    pairs = cv2.BFMatcher().knnMatch(desc_a, desc_b, k=2)
    kept = [p[0] for p in pairs if len(p) == 2 and p[0].distance < RATIO * p[1].distance]
    if len(kept) < MIN_INLIERS:
        return None
    start = np.array([keys_a[m.queryIdx].pt for m in kept])
    end = np.array([keys_b[m.trainIdx].pt for m in kept])
    return agree(a, b, start, end)


def agree(a: View, b: View, start: np.ndarray, end: np.ndarray) -> Pair | None:
    """The homography that most of the points share, with those that do; None where few do."""
    h, w = a.grey.shape
    x, y = np.round(end).astype(int).T
    inside = (x >= 0) & (y >= 0) & (x < w) & (y < h)
    inside[inside] = b.hidden[y[inside], x[inside]] == 0
    start, end = start[inside], end[inside]
    if len(start) < MIN_INLIERS:
        return None
    method: dict = {"ransacReprojThreshold": THRESHOLD, "maxIters": 2000, "confidence": 0.999}
    homography, found = cv2.findHomography(start, end, cv2.USAC_MAGSAC, **method)
    inlier = None if found is None else found.ravel() > 0
    if inlier is None or inlier.sum() < FEW:
        similar, found = cv2.estimateAffinePartial2D(
            start, end, method=cv2.RANSAC, ransacReprojThreshold=THRESHOLD
        )
        if similar is None:
            return None
        homography, inlier = np.vstack([similar, [0, 0, 1]]), found.ravel() > 0
    if inlier.sum() < max(MIN_INLIERS, MIN_SHARE * len(start)) or not sane(homography, (h, w)):
        return None
    return Pair(a.frame, b.frame, start[inlier], end[inlier], normalised(homography), len(start))


def tiles_of(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of the tile that each of (P, 2) points lies in, (P,) int."""
    column = np.clip(points[:, 0] * TILES[1] / shape[1], 0, TILES[1] - 1).astype(int)
    row = np.clip(points[:, 1] * TILES[0] / shape[0], 0, TILES[0] - 1).astype(int)
    return row * TILES[1] + column

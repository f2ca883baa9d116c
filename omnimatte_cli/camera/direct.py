"""The motion between two frames from all their pixels, where there are no corners to track.

Plain ground, a smooth wall, a small or soft video: no place is worth tracking, but all together
tell how the scene moved. Gauss and Newton's method on the difference of brightness, coarse to
fine, composed inversely (Baker and Matthews 2004), each pixel weighted down as it differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Reductions of the pictures, coarse to fine, and how many of a homography's numbers each tells: a
# shift, then a similarity, at last all of them.
LEVELS = ((8, 2), (4, 4), (2, 4), (1, 8))
WIDTH = 330  # pixels; finer pictures are not looked at
SMALLEST = 24  # pixels, the shorter side of a picture that still tells something
ROUNDS = 12  # of the method at each level
ENOUGH = 0.02  # pixels; smaller steps end it
OUTSIDE = -10000.0  # level of what is not seen
LEAST = 0.25  # share of the places that must be seen in both
SCALE = (1.5, 5.0)  # medians of the differences, and levels at least, from which one counts little
RIDGE = 1e-4  # share of the mean diagonal that is added to it: what nothing tells stays as it is
BLUR = 0.6  # standard deviation of the blur before a reduction, in pixels of its result
CELL = 0.05  # of the width, the side of a cell by which a motion is judged
DETAIL = 3.0  # levels of detail below which a cell tells nothing
EXPLAINED = 0.6  # of its detail, up to which a cell may differ where the motion explains it


def align(
    a: np.ndarray,
    b: np.ndarray,
    hidden: tuple[np.ndarray, np.ndarray],
    guess: np.ndarray,
    most: int = 8,
) -> np.ndarray | None:
    """The homography (3, 3) from a's pixels to b's, or None where the method leads nowhere.

    a, b: (h, w) uint8 with even light. hidden: (h, w) uint8 each, nonzero where the scene is not
    seen. guess: (3, 3), where it begins. most: numbers by which the motion may differ from it: 4
    are those of a similarity.
    """
    h, w = a.shape
    found = guess.astype(np.float64)
    for level, numbers in LEVELS:
        size = (w // level, h // level)
        if min(size) < SMALLEST or (size[0] > WIDTH and level > 1):
            continue
        if size[0] > WIDTH:
            size = (WIDTH, max(round(h * WIDTH / w), SMALLEST))
        to_small = np.array([[size[0] / w, 0, 0], [0, size[1] / h, 0], [0, 0, 1.0]])
        to_small[:2, 2] = to_small[[0, 1], [0, 1]] * 0.5 - 0.5
        small = to_small @ found @ np.linalg.inv(to_small)
        better = _at_level([_reduced(x, size) for x in (a, b)], hidden, small, min(numbers, most))
        if better is None:
            return None
        found = np.linalg.solve(to_small, better @ to_small)
    return found / found[2, 2]


def _reduced(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    blurred = cv2.GaussianBlur(picture, (0, 0), BLUR * max(picture.shape[1] / size[0], 1))
    return cv2.resize(blurred, size, interpolation=cv2.INTER_AREA).astype(np.float32)


def _at_level(
    pictures: list[np.ndarray],
    hidden: tuple[np.ndarray, np.ndarray],
    found: np.ndarray,
    numbers: int,
) -> np.ndarray | None:
    """A homography (3, 3) between two pictures (h, w) float32 made better, or None."""
    here, there = pictures
    h, w = here.shape
    unhidden = [cv2.resize(x, (w, h), interpolation=cv2.INTER_NEAREST) == 0 for x in hidden]
    there = np.where(unhidden[1], there, OUTSIDE)
    across, down = (
        cv2.Sobel(here, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) * np.float32(w / 2) for dx in (1, 0)
    )
    inside = np.zeros((h, w), bool)
    inside[2:-2, 2:-2] = unhidden[0][2:-2, 2:-2]
    if np.count_nonzero(inside) < LEAST * inside.size:
        return None
    slope = np.abs(across) + np.abs(down)
    steep = slope >= np.median(slope[inside])  # the rest tells little
    rows, columns = np.nonzero(inside & steep)
    # Coordinates around the middle, in half widths, so that the numbers are of like size.
    centred = np.array([[2 / w, 0, -1], [0, 2 / w, -h / w], [0, 0, 1.0]])
    x, y = (columns * (2 / w) - 1).astype(np.float32), (rows * (2 / w) - h / w).astype(np.float32)
    jacobian = _jacobian(x, y, across[rows, columns], down[rows, columns], numbers)
    level = here[rows, columns]
    for _ in range(ROUNDS):
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        seen = cv2.warpPerspective(there, found, (w, h), flags=how, borderValue=OUTSIDE)
        miss = seen[rows, columns] - level
        told = miss > OUTSIDE / 4
        if np.count_nonzero(told) < LEAST * len(told):
            return None
        miss[~told] = 0
        scale = max(SCALE[0] * float(np.median(np.abs(miss[told]))), SCALE[1])
        weighted = jacobian * (told / (1 + (miss / scale) ** 2) ** 2).astype(np.float32)
        system = (weighted @ jacobian.T).astype(np.float64)
        system += np.eye(numbers) * (RIDGE * np.trace(system) / numbers + 1e-9)
        step = np.linalg.solve(system, weighted @ miss)
        change = np.linalg.solve(centred, _matrix(step) @ centred)
        found = found @ np.linalg.inv(change)
        found = found / found[2, 2]
        if np.abs(step[:2]).max() * w / 2 < ENOUGH:
            break
    return found


def _jacobian(
    x: np.ndarray, y: np.ndarray, across: np.ndarray, down: np.ndarray, numbers: int
) -> np.ndarray:
    """How brightness changes with each number of `_matrix` at P places, (numbers, P) float32."""
    if numbers == 2:
        return np.stack([across, down])
    if numbers == 4:
        return np.stack([across, down, across * x + down * y, down * x - across * y])
    along = across * x + down * y
    columns = [across, down, across * x, across * y, down * x, down * y, -along * x, -along * y]
    return np.stack(columns)


def _matrix(numbers: np.ndarray) -> np.ndarray:
    """A homography (3, 3) near the identity from its 2, 4 or 8 numbers."""
    p = [float(v) for v in numbers]
    if len(p) == 2:
        return np.array([[1, 0, p[0]], [0, 1, p[1]], [0, 0, 1]])
    if len(p) == 4:
        return np.array([[1 + p[2], -p[3], p[0]], [p[3], 1 + p[2], p[1]], [0, 0, 1]])
    return np.array([[1 + p[2], p[3], p[0]], [p[4], 1 + p[5], p[1]], [p[6], p[7], 1]])


@dataclass(frozen=True)
class Explained:
    """What a motion explains of a picture, by cells.

    middles: (P, 2) float64 (x, y), of the cells that it explains. told: how many have detail that
    could be explained. shown: how many both pictures show. apart: mean difference of these, levels.
    """

    middles: np.ndarray
    told: int
    shown: int
    apart: float


def explained(
    a: np.ndarray, b: np.ndarray, hidden: tuple[np.ndarray, np.ndarray], motion: np.ndarray
) -> Explained:
    """What a motion (3, 3) from a to b explains. a, b, hidden: as in `align`."""
    h, w = a.shape
    cells = (max(round(1 / CELL), 2), max(round(h / (w * CELL)), 2))
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(b, motion, (w, h), flags=how)
    free = cv2.warpPerspective(
        (hidden[1] == 0).astype(np.uint8),
        motion,
        (w, h),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    both = ((free > 0) & (hidden[0] == 0)).astype(np.float32)
    one, other = (cv2.GaussianBlur(x, (0, 0), 1.0).astype(np.float32) for x in (a, seen))

    def mean(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values * both, cells, interpolation=cv2.INTER_AREA)

    share, detail = mean(np.ones_like(both)), mean(np.abs(one - 128))
    shown = share > 0.5
    told = shown & (detail > DETAIL * share)
    differs = mean(np.abs(one - other))
    row, column = np.nonzero(told & (differs < EXPLAINED * detail))
    middles = np.stack([(column + 0.5) * w / cells[0], (row + 0.5) * h / cells[1]], -1)
    apart = float(differs[shown].sum() / max(float(share[shown].sum()), 1e-6))
    counts = int(np.count_nonzero(told)), int(np.count_nonzero(shown))
    return Explained(middles.astype(np.float64), *counts, apart)

"""Things that rest so long that the plate shows them: found once they leave, by their outlines.

Where a thing stands in the plate and is gone from a frame, the two differ in its shape, as where it
stands before the plate. Which of the two it is, the outline tells: a thing's own picture
changes across it, the bare ground's does not.
"""

from __future__ import annotations

import cv2
import numpy as np

SMOOTH = 1.5  # pixels, deviation of the blur under which both sides of an outline are compared
ACROSS = 3  # pixels from the outline at which the sides are looked at
CLEARLY = 1.5  # times that the plate's change across an outline must be the frame's
LEAST_CHANGE = 10.0  # levels that it must be, mean over the outline
NEAR = 0.2  # of the root of a shape's area: deviation over which its outline counts for a place
SMALLEST = 0.0005  # share of the picture below which a shape's outline says nothing


def ghosts(foreground: np.ndarray, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The parts of a foreground (h, w) bool where the plate shows something that the frame lacks.

    frame: (h, w, 3) uint8; plate: (h, w, 3) float32 in [0, 255]. Returns (h, w) bool.
    """
    soft = [cv2.GaussianBlur(x.astype(np.float32), (0, 0), SMOOTH) for x in (frame, plate)]
    level = cv2.GaussianBlur(foreground.astype(np.float32), (0, 0), 2)
    slope = np.stack([cv2.Sobel(level, cv2.CV_32F, 1, 0), cv2.Sobel(level, cv2.CV_32F, 0, 1)], -1)
    outlines, _ = cv2.findContours(
        foreground.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    found = np.zeros_like(foreground)
    _, labels = cv2.connectedComponents(foreground.astype(np.uint8))
    for outline in outlines:
        area = cv2.contourArea(outline)
        if area < SMALLEST * foreground.size:
            continue
        points = outline[:, 0]
        inside, changes = _changes_across(points, slope, soft)
        x, y, w, h = cv2.boundingRect(outline)
        window = np.s_[y : y + h, x : x + w]
        part = labels[window] == labels[points[0, 1], points[0, 0]]
        # A ghost may hang together with a thing that is there: each place asks the outline near it.
        sums = np.zeros((h, w, 3), np.float32)
        columns, rows = (points[inside] - (x, y)).T
        sums[rows, columns] = np.concatenate([changes, np.ones((len(rows), 1))], 1)
        blurred = cv2.GaussianBlur(sums, (0, 0), max(NEAR * float(np.sqrt(area)), 2.0))
        here, there = (blurred[..., k] / np.maximum(blurred[..., 2], 1e-9) for k in (0, 1))
        found[window] |= part & (there > np.maximum(LEAST_CHANGE, CLEARLY * here))
    return found


def _changes_across(
    points: np.ndarray, slope: np.ndarray, pictures: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Which of an outline's points (P, 2) (x, y) are in the picture, (P,) bool, and the changes
    across it there in each picture (h, w, 3), in levels, (Q, pictures) float32.

    slope: (h, w, 2), towards the inside.
    """
    h, w = slope.shape[:2]
    normal = slope[points[:, 1], points[:, 0]]
    normal = normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    sides = [np.rint(points + side * ACROSS * normal).astype(int) for side in (-1, 1)]
    # Where the picture ends, the shape is cut off: that is no outline.
    inside = np.all([(s >= 0).all(1) & (s < (w, h)).all(1) for s in sides], axis=0)
    changes = []
    for picture in pictures:
        values = [picture[s[inside, 1], s[inside, 0]] for s in sides]
        changes.append(np.abs(values[0] - values[1]).max(1))
    return inside, np.stack(changes, 1)

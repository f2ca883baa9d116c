"""Motion of a fraction of a pixel, by least squares: where two pictures nearly agree, as before a
camera that only turns or zooms, nothing needs to be searched for.

One step (Lucas and Kanade 1981) of cells that are told apart no further than the motion is smooth.
It is taken only where it leaves both pictures alike; what lies at another depth does not.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.camera.flow import least_squares_step, warp
from omnimatte_cli.matte.blur import reduced
from omnimatte_cli.matte.compositing import repeated

CELL = 4  # pixels a side
LEVELS = 6.0  # of evened light on average, by which a cell may differ
NEARLY = 0.06  # share of the cells that may differ by more before the step,
ALIKE = 0.02  # and after it
FLAT = 2.0  # squared levels a pixel: slopes below say little
LEAST = 1.2  # cells over which slopes are put together at least


def slight_motion(
    here: np.ndarray, there: np.ndarray, unknown: np.ndarray, near: np.ndarray, stiff: float
) -> np.ndarray | None:
    """Where each pixel of `here` is found in `there`: (h, w, 2) float32 offsets (x, y) in pixels.

    None where they are not alike enough for one step, or not after it. here, there: (h, w) uint8.
    unknown: (h, w) float32, 1 where either does not show the scene. near: float32 in [0, 1] for
    every cell, where the motion is to be as smooth as a blur by `stiff` pixels.
    """
    h, w = here.shape
    known = 1 - unknown
    allowed = LEVELS * np.maximum(reduced(known, CELL), 0.25)

    def apart(picture: np.ndarray) -> tuple[np.ndarray, float]:
        change = cv2.subtract(picture, here, dtype=cv2.CV_32F) * known
        return change, float((reduced(np.abs(change), CELL) > allowed).mean())

    change, share = apart(there)
    if share > NEARLY:
        return None
    x, y = (cv2.Sobel(there, cv2.CV_32F, *axis, scale=1 / 8) * known for axis in ((1, 0), (0, 1)))
    sums = [reduced(a, CELL) for a in (x * x, x * y, y * y, x * change, y * change)]
    fine, smooth = (
        _step(*(cv2.GaussianBlur(s, (0, 0), sigma) for s in sums))
        for sigma in (LEAST, max(LEAST, stiff / CELL))
    )
    flow = cv2.resize(fine + repeated(near, 2) * (smooth - fine), (w, h))
    found = warp(there, flow)
    return flow if apart(found)[1] <= ALIKE else None


def _step(
    xx: np.ndarray, xy: np.ndarray, yy: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """`least_squares_step` where slopes below FLAT say little."""
    return least_squares_step(xx + FLAT, xy, yy + FLAT, x, y)

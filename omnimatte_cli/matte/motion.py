"""How an object moved between two frames, by what is seen of it in both.

Who passes before it cuts off what is seen, so that no middle of a mask tells. What is unknown in
either frame counts for neither: at first a shift is looked for by correlation of all of the picture
(Padfield, "Masked Object Registration in the Fourier Domain", 2012, for squared differences), then
a similarity by Gauss and Newton's method, each pixel weighted down as it differs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from omnimatte_cli.arrays import Size

UNTOLD = 0.4  # share of what is seen in one frame only that counts as a difference
ROUNDS = 12  # of Gauss and Newton's method
ENOUGH = 0.02  # pixels; smaller steps end it
MOST = 0.3  # change of size, or radians, that may be found
FEWEST = 20  # pixels that tell a motion
PLACES = 6000  # that are looked at, or fewer
SCALE = (2.0, 0.3)  # medians of the differences, and at least, from which one counts little
RIDGE = 1e-3  # share of the mean diagonal that is added to it


@dataclass(frozen=True)
class View:
    """What a frame shows of an object, float32.

    layer: (h, w, 4) premultiplied colour and alpha. known: (h, w) in [0, 1], where nothing is
    before it.
    """

    layer: np.ndarray
    known: np.ndarray

    @property
    def size(self) -> Size:
        return self.known.shape[0], self.known.shape[1]

    @property
    def area(self) -> float:
        """How much of it is seen, pixels."""
        return float((self.layer[..., 3] * self.known).sum())

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Of `known`, of the four planes where it is known, and of their square: (6, ..)."""
        from scipy import fft  # where somebody is hidden: a tenth of a second

        size = padded(self.size)
        planes = np.moveaxis(self.layer, 2, 0)
        square = np.square(planes).sum(0)
        every = [self.known, *(planes * self.known), square * self.known]
        return fft.rfft2(np.stack(every).astype(np.float32), s=size)


def padded(size: Size) -> Size:
    """A picture's size with room for shifts of up to half of a side."""
    from scipy import fft

    height, width = (fft.next_fast_len(n + n // 2, real=True) for n in size)
    return height, width


def likely_shift(here: View, there: View) -> np.ndarray:
    """The shift (2,) x and y in pixels by which an object is most likely found in another frame."""
    from scipy import fft

    a, b, size = np.conj(here.spectrum), there.spectrum, padded(here.size)
    both = (1 - UNTOLD) * (a[5] * b[0] + a[0] * b[5])
    differ = fft.irfft2(both - 2 * (a[1:5] * b[1:5]).sum(0), s=size)
    place = np.unravel_index(int(np.argmin(differ)), size)
    y, x = (p - n if p > n * 2 // 3 else p for p, n in zip(place, size, strict=True))
    return np.array([x, y], np.float64)


def similarity(here: View, there: View, guess: np.ndarray) -> np.ndarray | None:
    """The similarity (2, 3) from an object's pixels here to those in another frame.

    guess: (2, 3), where the search begins. None where too little is seen in both, or it leads
    nowhere.
    """
    body = cv2.dilate((here.layer[..., 3] > 0.1).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    rows, columns = np.nonzero(body & (here.known > 0.5))
    if len(rows) < FEWEST:
        return None
    every = -(-len(rows) // PLACES)
    rows, columns = rows[::every], columns[::every]
    middle = np.array([columns.mean(), rows.mean()])
    reach = max(float(np.hypot(columns.std(), rows.std())), 1.0)
    x, y = (columns - middle[0]) / reach, (rows - middle[1]) / reach
    start = guess @ np.stack([columns, rows, np.ones_like(rows)])
    level = here.layer[rows, columns]
    slopes = [cv2.Sobel(there.layer, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0)]
    step = np.zeros(4)  # x and y, and the change of size and the angle about the middle, in reaches
    for _ in range(ROUNDS):
        to_x = (start[0] + step[0] + step[2] * x - step[3] * y).astype(np.float32)[None]
        to_y = (start[1] + step[1] + step[3] * x + step[2] * y).astype(np.float32)[None]
        seen, across, down, known = (
            cv2.remap(p, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)[0]
            for p in (there.layer, *slopes, there.known)
        )
        known = known * (known > 0.5)
        miss = seen - level
        square = np.square(miss).sum(1)
        if np.count_nonzero(known) < FEWEST:
            return None
        scale = max(SCALE[0] ** 2 * float(np.median(square[known > 0])), SCALE[1] ** 2)
        weight = known / np.square(1 + square / scale)
        turned = across * x[:, None] + down * y[:, None], down * x[:, None] - across * y[:, None]
        jacobian = np.stack([across, down, *turned]).reshape(4, -1)
        weighted = jacobian * np.repeat(weight, 4)
        system = weighted @ jacobian.T
        system += np.eye(4) * (RIDGE * np.trace(system) / 4 + 1e-6)
        change = np.linalg.solve(system, weighted @ miss.ravel())
        step -= change
        if np.abs(change).max() < ENOUGH:
            break
    size, angle = step[2:] / reach
    if max(abs(size), abs(angle)) > MOST:
        return None
    turn = np.array([[size, -angle], [angle, size]])
    return guess + np.column_stack([turn, step[:2] - turn @ middle])

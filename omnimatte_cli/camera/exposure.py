"""Exposure that drifts: what takes a frame's light to that of the plate.

A frame is modelled as (gain_c * plate + offset_c) * exp(field), with a field that is a polynomial
of second degree over the frame, the same for all channels. So few numbers cannot follow a shadow,
however soft; and they are fitted robustly, so that a large one does not pull them along.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, full_scale
from omnimatte_cli.ranks import quantile

FIT_WIDTH = 160  # pixels at which exposure is fitted
DARK, BRIGHT = 12, 243  # levels between which a pixel says something about gain
FLOOR = 8.0  # levels added to both before logarithms, so that dark pixels' noise counts less
FEWEST = 60  # pixels needed
NOTHING = 0.006  # relative change below which exposure counts as constant
FIELD_GAIN = 0.85  # a field is used if the remaining error falls to this share of it, or less
ROUNDS = 5
PIXELS = 3000  # a sample of so many is enough for the fit
TUKEY = 3.5  # scales beyond which a pixel has no weight
MOST_OFFSET = 24.0  # levels
SMALL_OFFSET = 2.0  # levels: too little to pass for a field
LARGE = 0.1  # of a logarithm, or of all levels: a shadow is as far off, whatever its depth
MET = 0.008  # mean error of all levels, up to which a line is not looked for again
OFFSET_RANGE = 0.12  # spread of the plate's levels, of 1, from which an offset is told from a gain


@dataclass(frozen=True)
class Exposure:
    """One frame's light against another's (or the plate's).

    gain, offset: (3,) float64, of levels in [0, 255]. field: (5,) float64, coefficients of x, y,
    x^2 - 1/3, x y, y^2 - 1/3 of coordinates in [-1, 1], of the logarithm.
    """

    gain: np.ndarray
    offset: np.ndarray
    field: np.ndarray

    @classmethod
    def none(cls) -> Exposure:
        return cls(np.ones(3), np.zeros(3), np.zeros(5))

    @property
    def change(self) -> float:
        """How much it changes a middle grey, relative; about the largest of the frame."""
        largest = np.abs(self.gain + self.offset / 128 - 1).max()
        return float(largest + np.abs(self.field).max())

    @property
    def constant(self) -> bool:
        """Whether it changes next to nothing."""
        return self.change < NOTHING

    def described(self) -> dict[str, list[float]]:
        """As camera.json holds it."""
        values = {"gain": self.gain, "offset": self.offset, "field": self.field}
        return {name: [round(float(v), 5) for v in value] for name, value in values.items()}

    def map(self, size: Size) -> np.ndarray | None:
        """exp(field) over a frame (H, W), (H, W, 1) float32; None where it is 1."""
        if not self.field.any():
            return None
        logarithm = (_basis(size).reshape(-1, 5) @ self.field).reshape(*size, 1)
        return np.exp(logarithm).astype(np.float32)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The reference's image (H, W, 3), uint8 or uint16, in the light of the frame."""
        return self._levels(image, inverse=False)

    def remove(self, image: np.ndarray) -> np.ndarray:
        """The frame's image (H, W, 3), uint8 or uint16, in the light of the reference."""
        return self._levels(image, inverse=True)

    def _levels(self, image: np.ndarray, inverse: bool) -> np.ndarray:
        if self.constant:
            return image
        field = self.map(image.shape[:2])
        if field is None and image.dtype == np.uint8:
            levels = np.arange(256)[:, None]
            table = (levels - self.offset) / self.gain if inverse else levels * self.gain
            table = table if inverse else table + self.offset
            table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
            return cv2.LUT(image, table.reshape(1, 256, 3))
        top = full_scale(image.dtype)
        gain, offset = self.gain.astype(np.float32), (self.offset * top / 255).astype(np.float32)
        x, light = image.astype(np.float32), np.float32(1) if field is None else field
        x = (x / light - offset) / gain if inverse else (x * gain + offset) * light
        return np.clip(np.rint(x), 0, top).astype(image.dtype)


def fit_exposure(
    image: np.ndarray, reference: np.ndarray, usable: np.ndarray, field: bool | None = None
) -> Exposure:
    """The light of `image` against `reference`, both (H, W, 3) uint8 or uint16 of the same view.

    usable: (H, W) bool, where both show the scene itself: outside masks and owned changes. field:
    whether a smooth field is fitted too; None: where it explains clearly more.
    """
    h, w = usable.shape
    if w > FIT_WIDTH:
        size = (FIT_WIDTH, max(1, round(h * FIT_WIDTH / w)))
        image, reference = (
            cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (image, reference)
        )
        usable = cv2.resize(usable.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    # Blurred, so that a shift of a pixel or some grain matters less.
    x, y = (
        cv2.blur(i, (3, 3)).astype(np.float64) * (255 / full_scale(i.dtype))
        for i in (reference, image)
    )
    good = usable & ((np.minimum(x, y) > DARK) & (np.maximum(x, y) < BRIGHT)).all(2)
    chosen = np.flatnonzero(good)
    if len(chosen) < FEWEST:
        return Exposure.none()
    chosen = chosen[:: -(-len(chosen) // PIXELS)]
    x, y = x.reshape(-1, 3)[chosen], y.reshape(-1, 3)[chosen]
    basis = _basis(usable.shape).reshape(-1, 5)[chosen]
    gain = np.exp([_mode(r) for r in np.log((y + FLOOR) / (x + FLOOR)).T])
    line = _lines(x, y, gain)
    best = Exposure(*line, np.zeros(5))
    if field is not False:
        # What an offset makes of dark and bright places would pass for a field, and what a field
        # makes of them for an offset: whichever comes first, the better one of both counts.
        plain = _apart(x, y, *line)
        starts = [line] if np.abs(line[1]).max() < SMALL_OFFSET else [line, (gain, np.zeros(3))]
        tried = [_with_field(x, y, basis, *start) for start in starts]
        light, rest = min(tried, key=lambda fit: _bounded(fit[1]))
        if field or _scale(rest) <= FIELD_GAIN * _scale(plain):
            best = light
    return Exposure.none() if best.constant else best


def _lines(x: np.ndarray, y: np.ndarray, gain: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gains and offsets (3,) of y against x (P, 3), from gains that are nearly right.

    A wall that fills most of a frame is met by gains alone, too, which leave a dark floor far off:
    so the search begins a second time where the dark half of the levels and the bright one meet.
    """
    gains, offsets = np.empty(3), np.empty(3)
    for c in range(3):
        a, b = x[:, c], y[:, c]

        def error(line: tuple[float, float], a: np.ndarray = a, b: np.ndarray = b) -> float:
            return _bounded((b - line[0] * a - line[1]) / 255)

        found = _line(a, b, float(gain[c]), 0.0)
        start = _through_halves(a, b) if error(found) > MET else None
        if start is not None:
            found = min(found, _line(a, b, *start), key=error)
        gains[c], offsets[c] = found
    return gains, offsets


def _through_halves(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | None:
    """Gain and offset of the line through what most of the dark and most of the bright half of the
    levels x (P,) are in y. None where one of them has too few pixels."""
    ratio = np.log((y + FLOOR) / (x + FLOOR))
    bright = x > (x.min() + x.max()) / 2
    points = []
    for half in (~bright, bright):
        if half.sum() < FEWEST:
            return None
        level = float(np.median(x[half]))
        points.append((level, (level + FLOOR) * np.exp(_mode(ratio[half])) - FLOOR))
    (dark, there), (light, here) = points
    gain = (here - there) / (light - dark)
    return gain, here - gain * light


def _with_field(
    x: np.ndarray, y: np.ndarray, basis: np.ndarray, gain: np.ndarray, offset: np.ndarray
) -> tuple[Exposure, np.ndarray]:
    """Light with a field, from a line of y against x (P, 3) that is nearly right but for that, and
    what it leaves over, (P,) logarithms. basis: (P, 5)."""
    flat = _apart(x, y, gain, offset)
    coefficients, centre = _robust(basis, flat, _scale(flat))
    y = y / np.exp(basis @ coefficients)[:, None]
    gain, offset = gain * np.exp(centre), offset * np.exp(centre)
    lines = [_line(x[:, c], y[:, c], float(gain[c]), float(offset[c])) for c in range(3)]
    gain, offset = np.array(lines).T
    return Exposure(gain, offset, coefficients), _apart(x, y, gain, offset)


def _apart(x: np.ndarray, y: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Logarithms of y (P, 3) against what a line makes of x, means of the channels, (P,)."""
    there = np.maximum(gain * x + offset, 0)
    return np.log((y + FLOOR) / (there + FLOOR)).mean(1)


def mostly_fields(lights: Collection[Exposure]) -> bool:
    """Whether most of some frames' lights have a field."""
    return bool(sum(light.field.any() for light in lights) > len(lights) / 2)


@lru_cache(maxsize=8)
def _basis(size: Size) -> np.ndarray:
    """(H, W, 5): the field's functions."""
    h, w = size
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    return np.stack([x, y, x * x - 1 / 3, x * y, y * y - 1 / 3], -1)


def _scale(x: np.ndarray, floor: float = 1e-4) -> float:
    """Standard deviation about 0 of the better half: of a Gaussian's quarter nearest to 0.

    Unlike the median absolute deviation it does not grow while most of the values fit.
    """
    return quantile(np.abs(x), 0.25) / 0.3186 + floor


def _bounded(x: np.ndarray) -> float:
    """Mean size, in which what is far off counts as LARGE."""
    return float(np.minimum(np.abs(x), LARGE).mean())


def _mode(x: np.ndarray) -> float:
    """Where most values lie: the mean of the shortest half, of that the shortest half, and so on.

    What a large shadow darkens forms a second, smaller heap, which a median would lean to.
    """
    x = np.sort(x)
    while len(x) > max(FEWEST // 2, 20):
        half = (len(x) + 1) // 2
        start = int((x[half - 1 :] - x[: len(x) - half + 1]).argmin())
        x = x[start : start + half]
    return float(x.mean())


def _robust(basis: np.ndarray, target: np.ndarray, scale: float) -> tuple[np.ndarray, float]:
    """Coefficients and constant of a fit with Tukey's weights."""
    system = np.c_[basis, np.ones(len(basis))]
    solution = np.zeros(6)
    # A weak pull to nothing: a field is small, and what little of the frame is seen may not tell.
    pull = np.diag([1e-3 * len(basis)] * 5 + [0.0])
    for _ in range(ROUNDS):
        rest = target - system @ solution
        scale = min(scale, _scale(rest))
        weight = np.clip(1 - (rest / (TUKEY * scale)) ** 2, 0, 1) ** 2
        weighted = system * weight[:, None]
        solution = np.linalg.solve(weighted.T @ system + pull, weighted.T @ target)
    return solution[:5], float(solution[5])


def _line(x: np.ndarray, y: np.ndarray, gain: float, offset: float) -> tuple[float, float]:
    """Gain and offset with Tukey's weights, from some that are nearly right."""
    for _ in range(ROUNDS):
        rest = y - gain * x - offset
        scale = _scale(rest, 0.3)
        weight = np.clip(1 - (rest / (TUKEY * scale)) ** 2, 0, 1) ** 2
        total = weight.sum()
        if total < FEWEST / 2:
            break
        mx, my = (weight @ x) / total, (weight @ y) / total
        spread = (weight @ (x - mx) ** 2) / total
        # Where levels differ little an offset cannot be told from a gain: then it is held at 0.
        hold = (OFFSET_RANGE * 255) ** 2 / 4
        slope = (weight @ ((x - mx) * (y - my))) / total
        share = spread / (spread + hold)
        gain = share * (slope / max(spread, 1e-9)) + (1 - share) * my / mx
        offset = my - gain * mx
        offset = min(max(offset, -MOST_OFFSET), MOST_OFFSET)
        gain = (my - offset) / mx
    return float(gain), float(offset)

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

from omnimatte_cli.arrays import Size, at_most, full_scale
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
QUARTER = 0.3186  # of its deviation, from 0, that a Gaussian's quarter nearest to 0 reaches
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
        """exp(field) over a frame (H, W), (H, W) float32; None where it is 1."""
        if not self.field.any():
            return None
        x, y = (np.linspace(-1, 1, n) for n in size[::-1])
        a, b, c, d, e = self.field
        # One product of what changes from row to row and what from column to column.
        down = np.stack([np.ones(size[0]), b * y + e * (y * y - 1 / 3), d * y], 1)
        across = np.stack([a * x + c * (x * x - 1 / 3), np.ones(size[1]), x])
        logarithm = down @ across
        return np.exp(logarithm, out=logarithm).astype(np.float32)

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
        light = None if field is None else cv2.merge([field] * 3)
        if inverse:
            x = image.astype(np.float32) if light is None else image / light
            return np.clip(np.rint((x - offset) / gain), 0, top).astype(image.dtype)
        # The same by OpenCV: NumPy is ten times slower where it repeats three numbers.
        lit = cv2.multiply(image, np.append(gain, 0), dtype=cv2.CV_32F)
        lit = cv2.add(lit, np.append(offset, 0), dst=lit)
        depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_16U
        return cv2.multiply(lit, np.ones(4) if light is None else light, dtype=depth)


def for_fit(image: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) at the size at which light is fitted; a small one as it is."""
    h, w = image.shape[:2]
    if w <= FIT_WIDTH:
        return image
    size = (FIT_WIDTH, max(1, round(h * FIT_WIDTH / w)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def fit_exposure(
    image: np.ndarray, reference: np.ndarray, usable: np.ndarray, field: bool | None = None
) -> Exposure:
    """The light of `image` against `reference`, both (H, W, 3) uint8 or uint16 of the same view.

    usable: (H, W) bool, where both show the scene itself: outside masks and owned changes. field:
    whether a smooth field is fitted too; None: where it explains clearly more. Any of the three may
    be made small `for_fit` before.
    """
    image, reference = for_fit(image), for_fit(reference)
    size = image.shape[:2]
    if usable.shape != size:
        usable = cv2.resize(usable.view(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST) > 0
    # Blurred, so that a shift of a pixel or some grain matters less.
    pictures = [np.stack(cv2.split(cv2.blur(i, (3, 3)))) for i in (reference, image)]
    level = 255 / full_scale(image.dtype)
    good = usable & (np.minimum(*pictures) > DARK / level).all(0)
    good &= (np.maximum(*pictures) < BRIGHT / level).all(0)
    chosen = np.flatnonzero(good)
    if len(chosen) < FEWEST:
        return Exposure.none()
    chosen = at_most(chosen, PIXELS)
    x, y = (i.reshape(3, -1)[:, chosen].astype(np.float64) * level for i in pictures)
    basis = _basis(size).reshape(5, -1)[:, chosen]
    ratio = np.log((y + FLOOR) / (x + FLOOR))
    gain = np.exp([_mode(r) for r in ratio])
    line = _lines(x, y, ratio, gain)
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


def _lines(
    x: np.ndarray, y: np.ndarray, ratio: np.ndarray, gain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gains and offsets (3,) of y against x (3, P), from gains that are nearly right.

    A wall that fills most of a frame is met by gains alone, too, which leave a dark floor far off:
    so the search begins a second time where the dark half of the levels and the bright one meet.
    ratio: (3, P), the logarithm of both.
    """
    gains, offsets = _line(x, y, gain, np.zeros(3))

    def error(c: int, gain: float, offset: float) -> float:
        return _bounded((y[c] - gain * x[c] - offset) / 255)

    errors = [error(c, *line) for c, line in enumerate(zip(gains, offsets, strict=True))]
    starts = {c: _through_halves(x[c], ratio[c]) for c in range(3) if errors[c] > MET}
    again = {c: start for c, start in starts.items() if start is not None}
    if again:
        some = list(again)
        found = _line(x[some], y[some], *np.array(list(again.values())).T)
        for c, *line in zip(some, *found, strict=True):
            if error(c, *line) < errors[c]:
                gains[c], offsets[c] = line
    return gains, offsets


def _through_halves(x: np.ndarray, ratio: np.ndarray) -> tuple[float, float] | None:
    """Gain and offset of the line through what most of the dark and most of the bright half of the
    levels x (P,) become, as a `ratio` says. None where one of them has too few pixels."""
    bright = x > (x.min() + x.max()) / 2
    points = []
    for half in (~bright, bright):
        if np.count_nonzero(half) < FEWEST:
            return None
        level = quantile(x[half], 0.5)
        points.append((level, (level + FLOOR) * np.exp(_mode(ratio[half])) - FLOOR))
    (dark, there), (light, here) = points
    gain = (here - there) / (light - dark)
    return gain, here - gain * light


def _with_field(
    x: np.ndarray, y: np.ndarray, basis: np.ndarray, gain: np.ndarray, offset: np.ndarray
) -> tuple[Exposure, np.ndarray]:
    """Light with a field, from a line of y against x (3, P) that is nearly right but for that, and
    what it leaves over, (P,) logarithms. basis: (5, P)."""
    flat = _apart(x, y, gain, offset)
    coefficients, centre = _robust(basis, flat, _scale(flat))
    y = y / np.exp(coefficients @ basis)
    gain, offset = gain * np.exp(centre), offset * np.exp(centre)
    gain, offset = _line(x, y, gain, offset)
    return Exposure(gain, offset, coefficients), _apart(x, y, gain, offset)


def _apart(x: np.ndarray, y: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Logarithms of y (3, P) against what a line makes of x, means of the channels, (P,)."""
    there = np.maximum(gain[:, None] * x + offset[:, None], 0)
    return np.log(np.prod((y + FLOOR) / (there + FLOOR), axis=0)) / 3


def mostly_fields(lights: Collection[Exposure]) -> bool:
    """Whether most of some frames' lights have a field."""
    return bool(sum(light.field.any() for light in lights) > len(lights) / 2)


@lru_cache(maxsize=8)
def _basis(size: Size) -> np.ndarray:
    """(5, H, W): the field's functions."""
    h, w = size
    y, x = np.meshgrid(np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij")
    return np.stack([x, y, x * x - 1 / 3, x * y, y * y - 1 / 3])


def _scale(x: np.ndarray, floor: float = 1e-4, near: float | None = None) -> float:
    """Standard deviation about 0 of the better half: of a Gaussian's quarter nearest to 0.

    Unlike the median absolute deviation it does not grow while most of the values fit. near: about
    what it is, if that is known.
    """
    about = None if near is None else QUARTER * near
    return quantile(np.abs(x), 0.25, about) / QUARTER + floor


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
    """Coefficients and constant of a fit of (5, P) with Tukey's weights."""
    system = np.concatenate([basis, np.ones((1, len(target)))])
    solution = np.zeros(6)
    # A weak pull to nothing: a field is small, and what little of the frame is seen may not tell.
    pull = np.diag([1e-3 * len(target)] * 5 + [0.0])
    for _ in range(ROUNDS):
        rest = target - solution @ system
        scale = min(scale, _scale(rest, near=scale))
        weighted = system * _tukey(rest, scale)
        solution = np.linalg.solve(weighted @ system.T + pull, weighted @ target)
    return solution[:5], float(solution[5])


def _line(
    x: np.ndarray, y: np.ndarray, gain: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gains and offsets (C,) of y against x (C, P) with Tukey's weights, from some that are nearly
    right."""
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y], 1)
    going = np.ones(len(x), bool)
    scale: list[float | None] = [None] * len(x)
    # Where levels differ little an offset cannot be told from a gain: then it is held at 0.
    hold = (OFFSET_RANGE * 255) ** 2 / 4
    for _ in range(ROUNDS):
        rest = y - gain[:, None] * x
        rest -= offset[:, None]
        scale = [_scale(r, 0.3, near) for r, near in zip(rest, scale, strict=True)]
        sums = (terms @ _tukey(rest, np.array(scale)[:, None])[..., None])[..., 0]
        going &= sums[:, 0] >= FEWEST / 2
        if not going.any():
            break
        mx, my, xx, xy = (sums[:, 1:] / np.maximum(sums[:, :1], 1)).T
        mx = np.maximum(mx, 1)  # which it is, but where nothing has weight
        spread = np.maximum(xx - mx * mx, 1e-9)
        share = spread / (spread + hold)
        found = share * ((xy - mx * my) / spread) + (1 - share) * my / mx
        offset = np.where(going, _held(my - found * mx), offset)
        gain = np.where(going, (my - offset) / mx, gain)
    return gain, offset


def _held(offset: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(offset, -MOST_OFFSET), MOST_OFFSET)


def _tukey(rest: np.ndarray, scale: float | np.ndarray) -> np.ndarray:
    """Tukey's weights of what is left over."""
    weight = rest * rest
    weight *= -1 / (TUKEY * scale) ** 2
    weight += 1
    np.maximum(weight, 0, out=weight)
    weight *= weight
    return weight

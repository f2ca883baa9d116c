"""One picture of a mask as it is stored, and which of its pixels lie in flat areas.

Label maps (one level or colour an object) consist of flat areas and thin edges; soft mattes of two
flat areas and what lies between; photographs of neither. `study` counts that, picture by picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, channel_max

CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
LOSSY_FLAT = 4  # levels of 255 by which neighbours in a flat area differ after a lossy codec
CHROMA = 16  # levels of 255 by which the channels of a coloured pixel differ
LOSSY_CHROMA = 48  # ... after a lossy codec
COLOUR_SAMPLES = 300_000  # pixels of one picture whose colours are counted
MAX_LEVELS = 1024  # distinct levels of a picture above which 16 bits are counted as 8
MAX_CODES = 512  # colours of one picture that are counted
HISTOGRAM_PIXELS = 1 << 24  # pixels that OpenCV, whose counts are float32, counts exactly
RIM = 9  # pixels; smoothed edges are narrower, the unknown band of a trimap is wider
LEAST_RANGE = 48  # levels of 255 between the darkest and brightest area of a picture with an object
LOW_SHARE = 0.12  # share of the range that still counts as background


class Loss(IntEnum):
    """What a codec may have changed: nothing, colours where two pixels share them (4:2:0), or all
    levels."""

    NOTHING = 0
    COLOURS = 1
    LEVELS = 2


@dataclass(frozen=True)
class Picture:
    """One stored picture.

    image: (H, W) or (H, W, C) uint8 or uint16, channels BGR(A) as OpenCV reads them, or grey with
    alpha. indices: (H, W) uint8 of an indexed PNG, else None. palette: (256, 3) uint8 RGB.
    """

    image: np.ndarray
    indices: np.ndarray | None = None
    palette: np.ndarray | None = None

    @classmethod
    def from_palette(cls, indices: np.ndarray, palette: np.ndarray) -> Picture:
        """An indexed PNG; its image is made of the palette's colours."""
        return cls(np.ascontiguousarray(palette[:, ::-1])[indices], indices, palette)

    @property
    def size(self) -> Size:
        return self.image.shape[0], self.image.shape[1]

    @property
    def full(self) -> int:
        """The highest level that the image could hold."""
        return int(np.iinfo(self.image.dtype).max)

    def grey(self) -> np.ndarray:
        """Levels (H, W): the brightest of the colours, 0 where the picture is transparent."""
        if self.image.ndim == 2:
            return self.image
        channels = cv2.split(self.image)
        grey = channels[0]
        for channel in channels[1:3] if len(channels) > 2 else ():
            grey = cv2.max(grey, channel)
        alpha = self.alpha()
        if alpha is not None and alpha.min() < self.full:
            grey = np.where(alpha > self.full // 2, grey, grey.dtype.type(0))
        return grey

    def alpha(self) -> np.ndarray | None:
        """Levels (H, W) of the alpha channel, or None without one."""
        if self.image.ndim == 3 and self.image.shape[2] in (2, 4):
            return np.ascontiguousarray(self.image[..., -1])
        return None

    def colour(self) -> np.ndarray | None:
        """(H, W, 3) uint8 BGR, or None for a grey image."""
        if self.image.ndim == 2 or self.image.shape[2] < 3:
            return None
        colour = self.image[..., :3]
        return colour if colour.dtype == np.uint8 else (colour >> 8).astype(np.uint8)


@dataclass(frozen=True)
class Counts:
    """How often each value occurs: values (K,) int64 rising, all (K,) and flat (K,) int64."""

    values: np.ndarray
    all: np.ndarray
    flat: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, flat: np.ndarray) -> Counts:
        """Count values (H, W) uint8 or uint16; flat: (H, W) bool."""
        if values.dtype == np.uint16:
            values = _fewer_levels(values)
        everything, level = _histogram(values), _histogram(values, flat)
        used = np.flatnonzero(everything)
        return cls(used, everything[used], level[used])

    @classmethod
    def sum(cls, parts: list[Counts]) -> Counts:
        """All counts together."""
        values, where = np.unique(np.concatenate([p.values for p in parts]), return_inverse=True)
        total = np.zeros((2, len(values)), np.int64)
        np.add.at(total[0], where, np.concatenate([p.all for p in parts]))
        np.add.at(total[1], where, np.concatenate([p.flat for p in parts]))
        return cls(values, total[0], total[1])

    def within(self, low: float, high: float) -> int:
        """How many values lie in [low, high]."""
        return int(self.all[(self.values >= low) & (self.values <= high)].sum())


@dataclass(frozen=True)
class Study:
    """What one picture tells about the kind of its series.

    grey: counts of the brightest channel. colour: of colours 0xRRGGBB (a sample of the pixels), or
    None for grey. coloured: share of coloured pixels. alpha: (lowest, highest), or None.
    roughness: mean curvature by mean slope between background and object, high in photographs.
    opaque: pixels that are not transparent. index: counts of palette indices; palette: its colours.
    enclosed: share of the brightest level's surroundings that are not the darkest one, high in
    trimaps.
    """

    size: Size
    full: int
    grey: Counts
    colour: Counts | None
    coloured: float
    alpha: tuple[int, int] | None
    roughness: tuple[float, float]
    index: Counts | None
    palette: np.ndarray | None
    enclosed: float
    opaque: int


def study(picture: Picture, loss: Loss) -> Study:
    """Count what decides about the kind."""
    grey, alpha = picture.grey(), picture.alpha()
    lossy = loss > Loss.NOTHING
    tolerance = (LOSSY_FLAT if loss == Loss.LEVELS else 0) * (picture.full // 255)
    flat = flat_areas(grey, tolerance)
    colour, coloured = None, 0.0
    bgr = picture.colour()
    if bgr is not None:
        step = max(1, int(np.ceil((bgr.shape[0] * bgr.shape[1] / COLOUR_SAMPLES) ** 0.5)))
        blue, green, red = cv2.split(np.ascontiguousarray(bgr[::step, ::step]))
        high, low = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
        chroma = cv2.subtract(high, low) > (LOSSY_CHROMA if lossy else CHROMA)
        seen = alpha is None or alpha.min() > 0
        if not seen and alpha is not None:
            chroma &= alpha[::step, ::step] > 0
        coloured = float(chroma.mean())
        if coloured > 0:
            colour = _count_colours(bgr, step, lossy, None if seen else alpha)
    index = None
    if picture.indices is not None:
        index = Counts.of(picture.indices, flat_areas(picture.indices, 0))
    return Study(
        picture.size,
        picture.full,
        Counts.of(grey, flat),
        colour,
        coloured,
        None if alpha is None else (int(alpha.min()), int(alpha.max())),
        _roughness(grey, picture.full),
        index,
        picture.palette,
        _enclosed(grey),
        grey.size if alpha is None else int((alpha > picture.full // 2).sum()),
    )


def codes(bgr: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 BGR as numbers 0xRRGGBB, (...) int32."""
    wide = bgr.astype(np.int32)
    return (wide[..., 2] << 16) | (wide[..., 1] << 8) | wide[..., 0]


def colours_of(values: np.ndarray) -> np.ndarray:
    """0xRRGGBB (K,) to (K, 3) int."""
    return np.stack([values >> 16, (values >> 8) & 255, values & 255], -1).astype(int)


def flat_areas(image: np.ndarray, tolerance: int) -> np.ndarray:
    """Where a pixel and its four neighbours differ by at most `tolerance`, (H, W) bool."""
    spread = cv2.subtract(cv2.dilate(image, CROSS), cv2.erode(image, CROSS))
    if spread.ndim == 3:
        spread = channel_max(spread)
    return spread <= tolerance


def _histogram(values: np.ndarray, where: np.ndarray | None = None) -> np.ndarray:
    """How often each level of (H, W) uint8 or uint16 occurs, int64. where: (H, W) bool, or all."""
    bins = int(np.iinfo(values.dtype).max) + 1
    total = np.zeros(bins, np.int64)
    rows = max(1, HISTOGRAM_PIXELS // values.shape[1])
    for start in range(0, len(values), rows):
        part = np.s_[start : start + rows]
        mask = None if where is None else where[part].view(np.uint8)
        found = cv2.calcHist([values[part]], [0], mask, [bins], [0, bins])
        total += found.ravel().astype(np.int64)
    return total


def _fewer_levels(values: np.ndarray) -> np.ndarray:
    if np.count_nonzero(np.bincount(values.ravel(), minlength=2)) <= MAX_LEVELS:
        return values
    return values & 0xFF00


def _count_colours(bgr: np.ndarray, step: int, lossy: bool, alpha: np.ndarray | None) -> Counts:
    """Counts of the colours of every `step`-th pixel that is not transparent."""
    flat = flat_areas(bgr, LOSSY_FLAT if lossy else 0)[::step, ::step]
    part = bgr[::step, ::step]
    if lossy:  # a codec's noise would make each pixel a colour of its own
        part = (part & 0xF8) | 4
    numbers = codes(part)
    if alpha is not None:
        numbers = np.where(alpha[::step, ::step] > alpha.max() // 2, numbers, 0)
    values, where = np.unique(numbers.ravel(), return_inverse=True)
    everything = np.bincount(where, minlength=len(values))
    level = np.bincount(where[flat.ravel()], minlength=len(values))
    if len(values) > MAX_CODES:
        kept = np.sort(np.argsort(level + everything)[-MAX_CODES:])
        rest = everything.sum() - everything[kept].sum()
        values, everything, level = values[kept], everything[kept], level[kept]
        # What is not listed still counts as present: as one colour that is nowhere flat.
        values = np.append(values, 1 << 24)
        everything, level = np.append(everything, rest), np.append(level, 0)
    return Counts(values.astype(np.int64), everything, level)


def _roughness(grey: np.ndarray, full: int) -> tuple[float, float]:
    """Sums of |curvature| and |slope| where the picture is neither background nor object."""
    # Nothing is between where all is background: a frame of it around the rest stands for that.
    part = _around(grey > grey.min(), 3)
    levels = grey[part].astype(np.float32) * np.float32(255 / full)
    smooth = cv2.blur(levels, (3, 3))  # or a codec's noise would count as texture
    low, high = float(smooth.min()), float(smooth.max())
    margin = LOW_SHARE * (high - low)
    between = (smooth > low + margin) & (smooth < high - margin)
    if high - low < LEAST_RANGE or not between.any():
        return 0.0, 0.0
    # Only there, with the neighbours that the differences need.
    part = _around(between, 1)
    smooth, between = smooth[part], between[part]
    curve = np.abs(cv2.Laplacian(smooth, cv2.CV_32F, ksize=1))
    slope = np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=1)) + np.abs(
        cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=1)
    )
    return float(curve[between].sum()), float(slope[between].sum()) / 2


def _enclosed(grey: np.ndarray) -> float:
    """Share of the surroundings of the brightest level that the darkest has no part in."""
    low, high = int(grey.min()), int(grey.max())
    margin = LOW_SHARE * (high - low)
    top = grey >= high - margin
    part = _around(top, RIM)
    grey, top = grey[part], top[part]
    grown = cv2.dilate(top.view(np.uint8), np.ones((RIM, RIM), np.uint8)).view(bool)
    rim = grown & ~top
    count = np.count_nonzero(rim)
    return np.count_nonzero(rim & (grey > low + margin)) / count if count else 0.0


def _around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """The box around a mask (H, W) bool with a margin in pixels, as far as there is picture."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return np.s_[max(0, y - margin) : y + h + margin, max(0, x - margin) : x + w + margin]

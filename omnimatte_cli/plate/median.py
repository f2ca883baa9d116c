"""The plate of a clip whose camera stands still: what each pixel shows when no object is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Plate, Size
from omnimatte_cli.matte.box import bounding_box, disc
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.ranks import masked_median

Hides = Callable[[int], np.ndarray]

STRIP_BYTES = 128 << 20  # of samples that are held at a time
GROWTH = 1 / 160  # of the height: by how much masks grow, as rough ones miss an object's edge
INPAINT_RADIUS = 5  # pixels around an unseen one from which it is filled


def estimate_plate(
    samples: FrameSamples,
    masks: Masks | None,
    progress: Progress | None = None,
    grow: int | None = None,
    medians: Medians | None = None,
) -> Plate:
    """Median over time, per pixel and channel, of the frames in which the pixel is in no mask.

    samples: the clip's frames, or a sample of them. masks: of the whole clip. grow: pixels by which
    masks grow first (None: by GROWTH); a pixel that only growth hides in all frames is taken from
    where the masks as given leave it free, if they do so in at least half of the frames.
    medians: of the samples, for whoever estimates the plate again.
    Of an even number of samples, the mean of the middle two, rounded half up. Pixels that no frame
    shows are inpainted, and False in `valid`; where nothing at all is shown, the median is over
    every frame.
    """
    progress = progress or Silent()
    progress.stage("plate", samples.size[0])
    hides = None if masks is None else masks.union
    coverage = Coverage(samples.size, samples.indices, hides, grow)
    valid = coverage.count > 0
    if not valid.any():
        coverage = Coverage(samples.size, samples.indices, None)
    image = (medians or Medians(samples)).of(coverage, progress)
    if valid.any() and not valid.all():
        image = inpaint(image, ~valid)
    return Plate(image, valid)


def inpaint(image: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Fill holes (H, W) bool of an image (H, W, 3) from their surroundings (Telea, 2004)."""
    mask, method = holes.astype(np.uint8), cv2.INPAINT_TELEA
    if image.dtype == np.uint8:
        return cv2.inpaint(image, mask, INPAINT_RADIUS, method)
    # OpenCV fills deeper images a channel at a time.
    channels = (np.ascontiguousarray(image[..., c]) for c in range(3))
    return np.stack([cv2.inpaint(c, mask, INPAINT_RADIUS, method) for c in channels], -1)


class Coverage:
    """Which samples show the plate at each pixel: those outside the grown masks.

    count: (H, W) int64, how many samples do. Masks are read, grown and packed to bits once.
    """

    def __init__(
        self, size: Size, indices: list[int], hides: Hides | None, grow: int | None = None
    ) -> None:
        """hides: what covers the plate in frame t, (H, W) bool. grow: pixels, None: by GROWTH."""
        self.size = size
        self.count = np.full(size, len(indices), np.int64)
        self.hidden: list[np.ndarray] | None = None  # a (H, W / 8) uint8 of bits for each sample
        if hides is None:
            return
        plain, grown = (np.zeros(size, np.uint16) for _ in range(2))  # samples that hide a pixel
        packed: list[tuple[np.ndarray, np.ndarray]] = []  # as given, and grown
        radius = growth(size) if grow is None else grow
        for t in indices:
            union = hides(t)
            wide = grown_mask(union, radius)
            box = bounding_box(wide)
            if box is not None:
                plain[box.slices] += union[box.slices]
                grown[box.slices] += wide[box.slices]
            packed.append((np.packbits(union, axis=1), np.packbits(wide, axis=1)))
        # Next to an object that stands still its mask is trusted, if it leaves the pixel free half
        # of the time. Less, and the few samples are the object's own edge, which rough masks miss.
        trusted = (grown == len(indices)) & (2 * plain <= len(indices))
        self.count -= np.where(trusted, plain, grown)
        bits = np.packbits(trusted, axis=1)
        self.hidden = [(union & bits) | (wide & ~bits) for union, wide in packed]

    def rows(self, part: slice) -> np.ndarray | None:
        """Where the samples do not show the plate, (S, rows, W) bool; None where all do."""
        if self.hidden is None:
            return None
        bits = np.stack([h[part] for h in self.hidden])
        return np.unpackbits(bits, axis=2, count=self.size[1]).view(bool)

    def until_hidden(self, where: np.ndarray) -> Coverage:
        """The same, but what was hidden once stays hidden from then on, `where` (H, W) bool."""
        assert self.hidden is not None
        here = np.packbits(where, axis=1)
        rest = Coverage(self.size, [], None)
        stays = accumulate(self.hidden, np.bitwise_or)
        rest.hidden = [(a & here) | (b & ~here) for a, b in zip(stays, self.hidden, strict=True)]
        hidden = np.zeros(self.size, np.int64)
        for bits in rest.hidden:
            hidden += np.unpackbits(bits, axis=1, count=self.size[1])
        rest.count = np.where(where, len(rest.hidden) - hidden, self.count)
        return rest

    def differs(self, other: Coverage) -> np.ndarray:
        """Where any sample shows the plate in one of two coverages alone, (H, W) bool."""
        none = [np.zeros((1, 1), np.uint8)] * max(len(c.hidden or ()) for c in (self, other))
        found = np.zeros((self.size[0], -(-self.size[1] // 8)), np.uint8)
        for a, b in zip(self.hidden or none, other.hidden or none, strict=True):
            found |= a ^ b
        return np.unpackbits(found, axis=1, count=self.size[1]).view(bool)


def grown_mask(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask (H, W) bool grown by a disc of `radius` pixels; the work is done around it alone."""
    box = bounding_box(mask, radius)
    wide = np.zeros_like(mask)
    if box is not None:
        part = np.ascontiguousarray(mask[box.slices]).view(np.uint8)
        wide[box.slices] = cv2.dilate(part, disc(radius)).view(bool)
    return wide


def clear_of(size: Size, indices: Sequence[int], hides: Hides, distance: int) -> np.ndarray:
    """How many of the frames show each pixel farther than `distance` pixels from what is hidden
    once it has grown as masks do, (H, W) int64."""
    count = np.full(size, len(indices), np.int64)
    for t in indices:
        count -= grown_mask(hides(t), growth(size) + distance)
    return count


def median_of_free(samples: FrameSamples, coverage: Coverage) -> np.ndarray:
    """The median over the samples that show each pixel, (H, W, 3) of the samples' type; undefined
    where none does."""
    return Medians(samples).of(coverage)


class Medians:
    """Medians over the samples that show each pixel. Asked again, only those pixels are computed
    that other samples show than the last time."""

    def __init__(self, samples: FrameSamples) -> None:
        self.samples = samples
        self.last: tuple[Coverage, np.ndarray] | None = None

    def of(self, coverage: Coverage, progress: Progress | None = None) -> np.ndarray:
        """(H, W, 3) of the samples' type, not to be changed; undefined where no sample counts."""
        height, width = self.samples.size
        dtype, count = self.samples.dtype, len(self.samples.indices)
        if self.last is None:
            image, wanted = np.empty((height, width, 3), dtype), None
        else:
            image, wanted = self.last[1].copy(), coverage.differs(self.last[0])
        seen = range(height) if wanted is None else np.flatnonzero(wanted.any(1))
        first, stop = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)
        rows = max(1, min(height, STRIP_BYTES // (count * width * 3 * dtype.itemsize)))
        for top in range(first, stop, rows):
            part = slice(top, min(top + rows, stop))
            self._strip(part, coverage, image[part], None if wanted is None else wanted[part])
            if progress is not None:
                progress.step(part.stop)
        self.last = coverage, image
        return image

    def _strip(
        self, part: slice, coverage: Coverage, image: np.ndarray, where: np.ndarray | None
    ) -> None:
        """The medians of some rows, into image (rows, W, 3), at all pixels or `where` (rows, W)."""
        strip, hidden, counts = self.samples.rows(part), coverage.rows(part), coverage.count[part]
        most = strip.dtype.type(np.iinfo(strip.dtype).max)
        for sample, cover in zip(strip, () if hidden is None else hidden, strict=False):
            box = bounding_box(cover)
            if box is not None:
                # The largest value sorts to the end, where it does not count.
                high = cover[box.slices].astype(strip.dtype) * most
                sample[box.slices] |= cv2.merge((high, high, high))
        flat = strip.reshape(len(strip), -1, 3)
        if where is not None:
            places = np.flatnonzero(where)
            flat = np.stack([sample.take(places, axis=0) for sample in flat])
            counts = counts[where]
        counts = np.repeat(counts.reshape(-1), 3)
        found = masked_median(flat.reshape(len(strip), -1), counts).reshape(-1, 3)
        if where is None:
            image[:] = found.reshape(image.shape)
        else:
            image[where] = found


def growth(size: Size) -> int:
    """Pixels by which rough masks grow in pictures of a size."""
    return max(1, round(size[0] * GROWTH))

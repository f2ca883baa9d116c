"""The plate of a clip whose camera stands still: what each pixel shows when no object is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Plate, Size
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
) -> Plate:
    """Median over time, per pixel and channel, of the frames in which the pixel is in no mask.

    samples: the clip's frames, or a sample of them. masks: of the whole clip. grow: pixels by which
    masks grow first (None: by GROWTH); a pixel that only growth hides in all frames is taken from
    where the masks as given leave it free, if they do so in at least half of the frames.
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
    image = median_of_free(samples, coverage, progress)
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
        kernel = growth_kernel(growth(size) if grow is None else grow)
        plain = self.count.copy()
        packed: list[tuple[np.ndarray, np.ndarray]] = []  # as given, and grown
        for t in indices:
            union = hides(t)
            wide = cv2.dilate(union.astype(np.uint8), kernel).astype(bool)
            plain -= union
            self.count -= wide
            packed.append((np.packbits(union, axis=1), np.packbits(wide, axis=1)))
        # Next to an object that stands still its mask is trusted, if it leaves the pixel free half
        # of the time. Less, and the few samples are the object's own edge, which rough masks miss.
        trusted = (self.count == 0) & (2 * plain >= len(indices))
        self.count = np.where(trusted, plain, self.count)
        bits = np.packbits(trusted, axis=1)
        self.hidden = [(union & bits) | (wide & ~bits) for union, wide in packed]

    def rows(self, part: slice) -> np.ndarray | None:
        """Where the samples do not show the plate, (S, rows, W) bool; None where all do."""
        if self.hidden is None:
            return None
        bits = np.stack([h[part] for h in self.hidden])
        return np.unpackbits(bits, axis=2, count=self.size[1]).astype(bool)


def clear_of(size: Size, indices: Sequence[int], hides: Hides, distance: int) -> np.ndarray:
    """How many of the frames show each pixel farther than `distance` pixels from what is hidden
    once it has grown as masks do, (H, W) int64."""
    kernel = growth_kernel(growth(size) + distance)
    count = np.full(size, len(indices), np.int64)
    for t in indices:
        count -= cv2.dilate(hides(t).astype(np.uint8), kernel).astype(bool)
    return count


def median_of_free(
    samples: FrameSamples, coverage: Coverage, progress: Progress | None = None
) -> np.ndarray:
    """The median over the samples that show each pixel, (H, W, 3) of the samples' type; undefined
    where none does."""
    height, width = samples.size
    image = np.empty((height, width, 3), samples.dtype)
    indices = samples.indices
    rows = max(1, min(height, STRIP_BYTES // (len(indices) * width * 3 * samples.dtype.itemsize)))
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height))
        strip = samples.rows(part)
        hidden = coverage.rows(part)
        if hidden is not None:
            # The largest value sorts to the end, where it does not count.
            covers = hidden.astype(samples.dtype) * samples.dtype.type(np.iinfo(samples.dtype).max)
            for sample, cover in zip(strip, covers, strict=True):
                np.bitwise_or(sample, cv2.merge((cover, cover, cover)), out=sample)
        counts = np.repeat(coverage.count[part].reshape(-1), 3)
        flat = strip.reshape(len(indices), -1)
        image[part] = masked_median(flat, counts).reshape(-1, width, 3)
        if progress is not None:
            progress.step(part.stop)
    return image


def growth(size: Size) -> int:
    """Pixels by which rough masks grow in pictures of a size."""
    return max(1, round(size[0] * GROWTH))


def growth_kernel(radius: int) -> np.ndarray:
    """A disc for growing masks by `radius` pixels."""
    side = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))

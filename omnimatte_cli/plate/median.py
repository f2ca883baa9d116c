"""The clean plate: what the camera sees where no object is.

A fixed camera is assumed. A moving one needs frames registered to one canvas first; the `moving`
field of Background and `load` are ready for a plate that changes from frame to frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Background, Masks, Size
from omnimatte_cli.errors import PlateError, VideoError
from omnimatte_cli.media.images import IMAGE_SUFFIXES, list_images, quiet_opencv, read_image, wxh
from omnimatte_cli.media.read import iter_frames
from omnimatte_cli.progress import Progress, Silent

Frames = Callable[[], Iterator[np.ndarray]]  # opens a new stream of (H, W, 3) uint8 frames

BLOCK = 1 << 13  # values per frame that the median sorts at a time: their frames fit in a cache
GROWTH = 1 / 160  # of the height: by how much masks grow, as rough ones miss an object's edge
INPAINT_RADIUS = 5  # pixels around an unseen one from which it is filled


def estimate(
    frames: Frames,
    info_frames: int,
    size: Size,
    masks: Masks | None,
    budget_bytes: int = 512 << 20,
    progress: Progress | None = None,
    dilate: int | None = None,
) -> Background:
    """Median over time, per pixel and channel, of the frames in which the pixel is in no mask.

    frames: opens the video anew; it is decoded once for each strip of rows whose frames fit in
    `budget_bytes`. dilate: pixels by which masks grow first (None: by GROWTH); a pixel that only
    growth hides in all frames is taken from where the masks as given leave it free, if they do so
    in at least half of the frames.
    Of an even number of samples, the mean of the middle two, rounded half up. Pixels that no frame
    shows are inpainted, and False in `valid`; where nothing at all is shown, the median is over
    every frame.
    """
    height, width = size
    progress = progress or Silent()
    free = _Free(masks, info_frames, size, _growth(size) if dilate is None else dilate)
    valid = free.count > 0
    if not valid.any():
        free = _Free(None, info_frames, size, 0)
    plate = np.empty((height, width, 3), np.uint8)
    rows = max(1, min(height, budget_bytes // (info_frames * width * 3)))
    starts = range(0, height, rows)
    buffer = np.empty((info_frames, rows * width * 3), np.uint8)  # one for all strips
    progress.stage("background", info_frames * len(starts))
    for done, top in enumerate(starts):
        part = slice(top, min(top + rows, height))
        samples = buffer[:, : (part.stop - top) * width * 3]
        seen = 0
        for t, frame in zip(range(info_frames), frames(), strict=False):
            strip = samples[t].reshape(-1, width, 3)
            strip[:] = frame[part]
            strip[free.hidden(t, part)] = 255  # sorts to the end, where it does not count
            seen = t + 1
            progress.step(done * info_frames + seen)
        if seen < info_frames:
            raise VideoError(f"The video ended after {seen} of {info_frames} frames.")
        counts = np.repeat(free.count[part].reshape(-1), 3)
        plate[part] = masked_median(samples, counts).reshape(-1, width, 3)
    if valid.any() and not valid.all():
        holes = (~valid).astype(np.uint8)
        plate[...] = cv2.inpaint(plate, holes, INPAINT_RADIUS, cv2.INPAINT_TELEA)
    return Background(plate, valid)


def masked_median(samples: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Median of the `counts` smallest of each column: (T, P) uint8, (P,) int to (P,) uint8.

    Exact, without sorting: the bits of the middle value are found from the top, each by counting
    the samples below. Where counts is 0 the result means nothing.
    """
    result = np.empty(samples.shape[1], np.uint8)
    for start in range(0, samples.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        block, count = np.ascontiguousarray(samples[:, part]), counts[part]
        low = _ranked(block, (count - 1) // 2)
        high = low
        if (count % 2 == 0).any():
            # The next sample is the same value again if enough are no larger, else the next larger.
            enough = _count(block <= low) > count // 2
            above = np.where(block > low, block, 255).min(0)
            high = np.where(enough | (count % 2 == 1), low, above)
        result[part] = (low.astype(np.uint16) + high + 1) >> 1
    return result


def _ranked(block: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Of each column of (T, P) uint8, the value at place `rank` (from 0) if it were sorted."""
    value = np.zeros(block.shape[1], np.uint8)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        higher = value | np.uint8(bit)
        value = np.where(_count(block < higher) <= rank, higher, value)
    return value


def _count(flags: np.ndarray) -> np.ndarray:
    """True values in each column of (T, P) bool, as (P,) int."""
    ones = flags.view(np.uint8)  # summed in bytes, 255 rows at a time, which is much faster
    total = np.zeros(ones.shape[1], np.int64)
    for start in range(0, len(ones), 255):
        total += np.add.reduce(ones[start : start + 255], axis=0, dtype=np.uint8)
    return total


class _Free:
    """Where each frame shows the background: outside the grown masks, or the masks themselves."""

    def __init__(self, masks: Masks | None, frames: int, size: Size, growth: int) -> None:
        self.masks = masks
        side = 2 * growth + 1
        self.kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        self.count = np.full(size, frames, np.int64)  # frames that show each pixel
        self.only_ungrown = np.zeros(size, bool)
        if masks is None:
            return
        near, plain = self.count.copy(), self.count
        for t in range(frames):
            union = masks.union(t)
            plain -= union
            near -= self._grown(union)
        # Next to an object that stands still its mask is trusted, if it leaves the pixel free half
        # of the time. Less, and the few samples are the object's own edge, which rough masks miss.
        self.only_ungrown = (near == 0) & (2 * plain >= frames)
        self.count = np.where(self.only_ungrown, plain, near)

    def hidden(self, t: int, rows: slice) -> np.ndarray:
        """(rows, W) bool: pixels that frame t does not show."""
        if self.masks is None:
            return np.zeros(self.count[rows].shape, bool)
        union = self.masks.union(t)
        return np.where(self.only_ungrown, union, self._grown(union))[rows]

    def _grown(self, union: np.ndarray) -> np.ndarray:
        return cv2.dilate(union.astype(np.uint8), self.kernel).astype(bool)


def _growth(size: Size) -> int:
    return max(1, round(size[0] * GROWTH))


def load(source: Path, size: Size, frames: int, progress: Progress | None = None) -> Background:
    """A plate from the user: one image, or a video or folder of images with a plate per frame.

    An image of another size with the same aspect is resized, and that is said; everything else
    that does not fit the video's `size` (H, W) and number of `frames` is a PlateError.
    """
    source, progress = Path(source), progress or Silent()
    if not source.exists():
        raise PlateError(f"The background {source} does not exist.")
    files = list_images(source) if source.is_dir() else [source]
    if len(files) == 1 and files[0].suffix.lower() in IMAGE_SUFFIXES:
        return _still(files[0], size, progress)
    first: np.ndarray | None = None
    count = 0
    try:
        for frame in iter_frames(source, frames + 1):
            count += 1
            if frame.shape[:2] != size:
                raise PlateError(
                    f"The background {source} is {wxh(frame.shape)}, the video {wxh(size)}."
                )
            first = frame if first is None else first
    except VideoError as error:
        raise PlateError(f"The background cannot be read: {error}") from error
    if first is None or count != frames:
        many = f"more than {frames}" if count > frames else str(count)
        raise PlateError(f"The background {source} has {many} frames, the video {frames}.")
    return Background(first, np.ones(size, bool), lambda: iter_frames(source))


def _still(path: Path, size: Size, progress: Progress) -> Background:
    with quiet_opencv():
        image = read_image(path)
    if image is None:
        raise PlateError(f"The background {path} cannot be read as an image.")
    h, w = image.shape[:2]
    if (h, w) != size:
        if abs(w * size[0] / (h * size[1]) - 1) > 0.01:
            raise PlateError(
                f"The background {path} is {wxh(image.shape)}: not the aspect of the video, "
                f"{wxh(size)}."
            )
        how = cv2.INTER_AREA if h > size[0] else cv2.INTER_CUBIC
        image = cv2.resize(image, size[::-1], interpolation=how)
        progress.say(f"The background {path} was resized from {w}x{h} to {wxh(size)}.")
    return Background(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.ones(size, bool))

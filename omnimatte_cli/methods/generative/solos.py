"""Read the solo videos and the background video that a removal model made of a shot.

Such models work at a size of their own, cut or pad clips, and their output is encoded anew. What
can be put right is put right and said: another size, another aspect within a tenth, surplus frames,
a shift of a few pixels. What cannot is one clear error.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import InputError, VideoError
from omnimatte_cli.media.images import luma, wxh
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VideoInfo, iter_frames, same_part

STRETCH = 0.1  # by how much a model's aspect may differ from the video's
SHIFT_SEEN = 0.004  # of the width: smaller shifts are left as they are
SHIFT_MOST = 0.05  # of the width: larger ones mean that it is another shot
SHIFT_TRUST = 0.1  # response of the phase correlation below which a shift is not believed
PROBES = 7  # frames that the shift is measured in
SHIFT_GAIN = 0.3  # by which share a shift must lower the difference to be believed
ALIKE = 0.4  # correlation outside the objects, below which it is another shot
FLAT = 0.01  # deviation of grey levels, 0 .. 1, below which an image has no contrast to compare


class SoloError(InputError):
    """A solo video or the background video is missing or does not fit the shot."""


@dataclass(frozen=True)
class RemovalVideo:
    """A solo or background video, checked, that comes out at the shot's size.

    what: "solo 'dog'" or "background". source: None for a fixed plate. shift: (x, y) pixels at the
    shot's size by which its image is moved to lie on the shot's.
    """

    what: str
    path: Path
    frames: int
    size: Size
    shift: tuple[float, float]
    notes: tuple[str, ...]
    part: ReadOptions  # of the video, that goes with the shot

    def stream(self, size: Size | None = None) -> Iterator[np.ndarray]:
        """Frames (H, W, 3), as deep as the video, at the shot's or another size."""
        for frame in iter_frames(self.path, self.frames, deep=None, options=self.part):
            yield fit_frame(frame, size or self.size, self.scaled_shift(size or self.size))

    def scaled_shift(self, size: Size) -> tuple[float, float]:
        """The shift in pixels of another size."""
        return (
            self.shift[0] * size[1] / self.size[1],
            self.shift[1] * size[0] / self.size[0],
        )


def fit_frame(frame: np.ndarray, size: Size, shift: tuple[float, float]) -> np.ndarray:
    """A frame (h, w, 3) at (H, W), moved by `shift` pixels of that size."""
    height, width = size
    h, w = frame.shape[:2]
    if (h, w) != size:
        how = cv2.INTER_AREA if h > height else cv2.INTER_CUBIC
        frame = cv2.resize(frame, (width, height), interpolation=how)
    if shift != (0.0, 0.0):
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
        border = cv2.BORDER_REPLICATE
        frame = cv2.warpAffine(frame, matrix, (width, height), borderMode=border)
    return frame


def open_removal(what: str, path: Path, info: VideoInfo, covered: np.ndarray) -> RemovalVideo:
    """Check a solo or background video against the shot it was made of.

    covered: (T, h, w) bool at a small size, where any object is, or all False. Raises SoloError
    with one sentence.
    """
    if not path.exists():
        raise SoloError(f"The {what} video {path} does not exist.")
    height, width = info.size
    notes: list[str] = []
    count, shape = 0, (0, 0)
    picks = set(np.linspace(0, info.frames - 1, min(PROBES, info.frames)).round().astype(int))
    probes: dict[int, np.ndarray] = {}
    try:
        part = same_part(path, info)
        for t, frame in enumerate(iter_frames(path, options=part)):
            shape, count = (frame.shape[0], frame.shape[1]), t + 1
            if t in picks:
                probes[t] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    except VideoError as error:
        raise SoloError(f"The {what} video cannot be read: {error}") from error
    if count < info.frames:
        raise SoloError(
            f"The {what} video {path} has {count} frames, the shot {info.frames}: make it of all "
            f"frames, or cut the shot to {count} frames."
        )
    if count > info.frames:
        notes.append(
            f"The {what} video has {count} frames: the last {count - info.frames} are left out."
        )
    if shape != info.size:
        stretch = abs(shape[1] * height / (shape[0] * width) - 1)
        if stretch > STRETCH:
            raise SoloError(
                f"The {what} video {path} is {wxh(shape)}: not the aspect of the shot, "
                f"{wxh(info.size)}."
            )
        how = "resized and stretched" if stretch > 0.01 else "resized"
        notes.append(f"The {what} video was {how} from {wxh(shape)} to {wxh(info.size)}.")
    shift = measure_shift(what, path, info, probes, covered)
    if shift != (0.0, 0.0):
        notes.append(
            f"The {what} video was moved by {shift[0]:+.1f}, {shift[1]:+.1f} pixels onto the shot."
        )
    return RemovalVideo(what, path, info.frames, info.size, shift, tuple(notes), part)


def measure_shift(
    what: str, path: Path, info: VideoInfo, probes: dict[int, np.ndarray], covered: np.ndarray
) -> tuple[float, float]:
    """By how many pixels (x, y) a video must be moved to lie on the shot; (0, 0) if it does.

    probes: some of its frames at the shot's size. Raises SoloError if it shows something else.
    """
    shifts, alike, pairs = [], [], []
    shot = iter_frames(info.source, max(probes) + 1, options=info.options)
    for t, frame in enumerate(shot):
        if t not in probes:
            continue
        here, there = (luma(x) for x in (frame, probes[t]))
        mask = cv2.resize(covered[t].astype(np.uint8), here.shape[::-1]) > 0
        free = ~mask if (~mask).mean() > 0.2 else np.ones_like(mask)
        alike.append(likeness(here[free], there[free]))
        # What the objects cover is the same in both, so that they do not count.
        here, there = (np.where(free, x, x[free].mean()) for x in (here, there))
        pairs.append((here, there))
        window = cv2.createHanningWindow(here.shape[::-1], cv2.CV_32F)
        # It works in place.
        (x, y), response = cv2.phaseCorrelate(there.copy(), here.copy(), window)
        if response > SHIFT_TRUST:
            shifts.append((x, y))
    if len(shifts) >= 2:
        x, y = (float(v) for v in np.median(shifts, axis=0))
        reach = float(np.hypot(x, y)) / info.size[1]
        # Objects that only one of the two shows also move the peak: the move has to help.
        if reach > SHIFT_SEEN and gain_of_shift(pairs, (x, y)) > SHIFT_GAIN:
            if reach > SHIFT_MOST:
                raise SoloError(
                    f"The {what} video {path} lies {np.hypot(x, y):.0f} pixels off the shot: "
                    "align it."
                )
            return x, y
    if np.median(alike) < ALIKE:
        raise SoloError(f"The {what} video {path} does not show the shot {info.source}.")
    return 0.0, 0.0


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two sets of grey levels; 1 where there is hardly any contrast."""
    a, b = a - a.mean(), b - b.mean()
    spread = float(a.std() * b.std())
    return float((a * b).mean()) / spread if spread > FLAT**2 else 1.0


def gain_of_shift(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], shift: tuple[float, float]
) -> float:
    """By which share a shift of the second images lowers their median difference to the first."""
    before, after = [], []
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    for here, there in pairs:
        moved = cv2.warpAffine(there, matrix, here.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
        before.append(float(np.median(np.abs(here - there))))
        after.append(float(np.median(np.abs(here - moved))))
    return 1 - sum(after) / max(sum(before), 1e-6)

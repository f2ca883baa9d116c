"""A plate from the user, in place of an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Plate, Size, eight_bits
from omnimatte_cli.errors import PlateError, VideoError
from omnimatte_cli.media.images import IMAGE_SUFFIXES, list_images, wxh
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.pin import Pin
from omnimatte_cli.media.read import VideoInfo, iter_frames, read_still, same_part
from omnimatte_cli.progress import Progress, Silent

SAMPLES = 8  # frames that a plate is compared with
FOREIGN, DOUBTFUL = 10.0, 16.0  # dB outside the masks below which a plate is none, or hardly one


def load_plate(
    source: Path,
    size: Size,
    frames: int,
    progress: Progress | None = None,
    video: VideoInfo | None = None,
) -> Plate:
    """A plate from the user: one image, or a video or folder of images with a plate per frame.

    video: with it, there may be plates for all of a video of which only a part is worked on.

    It keeps its own depth, 8 or 16 bits, whatever the video's.
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
    options, pin = ReadOptions(), Pin.of(source)
    try:
        options = same_part(source, video) if video else options
        for frame in iter_frames(source, frames + 1, deep=None, options=options):
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

    def moving() -> Iterator[np.ndarray]:
        return pin.whole(iter_frames(source, deep=None, options=options), frames)

    return Plate(first, np.ones(size, bool), moving)


def _still(path: Path, size: Size, progress: Progress) -> Plate:
    image = read_still(path)
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
    return Plate(image, np.ones(size, bool))


def check_scene(
    plate: Plate, frames: np.ndarray, masks: np.ndarray, source: Path, progress: Progress
) -> Plate:
    """The plate, if it shows the scene of the video at all: outside the masks both look alike.

    frames: (T, h, w, 3) uint8; masks: (N, T, h, w) bool. A plate a frame is judged by its first.
    Raises PlateError where it matches to less than FOREIGN dB in every frame compared; below
    DOUBTFUL dB it is said.
    """
    h, w = frames.shape[1:3]
    small = eight_bits(cv2.resize(next(plate.stream()), (w, h), interpolation=cv2.INTER_AREA))
    count = 1 if plate.moving is not None else min(SAMPLES, len(frames))
    found = []
    for t in np.linspace(0, len(frames) - 1, count).round().astype(int):
        outside = ~masks[:, t].any(0)
        if outside.any():
            apart = np.square(frames[t][outside].astype(np.float32) - small[outside]).mean()
            found.append(float(10 * np.log10(255**2 / max(apart, 1e-3))))
    best = max(found, default=np.inf)
    if best < FOREIGN:
        raise PlateError(
            f"The background {source} does not show the video's scene: outside the masks they "
            f"match to {best:.1f} dB at best. Give the empty scene as this camera sees it, or "
            "leave the option out to have it estimated."
        )
    if best < DOUBTFUL:
        progress.say(
            f"The background {source} hardly looks like the video: outside the masks they match to "
            f"{best:.1f} dB at best."
        )
    return plate

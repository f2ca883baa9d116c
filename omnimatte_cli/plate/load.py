"""A plate from the user, in place of an estimate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Plate, Size, frame_or_static
from omnimatte_cli.errors import PlateError, VideoError
from omnimatte_cli.matte.ownership import working_plates
from omnimatte_cli.media.images import IMAGE_SUFFIXES, list_images, wxh
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.pin import Pin
from omnimatte_cli.media.read import VideoInfo, iter_frames, read_still, same_part
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.shot import Shot

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


def load_shot_plate(
    source: Path, shot: Shot, video: VideoInfo, progress: Progress | None = None
) -> Plate:
    """`load_plate` for a shot, whose scene the plate must show: of a plate a frame, the first."""
    plate = load_plate(source, shot.full_size, len(shot), progress, video)
    some = len(shot) if plate.moving is None else 1
    first = working_plates(plate, shot.size, 1)
    covered = np.asarray(shot.small[:, :some].any(0))
    check_scene(first, shot.frames[:some], covered, source, progress)
    return plate


def check_scene(
    plates: np.ndarray,
    frames: np.ndarray,
    covered: np.ndarray,
    source: Path,
    progress: Progress | None = None,
) -> None:
    """Whether plates show the scene of the video at all: outside its objects both look alike.

    plates: (1 or T, h, w, 3) uint8, from `source`. frames: (T, h, w, 3) uint8. covered: (T, h, w)
    bool, where objects are known to be. Raises PlateError where they match to less than FOREIGN dB
    in every frame compared; below DOUBTFUL dB it is said.
    """
    found = []
    for t in np.linspace(0, len(frames) - 1, min(SAMPLES, len(frames))).round().astype(int):
        outside = ~covered[t]
        if outside.any():
            here, there = (x[outside] for x in (frames[t], frame_or_static(plates, t)))
            apart = np.square(here.astype(np.float32) - there).mean()
            found.append(float(10 * np.log10(255**2 / max(apart, 1e-3))))
    best = max(found, default=np.inf)
    if best < FOREIGN:
        raise PlateError(
            f"The background {source} does not show the video's scene: outside the masks they "
            f"match to {best:.1f} dB at best. Give the empty scene as this camera sees it, or let "
            "`omnimatte background` estimate it."
        )
    if best < DOUBTFUL:
        (progress or Silent()).say(
            f"The background {source} hardly looks like the video: outside the masks they match to "
            f"{best:.1f} dB at best."
        )

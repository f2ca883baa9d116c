"""The clean plate as files: an image, a moving camera's canvas, or the plate of every frame."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from omnimatte_cli.arrays import Plate, eight_bits
from omnimatte_cli.camera.canvas import longest_stretch
from omnimatte_cli.camera.model import write_camera
from omnimatte_cli.errors import OutputError
from omnimatte_cli.media.encode import VideoWriter, check_file, write_image
from omnimatte_cli.media.folder import check_apart, output_folder
from omnimatte_cli.media.read import VIDEO_SUFFIXES, VideoInfo
from omnimatte_cli.progress import Progress
from omnimatte_cli.shot import Shot

NO_H264 = frozenset((".dv", ".gif", ".m2v", ".ogv", ".webm", ".y4m"))
FILMS = VIDEO_SUFFIXES - NO_H264
UNSEEN_COLOUR = (255, 0, 0)  # RGB, over the dimmed plate in background_unseen.png


@contextlib.contextmanager
def plate_target(
    out: Path, overwrite: bool, inputs: Sequence[Path], progress: Progress
) -> Iterator[Path]:
    """Where a plate is written for `out`: the file itself, or a folder that becomes `out`.

    inputs: what is read meanwhile. Raises OutputError before any work, if it cannot be written.
    """
    if out.suffix == "" or out.is_dir():
        if out.is_file():
            raise OutputError(f"{out} is a file: give a folder, or a file name with a suffix.")
        with output_folder(out, overwrite, inputs, progress.say) as folder:
            yield folder
        return
    suffix = out.suffix.lower()
    if suffix in NO_H264:
        raise OutputError(f"{out}: {suffix} holds no H.264; write an .mp4, .mov or .mkv.")
    check_file(out, overwrite, sorted(FILMS) if suffix in FILMS else None)
    check_apart(out, inputs)
    yield out


def write_plates(
    place: Path,
    plate: Plate,
    shot: Shot,
    info: VideoInfo,
    ffmpeg: Path | None,
    progress: Progress,
) -> None:
    """Write a plate to an image file, or that of every frame to a video file or into a folder.

    place: from `plate_target`. info: of the shot, whose times, colours and frame numbers they get.
    """
    frames = itertools.islice(plate.stream(), len(shot))
    if place.is_dir():
        for number, image in zip(info.frame_numbers, frames, strict=True):
            write_image(place / f"{number:05d}.png", image)
    elif place.suffix.lower() in FILMS:
        dtype = plate.image.dtype
        size, timing, tags = shot.full_size, info.timing, info.tags
        with VideoWriter(place, size, timing, ffmpeg, dtype=dtype, tags=tags) as video:
            for image in frames:
                video.write(image)
    else:
        write_image(place, still(plate, shot, progress))


def still(plate: Plate, shot: Shot, progress: Progress) -> np.ndarray:
    """One picture of the plate: itself, or the canvas that a moving camera saw, (H, W, 3).

    Where there are cuts, that of the longest scene."""
    camera = shot.camera
    if plate.canvas is None or camera is None or not (camera.moving or camera.cuts):
        return plate.image
    longest = longest_stretch(camera)
    if len(longest) < len(shot):
        first, last = shot.first + longest.start, shot.first + longest.stop - 1
        progress.say(
            f"No single canvas holds the whole clip: the picture of the plate shows frames {first} "
            f"to {last}; a folder or a video gets every frame's."
        )
    return plate.canvas


def write_result_plate(folder: Path, plate: Plate, shot: Shot, progress: Progress) -> None:
    """background.png, camera.json if camera or light move, and where nothing was seen."""
    write_image(folder / "background.png", still(plate, shot, progress))
    if shot.camera is not None and (shot.camera.moving or plate.light):
        exposure = {"exposure": plate.light} if plate.light else None
        write_camera(shot.camera, folder / "camera.json", exposure)
    if not plate.valid.all():
        progress.say(f"{unseen_warning(plate)} background_unseen.png shows where.")
        red = np.array(UNSEEN_COLOUR, np.uint8)
        unseen = np.where(plate.valid[..., None], eight_bits(plate.image) // 2, red)
        write_image(folder / "background_unseen.png", unseen)


def unseen_warning(plate: Plate) -> str:
    """What the user should know about pixels that were never seen."""
    return (
        f"{plate.unseen_share:.1%} of the plate is covered by masks in every frame: it was "
        "filled from its surroundings and is a guess."
    )

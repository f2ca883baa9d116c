"""Write layers, plates and videos. The only user of the ffmpeg program.

Every file is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, eight_bits
from omnimatte_cli.errors import MissingProgramError, OmnimatteError, OutputError
from omnimatte_cli.media.atomic import partial_path, write_bytes
from omnimatte_cli.media.clocked import ClockedFrames
from omnimatte_cli.media.codecs import (
    CODECS,
    Audio,
    ColourTags,
    Timing,
    padded_size,
    raw_pixels,
)
from omnimatte_cli.media.codecs import command as encode_command
from omnimatte_cli.media.scoped import ScopedWriter

WRITERS = 2  # threads that compress PNGs
WAITING = 8  # images that may wait for a writer: bounds memory
DEEP_SUFFIXES = frozenset((".png", ".tif", ".tiff"))  # formats that are written in 16 bits


# ---------------------------------------------------------------------------------------- programs


def find_ffmpeg(program: Path | str | None = None) -> str:
    """The ffmpeg program: the given one, OMNIMATTE_FFMPEG, that on PATH, or imageio-ffmpeg's.

    Raises MissingProgramError; one that was asked for by name is never replaced by another.
    """
    asked = program or os.environ.get("OMNIMATTE_FFMPEG")
    if asked:
        found = shutil.which(str(asked))
        if found is None:
            raise MissingProgramError(
                f"The ffmpeg program {asked} does not exist or cannot be run."
            )
        return found
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingProgramError(
            "No ffmpeg program was found: install ffmpeg (apt install ffmpeg, brew install ffmpeg) "
            "or pip install imageio-ffmpeg, or name one with --ffmpeg or OMNIMATTE_FFMPEG."
        ) from error


class VideoWriter(ScopedWriter):
    """Encode frames to a video file with the ffmpeg program. Use as a context manager.

    The file gets its name when the `with` block ends well, and is removed when it does not. Frames
    are full-range RGB, straight RGBA or grey, 8 or 16 bits; the file is of limited range, tagged.
    Where the codec needs it (`mp4`: even sides), frames are padded by repeating their border.

    profile: a name in `codecs.CODECS`. timing: a constant rate, or a Timing.
    channels, dtype: of the frames that will be written.
    """

    def __init__(
        self,
        path: Path,
        size: Size,
        timing: Timing | Fraction | int,
        ffmpeg: Path | str | None = None,
        crf: int | None = None,
        *,
        profile: str = "mp4",
        channels: int = 3,
        dtype: np.dtype | type = np.uint8,
        tags: ColourTags | None = None,
        audio: Audio | None = None,
    ) -> None:
        self.path, self.size, self.channels = Path(path), size, channels
        self.dtype, self.codec = np.dtype(dtype), CODECS[profile]
        self.timing = timing if isinstance(timing, Timing) else Timing(Fraction(timing))
        # The suffix stays last: ffmpeg chooses the container by it.
        self.partial = partial_path(self.path)
        padded = padded_size(size, self.codec)
        self.padding = tuple((0, p - s) for p, s in zip(padded, size, strict=True))
        pixels = raw_pixels(channels, self.dtype)
        command = encode_command(
            find_ffmpeg(ffmpeg),
            self.partial,
            self.codec,
            padded,
            pixels,
            self.timing,
            tags or ColourTags(),
            audio,
            {} if crf is None else {"crf": crf},
        )
        # A file takes what ffmpeg says, however much: a pipe that nobody reads would block it.
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.log
            )
        except OSError as error:
            self.log.close()
            raise MissingProgramError(f"{command[0]} cannot be run: {error.strerror}.") from error
        assert self.process.stdin is not None
        self.count = 0
        self.clocked = (
            ClockedFrames(self.process.stdin, padded, pixels, self.timing)
            if self.timing.variable
            else None
        )

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, (H, W, channels) or for grey (H, W), of the dtype agreed on."""
        shape = self.size if self.channels == 1 else (*self.size, self.channels)
        assert frame.shape == shape and frame.dtype == self.dtype, (frame.shape, frame.dtype)
        if any(after for _, after in self.padding):
            frame = np.pad(frame, (*self.padding, (0, 0))[: frame.ndim], mode="edge")
        frame = np.ascontiguousarray(frame)
        assert self.process.stdin is not None
        try:
            if self.clocked is not None:
                self.clocked.write(self.count, frame)
            else:
                self.process.stdin.write(frame.data)
        except OSError as error:  # ffmpeg is gone
            raise self._failure() from error
        self.count += 1

    def close(self, failed: bool = False) -> None:
        """Complete the file and give it its name; with `failed`, stop and leave no file."""
        try:
            if failed:
                self.process.kill()
            self._end()
            if not failed:
                if self.process.returncode != 0:
                    raise self._failure()
                self.partial.replace(self.path)
        finally:
            self.log.close()
            self.partial.unlink(missing_ok=True)

    def _end(self) -> None:
        with contextlib.suppress(OSError):  # ffmpeg may be gone; its status tells
            if self.clocked is not None:
                self.clocked.close()
        with contextlib.suppress(OSError):
            self.process.communicate()

    def _failure(self) -> OmnimatteError:
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {self.process.returncode}"
        reason = reason.replace(str(self.partial.absolute()), self.path.name)
        return OmnimatteError(f"ffmpeg could not write {self.path}: {reason}")


# ------------------------------------------------------------------------------------------ images


def check_file(path: Path, overwrite: bool, suffixes: Sequence[str] | None = None) -> None:
    """Raise OutputError, before any work, if `path` exists, has no folder, or a wrong suffix.

    suffixes: allowed ones; None: any picture format that OpenCV writes.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists: choose another name, or --overwrite it.")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: give a file name.")
    if not path.absolute().parent.is_dir():
        raise OutputError(f"{path.parent} is not a folder: make it first.")
    good = cv2.haveImageWriter(path.name) if suffixes is None else path.suffix in suffixes
    if path.suffix == "" or not good:
        known = "a picture format such as .png" if suffixes is None else " or ".join(suffixes)
        raise OutputError(f"{path} does not end in {known}.")


def write_image(path: Path, rgb: np.ndarray) -> None:
    """Write (H, W, 3) RGB, (H, W, 4) straight RGBA or (H, W) grey in any format of OpenCV.

    uint8, or uint16 of full range, which formats other than PNG and TIFF get in 8 bits. The format
    follows from the suffix; the file appears when it is complete. Raises OutputError.
    """
    path = Path(path)
    write_bytes(path, encode_image(path, rgb))


def encode_image(path: Path, image: np.ndarray, level: int | None = None) -> bytes:
    """An image as the file that `path`, by its suffix, should hold; PNG takes 8 and 16 bits.

    level: zlib's, for PNG. Without one OpenCV's own choice (level 1, run lengths): the fastest and
    near the smallest of twelve that were measured (5 ms and 176 kB for 640x344 RGBA; level 6 takes
    35 ms for 144 kB). Raises OutputError.
    """
    if not cv2.haveImageWriter(path.name):
        raise OutputError(f"{path}: '{path.suffix}' is not an image format that can be written.")
    if path.suffix.lower() not in DEEP_SUFFIXES:
        image = eight_bits(image)
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, order[image.shape[2]])
    options = [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level]
    try:
        done, data = cv2.imencode(path.suffix, bgr, options)
    except cv2.error as error:
        raise OutputError(f"{path} cannot be encoded as an image.") from error
    if not done:
        raise OutputError(f"{path} cannot be encoded as an image.")
    return data.tobytes()


class PooledWriter(ScopedWriter):
    """Writes files by a few threads; an error of one is raised by a later job or at the end."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="images")
        self.waiting: deque[Future[None]] = deque()

    def submit(self, job: Callable[..., None], *args: object) -> None:
        """Queue a job; waits while too many are queued."""
        while len(self.waiting) >= WAITING:
            self.waiting.popleft().result()
        self.waiting.append(self.pool.submit(job, *args))

    def close(self, failed: bool = False) -> None:
        """End the jobs; with `failed`, those that have not begun are dropped."""
        self.pool.shutdown(wait=True, cancel_futures=failed)
        while self.waiting and not failed:
            self.waiting.popleft().result()


class ImageWriter(PooledWriter):
    """Writes images of 8 or 16 bits below a folder. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = Path(folder)

    def write(self, name: Path, image: np.ndarray) -> None:
        """Queue (H, W, 4) RGBA or (H, W, 3) RGB, not changed later, as `folder`/`name`."""
        assert image.ndim == 3 and image.shape[2] in (3, 4), image.shape
        assert image.dtype in (np.uint8, np.uint16), image.dtype
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.submit(write_image, path, image)

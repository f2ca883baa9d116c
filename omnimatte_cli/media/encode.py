"""Write layers, plates and videos.

Every file is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from omnimatte_cli.arrays import Size, eight_bits
from omnimatte_cli.errors import OmnimatteError, OutputError, VideoError
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
from omnimatte_cli.media.container import open_container
from omnimatte_cli.media.ffmpeg import Feeding, try_ffmpeg
from omnimatte_cli.media.images import wxh
from omnimatte_cli.media.scoped import ScopedWriter

WRITERS = 2  # threads that compress PNGs
WAITING = 8  # images that may wait for a writer, and
WAITING_BYTES = 128 << 20  # bytes of them: bounds memory
DEEP_SUFFIXES = frozenset((".png", ".tif", ".tiff"))  # formats that are written in 16 bits


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
            try_ffmpeg(ffmpeg, [self.codec.options["c:v"]]),
            self.partial,
            self.codec,
            padded,
            pixels,
            self.timing,
            tags or ColourTags(),
            audio,
            {} if crf is None else {"crf": crf},
        )
        self.process = Feeding(command, self.partial)
        self.count = 0
        self.clocked = (
            ClockedFrames(self.process, padded, pixels, self.timing)
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
        try:
            if self.clocked is not None:
                self.clocked.write(self.count, frame)
            else:
                self.process.write(frame.data.cast("B"))
        except OSError as error:  # ffmpeg is gone
            raise self._failure() from error
        self.count += 1

    def close(self, failed: bool = False) -> None:
        """Complete the file and give it its name; with `failed`, stop and leave no file.

        Raises OmnimatteError unless all frames are in it.
        """
        try:
            if failed:
                self.process.kill()
            status = self._end()
            if failed:
                return
            if status != 0:
                raise self._failure()
            self._check()
            os.replace(self.partial, self.path)
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}.") from error
        finally:
            self.process.kill()
            self._remove()

    def _end(self) -> int:
        with contextlib.suppress(OSError):  # ffmpeg may be gone; its status tells
            if self.clocked is not None:
                self.clocked.close()
        return self.process.finish()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):  # the folder itself may be gone
            self.partial.unlink()

    def _check(self) -> None:
        """A program can end well and have written nothing, or something else."""
        try:
            size, count = size_and_count(self.partial)
        except VideoError as error:
            raise OmnimatteError(
                f"ffmpeg ended well but left no video at {self.path}: is the program right?"
            ) from error
        if count != self.count or size != padded_size(self.size, self.codec):
            raise OmnimatteError(
                f"ffmpeg ended well but {self.path} holds {count} of {self.count} frames, of "
                f"{wxh(size)} pixels."
            )

    def _failure(self) -> OmnimatteError:
        self.process.kill()
        reason = self.process.reason().replace(str(self.partial.absolute()), self.path.name)
        return OmnimatteError(f"ffmpeg could not write {self.path}: {reason}.")


def size_and_count(path: Path) -> tuple[Size, int]:
    """(height, width) and number of frames of a video file, without decoding. Raises VideoError."""
    try:
        with open_container(path) as container:
            stream = container.streams.video[0]
            size = stream.codec_context.height, stream.codec_context.width
            return size, stream.frames or sum(1 for p in container.demux(stream) if p.size)
    except (av.error.FFmpegError, IndexError) as error:
        raise VideoError(f"{path} cannot be read as a video.") from error


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
    good = cv2.haveImageWriter(path.name) if suffixes is None else path.suffix.lower() in suffixes
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

    def submit(self, job: Callable[..., None], *args: object, size: int = 0) -> None:
        """Queue a job; waits while too many are queued. size: bytes that it holds."""
        while len(self.waiting) >= max(1, min(WAITING, WAITING_BYTES // max(size, 1))):
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
        self.submit(write_image, path, image, size=image.nbytes)

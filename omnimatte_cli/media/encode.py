"""Write layers, plates and videos. The only user of ffmpeg-python.

Every file is written under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import cv2
import ffmpeg
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import MissingProgramError, OmnimatteError, OutputError

WRITERS = 2  # threads that compress PNGs
WAITING = 8  # images that may wait for a writer: bounds memory
PREVIEW_WIDTH = 1920  # pixels, of a whole preview frame
LABEL_HEIGHT = 22  # pixels, of the band above each picture
LIGHT, DARK = 204, 153  # greys of the checkerboard


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


class VideoWriter:
    """Encode RGB frames to H.264 (yuv420p, BT.709, limited range). Use as a context manager.

    The file gets its name when the `with` block ends well, and is removed when it does not. Odd
    sizes are padded by repeating the last row or column, which yuv420p needs.
    """

    def __init__(
        self,
        path: Path,
        size: Size,
        fps: Fraction,
        ffmpeg: Path | str | None = None,
        crf: int = 18,
    ) -> None:
        self.path, self.size = Path(path), size
        # The suffix stays last: ffmpeg chooses the container by it.
        self.partial = self.path.with_name(f".{self.path.stem}.partial{self.path.suffix}")
        command = _x264_command(self.partial, size, fps, find_ffmpeg(ffmpeg), crf)
        # A file takes what ffmpeg says, however much: a pipe that nobody reads would block it.
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self.log
            )
        except OSError as error:
            self.log.close()
            raise MissingProgramError(f"{command[0]} cannot be run: {error.strerror}.") from error

    def write(self, frame: np.ndarray) -> None:
        """Append one frame, (H, W, 3) uint8 RGB."""
        assert frame.shape == (*self.size, 3) and frame.dtype == np.uint8, (frame.shape, self.size)
        h, w = self.size
        if h % 2 or w % 2:
            frame = np.pad(frame, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(np.ascontiguousarray(frame).data)
        except OSError as error:  # ffmpeg is gone
            raise self._failure() from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                self.process.kill()
            with contextlib.suppress(OSError):
                self.process.communicate()
            if kind is None:
                if self.process.returncode != 0:
                    raise self._failure()
                self.partial.replace(self.path)
        finally:
            self.log.close()
            self.partial.unlink(missing_ok=True)

    def _failure(self) -> OmnimatteError:
        self.process.wait()
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"it ended with status {self.process.returncode}"
        return OmnimatteError(f"ffmpeg could not write {self.path}: {reason}")


def _x264_command(path: Path, size: Size, fps: Fraction, program: str, crf: int) -> list[str]:
    h, w = (side + side % 2 for side in size)
    pipe = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{w}x{h}", r=str(fps))
    # Flags on the output alone leave the frames untagged: the filter has to say it as well.
    limited = pipe.filter(
        "scale",
        in_range="full",
        out_range="limited",
        out_color_matrix="bt709",
        flags="accurate_rnd",
    ).filter("format", "yuv420p")
    tagged = limited.filter(
        "setparams", range="tv", color_primaries="bt709", color_trc="bt709", colorspace="bt709"
    )
    # An absolute path cannot be taken for an option or a protocol.
    output = tagged.output(
        str(path.absolute()), vcodec="libx264", crf=crf, preset="medium", movflags="+faststart"
    )
    flags = ["-hide_banner", "-nostdin", "-loglevel", "error"]
    return ffmpeg.compile(output.global_args(*flags), cmd=program, overwrite_output=True)


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
    """Write (H, W, 3) RGB, (H, W, 4) straight RGBA or (H, W) grey uint8 in any format of OpenCV.

    The format follows from the suffix; the file appears when it is complete. Raises OutputError.
    """
    path = Path(path)
    data = _encode(path, rgb)
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def _encode(path: Path, image: np.ndarray) -> bytes:
    # For PNG, OpenCV's own choice (level 1, run lengths) was the fastest and near the smallest of
    # twelve that were measured: 5 ms and 176 kB for 640x344 RGBA; level 6 takes 35 ms for 144 kB.
    if not cv2.haveImageWriter(path.name):
        raise OutputError(f"{path}: '{path.suffix}' is not an image format that can be written.")
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, order[image.shape[2]])
    try:
        done, data = cv2.imencode(path.suffix, bgr)
    except cv2.error as error:
        raise OutputError(f"{path} cannot be encoded as an image.") from error
    if not done:
        raise OutputError(f"{path} cannot be encoded as an image.")
    return data.tobytes()


class LayerWriter:
    """Write layers as straight-alpha PNGs, `<folder>/<object>/00000.png`, by a few threads.

    Use as a context manager; an error of a writer is raised by a later `write` or at the end.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = Path(folder)
        for name in names:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="layers")
        self.waiting: deque[Future[None]] = deque()

    def write(self, name: str, t: int, rgba: np.ndarray) -> None:
        """Queue frame t of `name`, (H, W, 4) RGBA or (H, W, 3) RGB uint8, not changed later."""
        assert rgba.ndim == 3 and rgba.shape[2] in (3, 4) and rgba.dtype == np.uint8, rgba.shape
        while len(self.waiting) >= WAITING:
            self.waiting.popleft().result()
        path = self.folder / name / f"{t:05d}.png"
        self.waiting.append(self.pool.submit(write_image, path, rgba))

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            while self.waiting:
                self.waiting.popleft().result()


# ----------------------------------------------------------------------------------------- previews


def checkerboard(size: Size, cell: int) -> np.ndarray:
    """(H, W, 3) uint8 grey squares of `cell` pixels, on which transparency shows."""
    rows, columns = (np.arange(side) // max(1, cell) for side in size)
    grey = np.where((rows[:, None] + columns) % 2, DARK, LIGHT).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def preview_frame(tiles: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Pictures of one size (H, W, 3) uint8, each under its label, side by side in a grid.

    Scaled down, never up, so that the whole is at most PREVIEW_WIDTH wide.
    """
    h, w = tiles[0][1].shape[:2]
    columns = len(tiles) if len(tiles) <= 3 else math.ceil(math.sqrt(len(tiles)))
    scale = min(1.0, PREVIEW_WIDTH / (columns * w))
    h, w = max(1, int(h * scale)), max(1, int(w * scale))
    rows = math.ceil(len(tiles) / columns)
    sheet = np.zeros((rows * (h + LABEL_HEIGHT), columns * w, 3), np.uint8)
    for i, (label, picture) in enumerate(tiles):
        top, left = i // columns * (h + LABEL_HEIGHT), i % columns * w
        cell = sheet[top : top + h + LABEL_HEIGHT, left : left + w]
        cell[LABEL_HEIGHT:] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        band = np.zeros((LABEL_HEIGHT, w, 3), np.uint8)
        cv2.putText(
            band, label, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255,) * 3, 1, cv2.LINE_AA
        )
        cell[:LABEL_HEIGHT] = band
    return sheet

"""Read video files and folders of images, frame by frame. The only user of PyAV.

Every frame comes out as (H, W, 3) uint8 RGB, turned the way a player shows it, at its own size.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from omnimatte_cli.arrays import Clip, Size
from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.images import IMAGE_SUFFIXES, list_images, quiet_opencv, read_image, wxh
from omnimatte_cli.progress import Progress, Silent

# What counts as a video where one is looked for; a file that is named may have any suffix.
VIDEO_SUFFIXES = frozenset(
    [
        ".avi",
        ".flv",
        ".gif",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".mxf",
        ".ogv",
        ".ts",
        ".webm",
        ".wmv",
        ".y4m",
    ]
)
MIN_FRAMES = 3  # fewer show no motion to learn from, and no median
IMAGE_FPS = Fraction(24)  # frames per second of a folder of images unless told otherwise
HD_WIDTH, SD_HEIGHT = 1280, 576  # untagged video at least this wide or taller than this is BT.709
UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED: the file does not say which YUV matrix it uses


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, found by decoding all of it.

    size: (H, W) after display rotation. fps: mean. duration: seconds, the last frame's time on
    screen included. times: seconds of each frame since the first. kind: "video" or "images".
    sha256: of the file, or of the names and contents of a folder's images.
    """

    source: Path
    frames: int
    size: Size
    fps: Fraction
    duration: float
    times: tuple[float, ...]
    codec: str
    pixel_format: str
    sha256: str
    kind: str
    shown_size: Size | None = None  # (H, W) on screen where pixels are not square
    first: int = 0  # first frame that is read
    total: int = 0  # frames of the whole source
    numbers: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Picture:
    """One decoded frame: image (H, W, 3 or 4) uint8; start and length in seconds where known."""

    image: np.ndarray
    start: Fraction | None
    length: Fraction | None
    codec: str
    pixel_format: str
    nominal_fps: Fraction | None


def iter_frames(
    source: Path, stop: int | None = None, *, alpha: bool = False
) -> Iterator[np.ndarray]:
    """Frames of a video file or a folder of images, in order of presentation.

    Yields (H, W, 3) uint8 RGB, or (H, W, 4) RGBA with `alpha` (255 where a file has none); at most
    `stop` frames. Raises VideoError with the frame at which reading failed.
    """
    if stop is not None and stop <= 0:
        return
    for index, picture in enumerate(_pictures(Path(source), alpha)):
        yield picture.image
        if stop is not None and index + 1 >= stop:
            return


def probe(source: Path, fps: Fraction | None = None, progress: Progress | None = None) -> VideoInfo:
    """Decode everything once and say what it is; `fps` is that of a folder of images."""
    info, _ = _read(Path(source), None, fps, progress)
    return info


def read_clip(
    source: Path,
    size_for: Callable[[Size], Size],
    progress: Progress | None = None,
    fps: Fraction | None = None,
) -> tuple[VideoInfo, Clip]:
    """Probe, and make the clip at working size, in one decoding pass.

    size_for: from the video's (H, W) to the working (h, w); frames are averaged over areas.
    Raises VideoError where the source cannot be read or has fewer than MIN_FRAMES frames.
    """
    info, small = _read(Path(source), size_for, fps, progress)
    return info, Clip(np.stack(small), info.fps, info.source)


def _read(
    source: Path,
    size_for: Callable[[Size], Size] | None,
    fps: Fraction | None,
    progress: Progress | None,
) -> tuple[VideoInfo, list[np.ndarray]]:
    progress = progress or Silent()
    progress.stage("reading video")
    pictures = _pictures(source)
    last, size, working = None, (0, 0), None
    starts: list[Fraction | None] = []
    small: list[np.ndarray] = []
    for last in pictures:
        if not starts:
            size = last.image.shape[:2]
            working = size_for(size) if size_for else None
        if working:
            h, w = working
            small.append(cv2.resize(last.image, (w, h), interpolation=cv2.INTER_AREA))
        starts.append(last.start)
        progress.step(len(starts))
    if last is None or len(starts) < MIN_FRAMES:
        raise VideoError(f"{source} has {len(starts)} frames: at least {MIN_FRAMES} are needed.")
    mean, times, duration = _timing(starts, last, fps)
    info = VideoInfo(
        source=source,
        frames=len(starts),
        size=size,
        fps=mean,
        duration=duration,
        times=times,
        codec=last.codec,
        pixel_format=last.pixel_format,
        sha256=_sha256(source),
        kind="images" if source.is_dir() else "video",
    )
    return info, small


def _timing(
    starts: list[Fraction | None], last: _Picture, fps: Fraction | None
) -> tuple[Fraction, tuple[float, ...], float]:
    """Mean frame rate, seconds of each frame since the first, and duration in seconds."""
    known = [s for s in starts if s is not None]
    nominal = (fps if last.start is None else None) or last.nominal_fps or IMAGE_FPS
    if len(known) < len(starts) or known[-1] <= known[0]:
        known = [i / nominal for i in range(len(starts))]
    mean = (len(known) - 1) / (known[-1] - known[0])
    # Containers with coarse clocks (1 ms in Matroska) blur the rate: 29.97 is meant, not 29.9697.
    if abs(mean / nominal - 1) < Fraction(1, 500):
        mean = nominal
    else:
        mean = mean.limit_denominator(10_000)
    times = tuple(float(s - known[0]) for s in known)
    return mean, times, times[-1] + float(last.length or 1 / mean)


# ---------------------------------------------------------------------------------------- sources


def _pictures(source: Path, alpha: bool = False) -> Iterator[_Picture]:
    if source.is_dir():
        return _from_folder(source, alpha)
    if not source.exists():
        raise VideoError(f"{source} does not exist.")
    return _from_file(source, alpha)


def read_palette(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """An indexed PNG as it is stored: indices (H, W) uint8 and palette (256, 3) uint8 RGB.

    None where the file is no indexed PNG; VideoError where it is one but is damaged. (OpenCV would
    turn indices into colours.)
    """
    data = path.read_bytes()
    # Signature (8 bytes), IHDR: length, type, width, height, depth; then the colour type: 3.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[25:26] != b"\x03":
        return None
    try:
        decoder = av.CodecContext.create("png", "r")
        decoder.thread_count = 1
        frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
        indices, palette = frames[0].to_ndarray()
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise VideoError(f"{path} is a damaged PNG.") from error
    return indices, palette[:, 1:]  # the first of four is alpha


def _from_folder(folder: Path, alpha: bool) -> Iterator[_Picture]:
    files = list_images(folder)
    if not files:
        raise VideoError(
            f"{folder} is a folder without images ({' '.join(sorted(IMAGE_SUFFIXES))})."
        )
    first: Size | None = None
    for index, path in enumerate(files):
        with quiet_opencv():
            image = read_image(path)
            whole = read_image(path, cv2.IMREAD_UNCHANGED) if alpha else None
        if image is None:
            raise VideoError(f"Frame {index} cannot be read as an image: {path}.")
        first = first or image.shape[:2]
        if image.shape[:2] != first:
            raise VideoError(
                f"Frame {index} is {wxh(image.shape)} but the first is {wxh(first)}: {path}."
            )
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA if alpha else cv2.COLOR_BGR2RGB)
        if whole is not None and whole.ndim == 3 and whole.shape[2] == 4:
            plane = whole[..., 3]
            rgb[..., 3] = plane if plane.dtype == np.uint8 else plane >> 8
        yield _Picture(rgb, None, None, path.suffix[1:].lower(), "rgb24", None)


def _from_file(path: Path, alpha: bool) -> Iterator[_Picture]:
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise VideoError(f"{path} cannot be read as a video: {_reason(error)}.") from error
    with container:
        covers = Disposition.attached_pic | Disposition.timed_thumbnails
        streams = [s for s in container.streams.video if not s.disposition & covers]
        # FFmpeg would draw a text file as a terminal does ("tty").
        if not streams or container.format.name == "tty":
            what = "only sound" if container.streams.audio else "no video"
            raise VideoError(f"{path} has no picture to work on: {what} was found in it.")
        yield from _decode(path, container, streams[0], alpha)


def _decode(
    path: Path,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    alpha: bool,
) -> Iterator[_Picture]:
    stream.thread_type = "AUTO"
    reformatter = VideoReformatter()
    rate = stream.average_rate or stream.guessed_rate
    nominal = Fraction(rate) if rate else None
    count, size, end, matrix = 0, None, Fraction(0), None
    try:
        for packet in container.demux(stream):
            if packet.is_corrupt:
                raise VideoError(f"{path} is damaged or cut off at frame {count}.")
            for frame in packet.decode():
                if not count:
                    matrix = _display_matrix(frame)
                image = _to_rgb(frame, reformatter, alpha)
                image = image if matrix is None else _turn(image, matrix)
                size = size or image.shape
                if image.shape != size:
                    raise VideoError(
                        f"{path} changes size at frame {count}: "
                        f"{wxh(size)} before, {wxh(image.shape)} from there."
                    )
                base = frame.time_base or stream.time_base
                clock = frame.pts if frame.pts is not None else frame.dts
                start = clock * base if clock is not None and base else None
                length = frame.duration * base if frame.duration and base else None
                end = (start or end) + (length or 0)
                yield _Picture(
                    image, start, length, stream.codec_context.name, frame.format.name, nominal
                )
                count += 1
    except av.error.FFmpegError as error:
        raise VideoError(f"{path} cannot be decoded at frame {count}: {_reason(error)}.") from error
    if _ends_early(path, container, stream, end, nominal):
        raise VideoError(f"{path} is cut off: it ends after frame {count - 1}, before its end.")


def _ends_early(
    path: Path,
    container: av.container.InputContainer,
    stream: av.video.stream.VideoStream,
    end: Fraction,
    fps: Fraction | None,
) -> bool:
    """Whether the container's own index or duration shows that the file's end is missing."""
    if "mov" in container.format.name:
        entries = getattr(stream, "index_entries", ())
        bytes_needed = max((e.pos + e.size for e in entries), default=0)
        return bytes_needed > path.stat().st_size
    told = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
    if told is None or not fps:
        return False
    hours, minutes, seconds = told.groups()
    duration = (int(hours) * 60 + int(minutes)) * 60 + Fraction(seconds)
    return duration - end > 2 / fps + Fraction(1, 50)


# ---------------------------------------------------------------------------------------- pictures


def _to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter, alpha: bool) -> np.ndarray:
    """Convert as the ffmpeg program does (bicubic), with the matrix and range of the file."""
    hd = frame.width >= HD_WIDTH or frame.height > SD_HEIGHT
    matrix = Colorspace.ITU709 if hd else Colorspace.ITU601
    picture = reformatter.reformat(
        frame,
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix if int(frame.colorspace) == UNTAGGED else None,
        interpolation=Interpolation.BICUBIC,
    ).to_ndarray()
    return picture


def _display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """How players turn the picture: 9 int32, or None for as it is.

    Ask one frame only, as it is the same for all: a frame whose side data were looked at stays in
    memory until the garbage collector runs.
    """
    sides: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if sides is None else np.frombuffer(bytes(sides), np.int32)


def _turn(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a display matrix (a b u c d v x y w): point (x, y) goes to (a x + c y, b x + d y).

    Only quarter turns and mirrorings exist in practice; other angles go to the nearest of them.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    if across < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _sha256(source: Path) -> str:
    digest = hashlib.sha256()
    for path in list_images(source) if source.is_dir() else [source]:
        if source.is_dir():
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")

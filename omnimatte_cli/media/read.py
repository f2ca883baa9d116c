"""Read video files and folders of images, frame by frame.

Every frame comes out as (H, W, 3) RGB, turned the way a player shows it, at its own size: uint8, or
uint16 of full range where that is asked for. container.py reads files, sequence.py folders.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np

from omnimatte_cli.arrays import Clip, Size, eight_bits
from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.boxes import NO_CROP, Crop
from omnimatte_cli.media.codecs import ColourTags, Timing
from omnimatte_cli.media.colour import ColourFacts
from omnimatte_cli.media.container import FileReader, Picture, codec_of, count_packets
from omnimatte_cli.media.cuts import cuts_note, find_cuts
from omnimatte_cli.media.digest import sha256_of, sha256_of_files
from omnimatte_cli.media.images import list_images, quiet_opencv, read_deep
from omnimatte_cli.media.limits import check_pixels
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.pin import Pin, Stamp
from omnimatte_cli.media.sequence import IMAGE_FPS, FolderReader, rgb_of
from omnimatte_cli.media.sound import Audio
from omnimatte_cli.media.timecode import time_code_after
from omnimatte_cli.media.timing import rising, timing_of
from omnimatte_cli.media.turning import shown_size
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.scratch import EVERY, Growing, release, trim

# What counts as a video where one is looked for; a file that is named may have any suffix.
VIDEO_SUFFIXES = frozenset(
    (
        *(".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v", ".m4v"),
        *(".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".vob"),
        *(".webm", ".wmv", ".y4m"),
    )
)
# FFmpeg's names of codecs that lose nothing, whatever their options. (Before a GIF is written its
# colours are reduced.)
LOSSLESS = frozenset(
    (
        *("apng", "cllc", "dpx", "ffv1", "ffvhuff", "flashsv", "huffyuv", "lagarith"),
        *("magicyuv", "msrle", "png", "qtrle", "r10k", "r210", "rawvideo", "tiff", "utvideo"),
        *("v210", "v308", "v408", "v410", "wrapped_avframe", "yuv4", "zlib", "zmbv"),
    )
)
NOTHING = np.empty(0, np.uint8)
MIN_FRAMES = 3  # fewer show no motion to learn from, and no median
CUT_SIZE = (36, 64)  # (h, w) at which scene cuts are looked for without a clip


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, found by decoding all of it (or all of the part that is wanted).

    size: (H, W) after display rotation and cropping. fps: frames per second where frames follow
    each other evenly, which most do; else their mean. duration: seconds, the last frame's time on
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
    colour: ColourFacts = field(default_factory=ColourFacts)
    sar: Fraction = Fraction(1)  # width by height of a pixel on screen
    field_order: str = "progressive"  # or "top", "bottom" (field first), "interlaced"
    crop: Crop = NO_CROP  # pixels that the container hides, already taken off
    turned: bool = False  # whether a display matrix was applied
    variable: bool = False  # whether frames follow each other unevenly: `times` tells how
    start_time: float = 0.0  # seconds of the first frame of the whole video on its own clock
    timecode: str | None = None  # of the first frame (of the part), "hh:mm:ss:ff"
    audio: Audio | None = None  # the sound of the frames (of the part)
    stream: int = 0  # number of the video stream that was read
    first: int = 0  # place of the first frame in the whole video
    total: int = 0  # frames of the whole video
    numbers: tuple[int, ...] | None = None  # numbers in the images' names, where they rise
    names: tuple[str, ...] | None = None  # the images' names without suffix
    cuts: tuple[int, ...] = ()  # frames (of the part) with which a new scene begins
    notes: tuple[str, ...] = ()  # sentences for the user
    options: ReadOptions = field(default_factory=ReadOptions)

    @property
    def depth(self) -> int:
        """Bits of each sample; above 8, `iter_frames(..., deep=None)` keeps them."""
        return self.colour.depth

    @property
    def shown_size(self) -> Size:
        """(H, W) on screen, where pixels may not be square."""
        return shown_size(self.size, self.sar)

    @property
    def first_number(self) -> int:
        """The number that the first frame bears in file names."""
        if self.options.start_frame is not None:
            return self.options.start_frame
        return self.numbers[0] if self.numbers else self.first

    @property
    def frame_numbers(self) -> tuple[int, ...]:
        """The number of each frame in file names."""
        if self.options.start_frame is None and self.numbers:
            return self.numbers
        return tuple(range(self.first_number, self.first_number + self.frames))

    @property
    def tags(self) -> ColourTags:
        """The colour tags of videos made from the frames as `iter_frames` gives them."""
        colour = self.colour
        if self.options.tone_map and colour.hdr:
            return ColourTags()
        if self.kind == "images":  # stills are sRGB by custom; linear ones are read into its curve
            colour = replace(colour, transfer="iec61966-2-1")
        return ColourTags.of(colour, self.size)

    @property
    def timing(self) -> Timing:
        """When the frames are shown and how, for videos made from them."""
        times = self.times if self.variable else None
        return Timing(self.fps, times, self.sar, self.timecode)

    @property
    def scenes(self) -> tuple[tuple[int, int], ...]:
        """(first, stop) of each scene, as frames of the whole video: `ReadOptions` for each."""
        edges = [self.first + c for c in (0, *self.cuts, self.frames)]
        return tuple(itertools.pairwise(edges))


def iter_frames(
    source: Path,
    stop: int | None = None,
    *,
    alpha: bool = False,
    deep: bool | None = False,
    options: ReadOptions | None = None,
) -> Iterator[np.ndarray]:
    """Frames of a video file or a folder of images, in order of presentation.

    Yields (H, W, 3) uint8 RGB, or (H, W, 4) RGBA with `alpha` (255 where a file has none); at most
    `stop` frames of the part that `options` choose. With `deep` uint16 of full range, however deep
    the source is; None: uint16 where the source has more than 8 bits. Raises VideoError with the
    frame at which reading failed.
    """
    if stop is not None and stop <= 0:
        return
    reader = _reader(Path(source), options or ReadOptions(), alpha, deep)
    for index, picture in enumerate(reader.pictures()):
        yield picture.image
        if stop is not None and index + 1 >= stop:
            return


def read_still(path: Path) -> np.ndarray | None:
    """An image file as RGB (H, W, 3), uint8 or uint16 by its depth; None if it cannot be read.

    Alpha is left out; scene-linear light is encoded with sRGB's curve, as in folders of images.
    """
    with quiet_opencv():
        image = read_deep(path)
    return None if image is None else rgb_of(path, image)


def sha256_of_input(source: Path) -> str:
    """SHA-256 of a video file, or of the names and contents of a folder's images.

    What has not changed since is not read again: a run asks, and so does its report.
    """
    return _hashed(source, Pin.of(source).stamps)


@lru_cache(maxsize=8)
def _hashed(source: Path, stamps: tuple[Stamp, ...]) -> str:
    """The hash. stamps: what the source looks like from outside, so that another is another."""
    return sha256_of_files(list_images(source)) if source.is_dir() else sha256_of(source)


def count_frames(source: Path, options: ReadOptions | None = None) -> int:
    """Frames of the whole source without decoding: images, or packets of a file."""
    source = Path(source)
    return (
        len(list_images(source))
        if source.is_dir()
        else count_packets(source, options or ReadOptions())
    )


def kept_by(path: Path) -> Literal["levels", "colours"] | None:
    """What a video file's codec keeps of each pixel: all its colours; or its level alone, where
    neighbours share their colours; or, for what may lose anything, None.

    Raises VideoError where it cannot be read.
    """
    codec, shared = codec_of(path)
    return ("levels" if shared else "colours") if codec in LOSSLESS else None


def same_part(companion: Path, info: VideoInfo) -> ReadOptions:
    """How a video is read that goes with another, such as its plates: whole, or the same part.

    It has frames for all of the other video, or for just the part that is worked on.
    """
    if info.frames == info.total or count_frames(companion) != info.total:
        return ReadOptions()
    return ReadOptions(first=info.first, stop=info.first + info.frames)


def probe(
    source: Path,
    fps: Fraction | None = None,
    progress: Progress | None = None,
    options: ReadOptions | None = None,
    each: Callable[[int, np.ndarray], None] | None = None,
) -> VideoInfo:
    """Decode everything once and say what it is; `fps` is that of a folder of images.

    each: is given every frame's number and full-size picture on the way, at the source's depth.
    """
    info, _ = _read(Path(source), None, _with_fps(options, fps), progress, each)
    return info


def read_clip(
    source: Path,
    size_for: Callable[[Size], Size],
    progress: Progress | None = None,
    fps: Fraction | None = None,
    each: Callable[[int, np.ndarray], None] | None = None,
    options: ReadOptions | None = None,
) -> tuple[VideoInfo, Clip]:
    """Probe, and make the clip at working size, in one decoding pass.

    size_for: from the video's (H, W) to the working (h, w); frames are averaged over areas. each:
    is given every frame's number and full-size picture on the way, at the source's depth.
    Raises VideoError where the source cannot be read or has fewer than MIN_FRAMES frames.
    """
    info, small = _read(Path(source), size_for, _with_fps(options, fps), progress, each)
    return info, Clip(small, info.fps, info.source)


def _with_fps(options: ReadOptions | None, fps: Fraction | None) -> ReadOptions:
    options = options or ReadOptions()
    return options if fps is None else replace(options, fps=fps)


def _reader(
    source: Path, options: ReadOptions, alpha: bool = False, deep: bool | None = False
) -> FileReader | FolderReader:
    if not source.exists():
        pattern = set(source.name) & set("%*?#") and source.parent.is_dir()
        hint = f" A sequence of images is named by its folder: {source.parent}." if pattern else ""
        raise VideoError(f"{source} does not exist.{hint}")
    kind = FolderReader if source.is_dir() else FileReader
    return kind(source, options, alpha, deep)


def _read(
    source: Path,
    size_for: Callable[[Size], Size] | None,
    options: ReadOptions,
    progress: Progress | None,
    each: Callable[[int, np.ndarray], None] | None = None,
) -> tuple[VideoInfo, np.ndarray]:
    """The facts, and the frames at `size_for`'s size, (T, h, w, 3) uint8."""
    progress = progress or Silent()
    progress.stage("reading video")
    reader = _reader(source, options, deep=None)
    size, working = (0, 0), CUT_SIZE
    pictures: list[Picture] = []
    found = Growing()
    for picture in reader.pictures():
        if not pictures:
            size = picture.image.shape[:2]
            working = size_for(size) if size_for else CUT_SIZE
        h, w = working
        little = cv2.resize(picture.image, (w, h), interpolation=cv2.INTER_AREA)
        found.add(eight_bits(little))
        if each is not None:
            each(len(pictures), picture.image)
        pictures.append(replace(picture, image=NOTHING))  # a part of it would hold all of it
        if len(pictures) % EVERY == 0:
            trim()
        progress.step(len(pictures))
    count = len(pictures)
    if count < MIN_FRAMES:
        part = f" of {reader.total} in the chosen part" if options.ranged else ""
        raise VideoError(
            f"{source} has {count} frame{'s' * (count != 1)}{part}: at least {MIN_FRAMES} are "
            "needed."
        )
    small = found.array()
    return _describe(source, reader, pictures, size, small), small


def _describe(
    source: Path,
    reader: FileReader | FolderReader,
    pictures: list[Picture],
    size: Size,
    small: np.ndarray,
) -> VideoInfo:
    facts, options = reader.facts, reader.options
    images = isinstance(reader, FolderReader)
    notes = list(facts.notes)
    if images and options.fps is None:
        notes.append(f"Images have no frame rate: {IMAGE_FPS} per second is taken (--fps).")
    fps, times, duration, variable = timing_of(pictures, facts.rates, facts.tick, options.fps)
    if not images and not rising(pictures):
        notes.append(
            f"The file does not say when each frame is shown: {float(fps):g} frames per second are "
            "taken (--fps)."
        )
    if not images and options.fps is not None and rising(pictures):
        notes.append("--fps is not used: the file says when each frame is shown.")
    if images and options.stream is not None:
        notes.append("--stream is not used: a folder of images has no streams.")
    if images and options.deinterlace:
        notes.append("--deinterlace is not used: it is for video files.")
    if options.tone_map and not facts.colour.hdr:
        notes.append("--tone-map is not used: the values are neither PQ nor HLG.")
    if variable:
        notes.append("Frames follow each other unevenly: each keeps its own time.")
    first, numbers, names = 0, None, None
    if isinstance(reader, FolderReader):
        wanted = reader.wanted()
        first, names = wanted.start, tuple(reader.files[i].stem for i in wanted)
        numbers = tuple(reader.numbers[i] for i in wanted) if reader.numbers else None
    elif reader.first is not None:
        first = reader.first
    audio = facts.audio
    if audio is not None and options.ranged:
        start = pictures[0].start
        known = start is not None and facts.start is not None
        begin = start - facts.start if known else first / fps  # type: ignore[operator]
        audio = audio.part(float(begin), duration)
    code = time_code_after(facts.timecode, fps, first)
    cuts = find_cuts(small)
    release(small)
    if cuts:
        notes.append(cuts_note(cuts, first))
    return VideoInfo(
        source=source,
        frames=len(pictures),
        size=size,
        fps=fps,
        duration=duration,
        times=times,
        codec=facts.codec,
        pixel_format=facts.pixel_format,
        sha256=sha256_of_input(source),
        kind="images" if images else "video",
        colour=facts.colour,
        sar=facts.sar,
        field_order=facts.field_order,
        crop=facts.crop,
        turned=facts.turned,
        variable=variable,
        start_time=float(facts.start or 0),
        timecode=str(code) if code else None,
        audio=audio,
        stream=facts.stream,
        first=first,
        total=reader.total,
        numbers=numbers,
        names=names,
        cuts=cuts,
        notes=tuple(notes),
        options=options,
    )


# --------------------------------------------------------------------------------------- palettes


def read_palette(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """An indexed PNG as it is stored: indices (H, W) uint8 and palette (256, 3) uint8 RGB.

    None where the file is no indexed PNG; VideoError where it is one but is damaged. (OpenCV would
    turn indices into colours.)
    """
    data = path.read_bytes()
    # Signature (8 bytes), IHDR: length, type, width, height, depth; then the colour type: 3.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[25:26] != b"\x03":
        return None
    check_pixels(path, data)
    try:
        decoder = av.CodecContext.create("png", "r")
        decoder.thread_count = 1
        frames = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
        indices, palette = frames[0].to_ndarray()
    except (av.error.FFmpegError, IndexError, ValueError) as error:
        raise VideoError(f"{path} is a damaged PNG.") from error
    return indices, palette[:, 1:]  # the first of four is alpha

"""Video files: which stream is read, with which decoder, and what the container says about it.

The only user of PyAV beside colour.py and turning.py. FFmpeg reads frames; players turn and crop
them, and so does turning.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import VideoReformatter

from omnimatte_cli.errors import OptionError, VideoError
from omnimatte_cli.media.boxes import NO_CROP, Crop, bytes_missing, read_crop
from omnimatte_cli.media.colour import ColourFacts, to_rgb, tone_map
from omnimatte_cli.media.fields import deinterlaced, look_for_fields
from omnimatte_cli.media.images import wxh
from omnimatte_cli.media.limits import MAX_PIXELS, check_head, check_size
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.patience import patient
from omnimatte_cli.media.sound import Audio, sound_of
from omnimatte_cli.media.timecode import first_time_code
from omnimatte_cli.media.turning import cropped, display_matrix, is_identity, turn

COVERS = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own leave the alpha out
ALPHA_NOTE = (
    "The video has an alpha channel, which is not used: what it hides is a part of the scene here. "
    "Where it is the mask, give the file as --masks."
)
# FFmpeg would draw a text file as a terminal does, and follow a playlist to other files.
NO_VIDEOS = ("tty", "concat", "hls", "dash", "imf", "ffmetadata", "srt", "webvtt")
# AVFieldOrder tt, bb, tb, bt: coded first, shown first.
FIELD_ORDERS = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}


@dataclass
class Facts:
    """What the container and the first frame say; complete once the first frame was decoded.

    sar: width by height of a pixel as shown (after turning). field_order: "progressive", "top" or
    "bottom" (field first), or "interlaced". rate: frames per second as announced. start: seconds of
    the first frame. stream: number of the video stream, of `streams`. turned: whether a display
    matrix turned or mirrored the frames.
    """

    codec: str = ""
    pixel_format: str = ""
    colour: ColourFacts = field(default_factory=ColourFacts)
    sar: Fraction = Fraction(1)
    field_order: str = "progressive"
    crop: Crop = NO_CROP
    turned: bool = False
    rates: tuple[Fraction, ...] = ()
    tick: Fraction | None = None
    start: Fraction | None = None
    timecode: str | None = None
    audio: Audio | None = None
    stream: int = 0
    streams: int = 1
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Picture:
    """One frame: image (H, W, 3 or 4) uint8 or uint16; start and length in seconds where known."""

    image: np.ndarray
    start: Fraction | None
    length: Fraction | None


class FileReader:
    """Reads one video file once. facts: what was found out so far."""

    def __init__(
        self, path: Path, options: ReadOptions, alpha: bool = False, deep: bool | None = False
    ) -> None:
        """deep: whether frames are uint16; None: where the source has more than 8 bits."""
        self.path, self.options, self.alpha, self.deep = path, options, alpha, deep
        self.facts = Facts()
        self.total = 0  # frames decoded so far
        self.first: int | None = None  # place of the first frame of the wanted part

    def pictures(self) -> Iterator[Picture]:
        """The frames of the wanted part, in order of presentation."""
        return (p for p in patient(self._pictures(), self.path) if p is not None)

    def _pictures(self) -> Generator[Picture | None, None, None]:
        """The frames; None for each before the wanted part."""
        with open_container(self.path) as container:
            stream = self._choose(container)
            yield from self._decode(container, stream)

    def _choose(self, container: av.container.InputContainer) -> av.video.stream.VideoStream:
        streams = [s for s in container.streams.video if not s.disposition & COVERS]
        if not streams or container.format.name in NO_VIDEOS:
            what = "only sound" if container.streams.audio else "no video"
            raise VideoError(f"{self.path} has no picture to work on: {what} was found in it.")
        wanted, facts = self.options.stream, self.facts
        if wanted is not None:
            if wanted >= len(streams):
                raise OptionError(
                    f"--stream {wanted}: {self.path} has {len(streams)} video streams, "
                    "counted from 0."
                )
            chosen = streams[wanted]
        else:
            chosen = max(streams, key=_rank)
        facts.stream, facts.streams = streams.index(chosen), len(streams)
        if len(streams) > 1 and wanted is None:
            sizes = ", ".join(f"{i}: {s.width}x{s.height}" for i, s in enumerate(streams))
            facts.notes.append(
                f"{len(streams)} video streams ({sizes}): number {facts.stream} is used; "
                "--stream chooses another."
            )
        facts.codec = chosen.codec_context.name
        rates = (chosen.average_rate, chosen.base_rate, chosen.guessed_rate)
        facts.rates = tuple(Fraction(r) for r in rates if r)
        facts.tick = chosen.time_base
        others = (s.metadata for s in container.streams)
        facts.timecode = first_time_code([chosen.metadata, *others, container.metadata])
        ratio = chosen.sample_aspect_ratio
        facts.sar = Fraction(ratio) if ratio and ratio > 0 else Fraction(1)
        stored = chosen.codec_context.height, chosen.codec_context.width
        check_size(self.path, stored)
        facts.crop = read_crop(self.path, container.format.name, chosen.id, stored)
        order = int(chosen.codec_context.field_order or 0)
        facts.field_order = FIELD_ORDERS.get(order, "progressive")
        return chosen

    def _decode(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[Picture | None]:
        options, facts = self.options, self.facts
        reformatter, size, matrix, end = VideoReformatter(), None, None, Fraction(0)
        frames = self._frames(container, stream)
        if options.deinterlace:
            flagged, seen = look_for_fields(self._look())
            unflagged = not flagged and seen != "progressive"
            facts.field_order = seen if unflagged else facts.field_order
            frames = deinterlaced(frames, stream, facts.field_order, unflagged)
        for frame in frames:
            base = frame.time_base or stream.time_base
            clock = frame.pts if frame.pts is not None else frame.dts
            start = clock * base if clock is not None and base else None
            length = frame.duration * base if frame.duration and base else None
            index, self.total = self.total, self.total + 1
            if index == 0:
                matrix = display_matrix(frame)
                self._study(frame, stream, matrix, start)
                facts.audio = sound_of(self.path, container, start)
            end = (start if start is not None else end) + (length or 0)
            since = start - facts.start if start is not None and facts.start is not None else None
            if _is_past(options, index, since):
                self.total = count_packets(self.path, options)
                return
            if not _within(options, index, since):
                yield None
                continue
            self.first = index if self.first is None else self.first
            deep = facts.colour.depth > 8 if self.deep is None else self.deep
            try:
                image = to_rgb(frame, reformatter, self.alpha, deep)
            except av.error.FFmpegError as error:
                raise VideoError(
                    f"{self.path}: the colours of frame {index} cannot be turned into RGB (matrix "
                    f"{facts.colour.matrix}, {frame.format.name}): write it with BT.709 first."
                ) from error
            image = cropped(image, facts.crop)
            if options.tone_map and facts.colour.hdr:
                image[..., :3] = tone_map(np.ascontiguousarray(image[..., :3]), facts.colour)
            image = image if matrix is None else turn(image, matrix)
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise VideoError(
                    f"{self.path} changes size at frame {index}: "
                    f"{wxh(size)} before, {wxh(image.shape)} from there."
                )
            yield Picture(image, start, length)
        if _cut_off(self.path, container, stream):
            last = self.total - 1
            raise VideoError(f"{self.path} is cut off: it ends after frame {last}, before its end.")
        _check_duration(stream, end, facts)

    def _frames(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Decoded frames, by the decoder that keeps alpha where there is one."""
        name = ALPHA_DECODERS.get(stream.codec_context.name)
        decoder: Any = stream.codec_context
        if name and stream.metadata.get("alpha_mode") == "1":
            try:
                decoder = av.CodecContext.create(name, "r")
            except (av.error.FFmpegError, ValueError) as error:
                raise VideoError(
                    f"{self.path} has alpha (alpha_mode=1), which this FFmpeg cannot decode "
                    f"without {name}: convert it to PNGs or to ProRes 4444."
                ) from error
            self.facts.codec = stream.codec_context.name
        decoder.thread_type = "AUTO"
        decoder.options = {"max_pixels": str(MAX_PIXELS)}  # whatever the file's header says
        count, broken, patched = 0, False, list[int]()
        try:
            for number, packet in enumerate(container.demux(stream)):
                # Transport streams that were joined, or lost a packet, go on after it.
                if broken and packet.size:
                    self._note_break(number)
                elif broken or (packet.is_corrupt and container.format.name != "mpegts"):
                    raise VideoError(f"{self.path} is damaged or cut off at frame {count}.")
                broken = packet.is_corrupt
                own = decoder is stream.codec_context
                for frame in packet.decode() if own else _decoded(decoder, packet):
                    if frame.is_corrupt:
                        patched.append(count)
                    yield frame
                    count += 1
        except av.error.FFmpegError as error:
            raise VideoError(
                f"{self.path} cannot be decoded at frame {count}: {reason(error)}."
            ) from error
        finally:
            if patched:
                self._note_damage(patched)

    def _look(self) -> Iterator[av.VideoFrame]:
        """The frames from the first one, by another reader, for whoever has to know beforehand."""
        with open_container(self.path) as container:
            other = FileReader(self.path, self.options)
            yield from other._frames(container, other._choose(container))

    def _note_break(self, frame: int) -> None:
        self.facts.notes.append(
            f"The recording breaks off near frame {frame} and goes on (it was joined, or packets "
            "are lost): look at the frames there."
        )

    def _note_damage(self, frames: list[int]) -> None:
        more = f" and {len(frames) - 1} more" * (len(frames) > 1)
        self.facts.notes.append(
            f"Frame {frames[0]}{more}: damaged in the file, and patched up by the decoder. What is "
            "wrong may last to the next key frame: look at the frames from there."
        )

    def _study(
        self,
        frame: av.VideoFrame,
        stream: av.video.stream.VideoStream,
        matrix: np.ndarray | None,
        start: Fraction | None,
    ) -> None:
        facts, options = self.facts, self.options
        facts.colour, facts.start = ColourFacts.of(frame, stream.codec_context), start
        facts.pixel_format = frame.format.name
        facts.turned = matrix is not None and not is_identity(matrix)
        if matrix is not None and abs(int(matrix[1])) > abs(int(matrix[0])):
            facts.sar = 1 / facts.sar
        if frame.interlaced_frame and facts.field_order == "progressive":
            facts.field_order = "interlaced"
        if options.deinterlace:
            if facts.field_order != "progressive":
                facts.notes.append(f"Deinterlaced ({_order(facts.field_order)}) with bwdif.")
            else:
                facts.notes.append(
                    "--deinterlace: the video tells of no fields and shows no combs as it begins: "
                    "only frames that are flagged later are changed."
                )
            facts.field_order = "progressive"
        elif facts.field_order != "progressive":
            facts.notes.append(
                f"The video is interlaced, {_order(facts.field_order)}: layers will show combs "
                "where something moves; --deinterlace separates the fields."
            )
        if any(facts.crop):
            facts.notes.append(
                "The container crops the picture (top {}, bottom {}, left {}, right {} pixels); "
                "so is it here.".format(*facts.crop)
            )
        if facts.sar != 1:
            facts.notes.append(squashed_note(facts.sar))
        if any(c.is_alpha for c in frame.format.components):
            rgba = to_rgb(frame, VideoReformatter(), True, False)
            if rgba[..., 3].min() < 255:
                facts.notes.append(ALPHA_NOTE)
        if note := facts.colour.note(options.tone_map):
            facts.notes.append(note)


def codec_of(path: Path) -> tuple[str, bool]:
    """FFmpeg's name of a video's codec, and whether pixels share colours. Raises VideoError."""
    with open_container(path) as container:
        codec = FileReader(path, ReadOptions())._choose(container).codec_context
        kind = codec.format
        whole = kind is None or len(kind.components) < 2
        shared = kind is not None and kind.chroma_width(16) * kind.chroma_height(16) < 16 * 16
        return codec.name, shared and not whole


def count_packets(path: Path, options: ReadOptions) -> int:
    """Frames of a video file by its packets, without decoding.

    Those that an edit list hides are left out; other hidden ones may count.
    """
    reader = FileReader(path, options)
    with open_container(path) as container:
        stream = reader._choose(container)
        if stream.frames and "mov" in container.format.name:  # its index says which are hidden
            return sum(not entry.is_discard for entry in stream.index_entries)
        return stream.frames or sum(1 for packet in container.demux(stream) if packet.size)


def squashed_note(sar: Fraction) -> str:
    """What the user is told of pixels that are not square."""
    by = f"{sar.numerator}:{sar.denominator}"
    return f"Pixels are not square ({by}): layers keep the stored pixels."


def within_times(options: ReadOptions, since: Fraction | None) -> bool:
    """Whether a frame that begins `since` seconds after the first lies in the wanted time."""
    if since is None:
        return True
    after = options.start_time is None or since >= options.start_time
    return after and (options.stop_time is None or since < options.stop_time)


def reason(error: Exception) -> str:
    """What FFmpeg says, without its full stop."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


# ------------------------------------------------------------------------------------------ opening


@contextlib.contextmanager
def open_container(path: Path) -> Iterator[av.container.InputContainer]:
    """A container; the path can be taken for no protocol, option or pattern.

    Raises VideoError where it cannot be read, InputError where its pictures are too large.
    """
    check_head(path)
    where = os.path.abspath(path)
    file: BinaryIO | None = None
    try:
        where.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8
        file = Path(where).open("rb")  # noqa: SIM115  # closed below
    try:
        container = av.open(file or "file:" + where, "r", options={"max_pixels": str(MAX_PIXELS)})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if file:
            file.close()
        raise VideoError(f"{path} cannot be read as a video: {reason(error)}.") from error
    try:
        with container:
            yield container
    finally:
        if file:
            file.close()


def _rank(stream: av.video.stream.VideoStream) -> tuple[bool, int, int]:
    """What makes a stream the best: default first, then size, then the first one."""
    area = (stream.width or 0) * (stream.height or 0)
    return bool(stream.disposition & Disposition.default), area, -stream.index


# ----------------------------------------------------------------------------------------- decoding


def _decoded(decoder: Any, packet: av.Packet) -> Iterator[av.VideoFrame]:
    yield from decoder.decode(packet if packet.size else None)


def _within(options: ReadOptions, index: int, since: Fraction | None) -> bool:
    return index >= (options.first or 0) and within_times(options, since)


def _is_past(options: ReadOptions, index: int, since: Fraction | None) -> bool:
    """Whether the wanted part is over; frames come in order of presentation."""
    if options.stop is not None and index >= options.stop:
        return True
    return since is not None and options.stop_time is not None and since >= options.stop_time


def _cut_off(
    path: Path, container: av.container.InputContainer, stream: av.video.stream.VideoStream
) -> bool:
    """Whether the file is shorter than its own index or header says."""
    if "mov" in container.format.name:
        entries = getattr(stream, "index_entries", ())
        return max((e.pos + e.size for e in entries), default=0) > path.stat().st_size
    return bytes_missing(path, container.format.name) > 0


def _check_duration(stream: av.video.stream.VideoStream, end: Fraction, facts: Facts) -> None:
    """A duration in a tag is a hint at most: copies of streams carry stale ones."""
    parts = stream.metadata.get("DURATION", "").split(":")
    try:
        hours, minutes, seconds = int(parts[0]), int(parts[1]), Fraction(parts[2])
    except (IndexError, ValueError):
        return
    told = (hours * 60 + minutes) * 60 + seconds
    if told - end > 1:
        facts.notes.append(
            f"The file announces {float(told):.2f} s but its frames end at {float(end):.2f} s; "
            "it shows no damage."
        )


def _order(field_order: str) -> str:
    return "fields woven" if field_order == "interlaced" else f"{field_order} field first"

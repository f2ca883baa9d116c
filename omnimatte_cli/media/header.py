"""What a video file's header says besides its frames: colours, pixel shape, time code, sound."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.codecs import Audio, ColourTags

# ITU-T H.273 codes to ffmpeg's names; what is not listed (2: unspecified) is taken for BT.709.
MATRICES = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020",
    11: "smpte431",
    12: "smpte432",
}
TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
HD_WIDTH, SD_HEIGHT = 1280, 576  # untagged video below both sizes is BT.601


@dataclass(frozen=True)
class Header:
    """tags: of the colours. sample_aspect: width of a pixel over its height. timecode: of the first
    frame. audio: the first sound track, or None.
    """

    tags: ColourTags = field(default_factory=ColourTags)
    sample_aspect: Fraction = Fraction(1)
    timecode: str | None = None
    audio: Audio | None = None


def read_header(source: Path) -> Header:
    """The header of a video file; of a folder of images, what is assumed for one.

    Only the first frame is decoded. Raises VideoError where it cannot be.
    """
    if source.is_dir():
        return Header()
    try:
        with av.open(f"file:{source.absolute()}") as container:
            stream = container.streams.video[0]
            frame = next(container.decode(stream))
            code = stream.metadata.get("timecode")
            for other in container.streams:
                code = code or other.metadata.get("timecode")
            first = float(frame.pts * frame.time_base) if frame.pts is not None else 0.0
            return Header(
                _tags(frame),
                Fraction(stream.sample_aspect_ratio or 1),
                code or container.metadata.get("timecode"),
                _audio(source, container, first),
            )
    except (av.error.FFmpegError, OSError, StopIteration, IndexError) as error:
        raise VideoError(f"{source} cannot be read as a video.") from error


def _tags(frame: av.VideoFrame) -> ColourTags:
    hd = frame.width >= HD_WIDTH or frame.height > SD_HEIGHT
    return ColourTags(
        MATRICES.get(int(frame.colorspace), "bt709" if hd else "smpte170m"),
        PRIMARIES.get(int(frame.color_primaries), "bt709"),
        TRANSFERS.get(int(frame.color_trc), "bt709"),
    )


def _audio(source: Path, container: av.container.InputContainer, first: float) -> Audio | None:
    """The first sound track from the first frame on. first: that frame's time stamp in seconds."""
    if not container.streams.audio:
        return None
    begin = (container.start_time or 0) / av.time_base  # ffmpeg counts seconds from here
    length = (container.duration or 0) / av.time_base
    start = max(0.0, first - begin)
    return Audio(
        source, container.streams.audio[0].codec_context.name, start, max(0.0, length - start)
    )

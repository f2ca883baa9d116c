"""The codec table: how each kind of video file is encoded, tagged and timed.

Only facts and command lines; `omnimatte_cli.media.encode` runs them. Every entry survived a round
trip through independent decoders at even, odd and other sizes (tests/test_formats.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import OptionError
from omnimatte_cli.media.colour import ColourFacts, assumed_matrix
from omnimatte_cli.media.sound import Audio

CLOCK = 90_000  # ticks a second, for files whose frames have times of their own
JITTER = 0.002  # seconds that a frame may be off a constant rate: Matroska rounds to 1 ms

FLAGS = ("-hide_banner", "-nostdin", "-loglevel", "error")

# swscale's default rounding is 1.0 to 1.5 levels dark on BT.709.
EXACT_SCALING = "bicubic+accurate_rnd+full_chroma_int"


# What is written, in ffmpeg's names (ITU-T H.273).
MATRICES = ("bt709", "bt470bg", "smpte170m", "smpte240m", "bt2020nc")
PRIMARIES = (
    *("bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "bt2020", "smpte431", "smpte432"),
)
TRANSFERS = (
    *("bt709", "gamma22", "gamma28", "smpte170m", "smpte240m", "linear", "iec61966-2-4"),
    *("iec61966-2-1", "bt2020-10", "bt2020-12", "smpte2084", "arib-std-b67"),
)


@dataclass(frozen=True)
class ColourTags:
    """What a file says of its colours, in ffmpeg's names. The range written is always limited."""

    matrix: str = "bt709"
    primaries: str = "bt709"
    transfer: str = "bt709"

    @classmethod
    def of(cls, colour: ColourFacts, size: Size) -> ColourTags:
        """Tags for frames (H, W) that were read from a file with these colours.

        What the file does not say, or no encoder here can make, is taken as players take it.
        """
        return cls(
            colour.matrix if colour.matrix in MATRICES else assumed_matrix(size),
            colour.primaries if colour.primaries in PRIMARIES else "bt709",
            colour.transfer if colour.transfer in TRANSFERS else "bt709",
        )


@dataclass(frozen=True)
class Timing:
    """When frames are shown, and the shape of their pixels.

    times: seconds of each frame since the first, or None for the constant rate `fps`.
    sample_aspect: width of a pixel over its height. timecode: of the first frame, "HH:MM:SS:FF".
    """

    fps: Fraction
    times: tuple[float, ...] | None = None
    sample_aspect: Fraction = Fraction(1)
    timecode: str | None = None

    @property
    def variable(self) -> bool:
        """Whether the frames' own times differ from a constant rate."""
        if self.times is None:
            return False
        return any(abs(t - i / self.fps) > JITTER for i, t in enumerate(self.times))


@dataclass(frozen=True)
class Codec:
    """One kind of video file.

    pixels: pixel format in the file. multiple: sides are padded to multiples of this.
    tick: seconds between ticks of the container's clock.
    copied_audio: codecs that the container takes as they are; others become `audio`.
    """

    suffix: str
    pixels: str
    options: Mapping[str, Any]
    copied_audio: frozenset[str]
    audio: Mapping[str, Any]
    alpha: bool = False
    multiple: int = 1
    tick: Fraction = Fraction(1, CLOCK)


_MP4_AUDIO = frozenset(["aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"])
_MOV_AUDIO = frozenset(
    ["aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le"]
)
# Two thirds of the time of the preset `medium` at CRF 18, as near to the pictures, a tenth larger.
_X264 = {"c:v": "libx264", "crf": 17, "preset": "faster", "movflags": "+faststart+write_colr"}
# To look at: half the time for files a sixth larger that are 1.4 dB further from the pictures.
_PREVIEW = {**_X264, "crf": 15, "preset": "veryfast"}
LARGE = 4_000_000  # pixels of a frame from which x264 looks ahead less: it holds a third less
_X264_LARGE = {"x264-params": "rc-lookahead=10"}  # frames, of 40
_PRORES = {"c:v": "prores_ks", "profile:v": "4444", "vendor": "apl0", "movflags": "+write_colr"}

CODECS: Mapping[str, Codec] = {
    "mp4": Codec(".mp4", "yuv420p", _X264, _MP4_AUDIO, {"c:a": "aac", "b:a": "256k"}, multiple=2),
    "preview": Codec(".mp4", "yuv420p", _PREVIEW, frozenset(), {}, multiple=2),
    # prores_ks takes 10 bits of alpha and stores them in its 16-bit alpha plane.
    "prores": Codec(
        ".mov",
        "yuva444p10le",
        {**_PRORES, "alpha_bits": 16},
        _MOV_AUDIO,
        {"c:a": "pcm_s16le"},
        alpha=True,
    ),
    "prores_opaque": Codec(".mov", "yuv444p10le", _PRORES, _MOV_AUDIO, {"c:a": "pcm_s16le"}),
    # Alternate reference frames are refused together with alpha; b:v 0 makes crf the only target.
    "webm": Codec(
        ".webm",
        "yuva420p",
        {
            "c:v": "libvpx-vp9",
            "b:v": 0,
            "crf": 18,
            "auto-alt-ref": 0,
            "row-mt": 1,
            "deadline": "good",
            "cpu-used": 4,
        },
        frozenset(["opus", "vorbis"]),
        {"c:a": "libopus", "b:a": "160k"},
        alpha=True,
        tick=Fraction(1, 1000),
    ),
    "webm_opaque": Codec(
        ".webm",
        "yuv420p",
        {"c:v": "libvpx-vp9", "b:v": 0, "crf": 18, "row-mt": 1, "deadline": "good", "cpu-used": 4},
        frozenset(["opus", "vorbis"]),
        {"c:a": "libopus", "b:a": "160k"},
        tick=Fraction(1, 1000),
    ),
}

RAW_PIXELS = {
    (1, "uint8"): "gray",
    (3, "uint8"): "rgb24",
    (4, "uint8"): "rgba",
    (1, "uint16"): "gray16le",
    (3, "uint16"): "rgb48le",
    (4, "uint16"): "rgba64le",
}


def encoders(profiles: Iterable[str]) -> list[str]:
    """ffmpeg's encoders that kinds of video file need; formats that are none need none."""
    return sorted({CODECS[p].options["c:v"] for p in profiles if p in CODECS})


def raw_pixels(channels: int, dtype: np.dtype) -> str:
    """ffmpeg's name of the frames that are handed over. Raises KeyError for other kinds."""
    return RAW_PIXELS[channels, np.dtype(dtype).name]


def padded_size(size: Size, codec: Codec) -> Size:
    """The file's (height, width): sides padded as the codec needs."""
    height, width = (side + -side % codec.multiple for side in size)
    return height, width


def command(
    program: str,
    path: Path,
    codec: Codec,
    size: Size,
    pixels: str,
    timing: Timing,
    tags: ColourTags,
    audio: Audio | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """The command line that encodes raw frames from a pipe to `path`.

    size: of the frames in the pipe, already padded. pixels: theirs. options: instead of the
    codec's, such as {"crf": 12}. Frames with times of their own come in a NUT stream, others bare.
    """
    if timing.variable:
        pipe = ffmpeg.input("pipe:", format="nut")
        paced = {"fps_mode": "passthrough", "enc_time_base": f"1:{CLOCK}"}
        if codec.tick == Fraction(1, CLOCK):
            paced["video_track_timescale"] = str(CLOCK)
    else:
        pipe = ffmpeg.input(
            "pipe:",
            format="rawvideo",
            pix_fmt=pixels,
            s=f"{size[1]}x{size[0]}",
            framerate=str(timing.fps),
        )
        paced = {}
    limited = pipe.filter(
        "scale",
        in_range="full",
        out_range="limited",
        out_color_matrix=_matrix_for_scaling(tags.matrix),
        flags=EXACT_SCALING,
        sws_dither="none",
    ).filter("format", codec.pixels)
    # Flags on the output alone leave the frames untagged: the filter has to say it as well.
    tagged = limited.filter(
        "setparams",
        range="tv",
        color_primaries=tags.primaries,
        color_trc=tags.transfer,
        colorspace=tags.matrix,
    ).filter("setsar", str(timing.sample_aspect))
    if timing.timecode:
        paced["timecode"] = timing.timecode
    streams: list[Any] = [tagged]
    sound: dict[str, Any] = {}
    if audio is not None:
        streams.append(_sound(audio))
        sound = {"c:a": "copy"} if audio.codec in codec.copied_audio else dict(codec.audio)
    chosen = {**codec.options, **(options or {}), **paced, **sound}
    if codec.options["c:v"] == "libx264" and size[0] * size[1] >= LARGE:
        chosen |= _X264_LARGE
    output = ffmpeg.output(*streams, f"file:{path.absolute()}", **chosen)
    return ffmpeg.compile(output.global_args(*FLAGS), cmd=program, overwrite_output=True)


def join_command(
    program: str, parts: Path, path: Path, codec: Codec, audio: Audio | None = None
) -> list[str]:
    """The command line that puts videos of one kind one after the other, without encoding anew.

    parts: a list of them as ffmpeg's concat demuxer reads it.
    """
    streams: list[Any] = [ffmpeg.input(f"file:{parts.absolute()}", format="concat", safe=0)["v:0"]]
    options: dict[str, Any] = {"c:v": "copy"}
    if audio is not None:
        streams.append(_sound(audio))
        options |= {"c:a": "copy"} if audio.codec in codec.copied_audio else dict(codec.audio)
    if "movflags" in codec.options:
        options["movflags"] = codec.options["movflags"]
    output = ffmpeg.output(*streams, f"file:{path.absolute()}", **options)
    return ffmpeg.compile(output.global_args(*FLAGS), cmd=program, overwrite_output=True)


def _sound(audio: Audio) -> Any:
    # An absolute path cannot be taken for an option or a protocol.
    source = ffmpeg.input(
        f"file:{audio.path.absolute()}", ss=f"{audio.start:.6f}", t=f"{audio.duration:.6f}"
    )
    return source["a:0"]


def _matrix_for_scaling(matrix: str) -> str:
    """swscale's name of a YUV matrix; raises OptionError for one that it cannot make."""
    names = {"bt2020nc": "bt2020", "bt2020c": "bt2020"}
    known = ("bt709", "smpte170m", "bt470bg", "bt2020", "smpte240m", "fcc")
    name = names.get(matrix, matrix)
    if name not in known:
        raise OptionError(f"Colours with the matrix {matrix} cannot be encoded.")
    return name

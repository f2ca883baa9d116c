"""Colour: what a video says about its own, and its exact conversion to RGB.

FFmpeg's default conversion (and so PyAV's and OpenCV's) of subsampled BT.709 is 1.0 to 1.5 levels
of 255 too dark; with the flags here it is exact to rounding. Above 8 bits FFmpeg is off by as much
whatever the flags: there only its chroma interpolation is used, and the matrix is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from omnimatte_cli.arrays import Size, channel_max

HD_WIDTH, SD_HEIGHT = 1280, 576  # untagged video at least this wide or taller than this is BT.709
UNTAGGED = 2  # AVCOL_SPC_UNSPECIFIED, and the same number of primaries and transfer functions
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
PQ, HLG = "smpte2084", "arib-std-b67"  # transfer functions of HDR
# FFmpeg's names of ITU-T H.273's numbers.
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m"}
MATRICES |= {8: "ycgco", 9: "bt2020nc", 10: "bt2020c", 14: "ictcp"}
PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film"}
PRIMARIES |= {9: "bt2020", 10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"}
TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear"}
TRANSFERS |= {11: "iec61966-2-4", 13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12"}
TRANSFERS |= {16: PQ, 17: "smpte428", 18: HLG}
RANGES = {1: "tv", 2: "pc"}
# Luma weights (red, blue) of each matrix: ITU-R BT.601, BT.709, BT.2020; SMPTE 240M; FCC.
LUMA = {"bt709": (0.2126, 0.0722), "bt470bg": (0.299, 0.114), "smpte170m": (0.299, 0.114)}
LUMA |= {"bt2020nc": (0.2627, 0.0593), "smpte240m": (0.212, 0.087), "fcc": (0.30, 0.11)}
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ColourFacts:
    """How the values of a video are meant, in FFmpeg's words; "unknown" where it does not say.

    matrix: of Y'CbCr, "gbr" for RGB. range: "tv" or "pc". depth: bits of each sample.
    assumed: whether the matrix is a guess by the picture's size, as players guess.
    """

    matrix: str = UNKNOWN
    range: str = UNKNOWN
    primaries: str = UNKNOWN
    transfer: str = UNKNOWN
    depth: int = 8
    assumed: bool = False

    @property
    def hdr(self) -> bool:
        """Whether the values are PQ or HLG."""
        return self.transfer in (PQ, HLG)

    @property
    def wide(self) -> bool:
        """Whether the primaries span more than BT.709's."""
        return self.primaries in TO_709

    @classmethod
    def of(cls, frame: av.VideoFrame, stream: Any = None) -> ColourFacts:
        """The tags of a decoded frame, or of its stream's header where the frame has none.

        stream: PyAV's codec context; libvpx hands over frames without primaries and transfer.
        """

        def tag(name: str, unspecified: int = UNTAGGED) -> int:
            number = int(getattr(frame, name))
            if number != unspecified or stream is None:
                return number
            return int(getattr(stream, name) or unspecified)

        kind = frame.format
        rgb = kind.is_rgb or kind.has_palette
        number = tag("colorspace")
        guess = assumed_matrix((frame.height, frame.width))
        assumed = number == UNTAGGED and not rgb
        matrix = "gbr" if rgb else guess if assumed else MATRICES.get(number, UNKNOWN)
        full = rgb or kind.name.startswith("yuvj")
        return cls(
            matrix,
            "pc" if full else RANGES.get(tag("color_range", 0), UNKNOWN),
            PRIMARIES.get(tag("color_primaries"), UNKNOWN),
            TRANSFERS.get(tag("color_trc"), UNKNOWN),
            max(c.bits for c in kind.components),
            assumed,
        )

    def note(self, tone_map: bool) -> str | None:
        """What the user should know about unusual colour, or None."""
        if self.hdr:
            name = "PQ" if self.transfer == PQ else "HLG"
            if tone_map:
                return f"HDR ({name}): brought to BT.709 by tone mapping."
            return (
                f"HDR ({name}): layers keep the values as they are encoded, with their tags; "
                "--tone-map makes BT.709 of them."
            )
        if self.wide:
            return f"Wide gamut ({self.primaries}): values are kept as encoded, with their tags."
        return None


def assumed_matrix(size: Size) -> str:
    """The matrix that players take for untagged video of (height, width): BT.709 from HD on."""
    height, width = size
    return "bt709" if width >= HD_WIDTH or height > SD_HEIGHT else "smpte170m"


def to_rgb(
    frame: av.VideoFrame, reformatter: VideoReformatter, alpha: bool = False, deep: bool = False
) -> np.ndarray:
    """A decoded frame as RGB (H, W, 3), or RGBA (H, W, 4) with `alpha`.

    uint8, equal to the ffmpeg program's exact result; with `deep` uint16 of full range, within one
    part in 65535 of the formula.
    """
    if deep:
        return _to_deep_rgb(frame, reformatter, alpha)
    hd = assumed_matrix((frame.height, frame.width)) == "bt709"
    matrix = Colorspace.ITU709 if hd else Colorspace.ITU601
    return reformatter.reformat(
        frame,
        format="rgba" if alpha else "rgb24",
        src_colorspace=matrix if int(frame.colorspace) == UNTAGGED else None,
        interpolation=EXACT,
    ).to_ndarray()


def _to_deep_rgb(frame: av.VideoFrame, reformatter: VideoReformatter, alpha: bool) -> np.ndarray:
    facts = ColourFacts.of(frame)
    if facts.depth <= 8:
        return to_rgb(frame, reformatter, alpha).astype(np.uint16) * 257
    kind = frame.format.name
    if facts.matrix == "gbr" or kind.startswith("gray") or facts.matrix not in LUMA:
        image = _stretched(frame, reformatter, alpha, facts)
    else:
        image = _by_matrix(frame, reformatter, facts)
    if not alpha or image.shape[2] == 4:
        return image
    return np.dstack([image, _alpha(frame, reformatter)])


def _by_matrix(
    frame: av.VideoFrame, reformatter: VideoReformatter, facts: ColourFacts
) -> np.ndarray:
    """Y'CbCr of more than 8 bits to RGB uint16 by the matrix of ITU-T H.273, section 8.3."""
    wide = reformatter.reformat(
        frame, format="yuv444p16le", src_color_range=None, interpolation=EXACT
    )
    planes = [_plane(p, frame.width, frame.height) for p in wide.planes[:3]]
    one = float(1 << 16)
    if facts.range == "pc":
        # FFmpeg stretches full-range luma to 16 bits but shifts chroma.
        scale_y, zero_y, scale_c = one - 1, 0.0, one - (1 << (16 - facts.depth))
    else:
        scale_y, zero_y, scale_c = 219 * 256.0, 16 * 256.0, 224 * 256.0
    red, blue = LUMA[facts.matrix]
    green = 1 - red - blue
    to_red, to_blue = 2 * (1 - red), 2 * (1 - blue)
    rows = np.array(
        [[1, 0, to_red], [1, -blue * to_blue / green, -red * to_red / green], [1, to_blue, 0]]
    )
    rows = rows * 65535 / np.array([scale_y, scale_c, scale_c])
    offset = rows @ -np.array([zero_y, one / 2, one / 2])
    matrix = np.column_stack([rows, offset]).astype(np.float32)
    rgb = cv2.transform(cv2.merge([p.astype(np.float32) for p in planes]), matrix)
    return np.clip(rgb + np.float32(0.5), 0, 65535).astype(np.uint16)


def _stretched(
    frame: av.VideoFrame, reformatter: VideoReformatter, alpha: bool, facts: ColourFacts
) -> np.ndarray:
    """RGB, grey and rare matrices by FFmpeg; where it shifts RGB of less depth, it is stretched."""
    name = "rgba64le" if alpha else "rgb48le"
    wide = reformatter.reformat(frame, format=name, interpolation=EXACT)
    image = np.asarray(wide.to_ndarray(), np.uint16)
    if facts.matrix != "gbr" or facts.depth >= 16:
        return image
    # FFmpeg fills the bits below by repeating those above, or, by format and version, by zeros.
    below = (1 << (16 - facts.depth)) - 1
    if not (image[..., :3] & below).any():
        stretched = image * np.float32(65535 / (65535 - below)) + np.float32(0.5)
        return np.minimum(stretched, 65535).astype(np.uint16)
    return image


def _alpha(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """The alpha plane (H, W) uint16, opaque where there is none."""
    if len(frame.format.components) != 4:
        return np.full((frame.height, frame.width), 65535, np.uint16)
    bits = frame.format.components[3].bits
    plane = _plane(frame.planes[3], frame.width, frame.height)
    full = (1 << bits) - 1
    return (plane.astype(np.uint32) * 65535 // full).astype(np.uint16)


def _plane(plane: av.video.plane.VideoPlane, width: int, height: int) -> np.ndarray:
    """A 16-bit plane (H, W) uint16, without the padding of its rows."""
    rows = np.frombuffer(memoryview(plane), "<u2")  # type: ignore[arg-type]
    rows = rows.reshape(-1, plane.line_size // 2)
    return rows[:height, :width]


# ------------------------------------------------------------------------------------ tone mapping

PEAK = 203.0  # cd/m2 of diffuse white in HDR, ITU-R BT.2408
BT2020_TO_709 = np.array(  # ITU-R BT.2087, linear light
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)
# SMPTE RP 431-2 (white of DCI) and EG 432-1 (white of D65) to BT.709 (white of D65), linear light:
# from the primaries' chromaticities; DCI's white is taken for D65's, so that white stays white.
P3_TO_709 = np.array(
    [[1.22494, -0.22494, 0], [-0.04206, 1.04206, 0], [-0.01964, -0.07864, 1.09827]], np.float32
)
TO_709 = {"bt2020": BT2020_TO_709, "smpte432": P3_TO_709, "smpte431": P3_TO_709}
KNEE = 0.8  # of diffuse white: darker light is kept as it is
BRIGHTEST = 1000.0 / PEAK  # light that is brought to the display's white


def tone_map(rgb: np.ndarray, facts: ColourFacts) -> np.ndarray:
    """HDR R'G'B' (H, W, 3) uint8 or uint16 to BT.709 R'G'B' of the same type.

    To light (SMPTE ST 2084, ITU-R BT.2100), primaries to BT.709, highlights above the knee rolled
    off by the brightest channel so that hues stay, and BT.709's transfer function.
    """
    full = int(np.iinfo(rgb.dtype).max)
    signal = np.arange(full + 1, dtype=np.float64) / full
    light = _pq_light(signal) if facts.transfer == PQ else _hlg_light(signal)
    linear = light.astype(np.float32)[rgb]
    if facts.wide:
        linear = np.maximum(cv2.transform(linear, TO_709[facts.primaries]), 0)
    most = channel_max(linear)
    rolled = np.where(most > KNEE, _roll_off(most), most)
    linear *= (rolled / np.maximum(most, 1e-6))[..., None]
    coded = np.where(linear < 0.018, 4.5 * linear, 1.099 * np.maximum(linear, 1e-9) ** 0.45 - 0.099)
    return (np.clip(coded, 0, 1) * full + 0.5).astype(rgb.dtype)


def _pq_light(signal: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: signal in [0, 1] to light, 1 at diffuse white."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = signal ** (1 / m2)
    return 10_000 / PEAK * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100 HLG: signal in [0, 1] to light, 1 at diffuse white (signal 0.75)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return (scene / 0.26496256) ** 1.2


def _roll_off(light: np.ndarray) -> np.ndarray:
    """Light above the knee, compressed so that BRIGHTEST becomes 1; smooth at the knee."""
    reach, room = BRIGHTEST - KNEE, 1 - KNEE
    x = np.clip((light - KNEE) / reach, 0, 1)
    slope = reach / room
    return KNEE + room * (slope * x / (1 + (slope - 1) * x))

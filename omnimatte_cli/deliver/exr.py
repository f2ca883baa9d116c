"""One multi-layer OpenEXR file a frame: half float, premultiplied, scene-linear.

Channels: R, G, B hold the composite, `plate.R` ... the plate, `<object>.R` ... `<object>.A` a
layer, `<object>_<pass>.R` ... a pass. Nuke and Resolve show each prefix as a layer.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnimatte_cli.deliver.linear import PQ_WHITE, linear_layers, to_linear
from omnimatte_cli.deliver.writer import PLATE, Delivery, FrameOutput, LayerWriter, free_name
from omnimatte_cli.errors import MissingLibraryError, OutputError
from omnimatte_cli.matte.compositing import lay_over
from omnimatte_cli.media.atomic import replacing
from omnimatte_cli.media.timecode import time_code_after

# CIE xy of red, green, blue and white, by ffmpeg's name of the primaries (ITU-T H.273, table 2).
WHITE_D65 = (0.3127, 0.3290)
CHROMATICITIES = {
    "bt709": (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *WHITE_D65),
    "bt470bg": (0.640, 0.330, 0.290, 0.600, 0.150, 0.060, *WHITE_D65),
    "smpte170m": (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *WHITE_D65),
    "bt2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *WHITE_D65),
    "smpte432": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *WHITE_D65),
}


class ExrWriter(LayerWriter):
    """Writes `<folder>/<shot>.1001.exr`, one file a frame."""

    def __init__(self, folder: Path, info: Delivery) -> None:
        self.folder, self.info = Path(folder), info
        self.library = exr_library()

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, t: int, frame: FrameOutput) -> None:
        write_exr(
            self.library,
            sequence_file(self.folder, self.info.shot, frame.number, ".exr"),
            exr_channels(frame, self.info.tags.transfer),
            exr_header(self.library, self.info, t),
        )

    def close(self, failed: bool = False) -> None:
        """Every file is complete when it has its name: nothing to do."""


def exr_library() -> Any:
    """The module OpenEXR, an optional library. Raises MissingLibraryError."""
    try:
        import OpenEXR
    except ImportError as error:
        raise MissingLibraryError(
            "--format exr needs the library OpenEXR: pip install 'omnimatte[exr]'."
        ) from error
    return OpenEXR


def exr_header(exr: Any, info: Delivery, t: int) -> dict[str, Any]:
    """What the file of frame `t` says of itself. exr: the library."""
    timing, tags = info.timing, info.tags
    header: dict[str, Any] = {
        "compression": exr.ZIP_COMPRESSION,
        "type": exr.scanlineimage,
        "pixelAspectRatio": float(timing.sample_aspect),
        "framesPerSecond": timing.fps,
    }
    if tags.primaries in CHROMATICITIES:
        header["chromaticities"] = CHROMATICITIES[tags.primaries]
    if tags.transfer == "smpte2084":
        header["whiteLuminance"] = PQ_WHITE
    code = time_code_after(timing.timecode, timing.fps, t)
    if code is not None:
        labels = (code.hours, code.minutes, code.seconds, code.frame, int(code.drop))
        header["timeCode"] = exr.TimeCode(*labels, *[0] * 13)
    return header


def exr_channels(frame: FrameOutput, transfer: str) -> dict[str, np.ndarray]:
    """Every channel of a frame by its name in the file, (H, W) float16."""
    titles = layer_names(frame.names)
    plate_name = free_name(PLATE, [*titles.values()])
    images = {
        "": to_linear(frame.composite, transfer),
        f"{plate_name}.": to_linear(frame.plate, transfer),
    }
    below = frame.plate
    for i in frame.order:
        name, layer = frame.names[i], frame.layers[i : i + 1]
        images[f"{titles[name]}."] = linear_layers(layer, [0], below, transfer)[0]
        # An object's passes are stacked, back to front, in the place of its layer.
        parts = {part: rgba for (owner, part), rgba in frame.passes.items() if owner == name}
        if parts:
            stack = linear_layers(np.stack([*parts.values()]), range(len(parts)), below, transfer)
            for part, rgba in zip(parts, stack, strict=True):
                images[f"{titles[name]}_{part}."] = rgba
        below = lay_over(layer, below)
    return {
        f"{prefix}{letter}": np.ascontiguousarray(image[..., c], np.float16)
        for prefix, image in images.items()
        for c, letter in enumerate("RGBA"[: image.shape[2]])
    }


def write_exr(exr: Any, path: Path, channels: dict[str, np.ndarray], header: dict) -> None:
    """Write a file that appears when it is complete. exr: the library. Raises OutputError."""
    try:
        with replacing(path) as partial, exr.File(header, channels) as file:
            file.write(str(partial))
    except RuntimeError as error:
        raise OutputError(f"{path} cannot be written: {error}.") from error


def layer_names(names: Sequence[str]) -> dict[str, str]:
    """Names of objects as Nuke takes them for layers: letters, digits and _, no digit in front.

    Accents are left out; where two names would become one, all but one get a number. Which name
    becomes which does not depend on their order.
    """
    found: dict[str, str] = {}
    for name in sorted(set(names), key=lambda n: (_safe(n) != n, n)):  # who can keep it keeps it
        numbered = (f"{_safe(name)}_{number}" for number in itertools.count(2))
        found[name] = next(
            n for n in itertools.chain([_safe(name)], numbered) if n not in found.values()
        )
    return found


def _safe(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    safe = re.sub(r"\W", "_", plain, flags=re.ASCII)
    return f"_{safe}" if safe[:1].isdigit() else safe


def sequence_file(folder: Path, shot: str, number: int, suffix: str) -> Path:
    """A file of a numbered sequence: shot.1001.exr, four digits or more, no spaces."""
    return folder / f"{re.sub(r'[^A-Za-z0-9_-]+', '_', shot)}.{number:04d}{suffix}"

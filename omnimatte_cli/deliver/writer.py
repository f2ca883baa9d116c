"""One small interface for every format: open, write frames, close.

A writer takes straight-alpha float layers and quantises them itself, so that 8-bit input gives true
fractional colour in deeper formats.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import MaskError
from omnimatte_cli.matte.box import Box
from omnimatte_cli.matte.quantise import QuantisedLayers, integers, quantise_layers
from omnimatte_cli.media.codecs import ColourTags, Timing
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.media.scoped import ScopedWriter
from omnimatte_cli.media.sound import Audio
from omnimatte_cli.settings import parse_colour

PLATE = "plate"  # what the plate's file is called, unless an object is
PICTURE = "composite"

F = TypeVar("F")  # what a writer takes of each frame


@dataclass(frozen=True)
class FrameOutput:
    """All that is delivered of one frame, in the video's encoded signal, float32 in [0, 1].

    number: the frame's number in file names. layers: (N, H, W, 4) straight alpha. plate and
    composite: (H, W, 3). names: of the N layers. order: indices into `names`, back to front.
    passes: more layers (H, W, 4), by (object, pass): an object's passes in their order back to
    front, over each other, are its layer. box: outside of it every layer is empty; None: nobody
    looked.
    """

    number: int
    layers: np.ndarray
    plate: np.ndarray
    composite: np.ndarray
    names: tuple[str, ...]
    order: tuple[int, ...]
    passes: Mapping[tuple[str, str], np.ndarray] = field(default_factory=dict)
    box: Box | None = None
    cache: dict[int, QuantisedLayers] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        n, height, width = len(self.names), *self.plate.shape[:2]
        assert self.layers.shape == (n, height, width, 4), self.layers.shape
        assert self.plate.shape == self.composite.shape == (height, width, 3), self.composite.shape
        assert sorted(self.order) == list(range(n)), self.order
        for x in (self.layers, self.plate, self.composite):
            assert x.dtype == np.float32, x.dtype

    def quantised(self, bits: int) -> QuantisedLayers:
        """The layers as integers that over the plate look as the float ones do; computed once."""
        if bits not in self.cache:
            self.cache[bits] = quantise_layers(
                self.layers, self.plate, self.order, bits, within=self.box
            )
        return self.cache[bits]

    def quantised_pass(self, name: str, part: str, bits: int = 8) -> np.ndarray:
        """One pass of one object as integers, (H, W, 4), rounded to nearest."""
        return integers(self.passes[name, part], bits)


@dataclass(frozen=True)
class Delivery:
    """What the writers of one result share.

    size: (H, W). frames: how many will come. first: the number of the first frame in file names and
    time lines. shot: what sequences are called, as in shot.1001.exr. audio: goes with pictures that
    stand for the whole frame. matte_color: RGB in [0, 1], under the colours of `mp4`. png_plate:
    whether 8-bit PNGs get a plate beside them (in a result's own folder, it is there already).
    """

    size: Size
    frames: int
    timing: Timing
    tags: ColourTags = field(default_factory=ColourTags)
    first: int = 0
    shot: str = "shot"
    audio: Audio | None = None
    ffmpeg: Path | str | None = None
    matte_color: tuple[float, float, float] = (0.0, 0.0, 0.0)
    png_plate: bool = False


class Writer(ScopedWriter, Generic[F]):
    """One format. `close` completes the files; with `failed`, it removes them."""

    @abstractmethod
    def write(self, t: int, frame: F) -> None:
        """Take frame `t` (0, 1, ...)."""


LayerWriter = Writer[FrameOutput]


class Writers(Writer[F]):
    """Several writers as one."""

    def __init__(self, writers: Sequence[Writer[F]]) -> None:
        self.writers = tuple(writers)

    def write(self, t: int, frame: F) -> None:
        for writer in self.writers:
            writer.write(t, frame)

    def open(self) -> None:
        opened: list[Writer[F]] = []
        try:
            for writer in self.writers:
                opened.append(writer)
                writer.open()
        except BaseException:
            for writer in opened:
                writer.close(failed=True)
            raise

    def close(self, failed: bool = False) -> None:
        errors: list[Exception] = []
        for writer in self.writers:
            problem = self._close(writer, failed=failed or bool(errors))
            if problem is not None:
                errors.append(problem)
        if errors and not failed:
            raise errors[0]

    @staticmethod
    def _close(writer: Writer[F], failed: bool) -> Exception | None:
        """Close one writer; its error is returned, as the others must still be closed."""
        try:
            writer.close(failed=failed)
        except Exception as e:
            return e
        return None


def delivery_of(
    info: VideoInfo,
    ffmpeg: Path | str | None = None,
    matte_color: str = "#000000",
    sound: bool = True,
) -> Delivery:
    """What all writers of a result share: size, times, colours and sound of the input."""
    return Delivery(
        info.size,
        info.frames,
        info.timing,
        info.tags,
        info.first_number,
        info.source.stem,
        info.audio if sound else None,
        ffmpeg,
        parse_colour("matte-color", matte_color),
    )


def times_note(info: Delivery) -> str:
    """What the user should know where frames follow each other unevenly."""
    return (
        "The frames have times of their own: movies keep them (WebM to 1 ms), image sequences and "
        f"time lines run at the mean, {float(info.timing.fps):.3f} frames a second."
    )


def frame_layers(frame: FrameOutput) -> dict[str, np.ndarray]:
    """Every layer of a frame by its file name, passes as "object_pass"; (H, W, 4) float32."""
    found = dict(zip(frame.names, frame.layers, strict=True))
    return found | {f"{name}_{part}": rgba for (name, part), rgba in frame.passes.items()}


def check_pass_names(
    names: Sequence[str], passes: Sequence[str], formats: Sequence[str] = ()
) -> None:
    """Raise MaskError where an object is called as another's pass is in files: "object_pass", or
    as its matte is where a format has one beside it."""
    if "mp4" in formats:
        for name in names:
            if f"{name}_matte" in names:
                raise MaskError(
                    f"The object {name}_matte has the name that the matte of {name} gets in MP4: "
                    "rename its masks, or choose another --format."
                )
    for name in names:
        for part in passes:
            if f"{name}_{part}" in names:
                raise MaskError(
                    f"The object {name}_{part} has the name that the {part} pass of {name} gets: "
                    "rename its masks."
                )


def free_name(wanted: str, taken: Sequence[str]) -> str:
    """`wanted`, with underscores after it until no object is called so."""
    while wanted in taken:
        wanted += "_"
    return wanted

"""Hand frames to the ffmpeg program together with the times at which they are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import av
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.media.codecs import CLOCK, Timing


class Pipe(Protocol):
    """What frames are written to."""

    def write(self, data: bytes) -> int: ...


class ClockedFrames:
    """Raw frames in a NUT stream, each with its own time: bare frames in a pipe have none."""

    def __init__(self, pipe: Pipe, size: Size, pixels: str, timing: Timing) -> None:
        assert timing.times is not None
        self.ticks = [round(t * CLOCK) for t in timing.times]
        self.size = size
        self.container = av.open(pipe, "w", format="nut")
        self.stream = self.container.add_stream("rawvideo", rate=timing.fps)
        self.stream.height, self.stream.width = size
        self.stream.pix_fmt = pixels
        self.stream.time_base = self.stream.codec_context.time_base = Fraction(1, CLOCK)

    def write(self, index: int, frame: np.ndarray) -> None:
        """Frame `index`, contiguous, of the size and pixel format agreed on."""
        packet = av.Packet(frame.tobytes())
        packet.stream, packet.time_base = self.stream, Fraction(1, CLOCK)
        packet.pts = packet.dts = self.ticks[index]
        packet.is_keyframe = True
        with _as_pipe():
            self.container.mux(packet)

    def close(self) -> None:
        with _as_pipe():
            self.container.close()


@contextlib.contextmanager
def _as_pipe() -> Iterator[None]:
    """What PyAV makes of a pipe that nobody reads any more is an OSError again."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise BrokenPipeError from error

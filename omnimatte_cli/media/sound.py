"""The sound that goes with a video: which track, from where on, how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av


@dataclass(frozen=True)
class Audio:
    """Sound to copy beside the video.

    codec: ffmpeg's name of the first track's codec. start: seconds from the file's start to the
    first frame. duration: seconds to copy.
    """

    path: Path
    codec: str
    start: float
    duration: float

    def part(self, begin: float, length: float) -> Audio:
        """The sound of a range: `begin` seconds after the first frame, `length` seconds."""
        left = max(0.0, self.duration - begin)
        return replace(self, start=self.start + begin, duration=min(length, left))


def sound_of(
    path: Path, container: av.container.InputContainer, first: Fraction | None
) -> Audio | None:
    """The first sound track from the first frame on. first: that frame's time stamp in seconds."""
    if not container.streams.audio:
        return None
    begin = (container.start_time or 0) / av.time_base  # ffmpeg counts seconds from here
    length = (container.duration or 0) / av.time_base
    start = max(0.0, float(first or 0) - begin)
    codec = container.streams.audio[0].codec_context.name
    return Audio(path, codec, start, max(0.0, length - start))

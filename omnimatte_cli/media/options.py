"""What a user can say about how the input is read; one object, handed to everything that reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from omnimatte_cli.errors import OptionError
from omnimatte_cli.settings import Settings

TIME = re.compile(r"\s*(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?)\s*")  # hours:minutes:seconds


@dataclass(frozen=True)
class ReadOptions:
    """How a video (or folder of images) and its masks are read.

    Frames are numbered from 0 in order of presentation, before any range is cut out.
    """

    stream: int | None = None  # which video stream, counted from 0; None: the best
    fps: Fraction | None = None  # frames per second of a folder of images
    first: int | None = None  # first frame that is read
    stop: int | None = None  # the frame before which reading ends
    start_time: Fraction | None = None  # seconds; frames that begin before are left out
    stop_time: Fraction | None = None  # seconds; frames that begin then or later are left out
    start_frame: int | None = None  # number that the first frame bears in file names
    deinterlace: bool = False  # fields woven into frames are separated by ffmpeg's bwdif
    tone_map: bool = False  # HDR (PQ, HLG) is brought to BT.709 instead of kept as encoded
    invert_masks: bool = False  # masks are white where the object is not

    def __post_init__(self) -> None:
        for name in ("first", "stop", "start_time", "stop_time", "stream", "start_frame"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise OptionError(f"--{name.replace('_', '-')} must not be negative.")
        if self.fps is not None and self.fps <= 0:
            raise OptionError("--fps must be above 0.")
        if self.stop is not None and self.stop <= (self.first or 0):
            raise OptionError("--frames: the range is empty; write --frames 100:250.")
        if self.stop_time is not None and self.stop_time <= (self.start_time or 0):
            raise OptionError("--to must be later than --from.")

    @property
    def ranged(self) -> bool:
        """Whether only a part is read."""
        bounds = (self.first, self.stop, self.start_time, self.stop_time)
        return any(b is not None for b in bounds)


def reading(settings: Settings) -> ReadOptions:
    """How the input is read, from what the user said. Raises OptionError."""
    first, stop = parse_frames(settings.frames) if settings.frames else (None, None)
    return ReadOptions(
        stream=settings.stream,
        fps=parse_fps(settings.fps) if settings.fps else None,
        first=first,
        stop=stop,
        start_time=parse_time(settings.begin) if settings.begin else None,
        stop_time=parse_time(settings.end, "--to") if settings.end else None,
        start_frame=settings.start_frame,
        deinterlace=settings.deinterlace,
        tone_map=settings.tone_map,
        invert_masks=settings.invert_masks,
    )


def parse_frames(text: str) -> tuple[int | None, int | None]:
    """`100:250` to (100, 250): from frame 100 up to, without, frame 250; either may be absent."""
    match = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    if match is None or not (match[1] or match[2]):
        raise OptionError(f"--frames {text}: write first:stop, such as 100:250 or 100:.")
    return (int(match[1]) if match[1] else None, int(match[2]) if match[2] else None)


def parse_time(text: str, option: str = "--from") -> Fraction:
    """`62`, `62.5`, `1:02.5` or `00:01:02.5` to seconds."""
    match = TIME.fullmatch(text)
    if match is None:
        raise OptionError(f"{option} {text}: write seconds or hours:minutes:seconds.")
    hours, minutes, seconds = match.groups()
    return (int(hours or 0) * 60 + int(minutes or 0)) * 60 + Fraction(seconds)


def parse_fps(text: str) -> Fraction:
    """`25`, `23.976` or `24000/1001` to frames per second; 23.976 and its kin become exact."""
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError):
        raise OptionError(f"--fps {text}: write a number or a fraction, 24000/1001.") from None
    if not 0 < rate <= 10_000:
        raise OptionError(f"--fps {text}: must be above 0 and at most 10000.")
    exact = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return exact if "." in text and abs(exact - rate) < Fraction(1, 200) else rate

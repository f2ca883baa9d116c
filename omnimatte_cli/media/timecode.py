"""SMPTE time codes: "HH:MM:SS:FF", or "HH:MM:SS;FF" where numbers are dropped.

Drop-frame codes of 29.97 and 59.94 frames a second leave out 2 or 4 numbers at the start of every
minute but each tenth, so that they keep up with the clock: SMPTE ST 12-1, section 8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

FORM = re.compile(r"(\d+):(\d+):(\d+)([:;.])(\d+)")
DROPS_OF = 15  # numbers a second for each that is dropped a minute: 2 of 30, 4 of 60


@dataclass(frozen=True)
class TimeCode:
    """The label of one frame. drop: whether numbers are left out to keep up with the clock."""

    hours: int
    minutes: int
    seconds: int
    frame: int
    drop: bool = False

    def __str__(self) -> str:
        mark = ";" if self.drop else ":"
        return f"{self.hours:02}:{self.minutes:02}:{self.seconds:02}{mark}{self.frame:02}"


def first_time_code(places: Iterable[Mapping[str, str]]) -> str | None:
    """The first time code in the metadata of a file's streams, in pairs of digits."""
    for metadata in places:
        for key in ("timecode", "TIMECODE"):
            if key in metadata:
                return re.sub(r"\d+", lambda m: m[0].zfill(2), metadata[key])
    return None


def time_code_after(start: str | None, fps: Fraction, frames: int) -> TimeCode | None:
    """The time code `frames` frames after `start`; None without a start, or one of another form.

    Drop-frame codes exist at 30 and 60 numbers a second; at others the mark is not followed.
    """
    match = FORM.fullmatch(start or "")
    if match is None:
        return None
    hours, minutes, seconds, frame = (int(match[i]) for i in (1, 2, 3, 5))
    rate = max(1, round(fps))
    drop = match[4] != ":" and rate % 30 == 0
    dropped = rate // DROPS_OF if drop else 0  # numbers a minute
    passed = hours * 60 + minutes
    number = (passed * 60 + seconds) * rate + frame - dropped * (passed - passed // 10) + frames
    ten_minutes = 600 * rate - 9 * dropped
    tens, rest = divmod(number, ten_minutes)
    number += 9 * dropped * tens
    if rest >= dropped:
        number += dropped * ((rest - dropped) // (60 * rate - dropped))
    number, frame = divmod(number, rate)
    number, seconds = divmod(number, 60)
    hours, minutes = divmod(number, 60)
    return TimeCode(hours % 24, minutes, seconds, frame, drop)

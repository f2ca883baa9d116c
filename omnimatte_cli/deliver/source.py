"""The manifest's section on the input video: written by a run, read back by what works on results.

With it a result's layers are timed, tagged and paired with masks by the same rules as in the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from omnimatte_cli.media.colour import ColourFacts
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.media.sound import Audio


def describe_input(info: VideoInfo) -> dict[str, Any]:
    """Facts about the input video, for JSON.

    "first" is the place of the first frame in the whole video of "total" frames, "first_number" its
    number in file names; "cuts" are
    frames of the whole video; "tags" are those of the videos written.
    """
    options = info.options
    facts: dict[str, Any] = {
        "source": str(info.source.absolute()),
        "kind": info.kind,
        "frames": info.frames,
        "first": info.first,
        "total": info.total,
        "first_number": info.first_number,
        "height": info.size[0],
        "width": info.size[1],
        "sample_aspect": str(info.sar),
        "fps": f"{info.fps.numerator}/{info.fps.denominator}",
        "variable": info.variable,
        "duration": round(info.duration, 4),
        "times": [round(t, 6) for t in info.times],
        "timecode": info.timecode,
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "colour": asdict(info.colour),
        "tags": asdict(info.tags),
        "field_order": info.field_order,
        "cuts": [info.first + t for t in info.cuts],
        "notes": list(info.notes),
        "audio": None,
        "start_frame": options.start_frame,
        "stream": options.stream,
        "deinterlace": options.deinterlace,
        "tone_map": options.tone_map,
        "invert_masks": options.invert_masks,
        "sha256": info.sha256,
    }
    if info.audio is not None:
        facts["audio"] = {k: v for k, v in asdict(info.audio).items() if k != "path"}
    if info.names is not None:
        facts |= {"names": info.names, "numbers": info.numbers}
    return facts


def read_input(facts: Mapping[str, Any]) -> VideoInfo:
    """The facts as they were, without notes; `options` read the very frames of the run again.

    Raises KeyError, TypeError or ValueError where they are no such facts.
    """
    source, frames, first = Path(facts["source"]), int(facts["frames"]), int(facts["first"])
    numbers, names, audio = facts.get("numbers"), facts.get("names"), facts.get("audio")
    return VideoInfo(
        source=source,
        frames=frames,
        size=(int(facts["height"]), int(facts["width"])),
        fps=Fraction(facts["fps"]),
        duration=float(facts["duration"]),
        times=tuple(float(t) for t in facts["times"]),
        codec=facts["codec"],
        pixel_format=facts["pixel_format"],
        sha256=facts["sha256"],
        kind=facts["kind"],
        colour=ColourFacts(**facts["colour"]),
        sar=Fraction(facts["sample_aspect"]),
        variable=bool(facts["variable"]),
        field_order=facts.get("field_order", "progressive"),
        timecode=facts["timecode"],
        audio=Audio(source, **audio) if audio and source.exists() else None,
        first=first,
        total=int(facts["total"]),
        numbers=tuple(numbers) if numbers else None,
        names=tuple(names) if names else None,
        options=ReadOptions(
            stream=facts["stream"],
            first=first,
            stop=first + frames,
            start_frame=facts["start_frame"],
            deinterlace=facts["deinterlace"],
            tone_map=facts["tone_map"],
            invert_masks=facts["invert_masks"],
        ),
    )

"""`layers.otio`: a time line with the plate at the bottom and one track an object above it.

OpenTimelineIO is what Resolve, Premiere (by its plugin), Hiero and Flame import.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omnimatte_cli.deliver.footage import Footage, Stack
from omnimatte_cli.deliver.writer import Delivery
from omnimatte_cli.errors import MissingLibraryError
from omnimatte_cli.media.atomic import replacing

# Formats in the order in which editing programs like them; mp4 layers have no alpha.
PREFERRED = ("prores", "png16", "png", "webm", "exr", "mp4")


def otio_library() -> Any:
    """The module opentimelineio, an optional library. Raises MissingLibraryError."""
    try:
        import opentimelineio
    except ImportError as error:
        raise MissingLibraryError(
            "layers.otio needs the library OpenTimelineIO: pip install 'omnimatte[otio]'."
        ) from error
    return opentimelineio


def write_timeline(path: Path, stack: Stack, info: Delivery, changing_order: bool = False) -> None:
    """Write the time line; footage is named relative to its folder.

    changing_order: tracks cannot change places, so a note says that some frames have another order.
    """
    otio = otio_library()
    rate = float(info.timing.fps)
    start = otio.opentime.RationalTime(info.first, rate)
    timeline = otio.schema.Timeline(info.shot, global_start_time=start)
    timeline.metadata["omnimatte"] = {
        "alpha": "none" if stack.form == "mp4" else "straight",
        "format": stack.form,
        "order_changes": changing_order,
    }
    if stack.form == "exr":
        timeline.metadata["omnimatte"]["alpha"] = "premultiplied, scene-linear"
    for footage in (stack.plate, *stack.layers):
        track = otio.schema.Track(footage.name, kind=otio.schema.TrackKind.Video)
        track.append(_clip(otio, footage, info))
        timeline.tracks.append(track)
    if info.audio is not None:
        track = otio.schema.Track("sound", kind=otio.schema.TrackKind.Audio)
        track.append(_sound(otio, info, path.absolute().parent))
        timeline.tracks.append(track)
    with replacing(path) as partial:
        otio.adapters.write_to_file(timeline, str(partial))


def _clip(otio: Any, footage: Footage, info: Delivery) -> Any:
    rate = float(info.timing.fps)
    start = info.first if footage.is_sequence else 0
    span = otio.opentime.TimeRange(
        otio.opentime.RationalTime(start, rate), otio.opentime.RationalTime(info.frames, rate)
    )
    if footage.is_sequence:
        media = otio.schema.ImageSequenceReference(
            target_url_base=f"{footage.folder}/",
            name_prefix=footage.prefix,
            name_suffix=footage.suffix,
            start_frame=info.first,
            frame_zero_padding=footage.digits,
            rate=rate,
            available_range=span,
        )
    else:
        media = otio.schema.ExternalReference(footage.path, span)
    return otio.schema.Clip(footage.name, media_reference=media, source_range=span)


def _sound(otio: Any, info: Delivery, folder: Path) -> Any:
    rate = float(info.timing.fps)
    assert info.audio is not None
    span = otio.opentime.TimeRange(
        otio.opentime.RationalTime.from_seconds(info.audio.start, rate),
        otio.opentime.RationalTime(info.frames, rate),
    )
    target = Path(os.path.relpath(info.audio.path.absolute(), folder)).as_posix()
    return otio.schema.Clip(
        "sound", media_reference=otio.schema.ExternalReference(target), source_range=span
    )

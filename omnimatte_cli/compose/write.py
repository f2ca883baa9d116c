"""A result put together anew and written: settings in, files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omnimatte_cli.compose.edits import plan
from omnimatte_cli.compose.options import ComposeSettings
from omnimatte_cli.compose.parse import parse_edits
from omnimatte_cli.compose.render import Composition, footage, render, solid, weakening
from omnimatte_cli.deliver.picture import open_pictures, picture_places
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.deliver.writer import times_note
from omnimatte_cli.errors import OutputError
from omnimatte_cli.media.folder import check_apart
from omnimatte_cli.media.listing import read_list
from omnimatte_cli.progress import Progress
from omnimatte_cli.settings import parse_colour

KEEP_TIMES = {"mp4", "prores"}  # formats that keep any time of a frame


@dataclass(frozen=True)
class Written:
    """What was written. untouched: nothing was changed. psnr: then, in dB, if the input is there.

    source: the input.
    """

    paths: tuple[Path, ...]
    untouched: bool
    psnr: float | None
    source: Path


def write_composition(
    result: FinishedResult, out: Path, settings: ComposeSettings, progress: Progress
) -> Written:
    """Compose the result as the settings ask and write it to `out`, a file or a folder.

    Raises OptionError and OutputError before any work.
    """
    places = picture_places(out, settings.formats, settings.transparent)
    ground = settings.background
    read = [] if ground is None or ground.startswith("#") else [Path(ground)]
    check_output(out, settings.overwrite, result, read)
    composition, note = compose_result(result, settings)
    if note:
        progress.say(note)
    if not (settings.clean or settings.background or result.has_residual):
        progress.say(
            "This result has no residual plate: what no layer owns (strangers, grain) is not "
            "shown. `decompose --exact` writes one."
        )
    if result.source.exists() and result.source_lost:
        progress.say(f"{result.source_lost}: its sound is left out, and nothing is measured.")
    start = settings.start_frame
    info = result.delivery(
        first=result.first_number if start is None else start,
        audio=None if settings.no_audio else result.audio,
        ffmpeg=settings.ffmpeg,
    )
    if info.timing.variable and not {form for _, form in places} <= KEEP_TIMES:
        progress.say(times_note(info))
    writer = open_pictures(places, info, settings.transparent)
    untouched = not parse_edits(settings).any and settings.background is None
    psnr = render(composition, writer, progress, measure=untouched)
    return Written(tuple(path for path, _ in places), untouched, psnr, result.source)


def compose_result(
    result: FinishedResult, settings: ComposeSettings
) -> tuple[Composition, str | None]:
    """The composition that the settings ask for, and what the user should know of it."""
    edits = parse_edits(settings)
    appearances = plan(edits, result.names, result.frames)
    weaken, note = weakening(result, tuple(edits.shadow)) if edits.shadow else (None, None)
    ground, background = None, settings.background
    if background is not None and not settings.transparent:
        if background.startswith("#"):
            ground = solid(parse_colour("background", background), result.size)
        else:
            ground = footage(Path(background), result.size, result.input.shown_size)
    transparent, clean = settings.transparent, settings.clean
    return Composition(result, appearances, ground, transparent, clean, weaken), note


def check_output(
    out: Path, overwrite: bool, result: FinishedResult, read: Sequence[Path] = ()
) -> None:
    """Raise OutputError before any work where `out` would hurt the result or another's files.

    read: what is read besides the result and its source.
    """
    place, home = out.resolve(), result.folder.resolve()
    if place == home:
        raise OutputError(f"{out} is what is read: choose another name.")
    check_apart(out, [*result.read, *read])
    if place.is_relative_to(home):
        inside = place.relative_to(home).as_posix()
        listed = read_list(home) or frozenset()
        if any(name == inside or name.startswith(f"{inside}/") for name in listed):
            raise OutputError(f"{out} is part of the result that is read: choose another name.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out} exists and is not empty: choose another, or --overwrite it.")
    if out.is_file() and not overwrite:
        raise OutputError(f"{out} exists: choose another name, or --overwrite it.")
    if out.suffix and out.is_dir():
        raise OutputError(f"{out} is a folder: give a file name.")
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder: make it first.")

"""`omnimatte compose`: a finished result, put together anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from omnimatte_cli.commands.common import (
    FFmpeg,
    FormatOption,
    NoAudio,
    Overwrite,
    Quiet,
    ResultFolder,
    StartFrame,
    Verbose,
    friendly,
    set_up_logging,
)
from omnimatte_cli.errors import OptionError, OutputError
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import parse_colour

if TYPE_CHECKING:
    from omnimatte_cli.compose.edits import Edits
    from omnimatte_cli.compose.render import Composition
    from omnimatte_cli.deliver.read import FinishedResult

Repeated = list[str] | None


def repeated(text: str, metavar: str):
    return typer.Option(help=f"{text} May be repeated.", metavar=metavar)


@friendly
def compose(
    result: ResultFolder,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="File (.mp4, .mov, .webm), or folder of PNGs.", metavar="PATH"
        ),
    ],
    remove: Annotated[Repeated, repeated("Leave an object out.", "NAME")] = None,
    only: Annotated[Repeated, repeated("Leave all other objects out.", "NAME")] = None,
    background: Annotated[
        str | None,
        typer.Option(
            help="What goes in the plate's place: an image, a video, a colour, or transparent.",
            metavar="FILE|#RRGGBB|transparent",
        ),
    ] = None,
    clean: Annotated[
        bool,
        typer.Option(
            "--clean", help="Over the clean plate, without what no layer owns (strangers, grain)."
        ),
    ] = False,
    offset: Annotated[
        Repeated, repeated("Move an object right and down, in pixels.", "NAME:DX,DY")
    ] = None,
    scale: Annotated[Repeated, repeated("Scale an object about its feet.", "NAME:FACTOR")] = None,
    delay: Annotated[
        Repeated, repeated("Show an object later (or with -N, earlier).", "NAME:FRAMES")
    ] = None,
    speed: Annotated[Repeated, repeated("Slow or hasten an object.", "NAME:FACTOR")] = None,
    freeze: Annotated[Repeated, repeated("Hold an object at one frame.", "NAME:FRAME")] = None,
    strobe: Annotated[
        Repeated, repeated("Leave a still image of an object every so many frames.", "NAME:EVERY")
    ] = None,
    duplicate: Annotated[
        Repeated, repeated("Add a copy, moved and later.", "NAME:DX,DY,FRAMES")
    ] = None,
    opacity: Annotated[Repeated, repeated("Multiply an object's alpha.", "NAME:FACTOR")] = None,
    shadow: Annotated[
        Repeated, repeated("Multiply the alpha of an object's effects alone.", "NAME:FACTOR")
    ] = None,
    color: Annotated[
        Repeated, repeated("Show an object in grey or shades of a colour.", "NAME:gray|#RRGGBB")
    ] = None,
    form: FormatOption = None,
    start_frame: StartFrame = None,
    no_audio: NoAudio = False,
    overwrite: Overwrite = False,
    ffmpeg: FFmpeg = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put the layers of a finished RESULT together anew: remove, move, retime, recolour objects.

    Pixels and frames are the video's, frames from 0. Before a moving camera, objects are moved on
    the canvas, so that a copy stays on the ground. Without any change, the input is rebuilt and
    the PSNR against it is printed.
    """
    set_up_logging(verbose)
    from omnimatte_cli.compose.render import render
    from omnimatte_cli.deliver.picture import open_picture, picture_format
    from omnimatte_cli.deliver.read import read_result

    found = read_result(result)
    edits = parse_edits(
        remove=remove,
        only=only,
        offset=offset,
        scale=scale,
        delay=delay,
        speed=speed,
        freeze=freeze,
        strobe=strobe,
        duplicate=duplicate,
        opacity=opacity,
        shadow=shadow,
        color=color,
    )
    transparent = background == "transparent"
    kind = picture_format(out, form, transparent)
    check_output(out, overwrite, found)
    untouched = not edits.any and background is None
    with terminal_progress(quiet) as progress:
        composition, note = compose_result(found, edits, background, clean)
        if note:
            progress.say(note)
        if not (clean or background or found.has_residual):
            progress.say(
                "This result has no residual plate: what no layer owns (strangers, grain) is not "
                "shown. `decompose --exact` writes one."
            )
        first = found.first_number if start_frame is None else start_frame
        audio = None if no_audio else found.input.audio
        info = found.delivery(first=first, audio=audio, ffmpeg=ffmpeg)
        writer = open_picture(out, kind, info, transparent)
        psnr = render(composition, writer, progress, measure=untouched)
    if quiet:
        return
    print(out)
    if untouched and psnr is not None:
        print(f"It matches the input to {psnr:.1f} dB.")
    elif untouched:
        print(f"The input, {found.source}, is not there any more: no PSNR.")


def compose_result(
    result: FinishedResult, edits: Edits, background: str | None, clean: bool
) -> tuple[Composition, str | None]:
    """The composition that the options ask for, and what the user should know of it."""
    from omnimatte_cli.compose.edits import plan
    from omnimatte_cli.compose.render import Composition, footage, solid, weakening

    appearances = plan(edits, result.names, result.frames)
    if clean and background is not None:
        raise OptionError("--clean and --background contradict each other: give one.")
    weaken, note = weakening(result, tuple(edits.shadow)) if edits.shadow else (None, None)
    transparent, ground = background == "transparent", None
    if background is not None and not transparent:
        if background.startswith("#"):
            ground = solid(parse_colour("background", background), result.size)
        else:
            ground = footage(Path(background), result.size, result.input.shown_size)
    return Composition(result, appearances, ground, transparent, clean, weaken), note


def parse_edits(**options: Repeated) -> Edits:
    """The options as edits. Raises OptionError with the form that an option has."""
    from omnimatte_cli.compose import edits as ed

    given = {option: tuple(values or ()) for option, values in options.items()}

    def table(option: str, form: str, count: int = 1) -> dict[str, tuple[float, ...]]:
        found: dict[str, tuple[float, ...]] = {}
        for text in given[option]:
            name, values = ed.numbers(option, text, form, count)
            if name in found:
                raise OptionError(f"--{option} is given twice for {name}.")
            found[name] = values
        return found

    def factors(option: str, low: float, high: float) -> dict[str, float]:
        found = {n: v[0] for n, v in table(option, "NAME:FACTOR").items()}
        for name, value in found.items():
            if not low <= value <= high:
                raise OptionError(f"--{option} {name}:{value:g} is outside {low:g} to {high:g}.")
        return found

    def frames(option: str, form: str, low: int | None = None) -> dict[str, int]:
        found = {}
        for name, (value,) in table(option, form).items():
            found[name] = ed.whole(option, f"{name}:{value:g}", value, form)
            if low is not None and found[name] < low:
                raise OptionError(f"--{option} {name}:{found[name]}: give {low} or more.")
        return found

    copies = []
    form = "NAME:DX,DY,FRAMES"
    for text in given["duplicate"]:
        name, (dx, dy, later) = ed.numbers("duplicate", text, form, 3)
        copies.append((name, dx, dy, ed.whole("duplicate", text, later, form)))
    colors = dict(ed.split_option("color", text, "NAME:gray|#RRGGBB") for text in given["color"])
    for value in colors.values():
        if value != "gray":
            parse_colour("color", value)
    return ed.Edits(
        remove=given["remove"],
        only=given["only"],
        offset={n: (v[0], v[1]) for n, v in table("offset", "NAME:DX,DY", 2).items()},
        scale=factors("scale", 0.01, 100),
        delay=frames("delay", "NAME:FRAMES"),
        speed=factors("speed", 0.001, 1000),
        freeze=frames("freeze", "NAME:FRAME"),
        strobe=frames("strobe", "NAME:EVERY", 1),
        opacity=factors("opacity", 0, 1),
        shadow=factors("shadow", 0, 1),
        color=colors,
        duplicate=tuple(copies),
    )


def check_output(out: Path, overwrite: bool, result: FinishedResult) -> None:
    """Raise OutputError before any work where `out` would hurt the result or another's files."""
    if out.resolve() in (result.folder.resolve(), result.source.resolve()):
        raise OutputError(f"{out} is what is read: choose another name.")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(f"{out} exists and is not empty: choose another, or --overwrite it.")
    if out.is_file() and not overwrite:
        raise OutputError(f"{out} exists: choose another name, or --overwrite it.")
    if out.suffix and out.is_dir():
        raise OutputError(f"{out} is a folder: give a file name.")
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out.parent} is not a folder: make it first.")

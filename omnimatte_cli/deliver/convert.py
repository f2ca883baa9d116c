"""The layers of a finished result in other formats, with a time line and a script for them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from omnimatte_cli.deliver import nuke, otio
from omnimatte_cli.deliver.footage import PNG_DIGITS, Footage, Stack, stack_of, usual_order
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.deliver.writer import (
    LAYER_FOLDERS,
    Delivery,
    check_formats,
    open_writers,
    parse_colour,
)
from omnimatte_cli.errors import MissingLibraryError, OptionError, OutputError
from omnimatte_cli.media.codecs import CODECS
from omnimatte_cli.media.folder import add_to_list
from omnimatte_cli.progress import Progress

WRITTEN = frozenset([".png", ".exr", *(codec.suffix for codec in CODECS.values())])


def convert_result(
    result: FinishedResult,
    formats: Sequence[str],
    out: Path,
    progress: Progress,
    *,
    start_frame: int = 0,
    matte_color: str = "#000000",
    clean: bool = False,
    overwrite: bool = False,
    ffmpeg: Path | str | None = None,
) -> list[Path]:
    """Write layers and plate in `formats` below `out`; returns the folders and files written.

    Raises OptionError and OutputError before anything is written.
    """
    check_formats(formats)
    at_home = out.resolve() == result.folder.resolve()
    folders = [out / LAYER_FOLDERS[form] for form in dict.fromkeys(formats)]
    for folder in folders:
        if folder.resolve() == result.layer_folder.resolve():
            raise OutputError(f"{folder} is what is read: give another format, or --out.")
        check_folder(folder, overwrite)
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", matte_color):
        raise OptionError(f"--matte-color {matte_color}: give a colour as #RRGGBB.")
    info = result.delivery(
        first=start_frame,
        audio=result.header.audio,
        ffmpeg=ffmpeg,
        matte_color=parse_colour(matte_color),
        png_plate=not at_home,
    )
    names = [*result.names, *(f"{n}_{p}" for n in result.names for p in result.passes(n))]
    out.mkdir(parents=True, exist_ok=True)
    progress.stage("converting", result.frames)
    with tempfile.TemporaryDirectory(dir=out, prefix=".convert-") as temporary:
        with open_writers(formats, Path(temporary), names, info) as writers:
            for t in range(result.frames):
                writers.write(t, result.frame(t, start_frame + t, clean))
                progress.step(t + 1)
        for folder in folders:
            if folder.exists():
                folder.rename(Path(temporary) / f"{folder.name}.old")  # goes with the temporary one
            (Path(temporary) / folder.name).rename(folder)
    plate = plate_footage(result, clean) if at_home else None
    if info.timing.variable:
        progress.say(
            "The frames have times of their own: movies keep them (WebM to 1 ms), image sequences "
            f"and time lines run at the mean, {float(info.timing.fps):.3f} frames a second."
        )
    scripts = write_scripts(out, formats, result.names, result.order, info, plate, progress)
    add_to_list(out, [*folders, *scripts])
    return folders + scripts


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise OutputError if a format's folder may not be replaced: unasked, or not ours alone."""
    if folder.is_file():
        raise OutputError(f"{folder} is a file: move it away.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{folder} exists and is not empty: move it away, or --overwrite it.")
    strange = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in WRITTEN]
    if strange:
        raise OutputError(f"{folder} also holds {strange[0].name}, which is not of this tool.")


def write_scripts(
    folder: Path,
    formats: Sequence[str],
    names: Sequence[str],
    orders: Sequence[tuple[int, ...]],
    info: Delivery,
    plate: Footage | None,
    progress: Progress,
) -> list[Path]:
    """layers.nk and layers.otio beside the layers, each for the format that suits it best.

    plate: the result's own, for 8-bit PNGs. Without the library for it, layers.otio is left out
    and the user told so.
    """
    order, changing = usual_order(orders)

    def stack(preferred: Sequence[str]) -> Stack | None:
        form = next((f for f in preferred if f in formats), None)
        if form is None:
            return None
        return stack_of(form, names, order, info, plate if form == "png" else None)

    written = []
    jobs: list[tuple[str, Sequence[str], Callable[..., None]]] = [
        ("layers.nk", nuke.PREFERRED, nuke.write_nuke_script),
        ("layers.otio", otio.PREFERRED, otio.write_timeline),
    ]
    for file, preferred, write in jobs:
        chosen = stack(preferred)
        if chosen is None:
            continue
        try:
            write(folder / file, chosen, info, changing)
        except MissingLibraryError as error:
            progress.say(str(error))
            continue
        written.append(folder / file)
    return written


def plate_footage(result: FinishedResult, clean: bool) -> Footage:
    """The plate's files in a result's own folder."""
    folder = result.plate_folder(clean)
    if folder is None:
        return Footage("plate", "", "background", ".png")
    return Footage("plate", folder.name, "", ".png", PNG_DIGITS)

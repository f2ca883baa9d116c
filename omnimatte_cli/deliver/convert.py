"""The layers of a finished result in other formats, with a time line and a script for them."""

from __future__ import annotations

from pathlib import Path

from omnimatte_cli.deliver.formats import LAYER_FOLDERS, open_writers
from omnimatte_cli.deliver.options import ConvertSettings
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.deliver.scripts import write_scripts
from omnimatte_cli.deliver.writer import check_pass_names
from omnimatte_cli.errors import OutputError
from omnimatte_cli.interrupt import ignored_interrupts
from omnimatte_cli.media.folder import add_to_list, check_apart
from omnimatte_cli.media.listing import MARK, read_list, write_list
from omnimatte_cli.media.lock import working_in
from omnimatte_cli.progress import Progress
from omnimatte_cli.settings import parse_colour


def convert_result(
    result: FinishedResult, out: Path, settings: ConvertSettings, progress: Progress
) -> list[Path]:
    """Write layers and plate in other formats below `out`; returns the folders and files written.

    A format that is there already and is read stays as it is, and is referred to by the scripts.
    Raises OutputError before anything is written.
    """
    formats, start_frame, clean = settings.formats, settings.start_frame, settings.clean
    at_home = out.resolve() == result.folder.resolve()
    source = result.layer_folder.resolve()
    new = [f for f in dict.fromkeys(formats) if (out / LAYER_FOLDERS[f]).resolve() != source]
    if len(new) < len(set(formats)) and start_frame is not None:
        raise OutputError(f"{source} is what is read, and keeps its numbers: give --out.")
    check_pass_names(result.names, (), new)
    check_apart(out, result.read)
    folders = [out / LAYER_FOLDERS[form] for form in new]
    listed = read_list(out)
    for folder in folders:
        check_folder(folder, settings.overwrite, listed)
    numbers = result.input.frame_numbers
    if start_frame is not None:
        numbers = tuple(range(start_frame, start_frame + result.frames))
    info = result.delivery(
        first=numbers[0],
        ffmpeg=settings.ffmpeg,
        matte_color=parse_colour("matte-color", settings.matte_color),
        png_plate=not at_home,
    )
    names = [*result.names, *(f"{n}_{p}" for n in result.names for p in result.passes(n))]
    out.mkdir(parents=True, exist_ok=True)
    progress.stage("converting", result.frames)
    with working_in(out / f".convert-{'-'.join(new)}") as work:
        with open_writers(new, work, names, info) as writers:
            for t in range(result.frames if new else 0):
                writers.write(t, result.frame(t, numbers[t], clean, parts=True))
                progress.step(t + 1)
        with ignored_interrupts():
            for folder in folders:
                if folder.exists():  # goes with the temporary one
                    folder.rename(work / f"{folder.name}.old")
                (work / folder.name).rename(folder)
    if listed is None:
        write_list(out, [])  # of what is written now, so that it may be written anew
    add_to_list(out, folders)
    return folders + write_scripts(out, formats, result, info, numbers, progress, clean)


def check_folder(folder: Path, overwrite: bool, listed: frozenset[str] | None) -> None:
    """Raise OutputError if a format's folder may not be replaced: unasked, or not ours alone.

    listed: what the tool has written into the folder around it; None where nobody knows.
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file: move it away.")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise OutputError(f"{folder} exists and is not empty: move it away, or --overwrite it.")
    if listed is None:
        raise OutputError(
            f"{folder.parent} has no list of what this tool has written (it is hidden, {MARK}), so "
            f"that {folder} may be another's: move it away."
        )
    files = [p for p in folder.rglob("*") if p.is_file()]
    strange = [p for p in files if p.relative_to(folder.parent).as_posix() not in listed]
    if strange:
        raise OutputError(f"{folder} also holds {strange[0].name}, which is not of this tool.")

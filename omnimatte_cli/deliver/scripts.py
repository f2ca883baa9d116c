"""What puts layers together in other programs, each for the format that suits it best.

layers.nk for Nuke, layers.jsx for After Effects, layers.otio for Resolve, Premiere and others.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from omnimatte_cli.deliver import aftereffects, nuke, otio
from omnimatte_cli.deliver.footage import PNG_DIGITS, Footage, Stack, stack_of, usual_order
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.deliver.writer import Delivery, times_note
from omnimatte_cli.errors import MissingLibraryError
from omnimatte_cli.media.folder import add_to_list
from omnimatte_cli.progress import Progress


def write_scripts(
    folder: Path,
    formats: Sequence[str],
    result: FinishedResult,
    info: Delivery,
    numbers: Sequence[int],
    progress: Progress,
    clean: bool = False,
) -> list[Path]:
    """Write the scripts and the time line for `formats` of a result, which lie below `folder`.

    numbers: of the frames in file names. clean: whether the clean plate was written, not the
    residual one. Without the library for it, layers.otio is left out; where files are numbered with
    gaps, all are. The user is told so.
    """
    if numbers[-1] - numbers[0] != len(numbers) - 1:
        progress.say(
            "The images' numbers have gaps: layers.nk, .jsx and .otio are left out. "
            "`omnimatte convert --start-frame N` numbers the layers without, and writes them."
        )
        return []
    order, changing = usual_order(result.order)
    plate = plate_footage(result, clean) if folder.resolve() == result.folder.resolve() else None

    def stack(preferred: Sequence[str]) -> Stack | None:
        form = next((f for f in preferred if f in formats), None)
        if form is None:
            return None
        return stack_of(form, result.names, order, info, plate if form == "png" else None)

    written = []
    jobs: list[tuple[str, Sequence[str], Callable[..., None]]] = [
        ("layers.nk", nuke.PREFERRED, nuke.write_nuke_script),
        ("layers.jsx", aftereffects.PREFERRED, aftereffects.write_aftereffects_script),
        ("layers.otio", otio.PREFERRED, otio.write_timeline),
    ]
    for file, preferred, write in jobs:
        chosen = stack(preferred)
        if chosen is None:
            continue
        try:
            with keeping_old(folder / file, progress):
                write(folder / file, chosen, info, changing)
        except MissingLibraryError as error:
            progress.say(str(error))
            continue
        written.append(folder / file)
    if info.timing.variable:
        progress.say(times_note(info))
    add_to_list(folder, written)
    return written


@contextlib.contextmanager
def keeping_old(path: Path, progress: Progress) -> Iterator[None]:
    """Keep what a file held before the block replaced it, under a free name: it may be edited."""
    if not path.exists():
        yield
        return
    old = free_path(path)
    old.write_bytes(path.read_bytes())
    try:
        yield
    finally:
        if path.read_bytes() == old.read_bytes():
            old.unlink()
        else:
            progress.say(f"{path.name} was there: it is {old.name} now.")


def free_path(path: Path) -> Path:
    """layers.nk.old, .old2, ...: the first that does not exist."""
    numbers = itertools.chain([""], itertools.count(2))
    names = (path.with_name(f"{path.name}.old{number}") for number in numbers)
    return next(p for p in names if not p.exists())


def plate_footage(result: FinishedResult, clean: bool) -> Footage:
    """The plate's files in a result's own folder."""
    folder = result.plate_folder(clean)
    if folder is None:
        return Footage("plate", "", "background", ".png")
    return Footage("plate", folder.name, "", ".png", PNG_DIGITS)

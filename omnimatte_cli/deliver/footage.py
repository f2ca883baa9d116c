"""Where the layers of a format lie, as time lines and compositing scripts refer to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omnimatte_cli.deliver.exr import layer_names, sequence_file
from omnimatte_cli.deliver.formats import LAYER_FOLDERS
from omnimatte_cli.deliver.writer import PLATE, Delivery, free_name
from omnimatte_cli.media.codecs import CODECS

PNG_DIGITS, EXR_DIGITS = 5, 4  # digits of a frame's number in file names


@dataclass(frozen=True)
class Footage:
    """A layer's files, relative to the folder of the script that names them.

    folder: with / between its parts. prefix, suffix: of the file names around the number; without
    digits, prefix and suffix are the one file's name. layer: what it is called where names are of
    letters, digits and _ alone: in an EXR file, and as a node.
    """

    name: str
    folder: str
    prefix: str
    suffix: str
    digits: int = 0
    layer: str = ""

    @property
    def is_sequence(self) -> bool:
        return self.digits > 0

    @property
    def path(self) -> str:
        """The file, numbered ones with a pattern: layers/dog/%05d.png."""
        number = f"%0{self.digits}d" if self.digits else ""
        folder = f"{self.folder}/" if self.folder else ""
        return f"{folder}{self.prefix}{number}{self.suffix}"


@dataclass(frozen=True)
class Stack:
    """Footage from the bottom (the plate) to the top, of one format."""

    form: str
    plate: Footage
    layers: tuple[Footage, ...]


def stack_of(
    form: str, names: Sequence[str], order: Sequence[int], info: Delivery, plate: Footage | None
) -> Stack:
    """The files that a format's writer wrote. order: back to front.

    plate: where it lies, for a format that has none of its own (`png` in a result's folder).
    """
    folder, bottom = LAYER_FOLDERS[form], free_name(PLATE, names)
    titles = layer_names(names)
    titles = {bottom: free_name(PLATE, [*titles.values()]), **titles}
    if form == "exr":
        first = sequence_file(Path(folder), info.shot, 0, ".exr").name
        prefix = first[: -len("0000.exr")]
        sheets = {n: Footage(n, folder, prefix, ".exr", EXR_DIGITS) for n in titles}
    elif form in ("png", "png16"):
        sheets = {n: Footage(n, f"{folder}/{n}", "", ".png", PNG_DIGITS) for n in titles}
    else:
        suffix = CODECS[form].suffix
        sheets = {n: Footage(n, folder, n, suffix) for n in titles}
    sheets = {n: replace(sheet, layer=titles[n]) for n, sheet in sheets.items()}
    return Stack(form, plate or sheets[bottom], tuple(sheets[names[i]] for i in order))


def usual_order(orders: Sequence[tuple[int, ...]]) -> tuple[tuple[int, ...], bool]:
    """The order of most frames, and whether some have another."""
    counted = Counter(orders)
    return counted.most_common(1)[0][0], len(counted) > 1

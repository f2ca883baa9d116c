"""In which order the objects lie over one another, from back to front."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from omnimatte_cli.arrays import ALPHABETICAL
from omnimatte_cli.errors import MaskError

ORDER_FILE = "order.txt"  # in the masks folder


def read_order(
    folder: Path,
    names: tuple[str, ...],
    frames: int,
    option: str | None,
    part: tuple[int, int] | None = None,
) -> tuple[np.ndarray, str]:
    """Order (T, N) of indices into `names`, back to front, and where it came from.

    The option (names with commas between) wins over order.txt in the masks folder, and that over
    the order of `names`. part: (first, total) where the frames are a part of a video of `total`,
    each of whose frames may have a line. Raises MaskError for names or counts that do not fit.
    """
    if option is not None:
        words = [w.strip() for w in option.split(",") if w.strip()]
        row = _ranks(words, names, "--order", numbers=False)
        return np.tile(row, (frames, 1)), "option"
    path = folder / ORDER_FILE
    if not path.is_file():
        return np.tile(np.arange(len(names)), (frames, 1)), ALPHABETICAL
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MaskError(f"{path} cannot be read as text.") from error
    above = 0
    if part and len(lines) == part[1]:
        above = part[0]
        lines = lines[above : above + frames]
    if len(lines) != frames:
        wrong = min(len(lines), frames) + 1
        state = "missing" if len(lines) < frames else "one too many"
        raise MaskError(
            f"{path} has {len(lines)} lines for {frames} frames: line {wrong} is {state}."
        )
    rows = [
        _ranks(words_of(line, names), names, f"{path}, line {i}", numbers=True)
        for i, line in enumerate(lines, start=above + 1)
    ]
    return np.stack(rows), ORDER_FILE


def words_of(line: str, names: tuple[str, ...]) -> list[str]:
    """The names in a line, with commas or spaces between; a name may have spaces in it."""
    if "," in line:
        return [word.strip() for word in line.split(",") if word.strip()]
    found, rest = [], line.split()
    while rest:
        lengths = range(len(rest), 0, -1)
        length = next((n for n in lengths if " ".join(rest[:n]) in names), 1)
        found.append(" ".join(rest[:length]))
        rest = rest[length:]
    return found


def _ranks(words: list[str], names: tuple[str, ...], where: str, numbers: bool) -> np.ndarray:
    """Words to indices into `names`, each exactly once; with `numbers`, words may be indices."""
    if numbers and not set(words) <= set(names) and all(w.isdecimal() for w in words):
        ranks = [int(w) for w in words]
    else:
        ranks = [names.index(w) if w in names else len(names) for w in words]
    known = ", ".join(names)
    for word, rank in zip(words, ranks, strict=True):
        if rank >= len(names):
            raise MaskError(f"{where}: there is no object '{word}' among {known}.")
        if ranks.count(rank) > 1:
            raise MaskError(f"{where}: object '{names[rank]}' is named twice.")
    missing = [n for i, n in enumerate(names) if i not in ranks]
    if missing:
        raise MaskError(f"{where}: object '{missing[0]}' is missing; name all of {known}.")
    return np.array(ranks, int)

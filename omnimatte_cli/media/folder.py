"""Put a finished folder in its place: whole or not at all, and nothing is lost for it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from omnimatte_cli.errors import OutputError

RESULT_FILES = ("manifest.json", "masks.json", "trimasks.json")  # in a result of ours

# All that the tool ever writes to a result's folder: anything else is the user's.
RESULT_ENTRIES = frozenset(
    [
        "background",
        "background.png",
        "background_unseen.png",
        "camera.json",
        "composite.mp4",
        "exr",
        "layers",
        "layers.nk",
        "layers.otio",
        "layers16",
        "manifest.json",
        "masks",
        "mp4",
        "passes",
        "plate",
        "preview.mp4",
        "prores",
        "report.html",
        "webm",
    ]
)


@contextlib.contextmanager
def output_folder(out: Path, overwrite: bool, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """A temporary folder beside `out` to write into, renamed to `out` when the block ends well.

    When it does not (an interrupt included), the temporary folder is removed and `out` is as it
    was. A folder that is not empty is replaced only with `overwrite`, only if it is a result of
    this tool, and only if none of `inputs` lies inside; it is deleted when the new one is there.
    Raises OutputError.
    """
    out = Path(out).resolve()
    _check(out, overwrite, inputs)
    made = [p for p in out.parents if not p.exists()]  # the deepest first
    partial = _free_name(out, "partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise OutputError(f"{out.parent} cannot be written to: {error.strerror}.") from error
    try:
        yield partial
        _check(out, overwrite, inputs)  # someone may have written there meanwhile
        _put_in_place(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # not empty: something else is there by now
                parent.rmdir()
        raise


def _check(out: Path, overwrite: bool, inputs: Sequence[Path]) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise OutputError(f"{out} is a file: give a folder to write to.")
    try:
        empty = not any(out.iterdir())
    except OSError as error:
        raise OutputError(f"{out} cannot be read: {error.strerror}.") from error
    if empty:
        return
    if not overwrite:
        raise OutputError(f"{out} exists and is not empty: choose another, or --overwrite it.")
    for source in inputs:
        if Path(source).resolve().is_relative_to(out):
            raise OutputError(f"{source} lies in {out}, which --overwrite would delete.")
    if not any((out / name).is_file() for name in RESULT_FILES):
        raise OutputError(
            f"{out} is not a result of this tool (it has no {' or '.join(RESULT_FILES)}): "
            "it is not overwritten."
        )
    if (out / "manifest.json").is_file():
        strange = sorted(p.name for p in out.iterdir() if p.name not in RESULT_ENTRIES)
        if strange:
            raise OutputError(
                f"{out} also holds {strange[0]}, which is not of this tool: move it away, or "
                "write to another folder."
            )


def _put_in_place(partial: Path, out: Path) -> None:
    """Rename `partial` to `out`; what was there is moved aside first and deleted at the end."""
    old = _free_name(out, "old")
    try:
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except BaseException as error:
        if old.exists() and not out.exists():
            old.rename(out)
        if isinstance(error, OSError):
            raise OutputError(f"{out} cannot be put in place: {error.strerror}.") from error
        raise
    shutil.rmtree(old, ignore_errors=True)


def _free_name(out: Path, what: str) -> Path:
    """A hidden name beside `out` that nothing has yet."""
    name = out.parent / f".{out.name}.{what}-{os.getpid()}"
    while name.exists():
        name = name.with_name(name.name + "x")
    return name

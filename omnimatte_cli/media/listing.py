"""Which files of a folder this tool has written: a signed list inside it, so that no other is lost.

A folder is the tool's by what the list says, never by the names of its files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from omnimatte_cli import __version__
from omnimatte_cli.errors import OutputError
from omnimatte_cli.media.atomic import write_json

MARK = ".omnimatte.json"  # the list, in every folder that the tool has filled
SIGNATURE = "written by omnimatte"
HIDDEN = ".omnimatte"  # how all hidden names in an output folder begin
# What systems put into folders by themselves.
SYSTEM = frozenset(["lost+found", ".DS_Store", "Thumbs.db", "desktop.ini"])


def files_in(folder: Path) -> list[str]:
    """Every file below a folder, relative with "/" between; links count as files, followed never.

    Folders without a file come with a "/" at the end. The tool's own hidden files at the top and
    what systems put there are left out.
    """
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        base = Path(place).relative_to(folder)
        if base == Path("."):
            folders[:] = [n for n in folders if not n.startswith(HIDDEN) and n not in SYSTEM]
            files = [n for n in files if not n.startswith(HIDDEN)]
        links = [n for n in folders if os.path.islink(os.path.join(place, n))]
        files = [n for n in files if n not in SYSTEM] + links
        if not files and not folders and base != Path("."):
            found.append(f"{base.as_posix()}/")
        found += [(base / name).as_posix() for name in files]
    return sorted(found)


def read_list(folder: Path) -> frozenset[str] | None:
    """The files that the tool has written into a folder; None where it is not one of its own."""
    try:
        return parse_list((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def parse_list(text: str) -> frozenset[str] | None:
    """The files that a list names; None where it has not the tool's signature."""
    try:
        facts = json.loads(text)
        if facts["signature"] != SIGNATURE:
            return None
        return frozenset(map(str, facts["files"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def is_signed(folder: Path) -> bool:
    """Whether the tool has filled a folder, and finished it."""
    return (folder / MARK).is_file()


def write_list(folder: Path, files: Iterable[str] | None = None) -> None:
    """Sign a folder: these files, or all that are in it, were written by the tool."""
    listed = files_in(folder) if files is None else sorted(files)
    facts = {"signature": SIGNATURE, "version": __version__, "files": listed}
    write_json(folder / MARK, facts, indent=0)


def add_to_list(folder: Path, written: Iterable[Path]) -> None:
    """Add files, or all files of folders, that were written into a finished result later.

    A folder that is none of the tool's own stays unsigned.
    """
    listed = read_list(folder)
    if listed is None:
        return
    new: set[str] = set()
    for path in written:
        name = path.relative_to(folder).as_posix()
        new |= {f"{name}/{f}" for f in files_in(path)} if path.is_dir() else {name}
    there = set(files_in(folder))
    write_list(folder, (listed & there) | new)


def strangers_in(folder: Path) -> list[str]:
    """Files in a folder of the tool's own that are not on its list."""
    listed = read_list(folder) or frozenset()
    return [f for f in files_in(folder) if f not in listed and not _of_listed(f, listed)]


def _of_listed(file: str, listed: frozenset[str]) -> bool:
    """Whether an empty folder was made for files on the list (which were deleted by hand)."""
    return file.endswith("/") and any(name.startswith(file) for name in listed)


def is_empty(folder: Path) -> bool:
    """Whether nothing but hidden files of the tool's own runs and of the system is in a folder."""
    return read_list(folder) is None and not files_in(folder)


def remove_listed(folder: Path, listed: Iterable[str]) -> list[str]:
    """Delete listed files below a folder and folders that are empty then; returns what is left."""
    for name in listed:
        path = folder / name
        try:
            if name.endswith("/"):
                path.rmdir()
            else:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            if not name.endswith("/"):
                raise OutputError(f"{path} cannot be deleted: {error.strerror}.") from error
    for place, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(place):
            os.rmdir(place)
    return files_in(folder) if folder.is_dir() else []

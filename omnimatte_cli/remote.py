"""Videos, masks and results on storage elsewhere, through fsspec: s3://, gs:// and so on.

What is read is fetched before the work and what was written is copied after it, so that the work
itself knows local folders alone. As in a local folder, a result is finished when its manifest.json
is there, and only what the tool's own list names is ever replaced.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnimatte_cli.errors import InputError, MissingLibraryError, OmnimatteError, OutputError
from omnimatte_cli.media.atomic import write_json
from omnimatte_cli.media.listing import MARK, files_in, parse_list
from omnimatte_cli.settings import Settings

MANIFEST = "manifest.json"
LOCAL = ("file", "local")
# Two letters at least: c:/ is a drive. Of "//", a Path keeps one.
URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)")


@dataclass(frozen=True)
class Place:
    """A file or folder on some storage. url: as the user gave it."""

    url: str
    files: Any  # fsspec's file system
    path: str

    def join(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """Every file below, relative."""
        if not self.files.exists(self.path):
            return []
        start = len(self.path.rstrip("/")) + 1
        return sorted(name[start:] for name in self.files.find(self.path) if name[start:])


def url_of(path: Path | str | None) -> str | None:
    """The URL that a user's path is; None where it is a local one."""
    match = None if path is None else URL.fullmatch(str(path))
    if match is None or Path(str(path)).exists():
        return None
    root = "/" if match[1] in LOCAL else ""  # what follows is a path on this machine
    return f"{match[1]}://{root}{match[2]}"


def open_place(url: str) -> Place:
    """Where a URL leads. Raises MissingLibraryError, InputError."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingLibraryError(
            f"{url} needs the package fsspec: pip install 'omnimatte[remote]'."
        ) from error
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingLibraryError(f"{url} needs another package: {error}.") from error
    except ValueError as error:
        raise InputError(f"{url} is on no storage that is known: {error}.") from error
    return Place(url, files, path)


@contextlib.contextmanager
def localised(
    source: Path, out: Path, settings: Settings, say: Callable[[str], None]
) -> Iterator[tuple[Path, Path, Settings]]:
    """Local stand-ins for a run's video, output folder and settings, where those are URLs.

    When the block ends well, a result whose place is elsewhere is copied there. If that fails it is
    kept, and the error says where.
    """
    urls = {name: url_of(getattr(settings, name)) for name in ("masks", "background")}
    video, target = url_of(source), url_of(out)
    if not any((video, target, *urls.values())):
        yield source, out, settings
        return
    goal = None if target is None else open_place(target)
    old = [] if goal is None else check_target(goal, settings.overwrite)
    folder = Path(tempfile.mkdtemp(prefix="omnimatte-"))
    kept = False
    try:
        names = {}
        if video is not None:
            say(f"Fetching {video}.")
            source = fetch(open_place(video), folder / "video")
            names[str(source)] = video
        for name, url in urls.items():
            if url is not None:
                say(f"Fetching {url}.")
                path = fetch(open_place(url), folder / name)
                names[str(path)] = url
                settings = replace(settings, **{name: path})  # type: ignore[arg-type]
        local = out if goal is None else folder / "out"
        yield source, local, settings
        with_urls(local / MANIFEST, names)
        if goal is not None:
            say(f"Copying the result to {target}.")
            try:
                put(local, goal, old)
            except Exception as error:
                kept = True
                raise OmnimatteError(
                    f"The result could not be copied to {target} ({_reason(error)}): it is kept in "
                    f"{local}."
                ) from error
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def fetch(place: Place, folder: Path) -> Path:
    """Copy a file, or a folder with all below it, into a local folder. Raises InputError."""
    name = place.path.rstrip("/").rpartition("/")[2]
    local = folder / name
    try:
        if place.files.isdir(place.path):
            for part in place.names():
                (local / part).parent.mkdir(parents=True, exist_ok=True)
                place.files.get_file(place.join(part), str(local / part))
        else:
            folder.mkdir(parents=True)
            place.files.get_file(place.path, str(local))
    except Exception as error:  # each kind of storage has errors of its own
        raise InputError(f"{place.url} cannot be read: {_reason(error)}.") from error
    return local


def stamp(place: Place) -> str:
    """What tells whether a file, or any of a folder's, has changed. Raises InputError."""
    try:
        files = [place.path]
        if place.files.isdir(place.path):
            files = [place.join(name) for name in place.names()]
        return " ".join(f"{file} {place.files.ukey(file)}" for file in files)
    except Exception as error:
        raise InputError(f"{place.url} cannot be read: {_reason(error)}.") from error


def check_target(place: Place, overwrite: bool) -> list[str]:
    """The files of an earlier result at a place. Raises OutputError where it holds others."""
    try:
        there = place.names()
        listed = None
        if MARK in there:
            listed = parse_list(place.files.cat_file(place.join(MARK)).decode())
    except Exception as error:
        raise OutputError(f"{place.url} cannot be looked at: {_reason(error)}.") from error
    if not there:
        return []
    if not overwrite:
        raise OutputError(f"{place.url} exists and is not empty: choose another, or --overwrite.")
    if listed is None:
        raise OutputError(f"{place.url} is not a result of this tool: it is not overwritten.")
    strange = sorted(set(there) - listed - {MARK})
    if strange:
        raise OutputError(
            f"{place.url} also holds {strange[0]}, which this tool did not write: move it away."
        )
    return there


def put(folder: Path, place: Place, old: list[str]) -> None:
    """Copy a result to its place, its manifest last; `old`: files there that it replaces."""
    new = [*files_in(folder), MARK]
    if MANIFEST in old:  # from here on it is unfinished
        place.files.rm_file(place.join(MANIFEST))
    for name in (*(n for n in new if n not in (MARK, MANIFEST)), MARK, MANIFEST):
        if name.endswith("/") or not (folder / name).is_file():
            continue
        place.files.makedirs(place.join(name).rpartition("/")[0], exist_ok=True)
        place.files.put_file(str(folder / name), place.join(name))
    for name in sorted(set(old) - set(new)):
        place.files.rm_file(place.join(name))


def with_urls(manifest: Path, names: dict[str, str]) -> None:
    """Say in a manifest where its inputs really are. names: of local copies, to URLs."""
    if not manifest.is_file():
        return

    def told(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: told(v) for k, v in value.items()}
        if isinstance(value, list):
            return [told(v) for v in value]
        return names.get(value, value) if isinstance(value, str) else value

    facts = told(json.loads(manifest.read_text(encoding="utf-8")))
    write_json(manifest, facts, indent=2)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200].rstrip(".")

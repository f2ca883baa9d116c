"""What became of each shot, kept beside the results so that the next run knows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from omnimatte_cli.media.atomic import write_json
from omnimatte_cli.media.listing import is_signed

FOLDER = ".batch"  # below the output folder: a record and a log of each shot

State = Literal["done", "failed", "interrupted", "skipped", "planned"]


@dataclass(frozen=True)
class Record:
    """One shot's last run.

    key: of its input and options. written: whether `out` is what this batch once wrote. exit_code:
    of `omnimatte decompose`; below 0, the signal that killed it. seconds: of wall time. psnr: of
    layers over plate, dB. memory_mb: at its peak.
    """

    shot: str
    state: State
    key: str
    source: str
    out: str
    error: str | None = None
    written: bool = False
    exit_code: int | None = None
    seconds: float | None = None
    frames: int | None = None
    megapixels: float | None = None
    objects: tuple[str, ...] = ()
    psnr: float | None = None
    memory_mb: float | None = None
    method: str | None = None


def record_path(out: Path, shot: str, suffix: str = ".json") -> Path:
    """Where the record (or log) of a shot is. out: the batch's output folder."""
    path = out / FOLDER / shot
    return path.with_name(path.name + suffix)


def write_record(out: Path, record: Record) -> None:
    """Keep a record."""
    path = record_path(out, record.shot)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(record), tag=f".{os.getpid()}")


def read_record(out: Path, shot: str) -> Record | None:
    """The last record of a shot; None where there is none that can be read."""
    try:
        facts = json.loads(record_path(out, shot).read_text(encoding="utf-8"))
        facts.setdefault("written", facts.get("state") == "done")  # earlier versions did not say
        known = {f.name for f in fields(Record)}
        record = Record(**{k: v for k, v in facts.items() if k in known})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return replace(record, objects=tuple(record.objects))


def is_finished(record: Record) -> bool:
    """Whether a shot was done and its result is still there."""
    place = Path(record.out)
    return record.state == "done" and (place / "manifest.json").is_file() and is_signed(place)


def make_key(paths: Iterable[Path], options: dict[str, Any]) -> str:
    """A hash of options and of the names, sizes and times of files and of all below folders."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True, default=str).encode())
    for path in paths:
        for file in _files(path):
            try:
                facts = file.stat()
            except OSError:
                continue
            name = file.relative_to(path.parent).as_posix()
            digest.update(
                f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode(errors="replace")
            )
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = (Path(place) / n for place, _, names in os.walk(path) for n in names)
    return sorted(p for p in found if not p.name.startswith("."))

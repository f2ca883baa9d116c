"""What is to do and what is done: shots with their options, compared with earlier records."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from omnimatte_cli.batch.find import FoundShot
from omnimatte_cli.batch.records import Record, is_finished, make_key, read_record
from omnimatte_cli.errors import InputError, OmnimatteError
from omnimatte_cli.remote import open_place, stamp, url_of

Flags = dict[str, tuple[str, ...]]  # "--set": ("lr=0.1", "crop=0"); "--exact": ()
Asked = dict[str, tuple[str, ...] | None]  # None: not set, whatever was asked before
# What names a file, of weights and SAM perhaps one of the tool's own by a word without a dot.
PATH_FLAGS = frozenset(("--masks", "--background", "--homographies", "--ffmpeg"))
FILE_OR_WORD = frozenset(("--weights", "--sam"))
WITHOUT_EFFECT = frozenset(("--ffmpeg", "--overwrite"))  # on what is written
Reason = Literal["new", "changed", "retried", "interrupted", "missing", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """One shot as `omnimatte decompose` is asked for it.

    key: of input and options. wrong: why it cannot be run, found beforehand.
    """

    shot: str
    source: Path
    out: Path
    flags: Flags
    key: str
    wrong: str | None = None

    def arguments(self, device: str | None = None, more: Sequence[str] = ()) -> list[str]:
        """The command line after `omnimatte`."""
        flags = dict(self.flags)
        if device:
            flags["--device"] = (device.split(":")[0],)
        line = ["decompose", "-o", str(self.out)]
        for flag, values in flags.items():
            line += [flag] if not values else [x for v in values for x in (flag, v)]
        return [*line, *more, "--", str(self.source)]


@dataclass(frozen=True)
class Step:
    """What is planned for a shot. run: whether it is to be run; reason: why, or why not."""

    job: Job
    run: bool
    reason: Reason
    record: Record | None


@dataclass(frozen=True)
class Config:
    """A file of options. shots: by name or pattern, in the order of the file."""

    defaults: Asked
    shots: tuple[tuple[str, Asked, bool], ...] = ()  # pattern, options, whether it is left out


def read_config(path: Path, to_flags: Callable[[Mapping[str, Any], Path], Asked]) -> Config:
    """A TOML file with a table [defaults] and tables [shots."NAME or PATTERN"].

    to_flags: turns a table of option names and values into flags, paths relative to a folder.
    Raises InputError.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The file {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # wrong TOML or no UTF-8
        raise InputError(f"{path} is not a TOML file: {error}.") from error
    unknown = sorted(set(tables) - {"defaults", "shots"})
    if unknown:
        raise InputError(f"{path}: {unknown[0]} is neither [defaults] nor [shots.NAME].")
    shots = []
    for name, table in tables.get("shots", {}).items():
        if not isinstance(table, dict):
            raise InputError(f'{path}: write [shots."{name}"] and its options below.')
        table = dict(table)
        left_out = table.pop("skip", False)
        try:
            shots.append((name, to_flags(table, path.parent), bool(left_out)))
        except OmnimatteError as error:
            raise InputError(f"{path}, shot {name}: {error}") from error
    try:
        defaults = to_flags(tables.get("defaults", {}), path.parent)
    except OmnimatteError as error:
        raise InputError(f"{path}, defaults: {error}") from error
    return Config(defaults, tuple(shots))


def make_jobs(
    shots: Sequence[FoundShot],
    out: Path,
    flags: Flags,
    config: Config,
    to_flags: Callable[[Mapping[str, Any], Path], Asked],
    masks_needed: bool = False,
) -> list[Job]:
    """A job a shot. Later options win: defaults of the file, command line, list, shot in the file.

    masks_needed: a shot for which no masks were found cannot be run. Raises InputError for a shot
    of the file that is not there.
    """
    jobs = []
    used = set()
    for shot in shots:
        asked: list[Asked] = [config.defaults, {**flags}]
        left_out, wrong = False, None
        try:
            asked.append(to_flags(shot.options, Path()))
        except OmnimatteError as error:
            wrong = str(error)
        for pattern, own, skip in config.shots:
            if pattern == shot.name or fnmatch.fnmatchcase(shot.name, pattern):
                used.add(pattern)
                asked.append(own)
                left_out |= skip
        if left_out:
            continue
        merged = _merged(asked)
        prompted = {"--point", "--box", "--sam", "--masks"} & set(merged)
        if shot.masks is not None and not prompted:
            merged["--masks"] = (str(shot.masks),)
        elif masks_needed and not prompted:
            wrong = wrong or "No masks were found for it below --masks-dir."
        key = ""
        try:
            key = job_key(shot.source, merged)
        except OmnimatteError as error:  # storage elsewhere that cannot be looked at
            wrong = wrong or str(error)
        jobs.append(Job(shot.name, shot.source, out / shot.name, merged, key, wrong))
    strange = [pattern for pattern, _, _ in config.shots if pattern not in used]
    if strange:
        raise InputError(f"There is no shot {strange[0]}, for which the file has options.")
    return jobs


def path_below(folder: Path, flag: str, text: str) -> Path | None:
    """The file or folder that an option's relative text names below `folder`, or None where it
    means none, or there is none."""
    word = flag in FILE_OR_WORD and not {"/", "."} & set(text)
    if not text or word or flag not in PATH_FLAGS | FILE_OR_WORD:
        return None
    path = folder / text
    return path if path.exists() else None


def _merged(asked: Sequence[Asked]) -> Flags:
    """What holds of all that was asked, the last being the strongest: it takes its opposite away,
    `--no-report` and `--report`."""
    out: Flags = {}
    for options in asked:
        for flag, values in options.items():
            bare = flag.removeprefix("--").removeprefix("no-")
            for other in {f"--{bare}", f"--no-{bare}"} - {flag}:
                out.pop(other, None)
            if values is None:
                out.pop(flag, None)
            else:
                out[flag] = values
    return out


def job_key(source: Path, flags: Flags) -> str:
    """A hash of the shot's input and options, and of every file that an option names.

    Raises InputError for storage elsewhere that cannot be looked at.
    """
    counted = {k: v for k, v in flags.items() if k not in WITHOUT_EFFECT}
    named = [Path(v) for values in counted.values() for v in values]
    paths = [p for p in named if p.exists()]
    urls = (url_of(p) for p in (source, *named))
    stamps = {url: stamp(open_place(url)) for url in urls if url is not None}
    return make_key([source, *paths], {**counted, **stamps})


def plan(jobs: Sequence[Job], out: Path, retry_failed: bool = False) -> list[Step]:
    """Compare jobs with the records of earlier runs."""
    return [_step(job, read_record(out, job.shot), retry_failed) for job in jobs]


def _step(job: Job, record: Record | None, retry_failed: bool) -> Step:
    if job.wrong is not None:
        return Step(job, True, "new", None)  # is said again each time
    if record is None:
        return Step(job, True, "new", None)
    if record.written:  # what a batch has written, it may replace
        job = replace(job, flags={**job.flags, "--overwrite": ()})
    if record.key != job.key:
        return Step(job, True, "changed", record)
    if record.state == "done":
        there = is_finished(replace(record, out=str(job.out)))
        return Step(job, not there, "done" if there else "missing", record)
    if record.state == "failed":
        return Step(job, retry_failed, "retried" if retry_failed else "failed", record)
    return Step(job, True, "interrupted", record)


def shard(jobs: Sequence[Job], part: tuple[int, int] | None) -> list[Job]:
    """Every N-th job, beginning with the I-th: all parts together are all jobs, each once."""
    return list(jobs) if part is None else list(jobs)[part[0] - 1 :: part[1]]

"""`omnimatte batch`: many shots, each decomposed in a process of its own."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from omnimatte_cli.commands.common import Quiet, Verbose, friendly, set_up_logging
from omnimatte_cli.commands.decompose import GROUPS, HelpSet, decompose
from omnimatte_cli.commands.options import (
    Group,
    fields_of,
    flags_of,
    is_repeated,
    takes,
    values_of,
)
from omnimatte_cli.errors import OptionError
from omnimatte_cli.options import check, flag_of
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.remote import url_of
from omnimatte_cli.settings import MaskSettings, Settings, parse_share
from omnimatte_cli.terminal import printable, rich_console

if TYPE_CHECKING:
    from omnimatte_cli.batch.plan import Asked, Flags, Job, Step
    from omnimatte_cli.batch.records import Record

PER_SHOT = ("masks", "part")  # options of `decompose` that cannot hold for all shots
WIDTH = 160  # columns of the table where the output is no terminal
ENGINES = ("local", "ray")
# What a wrong command line raises, in click or in the copy of it that newer typers bring.
UsageError: Any = typer.BadParameter.__bases__[0]


def without(group: Group, names: Sequence[str]) -> Group:
    """A group of options without some of them."""
    from dataclasses import fields

    cls, chosen = group if isinstance(group, tuple) else (group, [f.name for f in fields(group)])
    return cls, [name for name in chosen if name not in names]


BATCH_GROUPS = {name: without(group, PER_SHOT) for name, group in GROUPS.items()}


@friendly
@takes(**BATCH_GROUPS)
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders (searched through), videos, patterns, URLs, or a list (.txt, .csv).",
            metavar="SHOTS...",
        ),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for all results.", metavar="DIR")
    ],
    settings: dict[str, Any],
    making: dict[str, Any],
    masks_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder with each shot's masks under its name. "
            "Default: NAME.masks/ or NAME/masks/ beside it.",
            metavar="DIR",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with options: [defaults], and [shots.NAME] for single shots.",
            metavar="FILE",
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Shots at a time. Default: one, or one a device.")
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(help="Devices that shots are shared out to.", metavar="cuda:0,cuda:1"),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try shots again that failed before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be done, and what it takes.")
    ] = False,
    time_limit: Annotated[
        float | None, typer.Option(help="Minutes after which a shot is given up.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="Do only the I-th of N parts, for job arrays.", metavar="I/N"),
    ] = None,
    part_frames: Annotated[
        int | None,
        typer.Option(
            help="Split longer shots into parts of about so many frames, done by several workers "
            "and joined.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local, or ray: on the machines of a cluster.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; default: one is started here.")
    ] = None,
    gpus: Annotated[float, typer.Option(help="GPUs that Ray reserves for a shot.")] = 0,
    memory: Annotated[
        float | None, typer.Option(help="Memory that Ray reserves for a shot, GB.")
    ] = None,
    retries: Annotated[
        int, typer.Option(help="How often Ray begins a shot again whose worker was lost.")
    ] = 3,
    help_set: HelpSet = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for each shot.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Decompose many shots. One that fails stops no other; finished ones are not done again."""
    set_up_logging(verbose)
    check(jobs is None or jobs >= 1, "--jobs must be at least 1")
    check(part_frames is None or part_frames >= 1, "--part-frames must be at least 1")
    check(engine in ENGINES, f"--engine takes {' or '.join(ENGINES)}, not {engine!r}")
    check(time_limit is None or time_limit > 0, "--time-limit must be above 0")
    check(address is None or engine == "ray", "--address is for --engine ray")
    check(masks_dir is None or masks_dir.is_dir(), f"--masks-dir: there is no folder {masks_dir}")
    check(url_of(out) is None, f"-o {out}: a batch writes to a local folder; decompose takes URLs")
    named = parse_devices(devices)
    flags = flags_of(BATCH_GROUPS, {"settings": settings, "making": making})
    check_flags(flags)
    from omnimatte_cli.batch.find import find_shots
    from omnimatte_cli.batch.page import write_page
    from omnimatte_cli.batch.parts import Parts
    from omnimatte_cli.batch.plan import Config, make_jobs, plan, read_config
    from omnimatte_cli.batch.plan import shard as part_of

    part = None if shard is None else parse_share(shard, "--shard")
    shots = find_shots(sources, masks_dir)
    options = Config({}) if config is None else read_config(config, to_flags)
    everything = make_jobs(shots, out, flags, options, to_flags, masks_dir is not None)
    steps = plan(part_of(everything, part), out, retry_failed)
    if dry_run:
        print_plan(steps, jobs or len(named) or 1, out, part_frames, as_json)
        return
    out.mkdir(parents=True, exist_ok=True)
    records = [step.record for step in steps if not step.run and step.record is not None]
    todo = [step.job for step in steps if step.run]
    for record in records if as_json else ():
        print_line(record, skipped=record.state == "done")
    with terminal_progress(quiet or as_json) as progress:
        progress.stage("shots", len(steps))
        progress.step(len(records))
        if len(records) == 1:
            progress.say("1 shot was done or failed before.")
        elif records:
            progress.say(f"{len(records)} shots were done or failed before.")

        def each(record: Record) -> None:
            records.append(record)
            progress.step(len(records), record.shot)
            progress.say(sentence(record))
            if as_json:
                print_line(record)
            write_page(out, everything, records)

        parts = Parts(todo, out, part_frames, each)
        todo, add = parts.jobs, parts.add
        try:
            parts.begin()
            if engine == "ray":
                run_on_ray(todo, out, jobs, address, gpus, memory, retries, time_limit, add)
            else:
                from omnimatte_cli.batch.local import run_local

                seconds = None if time_limit is None else 60 * time_limit
                run_local(todo, out, jobs or len(named) or 1, named, seconds, add)
        finally:
            page = write_page(out, everything, records)
    if not (quiet or as_json):
        print_table(sorted(records, key=lambda r: r.shot))
        print(page)
    if any(record.state != "done" for record in records):
        raise typer.Exit(1)


def run_on_ray(
    todo: list[Job],
    out: Path,
    jobs: int | None,
    address: str | None,
    gpus: float,
    memory: float | None,
    retries: int,
    time_limit: float | None,
    each: Any,
) -> None:
    from omnimatte_cli.batch.ray import run_ray

    reserved = None if memory is None else int(memory * 1e9)
    seconds = None if time_limit is None else 60 * time_limit
    run_ray(todo, out, jobs, address, gpus, reserved, retries, seconds, each)


# ----------------------------------------------------------------------------------------- options


def parse_devices(text: str | None) -> list[str]:
    """ "cuda:0,cuda:1" as a list. Raises OptionError."""
    names = [] if text is None else [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        kind, colon, number = name.partition(":")
        good = kind in ("cpu", "cuda", "mps") and (not colon or number.isdecimal())
        check(good, f"--devices takes names such as cuda:0,cuda:1 or cpu, not {name!r}")
    return names


def to_flags(table: Mapping[str, Any], folder: Path) -> Asked:
    """A table of option names and values as flags; existing paths are relative to a folder.

    A flag that is false is None: it is off, though it may be on for all shots. Names are those of
    `decompose`, with or without dashes before and within. Raises OptionError.
    """
    from omnimatte_cli.batch.plan import path_below

    flags: Asked = {}
    for name, value in table.items():
        flag = "--" + name.strip().lstrip("-").replace("_", "-")
        if isinstance(value, dict):
            flags[flag] = tuple(f"{k}={_text(v)}" for k, v in value.items())
        elif value is True or (isinstance(value, str) and value.lower() == "true"):
            flags[flag] = ()
        elif value is False or (isinstance(value, str) and value.lower() == "false"):
            if flag in negatable_flags():
                flags["--no-" + flag.removeprefix("--")] = ()
            else:
                check_flags({flag: ()})  # or a wrong name would pass
                flags[flag] = None
        elif isinstance(value, list) and flag in repeated_flags():
            flags[flag] = tuple(map(_text, value))
        else:
            text = _text(value)
            flags[flag] = (str(path_below(folder, flag, text) or text),)
    check_flags({flag: values for flag, values in flags.items() if values is not None})
    return flags


def negatable_flags() -> set[str]:
    """Flags of `decompose` that have an opposite, "--no-" and the rest."""
    pairs = (flag_of(f).partition("/") for group in GROUPS.values() for f, _ in fields_of(group))
    return {yes for yes, _, no in pairs if no}


def repeated_flags() -> set[str]:
    """Flags of `decompose` that may be repeated."""
    shown = (f for group in GROUPS.values() for f, _ in fields_of(group))
    return {flag_of(f) for f in shown if is_repeated(f)}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def check_flags(flags: Flags) -> None:
    """Raise OptionError for what `decompose` would refuse."""
    line = ["-o", "out"]
    for flag, texts in flags.items():
        line += [flag] if not texts else [x for text in texts for x in (flag, text)]
    app = typer.Typer(add_completion=False)
    app.command()(decompose)
    command = typer.main.get_command(app)
    try:
        given = command.make_context("decompose", [*line, "video"]).params
    except UsageError as error:
        raise OptionError(error.format_message()) from error
    except typer.Exit as leaving:  # --help and the like
        raise OptionError(f"{shlex.join(line[2:])} is not for a batch.") from leaving
    values = values_of(GROUPS, given)
    Settings(**values["settings"], making=MaskSettings(**values["making"]))


# ------------------------------------------------------------------------------------------ output


def sentence(record: Record) -> str:
    """What became of a shot, for a log."""
    if record.state == "done":
        return f"{record.shot}: done in {record.seconds or 0:.0f} s."
    return f"{record.shot}: {record.state}: {record.error}"


def print_line(record: Record, skipped: bool = False) -> None:
    """A shot as one line of JSON."""
    print(json.dumps({**asdict(record), "ran": not skipped}), flush=True)


def print_table(records: Sequence[Record]) -> None:
    """All shots with what became of them."""
    rows = [
        (
            r.shot,
            r.state,
            ", ".join(r.objects),
            "" if r.frames is None else str(r.frames),
            "" if r.psnr is None else f"{r.psnr:.1f}",
            "" if r.seconds is None else f"{r.seconds:.0f}",
            r.error or "",
        )
        for r in records
    ]
    titles = ("shot", "state", "objects", "frames", "PSNR dB", "seconds", "why")
    show(titles, rows, right=("frames", "PSNR dB", "seconds"))
    counts = {state: sum(r.state == state for r in records) for state in ("done", "failed")}
    rest = len(records) - sum(counts.values())
    print(
        ", ".join(
            f"{n} {s}" for s, n in [*counts.items(), ("interrupted", rest)] if n or s == "done"
        )
    )


def show(titles: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    """A table on stdout; long texts are broken, never cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for title in titles:
        wide = title in ("why", "shot")
        justify: Any = "right" if title in right else "left"
        table.add_column(title, justify=justify, no_wrap=not wide, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    console = rich_console()
    (console if console.is_terminal else rich_console(width=WIDTH)).print(table)


def print_plan(
    steps: Sequence[Step], jobs: int, out: Path, part_frames: int | None, as_json: bool
) -> None:
    """What would be done with each shot, and what it takes of time and disk."""
    from omnimatte_cli.batch.estimate import estimate
    from omnimatte_cli.batch.parts import plan_parts

    rows, seconds, size = [], 0.0, 0
    for step in steps:
        parts = plan_parts(step.job, out, part_frames) if step.run else []
        left = [part.job for part in parts if part.run]
        need = estimate(step, steps, parts)
        if as_json:
            facts = {"shot": step.job.shot, "run": step.run, "reason": step.reason}
            chosen = left if parts else [step.job]
            lines = [shlex.join(["omnimatte", *job.arguments()]) for job in chosen]
            facts |= {"parts": len(parts), "commands": lines} if parts else {"command": lines[0]}
            print(json.dumps({**facts, **asdict(need)}))
        if step.run and step.job.wrong is None:
            seconds += need.seconds or 0
            size += need.size or 0
        rows.append(
            (
                step.job.shot,
                f"{len(left)} of {len(parts)} parts" if parts else "run" if step.run else "skip",
                step.job.wrong or step.reason,
                "?" if need.frames is None else str(need.frames),
                "?" if need.seconds is None else f"{need.seconds:.0f}",
                "?" if need.size is None else f"{need.size / 1e6:.0f}",
                " ".join(step.job.flags.get("--masks", ("made",))),
            )
        )
    if as_json:
        return
    titles = ("shot", "plan", "reason", "frames", "seconds", "MB", "masks")
    show(titles, rows, right=("frames", "seconds", "MB"))
    place = next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())
    free = shutil.disk_usage(place).free
    print(
        f"{sum(s.run for s in steps)} of {len(steps)} shots, about {seconds / 60 / jobs:.0f} "
        f"minutes (a guess) and {size / 1e9:.1f} GB of {free / 1e9:.0f} GB that are free."
    )
    if size > free:
        print(f"There is not enough room in {place}.")

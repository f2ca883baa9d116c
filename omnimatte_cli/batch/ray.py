"""Run shots on the machines of a Ray cluster, which share the folders of input and output."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnimatte_cli.batch.plan import Job, path_below
from omnimatte_cli.batch.records import Record, write_record
from omnimatte_cli.batch.run import nothing_at, run_shot, unfinished
from omnimatte_cli.errors import MissingLibraryError, OmnimatteError


def run_ray(
    jobs: Sequence[Job],
    out: Path,
    count: int | None,
    address: str | None,
    gpus: float,
    memory: int | None,
    retries: int,
    time_limit: float | None,
    each: Callable[[Record], None],
) -> None:
    """Run every job as a Ray task; `each` gets the records as they come.

    count: tasks that run on this machine at a time where no cluster is named; cores are shared out
    among them. address: of a cluster; None: one is started here. gpus, memory: what a task
    reserves (memory in bytes). retries: how often a task is begun again whose worker was lost.
    Paths are made absolute: they must be the same on all machines.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingLibraryError(
            "--engine ray needs the package ray: pip install 'omnimatte[ray]'."
        ) from error
    from ray.exceptions import RayError

    cores = os.cpu_count() or 1
    started = not ray.is_initialized()
    if started:
        _connect(ray, address, count)
    per_task = max(1, cores // count) if count and address is None else 1
    reserved: dict[str, Any] = {"num_cpus": 1, "num_gpus": gpus, "max_retries": retries}
    if memory:
        reserved["memory"] = memory
    task = ray.remote(**reserved)(_task)
    here = out.resolve()
    folder = Path.cwd()
    try:
        waiting = {}
        for job in jobs:
            asked = task.remote(_absolute(job, folder), str(here), per_task, time_limit)
            waiting[asked] = job
        while waiting:
            (ready,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(ready)
            try:
                record = ray.get(ready)
            except RayError as error:
                record = _lost(unfinished(job, here), error)
                write_record(here, record)
            each(record)
    finally:
        if started:
            ray.shutdown()  # ends what runs; each shot's process notices and cleans up


def _connect(ray: Any, address: str | None, count: int | None) -> None:
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is None:
        options |= {"num_cpus": count, "include_dashboard": False}
    try:
        ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise OmnimatteError(
            f"There is no Ray cluster at {address}: start one with `ray start --head`."
        ) from error


def _task(job: Job, out: str, threads: int, time_limit: float | None) -> Record:
    """One shot, on whichever machine. A lost worker's shot is begun again on another."""
    return run_shot(job, Path(out), threads=threads, time_limit=time_limit)


def _absolute(job: Job, folder: Path) -> Job:
    """The job with paths that hold on every machine: a worker has another working folder."""
    flags = {
        flag: tuple(str(path_below(folder, flag, v) or v) for v in values)
        for flag, values in job.flags.items()
    }
    if nothing_at(folder / job.out):  # what a worker that was lost has put in place is replaced
        flags.setdefault("--overwrite", ())
    return replace(job, source=folder / job.source, out=folder / job.out, flags=flags)


def _lost(record: Record, error: Exception) -> Record:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return replace(record, error=f"Its worker was lost: {reason}")

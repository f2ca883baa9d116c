"""Run shots on this machine, a few at a time."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from omnimatte_cli.batch.plan import Job
from omnimatte_cli.batch.records import Record
from omnimatte_cli.batch.run import PATIENCE, Control, run_shot


def run_local(
    jobs: Sequence[Job],
    out: Path,
    count: int,
    devices: Sequence[str],
    time_limit: float | None,
    each: Callable[[Record], None],
) -> None:
    """Run all jobs, `count` at a time; `each` gets every record as it comes, in this thread.

    devices: shared out among the jobs that run, such as cuda:0 and cuda:1; none: the jobs' own. An
    interrupt ends what runs, cleanly, and is raised again when all has ended.
    """
    todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        todo.put(job)
    done: queue.SimpleQueue[Record | BaseException] = queue.SimpleQueue()
    control = Control()
    count = max(1, min(count, len(jobs)))
    threads = max(1, available_cores() // count) if count > 1 else None

    def work(device: str | None) -> None:
        while not control.stopped.is_set():
            try:
                job = todo.get_nowait()
            except queue.Empty:
                return
            try:
                record = run_shot(
                    job, out, device=device, threads=threads, time_limit=time_limit,
                    control=control,
                )  # fmt: skip
            except BaseException as error:  # a fault of ours: said, and the other shots go on
                done.put(error)
            else:
                done.put(record)

    workers = [
        threading.Thread(target=work, args=(devices[i % len(devices)] if devices else None,))
        for i in range(count)
    ]
    for worker in workers:
        worker.start()
    try:
        for _ in jobs:
            answer = done.get()
            if isinstance(answer, BaseException):
                raise answer
            each(answer)
    except BaseException:
        control.stop()
        for worker in workers:
            worker.join(PATIENCE)
        control.kill()
        raise
    for worker in workers:
        worker.join()


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""Run one shot: `omnimatte decompose` in a process of its own, and what became of it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omnimatte_cli.batch.plan import Job
from omnimatte_cli.batch.records import Record, is_finished, read_record, record_path, write_record
from omnimatte_cli.media.listing import is_empty

PROGRAM = (sys.executable, "-m", "omnimatte_cli.batch.child")
OTHER_PROGRAM = "OMNIMATTE_BATCH_PROGRAM"  # variable that names another one, for tests
INTERRUPTED = 130  # exit code of `omnimatte` after an interrupt
PATIENCE = 20.0  # seconds that an interrupted process gets for cleaning up
BUSY = "is being written by another run"  # said by what is started too soon after a crash
BUSY_SECONDS = 60.0  # for which that is waited for
LOG_BYTES = 64 << 10  # of a shot's log are searched for its error


@dataclass
class Control:
    """Stops running shots from another thread."""

    def __post_init__(self) -> None:
        self.stopped = threading.Event()
        self.running: set[subprocess.Popen] = set()
        self.lock = threading.Lock()

    def start(self, command: list[str], **options: object) -> subprocess.Popen | None:
        """A new process, in a group of its own; None once all is stopped."""
        with self.lock:
            if self.stopped.is_set():
                return None
            process = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
            self.running.add(process)
            return process

    def end(self, process: subprocess.Popen) -> None:
        """Forget a process that has ended; what it started and left is killed."""
        with self.lock:
            self.running.discard(process)
        _signal(process, signal.SIGKILL)

    def stop(self) -> None:
        """Interrupt all that runs, and let nothing begin any more."""
        with self.lock:
            self.stopped.set()
            for process in self.running:
                _signal(process, signal.SIGTERM, group=False)

    def kill(self) -> None:
        """End what did not end by itself."""
        with self.lock:
            for process in self.running:
                _signal(process, signal.SIGKILL)


def _signal(process: subprocess.Popen, number: int, group: bool = True) -> None:
    # A leader that was waited for is gone, but its number stays its group's as long as that lives.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)


def run_shot(
    job: Job,
    out: Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    time_limit: float | None = None,
    control: Control | None = None,
) -> Record:
    """Decompose one shot; its record is written below `out` and returned. Never raises for it.

    Where a process of a batch that died is still at it, that one is waited for.
    device: such as cuda:1; None: as the job's options say. threads: for computing on a CPU.
    time_limit: seconds after which the shot is given up.
    """
    control = control or Control()
    until = time.monotonic() + BUSY_SECONDS
    while True:
        earlier = read_record(out, job.shot)
        if earlier is not None and earlier.key == job.key and is_finished(earlier):
            return earlier  # another batch has done it meanwhile
        record = _run_once(job, out, device, threads, time_limit, control)
        busy = record.state == "failed" and BUSY in (record.error or "")
        if not busy or time.monotonic() > until or control.stopped.wait(2.0):
            return record


def _run_once(
    job: Job,
    out: Path,
    device: str | None,
    threads: int | None,
    time_limit: float | None,
    control: Control,
) -> Record:
    record = replace(unfinished(job, out), error=job.wrong)
    begin = begun(record)
    if job.wrong is not None:
        write_record(out, record)
        return record
    log = record_path(out, job.shot, ".log")
    start = time.monotonic()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as messages, tempfile.TemporaryFile() as answer:
            process = control.start(
                [*program(), str(os.getpid()), *job.arguments(device, ("--json",))],
                stdin=subprocess.DEVNULL, stdout=answer, stderr=messages,
                env=environment(os.environ, device, threads),
            )  # fmt: skip
            if process is None:
                return replace(record, state="interrupted", error="Not begun.")
            write_record(out, begin)
            try:
                late = _wait(process, time_limit)
            finally:
                control.end(process)
            answer.seek(0)
            text = answer.read()
    except OSError as error:
        return replace(record, error=f"It cannot be run: {error.strerror} ({error.filename}).")
    record = replace(record, seconds=round(time.monotonic() - start, 2))
    record = _judge(record, process.returncode, text, log, time_limit if late else None)
    if record.state == "interrupted":
        record = replace(record, written=begin.written)
    write_record(out, record)
    return record


def unfinished(job: Job, out: Path) -> Record:
    """The record of a job that has made nothing. out: the folder that the batch writes below."""
    earlier = read_record(out, job.shot)
    written = earlier is not None and earlier.written
    places = str(job.source), str(job.out)
    return Record(job.shot, "failed", job.key, *places, written=written)


def begun(record: Record) -> Record:
    """The same while it is made. What appears where nothing is now comes from it, however it
    ends."""
    written = record.written or nothing_at(Path(record.out))
    return replace(record, state="interrupted", error="Was cut off.", written=written)


def nothing_at(place: Path) -> bool:
    """Whether there is no folder, or one with nothing in it."""
    return not place.exists() or (place.is_dir() and is_empty(place))


def program() -> list[str]:
    """What runs one shot; it is given the number of this process and the command line."""
    return shlex.split(os.environ.get(OTHER_PROGRAM, "")) or list(PROGRAM)


def _wait(process: subprocess.Popen, limit: float | None) -> bool:
    """Wait for the end of a process; True where it took longer than its limit and was ended."""
    try:
        process.wait(limit)
        return False
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGTERM, group=False)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()
    return True


def _judge(record: Record, code: int, answer: bytes, log: Path, late: float | None) -> Record:
    """The record with what exit code, answer and log say."""
    record = replace(record, exit_code=code)
    if late is not None:
        return replace(record, error=f"It took longer than {late / 60:g} minutes.")
    if code in (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM, -getattr(signal, "SIGHUP", 1)):
        return replace(record, state="interrupted", error="Interrupted.")
    if code < 0:
        name = signal.Signals(-code).name
        why = ": usually memory ran out" if name == "SIGKILL" else ""
        return replace(record, error=f"The process was ended by {name}{why}.")
    if code != 0:
        return replace(record, error=last_error(log) or f"It ended with exit code {code}.")
    try:
        return described(record, json.loads(answer))
    except (ValueError, KeyError, TypeError) as error:
        return replace(record, error=f"Its answer is not a manifest ({error}).")


def described(record: Record, facts: dict[str, Any]) -> Record:
    """The record of a shot that is done, with what its manifest says."""
    width, height = facts["input"]["width"], facts["input"]["height"]
    return replace(
        record,
        state="done",
        written=True,
        frames=facts["input"]["frames"],
        megapixels=round(width * height / 1e6, 4),
        objects=tuple(facts["objects"]["names"]),
        psnr=facts.get("psnr", {}).get("after_detail"),
        memory_mb=facts.get("peak_memory_mb"),
        method=facts.get("method"),
    )


def last_error(log: Path) -> str | None:
    """The sentence after the last "Error: " of a log, or its last line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            lines = [x.strip() for x in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return None
    told = [x.removeprefix("Error: ") for x in lines if x.startswith("Error: ")]
    rest = [x for x in lines if x]
    return told[-1] if told else rest[-1] if rest else None


def environment(
    before: Mapping[str, str], device: str | None, threads: int | None
) -> dict[str, str]:
    """The variables of a shot's process: which GPU it sees, and its number of threads."""
    found = dict(before)
    if device and device.startswith("cuda:"):
        number = int(device.removeprefix("cuda:"))
        told = before.get("CUDA_VISIBLE_DEVICES", "").split(",")
        visible = [x.strip() for x in told if x.strip()]
        found["CUDA_VISIBLE_DEVICES"] = visible[number] if number < len(visible) else str(number)
    if threads:
        found.setdefault("OMP_NUM_THREADS", str(threads))
    return found

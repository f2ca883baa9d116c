"""One long shot as several tasks: each looks at all of it and writes a part; then they are joined.

A part is a job like any other, with its result and record below the batch's hidden folder, so that
parts which are done are not done again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from omnimatte_cli.batch.estimate import read_length
from omnimatte_cli.batch.plan import Job, Step, job_key, plan
from omnimatte_cli.batch.records import FOLDER, Record, record_path, write_record
from omnimatte_cli.batch.run import described, unfinished
from omnimatte_cli.deliver.join import join_parts
from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.progress import Silent

ENDING = ".parts"  # of the folder of a shot's parts


class Parts:
    """Stands between a batch and its engine: splits long shots and hands on whole ones' records."""

    def __init__(
        self, jobs: Sequence[Job], out: Path, length: int | None, each: Callable[[Record], None]
    ) -> None:
        """length: frames that a part has, about; None: no shot is split. each: gets the records."""
        self.out, self.each = out, each
        self.waiting: dict[str, tuple[Job, dict[str, Record | None]]] = {}  # by the shot's name
        self.jobs: list[Job] = []
        for job in jobs:
            steps = plan_parts(job, out, length)
            if not steps:
                self.jobs.append(job)
                continue
            done = {s.job.shot: None if s.run else s.record for s in steps}
            self.waiting[job.shot] = job, done
            self.jobs += [s.job for s in steps if s.run]

    def begin(self) -> None:
        """Join what needs no more work: an earlier run was cut off before it could."""
        for shot in [s for s, (_, found) in self.waiting.items() if all(found.values())]:
            self._join(shot)

    def add(self, record: Record) -> None:
        """A record from the engine, of a shot or of a part of one."""
        shot = record.shot.rpartition(ENDING + "/")[0]
        if shot not in self.waiting:
            self.each(record)
            return
        self.waiting[shot][1][record.shot] = record
        if all(self.waiting[shot][1].values()):
            self._join(shot)

    def _join(self, shot: str) -> None:
        job, found = self.waiting.pop(shot)
        records = [r for r in found.values() if r is not None]
        seconds = round(sum(r.seconds or 0 for r in records), 2)
        record = replace(unfinished(job, self.out), seconds=seconds)
        wrong = next((r for r in records if r.state != "done"), None)
        if wrong is not None:
            part = wrong.shot.rpartition("/")[2].replace("of", " of ")
            record = replace(record, state=wrong.state, error=f"Part {part}: {wrong.error}")
            log = record_path(self.out, wrong.shot, ".log")
            if log.is_file():
                shutil.copyfile(log, record_path(self.out, shot, ".log"))
        else:
            try:
                overwrite = "--overwrite" in job.flags
                folders = [Path(r.out) for r in records]
                facts = join_parts(folders, job.out, Silent(), overwrite)
                record = described(record, facts)
            except OmnimatteError as error:
                record = replace(record, error=str(error))
            else:
                shutil.rmtree(parts_folder(self.out, shot), ignore_errors=True)
        write_record(self.out, record)
        self.each(record)


def plan_parts(job: Job, out: Path, length: int | None) -> list[Step]:
    """What is to be done of each part of a shot; none where it is done whole."""
    parts = [] if length is None else split(job, out, length)
    return plan(parts, out, retry_failed=True)


def parts_folder(out: Path, shot: str) -> Path:
    """Where the parts of a shot are. out: the batch's output folder."""
    return out / FOLDER / (shot + ENDING)


def split(job: Job, out: Path, length: int) -> list[Job]:
    """A job for every part of about `length` frames; none where the shot is too short, or where
    its header does not say how long it is."""
    frames = None if job.wrong else read_length(job.source)[0]
    count = round((frames or 0) / length)
    if count < 2:
        return []
    jobs = []
    for i in range(1, count + 1):
        name = f"{i}of{count}"
        flags = {**job.flags, "--part": (f"{i}/{count}",), "--overwrite": ()}
        place = parts_folder(out, job.shot) / name
        key = job_key(job.source, flags)
        jobs.append(Job(f"{job.shot}{ENDING}/{name}", job.source, place, flags, key))
    return jobs

"""`batch.html`: all shots of a batch with what became of them, and links to their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from omnimatte_cli.batch.plan import Job
from omnimatte_cli.batch.records import Record, read_record, record_path
from omnimatte_cli.media.atomic import write_text

PAGE = "batch.html"
LINKS = (("report", "report.html"), ("preview", "preview.mp4"), ("facts", "manifest.json"))


def write_page(out: Path, jobs: Sequence[Job], records: Sequence[Record] = ()) -> Path:
    """Write the page of all jobs, with the records of this run or else of earlier ones."""
    now = {record.shot: record for record in records}
    rows = [_row(out, job, now.get(job.shot) or read_record(out, job.shot)) for job in jobs]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("omnimatte_cli.batch", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    page = environment.get_template("page.html.j2").render(
        title=f"Shots in {out.resolve().name}", counts=count_states(rows), rows=rows
    )
    path = out / PAGE
    write_text(path, page, f".{os.getpid()}")
    return path


def count_states(rows: Sequence[dict[str, Any]]) -> str:
    """Such as "9 done, 3 failed"."""
    counts = Counter(row["state"] for row in rows)
    return ", ".join(f"{n} {state}" for state, n in counts.items()) or "no shots"


def _row(out: Path, job: Job, record: Record | None) -> dict[str, Any]:
    if record is None or record.key != job.key:
        record = Record(job.shot, "planned", job.key, str(job.source), str(job.out), job.wrong)
    files = [(label, job.out / name) for label, name in LINKS]
    if record.state != "done":
        files = [("log", record_path(out, job.shot, ".log"))]
    links = [(label, quote(os.path.relpath(file, out))) for label, file in files if file.is_file()]
    return {**asdict(record), "links": links}

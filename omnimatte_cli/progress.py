"""Progress of long work: computing calls a `Progress`, and never prints."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from omnimatte_cli.terminal import printable, rich_console


class Progress(Protocol):
    """What computing code tells the outside. `stage` names a step, `step` advances within it."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of `total` steps (None: unknown)."""

    def step(self, done: int, note: str = "") -> None:
        """`done` steps of the current stage are finished; `note` is a few words (the loss)."""

    def say(self, message: str) -> None:
        """One sentence that the user should see (a warning, a choice that was made)."""


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def step(self, done: int, note: str = "") -> None: ...

    def say(self, message: str) -> None: ...


class Plain(AbstractContextManager["Plain"]):
    """Lines on stderr for logs and pipes: one at the start of a stage, then at most one in 10 s."""

    INTERVAL = 10.0  # seconds between two lines of one stage

    def __init__(self) -> None:
        self.name, self.started, self.last = "", 0.0, 0.0
        self.total: int | None = None
        self.before: int | None = None  # steps at the first report: an earlier run's

    def stage(self, name: str, total: int | None = None) -> None:
        self.name, self.total, self.before = name, total, None
        self.last = time.monotonic()
        self._line(f"{name} ...")

    def step(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if self.before is None:
            self.before, self.started = done, now
        if now - self.last < self.INTERVAL:
            return
        self.last = now
        of = f"{done}/{self.total}" if self.total else str(done)
        left = ""
        if self.total and done > self.before:
            seconds = (now - self.started) / (done - self.before) * (self.total - done)
            left = f", {seconds:.0f} s left"
        self._line(f"{self.name}: {of}{left}{'  ' + note if note else ''}")

    def say(self, message: str) -> None:
        self._line(message)

    def _line(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)

    def __exit__(self, *exc: object) -> None: ...


class Bars(AbstractContextManager["Bars"]):
    """rich progress bars on stderr for a terminal."""

    def __init__(self) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self.console = rich_console(stderr=True)
        self.bars = RichProgress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=self.console,
        )
        self.task: object = None

    def __enter__(self) -> Bars:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        self.bars.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        self._finish()
        self.task = self.bars.add_task(printable(name), total=total, note="")

    def step(self, done: int, note: str = "") -> None:
        assert self.task is not None
        self.bars.update(self.task, completed=done, note=printable(note))  # type: ignore[arg-type]

    def say(self, message: str) -> None:
        self.console.print(printable(message), markup=False, highlight=False)

    def _finish(self) -> None:
        if self.task is None:
            return
        task = self.bars.tasks[self.task]  # type: ignore[call-overload]
        total = task.total if task.total is not None else max(task.completed, 1)
        self.bars.update(task.id, total=total, completed=total)


def terminal_progress(quiet: bool = False) -> AbstractContextManager[Progress]:
    """Bars on a terminal, plain lines elsewhere, nothing when quiet. Use as a context manager."""
    from contextlib import nullcontext

    if quiet:
        return nullcontext(Silent())
    return Bars() if sys.stderr.isatty() else Plain()

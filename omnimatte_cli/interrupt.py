"""Signals: an interrupt waits for a training step's end, cleans up, and goes on to the shell."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
INTERRUPTED = 130  # exit code


def run(command: Callable[[], None]) -> None:
    """Run a command line so that SIGINT, SIGTERM and SIGHUP end it cleanly, as KeyboardInterrupt.

    After SIGINT and the cleaning up, the process dies of SIGINT itself: only then does a shell end
    the loop that the command runs in. After the others the exit code is 130. Signals that the
    parent has the process ignore (nohup, background jobs) stay ignored.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for s in SIGNALS:
        if signal.getsignal(s) not in (signal.SIG_IGN, None):
            signal.signal(s, note)
    try:
        command()
    except KeyboardInterrupt:  # before or after a command
        code: int | str | None = INTERRUPTED
    except SystemExit as leaving:
        code = leaving.code
    else:
        code = 0
    if received and received[0] == signal.SIGINT and code == INTERRUPTED:
        _die_of(signal.SIGINT)
    sys.exit(code)


def _die_of(number: signal.Signals) -> None:
    """End as if the signal had never been caught."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the terminal is gone
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


class Held:
    """asked: an interrupt came and waits. number: the signal's."""

    asked = False
    number = 0


@contextmanager
def held_interrupts() -> Iterator[Held]:
    """Within the block signals only set `asked`; a second one interrupts at once.

    What waits when the block ends is raised then, as KeyboardInterrupt.

    An interrupt in the middle of an optimiser's step would leave half of the weights moved. Outside
    of the main thread, where Python delivers no signals, nothing changes.
    """
    held = Held()
    if threading.current_thread() is not threading.main_thread():
        yield held
        return

    def hold(number: int, frame: FrameType | None) -> None:
        if held.asked:
            raise KeyboardInterrupt
        held.asked, held.number = True, number

    before = {}
    for s in SIGNALS:
        if signal.getsignal(s) not in (signal.SIG_IGN, None):  # ignored ones stay ignored
            before[s] = signal.signal(s, hold)
    try:
        yield held
    except KeyboardInterrupt:
        if not held.asked:
            raise
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    if held.asked:
        handler = before[held.number]
        if callable(handler):  # it knows which signal came
            handler(held.number, None)
        raise KeyboardInterrupt


@contextmanager
def ignored_interrupts() -> Iterator[None]:
    """Within the block signals do nothing: for cleaning up, which a second Ctrl-C must not end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    for s in SIGNALS:
        if signal.getsignal(s) is not None:  # None: set by something that is not Python
            before[s] = signal.signal(s, signal.SIG_IGN)
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


def insist(job: Callable[[], None]) -> None:
    """Run a short job to its end, even if interrupts come just before it; they are raised after.

    The job must be able to begin again.
    """
    interrupted = False
    while True:
        try:
            with ignored_interrupts():
                job()
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt

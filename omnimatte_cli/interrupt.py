"""Interrupts that wait for the end of a training step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Held:
    """asked: an interrupt came and waits."""

    asked = False


@contextmanager
def held_interrupts() -> Iterator[Held]:
    """Within the block SIGINT and SIGTERM only set `asked`; a second one interrupts at once.

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
        held.asked = True

    before = {}
    for s in SIGNALS:
        if signal.getsignal(s) not in (signal.SIG_IGN, None):  # ignored ones stay ignored
            before[s] = signal.signal(s, hold)
    try:
        yield held
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
    if held.asked:
        raise KeyboardInterrupt

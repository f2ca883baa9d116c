"""Reading that hangs ends with a sentence: a dead network mount, a stream that a decoder loops on.

Code of other libraries that waits or loops cannot be ended from outside. It runs in a thread of its
own, which is asked for one frame at a time; when none comes for long, the thread is left alone with
all that it holds, and ends with the process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

from omnimatte_cli.errors import VideoError

T = TypeVar("T")
Answer = tuple[str, T | BaseException | None]  # "item", "end" or "error", and which

PATIENCE = 120.0  # seconds in which a frame must come
SLICE = 1.0  # seconds that are waited at a time: time in which the process is stopped counts as one


class StalledError(VideoError):
    """Nothing comes from a video any more."""

    exit_code = 1


def patient(items: Generator[T, None, None], source: Path) -> Iterator[T]:
    """The items of a generator that reads `source`, each made when it is asked for.

    Raises StalledError when none comes for PATIENCE seconds, and what the generator raises.
    """
    asked: SimpleQueue[bool] = SimpleQueue()
    answers: SimpleQueue[Answer] = SimpleQueue()
    thread = Thread(target=_serve, args=(items, asked, answers), name="reading", daemon=True)
    thread.start()
    count, stalled = 0, False
    try:
        while True:
            asked.put(True)
            answer = _wait(answers)
            if answer is None:
                stalled = True
                raise StalledError(
                    f"{source} gives no frame {count} in {PATIENCE:g} s: it is damaged, or on a "
                    "drive that does not answer."
                )
            kind, item = answer
            del answer
            if isinstance(item, BaseException):
                raise item
            if kind == "end":
                return
            count += 1
            yield item  # type: ignore[misc]
            del item
    finally:
        asked.put(False)
        if not stalled:
            thread.join(PATIENCE)


def _wait(answers: SimpleQueue[Answer]) -> Answer | None:
    """The next answer; None where there is none in PATIENCE seconds."""
    wait = min(SLICE, PATIENCE)
    for _ in range(round(PATIENCE / wait)):
        with suppress(Empty):
            return answers.get(timeout=wait)
    return None


def _serve(
    items: Generator[T, None, None], asked: SimpleQueue[bool], answers: SimpleQueue[Answer]
) -> None:
    """Answer what is asked, and close the generator in the thread that it ran in."""
    try:
        while asked.get():
            answers.put(("item", next(items)))
        items.close()
    except StopIteration:
        answers.put(("end", None))
    except BaseException as error:  # raised where the frames are wanted
        answers.put(("error", error))

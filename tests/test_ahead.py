"""Work in order, begun ahead; and what threads that read pictures share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import cv2
import pytest

from omnimatte_cli.ahead import in_order
from omnimatte_cli.media.images import quiet_opencv


def test_answers_come_in_order_and_jobs_are_taken_a_few_ahead() -> None:
    taken: list[int] = []
    gate = threading.Event()

    def jobs() -> Iterator[tuple]:
        for t in range(8):
            taken.append(t)
            yield t, "x"

    def work(t: int, text: str) -> str:
        if t == 0:
            gate.wait(5)  # the first is the last to be done
        else:
            gate.set()
        return f"{text}{t}"

    answers = in_order(work, jobs(), 2, 3)
    assert next(answers) == "x0"
    assert taken == [0, 1, 2, 3]
    assert list(answers) == [f"x{t}" for t in range(1, 8)]


def test_what_is_not_begun_is_left_when_one_fails_or_nobody_asks() -> None:
    done: list[int] = []

    def work(t: int) -> int:
        if t == 1:
            raise ValueError("one")
        done.append(t)
        return t

    with pytest.raises(ValueError, match="one"):
        list(in_order(work, ((t,) for t in range(100)), 1, 5))
    assert len(done) < 10
    done.clear()
    with closing(in_order(work, ((t,) for t in range(2, 100)), 1, 5)) as answers:
        assert next(answers) == 2
    assert len(done) < 10


def test_opencv_speaks_again_after_threads_were_quiet_together() -> None:
    logging = cv2.utils.logging
    before, inside = logging.getLogLevel(), threading.Barrier(2)

    def be_quiet() -> None:
        with quiet_opencv():
            inside.wait(5)
            assert logging.getLogLevel() == logging.LOG_LEVEL_SILENT

    try:
        logging.setLogLevel(logging.LOG_LEVEL_WARNING)
        threads = [threading.Thread(target=be_quiet) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert logging.getLogLevel() == logging.LOG_LEVEL_WARNING
    finally:
        logging.setLogLevel(before)

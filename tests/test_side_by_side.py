"""Jobs of torch that run at the same time, each with its part of the threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
import torch

from omnimatte_cli.device import side_by_side

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_answers_come_in_order_whatever_the_threads(threads: int) -> None:
    x = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))

    def work(power: int, scale: float) -> torch.Tensor:
        return scale * torch.linalg.matrix_power(x, power)

    jobs = [(n, 1 / (n + 1)) for n in range(6)]
    found = list(side_by_side(work, jobs, CPU))
    assert all(torch.equal(a, work(*job)) for a, job in zip(found, jobs, strict=True))
    assert torch.get_num_threads() == threads


def test_two_jobs_run_at_once_where_there_are_threads_for_both(threads: int) -> None:
    meeting = threading.Barrier(min(2, threads))

    def work(number: int) -> tuple[int, int]:
        meeting.wait(30)  # fails unless as many come at the same time
        return number, torch.get_num_threads()

    found = list(side_by_side(work, [(0,), (1,)], CPU))
    share = {1: 1, 2: 1, 3: 2}[threads]
    assert found == [(0, share), (1, share)]


def test_an_error_ends_what_waits_and_gives_the_threads_back(threads: int) -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise RuntimeError("not enough memory")
        return number

    jobs = [(n,) for n in range(200)]
    with pytest.raises(RuntimeError), closing(side_by_side(work, jobs, CPU)) as answers:
        assert next(answers) == 0
        next(answers)
    assert torch.get_num_threads() == threads
    if threads == 1:
        assert begun == [0, 1]


def test_nothing_goes_on_once_nobody_asks(threads: int) -> None:
    with closing(side_by_side(lambda n: n, [(n,) for n in range(9)], CPU)) as answers:
        assert next(answers) == 0
    assert torch.get_num_threads() == threads

"""Work that is done in order, the next few pieces meanwhile in other threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_order(
    work: Callable[..., T], jobs: Iterable[tuple], workers: int, ahead: int
) -> Generator[T, None, None]:
    """What `work` gives for each job's arguments, in order.

    workers: threads. ahead: jobs that are begun, or taken from `jobs`, before their turn. Close the
    iterator if it is not run to its end: what is not begun is then left.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for job in jobs:
                pending.append(pool.submit(work, *job))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

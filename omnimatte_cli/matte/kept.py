"""Results of a function that are kept as long as they take little memory."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def kept_within(budget: int, least: int, function: Callable[..., T]) -> Callable[..., T]:
    """The function, which remembers its latest results: of as many bytes as `budget`, and `least`
    of them however large they are. Threads may call it at the same time."""
    held: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
    lock = threading.Lock()

    def call(*key: Hashable) -> T:
        with lock:
            if key in held:
                held.move_to_end(key)
                return held[key][0]
        result = function(*key)
        with lock:
            held[key] = result, bytes_of(result)
            held.move_to_end(key)
            while len(held) > least and sum(size for _, size in held.values()) > budget:
                held.popitem(last=False)
        return result

    return call


def bytes_of(value: Any) -> int:
    """How many bytes the arrays in a result take, in dataclasses, tuples, lists and dicts, too."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(bytes_of(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values()))
    return sum(map(bytes_of, value)) if isinstance(value, tuple | list) else 0

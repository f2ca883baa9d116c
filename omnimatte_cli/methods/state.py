"""A training's state on disk: when a save is due, writing it whole, and resuming from it."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from omnimatte_cli.errors import OutputError
from omnimatte_cli.media.atomic import replacing
from omnimatte_cli.progress import Progress

log = logging.getLogger(__name__)

T = TypeVar("T")
Parts = Mapping[str, nn.Module | torch.optim.Optimizer]  # what a state holds, by name

SHARE = 0.05  # of the time may go into saving while a run is young and is saved often


class SaveClock:
    """When the next save is due: after half of the time before it, and after `interval` at most.

    So a crash loses a third of a young run, not all of it. interval: seconds.
    """

    def __init__(self, interval: float) -> None:
        self.interval, self.cost = interval, 0.0
        self.started = self.last = time.monotonic()

    def due(self) -> bool:
        """Whether to save now."""
        young = max((self.last - self.started) / 2, 1.0, self.cost / SHARE)
        return time.monotonic() - self.last > min(self.interval, young)

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Measures a save."""
        begin = time.monotonic()
        yield
        self.last = time.monotonic()
        self.cost = self.last - begin


def save_state(path: Path, key: str, parts: Parts, **facts: Any) -> None:
    """Write the states of `parts`, and facts that torch.load reads, whole or not at all.

    key: names input and options. Raises OutputError where the disk is full.
    """
    state = {"key": key, **facts, **{name: part.state_dict() for name, part in parts.items()}}
    try:
        with replacing(path) as partial:
            torch.save(state, partial)
    except RuntimeError as error:  # torch's own for a failed write
        raise OutputError(f"The training cannot be saved as {path}: is the disk full?") from error


def load_state(
    path: Path | None,
    key: str,
    parts: Parts,
    read: Callable[[dict[str, Any]], T],
    device: torch.device,
    progress: Progress,
) -> T | None:
    """Load the states of `parts` from a file that `save_state` wrote for the same key.

    Returns what `read` makes of the state, which raises where it holds what cannot be; None where
    there is no state for this key. A damaged one costs time and not correctness: it is said, and
    the parts stay as they were.
    """
    if path is None or not path.is_file():
        return None
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if state["key"] != key:
            return None
        found = read(state)
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except Exception as error:  # whatever a damaged pickle or file raises
        log.info("%s: %s", path, error)
        progress.say(f"The saved training {path} is damaged: it begins anew.")
        for name, part in parts.items():
            part.load_state_dict(before[name])
        return None
    return found

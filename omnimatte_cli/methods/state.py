"""Saving of a training's state: when it is due, and whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from omnimatte_cli.errors import OutputError
from omnimatte_cli.media.atomic import replacing

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


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state for torch.load. Raises OutputError where the disk is full."""
    try:
        with replacing(path) as partial:
            torch.save(state, partial)
    except RuntimeError as error:  # torch's own for a failed write
        raise OutputError(f"The training cannot be saved as {path}: is the disk full?") from error

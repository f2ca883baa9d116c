"""A training whose loss stops being a number goes back once, at half the rate, or ends."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.progress import Progress

INTERVAL = 50  # steps between two states that are kept in memory


class Guard:
    """Keeps the last good state of a network and its optimiser."""

    def __init__(
        self, net: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
    ) -> None:
        self.net, self.optimiser, self.progress = net, optimiser, progress
        self.kept: tuple[int, dict[str, Any], dict[str, Any]] | None = None
        self.rate = 1.0  # of the learning rate; below 1 after a failure

    def keep(self, step: int) -> None:
        """Before a step: keep the state, now and then, where it is sound."""
        if self.kept is not None and (step % INTERVAL or step <= self.kept[0]):
            return
        if self.sound():
            states = copy.deepcopy((self.net.state_dict(), self.optimiser.state_dict()))
            self.kept = (step, *states)

    def sound(self) -> bool:
        """Whether all weights are numbers."""
        return all(bool(p.isfinite().all()) for p in self.net.parameters())

    def back(self, step: int, losses: Iterable[float], last: bool = False) -> int | None:
        """After a step: None where its losses are numbers, else the step to go on from.

        The state of that step is restored and all learning rates are halved. last: nothing comes
        after this step, so its weights must be numbers as well. Raises OmnimatteError the second
        time.
        """
        if all(map(math.isfinite, losses)) and not (last and not self.sound()):
            return None
        if self.kept is None or self.rate < 1:
            raise OmnimatteError(
                f"The training diverged at step {step + 1}, at half the rate as well: its loss is "
                "not a number. Try a smaller rate (--set lr=...), or --method ownership."
            )
        start, net, optimiser = self.kept
        self.net.load_state_dict(net)
        self.optimiser.load_state_dict(optimiser)
        self.rate = 0.5
        for group in self.optimiser.param_groups:
            group["lr"] *= self.rate
        self.progress.say(
            f"The loss is not a number at step {step + 1}: back to step {start}, at half the rate."
        )
        return start

"""What a method is: it is given a shot and its plate, and says how every frame splits into layers.

Nothing outside of this package asks which method runs. To add one, add a folder beside this file
with `options.py` (a frozen dataclass `Options`, no torch) and `method.py` (a class `METHOD`), and a
line in `registry.METHODS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from omnimatte_cli.arrays import Plate
from omnimatte_cli.matte.bodies import CutOut, by_masks
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.methods.options import MethodOptions
from omnimatte_cli.progress import Progress
from omnimatte_cli.settings import SolveSettings
from omnimatte_cli.shot import Shot

LayersAt = Callable[[int, np.ndarray, np.ndarray], Layers]  # (t, frame, plate)


@dataclass(frozen=True)
class Run:
    """What every method is told beside its own options.

    device: where to compute. seed: of all random choices. weights: a shipped name, a path, "none"
    or "auto". ownership: the ownership network on the device, or None where none is there.
    solve: how layers are made. cut_out: finds bodies in masks. state: a path that an interrupted
    training is kept under; None: it is not kept. memo: results of long stages that a later call
    with the same inputs takes from here (evaluations vary one option).
    """

    device: torch.device
    seed: int = 0
    weights: str = "auto"
    ownership: OwnerNet | None = None
    solve: SolveSettings = field(default_factory=SolveSettings)
    cut_out: CutOut = by_masks
    state: Path | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    def state_file(self, key: str) -> Path | None:
        """Where the training with this key is kept: trainings on other input keep their own."""
        if self.state is None:
            return None
        return self.state.with_name(f"{self.state.name}.{key[:12]}.pt")


@dataclass(frozen=True)
class Separation:
    """What a method found out about a clip.

    layers_at: every object's layer in one frame: frame number, frame and plate (H, W, 3).
    facts: JSON values for the manifest: network, iterations, losses, PSNR of what was predicted.
    forget: called when the result is written and whole, to remove what is kept for resuming.
    """

    layers_at: LayersAt
    facts: dict[str, Any]
    forget: Callable[[], None] = lambda: None


O_co = TypeVar("O_co", bound=MethodOptions, covariant=True)


class Method(ABC, Generic[O_co]):
    """One way to find layers. Weights are found and checked when it is made."""

    def __init__(self, options: O_co, run: Run) -> None:
        self.options, self.run = options, run

    @abstractmethod
    def separate(self, shot: Shot, plate: Plate, progress: Progress) -> Separation:
        """Find out how the shot splits into layers over its plate."""

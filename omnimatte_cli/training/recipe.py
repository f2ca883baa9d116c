"""What a pretraining run does: every choice with its default. It is written into the weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from omnimatte_cli.methods.coordination.options import Hiding
from omnimatte_cli.options import Assignment, assigned, check
from omnimatte_cli.synth.seeds import EFFECTS, SEED_BITS, TRAINING_SEEDS, VALIDATION_SEEDS

Network = Literal["coordination", "ownership"]


@dataclass(frozen=True)
class Recipe:
    """One pretraining run."""

    network: Network = "coordination"
    width: int = 16  # of the coordination network
    height: int = 64  # pixels
    width_pixels: int = 64  # pixels
    steps: int = 9000  # optimiser steps; the curriculum below is for a run of about this length
    batch_size: int = 8  # clips a step, on each process
    lr: float = 1e-3  # AdamW's, at its highest
    warmup: int = 200  # steps over which the rate rises
    final_lr: float = 0.02  # share of the rate that a cosine ends at
    weight_decay: float = 1e-2
    clip_norm: float = 1.0  # gradients longer than this are shortened
    ema: float = 0.998  # decay of the averaged weights, which are the ones saved
    seed: int = 0

    frames: int = 5  # frames a clip
    gaps: tuple[int, ...] = (3,)  # ticks of 1/12 s between two frames, drawn for each chunk
    objects: tuple[int, ...] = (1, 2, 2, 2, 3, 4)  # drawn for each chunk of clips
    effects: tuple[str, ...] = ("mixed",)  # of EFFECTS, drawn for each chunk
    wrong_plates: float = 0.75  # share of the ownership network's clips whose plates are wrong
    chunk: int = 16  # clips rendered together; they have equally many objects
    pool: int = 48  # chunks held for replay
    reuse: float = 6.0  # how often each clip is trained on, on average
    workers: int = 1  # rendering processes on a CPU
    textures: Path | None = None  # folder of pictures for surfaces

    hiding: Hiding = "random"
    hidden: int = 3  # frames hidden of 5
    mask_drops: tuple[int, int] = (200, 6500)  # steps at which lambda_m falls to a tenth
    tie: bool = True  # queries and keys start with equal positions and projections
    auxiliary_steps: int = 6500  # steps that also decode a visible frame
    whole_steps: int = 9000  # steps in which bodies count as much as the rest of the picture
    squared_steps: int = 9000  # steps with squared error only
    squared_share: float = 0.3  # share of squared error afterwards
    layer_weight: float = 1.0  # supervision by the true solos at the start
    layer_steps: int = 9000  # steps over which it fades to 0
    effect_weight: float = 3.0  # how much more effects count in that supervision

    save_minutes: float = 5.0
    validate_steps: int = 500  # steps between two validations
    validation_objects: tuple[int, ...] = (2, 3, 4)  # objects in each held-out chunk scored

    def __post_init__(self) -> None:
        from omnimatte_cli.methods.coordination.network import MAX_FRAMES  # imports torch

        for name, words in (("network", get_args(Network)), ("hiding", get_args(Hiding))):
            check(getattr(self, name) in words, f"{name} must be {' or '.join(words)}")
        known = bool(self.effects) and set(self.effects) <= set(EFFECTS)
        check(known, f"effects must be of {', '.join(EFFECTS)}")
        for name in ("steps", "batch_size", "chunk", "pool", "workers", "validate_steps"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("lr", "reuse", "clip_norm"):
            check(0 < getattr(self, name) < float("inf"), f"{name} must be above 0")
        for name in ("final_lr", "ema", "squared_share", "wrong_plates"):
            check(0 <= getattr(self, name) <= 1, f"{name} must be from 0 to 1")
        for name in ("warmup", "weight_decay", "layer_weight", "effect_weight", "save_minutes"):
            check(0 <= getattr(self, name) < float("inf"), f"{name} must be 0 or more")
        check(bool(self.gaps) and min(self.gaps) >= 1, "gaps must be at least 1")
        for name in ("objects", "validation_objects"):
            counts = getattr(self, name)
            check(bool(counts), f"{name} must hold a number")
            check(all(1 <= n <= 5 for n in counts), f"{name} must be from 1 to 5")
        check(len(self.mask_drops) == 2, "mask_drops takes two steps")
        sides = (self.height, self.width_pixels)
        check(all(s % 16 == 0 and s >= 32 for s in sides), "--size must be of multiples of 16")
        check(self.width % 4 == 0 and self.width > 0, "--width must be a multiple of 4")
        check(3 <= self.frames <= MAX_FRAMES, f"frames must be from 3 to {MAX_FRAMES}")
        check(0 <= self.hidden < self.frames, "hidden must be below frames")
        check(self.batch_size <= self.chunk, "batch_size must not be above chunk")
        # A seed more would render the scenes of validation.
        seeds = (VALIDATION_SEEDS - TRAINING_SEEDS) >> SEED_BITS
        check(0 <= self.seed < seeds, f"seed must be from 0 to {seeds - 1}")
        check(self.textures is None or self.textures.is_dir(), f"no folder {self.textures}")

    def facts(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def make_recipe(named: dict[str, Any], pairs: list[str]) -> Recipe:
    """A recipe from named values and NAME=VALUE texts. Raises OptionError."""
    return assigned(Recipe, [Assignment.parse(p) for p in pairs], fixed=named)

"""What a pretraining run does: every choice with its default. It is written into the weights.

`Schedule` is what all runs have, `Recipe` a run on scenes with objects, `BlendRecipe` one on
blended clips, `CutoutRecipe` one on bodies cut out of pictures.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from omnimatte_cli.methods.coordination.options import Hiding
from omnimatte_cli.methods.weights import CENTRIFUGE, MATTING
from omnimatte_cli.options import Assignment, assigned, check, check_words
from omnimatte_cli.synth.seeds import EFFECTS, SEED_BITS, TRAINING_SEEDS, VALIDATION_SEEDS

Network = Literal["coordination", "ownership"]
MAX_LENGTH = 64  # frames of a clip that the ownership network is trained on
NETWORKS = (*get_args(Network), CENTRIFUGE, MATTING)


@dataclass(frozen=True)
class Schedule:
    """What every run has, whatever it trains."""

    network: str = ""
    height: int = 64  # pixels
    width_pixels: int = 64  # pixels
    steps: int = 9000  # optimiser steps
    lasting: float | None = None  # minutes that the run takes instead, whatever steps those are
    batch_size: int = 8  # clips a step, on each process
    lr: float = 1e-3  # AdamW's, at its highest
    warmup: int = 200  # steps over which the rate rises
    final_lr: float = 0.02  # share of the rate that a cosine ends at
    weight_decay: float = 1e-2
    clip_norm: float = 1.0  # gradients longer than this are shortened
    ema: float = 0.998  # decay of the averaged weights, which are the ones saved
    seed: int = 0

    frames: int = 5  # frames a clip
    chunk: int = 16  # clips made together
    pool: int = 48  # chunks held for replay
    reuse: float = 6.0  # how often each clip is trained on, on average
    workers: int | None = None  # processes that make clips; of scenes a GPU renders they make the
    # plans. None: as many as pay; 0: the process that trains does it
    textures: Path | None = None  # folder of pictures for surfaces

    save_minutes: float = 5.0
    validate_steps: int = 500  # steps between two validations

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "chunk", "pool", "validate_steps"):
            check(getattr(self, name) >= 1, f"{name} must be at least 1")
        check(self.workers is None or self.workers >= 0, "workers must be 0 or more")
        check(self.lasting is None or 0 < self.lasting < float("inf"), "lasting must be above 0")
        for name in ("lr", "reuse", "clip_norm"):
            check(0 < getattr(self, name) < float("inf"), f"{name} must be above 0")
        for name in ("final_lr", "ema"):
            check(0 <= getattr(self, name) <= 1, f"{name} must be from 0 to 1")
        for name in ("warmup", "weight_decay", "save_minutes"):
            check(0 <= getattr(self, name) < float("inf"), f"{name} must be 0 or more")
        sides = (self.height, self.width_pixels)
        check(all(s % 16 == 0 and s >= 32 for s in sides), "--size must be of multiples of 16")
        # A seed more would render the scenes of validation.
        seeds = (VALIDATION_SEEDS - TRAINING_SEEDS) >> SEED_BITS
        check(0 <= self.seed < seeds, f"seed must be from 0 to {seeds - 1}")
        check(self.textures is None or self.textures.is_dir(), f"no folder {self.textures}")

    @property
    def one_size(self) -> bool:
        """Whether every step's tensors have the same sizes."""
        return True

    def facts(self) -> dict[str, Any]:
        """The recipe as JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Recipe(Schedule):
    """A run on scenes with objects. The curriculum is for about the default number of steps."""

    network: Network = "coordination"
    width: int = 16  # of the coordination network
    reaches: tuple[int, ...] = (2, 0, 2, 0)  # of the ownership network's blocks of attention
    fine: int = 2  # its blocks at 1/8 of the size
    motion: bool = True  # whether it is given how residuals and masks change in time
    lengths: tuple[int, ...] = ()  # frames a clip, drawn for each chunk in place of `frames`
    aspects: tuple[float, ...] = (1.0,)  # width over --size's, drawn for each chunk
    gaps: tuple[int, ...] = (3,)  # ticks of 1/12 s between two frames, drawn for each chunk
    objects: tuple[int, ...] = (1, 2, 2, 2, 3, 4)  # drawn for each chunk of clips
    effects: tuple[str, ...] = ("mixed",)  # of EFFECTS, drawn for each chunk
    wrong_plates: float = 0.75  # share of the ownership network's clips whose plates are wrong

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

    validation_objects: tuple[int, ...] = (2, 3, 4)  # objects in each held-out chunk scored

    def __post_init__(self) -> None:
        from omnimatte_cli.matte.network import CONTEXT  # imports torch
        from omnimatte_cli.methods.coordination.network import MAX_FRAMES

        super().__post_init__()
        for name, words in (("network", get_args(Network)), ("hiding", get_args(Hiding))):
            check(getattr(self, name) in words, f"{name} must be {' or '.join(words)}")
        known = bool(self.effects) and set(self.effects) <= set(EFFECTS)
        check(known, f"effects must be of {', '.join(EFFECTS)}")
        for name in ("squared_share", "wrong_plates"):
            check(0 <= getattr(self, name) <= 1, f"{name} must be from 0 to 1")
        for name in ("layer_weight", "effect_weight"):
            check(0 <= getattr(self, name) < float("inf"), f"{name} must be 0 or more")
        check(bool(self.aspects) and min(self.aspects) > 0, "aspects must be above 0")
        check(
            bool(self.reaches) and min(self.reaches) >= 0 and sum(self.reaches) < CONTEXT,
            f"reaches must be 0 or more, {CONTEXT - 1} in all at most",
        )
        check(0 <= self.fine <= 4, "fine must be from 0 to 4")
        known = all(3 <= n <= MAX_LENGTH for n in self.lengths)
        check(known, f"lengths must be from 3 to {MAX_LENGTH}")
        one = self.network == "ownership" or not self.lengths
        check(one, "the coordination network takes no lengths: its windows are of one")
        square = self.network == "ownership" or self.aspects == (1.0,)
        check(square, "the coordination network takes no aspects: its positions are of one size")
        check(bool(self.gaps) and min(self.gaps) >= 1, "gaps must be at least 1")
        for name in ("objects", "validation_objects"):
            counts = getattr(self, name)
            check(bool(counts), f"{name} must hold a number")
            check(all(1 <= n <= 5 for n in counts), f"{name} must be from 1 to 5")
        check(len(self.mask_drops) == 2, "mask_drops takes two steps")
        check(self.width % 4 == 0 and self.width > 0, "--width must be a multiple of 4")
        check(3 <= self.frames <= MAX_FRAMES, f"frames must be from 3 to {MAX_FRAMES}")
        check(0 <= self.hidden < self.frames, "hidden must be below frames")
        check(self.batch_size <= self.chunk, "batch_size must not be above chunk")

    @property
    def one_size(self) -> bool:
        return all(len(set(x)) <= 1 for x in (self.objects, self.aspects, self.lengths))


@dataclass(frozen=True)
class BlendRecipe(Schedule):
    """A run of the centrifuge on pairs of clips that are blended anew at every step."""

    network: Literal["centrifuge"] = "centrifuge"
    preset: Literal["mini", "wide", "paper"] = "mini"
    outputs: int | None = None  # n; None: the preset's
    corrector: bool | None = None  # whether a second predictor corrects; None: the preset's
    loss: Literal["structure", "paper"] = "structure"  # of `methods/centrifuge/losses.py`
    colour_weight: float = 0.5  # of the layers' mean colours in "structure"
    frames: int = 8  # frames a clip
    batch_size: int = 4  # blends a step
    steps: int = 5000
    lr: float = 1.5e-3
    warmup: int = 100
    pool: int = 150  # chunks held for replay; N clips make N^2 blends
    reuse: float = 20.0
    rendered: int = 2  # traced clips in each chunk; the others are procedural
    videos: Path | None = None  # folder of videos that most clips are cut from instead
    photos: Path | None = None  # folder of photographs that all clips are filmed from instead
    frozen: float = 0.0  # share of the clips that are one frame that stands still

    def __post_init__(self) -> None:
        super().__post_init__()
        check_words(self, "")
        check(self.videos is None or self.videos.is_dir(), f"--videos: no folder {self.videos}")
        check(self.photos is None or self.photos.is_dir(), f"--photos: no folder {self.photos}")
        check(
            self.photos is None or self.videos is None, "--photos and --videos exclude each other"
        )
        check(2 <= (self.outputs or 2) <= 16, "outputs must be from 2 to 16")
        check(4 <= self.frames <= 64, "frames must be from 4 to 64")
        check(0 <= self.colour_weight < float("inf"), "colour_weight must be 0 or more")
        check(0 <= self.rendered <= self.chunk, "rendered must be from 0 to chunk")
        check(0 <= self.frozen <= 1, "frozen must be from 0 to 1")


@dataclass(frozen=True)
class CutoutRecipe(Schedule):
    """A run of the matting network on single pictures."""

    network: Literal["matting"] = "matting"
    height: int = 128
    width_pixels: int = 128
    batch_size: int = 16  # cutouts a step
    steps: int = 20000
    lr: float = 3e-3
    weight_decay: float = 1e-3
    chunk: int = 64
    pool: int = 200
    reuse: float = 3.0
    sheets: int = 300  # pictures that grounds and bodies are cut from

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.height == self.width_pixels, "--size must be square for --network matting")
        check(self.height % 64 == 0, "--size must be a multiple of 64 for --network matting")
        check(self.textures is None, "the matting network's pictures take no textures")
        check(self.sheets >= 1, "sheets must be at least 1")


AnyRecipe = Recipe | BlendRecipe | CutoutRecipe
RECIPES: dict[str, type[AnyRecipe]] = {CENTRIFUGE: BlendRecipe, MATTING: CutoutRecipe}


def make_recipe(named: dict[str, Any], pairs: list[str]) -> AnyRecipe:
    """A recipe from named values and NAME=VALUE texts. Raises OptionError."""
    network = named.get("network", Recipe.network)
    check(network in NETWORKS, f"network must be {' or '.join(NETWORKS)}")
    return assigned(RECIPES.get(network, Recipe), [Assignment.parse(p) for p in pairs], fixed=named)

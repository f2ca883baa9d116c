"""All options and their defaults, with units. Defaults live here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from omnimatte_cli.errors import OptionError
from omnimatte_cli.segment.options import MaskSettings

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Detail = Literal["resolve", "transfer"]
Owner = Literal["layers", "network", "product"]
Bootstrap = Literal["mask", "ownership"]
Method = Literal["auto", "coordination", "ownership"]
Hiding = Literal["random", "prediction", "inpainting"]  # which frames of a window are hidden

GPU_ITERATIONS = 1000  # the paper's and the customer's
CPU_ITERATIONS = 500  # about 4 minutes for 2 objects on two cores with bfloat16, 7 without
GPU_WEIGHTS, CPU_WEIGHTS = "base", "small"
OWNER_WEIGHTS = "ownership"
GPU_WIDTH, CPU_WIDTH = 64, 16  # network width of a random start


@dataclass(frozen=True)
class FinetuneSettings:
    """Test-time training on one clip."""

    iterations: int  # optimiser steps; 0 uses the weights as they are
    batch_size: int = 4  # windows a step
    lr: float = 5e-4  # AdamW's learning rate
    gap: int = 1  # frames between the frames of a window
    hiding: Hiding = "random"  # which 3 of 5 frames are hidden
    mask_weight: float = 0.1  # lambda_m at the start
    mask_drops: tuple[float, float] = (0.1, 0.2)  # shares of the steps at which it falls to a tenth
    crop_chance: float = 0.8  # probability of a random crop
    crop: float = 0.1  # largest crop at each side, share of the picture
    seed: int = 0
    save_interval: float = 60.0  # seconds between two saved states (for resuming)


@dataclass(frozen=True)
class Settings:
    """Everything that `decompose` can be told; None means decided from device or input."""

    masks: Path | None = None  # folder of the user's masks; None: make them first
    making: MaskSettings = field(default_factory=MaskSettings)  # how masks are made
    order: str | None = None  # object names back to front, separated by commas
    background: Path | None = None  # a plate, plate video or folder that replaces the estimate
    method: Method = "auto"  # how layers are associated; auto: by device
    passes: int = 2  # estimates of the plate; the later ones leave out what objects own
    iterations: int | None = None  # finetuning steps; None: by device
    batch_size: int = FinetuneSettings.batch_size
    lr: float = FinetuneSettings.lr
    gap: int | None = None  # frames between the frames of a window; None: by method
    hiding: Hiding = FinetuneSettings.hiding
    seed: int = 0
    device: DeviceName = "auto"
    weights: str = "auto"  # a shipped name, a path, "none" (random start) or "auto"
    size: tuple[int, int] | None = None  # working (height, width), multiples of 16
    owner: Owner = "product"  # who says, after finetuning, whose each change is
    bootstrap: Bootstrap = "mask"  # what the mask loss of finetuning starts from
    detail: Detail = "resolve"  # how layers reach full size
    exact: bool = False  # also write the background with the rest that no layer owns
    overwrite: bool = False
    ffmpeg: Path | None = None  # the ffmpeg program; None: found

    def __post_init__(self) -> None:
        for name, kinds in (
            ("device", DeviceName),
            ("method", Method),
            ("owner", Owner),
            ("bootstrap", Bootstrap),
            ("detail", Detail),
            ("hiding", Hiding),
        ):
            value, known = getattr(self, name), get_args(kinds)
            check(value in known, f"--{name} takes {' or '.join(known)}, not {value!r}")
        check(self.iterations is None or self.iterations >= 0, "--iterations must be 0 or more")
        check(self.batch_size >= 1, "--batch-size must be at least 1")
        check(0 < self.lr <= 1, "--lr must be above 0 and at most 1")
        check(1 <= self.passes <= 5, "--passes must be from 1 to 5")
        check(self.gap is None or self.gap >= 1, "--gap must be at least 1")
        check(0 <= self.seed < 2**32, "--seed must be from 0 to 4294967295")
        for asked, option in (
            (self.detail == "transfer", "--detail transfer"),
            (self.iterations is not None, "--iterations"),
            (self.weights == "none", "--weights none"),
        ):
            check(
                not (self.method == "ownership" and asked), f"{option} is for --method coordination"
            )
        if self.size is not None:
            good = all(s >= 32 and s % 16 == 0 for s in self.size)
            check(good, "--size must be HxW with both sides multiples of 16, at least 32")


def check(good: bool, message: str) -> None:
    """Raise OptionError unless an option's value is good."""
    if not good:
        raise OptionError(message + ".")


def parse_size(text: str) -> tuple[int, int]:
    """ "128x224" to (128, 224)."""
    try:
        height, width = (int(s) for s in text.lower().split("x"))
    except ValueError:
        raise OptionError(f"--size takes HEIGHTxWIDTH, such as 128x224, not {text!r}.") from None
    return height, width


def working_size(video: tuple[int, int], area: int = 128 * 224, step: int = 16) -> tuple[int, int]:
    """Working (height, width) of a video: about `area` pixels, its aspect, multiples of `step`."""
    height, width = video
    scale = (area / (height * width)) ** 0.5
    best = (step * 2, step * 2)
    error = float("inf")
    # Among the multiples around the ideal, the pair that keeps aspect and area best.
    for h in _multiples(height * scale, step):
        for w in _multiples(width * scale, step):
            aspect = abs(h / w * width / height - 1)
            size = abs(h * w / area - 1)
            if aspect + 0.5 * size < error:
                best, error = (h, w), aspect + 0.5 * size
    return best


def _multiples(value: float, step: int) -> set[int]:
    low = int(value // step) * step
    return {max(2 * step, low), max(2 * step, low + step)}

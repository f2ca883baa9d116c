"""What the coordination method can be told with `--set`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from omnimatte_cli.methods.options import MethodOptions
from omnimatte_cli.options import check, check_words, option

Detail = Literal["resolve", "transfer", "none"]
Owner = Literal["layers", "network", "product"]
Bootstrap = Literal["mask", "ownership"]
Hiding = Literal["random", "prediction", "inpainting"]  # which frames of a window are hidden

GPU_ITERATIONS = 1000  # the paper's and the customer's
CPU_ITERATIONS = 200  # by `product` no more is gained after that (docs/training-log.md)
MOST_ITERATIONS = 1000  # where the loss says when to end
GPU_WEIGHTS, CPU_WEIGHTS = "base", "small"
GPU_WIDTH, CPU_WIDTH = 64, 16  # network width of a random start


@dataclass(frozen=True)
class Options(MethodOptions):
    """Test-time training on one clip, and what becomes of its result."""

    summary = "finetunes a layer network on the clip (the paper)"
    network = "coordination"
    automatic_on = ("gpu",)

    iterations: int | Literal["auto"] | None = option(
        None,
        f"finetuning steps; {GPU_ITERATIONS} on a GPU, {CPU_ITERATIONS} on a CPU; auto: until the "
        f"loss falls no more, at most {MOST_ITERATIONS}",
    )
    batch_size: int = option(4, "windows per step")
    lr: float = option(5e-4, "learning rate of AdamW")
    frame_stride: int = option(1, "frames from one frame of a window to the next")
    hiding: Hiding = option("random", "which 3 of 5 frames are hidden in training")
    owner: Owner = option(
        "product",
        "who says, after finetuning, whose each change is: the predicted layers, the ownership "
        "network, or both",
    )
    bootstrap: Bootstrap = option("mask", "what finetuning's mask loss starts from")
    detail: Detail = option("resolve", "how layers reach full size")
    mask_weight: float = option(0.1, "weight of the mask loss at the start")
    mask_drops: tuple[float, float] = option(
        (0.1, 0.2), "shares of the steps at which it falls to a tenth"
    )
    crop_chance: float = option(0.8, "probability of a random crop")
    crop: float = option(0.1, "largest crop at each side, share of the picture")
    save_interval: float = option(60.0, "seconds between two saved states, for resuming")

    @property
    def resolves(self) -> bool:
        return self.detail == "resolve"

    @property
    def idle(self) -> frozenset[str]:
        return super().idle if self.resolves else super().idle | {"owner"}

    def __post_init__(self) -> None:
        check_words(self, prefix="--set ")
        check(
            not isinstance(self.iterations, int) or self.iterations >= 0,
            "--iterations must be 0 or more",
        )
        check(self.batch_size >= 1, "batch_size must be at least 1")
        check(0 < self.lr <= 1, "lr must be above 0 and at most 1")
        check(self.frame_stride >= 1, "frame_stride must be at least 1")
        check(0 <= self.mask_weight <= 100, "mask_weight must be from 0 to 100")
        check(all(0 <= d <= 1 for d in self.mask_drops), "mask_drops must be from 0 to 1")
        check(0 <= self.crop_chance <= 1, "crop_chance must be from 0 to 1")
        check(0 <= self.crop < 0.5, "crop must be from 0 to below 0.5")
        check(self.save_interval >= 0, "save_interval must be 0 or more")

    @property
    def steps(self) -> int:
        """How many steps there are at most, once the device is known."""
        assert self.iterations is not None
        return MOST_ITERATIONS if self.iterations == "auto" else self.iterations

    @property
    def planned(self) -> int:
        """The steps of which `mask_drops` are shares: where the loss says when to end, a CPU's."""
        return CPU_ITERATIONS if self.iterations == "auto" else self.steps

    @property
    def uses_ownership(self) -> bool:
        """Whether finetuning or its result asks the ownership network."""
        if self.bootstrap == "ownership":
            return True
        return self.detail == "resolve" and self.owner != "layers"

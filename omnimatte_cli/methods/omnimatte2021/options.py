"""All options of the method and their defaults, with units. The published values are beside them.

Where paper and published code disagree the code's value stands, except where a comment says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from omnimatte_cli.errors import OptionError
from omnimatte_cli.methods.options import MethodOptions
from omnimatte_cli.options import option

Norm = Literal["instance", "batch"]

STRIDE = 32  # pixels a cell of the coarsest features: sides must be multiples of it
PUBLISHED_HEIGHT = 256  # pixels; lengths in pixels below are meant at this height


def _check(good: bool, message: str) -> None:
    """Raise OptionError unless an option's value is good."""
    if not good:
        raise OptionError(f"{message} (method omnimatte2021).")


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss terms (the lambdas of the paper, values of the published code)."""

    reconstruction: float = 1.0  # composite against frame, L1 in [-1, 1] units
    mask: float = 50.0  # alpha against the trimap at the start, before the schedule
    l1: float = 0.01  # mean coverage, until `l1_until`
    l0: float = 0.005  # smooth count of covered pixels
    flow: float = 1.0  # composite of the layers' flows against the estimated flow, in pixels
    alpha_warp: float = 0.005  # alpha of t against alpha of t + 1 seen along the layer's flow
    warped: float = 0.0  # frame t from layers of t + 1; 0 as published
    adjustment: float = 0.001  # camera offset (pixels) and |brightness - 1|


@dataclass(frozen=True)
class Options(MethodOptions):
    """The defaults suit two CPU cores; `PUBLISHED` holds the authors' values."""

    summary = "optimises a network on the one clip (Lu et al. 2021); slow, for comparison"
    needs = frozenset(["masks"])

    width: int = option(16, "channels of the first convolution; 64 published (10.5 M parameters)")
    norm: Norm = option(
        "instance", "as in the paper: results do not depend on the batch; code: batch"
    )
    size: tuple[int, int] | None = option(
        None, "(height, width), multiples of 32; None: near the clip's", shown=False
    )
    iterations: int = option(3000, "optimiser steps; 12 000 published")
    batch_size: int = option(
        1, "pairs (t, t + 1) a step, most gained a second on a CPU; 16 published"
    )
    lr: float = option(1e-3, "Adam's learning rate, constant")
    seed: int = option(1, "of weights, noise canvas, pairs and crops", shown=False)
    weights: LossWeights = field(default_factory=LossWeights, metadata={"shown": False})
    trimap_width: float = option(
        20.0, "pixels at 256 rows: band around a mask that is left unknown"
    )
    jitter_chance: float = option(0.75, "probability of a random zoom of a pair")
    jitter_zoom: float = option(1.25, "largest zoom; drawn between 1 and this")
    mask_threshold: float = option(
        0.02, "unweighted mask loss below which its weight falls to a tenth"
    )
    mask_hold: float = option(0.1, "share of the steps before which it does not fall")
    mask_deadline: float = option(0.25, "share of the steps at which it falls in any case")
    mask_off: float = option(2.0, "multiple of the step of the fall from which the outside is free")
    mask_keep: float = option(0.1, "share of the start's weight that then stays inside; code: 0")
    l1_until: float = option(0.5, "share of the steps after which the L1 sparsity ends")
    adjust_camera: bool = option(True, "learn an offset and a brightness a frame on coarse grids")
    save_interval: float = option(60.0, "seconds between two saved states (for resuming)")

    @property
    def resolves(self) -> bool:
        return False

    def __post_init__(self) -> None:
        known = get_args(Norm)
        _check(self.norm in known, f"norm must be {' or '.join(known)}, not {self.norm!r}")
        _check(self.width >= 2, "width must be at least 2")
        _check(self.iterations >= 1, "iterations must be at least 1")
        _check(self.batch_size >= 1, "batch_size must be at least 1")
        _check(0 < self.lr <= 1, "lr must be above 0 and at most 1")
        _check(0 <= self.seed < 2**32, "seed must be from 0 to 4294967295")
        _check(self.trimap_width >= 0, "trimap_width must be 0 or more")
        _check(0 <= self.jitter_chance <= 1, "jitter_chance must be from 0 to 1")
        _check(1 <= self.jitter_zoom <= 4, "jitter_zoom must be from 1 to 4")
        ordered = 0 <= self.mask_hold <= self.mask_deadline
        _check(ordered, "mask_hold must be 0 or more and at most mask_deadline")
        _check(self.mask_off >= 1, "mask_off must be at least 1")
        _check(0 <= self.mask_keep <= 1, "mask_keep must be from 0 to 1")
        if self.size is not None:
            good = all(side >= STRIDE and side % STRIDE == 0 for side in self.size)
            _check(good, f"size must be (height, width) in multiples of {STRIDE}")


PUBLISHED = Options(
    width=64,
    norm="batch",
    size=(256, 448),
    iterations=12_000,
    batch_size=16,
    mask_hold=0.0,
    mask_deadline=float("inf"),
    mask_keep=0.0,
    l1_until=1 / 12,  # 200 of the 2400 epochs of "tennis"
)

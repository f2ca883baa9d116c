"""What stage 2 of Generative Omnimatte can be told, with the published settings and ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from omnimatte_cli.options import check

Colour = Literal["network", "free", "closed"]  # where a layer's colours come from
Fit = Literal["auto", "closed", "base", "full"]  # how much is optimised
Drops = tuple[tuple[int, float], ...]  # from this step on, times this factor

BASE_AREA = 128 * 224  # pixels of the base optimisation


@dataclass(frozen=True)
class StageOptions:
    """One optimisation of one layer. Weights are those of the losses in `objective`."""

    steps: int
    frames: int = 16  # consecutive frames a step; clamped to the clip's
    width: int = 32  # channels of the network's first block
    norm: Literal["batch", "group"] = "batch"
    colour: Colour = "network"
    squash: bool = False  # sigmoid on the network's outputs; the public code has none
    lr: float = 5e-4  # of a network that gives colour and alpha, and of free colours
    lr_alpha: float = 1e-3  # of a network that gives alpha alone
    lr_drops: Drops = ()  # of both; free colours are never slowed down
    recon: float = 1.0
    recon_power: int = 2  # 1: absolute, 2: squared error
    l0: float = 0.075
    l0_drops: Drops = ()
    l1: float = 0.75
    l1_drops: Drops = ()
    sparsity_by_coverage: bool = True  # both times the mask's mean over the clip
    mask: float = 10.0
    mask_power: int = 2
    mask_drops: Drops = ()
    inside: float = 0.1  # mask loss inside the mask alone, once the whole one has weight 0
    smooth: float = 0.0  # total variation of alpha
    below: float = 0.0  # towards the enlarged alpha of a base optimisation

    def __post_init__(self) -> None:
        assert self.colour in get_args(Colour), self.colour
        assert self.steps >= 0 and self.frames >= 1, (self.steps, self.frames)

    def scaled(self, steps: int) -> StageOptions:
        """The same with another number of steps; all schedules are compressed with it."""
        factor = steps / self.steps

        def moved(drops: Drops) -> Drops:
            return tuple((round(at * factor), by) for at, by in drops)

        return replace(
            self,
            steps=steps,
            lr_drops=moved(self.lr_drops),
            l0_drops=moved(self.l0_drops),
            l1_drops=moved(self.l1_drops),
            mask_drops=moved(self.mask_drops),
        )


# The authors' public code, one optimisation at 384x672.
PUBLISHED_CODE = StageOptions(
    steps=6000, lr_drops=((500, 0.1), (1000, 0.1), (2000, 0.1)), mask_drops=((1000, 0.0),)
)
# The paper's two optimisations. How the mask's weight falls in the first is not published: halved
# five times here.
PAPER_BASE = StageOptions(
    steps=20_000,
    frames=20,
    colour="free",
    squash=True,
    lr=1e-2,
    l0=1.0,
    l1=10.0,
    sparsity_by_coverage=False,
    mask=20.0,
    mask_drops=tuple((at, 0.5) for at in (2000, 4000, 6000, 8000, 10_000)),
)
PAPER_UPSAMPLED = replace(
    PAPER_BASE,
    recon_power=1,
    l0=10.0,
    l1=100.0,
    mask=10.0,
    mask_drops=((2000, 0.0),),
    inside=0.0,
    below=20.0,
)
# Ours: the network gives alpha alone, colours follow in closed form, and a norm that is the same in
# training and prediction. A free colour moves by less than 1 in 6000 steps of the published rate.
BASE = StageOptions(
    steps=400,
    frames=4,
    width=16,
    norm="group",
    colour="closed",
    squash=True,
    lr_alpha=3e-3,
    lr_drops=((300, 0.3), (360, 0.3)),
    mask_drops=((40, 0.1), (80, 0.0)),
    inside=0.5,
)
FULL = replace(BASE, recon_power=1, below=20.0)


@dataclass(frozen=True)
class GenerativeOptions:
    """How layers are made from solo videos."""

    fit: Fit = "auto"  # closed: no optimisation; base: alpha at 128 px; full: then at full size
    steps: int | None = None  # of each optimisation; None: BASE's and FULL's
    seed: int = 0
    detail: bool = True  # copy the video's own pixels where a layer is opaque
    base: StageOptions = BASE
    full: StageOptions = FULL

    def __post_init__(self) -> None:
        check(
            self.fit in get_args(Fit), f"--fit takes {', '.join(get_args(Fit))}, not {self.fit!r}"
        )
        check(self.steps is None or self.steps >= 1, "--steps must be at least 1")
        check(0 <= self.seed < 2**32, "--seed must be from 0 to 4294967295")

    def stage(self, full: bool) -> StageOptions:
        """The options of the base or of the full-size optimisation."""
        stage = self.full if full else self.base
        return stage if self.steps is None else stage.scaled(self.steps)

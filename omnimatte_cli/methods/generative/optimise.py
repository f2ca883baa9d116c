"""Optimise one object's layer so that over the plate it gives the solo video.

Two optimisations, as in the paper: one at about 128 pixels, then one at full size whose alpha is
held to the enlarged alpha of the first except on its edges ("bootstrapping", supplement D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.device import BatchSize
from omnimatte_cli.interrupt import held_interrupts
from omnimatte_cli.methods.generative.network import FreeColours, SoloUNet
from omnimatte_cli.methods.generative.objective import Terms, edge_band, layer_losses, scheduled
from omnimatte_cli.methods.generative.options import StageOptions
from omnimatte_cli.methods.guard import Guard
from omnimatte_cli.methods.state import Parts, SaveClock, load_state, save_state
from omnimatte_cli.progress import Progress, Silent

BETAS = (0.9, 0.99)  # AdamW's
WEIGHT_DECAY = 0.01
GREY = 0.5  # colour outside the mask that free colours start from
CLOSED_RIDGE = 1e-3  # keeps closed-form colours near the plate's where alpha is almost 0
START_ALPHA = 0.05  # of a squashed network: small, yet large enough for its gradient to pass
SAVE_INTERVAL = 60.0  # seconds between two saved states


@dataclass(frozen=True)
class SoloClip:
    """What one layer is optimised on, all in [0, 1], on one device.

    solo: (T, 3, H, W). plate: (1 or T, 3, H, W). mask: (T, 1, H, W), of the object's body, eroded.
    """

    solo: Tensor
    plate: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        t, _, h, w = self.solo.shape
        assert self.plate.shape in ((1, 3, h, w), (t, 3, h, w)), self.plate.shape
        assert self.mask.shape == (t, 1, h, w), self.mask.shape

    def __len__(self) -> int:
        return len(self.solo)

    def plates(self, frames: slice) -> Tensor:
        """The plate of some frames, (B, 3, H, W)."""
        if len(self.plate) > 1:
            return self.plate[frames]
        return self.plate.expand(len(range(*frames.indices(len(self)))), -1, -1, -1)

    @property
    def coverage(self) -> float:
        """Mean of the mask over the clip."""
        return float(self.mask.mean())


@dataclass(frozen=True)
class Layer:
    """One object's layer over a clip: straight rgb (T, 3, H, W) and alpha (T, 1, H, W)."""

    rgb: Tensor
    alpha: Tensor
    losses: dict[str, float]


class LayerModel(nn.Module):
    """The variables of one layer: a network, and free colours if the options ask for them."""

    def __init__(self, clip: SoloClip, stage: StageOptions, start: Tensor | None = None) -> None:
        """start: (T, 3, H, W), colours that free ones start from; None: the solo's in the mask."""
        super().__init__()
        self.stage = stage
        outputs = 4 if stage.colour == "network" else 1
        self.network = SoloUNet(outputs, stage.width, stage.norm)
        self.colours: FreeColours | None = None
        if stage.colour != "network":
            if stage.norm == "batch":
                self.network.start_small()
            elif stage.squash:
                first = torch.tensor(START_ALPHA).logit()
                bias = self.network.out_conv.conv.bias
                assert bias is not None
                nn.init.constant_(bias, float(first))
        if stage.colour == "free":
            if start is None:
                start = clip.mask * clip.solo + (1 - clip.mask) * GREY
            self.colours = FreeColours(start)

    def forward(self, clip: SoloClip, frames: slice) -> tuple[Tensor, Tensor]:
        """Colour (B, 3, H, W) and alpha (B, 1, H, W) of consecutive frames."""
        solo, plate = clip.solo[frames], clip.plates(frames)
        out = self.network(solo, plate)
        out = out.sigmoid() if self.stage.squash else out
        if self.stage.colour == "network":
            return out[:, :3], out[:, 3:]
        if self.colours is not None:
            return self.colours(frames), out
        return closed_colour(solo, plate, out), out

    def groups(self) -> list[dict[str, object]]:
        """Parameter groups with their learning rates: the network's, then the free colours'."""
        lr = self.stage.lr if self.stage.colour == "network" else self.stage.lr_alpha
        groups: list[dict[str, object]] = [{"params": self.network.parameters(), "lr": lr}]
        if self.colours is not None:
            groups.append({"params": self.colours.parameters(), "lr": self.stage.lr})
        return groups


def closed_colour(solo: Tensor, plate: Tensor, alpha: Tensor) -> Tensor:
    """The colours with which a layer of this alpha gives the solo video, as nearly as [0, 1] lets.

    Least squares of alpha * (colour - plate) = solo - plate with a weak pull to the plate's colour.
    """
    return (plate + (solo - plate) * alpha / (alpha.square() + CLOSED_RIDGE)).clamp(0, 1)


class Optimisation:
    """One layer's model with its optimiser; a step at a time."""

    def __init__(
        self,
        clip: SoloClip,
        stage: StageOptions,
        lower: Tensor | None = None,
        edge_radius: int = 1,
        start: Tensor | None = None,
    ) -> None:
        """lower: (T, 1, H, W), the enlarged alpha of a base optimisation. edge_radius: pixels."""
        self.clip, self.stage = clip, stage
        self.model = LayerModel(clip, stage, start).to(clip.solo.device)
        self.optimiser = torch.optim.AdamW(
            self.model.groups(), lr=stage.lr, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        self.rate = 1.0  # of the rates that the stage asks for
        self.lower = lower
        self.edges = None if lower is None else edge_band(lower, edge_radius)
        self.coverage = clip.coverage

    def losses(self, step: int, count: int, seed: int) -> dict[str, float]:
        """One step on `count` frames drawn for it: its losses by name."""
        rng = np.random.default_rng((seed, step))
        terms, _, _ = self.step(step, window_start(rng, len(self.clip), count), count)
        names = {"total": terms.total, "recon": terms.recon, "l1": terms.l1}
        return {name: float(x.detach()) for name, x in names.items()}

    def step(self, step: int, begin: int, count: int | None = None) -> tuple[Terms, Tensor, Tensor]:
        """One step on the frames from `begin` on. Returns losses, colour and alpha before it.

        count: frames; None: as many as the stage asks for.
        """
        stage = self.stage
        # The first group is the network's; free colours are never slowed down.
        base = stage.lr if stage.colour == "network" else stage.lr_alpha
        self.optimiser.param_groups[0]["lr"] = scheduled(base * self.rate, stage.lr_drops, step)
        frames = slice(begin, begin + min(count or stage.frames, len(self.clip)))
        self.model.train()
        rgb, alpha = self.model(self.clip, frames)
        lower = None
        if self.lower is not None and self.edges is not None:
            lower = self.lower[frames], self.edges[frames]
        terms = layer_losses(
            rgb,
            alpha,
            self.clip.solo[frames],
            self.clip.plates(frames),
            self.clip.mask[frames],
            self.coverage,
            stage,
            step,
            lower,
        )
        self.optimiser.zero_grad(set_to_none=True)
        terms.total.backward()
        self.optimiser.step()
        return terms, rgb.detach(), alpha.detach()

    @torch.no_grad()
    def predict(self) -> tuple[Tensor, Tensor]:
        """Colour (T, 3, H, W) and alpha (T, 1, H, W) of every frame, with running statistics."""
        self.model.eval()
        size = self.stage.frames
        parts = [self.model(self.clip, slice(i, i + size)) for i in range(0, len(self.clip), size)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def window_start(rng: np.random.Generator, length: int, frames: int) -> int:
    """First frame of a window. The ends of a clip are drawn often, or they would rarely be seen.

    Clips shorter than a window are taken whole.
    """
    frames = min(frames, length)
    return int(np.clip(rng.integers(-frames, length), 0, length - frames))


def optimise(
    clip: SoloClip,
    stage: StageOptions,
    seed: int,
    progress: Progress | None = None,
    state: Path | None = None,
    key: str = "",
    lower: Tensor | None = None,
    edge_radius: int = 1,
    start: Tensor | None = None,
) -> Layer:
    """Fit one layer to a solo video over its plate.

    state: a file that the optimisation is saved to now and then and resumed from, if it was saved
    for the same `key` (which should name input and options). Every step draws from its own seed, so
    a resumed run ends with the numbers of one that was never interrupted.
    """
    progress = progress or Silent()
    torch.manual_seed(seed)
    work = Optimisation(clip, stage, lower, edge_radius, start)
    parts: Parts = {"model": work.model, "optimiser": work.optimiser}
    device = clip.solo.device
    first = load_state(state, key, parts, lambda saved: int(saved["done"]), device, progress) or 0
    if first:
        progress.say(f"Resuming the optimisation at step {first}.")
    clock, done = SaveClock(SAVE_INTERVAL), first
    batch = BatchSize(stage.frames, "frames", progress)
    guard = Guard(work.model, work.optimiser, progress)
    losses: dict[str, float] = {}
    with held_interrupts() as interrupt:
        while done < stage.steps:
            guard.keep(done)
            losses = batch.fit(lambda frames, step=done: work.losses(step, frames, seed))  # type: ignore[misc]
            if (
                start_again := guard.back(done, losses.values(), done + 1 == stage.steps)
            ) is not None:
                done, work.rate = start_again, guard.rate
                continue
            done += 1
            progress.step(done, f"loss {losses['total']:.4f}")
            # A second interrupt ends the step where it is, and then nothing is saved: half of the
            # weights may have moved.
            if state is not None and (interrupt.asked or clock.due()) and guard.sound():
                with clock.saving():
                    save_state(state, key, parts, done=done)
                if interrupt.asked:
                    progress.say(f"Optimisation saved at step {done}; the same command resumes it.")
            if interrupt.asked:
                raise KeyboardInterrupt
    rgb, alpha = work.predict()
    return Layer(rgb, alpha, losses)


def enlarge(x: Tensor, size: Sequence[int]) -> Tensor:
    """(T, C, h, w) to (T, C, H, W), bilinear."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def bootstrap(
    base: Layer,
    clip: SoloClip,
    stage: StageOptions,
    seed: int,
    progress: Progress | None = None,
    state: Path | None = None,
    key: str = "",
) -> Layer:
    """Optimise at full size what was optimised at base size.

    Holds the whole clip at full size, with free colours four times over: for a GPU.
    """
    size = clip.solo.shape[-2:]
    lower, colours = enlarge(base.alpha, size), enlarge(base.rgb, size)
    radius = max(1, round(size[0] / base.alpha.shape[-2]))  # one pixel of the base size
    return optimise(clip, stage, seed, progress, state, key, lower, radius, colours)

"""The optimisation of Omnimatte 2021: a network learns one clip, and the clip's layers with it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.device import BatchSize, autocast
from omnimatte_cli.interrupt import held_interrupts
from omnimatte_cli.methods.guard import Guard
from omnimatte_cli.methods.omnimatte2021.inputs import ClipInputs, Zoom
from omnimatte_cli.methods.omnimatte2021.losses import TERMS, Schedule, loss_terms, total
from omnimatte_cli.methods.omnimatte2021.network import (
    CameraAdjustment,
    LayerUNet,
    Omnimatte,
    brighten,
)
from omnimatte_cli.methods.omnimatte2021.options import Options
from omnimatte_cli.methods.state import Parts, SaveClock, load_state, save_state
from omnimatte_cli.progress import Progress

LOSS_SPAN = 20  # steps that the reported final losses are averaged over


@dataclass
class Run:
    """How far an optimisation is. history: unweighted terms (TERMS), total last, latest steps."""

    done: int
    history: list[list[float]]
    schedule: Schedule

    def facts(self) -> dict[str, Any]:
        """What is saved of it."""
        return {"done": self.done, "history": self.history, "fall": self.schedule.fall}

    @property
    def losses(self) -> dict[str, float]:
        """Means over the latest steps; `mask` is the mask term as a whole."""
        means = dict(zip((*TERMS, "total"), np.mean(self.history, axis=0).tolist(), strict=True))
        return {**means, "mask": means["mask_in"] + means["mask_out"]}


def new_network(frames: int, options: Options, device: torch.device) -> Omnimatte:
    """A random network for a clip of `frames`, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        unet = LayerUNet(options.width, options.norm)
    adjustment = CameraAdjustment(frames) if options.adjust_camera else None
    return Omnimatte(unet, adjustment).to(device)


def optimise(
    net: Omnimatte,
    clip: ClipInputs,
    options: Options,
    progress: Progress,
    state: Path | None = None,
    key: str = "",
) -> Run:
    """Train `net` in place on one clip.

    state: a file that the run is saved to now and then and resumed from, if it was saved for the
    same `key` (which should name input and options). Every step draws from its own seed, so that a
    resumed run ends with the same numbers as one that was never interrupted.
    """
    net.train()
    optimiser = torch.optim.Adam(net.parameters(), lr=options.lr)
    parts: Parts = {"net": net, "optimiser": optimiser}
    device = next(net.parameters()).device
    saved = load_state(state, key, parts, lambda s: saved_run(s, options), device, progress)
    run = saved or Run(0, [], Schedule(options))
    if run.done:
        progress.say(f"Resuming the optimisation at step {run.done}.")
    clock = SaveClock(options.save_interval)
    batch, guard = BatchSize(options.batch_size, "pairs", progress), Guard(net, optimiser, progress)
    with held_interrupts() as interrupt, _sampling_gradients(clip.frames.device):
        while run.done < options.iterations:
            iteration = run.done
            guard.keep(iteration)
            terms = batch.fit(
                lambda size, i=iteration: step(  # type: ignore[misc]
                    net, optimiser, clip, replace(options, batch_size=size), run, i
                )
            )
            if (
                start := guard.back(iteration, terms, iteration + 1 == options.iterations)
            ) is not None:
                run.done = start
                continue
            run.history = [*run.history[-(LOSS_SPAN - 1) :], terms]
            run.done = iteration + 1
            progress.step(run.done, f"loss {terms[-1]:.4f}")
            # A second interrupt ends the step where it is, and then nothing is saved: half of the
            # weights may have moved.
            if state is not None and (interrupt.asked or clock.due()) and guard.sound():
                with clock.saving():
                    save_state(state, key, parts, **run.facts())
                if interrupt.asked:
                    progress.say(
                        f"Optimisation saved at step {run.done}; the same command resumes it."
                    )
            if interrupt.asked:
                raise KeyboardInterrupt
    return run


def step(
    net: Omnimatte,
    optimiser: torch.optim.Optimizer,
    clip: ClipInputs,
    options: Options,
    run: Run,
    iteration: int,
) -> list[float]:
    """One optimiser step. Returns the unweighted terms in the order of TERMS, and the total."""
    rng = np.random.default_rng((options.seed, iteration))
    pairs, targets = clip.pairs(*draw_pairs(rng, len(clip), clip.size, options))
    with autocast(clip.frames.device):
        rendered = net(pairs)
    terms = loss_terms(rendered, targets)
    if run.history:
        last = dict(zip(TERMS, run.history[-1][:-1], strict=True))
        run.schedule.update(iteration, last["mask_in"] + last["mask_out"])
    loss = total(terms, run.schedule.weights(iteration))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return torch.stack([*terms.values(), loss]).detach().tolist()


def draw_pairs(
    rng: np.random.Generator, frames: int, size: tuple[int, int], options: Options
) -> tuple[list[int], list[Zoom | None]]:
    """First frames of random pairs, none twice while there are enough, and how each is zoomed."""
    count = frames - 1
    rounds = math.ceil(options.batch_size / count)
    first = np.concatenate([rng.permutation(count) for _ in range(rounds)])[: options.batch_size]
    zooms = [draw_zoom(rng, size, options) for _ in first]
    return first.tolist(), zooms


def draw_zoom(rng: np.random.Generator, size: tuple[int, int], options: Options) -> Zoom | None:
    """A random enlargement and cut of a frame of `size`; None: the frame as it is."""
    chance, scale, top, left = rng.random(4)
    if chance >= options.jitter_chance:
        return None
    factor = 1 + scale * (options.jitter_zoom - 1)
    height, width = (int(side * factor) for side in size)
    return Zoom(height, width, int(top * (height - size[0] + 1)), int(left * (width - size[1] + 1)))


@dataclass(frozen=True)
class Layers:
    """The layers of a clip at the optimisation's size.

    layers: (N, T, H, W, 4) float16 straight RGBA in [0, 1]. plates: (T, H, W, 3) float16 in
    [0, 1], what the clip's own canvas shows behind them. psnr: of layers over plates against the
    frames, dB.
    """

    layers: np.ndarray
    plates: np.ndarray
    psnr: float


@torch.no_grad()
def predict_layers(net: Omnimatte, clip: ClipInputs, progress: Progress) -> Layers:
    """Every frame's layers, in full precision.

    The brightness that the network learned is in the colours of layers and plates. With batch norm
    the statistics are those of each pair (t, t + 1), of which t is kept, as published.
    """
    net.train()  # batch norm on the batch's own statistics; instance norm knows no difference
    n, t, (height, width) = len(clip.masks), len(clip), clip.size
    layers = np.empty((n, t, height, width, 4), np.float16)
    plates = np.empty((t, height, width, 3), np.float16)
    error = np.empty(t)
    firsts = range(t - 1) if net.unet.norm == "batch" else sorted({*range(0, t - 1, 2), t - 2})
    for first in firsts:
        pairs, targets = clip.pairs([first], [None])
        rendered = net(pairs)
        rgba, plate = rendered.layers[0], rendered.plate[0, :, :3]
        if rendered.brightness is not None:
            light = rendered.brightness[0]
            colour, plate = brighten(rgba[:, :, :3], light[:, None]), brighten(plate, light)
            rgba = torch.cat([colour, rgba[:, :, 3:]], 2)
        off = (rendered.composite[0, :, :3] - targets.frames[0]) / 2
        # The next pair overwrites the second frame where it begins with it.
        layers[:, first : first + 2] = np.moveaxis(_host(rgba), 1, 0)
        plates[first : first + 2] = _host(plate)
        error[first : first + 2] = off.square().mean((1, 2, 3)).cpu().numpy()
        progress.step(first + 2)
    mean = float(error.mean())
    return Layers(layers, plates, min(-10 * math.log10(mean), 100.0) if mean else 100.0)


def _host(x: Tensor) -> np.ndarray:
    """(..., C, H, W) in [-1, 1] to (..., H, W, C) float16 in [0, 1]."""
    return ((x + 1) / 2).movedim(-3, -1).half().cpu().numpy()


def saved_run(state: dict[str, Any], options: Options) -> Run:
    """How far a saved run had come. Raises ValueError."""
    done, history = int(state["done"]), [list(map(float, row)) for row in state["history"]]
    if not done > 0 or any(len(row) != len(TERMS) + 1 for row in history):
        raise ValueError("counts that cannot be")
    return Run(done, history, Schedule(options, state["fall"]))


@contextmanager
def _sampling_gradients(device: torch.device) -> Iterator[None]:
    """Allow the gradient of bilinear sampling, which has no deterministic form on CUDA.

    So on a GPU two runs may differ in the last digits; on a CPU they are the same.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type == "cuda":
        torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)

"""Test-time training: the network learns one clip's own layers (paper, sections 3.4 and 5.5)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.device import BatchSize, autocast, sent
from omnimatte_cli.interrupt import held_interrupts
from omnimatte_cli.matte.over import in_order, over
from omnimatte_cli.methods.coordination.losses import (
    SPARSITY_WEIGHT,
    mask_bootstrap,
    object_weight,
    reconstruction,
    sparsity,
)
from omnimatte_cli.methods.coordination.network import LayerNet, hidden_frames
from omnimatte_cli.methods.coordination.options import Options
from omnimatte_cli.methods.coordination.windows import draw_hidden, training_starts, training_window
from omnimatte_cli.methods.guard import Guard
from omnimatte_cli.methods.state import Parts, SaveClock, load_state, save_state
from omnimatte_cli.progress import Progress
from omnimatte_cli.tensors import ClipTensors

log = logging.getLogger(__name__)

READ_EVERY = 10  # iterations between two looks at the loss: each waits for the device
LOSS_SPAN = 20  # iterations that the reported final losses are averaged over
SETTLED_SPAN = 100  # iterations over which the loss must fall, for `iterations=auto` to go on,
SETTLED_FALL = 0.01  # by this share at least


@dataclass(frozen=True)
class Losses:
    """Loss terms before their weights, as floats."""

    reconstruction: float
    l1: float
    l0: float
    mask: float
    total: float


@dataclass(frozen=True)
class Trained:
    """losses: means over the last iterations. iterations: how many were done, in all runs."""

    losses: Losses
    iterations: int


def finetune(
    net: LayerNet,
    clip: ClipTensors,
    options: Options,
    seed: int,
    progress: Progress,
    state: Path | None = None,
    key: str = "",
) -> Trained | None:
    """Train `net` in place on one clip; None without any iteration.

    state: a file that the training is saved to now and then and resumed from, if it was saved for
    the same `key` (which should name input and options). Every iteration draws from its own seed,
    so a resumed run ends with the same numbers as one that was never interrupted.
    """
    if not options.steps:
        return None
    kept = 2 * SETTLED_SPAN if options.iterations == "auto" else LOSS_SPAN
    net.train()
    optimiser = make_optimiser(net, options)
    parts: Parts = {"net": net, "optimiser": optimiser}
    device = next(net.parameters()).device
    first, read = load_state(state, key, parts, saved_steps, device, progress) or (0, [])
    if first:
        progress.say(f"Resuming the finetuning at iteration {first}.")
    clock = SaveClock(options.save_interval)
    history = [torch.tensor(terms) for terms in read]
    note = ""
    batch = BatchSize(options.batch_size, "windows", progress)
    guard = Guard(net, optimiser, progress)
    with held_interrupts() as interrupt:
        iteration = first
        while iteration < options.steps:
            if options.iterations == "auto" and iteration % READ_EVERY == 0 and settled(history):
                progress.say(f"The loss falls no more: finetuning ended after {iteration} steps.")
                break
            guard.keep(iteration)
            terms = batch.fit(
                lambda size, i=iteration: step(  # type: ignore[misc]
                    net, optimiser, clip, replace(options, batch_size=size), seed, i
                )
            )
            last = iteration + 1 == options.steps
            # Asking waits for the device. A loss that is no number leaves weights that are none.
            if last or (iteration + 1) % READ_EVERY == 0:
                start = guard.back(iteration, terms.tolist(), last)
                if start is not None:
                    iteration, history = start, []
                    continue
            history = [*history[-(kept - 1) :], terms]
            done = iteration = iteration + 1
            if done % READ_EVERY == 0 or done == first + 1:
                note = f"loss {float(terms[-1]):.4f}"
            progress.step(done, note)
            # A second interrupt ends the step where it is, and then nothing is saved: half of the
            # weights may have moved.
            if state is not None and (interrupt.asked or clock.due()) and guard.sound():
                with clock.saving():
                    save_state(state, key, parts, done=done, history=[x.tolist() for x in history])
                if interrupt.asked:
                    progress.say(
                        f"Finetuning saved at iteration {done}; the same command resumes it."
                    )
            if interrupt.asked:
                raise KeyboardInterrupt
    net.eval()
    last_losses = [x.tolist() for x in history[-LOSS_SPAN:]]
    return Trained(Losses(*np.mean(last_losses, axis=0).tolist()), iteration)


def settled(history: Sequence[Tensor]) -> bool:
    """Whether the loss, without that of the masks, whose weight falls, does so no more.

    history: (5,) each, the terms of the last iterations, in order.
    """
    if len(history) < 2 * SETTLED_SPAN:
        return False
    terms = torch.stack(list(history[-2 * SETTLED_SPAN :])).cpu()
    loss = terms[:, 0] + SPARSITY_WEIGHT * (terms[:, 1] + terms[:, 2])
    before, after = loss.view(2, SETTLED_SPAN).mean(1).tolist()
    return after > (1 - SETTLED_FALL) * before


def make_optimiser(net: LayerNet, options: Options) -> torch.optim.Optimizer:
    """AdamW over all weights; on a GPU as one kernel."""
    fused = next(net.parameters()).device.type == "cuda"
    return torch.optim.AdamW(net.parameters(), lr=options.lr, fused=fused)


def step(
    net: LayerNet,
    optimiser: torch.optim.Optimizer,
    clip: ClipTensors,
    options: Options,
    seed: int,
    iteration: int,
) -> Tensor:
    """One optimiser step. Returns reconstruction, l1, l0, mask and total loss, (5,), on the device.

    Nothing here waits for the device: it may still be computing when the next step is prepared.
    """
    rng = np.random.default_rng((seed, iteration))
    torch.manual_seed(int(rng.integers(2**63)))  # for dropout
    index, hidden = draw_windows(rng, len(clip), options)
    device = clip.frames.device
    index = sent(index, device)
    frames, masks, plates, order = clip.windows(index)
    crop = random_crop(rng, frames.shape, options, device)
    start = None if clip.bootstrap is None else crop(clip.starts(index), "bilinear")
    frames, masks, plates = crop(frames), crop(masks, "nearest"), crop(plates)
    with autocast(device):
        terms = window_losses(net, frames, masks, plates, order, hidden, start)
    weights = mask_weight(options, iteration)
    recon, l1, l0, mask = terms
    loss = recon + SPARSITY_WEIGHT * (l1 + l0) + weights * mask
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return torch.stack([recon, l1, l0, mask, loss]).detach()


def draw_windows(rng: np.random.Generator, length: int, options: Options) -> tuple[Tensor, Tensor]:
    """Random windows: frame indices (B, T) int64 and which are hidden (B, T) bool."""
    starts = rng.integers(training_starts(length, options.frame_stride), size=options.batch_size)
    index = np.array([training_window(int(s), length, options.frame_stride) for s in starts])
    hidden = np.stack([draw_hidden(options.hiding, rng) for _ in starts])
    return torch.from_numpy(index), torch.from_numpy(hidden)


def random_crop(
    rng: np.random.Generator, shape: torch.Size, options: Options, device: torch.device
) -> Callable[..., Tensor]:
    """Draw a random part of each window's picture, the same in all its frames.

    shape: (B, T, 3, H, W). Returns a function that zooms into these parts: it takes a tensor
    (B, ..., C, H, W) and how to sample it, "bilinear" or "nearest".
    """
    b, _, _, h, w = shape
    cut = rng.random((b, 4)) * options.crop * (rng.random((b, 1)) < options.crop_chance)
    left, right, top, bottom = cut.T
    theta = np.zeros((b, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 0, 2] = 1 - left - right, left - right
    theta[:, 1, 1], theta[:, 1, 2] = 1 - top - bottom, top - bottom
    grid = F.affine_grid(sent(torch.from_numpy(theta), device), [b, 1, h, w], align_corners=False)

    def crop(x: Tensor, mode: str = "bilinear") -> Tensor:
        flat = F.grid_sample(x.flatten(1, -3), grid, mode, "border", align_corners=False)
        return flat.view_as(x)

    return crop


def window_losses(
    net: LayerNet,
    frames: Tensor,
    masks: Tensor,
    plates: Tensor,
    order: Tensor,
    hidden: Tensor,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reconstruction, l1, l0 and mask loss of a batch of windows, in float32.

    frames, plates (B, T, 3, H, W); masks (B, N, T, 1, H, W); order (B, T, N); hidden (B, T) bool.
    start: (B, N, T, 1, H, W), the alpha that the mask loss pulls to in place of the masks.
    """
    total = frames.shape[1]
    k = sent(hidden_frames(hidden), frames.device)  # (B, K)
    rgba = net(frames, masks, hidden).float()
    rows = torch.arange(len(k), device=k.device)[:, None]
    target, plate, order = frames[rows, k], plates[rows, k], order[rows, k]

    def sorted_hidden(x: Tensor) -> Tensor:
        return in_order(x.transpose(1, 2)[rows, k].transpose(1, 2), order)

    start = sorted_hidden(masks if start is None else start)
    rgba, masks = in_order(rgba, order), sorted_hidden(masks)
    alpha = rgba[:, :, :, 3:]
    composite = over(rgba, plate)
    recon = reconstruction(composite, target, object_weight(masks))
    l1, l0 = sparsity(alpha, masks, total)
    return recon, l1, l0, mask_bootstrap(alpha, start, total)


def mask_weight(options: Options, iteration: int) -> float:
    """lambda_m at an iteration: falls to a tenth at each of `mask_drops`."""
    drops = sum(iteration >= share * options.planned for share in options.mask_drops)
    return options.mask_weight * 0.1**drops


def saved_steps(state: dict[str, Any]) -> tuple[int, list[list[float]]]:
    """Iterations done and the history of losses in a saved state. Raises ValueError."""
    done, history = int(state["done"]), [list(map(float, row)) for row in state["history"]]
    if not done > 0 or any(len(row) != len(fields(Losses)) for row in history):
        raise ValueError("counts that cannot be")
    return done, history

"""The pretraining loop: draw clips, step, average, log, validate, save, resume."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from omnimatte_cli.device import autocast
from omnimatte_cli.errors import OptionError, OutputError
from omnimatte_cli.interrupt import held_interrupts
from omnimatte_cli.matte.matting_network import MattingNet, channels_last
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.lock import working_in
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.centrifuge.network import Centrifuge
from omnimatte_cli.methods.coordination.network import Block, LayerNet
from omnimatte_cli.progress import Progress
from omnimatte_cli.training.blends import (
    ClipPool,
    blend_loss,
    blend_pool,
    shape_of,
    validate_blends,
)
from omnimatte_cli.training.cutouts import CutoutPool, matting_loss, validate_cutouts
from omnimatte_cli.training.kept import (
    LOG,
    SHEET,
    WEIGHTS,
    KeptRun,
    append_line,
    averaged,
    check_ours,
    check_sound,
    cut_log,
    rounded,
)
from omnimatte_cli.training.machine import Machine
from omnimatte_cli.training.objectives import Terms, coordination_loss, ownership_loss
from omnimatte_cli.training.photos import PhotoPool
from omnimatte_cli.training.pool import Pool
from omnimatte_cli.training.recipe import (
    CENTRIFUGE,
    MATTING,
    AnyRecipe,
    BlendRecipe,
    CutoutRecipe,
    Recipe,
    Schedule,
)
from omnimatte_cli.training.validation import validate
from omnimatte_cli.training.widen import deepen, widen

LOG_STEPS = 50  # steps that a line of the log averages over
TIED_POSITION_STD = 0.9  # of positions that are tied at the start
TIED_SHARPNESS = 2.0  # gain of the tied projections: how sharply a token finds its own place


@dataclass(frozen=True)
class Task:
    """What is trained: its loss of a batch, where batches come from, its scores."""

    loss: Callable[..., tuple[Tensor, Terms]]
    pool: Callable[..., Pool | ClipPool | PhotoPool | CutoutPool]
    validate: Callable[..., dict[str, float]]


TASKS = {
    "ownership": Task(ownership_loss, Pool, validate),
    "coordination": Task(coordination_loss, Pool, validate),
    CENTRIFUGE: Task(blend_loss, blend_pool, validate_blends),
    MATTING: Task(matting_loss, CutoutPool, validate_cutouts),
}


def new_network(recipe: AnyRecipe) -> nn.Module:
    """A network with random weights, the same for the same seed."""
    torch.manual_seed(recipe.seed)
    if isinstance(recipe, BlendRecipe):
        return Centrifuge(shape_of(recipe))
    if isinstance(recipe, CutoutRecipe):
        return channels_last(MattingNet())
    if recipe.network == "ownership":
        return OwnerNet(recipe.reaches, recipe.fine, recipe.motion)
    net = LayerNet(recipe.width, (recipe.height // 16, recipe.width_pixels // 16))
    if recipe.tie:
        tie_start(net)
    return net


@torch.no_grad()
def tie_start(net: LayerNet) -> None:
    """Let queries look where they are and take what they see there.

    With positions of standard deviation 0.02 the attention starts flat and stays so for thousands
    of steps. Started with equal, larger positions and equal orthogonal projections, a mask's token
    finds the picture's token at its own place at once; values pass through unchanged.
    """
    for table in ("x", "y", "t"):
        query, key = getattr(net.query_positions, table), getattr(net.key_positions, table)
        query.normal_(std=TIED_POSITION_STD)
        key.copy_(query)
    for block in net.blocks:
        assert isinstance(block, Block)
        attention = block.cross_attention
        nn.init.orthogonal_(attention.query.weight, TIED_SHARPNESS)
        attention.key.weight.copy_(attention.query.weight)
        nn.init.orthogonal_(attention.value.weight)
        attention.out.weight.copy_(attention.value.weight.t())
        for part in (attention.query, attention.key, attention.value, attention.out):
            part.bias.zero_()


def share_done(recipe: Schedule, step: int, seconds: float) -> float:
    """How much of a run is done, from 0 to 1: by its steps, or by the clock where it is given so
    long. seconds: spent on it, earlier parts included."""
    if recipe.lasting is not None:
        return min(1.0, seconds / (60 * recipe.lasting))
    return min(1.0, step / recipe.steps)


def learning_rate(recipe: Schedule, step: int, done: float) -> float:
    """Linear warm-up over steps, then a cosine to `final_lr` of the rate; done: `share_done`."""
    rise = min(1.0, (step + 1) / max(1, recipe.warmup))
    fall = recipe.final_lr + (1 - recipe.final_lr) * 0.5 * (1 + math.cos(math.pi * done))
    return recipe.lr * rise * fall


@torch.no_grad()
def average(ema: dict[str, Tensor], net: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the network's; faster in the first steps."""
    decay = min(decay, (1 + step) / (10 + step))
    now = net.state_dict()
    torch._foreach_lerp_([ema[key] for key in now], list(now.values()), 1 - decay)


def pretrain(
    recipe: AnyRecipe,
    out: Path,
    device: torch.device,
    progress: Progress,
    start_from: Path | None = None,
    stop_after: float | None = None,
) -> Path:
    """Train a network and write its averaged weights to `out`/weights.safetensors.

    out: folder that the run keeps its state, log and sheets in; a run that is there is resumed.
    start_from: weights to begin with. stop_after: seconds after which the run saves and stops; the
    same command goes on with it. An interrupt saves likewise, and is raised after that. Returns the
    weights' path. Raises OutputError where another run works in `out`.
    """
    machine = Machine.join(device)
    if machine.world > 1 and recipe.lasting is not None:  # clocks differ, and so would the rates
        raise OptionError("--set lasting is for one process; give --steps.")
    net = new_network(recipe).to(machine.device)
    before, begun = 0, ""  # clips that the weights to begin with were trained on; their hash
    if start_from is not None:
        before = warm_start(net, start_from, recipe)
        begun = weights.find(str(start_from), recipe.network).sha256
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as scope:
        refused: OutputError | None = None
        if machine.rank == 0:
            try:
                scope.enter_context(working_in(out / ".pretrain"))
                check_ours(out)
            except OutputError as error:
                refused = error
        if machine.agree(refused is not None):  # none waits for the others for ever
            raise refused or OutputError(f"{out} is not to be had: the first process says why.")
        _train(recipe, net, out, machine, progress, before, begun, stop_after)
    machine.leave()
    return out / WEIGHTS


def _train(
    recipe: AnyRecipe,
    net: nn.Module,
    out: Path,
    machine: Machine,
    progress: Progress,
    before: int,
    begun: str,
    stop_after: float | None,
) -> None:
    """Train a network from a run's state in `out`, or from its beginning; as `pretrain` says.

    before: clips that it was trained on before this run. begun: the hash of the weights that it
    begins with; "" for random ones.
    """
    device, main = machine.device, machine.rank == 0
    ema = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimiser = torch.optim.AdamW(
        net.parameters(),
        lr=recipe.lr,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
        fused=device.type == "cuda",
    )
    # Trying out algorithms pays where every step has the same sizes; where they are drawn, it takes
    # the first minute.
    torch.backends.cudnn.benchmark = recipe.one_size
    kept = KeptRun(out, recipe, begun, net, ema, optimiser)
    first, spent, open_line = kept.load(device)
    if main and not first:
        kept.save(0, 0.0, open_line)  # the folder is ours
    if first:
        progress.say(f"Resuming at step {first}.")
    model: nn.Module = net
    if machine.world > 1:
        model = nn.parallel.DistributedDataParallel(net)
    task = TASKS[recipe.network]
    progress.stage("pretraining", recipe.steps if recipe.lasting is None else None)
    started = saved = time.monotonic()
    sums: dict[str, Tensor | float] = {}  # of tensors, so that no step waits for the device
    sums.update(open_line["sums"])
    added, skipped = open_line["added"], open_line["skipped"]  # steps, and useless gradients
    scores: dict[str, float] = {}
    if main:
        cut_log(out / LOG, first)
    net.train()
    with held_interrupts() as interrupt, task.pool(recipe, device, world=machine.world) as pool:
        done, last = first, share_done(recipe, first, spent) >= 1
        while not last:
            step, share = done, share_done(recipe, done, spent + time.monotonic() - started)
            rng = np.random.default_rng((recipe.seed, 7, machine.rank, step))
            torch.manual_seed(int(rng.integers(2**62)))
            samples = pool.draw(step, machine.rank)
            with autocast(device):
                loss, terms = task.loss(model, samples, recipe, step, rng)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step, share)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm)
            if bool(torch.isfinite(norm)):
                optimiser.step()
            else:
                skipped += 1
            average(ema, net, recipe.ema, step)
            done = step + 1
            for name, value in {"loss": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + value.detach().float()
            added += 1
            if done % LOG_STEPS == 0 and main:
                now = spent + time.monotonic() - started
                means = {name: float(value) / added for name, value in sums.items()}
                line = {"step": done, "seconds": round(now, 1), **rounded(means)}
                append_line(out / LOG, line)
                progress.step(done, f"loss {means['loss']:.4f}")
            if done % LOG_STEPS == 0:
                if skipped:
                    progress.say(f"{skipped} of {added} steps were skipped: gradient not finite.")
                sums, added, skipped = {}, 0, 0
            last = share_done(recipe, done, spent + time.monotonic() - started) >= 1
            over_time = stop_after is not None and time.monotonic() - started > stop_after
            stop = machine.agree(interrupt.asked or over_time)
            due = last or done % recipe.validate_steps == 0
            if main and due:
                scores = task.validate(averaged(net, ema), recipe, device, out / SHEET)
                append_line(out / LOG, {"step": done, **rounded(scores)})
                progress.say(
                    f"step {done}: " + ", ".join(f"{k} {v:.4f}" for k, v in scores.items())
                )
                net.train()
            late = time.monotonic() - saved > 60 * recipe.save_minutes
            if main and (due or late or stop):
                check_sound(net, ema, done, out)
                now = spent + time.monotonic() - started
                open_line = {"sums": sums, "added": added, "skipped": skipped}
                # The state first: weights without one would be somebody else's.
                kept.save(done, now, open_line)
                trained = before + done * recipe.batch_size * machine.world
                kept.save_weights(done, trained, scores)
                saved = time.monotonic()
            if stop and not last:
                if main:
                    progress.say(f"Saved at step {done}; the same command goes on.")
                break
    if skipped:
        progress.say(f"{skipped} of the last {added} steps were skipped: gradient not finite.")


def warm_start(net: nn.Module, path: Path, recipe: AnyRecipe) -> int:
    """Begin with the weights of a file, their position tables resized to the recipe's size.

    A layer network may be narrower than the recipe's: it is widened. Returns how many clips the
    weights were trained on. Raises OptionError.
    """
    file = weights.find(str(path), recipe.network)
    try:
        trained = int(file.metadata.get("samples", "0"))
    except ValueError:
        raise OptionError(f"--warm-start {path}: its metadata do not count its clips.") from None
    if isinstance(net, Centrifuge):
        other = weights.load_centrifuge(file)
        if other.shape != net.shape:
            raise OptionError(f"--warm-start {path} is of another network: {other.shape}.")
        net.load_state_dict(other.state_dict())
        return trained
    if isinstance(net, MattingNet):
        net.load_state_dict(weights.load_matting(file).state_dict())
        return trained
    if isinstance(net, OwnerNet):
        try:
            deepen(weights.load_owner(file), net)
        except OptionError as e:
            raise OptionError(f"--warm-start {path}: {e}.") from e
        return trained
    assert isinstance(net, LayerNet) and isinstance(recipe, Recipe)
    if recipe.width % file.width:
        raise OptionError(
            f"--warm-start {path} has width {file.width}; "
            f"--width {recipe.width} is not a multiple of it."
        )
    net.load_state_dict(widen(weights.load(file, net.grid), recipe.width, recipe.seed).state_dict())
    return trained

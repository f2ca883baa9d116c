"""Rendered clips for training: made ahead by worker processes, kept for a while, drawn from.

Which chunk enters at which step and which clips a step draws follow from the seed alone, however
fast the workers are; a resumed run renders the chunks of its pool again and goes on exactly.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import signal
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, fields
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.synth.augment import FilmedBatch, augment_views, filmed
from omnimatte_cli.synth.render import render_plans
from omnimatte_cli.synth.scenes import SceneOptions, ScenePlan, plan_scene
from omnimatte_cli.synth.seeds import SEED_BITS, TRAINING_SEEDS
from omnimatte_cli.training.recipe import Recipe, Schedule

VALIDATION_GAP = 3  # ticks; held-out clips are the same for every run
AHEAD = 2  # chunks that are being made for each worker
PLANNERS = 2  # processes that plan scenes for a GPU
LOST = 3  # times in a row that lost workers are replaced

log = logging.getLogger(__name__)

M = TypeVar("M")  # a chunk as it is made
C = TypeVar("C")  # and as it is held
S = TypeVar("S", bound="Chunks")


def changed(batch: FilmedBatch, change: Callable[[Tensor], Tensor]) -> FilmedBatch:
    """Every tensor of a batch through a function."""
    return FilmedBatch(*(change(getattr(batch, f.name)) for f in fields(batch)))


def stored(batch: FilmedBatch) -> FilmedBatch:
    """Pictures as uint8, a quarter of the memory."""
    return changed(batch, lambda x: (x * 255).round().byte() if x.is_floating_point() else x)


def restored(batch: FilmedBatch, device: torch.device) -> FilmedBatch:
    """A stored batch as float32 in [0, 1] on a device."""
    return changed(
        batch,
        lambda x: x.to(device).float() / 255 if x.dtype == torch.uint8 else x.to(device),
    )


@dataclass(frozen=True)
class PlannedChunk:
    """The scenes of a chunk before they are rendered. seed: of the faults that they are filmed
    with."""

    plans: list[ScenePlan]
    options: SceneOptions
    seed: int


def plan_chunk(recipe: Recipe, number: int, base: int, objects: int | None = None) -> PlannedChunk:
    """The scenes of chunk `number` of the run, with equally many objects in every clip."""
    run = recipe.seed if base == TRAINING_SEEDS else 0  # validation is the same for every run
    rng = np.random.default_rng((run, base, number))
    n = objects or int(rng.choice(recipe.objects))
    # Held-out clips of several effects are the same for every run.
    gap, effect = VALIDATION_GAP, recipe.effects[0] if len(recipe.effects) == 1 else "mixed"
    width, frames = recipe.width_pixels, recipe.frames
    if base == TRAINING_SEEDS:
        gap, effect = int(rng.choice(recipe.gaps)), str(rng.choice(recipe.effects))
        if recipe.aspects != (1.0,):  # whose runs drew nothing here
            width = max(32, round(width * float(rng.choice(recipe.aspects)) / 16) * 16)
        if recipe.lengths:
            frames = int(rng.choice(recipe.lengths))
    options = SceneOptions(
        frames=frames,
        gap=gap,
        height=recipe.height,
        width=width,
        min_objects=n,
        max_objects=n,
        effect=effect,
        textures=recipe.textures,
    )
    first = base + (run << SEED_BITS) + number * recipe.chunk
    plans = [plan_scene(seed, options) for seed in range(first, first + recipe.chunk)]
    return PlannedChunk(plans, options, int(rng.integers(2**62)))


def render_planned(chunk: PlannedChunk, device: str) -> FilmedBatch:
    """A chunk's clips as they are filmed, as uint8."""
    batch = render_plans(chunk.plans, chunk.options, device, solos=True)
    return stored(filmed(batch, torch.Generator(device).manual_seed(chunk.seed)))


def render_chunk(
    recipe: Recipe, number: int, base: int, device: str, objects: int | None = None
) -> FilmedBatch:
    """Chunk `number` of the run's clips, as uint8, with equally many objects in every clip."""
    return render_planned(plan_chunk(recipe, number, base, objects), device)


def _start_worker() -> None:
    """A worker renders on one core, and leaves it to its parent to end an interrupted run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


class Chunks(Generic[M, C]):
    """The chunks that a training run draws from, by number. Use as a context manager.

    make: makes a chunk, in a worker process where there are some. drawn: clips that a step draws,
    of all processes that train together. workers: processes, where the recipe does not say; None: 1
    beside a CPU, 0 beside a GPU.
    """

    def __init__(
        self,
        recipe: Schedule,
        device: torch.device,
        make: Callable[[int], M],
        drawn: int,
        workers: int | None = None,
    ) -> None:
        self.recipe, self.device, self.make, self.drawn = recipe, device, make, drawn
        self.chunks: OrderedDict[int, C] = OrderedDict()
        self.jobs: dict[int, Future[M]] = {}
        self.workers: ProcessPoolExecutor | None = None
        usual = int(device.type == "cpu") if workers is None else workers
        self.count = usual if recipe.workers is None else recipe.workers
        if self.count:
            self.workers = self._new_workers()
        self.ahead = AHEAD * self.count

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.workers is not None:
            self.workers.shutdown(wait=False, cancel_futures=True)

    def _new_workers(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.count, context, _start_worker)

    def newest(self, step: int) -> int:
        """Number of the newest chunk that a step may draw from."""
        return int((step + 1) * self.drawn / (self.recipe.reuse * self.recipe.chunk))

    def span(self, step: int) -> tuple[int, int]:
        """The oldest and the newest chunk that a step may draw from; older ones are dropped."""
        newest = self.newest(step)
        oldest = max(0, newest - self.recipe.pool + 1)
        for number in [n for n in self.chunks if n < oldest]:
            del self.chunks[number]
        return oldest, newest

    def chunk(self, number: int, newest: int) -> C:
        """A chunk, made if it is not there; the ones after the newest are begun meanwhile.

        A worker that the system ended (for want of memory, say) takes all that were being made with
        it: they are made again, by new workers. Raises OmnimatteError where these are lost, too.
        """
        if self.workers is None:
            if number not in self.chunks:
                self.chunks[number] = self.kept(self.make(number))
            return self.chunks[number]
        for lost in itertools.count(1):
            try:
                for n in [number, *range(newest, newest + 1 + self.ahead)]:
                    if n not in self.chunks and n not in self.jobs:
                        self.jobs[n] = self.workers.submit(self.make, n)
                if number not in self.chunks:
                    self.chunks[number] = self.kept(self.jobs.pop(number).result())
                break
            except BrokenProcessPool as error:
                if lost > LOST:
                    raise OmnimatteError(
                        "The processes that make the training clips are ended before they are done "
                        "(is there too little memory?): --set workers and chunk make them smaller. "
                        "The same command goes on where the training was saved."
                    ) from error
                log.warning("A process that makes training clips was lost: it is replaced.")
                self.workers.shutdown(wait=False, cancel_futures=True)
                self.workers, self.jobs = self._new_workers(), {}
        return self.chunks[number]

    def kept(self, made: M) -> C:
        """A chunk as it is held from then on; runs in the process that trains."""
        return cast(C, made)


class Pool(Chunks[FilmedBatch | PlannedChunk, FilmedBatch]):
    """Rendered scenes with objects.

    A CPU's workers render them. Beside a GPU, which renders many times as fast, they plan them:
    that is Python, and takes as long as the GPU does for the rest. world: processes that draw, each
    from the same chunks.
    """

    recipe: Recipe

    def __init__(
        self, recipe: Recipe, device: torch.device, base: int = TRAINING_SEEDS, world: int = 1
    ) -> None:
        here = device.type == "cpu"
        make = partial(render_chunk, device="cpu") if here else plan_chunk
        made = partial(make, recipe, base=base)
        drawn = recipe.batch_size * world
        super().__init__(recipe, device, made, drawn, None if here else PLANNERS)

    def kept(self, made: FilmedBatch | PlannedChunk) -> FilmedBatch:
        """On the device that trains: every clip is drawn several times."""
        if isinstance(made, PlannedChunk):
            return render_planned(made, str(self.device))
        return changed(made, lambda x: x.to(self.device))

    def draw(self, step: int, rank: int = 0) -> FilmedBatch:
        """The clips of one step, float on the device."""
        oldest, newest = self.span(step)
        rng = np.random.default_rng((self.recipe.seed, rank, step))
        chunk = self.chunk(int(rng.integers(oldest, newest + 1)), newest)
        picks = rng.choice(self.recipe.chunk, self.recipe.batch_size, replace=False)
        index = torch.from_numpy(picks).to(chunk.frames.device)
        clips = restored(changed(chunk, lambda x: x[index]), self.device)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        return augment_views(clips, generator)

"""Blends of clips that are filmed from photographs on the training device, new ones at every step.

Nothing is kept and nothing waits for a disk or another process: a step's clips cost a GPU some
milliseconds.
"""

from __future__ import annotations

from functools import lru_cache
from types import TracebackType

import torch
from torch import Generator, Tensor

from omnimatte_cli.synth.blends import BlendBatch, blend, random_blends
from omnimatte_cli.synth.clips import ClipOptions
from omnimatte_cli.synth.filming import film
from omnimatte_cli.synth.photographs import Bank, load_bank
from omnimatte_cli.synth.seeds import VALIDATION_SEEDS
from omnimatte_cli.training.recipe import BlendRecipe

VALIDATION_BATCH = 16  # clips that are filmed together
STRIDE = 1 << 24  # seeds of one run of steps to another's


def bank_of(recipe: BlendRecipe, device: torch.device, held_out: bool = False) -> Bank:
    """The recipe's photographs on a device; those held out are the same for every run."""
    assert recipe.photos is not None
    return load_bank(recipe.photos, 0 if held_out else recipe.seed, held_out).to(device)


def filmed(
    bank: Bank, recipe: BlendRecipe, count: int, generator: Generator, frozen: float
) -> Tensor:
    """Clips (B, T, 3, H, W) of the recipe's size; frozen: share of them that stand still."""
    options = ClipOptions(recipe.frames, recipe.height, recipe.width_pixels)
    clips = film(bank, count, options, generator)
    if frozen > 0:
        still = torch.rand(count, generator=generator, device=generator.device) < frozen
        clips = torch.where(still[:, None, None, None, None], clips[:, :1], clips)
    return clips


class PhotoPool:
    """Clips of which each step blends pairs. Use as a context manager."""

    def __init__(self, recipe: BlendRecipe, device: torch.device) -> None:
        self.recipe = recipe
        self.bank = bank_of(recipe, device)
        self.device = device

    def __enter__(self) -> PhotoPool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    @torch.no_grad()
    def draw(self, step: int, rank: int = 0) -> BlendBatch:
        """The blends of one step."""
        seed = (self.recipe.seed * STRIDE + step) * STRIDE + rank
        generator = Generator(self.device).manual_seed(seed % (1 << 63))
        clips = filmed(
            self.bank, self.recipe, 2 * self.recipe.batch_size, generator, self.recipe.frozen
        )
        return random_blends(clips[::2], clips[1::2], generator)


@lru_cache(maxsize=4)  # a run scores on them again and again
@torch.no_grad()
def held_out_blends(
    recipe: BlendRecipe, device: torch.device, pairs: int, frozen: tuple[bool, bool]
) -> BlendBatch:
    """Pairs of clips of the photographs held out, at a share of a half, on the CPU.

    frozen: whether every first, every second clip stands still.
    """
    bank = bank_of(recipe, device, held_out=True)
    generator = Generator(device).manual_seed(VALIDATION_SEEDS)
    sides = []
    for still in frozen:
        parts = []
        for start in range(0, pairs, VALIDATION_BATCH):
            count = min(VALIDATION_BATCH, pairs - start)
            parts.append(filmed(bank, recipe, count, generator, float(still)).cpu())
        sides.append(torch.cat(parts))
    return blend(*sides)

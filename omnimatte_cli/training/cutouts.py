"""The training of the matting network: cutouts made ahead, their loss, scores and sheet."""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from omnimatte_cli.device import autocast
from omnimatte_cli.matte.matting_network import INPUTS
from omnimatte_cli.media.atomic import replacing
from omnimatte_cli.synth.cutouts import Studio, make_sheets
from omnimatte_cli.synth.seeds import SEED_BITS, TRAINING_SEEDS, VALIDATION_SEEDS
from omnimatte_cli.training.objectives import Terms
from omnimatte_cli.training.pool import Chunks
from omnimatte_cli.training.recipe import CutoutRecipe

MIXED = (0.02, 0.98)  # alpha between which a pixel is of an outline
WRONG = 0.3  # by which a mask is off where it is wrong
NEAR = 4  # pixels around both that count more
FAR_WEIGHT = 0.1  # of the pixels elsewhere, in theirs
DETAIL = 0.3  # weight of the errors of a Laplacian pyramid
LEVELS = 4  # of it
SIZES, SIZE_SHARES = (1, 2, 4), (0.65, 0.25, 0.1)  # how many times less the U-Net sees
VALIDATION, VALIDATION_SHEETS = 400, 100  # held-out cutouts, and what they are cut from
SHEET_ROWS = 12
BATCH = 20  # cutouts that are scored together


@lru_cache(maxsize=2)
def studio(run: int, count: int, side: int) -> Studio:
    """A run's pictures to cut from: made once in each process that cuts."""
    return Studio(make_sheets(run, count), side)


def make_chunk(recipe: CutoutRecipe, number: int) -> Tensor:
    """Chunk `number` of a run's cutouts, (chunk, PLANES, S, S) uint8."""
    first = TRAINING_SEEDS + (recipe.seed << SEED_BITS) + number * recipe.chunk
    sheets = studio(recipe.seed, recipe.sheets, recipe.height)
    return cutouts(sheets, range(first, first + recipe.chunk))


@lru_cache(maxsize=1)
def held_out(side: int) -> Tensor:
    """The cutouts of validation, the same for every run, (VALIDATION, PLANES, S, S) uint8."""
    sheets = studio(VALIDATION_SEEDS, VALIDATION_SHEETS, side)
    return cutouts(sheets, range(VALIDATION_SEEDS, VALIDATION_SEEDS + VALIDATION))


def cutouts(sheets: Studio, seeds: range) -> Tensor:
    """The cutouts of these seeds, (B, PLANES, S, S) uint8."""
    cv2.setNumThreads(1)
    made = [sheets.cutout(seed) for seed in seeds]
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


class CutoutPool(Chunks[Tensor, Tensor]):
    """Cutouts of which each step draws some, turned, mirrored and recoloured by chance."""

    recipe: CutoutRecipe

    def __init__(self, recipe: CutoutRecipe, device: torch.device, world: int = 1) -> None:
        super().__init__(recipe, device, partial(make_chunk, recipe), recipe.batch_size * world)

    def draw(self, step: int, rank: int = 0) -> Tensor:
        """The cutouts of one step, (B, PLANES, S, S) float32 in [0, 1]."""
        oldest, newest = self.span(step)
        rng = np.random.default_rng((self.recipe.seed, rank, step))
        drawn = []
        for _ in range(self.recipe.batch_size):
            chunk = self.chunk(int(rng.integers(oldest, newest + 1)), newest)
            drawn.append(varied(chunk[int(rng.integers(len(chunk)))], rng))
        return planes(torch.stack(drawn), self.device)


def planes(cutouts: Tensor, device: torch.device) -> Tensor:
    """Cutouts (B, PLANES, S, S) uint8 as float32 in [0, 1] on a device."""
    return cutouts.to(device).float().div(255).contiguous(memory_format=torch.channels_last)


def varied(cutout: Tensor, rng: np.random.Generator) -> Tensor:
    """A cutout (PLANES, S, S) seen another way."""
    axes = [axis for axis, share in ((2, 0.5), (1, 0.2)) if rng.random() < share]
    out = cutout.flip(axes) if axes else cutout
    if rng.random() < 0.15:
        out = out.transpose(1, 2)
    if rng.random() < 0.5:
        order = rng.permutation(3)
        out = torch.cat([out[order], out[3 + order], out[6:]])
    return out


def matting_loss(
    net: nn.Module, samples: Tensor, recipe: CutoutRecipe, step: int, rng: np.random.Generator
) -> tuple[Tensor, Terms]:
    """How far alpha is off, most of all around outlines and where masks are wrong."""
    less = int(rng.choice(SIZES, p=SIZE_SHARES))
    logits = net(samples[:, :INPUTS], less).float()
    alpha, mask = samples[:, INPUTS:], samples[:, 6:7]
    found = torch.sigmoid(logits)
    mixed = (alpha > MIXED[0]) & (alpha < MIXED[1])
    matters = (mixed | ((mask - alpha).abs() > WRONG)).float()
    weight = FAR_WEIGHT + F.max_pool2d(matters, 2 * NEAR + 1, 1, NEAR)
    weight = weight / weight.mean()
    off = (weight * (found - alpha).abs()).mean()
    unlikely = (weight * F.binary_cross_entropy_with_logits(logits, alpha, reduction="none")).mean()
    detail = pyramid_error(found - alpha)
    terms = {"off": off.detach(), "detail": detail.detach()}
    return off + 0.5 * unlikely + DETAIL * detail, terms


def pyramid_error(error: Tensor) -> Tensor:
    """The size of an error (B, 1, H, W) in the levels of a Laplacian pyramid, each twice what the
    finer one counts, as in Hou and Liu, "Context-Aware Image Matting", ICCV 2019; what is left
    counts as the last but one does."""
    line = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=error.device) / 16
    kernel = (line[:, None] * line)[None, None]
    total = error.new_zeros(())
    for level in range(LEVELS):
        smooth = F.conv2d(F.pad(error, (2, 2, 2, 2), mode="reflect"), kernel)
        total = total + 2**level * (error - smooth).abs().mean()
        error = smooth[..., ::2, ::2]
    return total + 2 ** (LEVELS - 2) * error.abs().mean()


@torch.no_grad()
def validate_cutouts(
    net: nn.Module, recipe: CutoutRecipe, device: torch.device, sheet: Path | None = None
) -> dict[str, float]:
    """Scores on held-out cutouts, and a sheet: frame, plate, mask, alpha, what the network finds.

    off, square: mean error of alpha, and mean square. coarse: mean error where the U-Net sees half
    the size. mask: the mask's mean error.
    """
    net.eval()
    held = held_out(recipe.height)
    sums = np.zeros(4)
    rows: list[Tensor] = []
    for part in held.split(BATCH):
        samples = planes(part, device)
        with autocast(device):
            found, coarse = (torch.sigmoid(net(samples[:, :INPUTS], n).float()) for n in (1, 2))
        alpha, mask = samples[:, INPUTS:], samples[:, 6:7]
        off = found - alpha
        errors = (off.abs(), off.square(), (coarse - alpha).abs(), (mask - alpha).abs())
        sums += [float(e.mean((1, 2, 3)).sum()) for e in errors]
        for one, answer in zip(samples, found, strict=True):
            if len(rows) < SHEET_ROWS:
                grey = (x.expand(3, -1, -1) for x in (one[6:7], one[INPUTS:], answer))
                rows.append(torch.cat([one[:3], one[3:6], *grey], 2))
    if sheet is not None:
        image = (255 * torch.cat(rows, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
        with replacing(sheet) as partial_path:
            cv2.imwrite(str(partial_path), np.ascontiguousarray(image[..., ::-1]))
    return dict(zip(("off", "square", "coarse", "mask"), sums / len(held), strict=True))

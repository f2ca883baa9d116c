"""The training of the centrifuge: clips that are made ahead, blended anew at every step, its loss.

A chunk holds clips longer and larger than what is trained on; every step cuts two out for each
blend, so that N clips make far more than N^2 blends.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from omnimatte_cli.device import autocast
from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.atomic import replacing
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VIDEO_SUFFIXES, count_frames, iter_frames
from omnimatte_cli.methods.centrifuge.losses import identity_loss, separation_loss, structure_loss
from omnimatte_cli.methods.centrifuge.network import PRESETS, Shape
from omnimatte_cli.methods.centrifuge.predict import most_different
from omnimatte_cli.synth.blends import BlendBatch, blend, random_blends
from omnimatte_cli.synth.clips import ClipOptions, procedural_clip, rendered_clips
from omnimatte_cli.synth.seeds import SEED_BITS, TRAINING_SEEDS, VALIDATION_SEEDS
from omnimatte_cli.training.objectives import Terms
from omnimatte_cli.training.photos import PhotoPool, held_out_blends
from omnimatte_cli.training.pool import Chunks
from omnimatte_cli.training.recipe import BlendRecipe

SPARE = 4  # frames that a clip is longer than what is trained on
MARGIN = 1.25  # how much larger its sides are
VIDEO_SHARE = 0.75  # clips of a chunk that come from the user's videos, where there are some
VIDEO_STEPS = (1, 1, 1, 2, 3)  # frames of the video between two of a clip
VALIDATION_PAIRS = 32
SHEET_ROWS = 8
BATCH = 8  # blends that are scored together


def shape_of(recipe: BlendRecipe) -> Shape:
    """The preset's network with what the recipe changes."""
    preset = PRESETS[recipe.preset]
    outputs = preset.outputs if recipe.outputs is None else recipe.outputs
    corrector = preset.corrector if recipe.corrector is None else recipe.corrector
    return replace(preset, outputs=outputs, corrector=corrector)


def clip_options(recipe: BlendRecipe) -> ClipOptions:
    """What the recipe's clips are like before they are cut to size."""
    sides = (round(MARGIN * s / 8) * 8 for s in (recipe.height, recipe.width_pixels))
    return ClipOptions(recipe.frames + SPARE, *sides)


def make_chunk(recipe: BlendRecipe, number: int, base: int = TRAINING_SEEDS) -> Tensor:
    """Chunk `number` of a run's clips, (clips, T + SPARE, 3, H', W') uint8."""
    cv2.setNumThreads(1)
    options = clip_options(recipe)
    run = recipe.seed if base == TRAINING_SEEDS else 0  # validation is the same for every run
    first = base + (run << SEED_BITS) + number * recipe.chunk
    seeds = range(first, first + recipe.chunk)
    clips = list(rendered_clips(seeds[: recipe.rendered], options, recipe.textures))
    videos = [] if recipe.videos is None or base != TRAINING_SEEDS else find_videos(recipe.videos)
    for seed in seeds[recipe.rendered :]:
        rng = np.random.default_rng([seed, 0x71DE0])
        if videos and rng.random() < VIDEO_SHARE:
            clips.append(video_clip(videos[int(rng.integers(len(videos)))], rng, options))
        else:
            clips.append(procedural_clip(seed, options))
    return torch.from_numpy(np.stack(clips)).permute(0, 1, 4, 2, 3).contiguous()


def find_videos(folder: Path) -> list[Path]:
    """The videos of a folder and those below it. Raises VideoError where there are none."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not found:
        raise VideoError(f"--videos: {folder} holds no video file.")
    return found


def video_clip(path: Path, rng: np.random.Generator, options: ClipOptions) -> np.ndarray:
    """A random part of a video, its middle cut to the clip's shape; (T, H, W, 3) uint8."""
    step = int(rng.choice(VIDEO_STEPS))
    frames = count_frames(path)
    step = max(1, min(step, frames // options.frames))
    span = step * (options.frames - 1) + 1
    if frames < span:
        raise VideoError(f"--videos: {path} has {frames} frames: at least {span} are needed.")
    start = int(rng.integers(frames - span + 1))
    part = ReadOptions(first=start, stop=start + span)
    size = (options.height, options.width)
    return np.stack([fitted(f, size) for f in list(iter_frames(path, options=part))[::step]])


def fitted(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A frame shrunk until it just covers (h, w), and cut to it about its middle."""
    height, width = size
    scale = max(height / frame.shape[0], width / frame.shape[1])
    h, w = (max(n, round(scale * s)) for n, s in zip(size, frame.shape[:2], strict=True))
    frame = cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)
    top, left = (h - height) // 2, (w - width) // 2
    return frame[top : top + height, left : left + width]


class ClipPool(Chunks[Tensor, Tensor]):
    """Clips of which each step blends pairs."""

    recipe: BlendRecipe

    def __init__(self, recipe: BlendRecipe, device: torch.device, world: int = 1) -> None:
        make = partial(make_chunk, recipe)
        super().__init__(recipe, device, make, 2 * recipe.batch_size * world)

    def draw(self, step: int, rank: int = 0) -> BlendBatch:
        """The blends of one step."""
        oldest, newest = self.span(step)
        rng = np.random.default_rng((self.recipe.seed, rank, step))
        clips = []
        for _ in range(2 * self.recipe.batch_size):
            chunk = self.chunk(int(rng.integers(oldest, newest + 1)), newest)
            clip = cut(chunk[int(rng.integers(len(chunk)))], rng, self.recipe)
            still = self.recipe.frozen > 0 and rng.random() < self.recipe.frozen
            clips.append(clip[:1].expand_as(clip) if still else clip)
        stack = torch.stack(clips).to(self.device).float() / 255
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        return random_blends(stack[::2], stack[1::2], generator)


def cut(clip: Tensor, rng: np.random.Generator, recipe: BlendRecipe) -> Tensor:
    """A random part of a clip in time and space, mirrored and run backwards by chance."""
    sizes = (recipe.frames, recipe.height, recipe.width_pixels)
    spare = [n - s for n, s in zip((len(clip), *clip.shape[2:]), sizes, strict=True)]
    t, y, x = (int(rng.integers(s + 1)) for s in spare)
    part = clip[t : t + sizes[0], :, y : y + sizes[1], x : x + sizes[2]]
    axes = [axis for axis in (0, 3) if rng.random() < 0.5]
    return part.flip(axes) if axes else part


def blend_loss(
    net: nn.Module,
    samples: BlendBatch,
    recipe: BlendRecipe,
    step: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Terms]:
    """The loss without mean colours in the choice of the pair, or the paper's; beside it the
    paper's, and that of the blend itself as both answers."""
    outputs = net(samples.blends).float()
    with torch.no_grad():
        terms = {"identity": identity_loss(samples.truth, samples.blends).mean()}
    if recipe.loss == "paper":
        return separation_loss(samples.truth, outputs).mean(), terms
    loss = structure_loss(samples.truth, outputs, recipe.colour_weight).mean()
    with torch.no_grad():
        terms["separation"] = separation_loss(samples.truth, outputs).mean()
        same = samples.blends[:, None].expand_as(samples.truth)
        terms["blend"] = structure_loss(samples.truth, same, recipe.colour_weight).mean()
    return loss, terms


def blend_pool(recipe: BlendRecipe, device: torch.device, world: int = 1) -> ClipPool | PhotoPool:
    """Where the recipe's blends come from."""
    if recipe.photos is not None:
        return PhotoPool(recipe, device)
    return ClipPool(recipe, device, world)


def validation_blends(
    recipe: BlendRecipe,
    frozen: tuple[bool, bool] = (False, False),
    device: torch.device | None = None,
) -> BlendBatch:
    """Held-out pairs at a share of a half, as the paper's; the same for every run.

    Of the photographs held out where the recipe has some. frozen: whether every first, every second
    clip is a frame that stands still. device: that photographs are filmed on; None: the CPU.
    """
    if recipe.photos is not None:
        return held_out_blends(recipe, device or torch.device("cpu"), VALIDATION_PAIRS, frozen)
    count = 2 * VALIDATION_PAIRS
    chunks = [make_chunk(recipe, n, VALIDATION_SEEDS) for n in range(-(-count // recipe.chunk))]
    rng = np.random.default_rng(VALIDATION_SEEDS)
    clips = torch.stack([cut(c, rng, recipe) for c in torch.cat(chunks)[:count]]).float() / 255
    pairs = clips.unflatten(0, (2, VALIDATION_PAIRS))
    still = [c[:, :1].expand_as(c) if f else c for c, f in zip(pairs, frozen, strict=True)]
    return blend(*still)


@torch.no_grad()
def blend_scores(
    net: nn.Module, batch: BlendBatch, device: torch.device, size: int = BATCH
) -> tuple[dict[str, float], Tensor]:
    """Mean loss, identity's, their ratio, and the outputs (B, n, T, 3, H, W).

    chosen: loss of the two outputs that inference takes, which does not know the truth. structure:
    their loss over the blend's without mean colours.
    """
    net.eval()
    outputs = []
    for part in batch.blends.split(size):
        with autocast(device):
            outputs.append(net(part.to(device)).float().cpu().clamp(0, 1))
    found = torch.cat(outputs)
    rows = torch.arange(len(found))[:, None]
    pairs = torch.stack([torch.tensor(most_different(x)) for x in found])
    loss = float(separation_loss(batch.truth, found).mean())
    identity = float(identity_loss(batch.truth, batch.blends).mean())
    chosen = float(separation_loss(batch.truth, found[rows, pairs]).mean())
    scores = {"loss": loss, "chosen": chosen, "identity": identity, "ratio": loss / identity}
    same = batch.blends[:, None].expand_as(batch.truth)
    scores["structure"] = float(
        structure_loss(batch.truth, found[rows, pairs], 0.0).mean()
        / structure_loss(batch.truth, same, 0.0).mean()
    )
    return scores, found


def validate_blends(
    net: nn.Module, recipe: BlendRecipe, device: torch.device, sheet: Path | None = None
) -> dict[str, float]:
    """Scores on held-out blends, and a sheet: blend, true layers, the two outputs chosen."""
    batch = validation_blends(recipe, device=device)
    scores, found = blend_scores(net, batch, device)
    if sheet is not None:
        rows = []
        for i in range(min(SHEET_ROWS, len(found))):
            pair = found[i, list(most_different(found[i]))]
            strip = torch.cat([batch.blends[i][None], batch.truth[i], pair])[:, recipe.frames // 2]
            rows.append(torch.cat(list(strip), 2))
        image = (255 * torch.cat(rows, 1)).round().byte().permute(1, 2, 0).numpy()
        with replacing(sheet) as partial_path:
            cv2.imwrite(str(partial_path), np.ascontiguousarray(image[..., ::-1]))
    return scores

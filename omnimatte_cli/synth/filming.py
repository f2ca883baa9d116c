"""Clips filmed from photographs, all on the device that holds them, some thousand a second.

A camera rests, pans, zooms, turns and trembles over a scene, whose near parts move more than its
far ones; some of a scene sways. Things pass through it on paths of their own and change their
shape a little. Exposure, colours, focus, grain and the softness of colours in compressed video
follow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from omnimatte_cli.synth.clips import ClipOptions
from omnimatte_cli.synth.photographs import SCENE, Bank

STILL_CAMERA = 0.4  # share of the clips whose camera rests
FROZEN = 0.05  # share of the clips in which nothing moves at all
PAN = 2.2  # pixels a frame, deviation of the camera's speed where it pans fastest
SPEED = 2.0  # pixels a frame, likewise of a thing's speed
TURNS = 0.25  # share of the speed that changes over a clip
ZOOM, SPIN = 0.008, 0.008  # a frame: log of the scale, radians
TREMBLE = 0.4  # pixels a frame, of a hand's
SCALES = (0.65, 1.25)  # pixels of a scene for each pixel of a frame
DEPTH = 0.35  # deviation of how much more the near parts of a scene move, in half of the clips
SWAY = 1.2  # pixels, of leaves and water, in `SWAYING` of the clips
SWAYING = 0.35
THINGS = 4  # at most
THING_SCALES = (1.0, 4.0)  # pixels of a thing for each pixel of a frame
WOBBLE = 0.12  # deviation of the log of a thing's width and height over time
BLURRED = 0.2  # share of the clips out of focus
FOCUS = (0.5, 1.8)  # pixels, deviation of their blur
COMPRESSED = 0.5  # share of the clips with colours at half the size
GRAIN = 0.015  # deviation at most


@dataclass(frozen=True)
class Dice:
    """Random numbers on a generator's device."""

    generator: Generator

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        device = self.generator.device
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.generator.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """1 with that probability, else 0; float32."""
        return (self.uniform(*shape) < share).float()

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def integers(self, count: int, *shape: int) -> Tensor:
        device = self.generator.device
        return torch.randint(count, shape, generator=self.generator, device=device)


def film(bank: Bank, count: int, options: ClipOptions, generator: Generator) -> Tensor:
    """`count` clips (B, T, 3, H, W) float32 in [0, 1], on the device of the bank and generator."""
    dice = Dice(generator)
    t = options.frames
    frozen = dice.chance(FROZEN, count)
    still = torch.maximum(frozen, dice.chance(STILL_CAMERA, count))
    moving, alive = 1 - still, 1 - frozen
    time = torch.arange(t, device=generator.device) - (t - 1) / 2
    pan = path(dice, count, time, PAN) + TREMBLE * dice.uniform(count, 1, 1) * dice.chance(
        0.5, count, 1, 1
    ) * dice.normal(count, t, 2)
    pan = pan * moving[:, None, None]
    clips = scenery(bank, dice, time, pan, moving, alive, options)
    for number in range(THINGS):
        # A scene at rest has at least one thing that moves.
        shown = (
            dice.chance(0.55, count) if number else torch.maximum(still, dice.chance(0.6, count))
        )
        clips = pass_by(bank, dice, clips, time, pan, shown * alive)
    return developed(dice, clips)


def path(dice: Dice, count: int, time: Tensor, spread: float) -> Tensor:
    """Smooth places (B, T, 2) in pixels, 0 in the middle of the clip; time: (T,) frames from it."""
    speed = spread * dice.uniform(count, 1, 1) * dice.normal(count, 1, 2)
    bend = TURNS * spread * dice.uniform(count, 1, 1) * dice.normal(count, 1, 2) / len(time)
    return speed * time[:, None] + bend * time.square()[:, None]


def affine(dice: Dice, time: Tensor, scale: Tensor, moving: Tensor, tilt: float) -> Tensor:
    """(B, T, 2, 2), from places (x, y) about a frame's middle to those about a picture's."""
    b = len(scale)
    zoom = moving * ZOOM * dice.normal(b) * dice.chance(0.6, b)
    spin = moving * SPIN * dice.normal(b) * dice.chance(0.6, b)
    scales = scale[:, None] * (zoom[:, None] * time).exp()
    angle = tilt * dice.normal(b)[:, None] + spin[:, None] * time
    cos, sin = scales * angle.cos(), scales * angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def places(options: ClipOptions, device: torch.device) -> Tensor:
    """Pixels' places (x, y) from the frame's middle, (H, W, 2)."""
    y = torch.arange(options.height, device=device) - (options.height - 1) / 2
    x = torch.arange(options.width, device=device) - (options.width - 1) / 2
    return torch.stack([x.expand(options.height, -1), y[:, None].expand(-1, options.width)], -1)


def seen(pictures: Tensor, where: Tensor, padding: str) -> Tensor:
    """Pictures (B, C, S, S) at places (B, T, H, W, 2) from their middles: (B, T, C, H, W)."""
    b, t, h, w, _ = where.shape
    grid = where.reshape(b, t * h, w, 2) * (2 / pictures.shape[-1])
    found = F.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)
    return found.unflatten(2, (t, h)).transpose(1, 2)


def scenery(
    bank: Bank,
    dice: Dice,
    time: Tensor,
    pan: Tensor,
    moving: Tensor,
    alive: Tensor,
    options: ClipOptions,
) -> Tensor:
    """The scenes through the camera, (B, T, 3, H, W). pan: (B, T, 2). moving, alive: (B,), 1 where
    the camera moves, and where anything does."""
    count, t = pan.shape[:2]
    h, w = options.height, options.width
    pictures = bank.scenes[dice.integers(len(bank.scenes), count)].float() / 255
    mirrored = dice.chance(0.5, count)[:, None, None, None]
    pictures = torch.lerp(pictures, pictures.flip(3), mirrored)
    scale = dice.log_uniform(*SCALES, count)
    turn = affine(dice, time, scale, moving, 0.08)
    base = places(options, pan.device)
    where = torch.einsum("btij,hwj->bthwi", turn, base)
    near = F.interpolate(dice.normal(count, 1, 3, 3), size=(h, w), mode="bicubic")
    near = 1 + DEPTH * dice.chance(0.5, count)[:, None, None] * near[:, 0]
    shift = (scale[:, None, None] * pan)[:, :, None, None]
    where = where + shift * near.clamp(min=0.1)[:, None, ..., None]
    sway = F.interpolate(
        dice.normal(count, 2, max(2, t // 3), 7, 7), size=(t, h, w), mode="trilinear"
    )
    part = F.interpolate(dice.normal(count, 1, 1, 3, 3), size=(t, h, w), mode="trilinear")
    amount = SWAY * dice.uniform(count) * dice.chance(SWAYING, count) * alive
    sway = sway * part.clamp(0, 1) * amount[:, None, None, None, None]
    where = where + sway.permute(0, 2, 3, 4, 1)
    # Anywhere on the scene that the frames do not leave.
    far = where.abs().amax((1, 2, 3))  # (B, 2)
    room = (SCENE / 2 - far).clamp(min=0)
    where = where + (room * dice.uniform(count, 2, low=-1.0))[:, None, None, None]
    return seen(pictures, where, "reflection")


def pass_by(
    bank: Bank, dice: Dice, clips: Tensor, time: Tensor, pan: Tensor, shown: Tensor
) -> Tensor:
    """Clips with a thing each that moves past; shown: (B,), 1 where there is one."""
    count, t, _, h, w = clips.shape
    pictures = bank.things[dice.integers(len(bank.things), count)].float() / 255
    light = dice.uniform(count, 1, 1, 1, low=0.6, high=1.2)
    pictures = torch.cat([(light * pictures[:, :3]).minimum(pictures[:, 3:]), pictures[:, 3:]], 1)
    scale = dice.log_uniform(*THING_SCALES, count)
    turn = affine(dice, time, scale, torch.ones_like(shown), 0.3)
    wave = 2 * math.pi * dice.uniform(count, 1, 2, low=0.02, high=0.2) * time[:, None]
    wave = (wave + 2 * math.pi * dice.uniform(count, 1, 2)).sin()
    turn = turn * (WOBBLE * dice.uniform(count, 1, 2) * wave).exp()[..., None]
    size = torch.tensor([w, h], device=clips.device)
    start = dice.uniform(count, 1, 2, low=-0.5, high=0.5) * size
    # Beside its own motion it moves with the scene, against the camera.
    middle = (
        start + path(dice, count, time, SPEED) - pan * dice.uniform(count, 1, 1, low=0.8, high=1.2)
    )
    base = places(ClipOptions(t, h, w), clips.device)
    rest = base - middle[:, :, None, None]
    where = torch.einsum("btij,bthwj->bthwi", turn, rest)
    flip = 1 - 2 * dice.chance(0.5, count)
    where = torch.stack([where[..., 0] * flip[:, None, None, None], where[..., 1]], -1)
    layer = seen(pictures, where, "zeros") * shown[:, None, None, None, None]
    return clips * (1 - layer[:, :, 3:]) + layer[:, :, :3]


def developed(dice: Dice, clips: Tensor) -> Tensor:
    """Exposure, contrast, colours, flicker, focus, compression and grain; in [0, 1]."""
    b, t, _, h, w = clips.shape

    def each(x: Tensor) -> Tensor:
        return x[(...,) + (None,) * (5 - x.ndim)]

    sigma = dice.uniform(b, low=FOCUS[0], high=FOCUS[1]) * dice.chance(BLURRED, b)
    clips = blurred(clips, sigma)
    grey = clips.mean(2, keepdim=True)
    clips = grey + each(dice.uniform(b, low=0.3, high=1.15)) * (clips - grey)
    tint = (0.08 * dice.normal(b, 1, 3)).exp()[..., None, None]
    mean = clips.mean((1, 2, 3, 4), keepdim=True)
    contrast = each(dice.log_uniform(0.6, 1.35, b))
    clips = ((clips - mean) * contrast + mean) * tint
    clips = clips * each(dice.log_uniform(0.6, 1.4, b))
    clips = clips.clamp(0, 1) ** each(dice.log_uniform(0.65, 1.5, b))
    flicker = each(0.015 * dice.normal(b, t).cumsum(1) * dice.chance(0.25, b)[:, None])
    clips = clips * flicker.exp()
    soft = F.avg_pool2d(clips.flatten(0, 1), 2)
    soft = F.interpolate(soft, size=(h, w), mode="bilinear").unflatten(0, (b, t))
    soft = clips.mean(2, keepdim=True) + soft - soft.mean(2, keepdim=True)
    clips = torch.lerp(clips, soft, each(dice.chance(COMPRESSED, b)))
    grain = each(GRAIN * dice.uniform(b) * dice.chance(0.6, b))
    return (clips + grain * dice.normal(*clips.shape)).clamp(0, 1)


def blurred(clips: Tensor, sigma: Tensor) -> Tensor:
    """Clips (B, T, C, H, W) each through a Gaussian of sigma (B,) pixels; 0 leaves it as it is."""
    radius = math.ceil(2.5 * FOCUS[1])
    b, t, c, h, w = clips.shape
    places = torch.arange(-radius, radius + 1, device=clips.device)
    kernel = torch.exp(-0.5 * (places / sigma.clamp(min=0.05)[:, None]).square())
    kernel = kernel / kernel.sum(1, keepdim=True)
    x = clips.permute(1, 2, 0, 3, 4).reshape(t * c, b, h, w)
    x = F.pad(x, (radius,) * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, None, None], groups=b)
    x = F.conv2d(x, kernel[:, None, :, None], groups=b)
    return x.reshape(t, c, b, h, w).permute(2, 0, 1, 3, 4)

"""What is wrong with the plates of real footage, so that training meets it.

A rendered plate is right to the last bit; an estimated one never is. Registration leaves residue
along every edge, light drifts, neighbouring frames are blended, leaves and water move. All of that
is in the residual, and none of it belongs to an object. The faults here change the *given* plate
and leave frames and truth as they are, so that whatever they add to the residual is unowned.

Two things change frames and truth alike: a camera that moves, and strangers that pass. All
randomness comes from one torch.Generator, which must be on the batch's device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from omnimatte_cli.synth.augment import FilmedBatch, _blurred, _chance, _normal, _uniform

WRONG_CHANCE = 0.75  # clips whose plates are wrong at all, if the caller does not say
PAN_CHANCE = 0.35  # clips whose camera moves
PAN_REACH = 0.12  # of a side, the farthest that a camera moves in a clip
STRANGER_CHANCE = 0.15  # clips that another clip's body passes through, behind the objects
FIELD_CELL = 0.3  # of the height: features of the registration residue's field
RESIDUE_STD = 0.012  # of the height: the largest typical displacement, 1.5 px of 128
FOLLOWS_FRAME = 0.6  # share of a displacement's deviation that is drawn anew in every frame


@dataclass(frozen=True)
class GivenClip:
    """B clips with N objects over T frames as the network meets them, float32 in [0, 1].

    frames: (B, T, 3, H, W). plates: (B, T, 3, H, W) the true plate of every frame; given: the same
    shape, what an estimate would say. masks, visible: (B, N, T, 1, H, W), rough and true. solos:
    (B, N, T, 3, H, W). unowned: (B, 1, T, H, W) bool, pixels that show a stranger.
    """

    frames: Tensor
    plates: Tensor
    given: Tensor
    masks: Tensor
    visible: Tensor
    solos: Tensor
    unowned: Tensor


def given_clip(
    samples: FilmedBatch, given: Tensor, generator: Generator, chance: float = WRONG_CHANCE
) -> GivenClip:
    """The clips with a camera that may move, strangers that may pass, and plates that may be wrong.

    given: (B, 3, H, W), the static plates that the clips would be trained with otherwise.
    chance: share of the clips whose plates are wrong.
    """
    assert samples.solos is not None
    b, t, _, h, w = samples.frames.shape
    still = samples.plate[:, None].expand(b, t, 3, h, w)
    clip = GivenClip(
        samples.frames,
        still,
        given[:, None].expand(b, t, 3, h, w),
        samples.masks,
        samples.visible,
        samples.solos,
        torch.zeros((b, 1, t, h, w), dtype=torch.bool, device=given.device),
    )
    # A training step computes in bfloat16, which a picture's levels do not survive.
    with torch.autocast(given.device.type, enabled=False):
        clip = pan(pass_strangers(clip, generator), generator)
        return replace(clip, given=wrong_plates(clip.given, generator, chance))


def pass_strangers(clip: GivenClip, generator: Generator) -> GivenClip:
    """Some clips get another clip's bodies behind their own: movers that nobody masked."""
    b = len(clip.frames)
    if b < 2:
        return clip
    chosen = _chance(generator, STRANGER_CHANCE, b).view(b, 1, 1, 1, 1, 1)
    others = clip.visible.roll(1, 0).amax(1, keepdim=True) > 0.5  # (B, 1, T, 1, H, W)
    own = clip.visible.amax(1, keepdim=True) > 0.5
    stranger = others & ~own & chosen
    frames = torch.where(stranger[:, 0], clip.frames.roll(1, 0), clip.frames)
    return replace(clip, frames=frames, unowned=clip.unowned | stranger[:, :, :, 0])


def pan(clip: GivenClip, generator: Generator) -> GivenClip:
    """Some clips are seen through a window that moves from frame to frame, by whole pixels.

    What leaves the picture is cut off; at the other side the border's pixels continue, in frames
    and plates alike. The camera goes along a line and shakes.
    """
    b, t, _, h, w = clip.frames.shape
    moving = _chance(generator, PAN_CHANCE, b).view(b, 1, 1)
    device = generator.device
    side = torch.tensor([h, w], dtype=torch.float32, device=device)
    way = _uniform(generator, -PAN_REACH, PAN_REACH, b, 1, 2) * side
    way = way * torch.tensor([0.4, 1.0], device=device)
    shake = _normal(generator, b, t, 2) * _uniform(generator, 0, 0.01, b, 1, 1) * side
    path = way * torch.linspace(-1, 1, t, device=device)[None, :, None] + shake
    shift = (path * moving).round().long()  # (B, T, 2) pixels down and right
    rows = (torch.arange(h, device=device) + shift[..., :1]).clamp(0, h - 1)
    columns = (torch.arange(w, device=device) + shift[..., 1:]).clamp(0, w - 1)

    def seen(x: Tensor) -> Tensor:  # (B, T, C, H, W)
        c = x.shape[2]
        x = x.gather(3, rows[:, :, None, :, None].expand(b, t, c, h, w))
        return x.gather(4, columns[:, :, None, None, :].expand(b, t, c, h, w))

    def of_objects(x: Tensor) -> Tensor:  # (B, N, T, C, H, W)
        return torch.stack([seen(y) for y in x.unbind(1)], 1)

    return GivenClip(
        seen(clip.frames),
        seen(clip.plates),
        seen(clip.given),
        of_objects(clip.masks),
        of_objects(clip.visible),
        of_objects(clip.solos),
        of_objects(clip.unowned[:, :, :, None].float())[:, :, :, 0] > 0.5,
    )


def wrong_plates(plates: Tensor, generator: Generator, chance: float = WRONG_CHANCE) -> Tensor:
    """Plates (B, T, 3, H, W) with the faults of real estimates, each clip wrong by `chance`.

    Displacement (registration residue, rolling shutter, parallax, restless ground), blending of
    neighbours, two sources with a seam between them, light. The result has the same shape.
    """
    b, t, _, h, w = plates.shape

    def some(probability: float) -> Tensor:
        return _chance(generator, probability, b, 1, 1, 1, 1)

    wrong = some(chance)
    field = residue(b, t, h, w, generator)
    field = field + restless(b, t, h, w, generator) * some(0.25)
    moved = displaced(plates, field * wrong)
    # The median of frames that do not lie exactly on each other is soft, more so in places.
    soft = _blurred(moved.flatten(1, 2), _uniform(generator, 0.4, 1.1, b) * max(1.0, h / 128)).view(
        moved.shape
    )
    place = 0.5 + 0.5 * torch.tanh(2 * clouds(generator, b, 1, h, w, FIELD_CELL))
    amount = _uniform(generator, 0, 1, b, 1, 1, 1, 1) * some(0.6)
    moved = torch.lerp(moved, soft, amount * place[:, :, None])
    # Where no neighbour shows the place the canvas does: another blur, shift and light, cut hard.
    other = displaced(soft, residue(b, t, h, w, generator))
    other = other * (1 + 0.03 * _normal(generator, b, 1, 3, 1, 1))
    level = _uniform(generator, 0.3, 1.5, b, 1, 1, 1, 1)
    line = clouds(generator, b, 1, h, w, 0.5)[:, :, None] > level
    moved = torch.where(line & some(0.25), other, moved)
    lit = relit(moved, generator)
    return torch.where(wrong, lit, plates).clamp(0, 1)


def residue(b: int, t: int, h: int, w: int, generator: Generator) -> Tensor:
    """Displacements that registration leaves, (B, T, H, W, 2) in pixels (x, y).

    A smooth field, part of it the same in all frames (the canvas) and part new in every frame; a
    shift of the whole frame; a wave down the rows (rolling shutter under shake); and in some clips
    regions of another depth that lag behind. Small amplitudes are more frequent than large ones.
    """

    def some(probability: float) -> Tensor:
        return _chance(generator, probability, b, 1, 1, 1, 1)

    scale = RESIDUE_STD * h * _uniform(generator, 0, 1, b, 1, 1, 1, 1).square()
    lasting = clouds(generator, b, 2, h, w, FIELD_CELL)[:, None].movedim(2, -1)
    passing = clouds(generator, b, 2 * t, h, w, FIELD_CELL).view(b, t, 2, h, w).movedim(2, -1)
    field = scale * ((1 - FOLLOWS_FRAME) * lasting + FOLLOWS_FRAME * passing)
    field = field + 0.5 * scale * _normal(generator, b, t, 1, 1, 2)

    device = generator.device
    rows = torch.linspace(0, 1, h, device=device).view(1, 1, h, 1, 1)
    turns = _uniform(generator, 0.3, 1.5, b, t, 1, 1, 1)
    phase = _uniform(generator, 0, 6.28, b, t, 1, 1, 1)
    wave = torch.sin(6.28 * turns * rows + phase) * torch.tensor([1.0, 0.4], device=device)
    field = field + 0.6 * scale * wave * some(0.25)

    near = (clouds(generator, b, 1, h, w, 0.25) > _uniform(generator, 0.4, 1.4, b, 1, 1, 1)).float()
    lag = _normal(generator, b, t, 1, 1, 2) * torch.tensor([1.0, 0.3], device=device)
    return field + 1.5 * scale * near[..., None] * lag * some(0.25)


def restless(b: int, t: int, h: int, w: int, generator: Generator) -> Tensor:
    """Displacements of what moves by itself (leaves, grass, water), (B, T, H, W, 2) in pixels."""
    cell = float(_uniform(generator, 0.04, 0.12, 1))
    sway = clouds(generator, b, 2 * t, h, w, cell).view(b, t, 2, h, w).movedim(2, -1)
    level = _uniform(generator, -0.5, 1.2, b, 1, 1, 1)
    where = torch.sigmoid(6 * (clouds(generator, b, 1, h, w, 0.4) - level))
    return 0.018 * h * _uniform(generator, 0.2, 1, b, 1, 1, 1, 1) * sway * where[..., None]


def relit(plates: Tensor, generator: Generator) -> Tensor:
    """Plates (B, T, 3, H, W) in another light than the frames': a gain for each frame, a cast for
    each channel, a smooth field that changes over time, and what the fit against them leaves."""
    b, t, _, h, w = plates.shape

    def some(probability: float) -> Tensor:
        return _chance(generator, probability, b, 1, 1, 1, 1)

    scale = _uniform(generator, 0, 1, b, 1, 1, 1, 1).square()
    gain = 0.08 * scale * some(0.5) * _normal(generator, b, t, 1, 1, 1)
    cast = 0.02 * scale * some(0.5) * _normal(generator, b, 1, 3, 1, 1)
    lasting = clouds(generator, b, 1, h, w, 0.4)[:, None]
    passing = clouds(generator, b, t, h, w, 0.4)[:, :, None]
    field = 0.04 * scale * some(0.5) * (lasting + passing)
    offset = 0.008 * scale * some(0.3) * _normal(generator, b, t, 3, 1, 1)
    return plates * (1 + gain + cast + field) + offset


def displaced(plates: Tensor, field: Tensor) -> Tensor:
    """Plates (B, T, C, H, W) sampled at their own places plus a field (B, T, H, W, 2) in pixels."""
    h, w = plates.shape[3:]
    device = plates.device
    y = torch.arange(h, dtype=torch.float32, device=device)[:, None].expand(h, w)
    x = torch.arange(w, dtype=torch.float32, device=device)[None].expand(h, w)
    grid = torch.stack([x, y], -1) + field.flatten(0, 1)
    grid = grid * torch.tensor([2 / (w - 1), 2 / (h - 1)], device=device) - 1
    out = F.grid_sample(plates.flatten(0, 1), grid, padding_mode="border", align_corners=True)
    return out.view(plates.shape)


def clouds(generator: Generator, b: int, count: int, h: int, w: int, cell: float) -> Tensor:
    """Smooth noise of about unit variance, (B, count, H, W), features of `cell` heights."""
    size = max(2.0, cell * h)
    small = _normal(generator, b, count, round(h / size) + 2, round(w / size) + 2)
    return F.interpolate(small, (h, w), mode="bicubic", align_corners=False)

"""From clean renderings to what a camera, a rough segmenter and a background estimate would give.

Filming (colour, gamma, blur) changes frames, plate and solos alike, so that they still belong
together; nuisances (noise, JPEG, exposure drift) change the frames only. All randomness comes from
one torch.Generator, which must be on the batch's device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from omnimatte_cli.synth.jpeg import jpeg
from omnimatte_cli.synth.render import SceneBatch


@dataclass(frozen=True)
class FilmedBatch:
    """B clips with N objects over T frames, float32 in [0, 1].

    frames: (B, T, 3, H, W) as filmed. masks: (B, N, T, 1, H, W) rough, 0 or 1; visible: the true
    ones. plate: (B, 3, H, W) true, plate_estimated: as a masked median would find it.
    solos: (B, N, T, 3, H, W) object i alone over the true plate, free of noise, or None.
    present: (B, N) bool. order: (B, T, N) int64, back to front.
    """

    frames: Tensor
    masks: Tensor
    visible: Tensor
    plate: Tensor
    plate_estimated: Tensor
    solos: Tensor | None
    present: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.frames)


def _uniform(generator: Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=generator.device)


def _chance(generator: Generator, probability: float, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device) < probability


def _normal(generator: Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)


def _cloud(generator: Generator, count: int, height: int, width: int, cell: int) -> Tensor:
    """Smooth noise of unit variance or a little less, (count, H, W), features of `cell` pixels."""
    h, w = max(2, -(-height // cell) + 1), max(2, -(-width // cell) + 1)
    small = _normal(generator, count, 1, h, w)
    return F.interpolate(small, (height, width), mode="bilinear", align_corners=False)[:, 0]


def _blurred(pictures: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of (B, M, H, W) by a sigma per clip, (B,) in pixels, at most about 1."""
    b, m = pictures.shape[:2]
    offsets = torch.arange(-2, 3, device=pictures.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp_min(1e-3)[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).view(b, 1, 1, 5).repeat_interleave(m, 0)
    flat = F.pad(pictures.reshape(1, b * m, *pictures.shape[2:]), (2, 2, 2, 2), mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel, groups=b * m), kernel.mT.contiguous(), groups=b * m)
    return flat.view(pictures.shape).clamp(0, 1)  # the kernel sums to 1 but for rounding


def _graded(
    pictures: Tensor, gain: Tensor, saturation: Tensor, gamma: Tensor, sigma: Tensor | None
) -> Tensor:
    """One camera's colours on (B, M, 3, H, W): gain (B, 3), saturation, gamma (B,), blur (B,)."""
    b = len(pictures)
    grey = pictures.mean(2, keepdim=True)
    out = grey + (pictures - grey) * saturation.view(b, 1, 1, 1, 1)
    out = (out * gain.view(b, 1, 3, 1, 1)).clamp(0, 1).pow(gamma.view(b, 1, 1, 1, 1))
    if sigma is not None:
        out = _blurred(out.flatten(1, 2), sigma).view(out.shape)
    return out


def rough_masks(masks: Tensor, generator: Generator) -> Tensor:
    """Masks (B, N, T, 1, H, W) as a segmenter might give them: shifted, swollen or shrunk with
    wavy edges, with holes, missing in some frames. A third of the objects keep the true ones."""
    b, n, t, _, h, w = masks.shape
    m = b * n * t
    unit = max(1.0, min(h, w) / 96)  # pixels; roughness grows with the picture

    def per_object(x: Tensor) -> Tensor:
        return x.view(b, n, 1, 1, 1, 1)

    radius = max(1, round(unit))
    soft = F.avg_pool2d(
        F.pad(masks.view(m, 1, h, w), (2 * radius,) * 4, mode="replicate"), 4 * radius + 1, 1
    )
    soft = soft.view(masks.shape)
    level = per_object(_uniform(generator, 0.1, 0.6, b, n))
    wave = _cloud(generator, m, h, w, max(3, round(5 * unit))).view(masks.shape)
    wave *= per_object(_uniform(generator, 0, 0.12, b, n))
    out = (soft + wave * (soft > 0) > level).float()

    shift = per_object(_chance(generator, 0.35, b, n)) * _normal(generator, b, n, 1, 1, 1, 2)
    jitter = _chance(generator, 0.15, b, n).view(b, n, 1, 1, 1, 1)
    shift = shift + jitter * _normal(generator, b, n, t, 1, 1, 2)
    shift = (shift * unit).clamp(-3 * unit, 3 * unit).round().long()
    rows = torch.arange(h, device=masks.device) + shift[..., 0]
    columns = torch.arange(w, device=masks.device) + shift[..., 1]
    inside = ((rows >= 0) & (rows < h))[..., None] & ((columns >= 0) & (columns < w))[..., None, :]
    rows = rows.clamp(0, h - 1)[..., None].expand(b, n, t, 1, h, w)
    columns = columns.clamp(0, w - 1)[..., None, :].expand(b, n, t, 1, h, w)
    out = out.gather(-2, rows).gather(-1, columns) * inside

    holes = _cloud(generator, m, h, w, max(3, round(4 * unit))).view(masks.shape)
    holes = (holes > 1.1) & per_object(_chance(generator, 0.15, b, n))
    out = out * ~holes
    # A mask that has vanished is the true one again: thin objects would never be seen otherwise.
    gone = out.flatten(3).amax(-1) < 0.5
    exact = _chance(generator, 0.33, b, n)[:, :, None] | gone
    out = torch.where(exact.view(b, n, t, 1, 1, 1), masks, out)
    missing = _chance(generator, 0.04, b, n, t) & _chance(generator, 0.3, b, n)[:, :, None]
    missing &= ~missing.all(2, keepdim=True)
    return out * ~missing.view(b, n, t, 1, 1, 1)


def masked_median(frames: Tensor, covered: Tensor) -> Tensor:
    """Median of frames (B, T, 3, H, W) over time where `covered` (B, T, 1, H, W) bool is false;
    the plain median where it never is. (B, 3, H, W). Even counts take the mean of the middle two.
    """
    never = covered.all(1, keepdim=True)
    covered = (covered & ~never).expand_as(frames)
    count = (~covered).sum(1, keepdim=True)
    line = frames.masked_fill(covered, float("inf")).sort(1).values
    low, high = line.gather(1, (count - 1) // 2), line.gather(1, count // 2)
    return ((low + high) / 2)[:, 0]


def estimated_plate(
    frames: Tensor, masks: Tensor, plate: Tensor, solos: Tensor | None, generator: Generator
) -> Tensor:
    """A plate with an estimate's faults, (B, 3, H, W).

    A quarter are masked medians of the very frames, which is the worst that a short clip gives. Of
    the rest, which stand for longer clips, most keep ghosts: part of some objects' effects at
    a moment or on average over the clip, outside their masks; and what was always covered is soft.
    """
    b, t, n = *frames.shape[:2], masks.shape[1]
    median = masked_median(frames, masks.amax(1) > 0.5)
    out = plate
    if solos is not None:
        effect = (solos - plate[:, None, None]) * (1 - masks)
        weight = torch.softmax(3 * _normal(generator, b, n, t), -1)
        even = _chance(generator, 0.5, b, n, 1)
        weight = torch.where(even, 1 / t, weight)
        strength = _uniform(generator, 0.1, 0.9, b, n, 1) * _chance(generator, 0.4, b, n, 1)
        weight = (weight * strength).view(b, n, t, 1, 1, 1)
        out = out + (effect * weight).sum((1, 2))
        always = masks.amin(2).amax(1)
        soft = F.avg_pool2d(F.pad(out, (4, 4, 4, 4), mode="replicate"), 9, 1)
        out = torch.where(always > 0.5, soft, out)
    noise = _normal(generator, *plate.shape) * _uniform(generator, 0, 0.008, b, 1, 1, 1)
    cast = _normal(generator, b, 3, 1, 1) * _uniform(generator, 0, 0.006, b, 1, 1, 1)
    out = out + noise + cast
    return torch.where(_chance(generator, 0.25, b, 1, 1, 1), median, out).clamp(0, 1)


def filmed(batch: SceneBatch, generator: Generator) -> FilmedBatch:
    """What would be known of these scenes if they had been filmed, beside the truth."""
    b, t, _, h, w = batch.frames.shape
    n = batch.masks.shape[1]
    gain = (1 + 0.15 * _normal(generator, b, 1) + 0.06 * _normal(generator, b, 3)).clamp(0.55, 1.5)
    saturation = _uniform(generator, 0.5, 1.25, b)
    gamma = torch.exp(0.18 * _normal(generator, b)).clamp(0.6, 1.7)
    sigma = _uniform(generator, 0.25, 0.8, b) * _chance(generator, 0.5, b)
    sigma = sigma * max(1.0, min(h, w) / 128)
    grade = (gain, saturation, gamma, sigma.clamp_max(1.2))
    frames = _graded(batch.frames, *grade)
    plate = _graded(batch.plate[:, None], *grade)[:, 0]
    solos = batch.solos
    if solos is not None:
        solos = _graded(solos.flatten(1, 2), *grade).view(solos.shape)

    steps = _normal(generator, b, t, 1, 1, 1).cumsum(1) / t**0.5
    drift = _uniform(generator, 0, 0.02, b, 1, 1, 1, 1) * _chance(generator, 0.5, b, 1, 1, 1, 1)
    frames = (frames * (1 + drift * (steps - steps.mean(1, keepdim=True)))).clamp(0, 1)
    # Shot noise grows with the light, read noise does not.
    loud = _chance(generator, 0.8, b, 1, 1, 1, 1)
    shot = _uniform(generator, 0, 0.0006, b, 1, 1, 1, 1) * loud
    read = _uniform(generator, 0, 0.012, b, 1, 1, 1, 1) * loud
    frames = frames + _normal(generator, *frames.shape) * (shot * frames + read * read).sqrt()
    frames = frames.clamp(0, 1)
    quality = _uniform(generator, 35, 96, b)
    squeezed = _chance(generator, 0.5, b).nonzero()[:, 0]
    if len(squeezed):
        frames[squeezed] = jpeg(frames[squeezed], quality[squeezed])

    masks = rough_masks(batch.masks, generator) if n else batch.masks
    estimate = estimated_plate(frames, masks, plate, solos, generator)
    return FilmedBatch(
        frames, masks, batch.masks, plate, estimate, solos, batch.present, batch.order
    )


def augment_views(film: FilmedBatch, generator: Generator) -> FilmedBatch:
    """The same clips seen otherwise, each by its own chance: mirrored left to right, backwards in
    time, colour channels permuted, another gamma. Everything stays consistent."""
    b = len(film.frames)
    mirror, reverse = _chance(generator, 0.5, b), _chance(generator, 0.5, b)
    channels = torch.rand(b, 3, generator=generator, device=generator.device).argsort(1)
    channels = torch.where(
        _chance(generator, 0.5, b, 1), channels, torch.arange(3, device=channels.device)
    )
    gamma = torch.exp(0.2 * _normal(generator, b)).clamp(0.6, 1.7)

    def per_clip(x: Tensor, choice: Tensor) -> Tensor:
        return choice.view(b, *(1,) * (x.ndim - 1))

    def turned(x: Tensor, time: int | None) -> Tensor:
        x = torch.where(per_clip(x, mirror), x.flip(-1), x)
        return x if time is None else torch.where(per_clip(x, reverse), x.flip(time), x)

    def picture(x: Tensor, time: int | None) -> Tensor:
        x = turned(x, time)
        index = channels.view(b, *(1,) * (x.ndim - 4), 3, 1, 1).expand_as(x)
        return x.gather(-3, index).pow(per_clip(x, gamma))

    return replace(
        film,
        frames=picture(film.frames, 1),
        masks=turned(film.masks, 2),
        visible=turned(film.visible, 2),
        plate=picture(film.plate, None),
        plate_estimated=picture(film.plate_estimated, None),
        solos=None if film.solos is None else picture(film.solos, 2),
        order=torch.where(reverse.view(b, 1, 1), film.order.flip(1), film.order),
    )

"""Two clips blended into one, as through glass: V = (1 - a) V1 + a V2, with the true layers kept.

Beside plain pairs there are reflections (a soft, weak second clip), cross-fades (a changes over
time), colour filters and moving shadows as second layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("pair", "reflection", "fade", "filter", "shadow")
CHANCES = (0.62, 0.14, 0.08, 0.06, 0.10)  # of the kinds, in training
ALPHA = (0.25, 0.75)  # the second clip's share, the paper's range
EVEN = 0.4  # share of the blends in which it is a half, as `unmix` takes it unless told
REFLECTED = (0.25, 0.45)  # its share where it is a reflection
BLUR = (0.6, 2.0)  # pixels, standard deviation of a reflection's blur
SHADOWS = 3  # soft shapes a shadow layer has


@dataclass(frozen=True)
class BlendBatch:
    """blends: (B, T, 3, H, W). truth: (B, 2, T, 3, H, W), the layers. alpha: (B, T), the second
    layer's share. Float in [0, 1]."""

    blends: Tensor
    truth: Tensor
    alpha: Tensor


def blend(first: Tensor, second: Tensor, alpha: Tensor | float = 0.5) -> BlendBatch:
    """Clips (B, T, 3, H, W) blended; alpha: a number, (B,) or (B, T)."""
    share = torch.as_tensor(alpha, dtype=first.dtype, device=first.device)
    share = share[:, None] if share.ndim == 1 else share
    share = share.expand(first.shape[:2])
    weight = share[..., None, None, None]
    return BlendBatch(torch.lerp(first, second, weight), torch.stack([first, second], 1), share)


def between(low: float, high: float, count: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)


def random_blends(first: Tensor, second: Tensor, generator: torch.Generator) -> BlendBatch:
    """Pairs of clips (B, T, 3, H, W), each blended in one of `KINDS`, with random shares."""
    b, t = first.shape[:2]
    chances = torch.tensor(CHANCES, device=first.device)
    kinds = torch.multinomial(chances, b, replacement=True, generator=generator).tolist()
    even = torch.rand(b, generator=generator, device=first.device) < EVEN
    alpha = torch.where(even, 0.5, between(*ALPHA, b, generator))[:, None].repeat(1, t)
    layers = second.clone()
    for i, kind in enumerate(KINDS[k] for k in kinds):
        if kind == "reflection":
            alpha[i] = between(*REFLECTED, 1, generator)
            layers[i] = blurred(second[i], float(between(*BLUR, 1, generator)))
        elif kind == "fade":
            start, stop = between(*ALPHA, 2, generator).tolist()
            alpha[i] = torch.linspace(start, stop, t, device=first.device)
        elif kind == "filter":
            layers[i] = colour_filter(first[i], generator)
        elif kind == "shadow":
            layers[i] = shadow_clip(first[i], generator)
    return blend(first, layers, alpha)


def blurred(clip: Tensor, sigma: float) -> Tensor:
    """A clip (T, 3, H, W) through a Gaussian."""
    radius = max(1, round(3 * sigma))
    places = torch.arange(-radius, radius + 1, device=clip.device, dtype=clip.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    x = F.pad(clip, (radius, radius, radius, radius), mode="replicate")
    x = F.conv2d(x, kernel, groups=3)
    return F.conv2d(x, kernel.transpose(2, 3), groups=3)


def colour_filter(like: Tensor, generator: torch.Generator) -> Tensor:
    """A still colour that changes smoothly over the frame, shaped as a clip (T, 3, H, W)."""
    corners = torch.rand(3, 2, 2, generator=generator, device=like.device)
    base = torch.rand(3, 1, 1, generator=generator, device=like.device)
    spread = 0.3 * torch.rand(1, generator=generator, device=like.device)
    field = torch.lerp(base.expand_as(corners), corners, spread)
    size = like.shape[-2:]
    return F.interpolate(field[None], size=size, mode="bilinear", align_corners=True).expand_as(
        like
    )


def shadow_clip(like: Tensor, generator: torch.Generator) -> Tensor:
    """Soft dark shapes that drift over a light ground, shaped as a clip (T, 3, H, W)."""
    t, _, h, w = like.shape

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=like.device)

    time = torch.linspace(-0.5, 0.5, t, device=like.device)[:, None]
    centre = rand(SHADOWS, 2) + (rand(SHADOWS, 2) - 0.5)[None] * time[..., None]  # (T, S, 2)
    y = torch.linspace(0, 1, h, device=like.device)[:, None]
    x = torch.linspace(0, 1, w, device=like.device)
    size = 0.08 + 0.25 * rand(SHADOWS, 2)
    dy = (y - centre[..., 0, None, None]) / size[:, 0, None, None]
    dx = (x - centre[..., 1, None, None]) / size[:, 1, None, None]
    sharp = 2 + 12 * rand(SHADOWS, 1, 1)
    cover = torch.sigmoid(sharp * (1 - torch.sqrt(dx * dx + dy * dy + 1e-6))).amax(1)
    light = 0.6 + 0.4 * rand(1)
    depth = 0.4 + 0.6 * rand(1)
    return (light * (1 - depth * cover))[:, None].expand(t, 3, h, w)

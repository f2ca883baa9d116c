"""JPEG's losses in torch, on any device: 8x8 cosine transform, quantisation, coarse colour."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Annex K of the JPEG standard: quantisation steps at quality 50, for values in 0..255.
LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99), (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)  # fmt: skip
TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


@lru_cache(maxsize=4)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    k, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    cosine = torch.cos((2 * x + 1) * k * math.pi / 16) / 2
    cosine[0] /= math.sqrt(2)
    numbers = (cosine, *(torch.tensor(v, dtype=torch.float32) for v in (LUMA, CHROMA)))
    colours = (torch.tensor(TO_YCC), torch.tensor(TO_RGB))
    return tuple(v.to(device) for v in (*numbers, *colours))  # type: ignore[return-value]


def _quantised(plane: Tensor, cosine: Tensor, step: Tensor) -> Tensor:
    """(B, M, H, W), sides divisible by 8; step: (B, 1, 1, 1, 8, 8)."""
    blocks = plane.unflatten(-2, (-1, 8)).unflatten(-1, (-1, 8)).transpose(-3, -2)
    blocks = cosine @ blocks @ cosine.mT
    blocks = cosine.mT @ ((blocks / step).round() * step) @ cosine
    return blocks.transpose(-3, -2).reshape(plane.shape)


def jpeg(pictures: Tensor, quality: Tensor) -> Tensor:
    """Pictures (B, M, 3, H, W) in [0, 1] after JPEG at quality (B,) in 1..100, colour at half size.

    As the common encoders do it, but for the lossless coding, which changes nothing.
    """
    cosine, luma, chroma, to_ycc, to_rgb = _tables(pictures.device)
    b, m, _, h, w = pictures.shape
    pad = (0, -w % 16, 0, -h % 16)
    full = F.pad(pictures.flatten(0, 1), pad, mode="replicate").unflatten(0, (b, m)) * 255
    ycc = torch.einsum("kc,bmchw->kbmhw", to_ycc, full)
    scale = torch.where(quality < 50, 50 / quality.clamp_min(1), 2 - quality / 50)

    def steps(table: Tensor) -> Tensor:
        return (table * scale.view(b, 1, 1, 1, 1, 1)).clamp(1, 255).round()

    y = _quantised(ycc[0] - 128, cosine, steps(luma)) + 128
    colour = []
    for plane in ycc[1:]:
        small = _quantised(F.avg_pool2d(plane, 2), cosine, steps(chroma))
        colour.append(F.interpolate(small, scale_factor=2, mode="bilinear"))
    out = torch.einsum("ck,kbmhw->bmchw", to_rgb, torch.stack([y, *colour]))
    return (out[..., :h, :w] / 255).clamp(0, 1)

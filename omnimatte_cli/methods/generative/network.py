"""The U-Net of Generative Omnimatte's stage 2, and the free colours that may stand beside it.

The network is that of "Omnimatte" (Lu et al., CVPR 2021) at half its width: seven 4x4 convolutions,
five of them of stride 2, five transposed ones with skips from the first five, and one last
convolution. It sees the solo video and where that differs from the plate.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from omnimatte_cli.methods.generative.options import STRIDE

WIDTH = 32  # channels of the first block (2.63 M parameters with colour and alpha)
INPUTS = 6  # channels: the solo frame and |solo - plate|
KERNEL = 4  # pixels, of every convolution
LEAK = 0.2  # slope of the encoder's leaky ReLU
GROUP = 4  # channels that share their statistics with group norm
SMALL_STD = 0.01  # of every parameter of a network that gives alpha alone, norms' scales included
FLAT_LOGIT = 4.0  # largest logit, either sign, that free colours start from

Norm = Literal["batch", "group"]


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """Batch norm, as published, or group norm, which is the same in training and prediction."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(max(1, channels // GROUP), channels)


class Block(nn.Module):
    """A convolution, its norm and its activation."""

    def __init__(self, conv: nn.Module, norm: nn.Module | None, slope: float) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.slope = slope  # 0 is ReLU

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x if self.norm is None else self.norm(x)
        return nn.functional.leaky_relu(x, self.slope)


class LastBlock(nn.Module):
    """The last convolution: 4x4 with one pixel of padding before and two after."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 2, 1, 2))
        self.conv = nn.Conv2d(inputs, outputs, KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.pad(x))


class SoloUNet(nn.Module):
    """From a solo video and its plate to `outputs` channels, not squashed.

    outputs: 1 for alpha alone, 4 for colour and alpha. width: channels of the first block.
    """

    def __init__(self, outputs: int, width: int = WIDTH, norm: Norm = "batch") -> None:
        super().__init__()
        w = width
        encoder = [Block(nn.Conv2d(INPUTS, w, KERNEL, 2, 1), None, 0.0)]
        for inputs, channels in ((w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w), (4 * w, 4 * w)):
            conv = nn.Conv2d(inputs, channels, KERNEL, 2, 1)
            encoder.append(Block(conv, make_norm(norm, channels), LEAK))
        for _ in range(2):
            conv = nn.Conv2d(4 * w, 4 * w, KERNEL, 1, 3, dilation=2)
            encoder.append(Block(conv, make_norm(norm, 4 * w), LEAK))
        decoder = []
        for inputs, channels in ((8 * w, 4 * w), (8 * w, 4 * w), (8 * w, 2 * w), (4 * w, w)):
            up = nn.ConvTranspose2d(inputs, channels, KERNEL, 2, 1)
            decoder.append(Block(up, make_norm(norm, channels), 0.0))
        up = nn.ConvTranspose2d(2 * w, w, KERNEL, 2, 1)
        decoder.append(Block(up, make_norm(norm, w), 0.0))
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.out_conv = LastBlock(w, outputs)

    def forward(self, solo: Tensor, plate: Tensor) -> Tensor:
        """solo, plate: (B, 3, H, W) in [0, 1]. Returns (B, outputs, H, W)."""
        assert solo.shape[-2] % STRIDE == 0 and solo.shape[-1] % STRIDE == 0, solo.shape
        x = torch.cat([solo, (solo - plate).abs()], 1)
        skips = []
        for i, block in enumerate(self.encoder):
            x = block(x)
            if i < len(self.decoder):
                skips.append(x)
        for block in self.decoder:
            x = block(torch.cat([x, skips.pop()], 1))
        return self.out_conv(x)

    def start_small(self) -> None:
        """Draw every parameter from N(0, 0.01), so that all outputs start near 0."""
        for parameter in self.parameters():
            nn.init.normal_(parameter, 0.0, SMALL_STD)


class FreeColours(nn.Module):
    """A colour of its own for every pixel and frame, kept as logits (T, 3, H, W)."""

    def __init__(self, start: Tensor) -> None:
        """start: (T, 3, H, W) colours in [0, 1] to begin with."""
        super().__init__()
        self.logits = nn.Parameter(colour_logits(start))

    def forward(self, frames: slice | Tensor) -> Tensor:
        """Colours of some frames, (B, 3, H, W) in [0, 1]."""
        return self.logits[frames].sigmoid()


def colour_logits(colour: Tensor) -> Tensor:
    """The logits of colours in [0, 1], within +-4."""
    return colour.logit(eps=1e-6).clamp(-FLAT_LOGIT, FLAT_LOGIT)

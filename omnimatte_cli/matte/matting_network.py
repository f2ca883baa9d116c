"""A network that cuts bodies out of a frame before a plate that is known, from rough masks.

Background matting: Sengupta et al., "Background Matting: The World is Your Green Screen", CVPR
2020, with the mask that is at hand in place of a segmentation. A small U-Net sees the frame, the
plate, the ratio of the two, which in a shadow is smooth and has nothing of the ground's pattern,
the object's mask and the other objects'. It looks at pictures of half the size and less; at full
size there are two convolutions. Of large pictures the U-Net sees smaller ones.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

INPUTS = 8  # planes: frame 3, plate 3, mask, other objects' masks
FEATURES = 12
WIDTHS = (16, 32, 64, 96)  # channels at 1/2, 1/4, 1/8 and 1/16 of the size
STRIDE = 2 ** len(WIDTHS)  # pixels that sides are multiples of
SAID, HEAD = 8, 12  # channels at full size: of what the U-Net says, and within the head
HALO = 2  # pixels, of the head
MOMENTUM, EPSILON = 0.1, 1e-5  # of norms
DARKEST = 0.04  # added to both sides of the ratio: nothing is known of black


class MattingNet(nn.Module):
    """Planes (B, INPUTS, H, W) float32 in [0, 1] to logits of alpha (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        first, *rest = WIDTHS
        self.stem = nn.Sequential(convolution(FEATURES, first, 2), nn.ReLU(), Residual(first))
        self.down = nn.ModuleList(
            nn.Sequential(convolution(a, b, 2), nn.ReLU(), Residual(b), Residual(b))
            for a, b in zip(WIDTHS, rest, strict=False)
        )
        self.across = nn.ModuleList(
            nn.Conv2d(b, a, 1) for a, b in zip(WIDTHS[-2::-1], WIDTHS[::-1], strict=False)
        )
        self.up = nn.ModuleList(Residual(a) for a in WIDTHS[-2::-1])
        self.out = nn.Conv2d(first, SAID, 1)
        self.head = nn.Sequential(
            nn.Conv2d(FEATURES + SAID, HEAD, 3, padding=1), nn.ReLU(), nn.Conv2d(HEAD, 1, 3, 1, 1)
        )

    def forward(self, planes: Tensor, less: int = 1) -> Tensor:
        """less: a power of two, how many times as small a picture the U-Net sees; H and W are
        multiples of that times STRIDE."""
        seen = features(planes)
        small = seen if less == 1 else features(F.avg_pool2d(planes, less))
        return self.decide(seen, self.look(small, less))

    def look(self, seen: Tensor, less: int) -> Tensor:
        """What the U-Net says of every pixel, (B, SAID, H, W).

        seen: features of a picture that is `less` times as small.
        """
        x = self.stem(seen)
        levels = [x]
        for down in self.down:
            x = down(x)
            levels.append(x)
        for across, up, level in zip(self.across, self.up, levels[-2::-1], strict=True):
            x = up(level + enlarged(across(x), 2))
        return enlarged(self.out(x), 2 * less)

    def decide(self, seen: Tensor, said: Tensor) -> Tensor:
        """Logits of alpha from features and that; pixels know of those up to HALO away."""
        return cast(Tensor, self.head(torch.cat([seen, said], 1)))


class Residual(nn.Module):
    """Two convolutions whose result is added to what they see."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = convolution(channels, channels), convolution(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


class Norm(nn.Module):
    """Batch norm whose statistics are weights, all of them floating-point."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(f(channels)) for f in (torch.ones, torch.zeros))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        kept = self.mean, self.variance
        return F.batch_norm(x, *kept, self.weight, self.bias, self.training, MOMENTUM, EPSILON)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3, with its norm."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), Norm(outputs))


def features(planes: Tensor) -> Tensor:
    """What the network sees of its planes: (B, INPUTS, H, W) to (B, FEATURES, H, W)."""
    frame, plate, mask, others = planes.split((3, 3, 1, 1), 1)
    ratio = torch.log((frame + DARKEST) / (plate + DARKEST))
    change = (frame - plate).square().sum(1, keepdim=True).add(1e-6).sqrt()
    return torch.cat([frame - 0.5, plate - 0.5, ratio, mask - 0.5, others, change], 1)


def enlarged(x: Tensor, times: int) -> Tensor:
    """(B, C, H, W) at so many times the size."""
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=False)


def fused(net: MattingNet) -> MattingNet:
    """The network for inference, in place: norms become part of the convolutions before them."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Sequential) and isinstance(child[-1], Norm):
                convolve, norm = child
                assert isinstance(convolve, nn.Conv2d)
                assert isinstance(norm, Norm)
                convolve.weight, convolve.bias = fuse_conv_bn_weights(
                    convolve.weight,
                    convolve.bias,
                    norm.mean,
                    norm.variance,
                    EPSILON,
                    norm.weight,
                    norm.bias,
                )
                setattr(module, name, convolve)
    return channels_last(net.eval())


def channels_last(net: MattingNet) -> MattingNet:
    """The same network, its kernels in the order in which they are used the fastest."""
    for value in net.parameters():
        if value.ndim == 4:
            value.data = value.data.contiguous(memory_format=torch.channels_last)
    return net

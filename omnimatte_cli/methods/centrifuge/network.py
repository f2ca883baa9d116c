"""The networks of the Visual Centrifuge: a 3D U-Net on the encoder of I3D, and two of them.

The predictor is I3D (Carreira & Zisserman 2017) without pooling and classifier, and a decoder of
transposed convolutions with skips; its n outputs are channels of one last layer. The
predictor-corrector puts a second one behind it that reads the first's outputs alone and adds to
them. `PAPER` has the published sizes; `MINI` is what two CPU cores can train, `WIDE` what a
GPU can in minutes and two CPU cores still run.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.methods.centrifuge.motion import along_main_motions

Kernel = tuple[int, int, int]  # (t, y, x)
Depth = Literal["3c", "4f", "5c"]  # the last Mixed block of the encoder

# Mixed blocks of I3D: widths of the four branches, (a; b0, b1; c0, c1; d), concatenated a b1 c1 d.
MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
STAGES: dict[str, tuple[str, ...]] = {
    "3c": ("3b", "3c"),
    "4f": ("4b", "4c", "4d", "4e", "4f"),
    "5c": ("5b", "5c"),
}
DOUBLED: Kernel = (2, 2, 2)
WIDENED: Kernel = (1, 2, 2)
POOLS: dict[str, tuple[Kernel, Kernel]] = {  # kernel and stride of the pooling before a stage
    "3c": ((1, 3, 3), WIDENED),
    "4f": ((3, 3, 3), DOUBLED),
    "5c": ((2, 2, 2), DOUBLED),
}
# Decoder, from each stage upwards: widths of its transposed and of its plain convolution.
DECODER = {"5c": (64, 64), "4f": (64, 64), "3c": (32, 32), "2c": (32, 16), "1a": (32, 0)}
STEM, SECOND = 64, 192  # channels of conv1a and conv2b, and of conv2c
NORM_MOMENTUM = 0.1
NORM_EPSILON = 1e-3  # I3D's
FIRST_CHANGES = 0.003  # deviation of the last weights where outputs are changes of the input


@dataclass(frozen=True)
class Shape:
    """What a network is built from; it is written into its weights.

    outputs: n. corrector: whether a second predictor corrects the first. depth: the encoder's last
    block. stem, mixed, decoder: shares of the published widths of the first convolutions, the Mixed
    blocks and the decoder. kernel: of the decoder's convolutions, 4 as published or 3. residual:
    whether outputs are changes of the input, so that training starts at the identity. context:
    whether the clip's means along its two main motions (`motion.py`) are further inputs, of the
    encoder and of the last convolutions: whose an edge is, is then seen at once where the scenes
    move past each other, and edges pass at full size.
    """

    outputs: int = 4
    corrector: bool = True
    depth: Depth = "5c"
    stem: float = 1.0
    mixed: float = 1.0
    decoder: float = 1.0
    kernel: int = 4
    residual: bool = False
    context: bool = False

    def __post_init__(self) -> None:
        good = (
            2 <= self.outputs <= 16
            and self.depth in STAGES
            and self.kernel in (3, 4)
            and all(0 < share <= 1 for share in (self.stem, self.mixed, self.decoder))
        )
        if not good:
            raise ValueError(f"no such network: {asdict(self)}")

    @property
    def stride(self) -> Kernel:
        """Frames and pixels that a clip's sides are padded to multiples of."""
        return {"3c": (2, 8, 8), "4f": (4, 16, 16), "5c": (8, 32, 32)}[self.depth]


PAPER = Shape()
MINI = Shape(
    outputs=2,
    corrector=False,
    depth="4f",
    stem=0.5,
    mixed=0.25,
    kernel=3,
    residual=True,
    context=True,
)
WIDE = replace(MINI, stem=0.75, mixed=0.75)
PRESETS = {"mini": MINI, "wide": WIDE, "paper": PAPER}


class Norm(nn.Module):
    """Batch normalisation whose moving averages are all that it keeps beside its parameters."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x,
            self.mean,
            self.variance,
            self.weight,
            self.bias,
            self.training,
            NORM_MOMENTUM,
            NORM_EPSILON,
        )


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and behind so that ceil(size / stride) places come out, surplus behind."""
    out = -(-size // stride)
    total = max(0, (out - 1) * stride + kernel - size)
    return total // 2, total - total // 2


def padded(x: Tensor, kernel: Kernel, stride: Kernel, value: float = 0.0) -> Tensor:
    """A tensor (B, C, T, H, W) with TensorFlow's 'same' padding.

    Copied even where the convolution could pad by itself: on CPUs torch's bfloat16 gradient of a
    padded 3D convolution is not finite at small sizes (torch 2.13).
    """
    sides = [same_padding(*sizes) for sizes in zip(x.shape[2:], kernel, stride, strict=True)]
    flat = [side for pair in reversed(sides) for side in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def cropped(x: Tensor, size: Kernel | torch.Size) -> Tensor:
    """The first (t, h, w) places of a tensor (B, C, T, H, W)."""
    t, h, w = size
    return x if x.shape[2:] == (t, h, w) else x[:, :, :t, :h, :w]


class Unit(nn.Module):
    """Convolution without bias, batch norm, ReLU; 'same' padding."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: Kernel = (1, 1, 1)):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.norm = Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(padded(x, self.kernel, self.stride))))


class Raised(nn.Module):
    """Transposed convolution without bias, batch norm, ReLU; sides grow by the stride."""

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: Kernel) -> None:
        super().__init__()
        self.stride = stride
        t, h, w = ((k - s) // 2 for k, s in zip(kernel, stride, strict=True))
        self.conv = nn.ConvTranspose3d(inputs, outputs, kernel, stride, (t, h, w), bias=False)
        self.norm = Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        t, h, w = (n * s for n, s in zip(x.shape[2:], self.stride, strict=True))
        return F.relu(self.norm(cropped(self.conv(x), (t, h, w))))


def pooled(x: Tensor, kernel: Kernel, stride: Kernel) -> Tensor:
    """Maxima with 'same' padding; what comes in is never negative, so that zeros change nothing."""
    return F.max_pool3d(padded(x, kernel, stride), kernel, stride)


class Mixed(nn.Module):
    """The Inception block of I3D: four branches, concatenated."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        a, b0, b1, c0, c1, d = widths
        one, three = (1, 1, 1), (3, 3, 3)
        self.a = Unit(inputs, a, one)
        self.b = nn.Sequential(Unit(inputs, b0, one), Unit(b0, b1, three))
        self.c = nn.Sequential(Unit(inputs, c0, one), Unit(c0, c1, three))
        self.d = Unit(inputs, d, one)
        self.outputs = a + b1 + c1 + d

    def forward(self, x: Tensor) -> Tensor:
        pool = pooled(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.a(x), self.b(x), self.c(x), self.d(pool)], 1)


def narrowed(channels: int, share: float) -> int:
    """A share of a published width, at least 4."""
    return max(4, round(channels * share))


class Encoder(nn.Module):
    """I3D up to a Mixed block. Gives the maps that the decoder takes, the finest first."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        stem, second = narrowed(STEM, shape.stem), narrowed(SECOND, shape.stem)
        self.conv1a = Unit(inputs, stem, (7, 7, 7), DOUBLED)
        self.conv2b = Unit(stem, stem, (1, 1, 1))
        self.conv2c = Unit(stem, second, (3, 3, 3))
        self.names = [name for name in STAGES if name <= shape.depth]
        self.widths = {"1a": stem, "2c": second}
        last = second
        self.stages = nn.ModuleList()
        for name in self.names:
            blocks = []
            for block in STAGES[name]:
                blocks.append(Mixed(last, tuple(narrowed(c, shape.mixed) for c in MIXED[block])))
                last = blocks[-1].outputs
            self.stages.append(nn.Sequential(*blocks))
            self.widths[name] = last

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        maps = {"1a": self.conv1a(x)}
        x = pooled(maps["1a"], (1, 3, 3), WIDENED)
        x = maps["2c"] = self.conv2c(self.conv2b(x))
        for name, stage in zip(self.names, self.stages, strict=True):
            x = maps[name] = stage(pooled(x, *POOLS[name]))
        return maps


class Decoder(nn.Module):
    """From the encoder's last map to n clips, each step joined by a skip of the encoder."""

    def __init__(self, encoder: Encoder, inputs: int, shape: Shape) -> None:
        super().__init__()
        self.names = ["1a", "2c", *encoder.names][::-1]  # the coarsest first
        k = shape.kernel
        self.raise_ = nn.ModuleList()
        self.plain = nn.ModuleList()
        self.skip = nn.ModuleList()
        last = encoder.widths[self.names[0]]
        for name, finer in zip(self.names, [*self.names[1:], None], strict=True):
            up, plain = (narrowed(c, shape.decoder) for c in DECODER[name])
            stride = WIDENED if name in ("3c", "2c") else DOUBLED
            # A kernel of 3 does not divide evenly between the places that a stride of 2 makes.
            kernel = tuple(4 if s == 2 else k for s in stride)
            self.raise_.append(Raised(last, up, kernel, stride))  # type: ignore[arg-type]
            last = up
            if finer is not None:
                self.plain.append(Unit(up, plain, (k, k, k)))
                self.skip.append(Unit(encoder.widths[finer], plain, (1, 1, 1)))
                last = 2 * plain
        self.kernel: Kernel = (k, k, k) if k == 4 else (1, 3, 3)
        self.join = Unit(last + inputs, last // 2, self.kernel) if shape.context else None
        last = last // 2 + inputs if shape.context else last
        self.last = nn.Conv3d(last, 3 * shape.outputs, self.kernel)
        if shape.residual:
            nn.init.normal_(self.last.weight, std=FIRST_CHANGES)

    def forward(self, maps: dict[str, Tensor], clip: Tensor) -> Tensor:
        x = maps[self.names[0]]
        for i, finer in enumerate(self.names[1:]):
            x = self.plain[i](self.raise_[i](x))
            skip = self.skip[i](maps[finer])
            x = torch.cat([cropped(x, skip.shape[2:]), skip], 1)
        x = cropped(self.raise_[-1](x), clip.shape[2:])
        if self.join is not None:
            x = torch.cat([self.join(torch.cat([x, clip], 1)), clip], 1)
        return self.last(padded(x, self.kernel, (1, 1, 1)))


class Predictor(nn.Module):
    """(B, C, T, H, W) to (B, 3 n, T, H, W), of any size."""

    def __init__(self, inputs: int, shape: Shape) -> None:
        super().__init__()
        self.context = shape.context
        inputs = 3 * inputs if shape.context else inputs
        self.encoder = Encoder(inputs, shape)
        self.decoder = Decoder(self.encoder, inputs, shape)

    def forward(self, x: Tensor) -> Tensor:
        if self.context:
            x = torch.cat([x, along_main_motions(x)], 1)
        return self.decoder(self.encoder(x), x)


class Centrifuge(nn.Module):
    """A blend of clips (B, T, 3, H, W) in [0, 1] to n clips (B, n, T, 3, H, W), unclamped."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.predictor = Predictor(3, shape)
        self.corrector = Predictor(3 * shape.outputs, shape) if shape.corrector else None
        # The layout in which 3D convolutions are fastest.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def forward(self, clips: Tensor) -> Tensor:
        x = 2 * clips.transpose(1, 2) - 1
        found = self.predictor(x).float()  # bfloat16 has 256 levels: too few for a picture
        if self.shape.residual:
            found = found + x.repeat(1, self.shape.outputs, 1, 1, 1)
        if self.corrector is not None:
            found = found + self.corrector(found)
        layers = found.unflatten(1, (self.shape.outputs, 3)).transpose(2, 3)
        return 0.5 * (layers + 1)

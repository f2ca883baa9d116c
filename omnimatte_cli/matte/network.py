"""The ownership network: who owns each pixel's difference from the plate. Tensors only.

A U-Net over one object's masks and the pictures' shared features, with attention over the whole
picture and the neighbouring frames at 1/16 of the size: a shadow moves with its owner, and a mirror
image can be far from it. Every object runs through the same weights; at the coarsest level each
also sees the maximum over all objects, and a softmax over the objects and 'nobody' decides. So the
result does not depend on the order of the objects, and any number of them works. Further blocks of
attention within a frame, at 1/16 and at 1/8, compare what has been gathered.

Letters: B clips, N objects, T frames, C channels, H, W pixels; h = H/16, w = W/16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.matte.likeness import LIKENESSES, central_difference, likeness

STRIDE = 16
REACHES = (2, 2)  # frames to each side that each block of attention sees
CONTEXT = sum(REACHES) + 1  # frames to each side that one frame's result can depend on: those of
# attention, and the next of each of them
HEADS = 4
IMAGE_CHANNELS = (24, 48, 96, 128)  # at 1/2, 1/4, 1/8, 1/16
OBJECT_CHANNELS = (16, 32, 64, 128)
DECODER_CHANNELS = (24, 40, 64)  # at 1/2, 1/4, 1/8
FAINT_GAIN = 12.0  # gain of a second, saturating copy of the residual, for faint effects


class Block(nn.Sequential):
    """Convolution, group norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(max(1, outputs // 16), outputs),
            nn.SiLU(inplace=True),
        )

    @property
    def weight(self) -> Tensor:
        """The convolution's, (outputs, inputs, 3, 3)."""
        conv = self[0]
        assert isinstance(conv, nn.Conv2d)
        return conv.weight

    def after(self, x: Tensor) -> Tensor:
        """What follows the convolution."""
        return self[2](self[1](x))

    @classmethod
    def first_of(cls, stage: nn.Module) -> Block:
        """The first block of a stage."""
        found = next(stage.children())
        assert isinstance(found, cls)
        return found


class TimeAttention(nn.Module):
    """Pre-norm attention and MLP over all places of the frames within reach, and an exchange."""

    def __init__(self, dim: int, reach: int, moments: bool = False) -> None:
        """moments: whether keys and values say how far away in time their frame is."""
        super().__init__()
        self.reach = reach
        self.norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.time_bias = nn.Parameter(torch.zeros(HEADS, 2 * reach + 1))
        moments = moments and reach > 0
        self.moments = nn.Parameter(torch.zeros(2, 2 * reach + 1, dim)) if moments else None
        self.exchange = nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))

    def start_absent(self) -> None:
        """Let what comes in go out unchanged, until training says otherwise."""
        last = self.mlp[-1]
        assert isinstance(last, nn.Linear)
        for layer in (self.out, self.exchange, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, N, T, S, D), positions (S, D) to (B, N, T, S, D)."""
        b, n, t, s, _ = x.shape
        y = self.norm(x).flatten(0, 1)  # (M, T, S, D)
        q, k, v = self.qkv(y + positions).chunk(3, -1)

        def heads(z: Tensor) -> Tensor:  # (M, T, L, D) to (M * T, heads, L, D / heads)
            return z.unflatten(-1, (HEADS, -1)).transpose(-2, -3).flatten(0, 1)

        mask = None
        if self.reach:
            # Keys and values of the frames around each frame; those outside the clip are masked.
            steps = torch.arange(-self.reach, self.reach + 1, device=x.device)
            around = torch.arange(t, device=x.device)[:, None] + steps  # (T, R)
            inside = (around >= 0) & (around < t)
            around = around.clamp(0, t - 1)
            k, v = k[:, around], v[:, around]  # (M, T, R, S, D)
            if self.moments is not None:
                k, v = (z + m[:, None] for z, m in zip((k, v), self.moments, strict=True))
            k, v = k.flatten(2, 3), v.flatten(2, 3)
            bias = self.time_bias[None].masked_fill(~inside[:, None], -1e4)  # (T, heads, R)
            # The same for all places of a frame: one row for every query. With four dimensions
            # torch takes its fused kernel, four times as fast on a CPU as products of matrices.
            row = bias[..., None].expand(-1, -1, -1, s).flatten(2)[None, :, :, None]
            mask = row.expand(b * n, -1, -1, -1, -1).flatten(0, 1).to(q.dtype)
        q, k, v = heads(q), heads(k), heads(v)
        z = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).unflatten(0, (b * n, t))
        x = x + self.out(z.transpose(-2, -3).flatten(-2)).unflatten(0, (b, n))
        x = x + self.exchange(x.amax(1, keepdim=True))
        return x + self.mlp(self.mlp_norm(x))


class OwnerNet(nn.Module):
    """Scores every object and 'nobody' at every pixel."""

    def __init__(
        self, reaches: Sequence[int] = REACHES, fine: int = 0, motion: bool = False
    ) -> None:
        """reaches: frames to each side that each block of attention sees, at most CONTEXT in all.

        fine: blocks of attention at 1/8 of the size. They and the others that see their own frame
        alone begin as if they were not there.

        motion: whether the network is also given how residuals and masks change from the frame
        before to the frame after, how well each object's own motion explains the residual's
        (`likeness`), and attention how far away in time a frame is. Without it the answer is nearly
        the same when time runs backwards.
        """
        super().__init__()
        assert reaches and min(reaches) >= 0 and sum(reaches) < CONTEXT, reaches
        self.reaches = tuple(reaches)
        self.motion = motion
        image, obj, up = IMAGE_CHANNELS, OBJECT_CHANNELS, DECODER_CHANNELS
        self.image = nn.ModuleList()
        self.object = nn.ModuleList()
        image_in, object_in = (15, 3) if motion else (9, 2)
        for level, (i, o) in enumerate(zip(image, obj, strict=True)):
            self.image.append(nn.Sequential(Block(image_in, i, 2), Block(i, i)))
            self.object.append(nn.Sequential(Block(object_in, o, 2)))
            alike = LIKENESSES if motion and level == 0 else 0
            image_in, object_in = i, alike + o + i
        dim = obj[3]
        self.join = nn.Linear(object_in, dim)
        self.attention = nn.ModuleList(TimeAttention(dim, r, motion) for r in self.reaches)
        self.up3 = nn.Sequential(Block(dim + obj[2] + image[2], up[2]), Block(up[2], up[2]))
        self.up2 = nn.Sequential(Block(up[2] + obj[1] + image[1], up[1]), Block(up[1], up[1]))
        self.up1 = nn.Sequential(Block(up[1] + obj[0] + image[0], up[0]), Block(up[0], up[0]))
        self.head = nn.Conv2d(up[0], 2, 3, padding=1)
        self.fine = nn.ModuleList(TimeAttention(up[2], 0) for _ in range(fine))
        for attention in (*self.attention, *self.fine):
            assert isinstance(attention, TimeAttention)
            if attention.reach == 0:
                attention.start_absent()

    def forward(self, frames: Tensor, plates: Tensor, masks: Tensor) -> Tensor:
        """Logits of every object and of 'nobody', which comes last.

        frames: (B, T, 3, H, W) in [0, 1], in order of time, equally spaced. plates: the same shape,
        or (B, 1, 3, H, W). masks: (B, N, T, 1, H, W) in {0, 1}. H and W are multiples of 16.
        Returns (B, N + 1, T, H, W); softmax over dimension 1 gives the ownership.
        """
        b, t, _, height, width = frames.shape
        n = masks.shape[1]
        assert height % STRIDE == 0 and width % STRIDE == 0, (height, width)
        assert masks.shape == (b, n, t, 1, height, width), (masks.shape, frames.shape)
        residual = frames - plates
        pictures = [frames - 0.5, 2 * residual, torch.tanh(FAINT_GAIN * residual)]
        if self.motion:
            step = central_difference(residual, 1)
            pictures = [2 * step, torch.tanh(FAINT_GAIN * step), *pictures]
        images = []
        x = torch.cat(pictures, 2).flatten(0, 1)
        for stage in self.image:
            x = stage(x)
            images.append(x)

        others = (masks.sum(1, keepdim=True) - masks).clamp(max=1)
        shapes = [masks, others]
        if self.motion:
            shapes = [central_difference(masks, 2), *shapes]
        x = torch.cat(shapes, 3).flatten(0, 2)
        objects = []
        for level, stage in enumerate(self.object):
            if level == 0:
                x = stage(x)
            else:
                first = Block.first_of(stage)
                if self.motion and level == 1:
                    alike = likeness(residual, masks).flatten(0, 2)
                    x = torch.cat([alike.to(x.dtype), x], 1)
                x = join_channels(first.weight, x, images[level - 1], t, stride=2)
                x = first.after(x)
            objects.append(x)
        image = images[-1].unflatten(0, (b, 1, t)).expand(-1, n, *[-1] * 4).flatten(0, 2)
        x = torch.cat([x, image], 1)

        def compared(blocks: nn.ModuleList, x: Tensor) -> Tensor:  # (B * N * T, C, h, w)
            h, w = x.shape[2:]
            tokens = x.flatten(2).transpose(1, 2).unflatten(0, (b, n, t))
            positions = sine_positions(h, w, tokens.shape[-1], x.device).to(x.dtype)
            for attention in blocks:
                tokens = attention(tokens, positions)
            return tokens.flatten(0, 2).transpose(1, 2).unflatten(2, (h, w))

        x = self.join(x.movedim(1, -1)).movedim(-1, 1)
        x = compared(self.attention, x)
        for up, level in ((self.up3, 2), (self.up2, 1), (self.up1, 0)):
            first = Block.first_of(up)
            x = first.after(join_levels(first.weight, x, objects[level], images[level], t))
            x = up[1](x)
            if level == 2 and self.fine:
                x = compared(self.fine, x)
        x = F.interpolate(self.head(x), scale_factor=2, mode="bilinear", align_corners=False)
        scores = x.unflatten(0, (b, n, t))
        own, nobody = scores[:, :, :, 0], scores[:, :, :, 1].mean(1, keepdim=True)
        return torch.cat([own, nobody], 1)


def join_channels(
    weight: Tensor, own: Tensor, image: Tensor, frames: int, stride: int = 1
) -> Tensor:
    """A 3x3 convolution, padded by 1, of the channels of `own` and those of `image` after them.

    weight: (D, C1 + C2, 3, 3). own: (B * N * T, C1, H, W). image: (B * T, C2, H, W), the same for
    all N objects: what it adds is computed once, and not copied. frames: T. Returns (B * N * T, D,
    H / stride, W / stride).
    """
    mine, common = weight.split((own.shape[1], image.shape[1]), 1)
    out = F.conv2d(own, mine, stride=stride, padding=1)
    shared = F.conv2d(image, common, stride=stride, padding=1).unflatten(0, (-1, 1, frames))
    return out.unflatten(0, (len(shared), -1, frames)).add_(shared).flatten(0, 2)


def join_levels(weight: Tensor, x: Tensor, own: Tensor, image: Tensor, frames: int) -> Tensor:
    """The same of the channels of x, made twice as large by repeating its pixels, own and image.

    weight: (D, C1 + C2 + C3, 3, 3). x: (B * N * T, C1, H / 2, W / 2). Returns (B * N * T, D, H, W).

    The weights that meet repetitions of one pixel are added beforehand: together with the shared
    part, two objects take two fifths of the products.
    """
    coarse, fine = weight.split((x.shape[1], own.shape[1] + image.shape[1]), 1)
    # What a pixel of x adds to the 4x4 pixels around its place: the weights over its 2x2 pixels.
    turned = coarse.flip(2, 3).transpose(0, 1)
    spread = F.conv2d(turned.reshape(-1, 1, 3, 3), weight.new_ones(1, 1, 2, 2), padding=1)
    spread = spread.reshape(*turned.shape[:2], 4, 4)
    return join_channels(fine, own, image, frames).add_(
        F.conv_transpose2d(x, spread, stride=2, padding=1)
    )


def sine_positions(h: int, w: int, dim: int, device: torch.device) -> Tensor:
    """Sine and cosine of the tokens' places from the picture's centre, (h * w, dim).

    Wavelengths from 2 to about 100 tokens ("Attention Is All You Need", section 3.5, in 2D).
    """
    quarter = dim // 4
    rate = torch.exp(torch.arange(quarter, device=device) / quarter * -math.log(32.0)) * math.pi / 2
    y = (torch.arange(h, device=device) - (h - 1) / 2)[:, None] * rate
    x = (torch.arange(w, device=device) - (w - 1) / 2)[:, None] * rate
    rows = torch.cat([y.sin(), y.cos()], 1)[:, None].expand(h, w, -1)
    columns = torch.cat([x.sin(), x.cos()], 1)[None].expand(h, w, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)

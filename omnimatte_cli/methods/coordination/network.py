"""The layer network: a window of frames, some hidden, and one object's masks in; RGBA out.

Architecture of "Associating Objects and Their Effects in Video through Coordination Games"
(Lu et al., NeurIPS 2022), section 3.2 and supplement 1. Every object passes through alone. Tensors
only: no files and no option objects here.

Letters: B windows, N objects, T frames of a window, K frames decoded, C channels, H, W pixels;
h = H/16, w = W/16 is the token grid.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.device import sent

STRIDE = 16  # pixels a token: four stride-2 convolutions
HEADS = 4
LAYERS = 2
MAX_FRAMES = 10  # length of the table of time embeddings
PAPER_WIDTH = 64  # channels of the first convolution in the paper: 7.37 M parameters
NORM_EPS = 1e-5
TOKEN_BOUND = 2.0  # queries, keys and values are clamped to [-2, 2]
POSITION_BOUND = 1.0
RGBA_BOUND = 3.0  # decoder outputs are clamped to [-3, 3] before tanh


class Encoder(nn.Module):
    """Four 4x4 stride-2 convolutions; the first block's features are returned for the skip."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        sizes = [channels, width, 2 * width, 4 * width, 4 * width]
        pairs = list(itertools.pairwise(sizes))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairs)
        self.norms = nn.ModuleList(
            nn.InstanceNorm2d(b, eps=NORM_EPS, affine=True) for _, b in pairs[1:]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, C, H, W) in [-1, 1] to features (M, 4 width, h, w) and skip (M, width, H/2, W/2)."""
        skip = x = F.leaky_relu(self.convs[0](x), 0.2)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2)
        return x, skip


class Decoder(nn.Module):
    """Four 4x4 stride-2 transposed convolutions and a 3x3 convolution to RGBA.

    The skip is that of a hidden frame, a constant picture, so it is the same for every layer: its
    half of the last transposed convolution is computed once and added.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [4 * width, 4 * width, 2 * width, width]
        pairs = list(itertools.pairwise(sizes))
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, stride=2, padding=1) for a, b in pairs
        )
        self.norms = nn.ModuleList(
            nn.InstanceNorm2d(b, eps=NORM_EPS, affine=True) for _, b in pairs
        )
        self.last = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.last_norm = nn.InstanceNorm2d(width, eps=NORM_EPS, affine=True)
        self.rgba = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(M, 4 width, h, w) and skip (1, width, H/2, W/2) to RGBA (M, 4, H, W) in [-1, 1]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        own, shared = self.last.weight.split(x.shape[1])
        bias = self.last.bias
        x = F.conv_transpose2d(x, own, bias, stride=2, padding=1)
        x = x + F.conv_transpose2d(skip, shared, stride=2, padding=1)
        x = F.relu(self.last_norm(x))
        return torch.tanh(self.rgba(x).clamp(-RGBA_BOUND, RGBA_BOUND))


class Attention(nn.Module):
    """Multi-head attention with separate projections; dropout on the output, as published."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(M, Q, D), (M, S, D), (M, S, D) to (M, Q, D)."""
        parts = (self.query(query), self.key(key), self.value(value))
        q, k, v = (x.unflatten(2, (HEADS, -1)).transpose(1, 2) for x in parts)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One pre-norm layer of the transformer decoder."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim)
        self.cross_attention = Attention(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim, eps=NORM_EPS) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, kept: Tensor | None) -> Tensor:
        """x (B, N, S, D), keys and values (B, S', D); kept (B, R): tokens to compute, or all.

        Keys and values do not depend on the object, so the objects of a window share them.
        """
        b, n = x.shape[:2]
        y = self.norms[0](x).flatten(0, 1)
        if kept is not None:
            index = kept[:, None, :, None].expand(-1, n, -1, x.shape[3])
            x = x.gather(2, index)
            query = y.gather(1, index.flatten(0, 1))
        else:
            query = y
        x = x + self.dropout(self.self_attention(query, y, y)).unflatten(0, (b, n))
        y = self.norms[1](x).flatten(1, 2)
        x = x + self.dropout(self.cross_attention(y, keys, values)).unflatten(1, (n, -1))
        return x + self.dropout(self.mlp(self.norms[2](x)))


class Positions(nn.Module):
    """Learned x, y and t embeddings, concatenated in that order to D channels."""

    def __init__(self, grid: tuple[int, int], width: int) -> None:
        super().__init__()
        h, w = grid
        side = width * 3 // 2
        self.x = nn.Parameter(torch.randn(w, side) * 0.02)
        self.y = nn.Parameter(torch.randn(h, side) * 0.02)
        self.t = nn.Parameter(torch.randn(MAX_FRAMES, width) * 0.02)

    def forward(self, frames: int, grid: tuple[int, int]) -> Tensor:
        """(T, h, w, D) in [-1, 1]."""
        h, w = grid
        x = resize_table(self.x, w)[None, None].expand(frames, h, w, -1)
        y = resize_table(self.y, h)[None, :, None].expand(frames, h, w, -1)
        t = self.t[:frames, None, None].expand(frames, h, w, -1)
        return torch.cat([x, y, t], 3).clamp(-POSITION_BOUND, POSITION_BOUND)


def resize_table(table: Tensor, length: int) -> Tensor:
    """An embedding table (L, C) to (length, C), linearly (paper, supplement 1)."""
    if len(table) == length:
        return table
    resized = F.interpolate(table.t()[None], size=length, mode="linear", align_corners=False)
    return resized[0].t()


class LayerNet(nn.Module):
    """The network of the paper, at any width.

    width: channels of the first convolution; 64 is the paper's. A multiple of 4.
    grid: (h, w), the token grid that the position tables are stored for. Other sizes work: the
    tables are resized when used.
    """

    def __init__(
        self, width: int = PAPER_WIDTH, grid: tuple[int, int] = (8, 14), dropout: float = 0.1
    ) -> None:
        super().__init__()
        assert width % 4 == 0 and width > 0, width
        self.width, self.grid, dim = width, grid, 4 * width
        self.image_encoder = Encoder(3, width)
        self.mask_encoder = Encoder(1, width)
        self.decoder = Decoder(width)
        self.blocks = nn.ModuleList(Block(dim, dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.query_positions = Positions(grid, width)
        self.key_positions = Positions(grid, width)
        self.visible = nn.Parameter(torch.randn(dim) * 0.02)
        self.hidden = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(
        self, frames: Tensor, masks: Tensor, hidden: Tensor, decoded: Tensor | None = None
    ) -> Tensor:
        """Predict each object's layer in the hidden frames.

        frames: (B, T, 3, H, W) in [0, 1]; the pixels of hidden frames are never read.
        masks: (B, N, T, 1, H, W) in {0, 1}. H and W are multiples of 16, T at most 10.
        hidden: (B, T) bool, the same number of hidden frames in every window, at least one. Best on
        the CPU whatever the device: it decides shapes, for which a device would be waited for.
        decoded: (B, K) int64, the frames to decode; default: the hidden ones, in order of time.
        Returns straight-alpha RGBA (B, N, K, 4, H, W) in [0, 1].
        """
        b, t, _, height, width = frames.shape
        n = masks.shape[1]
        assert height % STRIDE == 0 and width % STRIDE == 0, (height, width)
        assert masks.shape == (b, n, t, 1, height, width), (masks.shape, frames.shape)
        assert hidden.shape == (b, t) and t <= MAX_FRAMES, (hidden.shape, t)
        h, w = height // STRIDE, width // STRIDE
        hidden = hidden.cpu()
        if decoded is None:
            decoded = sent(hidden_frames(hidden), frames.device)

        image, skip = self._encode_frames(frames, hidden)  # (B, T, D, h, w)
        mask, _ = self.mask_encoder(masks.reshape(b * n * t, 1, height, width) * 2 - 1)
        image = image.permute(0, 1, 3, 4, 2)
        mask = mask.unflatten(0, (b, n, t)).permute(0, 1, 2, 4, 5, 3)

        keys = (image + self.key_positions(t, (h, w))).clamp(-TOKEN_BOUND, TOKEN_BOUND)
        values = image.clamp(-TOKEN_BOUND, TOKEN_BOUND)
        x = (mask + self.query_positions(t, (h, w))).clamp(-TOKEN_BOUND, TOKEN_BOUND)
        x, keys, values = x.flatten(2, 4), keys.flatten(1, 3), values.flatten(1, 3)

        # The last layer needs only the tokens of the frames that are decoded.
        cells = torch.arange(h * w, device=frames.device)
        kept = (decoded[:, :, None] * (h * w) + cells).flatten(1)
        for i, block in enumerate(self.blocks):
            x = block(x, keys, values, kept if i == len(self.blocks) - 1 else None)
        x = self.norm(x).unflatten(2, (-1, h, w)).permute(0, 1, 2, 5, 3, 4)
        rgba = self.decoder(x.flatten(0, 2), skip).unflatten(0, (b, n, -1))
        return (rgba + 1) / 2

    def _encode_frames(self, frames: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D, h, w) with the seen/hidden embedding added, and the blank skip.

        All hidden frames are the same constant picture and instance norm is per sample, so one
        blank frame is encoded for the whole batch.
        """
        b, t = hidden.shape
        device, where = frames.device, (~hidden).flatten().nonzero()[:, 0]
        shown = frames.flatten(0, 1)[sent(where, device)]  # (seen frames of all windows, 3, H, W)
        blank = frames.new_zeros(1, *frames.shape[2:])
        features, skip = self.image_encoder(torch.cat([shown, blank]) * 2 - 1)
        # Position of each frame's features in `features`; the blank one is the last.
        place = torch.full((b, t), len(shown))
        place[~hidden] = torch.arange(len(shown))
        embedding = torch.where(sent(hidden, device)[..., None], self.hidden, self.visible)
        return features[sent(place, device)] + embedding[..., None, None], skip[-1:]


def hidden_frames(hidden: Tensor) -> Tensor:
    """(B, T) bool, equally many True per row, to (B, K) int64: their indices, ascending."""
    counts = hidden.sum(1)
    assert bool((counts == counts[0]).all()) and int(counts[0]) > 0, counts
    return hidden.nonzero()[:, 1].unflatten(0, (len(hidden), -1))

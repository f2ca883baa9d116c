"""How the residual changes in time, and whether an object's own motion explains it.

The ownership network's inputs say of two frames what its convolutions cannot find out by
themselves: a shadow a quarter of a second later is where its owner has carried it, and not where
another object would have.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LIKENESSES = 4  # motions that an object's residual may have
LIKENESS_WINDOW = 5  # pixels at half the size, a side
LIKENESS_FLOOR = 3e-4  # squared change, summed over 3 channels, that says nothing
LEAST_AREA = 8  # pixels of a mask whose centre is believed


def central_difference(x: Tensor, dim: int) -> Tensor:
    """What comes next less what came before along an axis; at its ends the end stands for both."""
    index = torch.arange(x.shape[dim], device=x.device)
    after, before = (index + 1).clamp(max=x.shape[dim] - 1), (index - 1).clamp(min=0)
    return x.index_select(dim, after) - x.index_select(dim, before)


@torch.no_grad()
def likeness(residual: Tensor, masks: Tensor) -> Tensor:
    """How like the residual at each place is to the next frame's where an object would have
    carried it, at half the size, (B, N, T, LIKENESSES, H / 2, W / 2) float32.

    residual: (B, T, 3, H, W). masks: (B, N, T, 1, H, W). The object's motion is its centroid's; a
    shadow shares it, a mirror image on a floor or a wall has it upside down or left to right, and
    what rests has none: these four, in this order. Each is 2 <a, b> / (<a, a> + <b, b>) over
    windows, from -1 to 1, of the next frame or the one before, whichever is more like; 0 where
    nothing is changed and where there is no such motion.
    """
    b, n, t = masks.shape[:3]
    small = F.avg_pool2d(residual.flatten(0, 1).float(), 2)  # (B * T, 3, h, w)
    h, w = small.shape[-2:]
    bodies = masks[:, :, :, 0].float()
    area = bodies.sum((-1, -2))  # (B, N, T)
    rows, columns = (torch.arange(2 * k, device=small.device) for k in (h, w))
    y = (bodies.sum(-1) * rows).sum(-1) / area.clamp(min=1)
    x = (bodies.sum(-2) * columns).sum(-1) / area.clamp(min=1)
    centre = torch.stack([x / w, y / h], -1)  # in units of grid_sample: the picture is 2 wide
    signs = small.new_tensor([[1, 1], [1, -1], [-1, 1]])  # of motions along x and y
    place = torch.stack(
        torch.meshgrid((2 * columns[:w] + 1) / w - 1, (2 * rows[:h] + 1) / h - 1, indexing="xy"), -1
    )

    here = small.square().sum(1, keepdim=True)
    sizes = windowed(here)
    unknown = -2.0  # below any likeness
    best = small.new_full((b * t, n, LIKENESSES, h, w), unknown)
    for step in (1, -1):
        index = torch.arange(t, device=small.device) + step
        inside = (index >= 0) & (index < t)
        index = index.clamp(0, t - 1)
        other = small.unflatten(0, (b, t))[:, index].flatten(0, 1)
        moved = (centre[:, :, index] - centre)[:, :, :, None] * signs  # (B, N, T, 3, xy)
        moved = moved.transpose(1, 2).reshape(b * t, -1, 1, 1, 2)
        there = F.grid_sample(other, (place + moved).flatten(1, 2), align_corners=False)
        there = there.unflatten(2, (-1, h))  # (B * T, 3, N * 3, h, w)
        there = torch.cat([there, other[:, :, None]], 2)
        dot = windowed((there * small[:, :, None]).sum(1))
        alike = 2 * dot / (windowed(there.square().sum(1)) + sizes + LIKENESS_FLOOR)
        alike = torch.cat(
            [alike[:, :-1].unflatten(1, (n, -1)), alike[:, None, -1:].expand(-1, n, -1, -1, -1)], 2
        )
        seen = inside & (torch.minimum(area, area[:, :, index]) >= LEAST_AREA)  # (B, N, T)
        seen = torch.stack([seen] * (LIKENESSES - 1) + [inside.expand_as(seen)], -1)
        seen = seen.transpose(1, 2).reshape(b * t, n, LIKENESSES, 1, 1)
        best = torch.where(seen, torch.maximum(best, alike), best)
    return torch.where(best > unknown, best, 0.0).unflatten(0, (b, t)).transpose(1, 2)


def windowed(x: Tensor) -> Tensor:
    """Means over squares of LIKENESS_WINDOW pixels around each of (..., H, W), 0 outside."""
    reach = LIKENESS_WINDOW // 2
    for dim in (-1, -2):  # sums of shifted copies: pooling takes ten times as long on a CPU
        padded = F.pad(x, (reach, reach, 0, 0) if dim == -1 else (0, 0, reach, reach))
        x = padded.narrow(dim, 0, x.shape[dim]).clone()
        for shift in range(1, LIKENESS_WINDOW):
            x += padded.narrow(dim, shift, x.shape[dim])
    return x / LIKENESS_WINDOW**2

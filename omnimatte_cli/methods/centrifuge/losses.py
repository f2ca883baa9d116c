"""What two true clips and n outputs are compared by (the paper's equations 2 and 3).

Differences are counted in [-1, 1], as the paper's reported values imply, and are means over pixels
where the paper prints sums.
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import torch
from torch import Tensor

RANGE = 2.0  # of [-1, 1] against the [0, 1] that clips are in
Reduction = Literal["mean", "sum"]


def distance(u: Tensor, v: Tensor, reduction: Reduction = "mean") -> Tensor:
    """l(u, v) of clips (..., T, 3, H, W) in any one range, broadcast; shape (...).

    Half of the absolute differences of the pixels, plus those of their forward differences along x
    and along y. "sum": summed over pixels and divided by T, as printed; "mean": means of each.
    """
    d = u - v
    dx, dy = d[..., 1:] - d[..., :-1], d[..., 1:, :] - d[..., :-1, :]
    axes = (-4, -3, -2, -1)
    if reduction == "mean":
        parts = [x.abs().mean(axes) for x in (d, dx, dy)]
    else:
        parts = [x.abs().sum(axes) / d.shape[-4] for x in (d, dx, dy)]
    return 0.5 * (parts[0] + parts[1] + parts[2])


def distances(truth: Tensor, outputs: Tensor, reduction: Reduction = "mean") -> Tensor:
    """l of each of M true clips (B, M, T, 3, H, W) to each of n outputs: (B, M, n)."""
    rows = [
        torch.stack([distance(clip, output, reduction) for output in outputs.unbind(1)], 1)
        for clip in truth.unbind(1)
    ]
    return torch.stack(rows, 1)


def ordered_pairs(outputs: int, device: torch.device | str = "cpu") -> Tensor:
    """All ordered pairs (i, j), i != j, of n outputs: (n (n - 1), 2)."""
    return torch.tensor(list(permutations(range(outputs), 2)), device=device)


def best_pair(table: Tensor) -> tuple[Tensor, Tensor]:
    """The pair (i, j), i != j, with the least l(V1, O_i) + l(V2, O_j).

    table: (B, 2, n) of `distances`. Returns the sums (B,) and the pairs (B, 2). One pair serves the
    whole clip.
    """
    pairs = ordered_pairs(table.shape[2], table.device)
    sums = table[:, 0, pairs[:, 0]] + table[:, 1, pairs[:, 1]]
    least, index = sums.min(1)
    return least, pairs[index]


def separation_loss(truth: Tensor, outputs: Tensor) -> Tensor:
    """The permutation-invariant loss of each sample, (B,), as the paper reports it.

    truth: (B, 2, T, 3, H, W), outputs: (B, n, T, 3, H, W), both in [0, 1]. The n - 2 outputs that
    are not of the best pair get no gradient.
    """
    with torch.no_grad():
        pairs = best_pair(distances(truth, outputs))[1]
    rows = torch.arange(len(outputs), device=outputs.device)[:, None]
    return RANGE * distance(truth, outputs[rows, pairs]).sum(1)


def centred(clips: Tensor) -> Tensor:
    """Clips (..., T, 3, H, W) less the mean colour of each."""
    return clips - clips.mean((-4, -2, -1), keepdim=True)


def structure_loss(truth: Tensor, outputs: Tensor, colour_weight: float = 1.0) -> Tensor:
    """The loss of each sample, (B,), where mean colours have no say in which output is which layer.

    A blend leaves the brightness of its layers free: what one has more, the other has less. In the
    paper's loss that is the largest term, so that a small network learns a darker and a brighter
    copy of the blend as its two outputs, and edges, which go by motion, never part. Here the pair
    is the best without mean colours, and those count `colour_weight` times as much.
    """
    with torch.no_grad():
        pairs = best_pair(distances(centred(truth), centred(outputs)))[1]
    rows = torch.arange(len(outputs), device=outputs.device)[:, None]
    chosen = outputs[rows, pairs]
    structure = distance(centred(truth), centred(chosen)).sum(1)
    colours = (truth - chosen).mean((-4, -2, -1)).abs().mean(-1).sum(1)
    return RANGE * (structure + 0.5 * colour_weight * colours)


def identity_loss(truth: Tensor, blends: Tensor) -> Tensor:
    """The loss of the answer "both layers look like the blend": (B,). blends: (B, T, 3, H, W)."""
    return RANGE * distances(truth, blends[:, None]).sum((1, 2))

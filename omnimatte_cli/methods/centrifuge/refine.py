"""Layers that agree with the clip's two motions, found by optimisation from the network's answer.

The blend fixes the layers but for their difference E: with the share a of the second layer,
V + a E and V - (1 - a) E blend to V whatever E is. E is changed until each layer, brought along its
motion from one frame to another, is that other frame. What motion does not decide (stripes along
it, the brightness of a whole layer) stays as the network said. No weights are trained.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.methods.centrifuge.motion import (
    PATH_WINDOW,
    along_main_motions,
    motion_paths,
    moved,
)
from omnimatte_cli.progress import Progress

LEVELS = 5  # sizes, each half of the last, at which E is changed: brightness needs the coarse ones
LAGS = (1, 2, 4, 6)  # frames between two that must agree; one is drawn for each step
RATE = 0.013  # Adam's at the start, in the colours' own unit
LAST_RATE = 0.1  # share of it at the end
ANCHOR = 0.05  # weight of staying near the network's answer
RANGE_WEIGHT = 0.5  # weight of being a colour, in [0, 1]


def split(clip: Tensor, difference: Tensor, alpha: Tensor) -> Tensor:
    """The two layers, (2, T, 3, H, W), of a clip (T, 3, H, W) by their difference; alpha: (T,)."""
    share = alpha[:, None, None, None]
    return torch.stack([clip + share * difference, clip - (1 - share) * difference])


def disagreement(layers: Tensor, paths: Tensor, lag: int) -> Tensor:
    """Mean change of each layer along its motion over `lag` frames, the sum of both.

    layers: (2, T, 3, H, W). paths: (T, 2, 2) of `motion_paths`, the layers' motions in their order.
    """
    total = layers.new_zeros(())
    for layer, path in zip(layers, paths.unbind(1), strict=True):
        later, inside = moved(layer[lag:], path[lag:] - path[:-lag])
        total = total + ((later - layer[:-lag]).abs() * inside).mean()
    return total


def slower_first(clip: Tensor, difference: Tensor) -> bool:
    """Whether the first layer is the one with the slower motion.

    difference: of the first layer from the second, (T, 3, H, W). Its edges are compared with those
    of the clip's means along the two motions, in the middle of the clip.
    """
    first = max(0, (len(clip) - PATH_WINDOW) // 2)
    part = slice(first, first + PATH_WINDOW)
    slower, faster = along_main_motions(clip[part].transpose(0, 1)[None])[0].split(3)
    likely, found = (slower - faster).transpose(0, 1), difference[part]
    agreement = (likely.diff(dim=-1) * found.diff(dim=-1)).sum()
    agreement = agreement + (likely.diff(dim=-2) * found.diff(dim=-2)).sum()
    return bool(agreement >= 0)


def refine(
    clip: Tensor, layers: Tensor, alpha: Tensor, iterations: int, seed: int, progress: Progress
) -> tuple[Tensor, list[float]]:
    """Layers (2, T, 3, H, W) of a clip (T, 3, H, W) in [0, 1] after `iterations` steps.

    alpha: (T,), the second layer's share. Also returns the disagreement with the motions before and
    after, over the shortest lag.
    """
    t, _, h, w = clip.shape
    lags = [lag for lag in LAGS if lag < t]
    start = layers[0] - layers[1]
    paths = motion_paths(clip)
    first = split(clip, start, alpha)
    if not slower_first(clip, start):
        paths = paths.flip(1)
    changes = [
        torch.zeros(t, 3, max(1, h >> k), max(1, w >> k), device=clip.device, requires_grad=True)
        for k in range(LEVELS)
    ]

    def difference() -> Tensor:
        parts = [F.interpolate(c, size=(h, w), mode="bilinear") for c in changes[1:]]
        return start + changes[0] + sum(parts)

    optimiser = torch.optim.Adam(changes, lr=RATE)
    rng = np.random.default_rng(seed)
    for step in range(iterations):
        optimiser.param_groups[0]["lr"] = RATE * (1 - (1 - LAST_RATE) * step / iterations)
        now = difference()
        both = split(clip, now, alpha)
        outside = (F.relu(-both) + F.relu(both - 1)).mean()
        loss = disagreement(both, paths, lags[int(rng.integers(len(lags)))])
        loss = loss + RANGE_WEIGHT * outside + ANCHOR * (now - start).abs().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress.step(step + 1, f"loss {float(loss.detach()):.4f}")
    with torch.no_grad():
        last = split(clip, difference(), alpha)
        scores = [float(disagreement(x, paths, lags[0])) for x in (first, last)]
    return last.clamp(0, 1), scores

"""Layers that agree with the clip's two motions, found by optimisation. No weights are trained.

The blend fixes the layers but for their difference E: with the share a of the second layer,
V + a E and V - (1 - a) E blend to V whatever E is. E begins as a mean of the network's and of the
difference of two canvases (`part.py`), as far as these explain the clip; then it is changed until
each layer, brought along its motion from one frame to another, is that other frame, and the edges
of both are few. Motion does not decide the mean colour of a whole layer: the darkest and the
brightest places of both say it, once they are parted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.methods.centrifuge.canvases import FLAT, NORM, gradients
from omnimatte_cli.methods.centrifuge.motion import moved
from omnimatte_cli.methods.centrifuge.part import part
from omnimatte_cli.methods.centrifuge.predict import ramp, spans
from omnimatte_cli.progress import Progress

LEVELS = 5  # sizes, each half of the last, at which E is changed: brightness needs the coarse ones
LAGS = (1, 2, 4, 6)  # frames between two that must agree; one is drawn for each step
RATE = 0.013  # Adam's at the start, in the colours' own unit
LAST_RATE = 0.1  # share of it at the end
ANCHOR = 0.05  # weight of staying near the network's answer
WINDOW = 96  # frames that are parted at once
LEAST_TRUST = 1e-3  # weight of a window whose motions are not believed
CANVASES = 0.9  # their share in E where they are believed in full; the rest is the network's
POOLED = 2  # pixels a side over which the darkest and brightest places are means
EXTREME = 0.002  # share of the places that may be darker, or brighter
DARKEST, BRIGHTEST = 0.7, 0.25  # shares of what makes these alike, in the mean colours
RANGE_WEIGHT = 0.5  # weight of being a colour, in [0, 1]
EDGE_WEIGHT = 0.2  # weight of few edges


def split(clip: Tensor, difference: Tensor, alpha: Tensor) -> Tensor:
    """The two layers, (2, T, 3, H, W), of a clip (T, 3, H, W) by their difference; alpha: (T,)."""
    share = alpha[:, None, None, None]
    return torch.stack([clip + share * difference, clip - (1 - share) * difference])


def disagreement(layers: Tensor, paths: Tensor, lag: int) -> Tensor:
    """Mean change of each layer along its motion over `lag` frames, the sum of both.

    layers: (2, T, 3, H, W). paths: (T, 2, 2), pixels (y, x) that the layers have moved by.
    """
    total = layers.new_zeros(())
    for layer, path in zip(layers, paths.unbind(1), strict=True):
        later, inside = moved(layer[lag:], path[lag:] - path[:-lag])
        total = total + ((later - layer[:-lag]).abs() * inside).mean()
    return total


def edges(layers: Tensor) -> Tensor:
    """Mean height of the edges of layers (2, T, 3, H, W), to the power of `canvases.NORM`."""
    dy, dx = gradients(layers)
    height = (dy.square() + dx.square()).mean(2)
    return (height + FLAT[1] ** 2).pow(NORM / 2).mean()


def parted(clip: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The clip by windows of time through `part`.

    Returns the layers' difference (T, 3, H, W), their paths (T, 2, 2), and how far each frame's is
    believed, (T,). A window's two layers are told apart by where it overlaps with those before.
    """
    t = len(clip)
    difference, speeds = torch.zeros_like(clip), clip.new_zeros(t, 2, 2)
    believed, total = clip.new_zeros(t), clip.new_zeros(t)
    for span in spans(t, WINDOW):
        here = slice(span.start, span.stop)
        found = part(clip[here], alpha[here])
        steps = found.paths.diff(dim=0)
        apart, speed = found.difference, torch.cat([steps, steps[-1:]])
        if float((apart * difference[here]).sum()) < 0:
            apart, speed = -apart, speed.flip(1)
        share = ramp(len(span)).to(clip.device)
        trust = share * (found.believed + LEAST_TRUST)
        difference[here] += trust[:, None, None, None] * apart
        speeds[here] += trust[:, None, None] * speed
        believed[here] += share * found.believed
        total[here] += share
    weight = believed + LEAST_TRUST * total
    speeds = speeds / weight[:, None, None]
    paths = speeds.cumsum(0) - speeds
    return difference / weight[:, None, None, None], paths, believed / total


def mean_colours(difference: Tensor) -> Tensor:
    """Mean colour, (1, 3, 1, 1), of a difference (T, 3, H, W)."""
    return difference.mean((0, 2, 3), keepdim=True)


def likely_colours(layers: Tensor) -> Tensor:
    """Mean colour, (1, 3, 1, 1), that a difference of layers (2, T, 3, H, W) without one lacks.

    Most scenes have places that are nearly black, and many have bright ones: the darkest of both
    layers are alike, and less so the brightest.
    """
    small = F.avg_pool2d(layers.flatten(0, 1), POOLED, ceil_mode=True, count_include_pad=False)
    values = small.unflatten(0, layers.shape[:2]).transpose(1, 2).flatten(2)  # (2, 3, places)
    count = values.shape[2]
    found = []
    for share in (EXTREME, 1 - EXTREME):
        first, second = values.kthvalue(1 + round(share * (count - 1)), dim=2).values
        found.append(second - first)
    return (DARKEST * found[0] + BRIGHTEST * found[1])[None, :, None, None]


@dataclass(frozen=True)
class Refined:
    """layers: (2, T, 3, H, W) in [0, 1]. believed: from 0 to 1, how far the two motions were.
    disagreement: of the layers with them before and after, over the shortest lag."""

    layers: Tensor
    believed: float
    disagreement: tuple[float, float]


def refine(
    clip: Tensor, layers: Tensor, alpha: Tensor, iterations: int, seed: int, progress: Progress
) -> Refined:
    """Layers (2, T, 3, H, W) of a clip (T, 3, H, W) in [0, 1] after `iterations` steps.

    alpha: (T,), the second layer's share. Where the clip's motions are not believed, the layers
    stay as they come. Mean colours follow from the darkest and brightest places as far as they are
    believed, and are the network's otherwise.
    """
    t, _, h, w = clip.shape
    if t == 1:  # nothing moves
        return Refined(layers, 0.0, (0.0, 0.0))
    lags = [lag for lag in LAGS if lag < t]
    given = layers[0] - layers[1]
    apart, paths, trust = parted(clip, alpha)
    apart = apart - mean_colours(apart)
    if float((given * apart).sum()) < 0:
        given = -given
    first = split(clip, given, alpha)
    weight = trust[:, None, None, None]
    colours = torch.lerp(
        mean_colours(given), likely_colours(split(clip, apart, alpha)), float(trust.mean())
    )
    start = given + CANVASES * weight * (apart + colours - given)
    changes = [
        torch.zeros(t, 3, max(1, h >> k), max(1, w >> k), device=clip.device, requires_grad=True)
        for k in range(LEVELS)
    ]

    def difference() -> Tensor:
        parts = [F.interpolate(c, size=(h, w), mode="bilinear") for c in changes[1:]]
        return start + weight * (changes[0] + sum(parts))

    optimiser = torch.optim.Adam(changes, lr=RATE)
    rng = np.random.default_rng(seed)
    for step in range(iterations if float(trust.max()) > 0 else 0):
        optimiser.param_groups[0]["lr"] = RATE * (1 - (1 - LAST_RATE) * step / iterations)
        now = difference()
        both = split(clip, now, alpha)
        outside = (F.relu(-both) + F.relu(both - 1)).mean()
        loss = disagreement(both, paths, lags[int(rng.integers(len(lags)))])
        loss = (
            loss
            + RANGE_WEIGHT * outside
            + EDGE_WEIGHT * edges(both)
            + ANCHOR * (now - start).abs().mean()
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        progress.step(step + 1, f"loss {float(loss.detach()):.4f}")
    with torch.no_grad():
        found = difference()
        last = split(clip, found - mean_colours(found) + colours, alpha)
        before, after = (float(disagreement(x, paths, lags[0])) for x in (first, last))
    believed = float(trust.mean())
    return Refined(last.clamp(0, 1), believed, (before, after))

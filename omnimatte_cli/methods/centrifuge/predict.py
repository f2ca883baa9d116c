"""A whole clip through the network: windows in time, tiles in space, and which outputs are layers.

The n outputs of a window come in an order of its own. Each window is matched to what its neighbours
said where they overlap, so that an output stays the same layer through the clip; then the two
outputs that differ most are taken, as the paper does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from omnimatte_cli.device import autocast
from omnimatte_cli.methods.centrifuge.network import Centrifuge
from omnimatte_cli.progress import Progress

WINDOW = 16  # frames that the network sees at once
TILE = 256  # pixels a side, likewise
OVERLAP = 0.5  # share of a window, and of a tile, that neighbours have in common
SURE = 0.6  # share of the layers' difference, but for mean colours, that is believed
EDGE_WEIGHT = 0.1  # of a window's outermost places, against 1 in its middle


def spans(length: int, window: int) -> list[range]:
    """Windows that cover `length` places, evenly spread, neighbours overlapping by OVERLAP."""
    if length <= window:
        return [range(length)]
    step = max(1, round(window * (1 - OVERLAP)))
    count = -(-(length - window) // step) + 1
    starts = [round(i * (length - window) / (count - 1)) for i in range(count)]
    return [range(s, s + window) for s in starts]


def ramp(length: int) -> Tensor:
    """Weights (length,) that fall towards both ends of a window."""
    places = torch.linspace(-1, 1, length) if length > 1 else torch.zeros(1)
    return 1 - (1 - EDGE_WEIGHT) * places.abs()


def blocks(size: tuple[int, int, int]) -> Iterator[tuple[slice, slice, slice]]:
    """The windows and tiles (t, y, x) of a clip, those of one window together."""
    sides = [spans(n, w) for n, w in zip(size, (WINDOW, TILE, TILE), strict=True)]
    for t, y, x in itertools.product(*sides):
        yield (slice(t.start, t.stop), slice(y.start, y.stop), slice(x.start, x.stop))


@torch.no_grad()
def separate(net: Centrifuge, clip: Tensor, progress: Progress | None = None) -> Tensor:
    """All n outputs of a whole clip (T, 3, H, W) in [0, 1]: (n, T, 3, H, W) float32, likewise.

    On the CPU; computed on the network's device.
    """
    net.eval()
    device = next(net.parameters()).device
    t, _, h, w = clip.shape
    total = torch.zeros(net.shape.outputs, t, 3, h, w)
    weight = torch.zeros(t, 1, h, w)
    every = list(blocks((t, h, w)))
    for done, (frames, rows, columns) in enumerate(every):
        part = clip[frames, :, rows, columns]
        with autocast(device):
            found = net(part[None].to(device))[0].float().cpu().clamp(0, 1)
        here = (slice(None), frames, slice(None), rows, columns)
        known = weight[here[1:]]
        if known.any():
            found = found[matched(total[here] / known.clamp(min=1e-6), found, known > 0)]
        share = ramp(part.shape[0])[:, None, None, None]
        share = share * ramp(part.shape[2])[:, None] * ramp(part.shape[3])
        total[here] += share * found
        weight[here[1:]] += share
        if progress is not None:
            progress.step(done + 1)
    assert bool((weight > 0).all())
    return total / weight


def matched(known: Tensor, found: Tensor, where: Tensor) -> list[int]:
    """The order in which the outputs `found` are those that are `known`, both (n, T, 3, H, W).

    where: (T, 1, H, W) bool, places that are known. The sum of absolute differences is least.
    """
    cost = torch.stack([torch.stack([((a - b).abs() * where).sum() for b in found]) for a in known])
    return linear_sum_assignment(cost.numpy())[1].tolist()


def most_different(outputs: Tensor) -> tuple[int, int]:
    """The two outputs (n, T, 3, H, W) farthest apart, by the mean absolute difference."""
    pairs = list(itertools.combinations(range(len(outputs)), 2))
    apart = [float((outputs[i] - outputs[j]).abs().mean()) for i, j in pairs]
    return pairs[apart.index(max(apart))]


def cautious(layers: Tensor) -> Tensor:
    """Layers (2, T, 3, H, W) that differ less: their mean colours are kept, SURE of the rest is.

    On footage that is unlike the photographs that it learned from the network says too much.
    """
    middle = layers.mean(0)
    change = layers - middle
    colours = change.mean((-4, -2, -1), keepdim=True)
    return (middle + colours + SURE * (change - colours)).clamp(0, 1)


def two_layers(outputs: Tensor) -> Tensor:
    """The two most different outputs, (2, T, 3, H, W), the one with less motion first.

    The method itself does not say which is the scene and which the reflection.
    """
    pair = outputs[list(most_different(outputs))]
    motion = (pair[:, 1:] - pair[:, :-1]).abs().mean((1, 2, 3, 4))
    return pair.flip(0) if bool(motion[0] > motion[1]) else pair

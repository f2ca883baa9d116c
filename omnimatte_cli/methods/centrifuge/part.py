"""A clip as two scenes along the two motions that explain it best.

Canvases of the whole clip (`follow.py`) know the motions and the large parts of both pictures, but
things move in them. So each short window has canvases of its own at full size, that begin with
those of the whole clip and stay near them where its own frames do not tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnimatte_cli.methods.centrifuge.canvases import Scene, fit, gradients, look_at, move
from omnimatte_cli.methods.centrifuge.follow import LARGER, at_size, best_followed, followed
from omnimatte_cli.methods.centrifuge.predict import ramp, spans

WINDOW = 24  # frames that have canvases of their own
# Residuals at which a pixel counts a quarter, one a round of canvases and motions in turn: what is
# large in the first is mostly an edge that half the size could not hold.
OUTLIERS = (0.1, 0.06, 0.04)
STEPS = 12  # of conjugate gradients in a round
LEAST_REST = 0.004  # residual of one motion at which a second one is not looked for
BELIEVED = (0.65, 0.8)  # two motions' residual over one's: all of it, nothing of it
STARTED = (0.75, 0.85)  # the same in the frames where the two motions were found, at small size
LOST = (1.4, 2.0)  # a frame's residual over the usual one: all of it is believed, nothing of it
BALANCED = (0.35, 0.5)  # edges of one layer over the other's: nothing, all of it


@dataclass(frozen=True)
class Parted:
    """What two canvases make of a clip. difference: (T, 3, h, w), of the first layer from the
    second. paths: (T, 2, 2) pixels (y, x) that the layers have moved by. believed: (T,), from 0 to
    1, how far that two motions explain what one does not, and that there is a scene along each."""

    difference: Tensor
    paths: Tensor
    believed: Tensor


def balance(layers: Tensor) -> float:
    """Edges of the layer of (2, T, 3, h, w) that has fewer over those of the other.

    A layer almost without edges is no scene: its motion is that of a thing, or of nothing.
    """
    dy, dx = gradients(layers)
    height = (dy.square() + dx.square()).mean(2).sqrt().mean((1, 2, 3))
    return float(height.min() / height.max().clamp(min=1e-6))


def between(value: float, nothing: float, everything: float) -> float:
    """0 at `nothing`, 1 at `everything`, straight between the two."""
    return min(1.0, max(0.0, (value - nothing) / (everything - nothing)))


@torch.no_grad()
def part(clip: Tensor, alpha: Tensor) -> Parted:
    """A clip (T, 3, h, w) in [0, 1] as two scenes, the one with the slower motion first."""
    start, two = best_followed(clip, alpha)
    one = followed(clip, start.alone(), alpha, tied=True)
    small = at_size(clip, LARGER)[0]
    rests, alone = (scene.residual(small).abs().mean((1, 2, 3)) for scene in (two, one))
    even = balance(two.layers(two.canvases, two.grids()))
    believed = between(unexplained(rests, alone), *reversed(BELIEVED)) * between(even, *BALANCED)
    believed *= between(start.left, *reversed(STARTED))
    usual = rests.median().clamp(min=LEAST_REST)
    kept = [between(float(rest / usual), *reversed(LOST)) for rest in rests]
    scene = two.enlarged((clip.shape[2], clip.shape[3]))
    trust = believed * clip.new_tensor(kept)
    return Parted(windowed(scene, clip), -scene.motion[..., :2], trust)


def unexplained(two: Tensor, one: Tensor) -> float:
    """What two motions leave of a clip over what one does, from the frames' residuals, (T,) each.

    In the half of the frames where they differ most: while neither camera moves against the other,
    one motion explains as much as two, and what is known from before and after holds.
    """
    telling = (one - two).argsort(descending=True)[: max(1, len(one) // 2)]
    left, right = (rests[telling].mean().clamp(min=LEAST_REST) for rests in (two, one))
    return float(left / right)


def windowed(scene: Scene, clip: Tensor) -> Tensor:
    """The layers' difference (T, 3, h, w) by canvases of short windows near those of all frames."""
    difference, total = torch.zeros_like(clip), clip.new_zeros(len(clip), 1, 1, 1)
    for span in spans(len(clip), WINDOW):
        here = slice(span.start, span.stop)
        mine, frames = scene.at(here), clip[here]
        for outlier in OUTLIERS:
            fit(mine, frames, look_at(mine, frames, outlier), STEPS, scene.canvases)
            move(mine, frames, outlier)
        layers = mine.layers(mine.canvases, mine.grids())
        share = ramp(len(span)).to(clip)[:, None, None, None]
        difference[here] += share * (layers[0] - layers[1])
        total[here] += share
    return difference / total

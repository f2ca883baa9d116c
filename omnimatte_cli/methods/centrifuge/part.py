"""The two motions of a clip that explain it best, and its two scenes along them.

A correlation has many peaks, of which several are of one motion, and the weaker scene's may be none
of them. So pairs are tried: canvases along both, at a small size, and what they leave unexplained.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.methods.centrifuge.canvases import (
    Prior,
    gradients,
    resized,
    solve,
    start_of,
    two_canvases,
)
from omnimatte_cli.methods.centrifuge.motion import likely_motions, mean_along

CANDIDATES = 6  # peaks of the clip's correlation of which pairs are tried
HIDDEN = 4  # further ones, of what the best single motion leaves
COARSE, TRIAL, FINE = 24 * 24, 48 * 48, 96 * 96  # pixels of the frames at which pairs are tried
STEPS = {COARSE: 5, TRIAL: 8, FINE: 12}  # of conjugate gradients
STAY = 0.004  # weight, for each frame, of staying with the mean along the motion
GRID = (4.0, 1.0)  # pixels a frame: how far and how densely partners of a motion are looked for
CLIMBS = (0.5, 0.25)  # pixels a frame: steps by which a partner that was found is improved
CONTENDERS = 3  # pairs of peaks that are compared at the fine size with those of the grid
LEAST_REST = 0.004  # residual of one motion at which a second one is not looked for
BELIEVED = (0.65, 0.8)  # two motions' residual over one's: all of it, nothing of it
BALANCED = (0.4, 0.6)  # edges of one layer over the other's: nothing, all of it


class Trials:
    """What pairs of motions leave unexplained of a clip (T, 3, h, w); alpha: (T,)."""

    def __init__(self, clip: Tensor, alpha: Tensor) -> None:
        self.alpha, self.size = alpha, (clip.shape[2], clip.shape[3])
        self.time = torch.arange(len(clip), device=clip.device, dtype=clip.dtype)[:, None, None]
        self.clips = {}
        for area in STEPS:
            scale = max(1.0, (self.size[0] * self.size[1] / area) ** 0.5)
            size = [max(1, round(side / scale)) for side in self.size]
            self.clips[area] = F.interpolate(clip, size=size, mode="area")

    def rest(self, pair: Tensor, area: int = TRIAL) -> float:
        """Mean difference of the clip from two canvases along speeds (2, 2) in pixels a frame."""
        small = self.clips[area]
        size = (small.shape[2], small.shape[3])
        scene = start_of(small, resized(self.time * pair, self.size, size), self.alpha)
        prior = Prior(scene.canvases, STAY * len(small))
        solve(scene, small, torch.ones_like(small[:, :1]), prior, STEPS[area])
        return scene.rest(small)

    def alone(self, speed: Tensor) -> float:
        """What a single speed (2,) leaves."""
        return self.rest(speed.expand(2, 2))

    def partner(self, speed: Tensor) -> Tensor:
        """A speed (2,) and the one that explains most beside it, (2, 2): over a grid of all."""
        far, step = GRID
        line = torch.arange(-far, far + step / 2, step, device=speed.device, dtype=speed.dtype)
        found = self.best(speed, torch.cartesian_prod(line, line), COARSE)
        for step in CLIMBS:
            around = torch.tensor([-step, 0, step], device=speed.device, dtype=speed.dtype)
            found = self.best(speed, found[1] + torch.cartesian_prod(around, around), TRIAL)
        return found

    def best(self, speed: Tensor, others: Tensor, area: int) -> Tensor:
        """The pair (2, 2) of a speed and one of the others (n, 2) that leaves least."""
        pairs = [torch.stack([speed, other]) for other in others]
        return min(pairs, key=lambda pair: self.rest(pair, area))


@torch.no_grad()
def best_motions(clip: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Paths along the two motions that explain a clip best, the slower first, and along the one
    that does, twice: each (T, 2, 2).

    Pairs of peaks of the correlation, and the better motion of the best of them with the partner of
    all that leaves least; the best ones are compared at a finer size.
    """
    trials, batch = Trials(clip, alpha), clip.transpose(0, 1)[None]
    speeds = likely_motions(batch, CANDIDATES)[0]
    speeds = torch.cat([torch.zeros_like(speeds[:1]), speeds]).unique(dim=0)
    main = min(speeds, key=trials.alone)[None]
    # What the best single motion leaves unexplained shows the other one more clearly.
    hidden = likely_motions(batch - mean_along(batch, main), HIDDEN)[0]
    speeds = torch.cat([speeds, hidden]).unique(dim=0)
    pairs = [speeds[list(p)] for p in itertools.combinations(range(len(speeds)), 2)]
    pairs = sorted(pairs, key=trials.rest)[:CONTENDERS]
    pairs.append(trials.partner(min(pairs[0], key=trials.alone)))
    chosen = min(pairs, key=lambda pair: trials.rest(pair, FINE))
    chosen = chosen[chosen.square().sum(1).argsort()]
    return trials.time * chosen, trials.time * main.expand(2, 2)


@dataclass(frozen=True)
class Parted:
    """What two canvases make of a clip. difference: (T, 3, h, w), of the first layer from the
    second. paths: (T, 2, 2) pixels (y, x) that the layers have moved by. believed: from 0 to 1, how
    far that two motions explain what one does not, and that there is a scene along each."""

    difference: Tensor
    paths: Tensor
    believed: float


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
    pair, single = best_motions(clip, alpha)
    two, one = two_canvases(clip, pair, alpha), two_canvases(clip, single, alpha, tied=True)
    layers = two.layers(two.canvases, two.grids())
    left = max(two.rest(clip), LEAST_REST) / max(one.rest(clip), LEAST_REST)
    believed = between(left, *reversed(BELIEVED)) * between(balance(layers), *BALANCED)
    return Parted(layers[0] - layers[1], -two.motion[..., :2], believed)

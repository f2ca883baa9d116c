"""Two still pictures behind a clip: each scene as one canvas that its own motion carries along.

A frame is taken for (1 - a) times one canvas plus a times the other, each seen along its motion: a
shift, a zoom and a turn a frame. Pictures that move against each other are determined by that,
coarse parts as well as edges, but for what the motions are too short to tell; that stays as the
blend has it. Canvases and motions are found in turn: robust least squares for the pictures
(conjugate gradients), Gauss-Newton for the motions. (Layers along motions by least squares:
Szeliski, Avidan, Anandan, CVPR 2000; Weiss, ICCV 2001, takes medians instead.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.methods.centrifuge.motion import likely_motions, mean_along

ROUNDS = 4  # times that the pictures are found, with a step of the motions between two
SOLVING = 12  # steps of conjugate gradients in a round
HUBER = 0.03  # residual above which a pixel counts by its size and not by its square
LEAST = 1e-3  # frames at a place of a canvas below which its mean is not believed
STAY = 0.004  # weight, for each frame, of staying with the mean along the motion
MOTION_STEPS = 3  # Gauss-Newton steps in a round
DAMPING = 1e-3  # share of the diagonal that is added to their equations
FARTHEST = 0.6  # of the frame's sides, that a canvas reaches beyond the frame
CANDIDATES = 6  # motions of which the pair that explains the clip best is taken
HIDDEN = 4  # further ones, of what the best of them leaves
TRIAL_AREA = 48 * 48  # pixels at which pairs are tried
TRIAL_STEPS = 8  # of conjugate gradients
LEAST_REST = 0.004  # residual of one motion at which a second one is not looked for
BELIEVED = (0.6, 0.78)  # residual of two canvases over that of one: all of it, nothing of it
PARAMETERS = 4  # shift y, shift x in pixels; log zoom; turn in radians


@dataclass
class Scene:
    """canvases: (2, 3, H', W'), the frame in their middle. motion: (T, 2, 4), from a frame's pixels
    to each canvas's. share: (T, 2), of each canvas in a frame. size: (h, w) of the frames."""

    canvases: Tensor
    motion: Tensor
    share: Tensor
    size: tuple[int, int]

    def grids(self) -> Tensor:
        """Where the frames' pixels lie on the canvases, (2, T, h, w, 2), for grid_sample."""
        y, x = axes_of(self.size, self.motion)
        shift_y, shift_x, zoom, turn = (p.t()[..., None, None] for p in self.motion.unbind(-1))
        cos, sin = zoom.exp() * turn.cos(), zoom.exp() * turn.sin()
        on_x = cos * x - sin * y + shift_x
        on_y = sin * x + cos * y + shift_y
        height, width = self.canvases.shape[-2:]
        return torch.stack([on_x * (2 / width), on_y * (2 / height)], -1)

    def layers(self, canvases: Tensor, grids: Tensor) -> Tensor:
        """The canvases as the frames see them, (2, T, 3, h, w)."""
        t = grids.shape[1]
        seen = [
            F.grid_sample(c.expand(t, -1, -1, -1), g, padding_mode="border", align_corners=False)
            for c, g in zip(canvases, grids, strict=True)
        ]
        return torch.stack(seen)

    def blend(self, layers: Tensor) -> Tensor:
        """(T, 3, h, w) of layers (2, T, 3, h, w)."""
        return (self.share.t()[..., None, None, None] * layers).sum(0)

    def rest(self, clip: Tensor) -> float:
        """Mean difference of the canvases' blend from the clip."""
        seen = self.layers(self.canvases, self.grids())
        return float((clip - self.blend(seen)).abs().mean())


def axes_of(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels' places y (h, 1) and x (w,) from the frame's middle."""
    h, w = size
    y = torch.arange(h, device=like.device, dtype=like.dtype) - (h - 1) / 2
    x = torch.arange(w, device=like.device, dtype=like.dtype) - (w - 1) / 2
    return y[:, None], x


def start_of(clip: Tensor, paths: Tensor, alpha: Tensor) -> Scene:
    """Canvases that are the clip's means along two motions. paths: (T, 2, 2), how far each
    motion has gone at every frame, pixels (y, x)."""
    t, _, h, w = clip.shape
    motion = torch.zeros(t, 2, PARAMETERS, device=clip.device)
    motion[..., :2] = paths[t // 2] - paths
    far = [float(x) for x in motion[..., :2].abs().amax((0, 1))]
    sides = [n + 2 * int(min(FARTHEST * n, d) + 4) for n, d in zip((h, w), far, strict=True)]
    blank = torch.zeros(2, 3, *sides, device=clip.device)
    scene = Scene(blank, motion, torch.stack([1 - alpha, alpha], 1), (h, w))
    scene.canvases = means(scene, clip)
    return scene


def means(scene: Scene, clip: Tensor) -> Tensor:
    """The clip's means along the scene's motions, as canvases; its mean colour where none lie."""
    both, grids = clip.expand(2, -1, -1, -1, -1), scene.grids()
    sums = adjoint(scene, both, grids)
    counts = adjoint(scene, torch.ones_like(both), grids)
    colour = clip.mean((0, 2, 3))[:, None, None]
    return (sums + LEAST * colour) / (counts + LEAST)


def adjoint(scene: Scene, layers: Tensor, grids: Tensor) -> Tensor:
    """The transpose of `Scene.layers`."""
    with torch.enable_grad():
        blank = torch.zeros_like(scene.canvases, requires_grad=True)
        seen = scene.layers(blank, grids)
        return torch.autograd.grad(seen, blank, layers)[0]


def solve(scene: Scene, clip: Tensor, weight: Tensor, anchor: Tensor, steps: int) -> None:
    """Canvases of least weighted squares, by conjugate gradients; weight: (T, 1, h, w).

    anchor: canvases that they stay near where the frames do not decide.
    """
    grids, stay = scene.grids(), STAY * len(clip)
    share = scene.share.t()[..., None, None, None]

    def normal(x: Tensor) -> Tensor:
        seen = scene.blend(scene.layers(x, grids))
        return adjoint(scene, share * (weight * seen), grids) + stay * x

    rest = clip - scene.blend(scene.layers(scene.canvases, grids))
    r = adjoint(scene, share * (weight * rest), grids) + stay * (anchor - scene.canvases)
    p, size = r.clone(), r.square().sum()
    for _ in range(steps):
        ap = normal(p)
        length = size / (p * ap).sum().clamp(min=1e-12)
        scene.canvases = scene.canvases + length * p
        r = r - length * ap
        new = r.square().sum()
        p, size = r + new / size.clamp(min=1e-12) * p, new


def weights_of(rest: Tensor) -> Tensor:
    """Huber's weights of a residual (T, 3, h, w): (T, 1, h, w)."""
    return HUBER / rest.abs().mean(1, keepdim=True).clamp(min=HUBER)


def move(scene: Scene, clip: Tensor) -> None:
    """One Gauss-Newton step of every frame's two motions."""
    grids = scene.grids()
    seen = scene.layers(scene.canvases, grids)
    rest = clip - scene.blend(seen)
    weight = weights_of(rest)
    y, x = axes_of(scene.size, clip)
    columns = []
    for i in range(2):
        dy, dx = torch.gradient(seen[i], dim=(-2, -1))
        share = scene.share[:, i, None, None, None]
        turned = (dy, dx, dy * y + dx * x, dy * x - dx * y)
        columns += [share * c for c in turned]
    jacobian = torch.stack(columns, 1).flatten(2)  # (T, 8, pixels)
    heavy = jacobian * weight.expand_as(rest).flatten(1)[:, None]
    left = heavy @ jacobian.transpose(1, 2)
    right = heavy @ rest.flatten(1)[..., None]
    diagonal = left.diagonal(dim1=1, dim2=2)
    left = left + torch.diag_embed(DAMPING * diagonal + 1e-6 * diagonal.amax(1, keepdim=True))
    change = torch.linalg.solve(left, right)[..., 0].unflatten(1, (2, PARAMETERS))
    h, w = scene.size
    limit = torch.tensor([1.0, 1.0, 2 / max(h, w), 2 / max(h, w)], device=clip.device)
    change = change.clamp(-limit, limit)
    middle = len(clip) // 2
    scene.motion = scene.motion + change - change[middle]


@torch.no_grad()
def best_motions(clip: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Paths along the two motions that explain a clip best, the slower first, and along the one
    that does, twice: each (T, 2, 2).

    Of the peaks of its correlation many are of the same motion; so each pair is tried, at a small
    size.
    """
    t, _, h, w = clip.shape
    scale = max(1.0, (h * w / TRIAL_AREA) ** 0.5)
    size = (round(h / scale), round(w / scale))
    small = F.interpolate(clip, size=size, mode="area") if scale > 1 else clip
    batch = clip.transpose(0, 1)[None]
    speeds = likely_motions(batch, CANDIDATES)[0]
    speeds = torch.cat([torch.zeros_like(speeds[:1]), speeds]).unique(dim=0)
    ratio = torch.tensor([size[0] / h, size[1] / w], device=clip.device)
    time = torch.arange(t, device=clip.device, dtype=clip.dtype)[:, None, None]
    flat = torch.ones_like(small[:, :1])

    def rest_of(pair: Tensor) -> float:
        scene = start_of(small, time * (pair * ratio), alpha)
        solve(scene, small, flat, scene.canvases, TRIAL_STEPS)
        grids = scene.grids()
        return float((small - scene.blend(scene.layers(scene.canvases, grids))).abs().mean())

    single = [rest_of(v.expand(2, 2)) for v in speeds]
    # What the best single motion leaves unexplained shows the other one more clearly.
    main = speeds[min(range(len(speeds)), key=single.__getitem__)][None]
    hidden = likely_motions(batch - mean_along(batch, main), HIDDEN)[0]
    speeds = torch.cat([speeds, hidden]).unique(dim=0)
    pairs = list(itertools.combinations(range(len(speeds)), 2))
    rests = [rest_of(speeds[list(p)]) for p in pairs]
    best = min(range(len(pairs)), key=rests.__getitem__)
    chosen = speeds[list(pairs[best])]
    chosen = chosen[chosen.square().sum(1).argsort()]
    return time * chosen, time * main.expand(2, 2)


@torch.no_grad()
def two_canvases(clip: Tensor, paths: Tensor, alpha: Tensor) -> Scene:
    """The two scenes of a clip (T, 3, h, w) in [0, 1], from motions (T, 2, 2); alpha: (T,)."""
    scene = start_of(clip, paths, alpha)
    weight = torch.ones_like(clip[:, :1])
    for k in range(ROUNDS):
        solve(scene, clip, weight, means(scene, clip), SOLVING)
        if k + 1 < ROUNDS:
            for _ in range(MOTION_STEPS):
                move(scene, clip)
            weight = weights_of(clip - scene.blend(scene.layers(scene.canvases, scene.grids())))
    return scene


@dataclass(frozen=True)
class Parted:
    """What two canvases make of a clip. difference: (T, 3, h, w), of the first layer from the
    second. paths: (T, 2, 2) pixels (y, x) that the layers have moved by. believed: from 0 to 1, how
    far that two motions explain what one does not."""

    difference: Tensor
    paths: Tensor
    believed: float


@torch.no_grad()
def part(clip: Tensor, alpha: Tensor) -> Parted:
    """A clip (T, 3, h, w) in [0, 1] as two scenes, the one with the slower motion first."""
    two, one = (two_canvases(clip, paths, alpha) for paths in best_motions(clip, alpha))
    layers = two.layers(two.canvases, two.grids())
    left = max(two.rest(clip), LEAST_REST) / max(one.rest(clip), LEAST_REST)
    low, high = BELIEVED
    believed = min(1.0, max(0.0, (high - left) / (high - low)))
    return Parted(layers[0] - layers[1], -two.motion[..., :2], believed)

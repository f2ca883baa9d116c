"""Two still pictures behind a clip: each scene as one canvas that its own motion carries along.

A frame is taken for (1 - a) times one canvas plus a times the other, each seen along its motion: a
shift, a zoom and a turn a frame. Pictures that move against each other are determined by that,
coarse parts as well as edges, but for what the motions are too short to tell. There few edges
decide: an edge of the blend costs less in one picture than half of it in both, and large areas
follow from the edges around them. Canvases and motions are found in turn: robust least squares for
the pictures (conjugate gradients), Gauss-Newton for the motions.

Layers along motions by least squares: Szeliski, Avidan, Anandan, CVPR 2000. Gradients that are
sparse, and reweighting for them: Levin, Weiss, PAMI 2007; with motions, Xue, Rubinstein, Liu,
Freeman, SIGGRAPH 2015.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 1e-3  # frames at a place of a canvas below which its mean is not believed
STAY = 2.0  # weight, for each frame, of staying with the mean along the motion, times noise^2
SPARSE = 5.0  # weight, for each frame that shows a place, of few edges, times noise^2
NOISE = (0.004, 0.04)  # least and largest residual that these weights follow
EDGE_NOISE = 0.015  # the largest for SPARSE: above, flat pictures would explain themselves
NORM = 0.8  # exponent of an edge's height: below 1 a strong edge costs less than two of half of it
FLAT = (0.1, 0.01)  # height that counts as no edge, in the very first round and later
LEAST_SEEN = 0.3  # frames at a place from which its edges count fully
DAMPING = 1e-3  # share of the diagonal that is added to their equations
FARTHEST = 0.9  # of the frame's sides, that a canvas reaches beyond the frame
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

    def residual(self, clip: Tensor) -> Tensor:
        """What the canvases' blend lacks of the clip, (T, 3, h, w)."""
        return clip - self.blend(self.layers(self.canvases, self.grids()))

    def at(self, frames: slice | Tensor) -> Scene:
        """The same canvases behind some of the frames."""
        return Scene(self.canvases, self.motion[frames], self.share[frames], self.size)

    def enlarged(self, size: tuple[int, int]) -> Scene:
        """The scene for frames of another size, its canvases as large as the motions need."""
        motion = resized(self.motion, self.size, size)
        scene = blank(motion, self.share, size)
        scene.canvases = grown(self, scene)
        return scene


def axes_of(size: tuple[int, int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels' places y (h, 1) and x (w,) from the frame's middle."""
    h, w = size
    y = torch.arange(h, device=like.device, dtype=like.dtype) - (h - 1) / 2
    x = torch.arange(w, device=like.device, dtype=like.dtype) - (w - 1) / 2
    return y[:, None], x


def blank(motion: Tensor, share: Tensor, size: tuple[int, int], room: float | None = None) -> Scene:
    """Empty canvases; they reach beyond the frame as far as the motions, or `room` of its sides."""
    far = [float(x) for x in motion[..., :2].abs().amax((0, 1))]
    if room is not None:
        far = [room * n for n in size]
    sides = [n + 2 * int(min(FARTHEST * n, d) + 4) for n, d in zip(size, far, strict=True)]
    return Scene(torch.zeros(2, 3, *sides, device=motion.device), motion, share, size)


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


@dataclass(frozen=True)
class Prior:
    """What decides where the frames do not. anchor: canvases that they stay near, with the weight
    `stay`. edges: (2, 1, H', W'), weights of their squared gradients, or None."""

    anchor: Tensor
    stay: float
    edges: Tensor | None = None

    def pull(self, canvases: Tensor) -> Tensor:
        """Half of the gradient of the prior's cost but for the anchor's constant part."""
        pulled = self.stay * canvases
        if self.edges is None:
            return pulled
        return pulled + gradients_adjoint(*(self.edges * g for g in gradients(canvases)))


def gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Forward differences of x (..., H, W) along y and x, 0 behind the last."""
    return F.pad(x.diff(dim=-2), (0, 0, 0, 1)), F.pad(x.diff(dim=-1), (0, 1))


def gradients_adjoint(dy: Tensor, dx: Tensor) -> Tensor:
    """The transpose of `gradients`."""
    dy, dx = dy[..., :-1, :], dx[..., :-1]
    down = F.pad(dy, (0, 0, 1, 0)) - F.pad(dy, (0, 0, 0, 1))
    return down + F.pad(dx, (1, 0)) - F.pad(dx, (0, 1))


def edge_weights(canvases: Tensor, flat: float) -> Tensor:
    """Weights (2, 1, H', W') that make of squared gradients gradients to the power of NORM.

    canvases: (2, 3, H', W'), whose colours share their edges. (Iteratively reweighted least
    squares.)
    """
    dy, dx = gradients(canvases)
    height = (dy.square() + dx.square()).mean(1, keepdim=True)
    return (height + flat * flat) ** (NORM / 2 - 1)


def solve(scene: Scene, clip: Tensor, weight: Tensor, prior: Prior, steps: int) -> None:
    """Canvases of least weighted squares, by conjugate gradients; weight: (T, 1, h, w)."""
    grids = scene.grids()
    share = scene.share.t()[..., None, None, None]

    def normal(x: Tensor) -> Tensor:
        seen = scene.blend(scene.layers(x, grids))
        return adjoint(scene, share * (weight * seen), grids) + prior.pull(x)

    rest = clip - scene.blend(scene.layers(scene.canvases, grids))
    r = adjoint(scene, share * (weight * rest), grids) - prior.pull(scene.canvases)
    r = r + prior.stay * prior.anchor
    p, size = r.clone(), r.square().sum()
    for _ in range(steps):
        ap = normal(p)
        length = size / (p * ap).sum().clamp(min=1e-12)
        scene.canvases = scene.canvases + length * p
        r = r - length * ap
        new = r.square().sum()
        p, size = r + new / size.clamp(min=1e-12) * p, new


def weights_of(rest: Tensor, outlier: float) -> Tensor:
    """Weights (T, 1, h, w) of a residual (T, 3, h, w): what moves by itself has no say.

    Geman and McClure's; a residual of `outlier` counts a quarter.
    """
    return 1 / (1 + (rest.abs().mean(1, keepdim=True) / outlier).square()).square()


@dataclass(frozen=True)
class Look:
    """How a clip is looked at for a fit. weight: (T, 1, h, w), of its pixels. noise: the residual
    that is usual. flat: height that counts as no edge."""

    weight: Tensor
    noise: float
    flat: float = FLAT[1]


@torch.no_grad()
def look_at(scene: Scene, clip: Tensor, outlier: float) -> Look:
    """A clip as a scene's canvases explain it so far."""
    rest = scene.residual(clip)
    return Look(weights_of(rest, outlier), float(rest.abs().mean().clamp(*NOISE)))


@torch.no_grad()
def move(
    scene: Scene, clip: Tensor, outlier: float, fixed: int | None = None, tied: bool = False
) -> None:
    """One Gauss-Newton step of every frame's two motions; those of frame `fixed` stay.

    tied: both move alike.
    """
    grids = scene.grids()
    seen = scene.layers(scene.canvases, grids)
    rest = clip - scene.blend(seen)
    weight = weights_of(rest, outlier)
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
    least = 1e-6 * diagonal.amax(1, keepdim=True) + 1e-9  # flat pictures have no gradients at all
    left = left + torch.diag_embed(DAMPING * diagonal + least)
    change = torch.linalg.solve(left, right)[..., 0].unflatten(1, (2, PARAMETERS))
    h, w = scene.size
    limit = torch.tensor([1.0, 1.0, 2 / max(h, w), 2 / max(h, w)], device=clip.device)
    change = change.clamp(-limit, limit)
    if fixed is not None:
        change = change - change[fixed]
    if tied:
        change = change.mean(1, keepdim=True).expand(-1, 2, -1)
    scene.motion = scene.motion + change


@torch.no_grad()
def fit(scene: Scene, clip: Tensor, look: Look, steps: int, anchor: Tensor | None = None) -> None:
    """A scene's canvases from a clip (T, 3, h, w) at its size, few edges preferred.

    anchor: canvases that they stay near; by default the clip's means along the motions.
    """
    anchor = means(scene, clip) if anchor is None else anchor
    seen = adjoint(scene, clip.new_ones(2, *clip.shape), scene.grids())[:, :1]
    edges = edge_weights(scene.canvases, look.flat)
    edges = SPARSE * min(look.noise, EDGE_NOISE) ** 2 * seen.clamp(min=LEAST_SEEN) * edges
    prior = Prior(anchor, STAY * look.noise**2 * len(clip), edges)
    solve(scene, clip, look.weight, prior, steps)


def resized(motion: Tensor, size: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Motions (..., 2 or PARAMETERS), shifts y and x first, for frames of another size."""
    scale = torch.ones(motion.shape[-1], device=motion.device)
    scale[:2] = motion.new_tensor([new[0] / size[0], new[1] / size[1]])
    return motion * scale


def grown(scene: Scene, larger: Scene) -> Tensor:
    """The canvases of a scene at the size of a larger one's; both have the frame in the middle."""
    height, width = larger.canvases.shape[-2:]
    y, x = axes_of((height, width), scene.canvases)
    y = y * (scene.size[0] / larger.size[0] * 2 / scene.canvases.shape[-2])
    x = x * (scene.size[1] / larger.size[1] * 2 / scene.canvases.shape[-1])
    grid = torch.stack([x.expand(height, -1), y.expand(-1, width)], -1).expand(2, -1, -1, -1)
    return F.grid_sample(scene.canvases, grid, padding_mode="border", align_corners=False)

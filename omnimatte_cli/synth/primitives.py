"""Rays against ellipsoids, boxes and capsules: hits, normals and soft shadow visibility.

Every primitive is a centre, three local axes and three half sizes, kept as one column of a table:
rows 0-2 centre, 3-11 axes (row by row), 12-14 half sizes, 15 bounding radius, 16 kind, 17 material.
A capsule runs along its local z: half sizes (radius, radius, half length of the segment).
All functions are pure and flat: M rays against M primitives, pair by pair, components first (3, M),
which keeps every operation on contiguous memory (reductions over a short first axis are slow).
"""

from __future__ import annotations

import torch
from torch import Tensor

ELLIPSOID, BOX, CAPSULE = 0, 1, 2
KINDS = (ELLIPSOID, BOX, CAPSULE)
ROWS = 18
RADIUS, KIND, MATERIAL = 15, 16, 17
MISS = 1e9  # distance of a ray that hits nothing, in scene units
OCCLUSION_REACH = 2.5  # radii from its middle up to which a primitive darkens its surroundings
NEAR = 1e-3  # hits nearer than this are the surface that the ray starts from, in scene units


def dot(a: Tensor | tuple[Tensor, ...], b: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Dot product over the first axis, (3, ...) x (3, ...) -> (...)."""
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def normalised(a: Tensor) -> Tensor:
    """Unit vectors, (3, ...)."""
    return a * dot(a, a).clamp_min(1e-20).rsqrt()


def rotate(primitive: Tensor, v: Tensor) -> Tensor:
    """World directions (3, M) in the primitives' local axes, (3, M)."""
    return torch.stack([dot(primitive[3 + 3 * i : 6 + 3 * i], v) for i in range(3)])


def unrotate(primitive: Tensor, v: Tensor) -> Tensor:
    """Local directions (3, M) in world axes, (3, M)."""
    return torch.stack([dot(primitive[[3 + i, 6 + i, 9 + i]], v) for i in range(3)])


def hit_ellipsoid(half: Tensor, o: Tensor, d: Tensor) -> Tensor:
    """Distance of the first hit (M,), MISS without; o, d local (3, M)."""
    o, d = o / half, d / half
    a, b, c = dot(d, d), dot(o, d), dot(o, o) - 1
    disc = b * b - a * c
    t = (-b - disc.clamp_min(0).sqrt()) / a
    return torch.where((disc > 0) & (t > NEAR), t, MISS)


def _slabs(half: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    inverse = 1 / torch.where(d.abs() < 1e-7, 1e-7, d)
    middle, extent = -o * inverse, half * inverse.abs()
    near, far = middle - extent, middle + extent
    return (
        torch.maximum(torch.maximum(near[0], near[1]), near[2]),
        torch.minimum(torch.minimum(far[0], far[1]), far[2]),
    )


def hit_box(half: Tensor, o: Tensor, d: Tensor) -> Tensor:
    """Distance of the first hit (M,), MISS without; o, d local (3, M)."""
    near, far = _slabs(half, o, d)
    return torch.where((near < far) & (near > NEAR), near, MISS)


def hit_capsule(half: Tensor, o: Tensor, d: Tensor) -> Tensor:
    """Distance of the first hit (M,), MISS without; o, d local (3, M), d of length 1."""
    r2, length = half[0] * half[0], half[2]
    a = (d[0] * d[0] + d[1] * d[1]).clamp_min(1e-9)
    b = o[0] * d[0] + o[1] * d[1]
    c = o[0] * o[0] + o[1] * o[1]
    disc = b * b - a * (c - r2)
    t = (-b - disc.clamp_min(0).sqrt()) / a
    z = o[2] + t * d[2]
    side = (disc > 0) & (z.abs() <= length)
    # Beyond the segment's ends the surface is a sphere around the end that the ray passes first.
    # A ray inside the infinite cylinder (nearly along the axis) meets the end it comes from.
    inside = (a < 1e-6) | (disc <= 0)
    end = torch.where(inside, torch.where(d[2] > 0, -length, length), torch.sign(z) * length)
    oz = o[2] - end
    bb = b + oz * d[2]
    disc2 = bb * bb - (c + oz * oz - r2)
    t2 = -bb - disc2.clamp_min(0).sqrt()
    t = torch.where(side, t, torch.where(disc2 > 0, t2, MISS))
    return torch.where(t > NEAR, t, MISS)


HIT = {ELLIPSOID: hit_ellipsoid, BOX: hit_box, CAPSULE: hit_capsule}


def local_normal(kind: Tensor, half: Tensor, p: Tensor) -> Tensor:
    """Unit outward normals at local surface points p, (3, M)."""
    ellipsoid = p / (half * half)
    ratio = p.abs() / half
    top = torch.maximum(torch.maximum(ratio[0], ratio[1]), ratio[2])
    box = torch.where(ratio >= top, torch.sign(p), 0.0)
    z = p[2] - torch.minimum(torch.maximum(p[2], -half[2]), half[2])
    capsule = torch.stack([p[0], p[1], z])
    normal = torch.where(kind == ELLIPSOID, ellipsoid, torch.where(kind == BOX, box, capsule))
    return normalised(normal)


def gap_ellipsoid(half: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """How far the ray passes outside (negative: inside) and where along it, both (M,)."""
    o, d = o / half, d / half
    t = -dot(o, d) / dot(d, d)
    p = o + t * d
    c = dot(p, p).sqrt().clamp_min(1e-3)
    world = p * half
    return dot(world, world).sqrt() * (1 - 1 / c), t


def gap_box(half: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """As `gap_ellipsoid`: separating axes of the box's outline as seen along the ray."""
    a = d.abs()
    gap = torch.full_like(d[0], -MISS)
    for i, j in ((1, 2), (2, 0), (0, 1)):
        length = (d[i] * d[i] + d[j] * d[j]).clamp_min(1e-9).rsqrt()
        g = ((o[i] * d[j] - o[j] * d[i]).abs() - half[i] * a[j] - half[j] * a[i]) * length
        gap = torch.maximum(gap, g)
    near, far = _slabs(half, o, d)
    t = torch.where(near < far, torch.where(far > NEAR, near.clamp_min(2 * NEAR), -1.0), -dot(o, d))
    return gap, t


def gap_capsule(half: Tensor, o: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """As `gap_ellipsoid`: the line's distance from the segment, less the radius."""
    along = dot(o, d)
    s = (o[2] - d[2] * along) / (1 - d[2] * d[2]).clamp_min(1e-6)
    s = torch.minimum(torch.maximum(s, -half[2]), half[2])
    t = s * d[2] - along
    p = o + t * d
    pz = p[2] - s
    return (p[0] * p[0] + p[1] * p[1] + pz * pz).sqrt() - half[0], t


GAP = {ELLIPSOID: gap_ellipsoid, BOX: gap_box, CAPSULE: gap_capsule}


def soft_visibility(gap: Tensor, t: Tensor, spread: Tensor) -> Tensor:
    """Share of a round light that stays visible, in [0, 1], (M,).

    The penumbra where the ray passes the edge at distance t is as wide as the light looks from
    there: `spread` is the tangent of the light's angular radius. Smooth, so free of noise.
    """
    width = (spread * t).clamp_min(2e-3)
    x = (0.5 + 0.5 * gap / width).clamp(0, 1)
    return torch.where(t > NEAR, x * x * (3 - 2 * x), 1.0)


def occlusion(half: Tensor, kind: Tensor, p: Tensor, normal: Tensor) -> Tensor:
    """Share of the sky that a primitive hides from a point, roughly, in [0, 1], (M,).

    p: the point in local axes (3, M), normal: local (3, M). The formula for a sphere (cosine over
    squared distance in radii), stretched to the half sizes and ended at OCCLUSION_REACH radii.
    """
    size = torch.where(kind == CAPSULE, torch.stack([half[0], half[1], half[0] + half[2]]), half)
    q = p / size
    edge = 1 / OCCLUSION_REACH**2
    near = (1 / dot(q, q).clamp_min(1.0) - edge).clamp_min(0) * (1 / (1 - edge))
    cosine = -dot(normalised(p), normal)
    return cosine.clamp_min(0) * near

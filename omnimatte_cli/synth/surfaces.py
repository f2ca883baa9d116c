"""What never moves: ground, walls, mirrors and clutter as seen along rays, and how light falls.

Flat lists of M rays or points, components first (3, M); `scene` (M,) says which scene each is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.synth import primitives as prim
from omnimatte_cli.synth import stages as st
from omnimatte_cli.synth.scenes import ScenePlan
from omnimatte_cli.synth.textures import Atlas
from omnimatte_cli.synth.trace import Geometry, columns, cull, nearest

# Textures are sampled for a picture of 96 lines whatever its size, so that a scene keeps its amount
# of fine grain from one resolution to another.
TEXTURE_PIXEL = 1 / 96
LIGHTS = 3  # lights of a scene, padded with dark ones


@dataclass(frozen=True)
class Stage:
    """The fixed numbers of B scenes. planes: (Q, PLANE_COLUMNS, B); lights: (L, LIGHT_COLUMNS, B);
    materials: (COLUMNS, M); sky (14, B); eye (3, B); basis (9, B): right, up, forward; tan (B,)."""

    planes: Tensor
    lights: Tensor
    materials: Tensor
    sky: Tensor
    eye: Tensor
    basis: Tensor
    tan: Tensor
    atlas: Atlas


def gather_stage(plans: Sequence[ScenePlan], atlas: Atlas, device: torch.device) -> Stage:
    """Stack the fixed numbers of several scenes."""
    slots = max(len(p.planes) for p in plans)
    planes = np.zeros((slots, st.PLANE_COLUMNS, len(plans)), np.float32)
    planes[:, st.NORMAL] = np.array([0, 0, 1], np.float32)[None, :, None]
    planes[:, st.EXTENT] = -1  # an empty slot is a plane without extent
    lights = np.zeros((LIGHTS, st.LIGHT_COLUMNS, len(plans)), np.float32)
    lights[:, 2], lights[:, 6:] = 10, 1
    material = 0
    for i, plan in enumerate(plans):
        planes[: len(plan.planes), :, i] = plan.planes
        planes[:, st.SURFACE, i] += material
        material += len(plan.materials)
        lights[: len(plan.lights), :, i] = plan.lights
    cameras = [p.camera for p in plans]

    def put(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    return Stage(
        put(planes),
        put(lights),
        put(np.concatenate([p.materials for p in plans]).T),
        put(np.stack([p.sky for p in plans], 1)),
        put(np.stack([c.eye for c in cameras], 1)),
        put(np.stack([np.r_[c.right, c.up, c.forward] for c in cameras], 1)),
        put(np.array([c.tan for c in cameras])),
        atlas,
    )


def camera_rays(stage: Stage, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Origins and unit directions through the pixels' centres, both (3, B, H * W)."""
    device = stage.eye.device
    y = 1 - (torch.arange(height, device=device) + 0.5) * (2 / height)
    x = ((torch.arange(width, device=device) + 0.5) * (2 / width) - 1) * (width / height)
    y, x = (a.reshape(-1) for a in torch.meshgrid(y, x, indexing="ij"))
    right, up, forward = stage.basis.view(3, 3, -1, 1)
    d = forward + stage.tan[:, None] * (x * right + y * up)
    return stage.eye[..., None].expand_as(d), prim.normalised(d)


@dataclass(frozen=True)
class Surface:
    """Static surfaces along M rays. distance: (M,), MISS for the sky; point, normal, albedo: (3, M)
    (albedo linear); glow: (3, M) the sky's light, 0 elsewhere; reflect: (M,) share of the mirror
    image; bumped: (3, M) normal for the mirror ray; fade: (M,) units."""

    distance: Tensor
    point: Tensor
    normal: Tensor
    albedo: Tensor
    glow: Tensor
    reflect: Tensor
    bumped: Tensor
    fade: Tensor


def paint(rows: Tensor, atlas: Atlas, u: Tensor, v: Tensor, pixel: Tensor) -> Tensor:
    """Linear albedo (3, M) of material rows (COLUMNS, M) at (u, v) in units; pixel: its size."""
    scale = rows[13]
    texel = atlas.sample(rows[12].long(), u * scale + rows[14], v * scale + rows[15], pixel * scale)
    colour = torch.stack([rows[i] + prim.dot(rows[3 + 3 * i : 6 + 3 * i], texel) for i in range(3)])
    colour = colour.clamp(0.03, 1.0)
    return colour * colour * 0.9


def object_albedo(
    rows: Tensor, atlas: Atlas, point: Tensor, normal: Tensor, pixel: Tensor
) -> Tensor:
    """Linear albedo (3, M) at local points of primitives, the texture laid on along the axis that
    the local normal is nearest to."""
    a = normal.abs()
    along_x = (a[0] > a[1]) & (a[0] > a[2])
    along_y = (a[1] > a[2]) & ~along_x
    u = torch.where(along_x, point[1], point[0])
    v = torch.where(along_x | along_y, point[2], point[1])
    return paint(rows, atlas, u, v, pixel)


def _ripples(plane: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes along a plane's axes of three crossed waves plus a fine roughness, (M,) each."""
    height, frequency = plane[st.RIPPLE.start], plane[st.RIPPLE.start + 1]
    su, sv = torch.zeros_like(x), torch.zeros_like(x)
    for angle, stretch in ((0.3, 1.0), (1.4, 1.7), (2.5, 2.9)):
        cu, cv = float(np.cos(angle)), float(np.sin(angle))
        wave = torch.cos((cu * x + cv * y) * frequency * stretch + angle) * height * frequency
        su, sv = su + cu * wave, sv + cv * wave
    grain = torch.frac(torch.sin(x * 127.1 + y * 311.7) * 437.5) * 2
    other = torch.frac(torch.sin(x * 269.5 + y * 183.3) * 437.5) * 2
    return su + plane[st.ROUGH] * grain, sv + plane[st.ROUGH] * other


def see_static(
    stage: Stage, geometry: Geometry, scene: Tensor, o: Tensor, d: Tensor, before: Tensor | None
) -> Surface:
    """The first static surface along M rays. before: (M,) distance covered before, for textures."""
    best = torch.full_like(o[0], prim.MISS)
    which = torch.zeros_like(scene)
    for q in range(len(stage.planes)):
        plane = columns(stage.planes[q, :14], scene)
        facing = prim.dot(d, plane[st.NORMAL])
        rel = plane[st.ORIGIN] - o
        t = prim.dot(rel, plane[st.NORMAL]) / facing.clamp_max(-1e-6)
        at = t * d - rel
        inside = prim.dot(at, plane[st.U]).abs() < plane[12]
        inside &= prim.dot(at, plane[st.V]).abs() < plane[13]
        hit = (facing < -1e-6) & (t > prim.NEAR) & (t < best) & inside
        best, which = torch.where(hit, t, best), torch.where(hit, q, which)
    sky = best >= prim.MISS
    best = best.clamp_max(1e4)
    flat = stage.planes.permute(1, 0, 2).reshape(st.PLANE_COLUMNS, -1)
    plane = columns(flat, which * stage.planes.shape[2] + scene)
    point = o + best * d
    rel = point - plane[st.ORIGIN]
    x, y = prim.dot(rel, plane[st.U]), prim.dot(rel, plane[st.V])
    normal = plane[st.NORMAL].clone()
    cosine = -prim.dot(d, normal).clamp(-1, 0)
    covered = best if before is None else best + before
    pixel = covered * (2 * stage.tan[scene] * TEXTURE_PIXEL) * cosine.clamp_min(0.05).rsqrt()
    rows = columns(stage.materials, plane[st.SURFACE].long())
    albedo = paint(rows, stage.atlas, x, y, pixel)
    low, high = plane[st.REFLECT]
    reflect = low + (high - low) * (1 - cosine) ** 4
    tile, scale, level = plane[st.PUDDLE]
    wet = stage.atlas.sample(tile.clamp_min(0).long(), x * scale, y * scale, pixel * scale)[0]
    wet = ((wet - level) * 14 + 0.5).clamp(0, 1)
    puddled = tile >= 0
    reflect = torch.where(puddled, reflect * wet, reflect)
    albedo = torch.where(puddled, albedo * (1 - 0.4 * wet), albedo)
    su, sv = _ripples(plane, x, y)
    bumped = prim.normalised(normal - su * plane[st.U] - sv * plane[st.V])
    fade = plane[st.FADE]

    index, t, number = _clutter_hits(geometry, scene, o, d, best)
    if len(index):
        at, n, part = object_point(geometry.table, number, o[:, index] + t * d[:, index])
        rows = columns(stage.materials, part[prim.MATERIAL].long())
        size = t * (2 * stage.tan[scene[index]] * TEXTURE_PIXEL)
        best[index], sky[index], reflect[index] = t, False, 0.0
        albedo[:, index] = object_albedo(rows, stage.atlas, at, n, size)
        normal[:, index] = prim.unrotate(part, n)
        point[:, index] = o[:, index] + t * d[:, index]
    height = d[2].clamp(0, 1).sqrt()
    top, horizon = stage.sky[6:9, scene], stage.sky[9:12, scene]
    glow = torch.where(sky, horizon + (top - horizon) * height, 0.0)
    reflect = torch.where(sky, 0.0, reflect)
    return Surface(
        torch.where(sky, prim.MISS, best), point, normal, albedo, glow, reflect, bumped, fade
    )


def _clutter_hits(
    geometry: Geometry, scene: Tensor, o: Tensor, d: Tensor, reach: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rays (index) that meet slot 0 before `reach`, with distance and primitive."""
    sphere = geometry.spheres[:, 0, 0].t().index_select(1, scene)
    near = cull(o.t()[:, :, None], d.t()[:, :, None], sphere.t()[:, None], None)[:, 0, 0]
    index = near.nonzero()[:, 0]
    at = scene[index]
    t, number = nearest(
        geometry, geometry.starts[at, 0, 0], geometry.counts[at, 0, 0],
        o.index_select(1, index), d.index_select(1, index),
    )  # fmt: skip
    keep = (t < reach[index]).nonzero()[:, 0]
    return index[keep], t[keep], number[keep]


def object_point(table: Tensor, number: Tensor, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Local point, local normal (3, M) and table rows (ROWS, M) of world points on primitives."""
    part = columns(table, number)
    local = prim.rotate(part, point - part[:3])
    return local, prim.local_normal(part[prim.KIND], part[12:15], local), part


def fall_of_light(stage: Stage, scene: Tensor, point: Tensor, normal: Tensor):
    """Directions (3, L, M) to the lights, what arrives unshadowed (L, M), and spreads (L, M).

    scene: (M,) or, for (3, B, P) points, (B,); then the results have (B, P) for M.
    """
    lights = stage.lights[:, :, scene]
    while lights.ndim < point.ndim + 1:
        lights = lights[..., None]
    to = lights[:, :3].transpose(0, 1) - point[:, None]
    away2 = prim.dot(to, to)
    to = to * away2.rsqrt()
    facing = prim.dot(to, normal[:, None]).clamp_min(0)
    weaken = (lights[:, 7] * lights[:, 7] / away2).clamp(0.05, 2.5)
    weaken = torch.where(lights[:, 7] >= st.FAR, 1.0, weaken)
    return to, facing * weaken, lights[:, 6].expand_as(facing)

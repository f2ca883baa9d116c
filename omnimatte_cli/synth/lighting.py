"""Light on static points and on objects: who shadows whom, in every choice of objects at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from omnimatte_cli.synth import primitives as prim
from omnimatte_cli.synth.surfaces import (
    Stage,
    fall_of_light,
    object_albedo,
    object_point,
    see_static,
)
from omnimatte_cli.synth.trace import Geometry, columns, cull, nearest, openness, visibility


@dataclass(frozen=True)
class Sheet:
    """One static point per ray: what the camera sees first, or what a mirror shows. P rays a scene.

    o, d, point, normal, albedo, glow: (3, B, P). reach: (B, P) distance. light: (3, L, B, P)
    directions; falls: (L, B, P) what arrives past the clutter; spread: (L, B, P).
    ambient: (3, B, P).
    """

    o: Tensor
    d: Tensor
    reach: Tensor
    point: Tensor
    normal: Tensor
    albedo: Tensor
    glow: Tensor
    light: Tensor
    falls: Tensor
    spread: Tensor
    ambient: Tensor


@dataclass(frozen=True)
class Hits:
    """M nearest hits of a ray with one object each. scene, frame, slot (0-based object), ray,
    number (primitive): (M,) int64; distance: (M,); o, d: (3, M)."""

    scene: Tensor
    frame: Tensor
    slot: Tensor
    ray: Tensor
    number: Tensor
    distance: Tensor
    o: Tensor
    d: Tensor


def _ambient(stage: Stage, scene: Tensor, normal: Tensor) -> Tensor:
    """Ambient light (3, ...) on a normal: of the sky from above, of the ground from below."""
    shape = (3, *scene.shape, *(1,) * (normal.ndim - 1 - scene.ndim))
    above, below = stage.sky[0:3, scene].view(shape), stage.sky[3:6, scene].view(shape)
    return below + (above - below) * (0.5 + 0.5 * normal[2])


def make_sheet(stage: Stage, geometry: Geometry, scene: Tensor, o: Tensor, d: Tensor, before=None):
    """A sheet of rays (3, B, P) and what of it mirrors: reflect (B, P), bumped (3, B, P), fade.

    scene: (B,). before: (B, P) distance that the rays have come.
    """
    b, p = o.shape[1:]
    flat = scene[:, None].expand(b, p).reshape(-1)
    before = None if before is None else before.reshape(-1)
    seen = see_static(stage, geometry, flat, o.reshape(3, -1), d.reshape(3, -1), before)

    def shaped(x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], b, p)

    point, normal = shaped(seen.point), shaped(seen.normal)
    light, falls, spread = fall_of_light(stage, scene, point, normal)
    reach = shaped(seen.distance)
    falls = torch.where(reach < prim.MISS, falls, 0.0)
    sheet = Sheet(
        o, d, reach, point, normal, shaped(seen.albedo), shaped(seen.glow), light, falls, spread,
        _ambient(stage, scene, normal),
    )  # fmt: skip
    still, _ = _shadows(sheet, geometry, range(0, 1), range(0, 1))
    falls = falls * still[:, 0, 0].transpose(0, 1)
    sheet = replace(sheet, falls=falls)
    return sheet, shaped(seen.reflect), shaped(seen.bumped), shaped(seen.fade)


def _split(index: Tensor, *sizes: int) -> list[Tensor]:
    """Coordinates of flat indices into an array of these sizes, the last running fastest."""
    out = []
    for size in reversed(sizes[1:]):
        out.append(index % size)
        index = torch.div(index, size, rounding_mode="floor")
    return [index, *reversed(out)]


def _shadows(
    sheet: Sheet, geometry: Geometry, frames: range, slots: range, contact: bool = False
) -> tuple[Tensor, Tensor | None]:
    """What each object leaves visible of each light, (B, T, N, L, P), and of the sky, (B, T, N, P)
    (None without `contact`), on the sheet's points."""
    lights, b, p = sheet.falls.shape
    t, n = len(frames), len(slots)
    device = sheet.o.device
    spheres = geometry.spheres[:, :, slots.start : slots.stop].reshape(b, t * n, 4)
    point = sheet.point.transpose(0, 1).contiguous()
    seen = torch.ones(b, t, n, lights, p, device=device)
    picks = []
    for lamp in range(lights):
        lit = sheet.falls[lamp] > 0
        near = cull(
            point, sheet.light[:, lamp].transpose(0, 1).contiguous(), spheres, None,
            sheet.spread[lamp, :, 0],
        )  # fmt: skip
        near &= lit[:, None]
        scene, frame, slot, ray = _split(near.reshape(-1).nonzero()[:, 0], b, t, n, p)
        picks.append((scene, frame, slot, torch.full_like(scene, lamp), ray))
    scene, frame, slot, light, ray = (torch.cat(x) for x in zip(*picks, strict=True))
    at = scene * p + ray
    toward = (light * b + scene) * p + ray
    values = visibility(
        geometry,
        geometry.starts[scene, frame, slot + slots.start],
        geometry.counts[scene, frame, slot + slots.start],
        sheet.point.reshape(3, -1).index_select(1, at),
        sheet.light.reshape(3, -1).index_select(1, toward),
        sheet.spread.reshape(-1)[toward],
    )
    seen.view(-1)[(((scene * t + frame) * n + slot) * lights + light) * p + ray] = values
    if not contact:
        return seen, None
    sky = torch.ones(b, t, n, p, device=device)
    centre, radius = spheres[..., :3], spheres[..., 3:]
    apart = torch.bmm(centre, point).mul_(-2) + (centre * centre).sum(-1, keepdim=True)
    apart += prim.dot(sheet.point, sheet.point)[:, None]
    near = (apart < (prim.OCCLUSION_REACH * radius) ** 2) & (radius > 0)
    near &= (sheet.reach < prim.MISS)[:, None]
    scene, frame, slot, ray = _split(near.reshape(-1).nonzero()[:, 0], b, t, n, p)
    at = scene * p + ray
    sky.view(-1)[((scene * t + frame) * n + slot) * p + ray] = openness(
        geometry,
        geometry.starts[scene, frame, slot + slots.start],
        geometry.counts[scene, frame, slot + slots.start],
        sheet.point.reshape(3, -1).index_select(1, at),
        sheet.normal.reshape(3, -1).index_select(1, at),
    )
    return seen, sky


def find_hits(sheet: Sheet, geometry: Geometry, frames: range, objects: int) -> Hits:
    """Where the sheet's rays meet an object before the static surface."""
    b, p = sheet.reach.shape
    t = len(frames)
    spheres = geometry.spheres[:, :, 1:].reshape(b, t * objects, 4)
    o, d = sheet.o.transpose(0, 1).contiguous(), sheet.d.transpose(0, 1).contiguous()
    near = cull(o, d, spheres, sheet.reach)
    scene, frame, slot, ray = _split(near.reshape(-1).nonzero()[:, 0], b, t, objects, p)
    at = scene * p + ray
    o, d = sheet.o.reshape(3, -1).index_select(1, at), sheet.d.reshape(3, -1).index_select(1, at)
    distance, number = nearest(
        geometry,
        geometry.starts[scene, frame, slot + 1],
        geometry.counts[scene, frame, slot + 1],
        o,
        d,
    )
    keep = (distance < sheet.reach.reshape(-1)[at]).nonzero()[:, 0]
    return Hits(
        scene[keep],
        frame[keep],
        slot[keep],
        ray[keep],
        number[keep],
        distance[keep],
        o[:, keep],
        d[:, keep],
    )


def shade(stage: Stage, geometry: Geometry, hits: Hits, pixel: float) -> tuple[Tensor, Tensor]:
    """Light (3, M) that hits send back with only their own object there, and with all of them."""
    point = hits.o + hits.distance * hits.d
    local, normal, part = object_point(geometry.table, hits.number, point)
    rows = columns(stage.materials, part[prim.MATERIAL].long())
    size = hits.distance * stage.tan[hits.scene] * pixel
    albedo = object_albedo(rows, stage.atlas, local, normal, size)
    normal = prim.unrotate(part, normal)
    light, falls, spread = fall_of_light(stage, hits.scene, point, normal)
    lights, m = falls.shape
    point = point + 2 * prim.NEAR * normal

    sphere = geometry.spheres[hits.scene, hits.frame].permute(2, 1, 0)  # (4, N + 1, M)
    slots = sphere.shape[1]
    rel = (sphere[:3] - point[:, None])[:, :, None]
    along = prim.dot(rel, light[:, None])
    big = (sphere[3] * 1.01 + 1e-3)[:, None] + spread * along.clamp_min(0)
    near = (prim.dot(rel, rel) - along * along < big * big) & (along > -big)
    near &= (sphere[3] > 0)[:, None] & (falls > 0)
    slot, lamp, index = _split(near.reshape(-1).nonzero()[:, 0], slots, lights, m)
    seen = torch.ones(slots, lights, m, device=point.device)
    seen.view(-1)[(slot * lights + lamp) * m + index] = visibility(
        geometry,
        geometry.starts[hits.scene[index], hits.frame[index], slot],
        geometry.counts[hits.scene[index], hits.frame[index], slot],
        point.index_select(1, index),
        light.reshape(3, -1).index_select(1, lamp * m + index),
        spread.reshape(-1)[lamp * m + index],
    )
    own = seen[0] * seen.gather(0, (hits.slot + 1).expand(1, lights, m))[0]
    every = seen[0].clone()
    for i in range(1, slots):
        every *= seen[i]

    half = prim.normalised(light - hits.d[:, None])
    shine = rows[16] * prim.dot(half, normal[:, None]).clamp_min(0) ** rows[17] * (falls > 0)
    # Close to the ground less of the sky is seen; a round guess in place of more rays.
    ambient = _ambient(stage, hits.scene, normal) * (0.7 + 0.3 * (2 * point[2]).clamp(0, 1))
    colour = stage.lights[:, 3:6, hits.scene].transpose(0, 1)  # (3, L, M)
    full = albedo[:, None] * (falls * colour) + shine * colour
    base = albedo * ambient
    return base + (full * own).sum(1), base + (full * every).sum(1)


def radiance(sheet: Sheet, colours: Tensor, seen: Tensor, sky: Tensor | None) -> Tensor:
    """Light from the sheet's static points, (B, R, 3, P), for R choices of what is visible.

    colours: (B, 3, L). seen: (B, R, L, P). sky: (B, R, P) or None.
    """
    lit = torch.matmul(colours[:, None], seen * sheet.falls.transpose(0, 1)[:, None])
    ambient = sheet.ambient.transpose(0, 1)[:, None]
    lit += ambient if sky is None else ambient * sky[:, :, None]
    return lit * sheet.albedo.transpose(0, 1)[:, None] + sheet.glow.transpose(0, 1)[:, None]


def _choices(each: Tensor, solos: bool) -> Tensor:
    """From values per object (B, T, N, ...) those of each solo and of all, (B, T, N + 1, ...), or
    only of all, (B, T, 1, ...)."""
    every = each[:, :, 0]
    for i in range(1, each.shape[2]):
        every = every * each[:, :, i]
    return torch.cat([each, every[:, :, None]], 2) if solos else every[:, :, None]


def object_light(
    stage: Stage, sheet: Sheet, geometry: Geometry, frames: range, solos: bool, contact: bool
) -> tuple[Tensor, Hits, Tensor]:
    """The sheet's light per choice (B, T, R, 3, P) without the objects themselves, their hits, and
    how many lie in front of each ray's hit: (M,) bool, whether it is the nearest of all."""
    objects = geometry.spheres.shape[2] - 1
    b, p = sheet.reach.shape
    t = len(frames)
    seen, sky = _shadows(sheet, geometry, frames, range(1, objects + 1), contact)
    seen = _choices(seen, solos)
    sky = None if sky is None else _choices(sky, solos).flatten(1, 2)
    colours = stage.lights[:, 3:6].permute(2, 1, 0).contiguous()
    light = radiance(sheet, colours, seen.flatten(1, 2), sky)
    hits = find_hits(sheet, geometry, frames, objects)
    where = (hits.scene * t + hits.frame) * p + hits.ray
    first = torch.full((b * t * p,), prim.MISS, device=light.device)
    first.scatter_reduce_(0, where, hits.distance, "amin")
    return light.view(b, t, -1, 3, p), hits, hits.distance <= first[where]

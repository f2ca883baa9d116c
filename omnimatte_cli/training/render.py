"""Pictures of planned scenes: full frames, each object alone, and the empty stage, by ray tracing.

For every ray the nearest hit of each object is found once, and for every lit point how much of each
light each object leaves visible. The frame, the solos and the plate are then different choices of
the same numbers: the nearest over a set of objects, and the product over that set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import primitives as prim
from .scenes import SceneOptions, ScenePlan, plan_scene
from .surfaces import (
    Stage,
    camera_rays,
    fall_of_light,
    gather_stage,
    object_albedo,
    object_point,
    see_static,
)
from .textures import load_atlas
from .trace import Geometry, columns, cull, gather_geometry, nearest, openness, visibility

CHUNK = {"cpu": 2**18, "cuda": 2**24}  # rays times pictures (frame, solos) that are held at once
FAINT = 0.004  # mirrors that reflect less are not traced


@dataclass(frozen=True)
class SceneBatch:
    """B clips of T frames with up to N objects, float32 in [0, 1] on one device.

    frames: (B, T, 3, H, W). masks: (B, N, T, 1, H, W) visible object without effects, 0 or 1.
    present: (B, N) bool, false for padding. order: (B, T, N) int64 back to front, padding first.
    plate: (B, 3, H, W) the empty stage. solos: (B, N, T, 3, H, W) object i alone with its effects
    (the plate where padded), or None.
    """

    frames: Tensor
    masks: Tensor
    present: Tensor
    order: Tensor
    plate: Tensor
    solos: Tensor | None


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


def _sheet(stage: Stage, geometry: Geometry, scene: Tensor, o: Tensor, d: Tensor, before=None):
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
    sheet = Sheet(**{**sheet.__dict__, "falls": falls})
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
    for light in range(lights):
        lit = sheet.falls[light] > 0
        near = cull(
            point, sheet.light[:, light].transpose(0, 1).contiguous(), spheres, None,
            sheet.spread[light, :, 0],
        )  # fmt: skip
        near &= lit[:, None]
        scene, frame, slot, ray = _split(near.reshape(-1).nonzero()[:, 0], b, t, n, p)
        picks.append((scene, frame, slot, torch.full_like(scene, light), ray))
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


def _hits(sheet: Sheet, geometry: Geometry, frames: range, objects: int) -> Hits:
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
        *(x[keep] for x in (scene, frame, slot, ray, number, distance)), o[:, keep], d[:, keep]
    )


def _shade(stage: Stage, geometry: Geometry, hits: Hits, pixel: float) -> tuple[Tensor, Tensor]:
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
    ambient = _ambient(stage, hits.scene, normal) * (0.55 + 0.45 * (2 * point[2]).clamp(0, 1))
    colour = stage.lights[:, 3:6, hits.scene].transpose(0, 1)  # (3, L, M)
    full = albedo[:, None] * (falls * colour) + shine * colour
    base = albedo * ambient
    return base + (full * own).sum(1), base + (full * every).sum(1)


def _radiance(sheet: Sheet, colours: Tensor, seen: Tensor, sky: Tensor | None) -> Tensor:
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


def _object_light(
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
    light = _radiance(sheet, colours, seen.flatten(1, 2), sky)
    hits = _hits(sheet, geometry, frames, objects)
    where = (hits.scene * t + hits.frame) * p + hits.ray
    first = torch.full((b * t * p,), prim.MISS, device=light.device)
    first.scatter_reduce_(0, where, hits.distance, "amin")
    return light.view(b, t, -1, 3, p), hits, hits.distance <= first[where]


def _put(picture: Tensor, hits: Hits, front: Tensor, own: Tensor, every: Tensor, share=None):
    """Put the objects' own light over a picture (B, T, R, 3, P), in place: each in its solo (if
    R > 1), the nearest in the last choice. share: (M,) weight, 1 where None."""
    _, t, r, _, p = picture.shape
    flat = picture.view(-1)
    step = torch.arange(3, device=picture.device)[:, None] * p
    base = (hits.scene * t + hits.frame) * r
    jobs = [(base[front] + r - 1, hits.ray[front], every[:, front], front)]
    if r > 1:
        jobs.append((base + hits.slot, hits.ray, own, slice(None)))
    for row, ray, colour, chosen in jobs:
        index = row * (3 * p) + ray + step
        if share is not None:
            old = flat[index]
            colour = old + (colour - old) * share[chosen]
        flat[index] = colour


def _tone(light: Tensor, exposure: Tensor, gamma: Tensor) -> Tensor:
    """Display values in [0, 1] of linear light; highlights roll off above 0.7."""
    x = light * exposure
    over = (x - 0.7).clamp_min(0)
    x = torch.minimum(x, 0.7 + over / (1 + over * (1 / 0.3)))
    return x.clamp(1e-6, 1).pow(1 / gamma)


@dataclass(frozen=True)
class _Mirror:
    """What mirrors show: its sheet, and for every one of its rays the pixel, share and fade, all
    (B, P'); rays of padding have share 0 and pixel 0. flat: (M,) the real rays among B * P'."""

    sheet: Sheet
    pixel: Tensor
    share: Tensor
    fade: Tensor
    flat: Tensor


def _mirror(stage, geometry, sheet: Sheet, reflect, bumped, fade) -> _Mirror | None:
    """The mirror rays of a sheet, collected to the front of each scene's row."""
    device = reflect.device
    strong = reflect > FAINT
    counts = strong.sum(1)
    most = int(counts.max())
    if most == 0:
        return None
    b, p = reflect.shape
    scene, pixel = strong.nonzero(as_tuple=True)
    column = torch.arange(len(scene), device=device) - (torch.cumsum(counts, 0) - counts)[scene]
    flat = scene * most + column
    source = scene * p + pixel

    def collected(x: Tensor) -> Tensor:
        out = torch.zeros(*x.shape[:-2], b * most, dtype=x.dtype, device=device)
        out[..., flat] = x.flatten(-2)[..., source]
        return out.view(*x.shape[:-2], b, most)

    d, normal = collected(sheet.d), collected(bumped)
    d = d - 2 * prim.dot(d, normal) * normal
    flatten = collected(sheet.normal)
    down = prim.dot(d, flatten)  # a ripple must not send the ray into the mirror
    d = prim.normalised(d + (0.02 - down).clamp_min(0) * flatten)
    o = collected(sheet.point) + 2 * prim.NEAR * flatten
    scenes = torch.arange(b, device=device)
    found, _, _, _ = _sheet(stage, geometry, scenes, o, d, collected(sheet.reach))
    share = collected(reflect)
    # Padding must not meet anything.
    reach = torch.where(share > 0, found.reach, -prim.MISS)
    found = Sheet(**{**found.__dict__, "reach": reach, "falls": found.falls * (share > 0)})
    index = torch.arange(p, device=device).expand(b, p)
    return _Mirror(found, collected(index), share, collected(fade), flat)


def _reflect(picture: Tensor, mirror: _Mirror, image: Tensor) -> None:
    """Mix a mirror's image (B, R, 3, P') into a picture (B, R, 3, P), in place."""
    index = mirror.pixel[:, None, None].expand_as(image)
    share = mirror.share[:, None, None]
    real = share > 0
    old = picture.gather(-1, index)
    change = torch.where(real, (image - old) * share, 0.0)
    picture.scatter_add_(-1, index, change)


def _group(
    plans: Sequence[ScenePlan], options: SceneOptions, device: torch.device, solos: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Frames (B, T, 3, H, W), masks (B, N, T, 1, H, W), plate and solos of a few scenes."""
    s = options.supersample
    height, width = options.height * s, options.width * s
    slots = max(len(p.counts) for p in plans)
    objects, b, p = slots - 1, len(plans), height * width
    atlas = load_atlas(options.textures).to(device)
    stage = gather_stage(plans, atlas, device)
    geometry = gather_geometry(plans, range(0, 1), slots, device)
    scenes = torch.arange(b, device=device)
    o, d = camera_rays(stage, height, width)
    sheet, reflect, bumped, fade = _sheet(stage, geometry, scenes, o, d)
    mirror = _mirror(stage, geometry, sheet, reflect, bumped, fade)
    colours = stage.lights[:, 3:6].permute(2, 1, 0).contiguous()

    def empty(of: Sheet) -> Tensor:
        ones = torch.ones(b, 1, *of.falls.shape[::2], device=device)
        return _radiance(of, colours, ones, None)

    plate = empty(sheet)
    if mirror is not None:
        _reflect(plate, mirror, empty(mirror.sheet))
    exposure = stage.sky[12].view(b, 1, 1, 1, 1)
    gamma = stage.sky[13].view(b, 1, 1, 1, 1)

    def finished(light: Tensor) -> Tensor:  # (B, R, 3, P) -> (B, R, 3, H, W)
        return _tone(_pooled(light.view(b, -1, 3, height, width), s), exposure, gamma)

    rows = objects + 1 if solos else 1
    step = max(1, CHUNK["cpu" if device.type == "cpu" else "cuda"] // (b * p * rows))
    frames_out, masks_out, solos_out = [], [], []
    for start in range(0, options.frames, step):
        run = range(start, min(start + step, options.frames))
        geometry = gather_geometry(plans, run, slots, device)
        light, hits, front = _object_light(stage, sheet, geometry, run, solos, contact=True)
        t, r = light.shape[1:3]
        pixel = 2 / options.height
        if mirror is not None:
            image, there, ahead = _object_light(stage, mirror.sheet, geometry, run, solos, False)
            own, every = _shade(stage, geometry, there, pixel)
            at = there.scene * mirror.pixel.shape[1] + there.ray
            share = torch.exp(-there.distance / mirror.fade.reshape(-1)[at])
            _put(image, there, ahead, own, every, share)
            _reflect(light.view(b, t * r, 3, p), mirror, image.view(b, t * r, 3, -1))
        own, every = _shade(stage, geometry, hits, pixel)
        _put(light, hits, front, own, every)
        picture = finished(light.view(b, t * r, 3, p)).view(b, t, r, 3, *_small(options))
        mask = torch.zeros(b, objects, t, p, device=device)
        where = ((hits.scene * objects + hits.slot) * t + hits.frame) * p + hits.ray
        mask.view(-1)[where[front]] = 1.0
        mask = _majority(mask.view(b, objects, t, height, width), s)
        frames_out.append(picture[:, :, -1])
        masks_out.append(mask[:, :, :, None])
        if solos:
            solos_out.append(picture[:, :, :-1].transpose(1, 2))
    return (
        torch.cat(frames_out, 1),
        torch.cat(masks_out, 2),
        finished(plate)[:, 0],
        torch.cat(solos_out, 2) if solos else None,
    )


def _small(options: SceneOptions) -> tuple[int, int]:
    return options.height, options.width


def _pooled(x: Tensor, factor: int) -> Tensor:
    """Means over squares of `factor` pixels, (..., H, W)."""
    if factor == 1:
        return x
    h, w = x.shape[-2:]
    x = x.unflatten(-1, (w // factor, factor)).mean(-1)
    return x.unflatten(-2, (h // factor, factor)).mean(-2)


def _majority(masks: Tensor, factor: int) -> Tensor:
    """Binary masks (B, N, T, H, W): a pixel is of the object that covers most of it, if half."""
    if factor == 1:
        return masks
    part = _pooled(masks, factor)
    best = torch.zeros_like(part).scatter_(1, part.argmax(1, keepdim=True), 1.0)
    return best * (part >= 0.5)


def render_scenes(
    seeds: Sequence[int],
    options: SceneOptions,
    device: torch.device | str = "cpu",
    solos: bool = True,
) -> SceneBatch:
    """Render the scenes of these seeds. A seed's scene depends on nothing but itself and the
    options; scenes are rendered in groups, and long clips in runs of frames, to bound memory."""
    device = torch.device(device)
    plans = [plan_scene(int(seed), options) for seed in seeds]
    objects = max(len(p.counts) - 1 for p in plans)
    b, t, (h, w) = len(plans), options.frames, _small(options)
    # Scenes with equally many objects together, so that little is padded.
    line = sorted(range(b), key=lambda i: len(plans[i].counts))
    frames = torch.empty(b, t, 3, h, w, device=device)
    masks = torch.zeros(b, objects, t, 1, h, w, device=device)
    plate = torch.empty(b, 3, h, w, device=device)
    alone = torch.empty(b, objects, t, 3, h, w, device=device) if solos else None
    order = np.zeros((b, t, objects), np.int64)
    present = np.zeros((b, objects), bool)
    budget = CHUNK["cpu" if device.type == "cpu" else "cuda"]
    start = 0
    while start < b:
        pixels = h * w * options.supersample**2
        group, cost = [], 0
        for i in line[start:]:
            cost += pixels * t * (len(plans[i].counts) if solos else 1)
            if group and cost > budget:
                break
            group.append(i)
        start += len(group)
        some = _group([plans[i] for i in group], options, device, solos)
        index = torch.tensor(group, device=device)
        n = some[1].shape[1]
        frames[index], masks[index, :n], plate[index] = some[0], some[1], some[2]
        if alone is not None:
            alone[index, :n] = some[3]
            alone[index, n:] = some[2][:, None, None]
    for i, plan in enumerate(plans):
        n = plan.distance.shape[1]
        away = np.full((t, objects), np.inf)
        away[:, :n] = plan.distance
        order[i] = np.argsort(-away, axis=1, kind="stable")
        present[i, :n] = True
    return SceneBatch(
        frames, masks, torch.from_numpy(present).to(device),
        torch.from_numpy(order).to(device), plate, alone,
    )  # fmt: skip

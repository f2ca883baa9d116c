"""Pictures of planned scenes: full frames, each object alone, and the empty stage, by ray tracing.

For every ray the nearest hit of each object is found once, and for every lit point how much of each
light each object leaves visible. The frame, the solos and the plate are then different choices of
the same numbers: the nearest over a set of objects, and the product over that set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.synth import primitives as prim
from omnimatte_cli.synth.lighting import Hits, Sheet, make_sheet, object_light, radiance, shade
from omnimatte_cli.synth.scenes import SceneOptions, ScenePlan, plan_scene
from omnimatte_cli.synth.surfaces import camera_rays, gather_stage
from omnimatte_cli.synth.textures import load_atlas
from omnimatte_cli.synth.trace import gather_geometry

CHUNK = {"cpu": 2**17, "cuda": 2**24}  # rays times pictures (frame, solos) that are held at once
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


def _put(
    picture: Tensor,
    hits: Hits,
    front: Tensor,
    own: Tensor,
    every: Tensor,
    share: Tensor | None = None,
) -> None:
    """Put the objects' own light over a picture (B, T, R, 3, P), in place: each in its solo (if
    R > 1), the nearest in the last choice. share: (M,) weight, 1 where None."""
    _, t, r, _, p = picture.shape
    flat = picture.view(-1)
    step = torch.arange(3, device=picture.device)[:, None] * p
    base = (hits.scene * t + hits.frame) * r
    share = torch.ones_like(hits.distance) if share is None else share
    jobs = [(base[front] + r - 1, hits.ray[front], every[:, front], share[front])]
    if r > 1:
        jobs.append((base + hits.slot, hits.ray, own, share))
    for row, ray, colour, weight in jobs:
        index = row * (3 * p) + ray + step
        flat[index] = torch.lerp(flat[index], colour, weight)


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
    found, _, _, _ = make_sheet(stage, geometry, scenes, o, d, collected(sheet.reach))
    share = collected(reflect)
    # Padding must not meet anything.
    reach = torch.where(share > 0, found.reach, -prim.MISS)
    found = replace(found, reach=reach, falls=found.falls * (share > 0))
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
    atlas = load_atlas(options.textures, device)
    stage = gather_stage(plans, atlas, device)
    geometry = gather_geometry(plans, range(0, 1), slots, device)
    scenes = torch.arange(b, device=device)
    o, d = camera_rays(stage, height, width)
    sheet, reflect, bumped, fade = make_sheet(stage, geometry, scenes, o, d)
    mirror = _mirror(stage, geometry, sheet, reflect, bumped, fade)
    colours = stage.lights[:, 3:6].permute(2, 1, 0).contiguous()

    def empty(of: Sheet) -> Tensor:
        ones = torch.ones(b, 1, *of.falls.shape[::2], device=device)
        return radiance(of, colours, ones, None)

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
        light, hits, front = object_light(stage, sheet, geometry, run, solos, contact=True)
        t, r = light.shape[1:3]
        pixel = 2 / options.height
        if mirror is not None:
            image, there, ahead = object_light(stage, mirror.sheet, geometry, run, solos, False)
            own, every = shade(stage, geometry, there, pixel)
            at = there.scene * mirror.pixel.shape[1] + there.ray
            share = torch.exp(-there.distance / mirror.fade.reshape(-1)[at])
            _put(image, there, ahead, own, every, share)
            _reflect(light.view(b, t * r, 3, p), mirror, image.view(b, t * r, 3, -1))
        own, every = shade(stage, geometry, hits, pixel)
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
    options."""
    return render_plans([plan_scene(int(seed), options) for seed in seeds], options, device, solos)


def render_plans(
    plans: Sequence[ScenePlan],
    options: SceneOptions,
    device: torch.device | str = "cpu",
    solos: bool = True,
) -> SceneBatch:
    """Render planned scenes, in groups, and long clips in runs of frames, to bound memory.

    options: those that they were planned with.
    """
    device = torch.device(device)
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
        group: list[int] = []
        cost = 0
        for i in line[start:]:
            cost += pixels * t * (len(plans[i].counts) if solos else 1)
            if group and cost > budget:
                break
            group.append(i)
        start += len(group)
        index = torch.tensor(group, device=device)
        some = _group([plans[i] for i in group], options, device, solos)
        frames[index], part, plate[index], single = some
        n = part.shape[1]
        masks[index, :n] = part
        if alone is not None and single is not None:
            alone[index, :n] = single
            alone[index, n:] = plate[index][:, None, None]
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

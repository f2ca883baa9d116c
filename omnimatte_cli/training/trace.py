"""Which rays hit or are shadowed by which objects: culling to few pairs, then exact tests on those.

Dense stages work on (B scenes, G spheres, P rays) and are a few multiplications each; all the rest
runs on flat lists of pairs of a ray and an object, then of a ray and a primitive. B scenes, T
frames, N objects in slots 1..N; slot 0 holds what never moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from . import primitives as prim
from .scenes import ScenePlan

MARGIN = 1.01  # bounding spheres are enlarged by this, against rounding


@dataclass(frozen=True)
class Geometry:
    """Primitives of several scenes over a run of T frames.

    table: (ROWS, T * K), frame after frame; bounds: (4, T * K) centres and bounding radii;
    starts, counts: (B, T, N + 1) int64, where a slot's primitives are in the table;
    spheres: (B, T, N + 1, 4), radius -1 in empty slots.
    """

    table: Tensor
    bounds: Tensor
    starts: Tensor
    counts: Tensor
    spheres: Tensor


def gather_geometry(
    plans: Sequence[ScenePlan], frames: range, slots: int, device: torch.device
) -> Geometry:
    """The geometry of some frames of some scenes; `slots` is N + 1, at least what each plan has."""
    b, t = len(plans), len(frames)
    counts = np.zeros((b, slots), np.int64)
    spheres = np.zeros((b, t, slots, 4), np.float32)
    spheres[..., 3] = -1
    tables, bases, width = [], [], 0
    material = 0
    for i, plan in enumerate(plans):
        rows = plan.primitives[frames.start : frames.stop].copy()
        rows[..., prim.MATERIAL] += material
        material += len(plan.materials)
        n = len(plan.counts)
        counts[i, :n] = plan.counts
        spheres[i, :, :n] = plan.spheres[frames.start : frames.stop]
        tables.append(rows)
        bases.append(width)
        width += rows.shape[1]
    before = np.cumsum(counts, 1) - counts + np.array(bases)[:, None]
    starts = before[:, None] + (np.arange(t) * width)[None, :, None]
    table = torch.from_numpy(np.concatenate(tables, 1).reshape(t * width, prim.ROWS).T.copy())
    table = table.to(device)
    return Geometry(
        table,
        table[[0, 1, 2, prim.RADIUS]].contiguous(),
        torch.from_numpy(starts).to(device),
        torch.from_numpy(np.repeat(counts[:, None], t, 1)).to(device),
        torch.from_numpy(spheres).to(device),
    )


def cull(
    o: Tensor, d: Tensor, spheres: Tensor, reach: Tensor | None, spread: Tensor | None = None
) -> Tensor:
    """Which rays may meet which spheres, (B, G, P) bool.

    o, d: (B, 3, P). spheres: (B, G, 4). reach: (B, P) how far the rays go, None for without end.
    spread: (B,) tangent by which a ray widens to a cone.
    """
    centre, radius = spheres[..., :3], spheres[..., 3:]
    big = radius * MARGIN + 1e-3
    along = torch.bmm(centre, d) - prim.dot(o.unbind(1), d.unbind(1))[:, None]
    apart = torch.bmm(centre, o).mul_(-2)
    apart += (centre * centre).sum(-1, keepdim=True)
    apart += prim.dot(o.unbind(1), o.unbind(1))[:, None]
    apart -= along * along
    if spread is None:
        near = apart < big * big
    else:
        wide = along.clamp_min(0) * spread[:, None, None] + big
        near = apart < wide * wide
    near &= (along > -big) & (radius > 0)
    if reach is not None:
        near &= along - big < reach[:, None]
    return near


def _candidates(
    geometry: Geometry, start: Tensor, count: Tensor, o: Tensor, d: Tensor, spread: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Expand M pairs of ray and object to those of ray and primitive whose spheres are met.

    Returns pair and primitive numbers (M2,) and the rays' origins from the centres and directions.
    """
    pair = torch.repeat_interleave(count)
    first = torch.cumsum(count, 0) - count
    number = (start - first)[pair] + torch.arange(len(pair), device=pair.device)
    sphere = geometry.bounds.index_select(1, number)
    d2 = d.index_select(1, pair)
    rel = o.index_select(1, pair) - sphere[:3]
    along = -prim.dot(rel, d2)
    big = sphere[3] * MARGIN + 1e-3
    if spread is not None:
        big = big + spread[pair] * along.clamp_min(0)
    keep = (prim.dot(rel, rel) - along * along < big * big) & (along > -big)
    keep = keep.nonzero()[:, 0]
    return pair[keep], number[keep], rel.index_select(1, keep), d2.index_select(1, keep)


def nearest(
    geometry: Geometry, start: Tensor, count: Tensor, o: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """First hits of M rays with one object each: distance (M,), MISS without, and primitive (M,).

    start, count: (M,) the object's primitives. o, d: (3, M).
    """
    pair, number, rel, d2 = _candidates(geometry, start, count, o, d, None)
    table = geometry.table.index_select(1, number)
    rel, d2 = prim.rotate(table, rel), prim.rotate(table, d2)
    kind, t = table[prim.KIND], torch.empty_like(rel[0])
    for code in prim.KINDS:
        index = (kind == code).nonzero()[:, 0]
        t[index] = prim.HIT[code](
            table[12:15].index_select(1, index), rel.index_select(1, index), d2.index_select(1, index)
        )
    best = torch.full((o.shape[1],), prim.MISS, device=o.device)
    best.scatter_reduce_(0, pair, t, "amin")
    win = ((t == best[pair]) & (t < prim.MISS)).nonzero()[:, 0]
    owner = torch.zeros(o.shape[1], dtype=torch.long, device=o.device)
    owner[pair[win]] = number[win]
    return best, owner


def visibility(
    geometry: Geometry, start: Tensor, count: Tensor, o: Tensor, d: Tensor, spread: Tensor
) -> Tensor:
    """Share of a light that one object leaves visible, in [0, 1], (M,).

    start, count: (M,). o, d: (3, M) from the point toward the light. spread: (M,).
    """
    pair, number, rel, d2 = _candidates(geometry, start, count, o, d, spread)
    table = geometry.table.index_select(1, number)
    rel, d2 = prim.rotate(table, rel), prim.rotate(table, d2)
    kind, seen, wide = table[prim.KIND], torch.empty_like(rel[0]), spread[pair]
    for code in prim.KINDS:
        index = (kind == code).nonzero()[:, 0]
        gap, t = prim.GAP[code](
            table[12:15].index_select(1, index), rel.index_select(1, index), d2.index_select(1, index)
        )
        seen[index] = prim.soft_visibility(gap, t, wide[index])
    out = torch.ones(o.shape[1], device=o.device)
    return out.scatter_reduce_(0, pair, seen, "amin")


def openness(
    geometry: Geometry, start: Tensor, count: Tensor, point: Tensor, normal: Tensor
) -> Tensor:
    """Share of the sky that one object leaves open above points, in [0, 1], (M,)."""
    pair = torch.repeat_interleave(count)
    first = torch.cumsum(count, 0) - count
    number = (start - first)[pair] + torch.arange(len(pair), device=pair.device)
    table = geometry.table.index_select(1, number)
    rel = prim.rotate(table, point.index_select(1, pair) - table[:3])
    up = prim.rotate(table, normal.index_select(1, pair))
    hidden = prim.occlusion(table[12:15], table[prim.KIND], rel, up)
    out = torch.ones(point.shape[1], device=point.device)
    return out.scatter_reduce_(0, pair, 1 - hidden, "amin")

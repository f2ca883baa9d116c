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

from omnimatte_cli.synth import primitives as prim
from omnimatte_cli.synth.scenes import ScenePlan

MARGIN = 1.01  # bounding spheres are enlarged by this, against rounding


@dataclass(frozen=True)
class Geometry:
    """Primitives of several scenes over a run of T frames.

    table: (ROWS, T * K), frame after frame; parts of it gathered often: bounds (4, T * K) centres
    and bounding radii, shapes (12, T * K) axes and half sizes, kinds (T * K,) int64;
    starts, counts: (B, T, N + 1) int64, where a slot's primitives are in the table;
    spheres: (B, T, N + 1, 4), radius -1 in empty slots.
    """

    table: Tensor
    bounds: Tensor
    shapes: Tensor
    kinds: Tensor
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
        table[3:15].contiguous(),
        table[prim.KIND].long(),
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


def columns(table: Tensor, number: Tensor) -> Tensor:
    """Columns of a table (C, K) by number (M,), as (C, M). Twice as fast as `index_select`."""
    return table.gather(1, number.expand(len(table), -1))


def _expand(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of ray and object to those of ray and primitive: numbers of pair, primitive (M2,)."""
    pair = torch.repeat_interleave(count)
    first = start - (torch.cumsum(count, 0) - count)
    return pair, first[pair] + torch.arange(len(pair), device=pair.device)


def _candidates(
    geometry: Geometry, start: Tensor, count: Tensor, o: Tensor, d: Tensor, spread: Tensor | None
) -> list[tuple[int, Tensor, Tensor, Tensor, Tensor, Tensor]]:
    """Expand M pairs of ray and object to those of ray and primitive whose spheres are met.

    Returns for each kind of primitive: kind, pair and primitive numbers (M2,), half sizes (3, M2),
    and in local axes the rays' origins from the centres and directions (3, M2).
    """
    pair, number = _expand(start, count)
    sphere = columns(geometry.bounds, number)
    d2 = d.index_select(1, pair)
    rel = o.index_select(1, pair).sub_(sphere[:3])
    along = prim.dot(rel, d2).neg_()
    big = sphere[3] * MARGIN + 1e-3
    if spread is not None:
        big = torch.addcmul(big, spread[pair], along.clamp_min(0))
    keep = (torch.addcmul(prim.dot(rel, rel), along, along, value=-1) < big * big) & (along > -big)
    kind = torch.where(keep, geometry.kinds[number], -1)
    out = []
    for code in prim.KINDS:
        index = (kind == code).nonzero()[:, 0]
        chosen = number[index]
        table = columns(geometry.shapes, chosen)
        where, ray = rel.index_select(1, index), d2.index_select(1, index)
        out.append(
            (code, pair[index], chosen, table[9:], _turned(table, where), _turned(table, ray))
        )
    return out


def _turned(shape: Tensor, v: Tensor) -> Tensor:
    """World directions (3, M) in the axes of shapes (12, M), (3, M)."""
    return torch.stack([prim.dot(shape[3 * i : 3 * i + 3], v) for i in range(3)])


def nearest(
    geometry: Geometry, start: Tensor, count: Tensor, o: Tensor, d: Tensor
) -> tuple[Tensor, Tensor]:
    """First hits of M rays with one object each: distance (M,), MISS without, and primitive (M,).

    start, count: (M,) the object's primitives. o, d: (3, M).
    """
    best = torch.full((o.shape[1],), prim.MISS, device=o.device)
    owner = torch.zeros(o.shape[1], dtype=torch.long, device=o.device)
    found = []
    for code, pair, number, half, where, ray in _candidates(geometry, start, count, o, d, None):
        t = prim.HIT[code](half, where, ray)
        best.scatter_reduce_(0, pair, t, "amin")
        found.append((pair, number, t))
    for pair, number, t in found:
        win = ((t == best[pair]) & (t < prim.MISS)).nonzero()[:, 0]
        owner[pair[win]] = number[win]
    return best, owner


def visibility(
    geometry: Geometry, start: Tensor, count: Tensor, o: Tensor, d: Tensor, spread: Tensor
) -> Tensor:
    """Share of a light that one object leaves visible, in [0, 1], (M,).

    start, count: (M,). o, d: (3, M) from the point toward the light. spread: (M,).
    """
    out = torch.ones(o.shape[1], device=o.device)
    for code, pair, _, half, where, ray in _candidates(geometry, start, count, o, d, spread):
        gap, t = prim.GAP[code](half, where, ray)
        out.scatter_reduce_(0, pair, prim.soft_visibility(gap, t, spread[pair]), "amin")
    return out


def openness(
    geometry: Geometry, start: Tensor, count: Tensor, point: Tensor, normal: Tensor
) -> Tensor:
    """Share of the sky that one object leaves open above points, in [0, 1], (M,)."""
    pair, number = _expand(start, count)
    sphere = columns(geometry.bounds, number)
    rel = point.index_select(1, pair).sub_(sphere[:3])
    keep = (prim.dot(rel, rel) < (prim.OCCLUSION_REACH * sphere[3]) ** 2).nonzero()[:, 0]
    pair, number = pair[keep], number[keep]
    table = columns(geometry.shapes, number)
    local = _turned(table, rel.index_select(1, keep))
    up = _turned(table, normal.index_select(1, pair))
    hidden = prim.occlusion(table[9:], geometry.kinds[number], local, up)
    out = torch.ones(point.shape[1], device=point.device)
    return out.scatter_reduce_(0, pair, 1 - hidden, "amin")

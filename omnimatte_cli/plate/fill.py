"""What is never seen: filled from patches of what is, and joined without a seam.

Patch-based completion, coarse to fine: each pixel of the hole looks for the place outside whose
surroundings look most like its own (a randomised search that hands good places on to neighbours, as
PatchMatch does), then takes the mean of what its neighbours' places propose.
"""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.arrays import full_scale

PATCH = 3  # pixels, half a patch's side less half: patches of 7 x 7
COARSEST = 6  # pixels: the level at which a hole is about so thick is where filling begins
SEARCH_WIDTH = 640  # pixels: finer levels copy from where the coarser found
ROUNDS = 4  # of search and vote a level
TRIES = 8  # random places tried a round
NEAR = 2.5  # times the hole's size: how far away a source may be
SEED = 20  # of the random search, so that the same clip is filled the same way


def fill_hole(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """image (H, W, 3) uint8 or uint16 with hole (H, W) bool filled.

    Each connected part is filled by itself. Parts that touch the border or are specks are filled
    smoothly.
    """
    if not hole.any() or hole.all():
        return image
    result = smooth_fill(image, hole)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8))
    h, w = hole.shape
    random = np.random.default_rng(SEED)
    for part in range(1, count):
        x, y, bw, bh, area = stats[part]
        margin = int(NEAR * max(bw, bh)) + 4 * PATCH
        at_border = x == 0 or y == 0 or x + bw == w or y + bh == h
        if area < 16 or (at_border and _thick(labels == part)):
            continue
        box = np.s_[max(0, y - margin) : y + bh + margin, max(0, x - margin) : x + bw + margin]
        inside = labels[box] == part
        if (~hole[box]).sum() < 2 * area:
            continue
        result[box] = np.where(
            inside[..., None], _patch_fill(result[box], inside, hole[box], random), result[box]
        )
    return result


def _thick(part: np.ndarray) -> bool:
    """Is a hole at the border so large that patches would have to continue the scene outwards?"""
    return bool(part.sum() > 0.02 * part.size)


def smooth_fill(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """image (H, W, 3) uint8 or uint16 with its values carried smoothly into the hole."""
    filled = _rounded(_carried(image.astype(np.float32), hole), image.dtype)
    return np.where(hole[..., None], filled, image)


def _rounded(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Float levels as integers of a type."""
    return np.clip(np.rint(x), 0, full_scale(dtype)).astype(dtype)


def _carried(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32, known outside the hole: means over ever larger areas (pull and push)."""
    weight: np.ndarray = (~hole).astype(np.float32)
    value: np.ndarray = values * weight[..., None]
    levels = [(value, weight)]
    while min(levels[-1][1].shape) > 1:
        v, k = levels[-1]
        size = (max(1, (k.shape[1] + 1) // 2), max(1, (k.shape[0] + 1) // 2))
        value = cv2.resize(v, size, interpolation=cv2.INTER_AREA)
        weight = cv2.resize(k, size, interpolation=cv2.INTER_AREA)
        levels.append((value, weight))
        if weight.min() > 0:
            break
    v, k = levels[-1]
    full: np.ndarray = v / np.maximum(k, 1e-6)[..., None]
    for v, k in reversed(levels[:-1]):
        full = cv2.resize(full, k.shape[::-1], interpolation=cv2.INTER_LINEAR)
        share = np.minimum(k, 1)[..., None]
        known = v / np.maximum(k, 1e-6)[..., None]
        full = known * share + full * (1 - share)
    return full.reshape(values.shape)


def membrane(image: np.ndarray, other: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """image (H, W, 3) with `other` in the hole, shifted smoothly to meet it at its edge.

    Both are uint8 or both uint16.
    """
    edge = cv2.dilate(hole.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & ~hole
    if not edge.any():
        return np.where(hole[..., None], other, image)
    difference = image.astype(np.float32) - other
    # Blurred where known, so that grain at the edge is not drawn into the hole.
    known = edge.astype(np.float32)
    blurred = cv2.blur(difference * known[..., None], (7, 7))
    blurred /= np.maximum(cv2.blur(known, (7, 7)), 1e-3)[..., None]
    joined = _rounded(other + _carried(blurred, ~edge), image.dtype)
    return np.where(hole[..., None], joined, image)


def _patch_fill(
    image: np.ndarray, hole: np.ndarray, unknown: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """image (h, w, 3) with hole (h, w) bool filled; unknown: no source either."""
    thickness = float(cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3).max())
    coarse = int(max(0, np.ceil(np.log2(max(2 * thickness / COARSEST, 1)))))
    fine = image.astype(np.float32)
    field: np.ndarray | None = None
    current: np.ndarray | None = None
    for level in range(coarse, -1, -1):
        size = (max(1, image.shape[1] >> level), max(1, image.shape[0] >> level))
        if min(size) < 4 * PATCH:
            continue
        small = cv2.resize(fine, size, interpolation=cv2.INTER_AREA)
        inside = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        blocked = cv2.resize(unknown.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        if current is not None:
            grown = cv2.resize(current, size, interpolation=cv2.INTER_LINEAR)
            small = np.where(inside[..., None], grown, small)
        done = _level(small, inside, blocked, field, random)
        if done is None:
            continue
        current, field = done
    return image if current is None else _rounded(current, image.dtype)


def _level(
    image: np.ndarray,
    hole: np.ndarray,
    blocked: np.ndarray,
    field: np.ndarray | None,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Search and vote at one resolution. field: (h, w, 2) int (y, x) places, of the last level."""
    h, w = hole.shape
    side = 2 * PATCH + 1
    free = cv2.erode((~blocked).astype(np.uint8), np.ones((side, side)), borderValue=0) > 0
    sources = np.stack(np.nonzero(free), -1)
    # All patches that touch the hole take part, so that it meets its edge.
    active = cv2.dilate(hole.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    active[:PATCH] = active[h - PATCH :] = active[:, :PATCH] = active[:, w - PATCH :] = False
    at = np.stack(np.nonzero(active), -1)
    if len(sources) < 20 or len(at) == 0:
        return None
    index = np.full((h, w), -1)
    index[tuple(at.T)] = np.arange(len(at))
    place = sources[random.integers(len(sources), size=len(at))]
    if field is not None:
        wider = cv2.resize(field.astype(np.float32), (w, h), interpolation=cv2.INTER_NEAREST)
        ratio = np.array([h / field.shape[0], w / field.shape[1]])
        # The parity of a pixel within its coarse parent is kept: neighbours copy neighbours.
        parent = (at / ratio).astype(int)
        guess = (wider[tuple(at.T)] * ratio + (at - parent * ratio)).round().astype(int)
        ok = (guess >= 0).all(1) & (guess < (h, w)).all(1)
        ok[ok] = free[tuple(guess[ok].T)]
        place[ok] = guess[ok]
    shifts = np.array([(y, x) for y in range(-PATCH, PATCH + 1) for x in range(-PATCH, PATCH + 1)])
    known = np.where(hole, 0.6, 1.0).astype(np.float32)  # what is there counts more
    for round_ in range(ROUNDS if field is None else max(2, ROUNDS - 1)):
        flat = image.reshape(-1, 3)
        step = shifts @ (w, 1)
        own = flat[(at @ (w, 1))[:, None] + step]
        weight = known.reshape(-1)[(at @ (w, 1))[:, None] + step]
        weight = weight / weight.sum(1, keepdims=True)

        def cost(
            p: np.ndarray,
            own: np.ndarray = own,
            weight: np.ndarray = weight,
            flat: np.ndarray = flat,
            step: np.ndarray = step,
        ) -> np.ndarray:
            patch = flat[(p @ (w, 1))[:, None] + step]
            return (((own - patch) ** 2).sum(2) * weight).sum(1)

        best = cost(place)
        for jump in (4, 1, 2, 1):
            for dy, dx in ((jump, 0), (-jump, 0), (0, jump), (0, -jump)):
                near = index[np.clip(at[:, 0] + dy, 0, h - 1), np.clip(at[:, 1] + dx, 0, w - 1)]
                tried = place[near] - (dy, dx)
                best = _better(tried, near >= 0, place, best, free, cost)
        for k in range(TRIES):
            radius = max(h, w) * 0.5**k
            tried = (place + random.uniform(-radius, radius, (len(at), 2))).round().astype(int)
            best = _better(tried, np.ones(len(at), bool), place, best, free, cost)
        image = _vote(image, hole, at, place, best, shifts, sharp=round_ > 0)
    full = np.zeros((h, w, 2), int)
    full[tuple(at.T)] = place
    return image, full


def _better(tried, ok, place, best, free, cost) -> np.ndarray:
    """Take over the tried places that are sources and cost less; place is changed in place."""
    h, w = free.shape
    ok = ok & (tried >= 0).all(1) & (tried[:, 0] < h) & (tried[:, 1] < w)
    inside = np.where(ok[:, None], tried, place)
    ok &= free[tuple(inside.T)]
    inside = np.where(ok[:, None], tried, place)
    new = cost(inside)
    take = ok & (new < best)
    place[take] = tried[take]
    return np.where(take, new, best)


def _vote(image, hole, at, place, best, shifts, sharp) -> np.ndarray:
    """Each hole pixel: the mean of what the patches over it propose, the fitting ones more."""
    h, w = hole.shape
    scale = np.percentile(best, 75) + 1e-3
    strength = np.exp(-best / (0.5 * scale if sharp else scale))
    total = np.zeros((h, w, 3))
    weights = np.full((h, w), 1e-9)
    for dy, dx in shifts:
        y, x = at[:, 0] + dy, at[:, 1] + dx
        total[y, x] += strength[:, None] * image[place[:, 0] + dy, place[:, 1] + dx]
        weights[y, x] += strength
    voted = (total / weights[..., None]).astype(np.float32)
    return np.where(hole[..., None] & (weights[..., None] > 1e-8), voted, image)

"""A hole filled from patches of what is around it.

Patch-based completion, coarse to fine (Wexler et al. 2007; Newson et al. 2017): every patch that
touches the hole is assigned the place outside whose patch is most like it, by a randomised search
that hands good places on to neighbours (PatchMatch, Barnes et al. 2009); then every pixel of the
hole takes what the patches over it propose. At the coarsest level the hole is filled from its edge
inwards, with the places compared one by one. Texture (how much a pixel's surroundings vary) is
compared besides colour: coarse levels no longer show it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from omnimatte_cli.arrays import full_scale

PATCH = 3  # pixels from a patch's centre to its side: patches of 7 x 7
SMALLEST = 28  # pixels of the shorter side of the coarsest level
THICK = 8  # pixels: at the coarsest level a hole is at most about so thick, if SMALLEST allows
COMPARISONS = 2e7  # of pairs of patches at the coarsest level,
SOURCES = (500, 6000)  # with so many places at least and at most
SEARCHED = 24_000  # patches that are searched for; finer levels take over what coarser found
ROUNDS = 5  # of search and vote at the coarsest level
FINE_ROUNDS = 2  # at all others
TRIES = 7  # random places tried a round
TEXTURE = 4.0  # weight of texture against colour: texture is the smaller number
ROW = 200.0  # levels that a place costs which lies a picture's height higher or lower: grounds and
# walls keep their rows
FADE = 0.85  # of a pixel's weight in comparisons, for each pixel that it lies inside the hole
FAINT = 0.08  # smallest such weight
SEED = 20  # of the random search, so that the same picture is filled the same way


@dataclass(frozen=True)
class _Level:
    """The picture at one resolution, padded by PATCH pixels.

    features: (h, w, 5) float32, RGB and texture. hole: (h, w) bool, to be filled. weight: (h, w)
    float32 in comparisons: 1 where known, less in the hole, 0 where nothing is known or needed.
    source: (h, w) bool, centres of patches that are known entirely.
    """

    features: np.ndarray
    hole: np.ndarray
    weight: np.ndarray
    source: np.ndarray

    @property
    def width(self) -> int:
        return self.hole.shape[1]

    @property
    def inner(self) -> tuple[slice, slice]:
        return np.s_[PATCH:-PATCH, PATCH:-PATCH]


def find_sources(image: np.ndarray, hole: np.ndarray, blocked: np.ndarray) -> np.ndarray | None:
    """Where each pixel of the hole (H, W) bool is to be copied from.

    image: (H, W, 3) uint8 or uint16. blocked: (H, W) bool, what is neither known nor needed.
    Returns (H, W) int64, flat indices of known pixels, in the hole and a band around it; -1
    elsewhere. None where too little is known.
    """
    level_size = np.float32(full_scale(image.dtype) / 255)
    levels = _pyramid(image.astype(np.float32) / level_size, hole, blocked)
    random = np.random.default_rng(SEED)
    found: tuple[_Level, np.ndarray, np.ndarray] | None = None
    for level in levels:
        centres = _centres(level)
        if len(centres) == 0 or level.source.sum() < 20:
            continue
        if found is None:
            level = _peeled(level)
            places = _nearest_of_all(level, centres)
            rounds = ROUNDS
        else:
            places = _handed_down(level, centres, *found)
            level = _voted(level, centres, places, _costs(level, centres, places))
            rounds = FINE_ROUNDS if len(centres) <= SEARCHED else 0
        for _ in range(rounds):
            costs = _Costs(level, centres)
            best = _search(level, centres, places, costs, random)
            level = _voted(level, centres, places, best)
        found = level, centres, places
    if found is None or found[0].hole.shape != levels[-1].hole.shape:
        return None
    return _copied(*found)


def _pyramid(image: np.ndarray, hole: np.ndarray, blocked: np.ndarray) -> list[_Level]:
    """Levels from the coarsest to full size."""
    unknown = hole | blocked
    thickness = 2 * cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3).max()
    h, w = hole.shape
    factor = min(thickness / THICK, min(h, w) / SMALLEST)
    steps = max(0, int(np.floor(np.log2(max(factor, 1)))))
    features = np.dstack([image, _texture(image, unknown, 1 << steps)])
    features[unknown] = 0  # in place: at 4K each array of features takes 166 MB
    halves = features[..., :3], features[..., 3:]  # OpenCV takes at most four channels
    levels = []
    for step in range(steps, -1, -1):
        size = (max(1, round(w / (1 << step))), max(1, round(h / (1 << step))))
        known = cv2.resize((~unknown).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        free = cv2.resize((~blocked).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        values = np.dstack([cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in halves])
        np.divide(values, np.maximum(known, 1e-6)[..., None], out=values)
        seen = known > 0.5
        levels.append(_level(values, ~seen & (free > 0.5), ~seen & (free <= 0.5)))
    return levels


def _texture(image: np.ndarray, unknown: np.ndarray, reach: int) -> np.ndarray:
    """Mean absolute differences along x and y of known pixels, (H, W, 2) float32 in levels."""
    grey = image.mean(2)
    found = []
    side = 2 * max(reach, 2) + 1
    for axis in (1, 0):
        change = np.abs(np.diff(grey, axis=axis, append=0))
        good = ~(unknown | np.roll(unknown, -1, axis))
        if axis == 1:
            good[:, -1] = False
        else:
            good[-1] = False
        share = cv2.blur(good.astype(np.float32), (side, side))
        mean = cv2.blur(np.where(good, change, 0).astype(np.float32), (side, side))
        found.append(mean / np.maximum(share, 1e-6))
    return np.stack(found, -1) * TEXTURE**0.5


def _level(features: np.ndarray, hole: np.ndarray, blocked: np.ndarray) -> _Level:
    pad = ((PATCH, PATCH), (PATCH, PATCH))
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3)
    weight = np.where(hole, np.maximum(FADE**depth, FAINT), 1.0)
    weight = np.pad(np.where(blocked, 0, weight), pad).astype(np.float32)
    unknown = np.pad(hole | blocked, pad, constant_values=True).astype(np.uint8)
    side = 2 * PATCH + 1
    source = cv2.dilate(unknown, np.ones((side, side), np.uint8)) == 0
    features = np.pad(features, (*pad, (0, 0)), mode="edge").astype(np.float32)
    return _Level(features, np.pad(hole, pad), weight, source)


def _centres(level: _Level) -> np.ndarray:
    """Flat indices of the patches that touch the hole, (P,) int64."""
    side = 2 * PATCH + 1
    touched = cv2.dilate(level.hole.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    inside = np.zeros_like(touched)
    inside[level.inner] = True
    return np.flatnonzero(touched & inside)


def _around(width: int) -> np.ndarray:
    """Flat offsets of a patch's pixels from its centre, (49,)."""
    axis = np.arange(-PATCH, PATCH + 1)
    return (axis[:, None] * width + axis[None]).ravel()


class _Costs:
    """How unlike patches are the places that they are assigned to: mean squared levels."""

    def __init__(self, level: _Level, centres: np.ndarray) -> None:
        self.around = _around(level.width)
        self.flat = level.features.reshape(-1, level.features.shape[2])
        self.rows = centres // level.width
        self.width = level.width
        self.row = (ROW / level.hole.shape[0]) ** 2
        self.own = self.flat[centres[:, None] + self.around]
        weight = level.weight.reshape(-1)[centres[:, None] + self.around]
        self.weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-6)

    def __call__(self, places: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """places: (P,) flat indices of the centres in `which` (None: of all). Returns (P,)."""
        own, weight, rows = self.own, self.weight, self.rows
        if which is not None:
            own, weight, rows = own[which], weight[which], rows[which]
        apart = self.flat[places[:, None] + self.around]
        apart -= own
        cost = np.einsum("pkf,pkf,pk->p", apart, apart, weight, optimize=False)
        return cost + self.row * (places // self.width - rows) ** 2


def _compared(level: _Level, count: int) -> np.ndarray:
    """The places that each of `count` patches is compared with, flat indices.

    All of them, unless that is too much work: a thin hole has no coarse level, and the search in
    rounds finds what lies between.
    """
    places = np.flatnonzero(level.source)
    most = int(np.clip(COMPARISONS / max(count, 1), *SOURCES))
    if len(places) > most:
        places = places[np.linspace(0, len(places) - 1, most).astype(int)]
    return places


class _Comparison:
    """Compares patches with all of some places at once, by one product of matrices."""

    def __init__(self, level: _Level, places: np.ndarray, patches: np.ndarray) -> None:
        """places: (S,) flat indices; patches: (S, 49, features), what is there."""
        self.places = places
        self.row = (ROW / level.hole.shape[0]) ** 2
        self.middle = level.hole.shape[0] // 2
        patches = patches.reshape(len(places), -1)
        rows = (places // level.width - self.middle).astype(np.float32)
        # Squared distances but for what is the same for all places.
        self.known = np.column_stack([patches**2, -2 * patches, rows**2, -2 * rows])

    def best(self, own: np.ndarray, weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """The place that is most like each patch, (P,) flat indices: of equal ones the first.

        own: (P, 49, features); weight: (P, 49), sums to 1; rows: (P,) of the patches' centres.
        """
        every = np.repeat(weight, own.shape[2], axis=1)
        row = np.full(len(own), self.row, np.float32)
        here = self.row * (rows - self.middle)
        asked = np.column_stack([every, every * own.reshape(every.shape), row, here])
        cost = asked.astype(np.float32) @ self.known.T
        return np.asarray(self.places[cost.argmin(1)])


def _peeled(level: _Level) -> _Level:
    """The hole filled from its edge inwards, each ring from the places that fit what is there."""
    features, missing = level.features.copy(), level.hole.copy()
    known = level.weight * ~missing
    places = _compared(level, int(missing.sum()))
    around = _around(level.width)
    flat = features.reshape(-1, features.shape[2])
    compare = _Comparison(level, places, flat[places[:, None] + around])
    ring_of = np.ones((3, 3), np.uint8)
    while missing.any():
        ring = missing & (cv2.dilate((known > 0).astype(np.uint8), ring_of) > 0)
        if not ring.any():
            break
        at = np.flatnonzero(ring)
        weight = known.reshape(-1)[at[:, None] + around]
        weight = weight / weight.sum(1, keepdims=True)
        flat[at] = flat[compare.best(flat[at[:, None] + around], weight, at // level.width)]
        known.reshape(-1)[at] = level.weight.reshape(-1)[at]
        missing &= ~ring
    return replace(level, features=features)


def _nearest_of_all(level: _Level, centres: np.ndarray) -> np.ndarray:
    """The best place of each patch by comparing all, (P,) flat indices."""
    places = _compared(level, len(centres))
    costs = _Costs(level, centres)
    compare = _Comparison(level, places, costs.flat[places[:, None] + costs.around])
    best = np.empty(len(centres), np.int64)
    for start in range(0, len(centres), 256):
        part = slice(start, start + 256)
        best[part] = compare.best(costs.own[part], costs.weight[part], costs.rows[part])
    return best


def _handed_down(
    level: _Level, centres: np.ndarray, coarse: _Level, before: np.ndarray, found: np.ndarray
) -> np.ndarray:
    """The places that a coarser level found, at this one: each patch's parent's, shifted alike."""
    parent = np.zeros(coarse.hole.shape, np.uint8)
    parent.reshape(-1)[before] = 1
    # Patches without a parent take that of the nearest that has one.
    _, label = cv2.distanceTransformWithLabels(
        1 - parent, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    own = np.zeros(label.max() + 1, np.int64)
    own[label.reshape(-1)[before]] = np.arange(len(before))
    inner = np.array([s - 2 * PATCH for s in level.hole.shape])
    ratio = inner / [s - 2 * PATCH for s in coarse.hole.shape]
    at = np.stack(np.divmod(centres, level.width), -1) - PATCH
    above = np.minimum((at + 0.5) / ratio, [s - 2 * PATCH - 1 for s in coarse.hole.shape])
    above = above.astype(int) + PATCH
    index = own[label[above[:, 0], above[:, 1]]]
    start = np.stack(np.divmod(before[index], coarse.width), -1)
    end = np.stack(np.divmod(found[index], coarse.width), -1)
    target = np.rint(at + (end - start) * ratio).astype(int)
    target = np.clip(target, 0, inner - 1) + PATCH
    places = target @ (level.width, 1)
    source = level.source.reshape(-1)
    wrong = ~source[places]
    if wrong.any():  # the nearest place that is one
        _, label = cv2.distanceTransformWithLabels(
            (~level.source).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        nearest = np.zeros(label.max() + 1, np.int64)
        valid = np.flatnonzero(source)
        nearest[label.reshape(-1)[valid]] = valid
        places[wrong] = nearest[label.reshape(-1)[places[wrong]]]
    return places


def _search(
    level: _Level,
    centres: np.ndarray,
    places: np.ndarray,
    costs: _Costs,
    random: np.random.Generator,
) -> np.ndarray:
    """Better places, put into `places`: those of neighbours, and random ones. Returns the costs."""
    best = costs(places)
    source = level.source.reshape(-1)
    index = np.full(level.hole.size, -1)
    index[centres] = np.arange(len(centres))
    h, w = (s - 2 * PATCH for s in level.hole.shape)

    def attempt(tried: np.ndarray, which: np.ndarray) -> None:
        new = costs(tried, which)
        take = new < best[which]
        places[which[take]] = tried[take]
        best[which[take]] = new[take]

    for jump in (4, 2, 1, 1):
        for shift in (jump, -jump, jump * level.width, -jump * level.width):
            near = index[np.clip(centres + shift, 0, level.hole.size - 1)]
            tried = places[near] - shift
            ok = (near >= 0) & (tried >= 0) & (tried < level.hole.size) & (tried != places)
            ok[ok] = source[tried[ok]]
            attempt(tried[ok], np.flatnonzero(ok))
    for k in range(TRIES):
        radius = max(h, w) * 0.5**k
        step = np.rint(random.uniform(-radius, radius, (len(centres), 2))).astype(int)
        y, x = np.divmod(places, level.width)
        y = np.clip(y + step[:, 0], PATCH, PATCH + h - 1)
        x = np.clip(x + step[:, 1], PATCH, PATCH + w - 1)
        tried = y * level.width + x
        ok = source[tried] & (tried != places)
        attempt(tried[ok], np.flatnonzero(ok))
    return best


def _costs(level: _Level, centres: np.ndarray, places: np.ndarray) -> np.ndarray:
    """What the given places cost, (P,): in parts, as a large hole has many patches."""
    parts = range(0, len(centres), SEARCHED)
    found = [_Costs(level, centres[i : i + SEARCHED])(places[i : i + SEARCHED]) for i in parts]
    return np.concatenate(found)


def _voted(level: _Level, centres: np.ndarray, places: np.ndarray, costs: np.ndarray) -> _Level:
    """The level with its hole filled by what the patches propose."""
    values, weights = _votes(level, centres, places, costs)
    taken = (level.hole & (weights > 0))[..., None]
    return replace(level, features=np.where(taken, values, level.features))


def _votes(
    level: _Level, centres: np.ndarray, places: np.ndarray, costs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean of what the patches over a pixel propose, the fitting ones more; and all weights."""
    flat = level.features.reshape(-1, level.features.shape[2])
    faith = level.weight.reshape(-1)[centres]
    strength = faith * np.exp(-costs / (2 * float(np.percentile(costs, 75)) + 1e-3)) + 1e-9
    strength = strength.astype(np.float32)
    total = np.zeros_like(flat)
    weights = np.zeros(len(flat), np.float32)
    for step in _around(level.width):
        total[centres + step] += strength[:, None] * flat[places + step]
        weights[centres + step] += strength
    values = total / np.maximum(weights, 1e-12)[:, None]
    return values.reshape(level.features.shape), weights.reshape(level.hole.shape)


def _copied(level: _Level, centres: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Each pixel's source by the best of the patches over it: a mean of several would be soft."""
    costs = _costs(level, centres, places)
    least = np.full(level.hole.size, np.inf)
    sources = np.full(level.hole.size, -1)
    for step in _around(level.width):
        at = centres + step
        better = costs < least[at]
        least[at[better]] = costs[better]
        sources[at[better]] = places[better] + step
    y, x = np.divmod(sources, level.width)
    width = level.width - 2 * PATCH
    flat = (y - PATCH) * width + x - PATCH
    return np.where(sources < 0, -1, flat).reshape(level.hole.shape)[level.inner]

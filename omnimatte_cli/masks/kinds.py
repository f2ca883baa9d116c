"""What a series of pictures means as masks: one object, a map of several, or no mask at all.

Accepted: two levels of any value, soft grey, alpha, label maps in grey, palettes or colours.
Refused: photographs, in colour or grey. Smoothed edges of a label map are no objects of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from omnimatte_cli.masks.pictures import (
    LOSSY_FLAT,
    Counts,
    Loss,
    Study,
    colours_of,
)

FLAT = 0.3  # share of a label's pixels that must lie in flat areas
SMALL_LABELS = 20  # levels up to here are label numbers, whatever their areas look like
MAX_LABELS = 64  # more objects than this are a picture
NEAR = 24  # levels of 255 within which a lossy codec's plateaus are one
WIDTH = 8  # levels of 255 to which a lossy codec spreads a plateau
DOMINANT = 0.5  # share of the levels around a plateau that must lie on it
LEAST_SHARE = 2e-5  # share of all pixels that a label has at least after a lossy codec
COLOURED = 2e-4  # share of coloured pixels from which a series is in colour
COLOUR_NEAR = 40  # levels by which a lossy codec's colours of one label differ, in one channel
BETWEEN = 12  # levels by which a smoothed edge may miss the line between two labels' colours
BETWEEN_SHARE = 0.7  # share of the objects' pixels that may lie on edges of a label map
PICTURE_AREA = 0.001  # share of the picture that must be in use before it can be a photograph
PICTURE_BETWEEN = 0.5  # share of it that lies between background and object in a photograph
PICTURE_ROUGH = 0.45  # curvature by slope there; soft mattes are smooth
TRIMAP = (0.35, 0.65)  # share of the range in which a trimap's unknown band lies
TRIMAP_RIM = 0.9  # share of the brightest area's rim that is such a band
FLAT_OBJECTS = 0.2  # share of the objects' pixels that lie in flat areas after a lossy codec
SPECKS = 0.02  # share of the brightest level's pixels up to which others are specks, no objects
LABELLED = 0.98  # share of what is not transparent that labels on transparency are at least
BLACK_SHARE = 0.05  # share of the pixels from which black is the background, not an object
VOC_VOID = 0xE0E0C0  # the colour of "not labelled" in PASCAL VOC


class NoMaskError(Exception):
    """The pictures are no masks; the message says what they are instead."""


@dataclass(frozen=True)
class Label:
    """One object of a label map: value is its level, palette index or colour 0xRRGGBB."""

    value: int
    name: str


@dataclass(frozen=True)
class Reading:
    """How a series is to be read.

    plane: "grey", "alpha", "index" or "colour". threshold: the object is above it (a series of one
    object), or None. labels: the objects of a map. others: values that are no object (background,
    void), to which a pixel may be nearest. notes: for the user. edge: None for a map without
    smoothed edges; else by how many levels of 255 neighbours in its flat areas may differ.
    """

    plane: str
    threshold: float | None = None
    labels: tuple[Label, ...] = ()
    others: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    edge: int | None = None
    table: dict[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def same_cut(self, other: Reading) -> bool:
        """Whether both read a label map alike."""
        mine = (self.plane, [x.value for x in self.labels], self.others)
        return bool(self.labels) and mine == (
            other.plane,
            [x.value for x in other.labels],
            other.others,
        )


def decide(studies: list[Study], loss: Loss) -> Reading:
    """How the series is to be read. Raises NoMaskError where it is no mask."""
    alphas = [s.alpha for s in studies if s.alpha is not None]
    lossy = loss == Loss.LEVELS
    full = studies[0].full
    has_alpha = any(low < full for low, _ in alphas)
    coloured = sum(s.coloured for s in studies) / len(studies) > COLOURED
    if all(s.index is not None for s in studies):
        reading = _decide_index(studies)
        if reading is not None:
            return reading
    if has_alpha:
        if coloured and (reading := _colour_map(studies, loss > Loss.NOTHING, least=2)):
            return reading
        if not coloured:  # labels in grey, the background transparent
            grey = Counts.sum([s.grey for s in studies])
            reading = _grey_map(grey, studies, lossy, full)
            named = [] if reading is None else [x.value for x in reading.labels]
            held = grey.all[np.isin(grey.values, named)].sum()
            if reading and len(named) > 1 and held >= LABELLED * sum(s.opaque for s in studies):
                return reading
        low, high = min(a for a, _ in alphas), max(b for _, b in alphas)
        return Reading("alpha", (low + high) / 2)
    if coloured:
        reading = _colour_map(studies, loss > Loss.NOTHING, least=1)
        if reading is None:
            raise NoMaskError("is a colour picture, no mask")
        return reading
    grey = Counts.sum([s.grey for s in studies])
    reading = _grey_map(grey, studies, lossy, full)
    if reading is not None:
        return reading
    if _is_photograph(grey, studies, full):
        raise NoMaskError("is a picture with many grey levels, no mask")
    return Reading("grey", (int(grey.values[0]) + int(grey.values[-1])) / 2)


# ------------------------------------------------------------------------------------- grey levels


def _grey_map(grey: Counts, studies: list[Study], lossy: bool, full: int) -> Reading | None:
    levels = _lossy_plateaus(grey) if lossy else _plateaus(grey, full)
    edge = LOSSY_FLAT if lossy else None
    if levels is None or len(levels) < 3:
        return None
    low, high = levels[0], levels[-1]
    if high in (255, full) and len(levels) <= SMALL_LABELS and not _evenly_spaced(levels):
        stray = np.isin(grey.values, levels[1:-1])
        scattered = (grey.flat < FLAT * grey.all)[stray].all()
        if scattered and grey.all[stray].sum() <= SPECKS * grey.within(high, high):
            which = ", ".join(map(str, levels[1:-1]))
            note = f"Level {which}: a few pixels beside the object's level {high}, no object."
            return Reading("grey", (low + high) / 2, notes=(note,))
    if not lossy and len(levels) < len(grey.values):
        edge = 0
    if len(levels) == 3:
        middle = (levels[1] - low) / (high - low)
        rim = float(np.mean([s.enclosed for s in studies if len(s.grey.values) > 2] or [0]))
        if TRIMAP[0] <= middle <= TRIMAP[1] and rim >= TRIMAP_RIM:
            inside = "inside" if levels[1] > (low + high) / 2 else "outside"
            note = f"Level {levels[1]}, a trimap's unknown band, counts as {inside} the object."
            return Reading("grey", (low + high) / 2, notes=(note,))
    objects, others, notes = list(levels[1:]), [low], []
    if high in (255, full) and not _evenly_spaced(levels):
        objects.remove(high)
        others.append(high)
        notes.append(f"Level {high} was taken for 'not labelled', as in DAVIS and VOC.")
    labels = tuple(Label(v, f"object{v}") for v in objects)
    return Reading("grey", None, labels, tuple(others), tuple(notes), edge)


def _plateaus(grey: Counts, full: int) -> list[int] | None:
    """The levels of a label map that is stored without loss, or None where it is none."""
    top = (255, full)
    values = [int(v) for v in grey.values]
    if all(v <= SMALL_LABELS or v in top for v in values):
        return values
    area = grey.flat >= FLAT * grey.all
    levels = [int(v) for v in grey.values[area]]
    if not 3 <= len(levels) <= MAX_LABELS:
        return None
    gaps = np.diff(levels)
    if len(levels) > SMALL_LABELS and np.mean(gaps <= 3) > 0.5:
        return None  # a ramp, stepwise flat
    rest = int(grey.all[~area].sum())
    objects = int(grey.all[area][1:].sum()) + rest
    return levels if rest <= BETWEEN_SHARE * objects else None


def _lossy_plateaus(grey: Counts) -> list[int] | None:
    """The levels of a label map that a lossy codec spread a little."""
    scale = 1 if grey.values[-1] <= 255 else 257
    everything, flat = np.zeros(256 + 2 * NEAR), np.zeros(256 + 2 * NEAR)
    np.add.at(everything, grey.values // scale + NEAR, grey.all)
    np.add.at(flat, grey.values // scale + NEAR, grey.flat)
    box = np.ones(2 * WIDTH + 1)
    near_flat = np.convolve(flat, box, "same")
    near_all = np.convolve(everything, box, "same")
    found: list[int] = []
    while near_flat.max() > 0:
        peak = int(near_flat.argmax())
        around = everything[max(peak - NEAR, 0) : peak + NEAR + 1].sum()
        good = (
            near_flat[peak] >= FLAT * near_all[peak]
            and near_all[peak] >= DOMINANT * around
            and near_all[peak] >= LEAST_SHARE * everything.sum()
        )
        if good:
            window = slice(peak - WIDTH, peak + WIDTH + 1)
            mean = np.average(np.arange(len(flat))[window], weights=flat[window] + 1e-9)
            found.append(round((mean - NEAR) * scale))
        near_flat[max(peak - NEAR, 0) : peak + NEAR + 1] = 0
    return sorted(found) if len(found) <= MAX_LABELS else None


def _evenly_spaced(levels: list[int]) -> bool:
    """Whether levels divide their range evenly: labels stretched over all of it."""
    gaps = np.diff(levels)
    return bool(np.ptp(gaps) <= 3)


def _is_photograph(grey: Counts, studies: list[Study], full: int) -> bool:
    low, high = int(grey.values[0]), int(grey.values[-1])
    margin = 0.12 * (high - low)
    total = int(grey.all.sum())
    used = total - grey.within(low, low + margin)
    between = used - grey.within(high - margin, high)
    if used < PICTURE_AREA * total or between < PICTURE_BETWEEN * used:
        return False
    curve, slope = np.sum([s.roughness for s in studies], axis=0)
    return bool(curve > PICTURE_ROUGH * slope)


# ---------------------------------------------------------------------------------------- palettes


def _decide_index(studies: list[Study]) -> Reading | None:
    """Palette indices as objects; None where the palette's colours, not indices, have a meaning."""
    index = Counts.sum([s.index for s in studies if s.index is not None])
    palettes = [s.palette for s in studies if s.palette is not None]
    used = index.values
    same = all((p[used] == palettes[0][used]).all() for p in palettes)
    colours = palettes[0][used].astype(int)
    distinct = len({tuple(c) for c in colours}) == len(used)
    if distinct and (not same or (np.ptp(colours, axis=1) == 0).all()):
        return None
    if len(used) > 4 * MAX_LABELS:
        raise NoMaskError(f"is a picture of {len(used)} colours, no mask")
    area = index.flat >= FLAT * index.all
    firm = [tuple(c) for c, a in zip(colours, area, strict=True) if a]
    objects: list[int] = []
    edges: list[int] = []
    for v, colour, flat in zip(used, colours, area, strict=True):
        if int(v) in (0, 255):
            continue
        (objects if flat or not _is_blend(tuple(colour), firm) else edges).append(int(v))
    if len(objects) > MAX_LABELS:
        raise NoMaskError(f"is a picture of {len(used)} colours, no mask")
    labels = tuple(Label(v, f"object{v}") for v in objects)
    others = tuple(int(v) for v in used if int(v) not in (*objects, *edges))
    return Reading("index", None, labels, others, edge=0 if edges else None)


# ----------------------------------------------------------------------------------------- colours


def _colour_map(studies: list[Study], lossy: bool, least: int) -> Reading | None:
    """Colours as objects, or None where the pictures are no map of at least `least` of them."""
    parts = [s.colour for s in studies if s.colour is not None]
    # Pictures without any coloured pixel are empty: they say nothing about colours.
    colour = Counts.sum(parts)
    listed = colour.values < 1 << 24
    total = int(colour.all.sum())
    values, flat, everything = colour.values[listed], colour.flat[listed], colour.all[listed]
    order = np.argsort(-flat, kind="stable")
    heads: list[int] = []
    weight: list[int] = []
    explained = 0
    rgb = colours_of(values)
    for i in order:
        near = [
            k
            for k, h in enumerate(heads)
            if np.abs(colours_of(np.array([h]))[0] - rgb[i]).max() <= _reach(lossy)
        ]
        if near:
            explained += int(everything[i])
            weight[near[0]] += int(everything[i])
            continue
        firm = flat[i] >= FLAT * everything[i]
        if lossy:
            firm = firm and everything[i] >= LEAST_SHARE * total
        thin = (
            not lossy
            and len(values) <= MAX_LABELS
            and not _is_blend(tuple(rgb[i]), [tuple(colours_of(np.array([h]))[0]) for h in heads])
        )
        if firm or thin:
            heads.append(int(values[i]))
            weight.append(int(everything[i]))
            explained += int(everything[i])
        if len(heads) > MAX_LABELS:
            return None
    if not heads:
        return None
    background = _background(heads, weight)
    rest, base = total - explained, weight[heads.index(background)]
    if rest > BETWEEN_SHARE * max(total - base, 1):
        return None
    apart = np.abs(rgb - colours_of(np.array([background]))).max(1) > _reach(lossy)
    if lossy and flat[apart].sum() < FLAT_OBJECTS * max(int(everything[apart].sum()), 1):
        return None  # a textured object before a flat ground
    found = sorted(h for h in heads if h != background and h != VOC_VOID)
    if len(found) < least:
        return None
    notes = []
    if background >> 16 > 24 or (background >> 8) & 255 > 24 or background & 255 > 24:
        notes.append(f"Colour {hex_of(background)} was taken for the background.")
    if VOC_VOID in heads:
        notes.append(f"Colour {hex_of(VOC_VOID)} was taken for 'not labelled', as in VOC.")
    names = [f"object{i}" for i in range(1, len(found) + 1)]
    if len(found) > 1:
        said = ", ".join(f"{hex_of(v)} {n}" for v, n in zip(found, names, strict=True))
        notes.append(f"Each colour is an object: {said}.")
    labels = tuple(Label(v, n) for v, n in zip(found, names, strict=True))
    others = tuple(h for h in heads if h not in found)
    edge = LOSSY_FLAT if lossy else 0 if explained < total else None
    return Reading("colour", None, labels, others, tuple(notes), edge)


def _background(heads: list[int], weight: list[int]) -> int:
    """Black if there is enough of it, else the colour with the most pixels."""
    dark = [h for h in heads if colours_of(np.array([h])).max() <= 24]
    if dark and weight[heads.index(dark[0])] >= BLACK_SHARE * sum(weight):
        return dark[0]
    return heads[int(np.argmax(weight))]


def _reach(lossy: bool) -> int:
    return COLOUR_NEAR if lossy else 0


def hex_of(value: int) -> str:
    """A colour as people write it."""
    return f"#{value:06x}"


def _is_blend(colour: tuple, firm: list[tuple]) -> bool:
    """Whether a colour lies between two others, as on a smoothed edge."""
    c = np.array(colour, float)
    for i, first in enumerate(firm):
        a = np.array(first, float)
        for second in firm[i + 1 :]:
            way = np.array(second, float) - a
            length = float(way @ way)
            if length == 0:
                continue
            t = float((c - a) @ way) / length
            if 0 < t < 1 and np.abs(a + t * way - c).max() <= BETWEEN:
                return True
    return False

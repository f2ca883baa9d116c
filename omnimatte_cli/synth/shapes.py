"""Objects built of primitives: walkers, animals, vehicles, balls, boxes and compound shapes.

Builders work in the object's own frame: x forward, y left, z up, the origin on the ground below its
middle, about one unit high or long. Poses vary over T frames with the distance that it has covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from omnimatte_cli.synth import materials as mat
from omnimatte_cli.synth.primitives import BOX, CAPSULE, ELLIPSOID


@dataclass
class Parts:
    """Primitives of one object as they are added; `frames` is T. Points are (3,) or (T, 3)."""

    frames: int
    rng: np.random.Generator
    kinds: list[int] = field(default_factory=list)
    surfaces: list[int] = field(default_factory=list)
    centres: list[np.ndarray] = field(default_factory=list)
    axes: list[np.ndarray] = field(default_factory=list)
    halves: list[tuple[float, float, float]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)

    def material(self, **options) -> int:
        """Add a material (see `materials.material`); its number."""
        self.rows.append(mat.material(self.rng, **options))
        return len(self.rows) - 1

    def _add(self, kind: int, surface: int, centre, axes, half) -> None:
        self.kinds.append(kind)
        self.surfaces.append(surface)
        self.centres.append(np.broadcast_to(np.asarray(centre, float), (self.frames, 3)))
        axes = np.eye(3) if axes is None else axes
        self.axes.append(np.broadcast_to(axes, (self.frames, 3, 3)))
        self.halves.append(half)

    def ball(self, surface: int, centre, half, axes=None) -> None:
        """An ellipsoid of three half axes (or one radius)."""
        half = (half,) * 3 if np.isscalar(half) else tuple(half)
        self._add(ELLIPSOID, surface, centre, axes, half)

    def box(self, surface: int, centre, half, axes=None) -> None:
        """A box of three half sides."""
        self._add(BOX, surface, centre, axes, tuple(half))

    def limb(self, surface: int, a, b, radius: float) -> None:
        """A capsule from a to b."""
        a = np.broadcast_to(np.asarray(a, float), (self.frames, 3))
        b = np.broadcast_to(np.asarray(b, float), (self.frames, 3))
        along = b - a
        length = np.sqrt((along * along).sum(-1))
        z = along / np.maximum(length, 1e-6)[:, None]
        side = (0.0, 1.0, 0.0) if abs(z[0, 1]) < 0.9 else (1.0, 0.0, 0.0)
        x = np.cross(side, z)
        x /= np.sqrt((x * x).sum(-1))[:, None]
        axes = np.stack([x, np.cross(z, x), z], 1)
        half = (radius, radius, max(float(length.mean()) / 2, 1e-4))
        self._add(CAPSULE, surface, (a + b) / 2, axes, half)


def turn(angle: np.ndarray | float, axis: int) -> np.ndarray:
    """Rotation whose rows are the local axes turned by `angle` about an axis, (..., 3, 3)."""
    angle = np.asarray(angle, float)
    c, s = np.cos(angle), np.sin(angle)
    out = np.zeros((*angle.shape, 3, 3))
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    out[..., axis, axis] = 1
    out[..., i, i] = out[..., j, j] = c
    out[..., i, j], out[..., j, i] = s, -s
    return out


def _points(x, y, z) -> np.ndarray:
    return np.stack(np.broadcast_arrays(x, y, z), -1).astype(float)


def _leg(hip: np.ndarray, swing: np.ndarray, bend: np.ndarray, thigh: float, shin: float):
    """Knee and foot (T, 3) of a leg swung by `swing` radians whose knee is bent back by `bend`."""
    knee = hip + _points(np.sin(swing) * thigh, 0 * swing, -np.cos(swing) * thigh)
    lower = swing - bend
    return knee, knee + _points(np.sin(lower) * shin, 0 * swing, -np.cos(lower) * shin)


def walker(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A person, 1 unit tall. walked: (T,) distance in units; effort: (T,) 0 at rest, 1 running."""
    rng = parts.rng
    cloth = {"gloss": 0.1, "scale": (1.0, 6.0), "contrast": (0.0, 0.8)}
    top, bottom = parts.material(**cloth), parts.material(**cloth)
    skin = parts.material(kinds=("plain",), colour=mat.SKIN[int(rng.integers(4))])
    hair = parts.material(kinds=("noise",), low=0.05, high=0.6)
    wide = rng.uniform(0.8, 1.35)
    hip_z, shoulder_z = rng.uniform(0.46, 0.52), rng.uniform(0.78, 0.82)
    phase = walked * rng.uniform(6.0, 8.5) + rng.uniform(0, 6.3)
    swing = (0.08 + 0.5 * effort) * rng.uniform(0.8, 1.2)
    lean = rng.uniform(-0.02, 0.1) * np.minimum(effort, 1.0)
    dip = 0.02 * effort * np.cos(2 * phase)
    hip = _points(0 * dip, 0, hip_z + dip)
    chest = _points(lean, 0, shoulder_z + dip)
    leg, arm = 0.045 * wide, 0.032 * wide
    robe = rng.random() < 0.18
    for side in (-1, 1):
        s = np.sin(phase + (side > 0) * math.pi)
        bend = np.maximum(0, np.cos(phase + (side > 0) * math.pi)) * 0.9 * effort + 0.05
        joint = hip + np.array([0, side * 0.06 * wide, 0])
        knee, foot = _leg(joint, swing * s, bend, hip_z * 0.5, hip_z * 0.5 - 0.03)
        parts.limb(bottom, joint, knee, leg)
        parts.limb(skin if robe else bottom, knee, foot, leg * 0.8)
        parts.ball(hair, foot + np.array([0.03, 0, 0]), (0.065, 0.03, 0.03))
        shoulder = chest + np.array([0, side * 0.11 * wide, -0.02])
        elbow, hand = _leg(shoulder, -swing * s, -0.3 - 0.5 * effort, 0.17, 0.16)
        parts.limb(top, shoulder, elbow, arm)
        parts.limb(skin if rng.random() < 0.5 else top, elbow, hand, arm * 0.85)
    parts.limb(top, hip + np.array([0, 0, 0.06]), chest - np.array([0, 0, 0.06]), 0.085 * wide)
    parts.ball(top, chest - np.array([0, 0, 0.05]), (0.075 * wide, 0.13 * wide, 0.08))
    head = chest + _points(0.5 * lean + 0.01, 0, 0.13)
    parts.ball(skin, head, (0.065, 0.055, 0.078))
    parts.ball(hair, head + np.array([-0.015, 0, 0.025]), (0.066, 0.062, 0.065))
    extra = rng.random()
    if robe:
        parts.ball(bottom, hip - np.array([0, 0, 0.12]), (0.13 * wide, 0.14 * wide, 0.24))
    if extra < 0.2:
        parts.box(parts.material(), chest + _points(-0.13, 0, -0.1), (0.06, 0.1, 0.13))
    elif extra < 0.3:
        hat = parts.material(kinds=("plain",))
        parts.ball(hat, head + np.array([0, 0, 0.06]), (0.14, 0.14, 0.015))
    elif extra < 0.37:
        stick = parts.material(kinds=("plain",))
        parts.limb(stick, chest + _points(0.12, 0.12, -0.1), chest + _points(0.1, 0.1, 0.4), 0.008)
        parts.ball(stick, chest + _points(0.1, 0.1, 0.4), (0.3, 0.3, 0.07))


def animal(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A four-legged animal, about 1 unit long."""
    rng = parts.rng
    fur = parts.material(kinds=("noise", "blotch", "blotch", "stripes", "plain"), scale=(1, 4))
    dark = parts.material(kinds=("noise",), high=0.4)
    leg = rng.uniform(0.25, 0.6)
    body, girth = rng.uniform(0.28, 0.38), rng.uniform(0.1, 0.19)
    phase = walked * rng.uniform(5, 9) + rng.uniform(0, 6.3)
    swing = (0.05 + 0.45 * effort) * rng.uniform(0.8, 1.2)
    lift = 0.02 * effort * np.sin(2 * phase)
    middle = _points(0 * lift, 0, leg + girth * 0.6 + lift)
    parts.ball(fur, middle, (body + 0.1, girth, girth * rng.uniform(0.9, 1.2)))
    half_body = np.array([body * 0.6, 0, 0.01])
    parts.limb(fur, middle - half_body, middle + half_body, girth * 0.85)
    trot = rng.random() < 0.6
    for number, (x, side) in enumerate(((1, -1), (1, 1), (-1, 1), (-1, -1))):
        shift = (number % 2) * math.pi if trot else number * math.pi / 2
        s = np.sin(phase + shift)
        bend = np.maximum(0, np.cos(phase + shift)) * 0.7 * effort + 0.1
        hip = middle + np.array([x * body * 0.85, side * girth * 0.6, -girth * 0.3])
        knee, foot = _leg(hip, swing * s, bend * x, leg * 0.55, leg * 0.55)
        parts.limb(fur, hip, knee, girth * 0.33)
        parts.limb(dark if rng.random() < 0.4 else fur, knee, foot, girth * 0.24)
    nod = 0.05 * np.sin(phase)
    reach, rise = rng.uniform(0.1, 0.25), rng.uniform(0.05, 0.4)
    chest = middle + np.array([body, 0, girth * 0.4])
    head = chest + _points(reach, 0, rise + nod)
    parts.limb(fur, chest, head, girth * 0.45)
    size = rng.uniform(0.07, 0.11)
    parts.ball(fur, head, (size * 1.2, size, size))
    parts.limb(dark, head, head + np.array([size * 2.0, 0, -size * 0.5]), size * 0.5)
    for side in (-1, 1):
        parts.ball(dark, head + np.array([-0.02, side * size * 0.8, size]), (0.02, 0.03, 0.06))
    wag = 0.5 * np.sin(phase * 1.7)
    tail = middle + np.array([-body - 0.05, 0, girth * 0.5])
    tip = rng.uniform(-0.2, 0.3)
    parts.limb(fur, tail, tail + _points(-0.22 * np.cos(wag), 0.22 * np.sin(wag), tip), 0.03)


def vehicle(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A car, van, lorry or bus, 1.3 units long."""
    rng = parts.rng
    paint = parts.material(kinds=("plain", "plain", "stripes", "noise"), gloss=0.8,
                           contrast=(0, 0.6))  # fmt: skip
    glass = parts.material(kinds=("plain",), colour=np.full(3, rng.uniform(0.08, 0.3)), gloss=1.0)
    tyre = parts.material(kinds=("plain",), colour=np.full(3, rng.uniform(0.05, 0.2)))
    hub = parts.material(kinds=("checks",), scale=(3.0, 5.0))
    length, width = 0.65, rng.uniform(0.24, 0.3)
    wheel = rng.uniform(0.09, 0.13)
    low = rng.uniform(0.1, 0.17)
    kind = rng.random()
    floor = wheel * 0.7
    parts.box(paint, (0, 0, floor + low), (length, width, low))
    if kind < 0.55:
        cabin = rng.uniform(0.28, 0.42)
        height, back = rng.uniform(0.08, 0.13), rng.uniform(-0.2, 0.0)
        parts.box(glass, (back, 0, floor + 2 * low + height), (cabin, width * 0.85, height))
        top = floor + 2 * low + 2 * height
        parts.box(paint, (back, 0, top), (cabin * 0.9, width * 0.8, 0.02))
    elif kind < 0.8:
        height = rng.uniform(0.12, 0.22)
        parts.box(glass, (0.02, 0, floor + 2 * low + height * 0.6), (length - 0.06, width * 0.96,
                                                                    height * 0.6))  # fmt: skip
        parts.box(paint, (0, 0, floor + 2 * low + height * 1.5), (length, width, height * 0.4))
    else:
        height = rng.uniform(0.15, 0.3)
        parts.box(parts.material(), (-0.2, 0, floor + 2 * low + height), (0.45, width, height))
        parts.box(glass, (0.45, 0, floor + 2 * low + 0.09), (0.16, width * 0.95, 0.09))
    spin = turn(walked / wheel, 1)
    for x in (-0.4, 0.42):
        for side in (-1, 1):
            where = (x, side * width, wheel)
            parts.ball(tyre, where, (wheel, 0.05, wheel), spin)
            parts.ball(hub, (x, side * (width + 0.035), wheel), (wheel * 0.6, 0.03, wheel * 0.6),
                       spin)  # fmt: skip


def ball(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A rolling ball (or egg) of diameter 0.7."""
    rng = parts.rng
    surface = parts.material(gloss=0.5, scale=(0.8, 4.0), contrast=(0.4, 1.0))
    radius = 0.35
    half = radius if rng.random() < 0.8 else (radius, radius * rng.uniform(0.7, 1.3), radius)
    parts.ball(surface, (0, 0, radius), half, turn(walked / radius, 1))


def crate(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A sliding box, sometimes two stacked."""
    rng = parts.rng
    half = rng.uniform(0.15, 0.45, 3)
    parts.box(parts.material(gloss=0.2), (0, 0, half[2]), half)
    if rng.random() < 0.3:
        size = half * rng.uniform(0.4, 0.9)
        spin = turn(rng.uniform(0, 1.5), 2)
        parts.box(parts.material(), (0, 0, 2 * half[2] + size[2]), size, spin)


def toy(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """Something that stands on no side: two to four bars, blocks and knobs joined at odd places."""
    rng = parts.rng
    surface = parts.material(gloss=0.3, scale=(0.8, 4.0))
    long, thick = rng.uniform(0.25, 0.42), rng.uniform(0.07, 0.2)
    parts.box(surface, (0, 0, 0.4), (long, thick, rng.uniform(0.07, 0.2)))
    for _ in range(int(rng.integers(1, 4))):
        surface = parts.material(gloss=0.3) if rng.random() < 0.4 else surface
        where = np.array([rng.uniform(-0.8, 0.8) * long, 0, 0.4])
        out = turn(rng.integers(4) * math.pi / 2, 0)[1] * rng.uniform(0.1, 0.32)
        kind = rng.random()
        if kind < 0.5:
            half = np.abs(out) / 2 + rng.uniform(0.06, 0.14)
            parts.box(surface, where + out / 2, half)
        elif kind < 0.8:
            parts.limb(surface, where, where + out, rng.uniform(0.05, 0.13))
        else:
            parts.ball(surface, where + out, rng.uniform(0.1, 0.2))


def stack(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A snowman, skittle or tower of balls and boxes."""
    rng = parts.rng
    z, radius = 0.0, rng.uniform(0.2, 0.32)
    surface = parts.material(gloss=0.3)
    for _ in range(int(rng.integers(2, 5))):
        surface = parts.material(gloss=0.3) if rng.random() < 0.6 else surface
        flat = rng.uniform(0.6, 1.1)
        if rng.random() < 0.7:
            parts.ball(surface, (0, 0, z + radius * flat), (radius, radius, radius * flat))
            z += 1.75 * radius * flat
        else:
            parts.box(surface, (0, 0, z + radius * flat * 0.8), (radius * 0.8, radius * 0.8,
                                                                 radius * flat * 0.8))  # fmt: skip
            z += 1.6 * radius * flat
        radius *= rng.uniform(0.65, 0.95)


def furniture(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A table, chair or trolley: a board on legs."""
    rng = parts.rng
    wood, metal = parts.material(kinds=("wood", "plain", "noise")), parts.material(kinds=("plain",))
    x, y, z = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.4), rng.uniform(0.3, 0.6)
    parts.box(wood, (0, 0, z), (x, y, 0.03))
    leg = rng.uniform(0.015, 0.04)
    for sx in (-1, 1):
        for sy in (-1, 1):
            foot, top = (sx * x * 0.88, sy * y * 0.88, leg), (sx * x * 0.85, sy * y * 0.85, z)
            parts.limb(metal, foot, top, leg)
    if rng.random() < 0.5:
        parts.box(wood, (-x, 0, z + 0.25), (0.025, y, 0.25))
    elif rng.random() < 0.6:
        parts.ball(parts.material(), (0, 0, z + 0.15), 0.14)


def bent(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A bent tube: an arch, a hook, a snake that winds as it moves."""
    rng = parts.rng
    count, radius = int(rng.integers(5, 9)), rng.uniform(0.05, 0.11)
    surface = parts.material(gloss=0.3)
    other = parts.material() if rng.random() < 0.5 else surface
    s = np.linspace(0, 1, count + 1)
    kind, wave = rng.random(), rng.uniform(0.08, 0.2)
    if kind < 0.5:
        angle = rng.uniform(2.0, 3.6) * (s - 0.5)
        size = rng.uniform(0.3, 0.45)
        points = _points(size * np.sin(angle), 0 * s, size * (np.cos(angle) - np.cos(angle[0])))
        points = points + np.array([0, 0, radius])
        curve = np.broadcast_to(points[:, None], (count + 1, parts.frames, 3))
    else:
        phase = walked[None] * 6 + 7 * s[:, None]
        lift = radius + (0.25 * (s > 0.9) + 0.1 * (s > 0.75))[:, None] + 0 * phase
        curve = _points((s[:, None] - 0.5) * 1.1 + 0 * phase, wave * np.sin(phase), lift)
    for i in range(count):
        parts.limb(other if i % 2 else surface, curve[i], curve[i + 1], radius)


def plant(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A tree, bush, lamp or mushroom: a stem and crowns."""
    rng = parts.rng
    stem = parts.material(kinds=("wood", "plain"))
    crown = parts.material(kinds=("noise", "blotch", "cells"), scale=(1.5, 5.0))
    height = rng.uniform(0.4, 0.8)
    parts.limb(stem, (0, 0, 0.03), (0, 0, height), rng.uniform(0.025, 0.06))
    parts.ball(stem, (0, 0, 0.02), (0.12, 0.12, 0.03))
    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(-0.15, 0.15, 2)
        half = rng.uniform(0.12, 0.28, 3)
        parts.ball(crown, (x, y, height + rng.uniform(0, 0.25)), half)


def flyer(parts: Parts, walked: np.ndarray, effort: np.ndarray) -> None:
    """A bird or an aeroplane, hovering over the ground by its own height."""
    rng = parts.rng
    body, wing = parts.material(), parts.material()
    flap = (rng.random() < 0.6) * 0.6 * np.sin(walked * 9 + rng.uniform(0, 6))
    z = rng.uniform(0.0, 0.1) + 0.2
    parts.ball(body, (0, 0, z), (0.38, 0.1, 0.1))
    parts.ball(body, (0.36, 0, z + 0.05), 0.09)
    for side in (-1, 1):
        reach = 0.5
        tip = _points(-0.1 + 0 * flap, side * reach * np.cos(flap), z + reach * np.sin(flap))
        for k in (0.35, 0.75):
            axes = turn(-side * flap if np.ndim(flap) else 0.0, 0)
            centre = np.array([0, 0, z]) + k * (tip - np.array([0, 0, z]))
            parts.ball(wing, centre, (0.14 * (1.3 - k), 0.16, 0.025), np.swapaxes(axes, -1, -2))
    parts.box(wing, (-0.36, 0, z + 0.05), (0.07, 0.16, 0.012))

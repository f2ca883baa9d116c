"""Outlines of bodies that stand on something: people, animals, cars, shapes of no kind.

They are drawn from limbs and polygons, hard, on a canvas of twice the picture's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from omnimatte_cli.synth.clips import fill, outline

TWICE = 2  # how much larger the canvas is than the picture
HEIGHTS = (0.15, 2.2)  # of the picture's side: log-uniform
HOLE = 0.2  # share of the figures that one can look through
HELD = 0.12  # share of the hands that hold something
RAGGED = (0.0, 0.5, 1.5, 4.0)  # pixels of the canvas that an outline wavers by
# Of a car, in half lengths and half heights: bodywork, windows, and a number plate.
BODYWORK = ((-1, 0), (-1, -1), (-0.6, -1.1), (-0.4, -2), (0.35, -2), (0.6, -1), (1, -0.9), (1, 0))
WINDOWS = (
    ((-0.53, -1.15), (-0.38, -1.85), (-0.05, -1.85), (-0.05, -1.15)),
    ((0.0, -1.15), (0.0, -1.85), (0.33, -1.85), (0.52, -1.15)),
)
SIGN = ((-0.2, -0.25), (-0.2, -0.55), (0.2, -0.55), (0.2, -0.25))
# Parts of a body, of which each may have a colour of its own.
MAIN, HEAD, LEGS, FEET, ARMS, THINGS, GLASS = range(1, 8)
PARTS = GLASS + 1  # and what is no part
NEAR = 15  # pixels, of the square in which a part is near
TUMBLED = 0.2  # share of the figures that do not stand upright


@dataclass(frozen=True)
class Figure:
    """parts: (2 S, 2 S) uint8, 0 where it is not. feet: (K, 2) x and y in pixels of the picture,
    where it touches the ground. height: in pixels of the picture."""

    parts: np.ndarray
    feet: np.ndarray
    height: float

    @cached_property
    def cover(self) -> np.ndarray:
        """How much of each of the picture's pixels it covers, (S, S) float32 in [0, 1]."""
        side = len(self.parts) // TWICE
        there = (self.parts > 0).astype(np.float32)
        return cv2.resize(there, (side, side), interpolation=cv2.INTER_AREA)

    @cached_property
    def nearest_part(self) -> np.ndarray:
        """The part at each of the picture's pixels, or one that is near, (S, S) uint8."""
        there = np.ascontiguousarray(self.parts[::TWICE, ::TWICE])
        return np.where(there, there, cv2.dilate(there, np.ones((NEAR, NEAR), np.uint8)))


class Pencil:
    """Draws on one canvas, in sixteenths of a pixel, one part of a body after the other."""

    def __init__(self, side: int) -> None:
        self.canvas = np.zeros((side, side), np.uint8)
        self.part = MAIN
        self.feet: list[np.ndarray] = []

    def polygon(self, corners: np.ndarray) -> None:
        fill(self.canvas, corners, self.part)

    def limb(self, start: np.ndarray, end: np.ndarray, first: float, last: float) -> None:
        """A line with round ends, `first` and `last` its radii."""
        way = end - start
        length = math.hypot(*way) + 1e-6
        across = np.array([-way[1], way[0]]) / length
        sides = [start + across * first, end + across * last, end - across * last]
        self.polygon(np.array([*sides, start - across * first]))
        for place, radius in ((start, first), (end, last)):
            x, y = (round(float(v) * 16) for v in place)
            cv2.circle(
                self.canvas, (x, y), max(1, round(radius * 16)), self.part, -1, cv2.LINE_8, 4
            )

    def ellipse(
        self, centre: np.ndarray, long: float, short: float, angle: float, line: int
    ) -> None:
        """Half axes in pixels, degrees, and the width of its line in pixels; -1: filled."""
        place, axes = (
            tuple(round(float(v) * 16) for v in pair) for pair in (centre, (long, short))
        )
        cv2.ellipse(self.canvas, place, axes, angle, 0, 360, self.part, line, cv2.LINE_8, 4)


def turned(angle: float) -> np.ndarray:
    """Down, turned by an angle in radians: (2,)."""
    return np.array([math.sin(angle), math.cos(angle)])


def person(rng: np.random.Generator, pencil: Pencil, centre: np.ndarray, height: float) -> None:
    """A body with limbs, some in a coat. centre: (2,) pixels of the canvas."""

    def at(x: float, y: float) -> np.ndarray:
        return np.array([x, y]) * height

    hip, neck = centre + at(0, 0.02), centre + at(rng.normal(0, 0.04), -0.32)
    width = rng.uniform(0.07, 0.12) * height
    pencil.limb(hip, neck, width * rng.uniform(0.7, 1.1), width)
    pencil.part = HEAD
    pencil.limb(neck + at(0, -0.08), neck + at(0, -0.1), 0.062 * height, 0.062 * height)
    if rng.random() < 0.3:  # a peak
        brim, size = neck + at(rng.choice([-1, 1]) * 0.1, -0.12), rng.uniform(0.008, 0.02) * height
        pencil.part = THINGS
        pencil.limb(neck + at(0, -0.13), brim, size, size)
    pencil.part = MAIN
    if rng.random() < 0.3:  # a coat, a skirt
        hem = hip + at(0, rng.uniform(0.05, 0.25))
        pencil.limb(neck, hem, width * 0.8, width * rng.uniform(1.2, 2))
    for side in (-1, 1):
        angle = rng.normal(0, 0.3)
        knee = hip + at(0.04 * side, 0) + 0.24 * height * turned(angle)
        foot = knee + 0.24 * height * turned(angle - abs(rng.normal(0, 0.4)))
        toe = foot + at(rng.choice([-1, 1]) * rng.uniform(0.03, 0.09), 0.012)
        pencil.part = LEGS
        pencil.limb(hip + at(0.045 * side, 0), knee, 0.055 * height, 0.042 * height)
        pencil.limb(knee, foot, 0.042 * height, 0.026 * height)
        pencil.part = FEET
        pencil.limb(foot, toe, 0.026 * height, 0.02 * height)
        pencil.feet.append(foot)
        angle = rng.normal(0, 0.7) + 0.2 * side
        shoulder = neck + np.array([side * width * 0.8, 0.03 * height])
        elbow = shoulder + 0.17 * height * turned(angle)
        hand = elbow + 0.17 * height * turned(angle + rng.normal(0, 0.8))
        pencil.part = MAIN
        pencil.limb(shoulder, elbow, 0.034 * height, 0.028 * height)
        pencil.part = ARMS
        pencil.limb(elbow, hand, 0.028 * height, 0.022 * height)
        if rng.random() < HELD:
            thing(rng, pencil, hand, height)


def thing(rng: np.random.Generator, pencil: Pencil, hand: np.ndarray, height: float) -> None:
    """A stick, a bag or a racket in a hand (2,); `height` as a person's is."""
    pencil.part = THINGS
    end = hand + rng.uniform(0.05, 0.35) * height * turned(rng.uniform(-math.pi, math.pi))
    thick = rng.uniform(0.006, 0.02) * height
    pencil.limb(hand, end, thick, thick)
    if rng.random() < 0.5:
        size, angle = rng.uniform(0.03, 0.12) * height, rng.uniform(0, 180)
        squash = rng.uniform(0.4, 1)
        line = -1 if rng.random() < 0.6 else max(1, round(2 * thick))
        pencil.ellipse(end, size, squash * size, angle, line)


def animal(rng: np.random.Generator, pencil: Pencil, centre: np.ndarray, height: float) -> None:
    """Four legs, a tail, a head on a neck, some with humps; `height` as a person's is."""
    unit, way = 0.9 * height, rng.choice([-1, 1])

    def at(x: float, y: float) -> np.ndarray:
        return np.array([way * x, y]) * unit

    length, thick = rng.uniform(0.5, 0.9), rng.uniform(0.13, 0.22) * unit
    back = centre + at(-length / 2, -0.1)
    front = centre + at(length / 2, -0.1 + rng.normal(0, 0.04))
    pencil.limb(back, front, thick, thick * rng.uniform(0.8, 1.2))
    if rng.random() < 0.3:  # humps
        for share in (0.3, 0.7):
            base = back + at(length * share, 0)
            up = np.array([0, -thick])
            pencil.limb(base + 0.9 * up, base + 1.3 * up, thick * 0.4, thick * 0.15)
    head = front + at(rng.uniform(0.1, 0.35), -rng.uniform(-0.05, 0.4))
    pencil.part = HEAD
    pencil.limb(front, head, thick * 0.5, thick * 0.3)
    pencil.limb(head, head + at(0.13, 0.04), thick * 0.3, thick * 0.2)
    for share in (-0.5, -0.38, 0.38, 0.5):
        pencil.part = LEGS
        top, angle = centre + at(share * length, -0.02), rng.normal(0, 0.25)
        knee = top + 0.22 * unit * turned(angle)
        foot = knee + 0.22 * unit * turned(angle + rng.normal(0, 0.3))
        pencil.limb(top, knee, 0.06 * unit, 0.035 * unit)
        pencil.part = FEET if rng.random() < 0.5 else LEGS
        pencil.limb(knee, foot, 0.032 * unit, 0.025 * unit)
        pencil.feet.append(foot)
    angle = rng.normal(0.6, 0.6)
    pencil.part = THINGS
    tail = back + 0.3 * unit * np.array([-way * math.cos(angle), math.sin(angle)])
    pencil.limb(back, tail, 0.03 * unit, 0.012 * unit)


def car(rng: np.random.Generator, pencil: Pencil, centre: np.ndarray, height: float) -> None:
    """Bodywork on two wheels, 1.2 times `height` long."""
    length, tall = 0.6 * height, height * rng.uniform(0.14, 0.25)
    pencil.polygon(centre + np.array(BODYWORK) * (length, tall))
    pencil.part = GLASS
    for window in WINDOWS:
        pencil.polygon(centre + np.array(window) * (length, tall))
    pencil.part = THINGS
    pencil.polygon(centre + np.array(SIGN) * (length, tall))
    pencil.part = FEET
    for x in (-0.6, 0.6):
        wheel = centre + np.array([x * length, 0])
        pencil.limb(wheel, wheel, 0.45 * tall, 0.45 * tall)
        pencil.feet.append(wheel + np.array([0, 0.45 * tall]))


def blob(rng: np.random.Generator, pencil: Pencil, centre: np.ndarray, height: float) -> None:
    """A shape of no kind."""
    corners = outline(rng, centre, 0.45 * height)
    pencil.polygon(corners)
    pencil.feet.append(corners[corners[:, 1].argmax()])


def heap(rng: np.random.Generator, pencil: Pencil, centre: np.ndarray, height: float) -> None:
    """Some shapes over each other."""
    for part in range(1, int(rng.integers(3, 7))):
        place = centre + rng.normal(0, 0.25, 2) * height
        pencil.part = part
        pencil.polygon(outline(rng, place, height * rng.uniform(0.1, 0.35)))
    pencil.feet.append(centre + np.array([0, 0.3 * height]))


Draw = Callable[[np.random.Generator, Pencil, np.ndarray, float], None]
KINDS: tuple[tuple[Draw, float], ...] = (
    (person, 0.42),
    (animal, 0.2),
    (blob, 0.18),
    (car, 0.12),
    (heap, 0.08),
)


def random_figure(rng: np.random.Generator, side: int) -> Figure:
    """A figure of any size of which some outline is in a picture of `side` pixels."""
    canvas = TWICE * side
    low, high = (math.log(canvas * share) for share in HEIGHTS)
    height = math.exp(rng.uniform(low, high))
    spread = min(height, 1.1 * canvas) * np.array([0.5, 0.8])
    centre = canvas / 2 + rng.uniform(-0.5, 0.5, 2) * spread
    pencil = Pencil(canvas)
    draw = KINDS[int(rng.choice(len(KINDS), p=[p for _, p in KINDS]))][0]
    draw(rng, pencil, centre, height)
    if rng.random() < HOLE:
        place = centre + rng.normal(0, 0.15, 2) * height
        pencil.part = 0
        pencil.polygon(outline(rng, place, height * rng.uniform(0.04, 0.12)))
    parts: np.ndarray = pencil.canvas
    wave = float(rng.choice(RAGGED)) * rng.uniform(0.3, 1)
    if wave:
        parts = wavering(rng, parts, wave, rng.uniform(2, 12))
    angle = rng.uniform(-180, 180) if rng.random() < TUMBLED else math.degrees(rng.normal(0, 0.12))
    turn = cv2.getRotationMatrix2D((canvas / 2, canvas / 2), angle, 1)
    parts = cv2.warpAffine(parts, turn, (canvas, canvas), flags=cv2.INTER_NEAREST)
    feet = np.array(pencil.feet) @ turn[:, :2].T + turn[:, 2]
    return Figure(parts, feet / TWICE, height / TWICE)


def wavering(rng: np.random.Generator, shape: np.ndarray, size: float, cell: float) -> np.ndarray:
    """A shape (S, S) uint8 whose outline is displaced smoothly, by `size` pixels on average.

    cell: pixels between independent displacements.
    """
    side = len(shape)
    cells = max(2, int(side / cell))
    coarse = rng.normal(0, size, (cells, cells, 2)).astype(np.float32)
    field = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    places = x + field[..., 0], y + field[..., 1]
    return cv2.remap(shape, *places, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)

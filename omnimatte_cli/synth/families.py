"""The kinds of objects: how each is built, how large and fast it is, and which appear together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from omnimatte_cli.synth.shapes import (
    Parts,
    animal,
    ball,
    bent,
    crate,
    flyer,
    furniture,
    plant,
    stack,
    toy,
    vehicle,
    walker,
)


@dataclass(frozen=True)
class Family:
    """What a kind of object is like: its builder, footprint radius and height in its own units,
    usual speed in sizes per second, and whether it may hop, spin or be in the air."""

    build: Callable[[Parts, np.ndarray, np.ndarray], None]
    radius: float
    height: float
    speed: tuple[float, float]
    hops: float = 0.0
    spins: float = 0.0
    flies: float = 0.0


FAMILIES = {
    "walker": Family(walker, 0.22, 1.0, (0.5, 1.8), hops=0.05),
    "animal": Family(animal, 0.55, 0.8, (0.5, 1.8), hops=0.1),
    "vehicle": Family(vehicle, 0.7, 0.6, (0.5, 2.2)),
    "ball": Family(ball, 0.37, 0.7, (0.6, 2.4), hops=0.5),
    "crate": Family(crate, 0.5, 0.6, (0.4, 1.8), hops=0.15, spins=0.4),
    "stack": Family(stack, 0.32, 1.0, (0.4, 1.6), hops=0.2, spins=0.4),
    "furniture": Family(furniture, 0.55, 0.7, (0.4, 1.6), spins=0.3),
    "bent": Family(bent, 0.5, 0.5, (0.4, 1.6), hops=0.1, spins=0.2),
    "plant": Family(plant, 0.3, 1.0, (0.4, 1.5), spins=0.3),
    "flyer": Family(flyer, 0.5, 0.4, (0.5, 2.0), flies=1.0),
    "toy": Family(toy, 0.4, 0.8, (0.3, 1.8), spins=0.4),
}
THEMES = (
    ("walker",), ("walker", "animal"), ("walker", "vehicle", "ball"), ("animal",),
    ("vehicle", "walker"), ("ball", "crate", "stack", "bent"), ("ball", "crate"),
    ("crate", "stack", "furniture", "bent", "plant"), tuple(FAMILIES), tuple(FAMILIES),
)  # fmt: skip
THROWN_THEME = ("toy", "toy", "crate", "ball", "stack", "bent")  # what may be thrown
CLUTTER = ("crate", "plant", "stack", "furniture", "ball", "bent")


def build(family: str, rng: np.random.Generator, walked: np.ndarray, effort: np.ndarray) -> Parts:
    """The primitives of a random member of a family, posed for every frame."""
    parts = Parts(len(walked), rng)
    FAMILIES[family].build(parts, walked, effort)
    return parts

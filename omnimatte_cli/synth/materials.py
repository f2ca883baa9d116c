"""Random surface materials: a colour, a texture tile and how the tile's channels change the colour.

A material is one row of numbers: 0-2 colour, 3-11 matrix (colour channel by tile channel), 12 tile,
13 tiles per scene unit, 14-15 offset in tiles, 16 specular strength, 17 specular exponent.
Colours are display-referred; the renderer squares them to get reflectances.
"""

from __future__ import annotations

import numpy as np

COLUMNS = 18
# Tile numbers by kind, in the order in which textures.py makes them.
TILES = {
    "noise": range(0, 6),
    "blotch": range(6, 10),
    "wood": range(10, 13),
    "stripes": range(13, 17),
    "checks": range(17, 21),
    "tiles": range(21, 24),
    "bricks": range(24, 26),
    "cells": range(26, 29),
    "marble": range(29, 31),
    "dots": range(31, 32),
    "plain": range(32, 33),
}
GROUND = ("noise", "noise", "blotch", "wood", "tiles", "tiles", "checks", "bricks", "cells",
          "marble", "stripes", "plain")  # fmt: skip
WALL = ("noise", "bricks", "bricks", "plain", "blotch", "wood", "stripes", "cells", "tiles")
OBJECT = ("noise", "noise", "blotch", "stripes", "checks", "plain", "plain", "dots", "marble",
          "wood", "cells", "tiles")  # fmt: skip
SKIN = ((0.93, 0.77, 0.67), (0.80, 0.60, 0.48), (0.58, 0.40, 0.30), (0.38, 0.26, 0.20))


def random_colour(
    rng: np.random.Generator, low: float = 0.12, high: float = 0.95, muted: bool = False
) -> np.ndarray:
    """A display colour, (3,): grey, muted or saturated; `low` and `high` bound its brightest."""
    value = low + (high - low) * rng.random() ** 0.7
    hue, kind = rng.random(), rng.random()
    saturation = rng.uniform(0, 0.12) if kind < 0.3 else rng.uniform(0.1, 0.5)
    if kind > 0.72:
        saturation = rng.uniform(0.5, 0.95)
    wheel = np.clip(np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    if muted:  # what is large in the world is seldom of a strong colour
        saturation *= 0.45 if rng.random() < 0.85 else 1.0
    return value * (1 - saturation * (1 - wheel))


def material(
    rng: np.random.Generator,
    kinds: tuple[str, ...] = OBJECT,
    colour: np.ndarray | None = None,
    scale: tuple[float, float] = (0.5, 2.5),
    contrast: tuple[float, float] = (0.1, 1.0),
    gloss: float = 0.0,
    low: float = 0.12,
    high: float = 0.95,
    muted: bool = False,
) -> np.ndarray:
    """A random material, (COLUMNS,) float.

    kinds: tile kinds to draw from. scale: tiles per unit. contrast: how far the pattern goes from
    the colour to a second one. gloss: chance of a highlight. low, high: bounds of the brightness.
    muted: mostly weak colours.
    """
    row = np.zeros(COLUMNS)
    first = random_colour(rng, low, high, muted) if colour is None else np.asarray(colour, float)
    second = random_colour(rng, low, high, muted)
    if rng.random() < 0.5:  # a shade of the same colour is commoner than another colour
        second = first * rng.uniform(0.35, 1.5)
    amount = rng.uniform(*contrast)
    tiles = TILES[kinds[int(rng.integers(len(kinds)))]]
    delta = (second - first) * amount
    blotch, grain = rng.uniform(0, 0.35), rng.uniform(0, 0.3)
    row[:3] = first - first * 0.5 * (blotch + grain)
    row[3:12] = np.stack([delta, first * blotch, first * grain], 1).reshape(-1)
    row[12] = tiles[int(rng.integers(len(tiles)))]
    row[13] = np.exp(rng.uniform(*np.log(scale)))
    row[14:16] = rng.random(2)
    glossy = rng.random() < gloss
    row[16:18] = (rng.uniform(0.1, 0.7), np.exp(rng.uniform(2, 5))) if glossy else (0, 10)
    return row


def pictured(
    rng: np.random.Generator, row: np.ndarray, procedural: int, count: int, share: float
) -> np.ndarray:
    """The material with one of the user's pictures for texture, with probability `share`."""
    choose, number, tint = rng.random(), rng.random(), rng.uniform(0.8, 1.1)
    if count <= procedural or choose >= share:
        return row
    row = row.copy()
    row[:3] = 0
    row[3:12] = (np.eye(3) * tint).reshape(-1)
    row[12] = procedural + int(number * (count - procedural))
    return row

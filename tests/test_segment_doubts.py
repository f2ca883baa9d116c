"""Masks that were found by what moves and are likely wrong are named, in one line an object."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import pack_mask
from omnimatte_cli.segment.doubts import doubts_of_found

SIZE, COUNT, FIRST = (90, 160), 30, 100


def disc(x: float, y: float, radius: float, hole: float = 0.0) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    cv2.circle(mask, (round(x), round(y)), round(radius), 1, -1)
    if hole:
        cv2.circle(mask, (round(x), round(y)), round(hole), 0, -1)
    return mask > 0


def walker(t: int) -> np.ndarray:
    return disc(30 + 3 * t, 45, 12)


def grows(t: int) -> np.ndarray:
    """It comes nearer: three times its first area in the end."""
    return disc(60 + t, 45, 9 * 3 ** (t / 2 / COUNT))


def enters(t: int) -> np.ndarray:
    return disc(-12 + 6 * t, 45, 12)


def hole_between_arm_and_body(t: int) -> np.ndarray:
    return disc(30 + 3 * t, 45, 14, 5)


def ring(t: int) -> np.ndarray:
    return disc(30 + 3 * t, 45, 14, 10 if 5 <= t < 20 else 0)


def merges(t: int) -> np.ndarray:
    return walker(t) | (disc(52 + 3 * t, 45, 12) if 10 <= t < 18 else False)


def halves(t: int) -> np.ndarray:
    mask = walker(t)
    if t >= 12:
        mask[45:] = False
    return mask


def lost(t: int) -> np.ndarray:
    return walker(t) if t < 9 else np.zeros(SIZE, bool)


def flickers(t: int) -> np.ndarray:
    return walker(t) if t % 10 else np.zeros(SIZE, bool)


CASES: dict[str, tuple[Callable[[int], np.ndarray], tuple[str, ...]]] = {
    "walker": (walker, ()),
    "comes nearer": (grows, ()),
    "enters and leaves": (enters, ()),
    "gap of an arm": (hole_between_arm_and_body, ()),
    "a frame missed now and then": (flickers, ()),
    "ring": (ring, ("hollow", "frames 105 to 119", "--point thing:112:X,Y")),
    "merge": (merges, ("larger", "frames 110 to 117")),
    "half of it": (halves, ("smaller", "frames 112 to 129")),
    "lost": (lost, ("not found", "frames 109 to 129")),
}


@pytest.mark.parametrize("kind", CASES)
def test_doubts(kind: str) -> None:
    shape, words = CASES[kind]
    masks = {"thing": [pack_mask(shape(t)) for t in range(COUNT)]}
    said = doubts_of_found(masks, SIZE, FIRST)
    assert len(said) == bool(words), said
    assert not words or all(w in said[0] for w in ("'thing'", *words)), said


def test_several_faults_are_one_line_and_an_object_behind_another_is_not_lost() -> None:
    def both(t: int) -> np.ndarray:
        return ring(t) if t < 22 else np.zeros(SIZE, bool)

    front = [pack_mask(disc(80, 45, 30)) for t in range(COUNT)]
    behind = [pack_mask(walker(t) & ~disc(80, 45, 30)) for t in range(COUNT)]
    said = doubts_of_found({"front": front, "behind": behind}, SIZE, FIRST)
    assert not any("not found" in s or "'front'" in s for s in said)
    masks = {"thing": [pack_mask(both(t)) for t in range(COUNT)]}
    (said_once,) = doubts_of_found(masks, SIZE, FIRST)
    assert "hollow" in said_once and "not found" in said_once

"""Pieces of what is nobody's: an object that owns a part of them owns nothing of them."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.matte.majority import leave_minorities
from omnimatte_cli.matte.ownership import Ownership

SIZE = (40, 60)
MASK = np.s_[4:16, 4:14]
SHADOW = np.s_[16:22, 4:20]  # joined to its object
CAR, UNDER = np.s_[20:32, 40:54], np.s_[32:35, 40:54]  # a car without a mask and its shadow


def answer(parts: dict) -> Ownership:
    """One object that owns these parts of one frame, by so much."""
    weights = np.zeros((1, 1, *SIZE), np.float16)
    for part, share in parts.items():
        rows, columns = part
        weights[0, 0, slice(*rows), slice(*columns)] = share
    return Ownership(weights, (1 - weights[0]).astype(np.float16))


def key(part: tuple[slice, slice]) -> tuple[tuple[int, int], ...]:
    return tuple((s.start, s.stop) for s in part)


def left(ownership: Ownership, strength: int = 60) -> np.ndarray:
    """The object's weights afterwards, (h, w)."""
    plate = np.full((1, *SIZE, 3), 150, np.uint8)
    frame = plate.copy()
    for part in (MASK, SHADOW, CAR, UNDER):
        frame[0][part] -= np.uint8(strength)
    masks = np.zeros((1, 1, *SIZE), bool)
    masks[0, 0][MASK] = True
    leave_minorities(ownership, frame, plate, masks)
    total = ownership.weights.astype(np.float32).sum(0) + ownership.unowned
    assert np.allclose(total, 1, atol=2e-3)
    return ownership.weights[0, 0].astype(np.float32)


def test_a_part_of_a_piece_that_is_mostly_nobodys_is_nobodys() -> None:
    mine = left(answer({key(MASK): 1, key(SHADOW): 0.9, key(UNDER): 0.8}))
    assert (mine[UNDER] == 0).all()
    assert (mine[MASK] > 0.99).all() and (mine[SHADOW] > 0.89).all()


def test_a_piece_that_is_mostly_owned_stays() -> None:
    """A mirror image far from its object."""
    mine = left(answer({key(MASK): 1, key(CAR): 0.9}))
    assert (mine[CAR] > 0.89).all()


def test_what_touches_the_object_is_its_own_however_little_is_owned() -> None:
    mine = left(answer({key(MASK): 0.2, key(SHADOW): 0.1}))
    assert mine[SHADOW].max() > 0


@pytest.mark.parametrize("strength", [8, 60])
def test_faint_changes_are_no_pieces(strength: int) -> None:
    mine = left(answer({key(MASK): 1, key(UNDER): 0.8}), strength)
    assert (mine[UNDER] == 0).all() == (strength > 20)

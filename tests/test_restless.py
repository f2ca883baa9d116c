"""Places that never rest: theirs is nobody's; effects that rest, pass or mirror stay."""

from __future__ import annotations

import numpy as np

from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.restless import leave_restless, restlessness

LENGTH, HEIGHT, WIDTH, STRIDE = 40, 64, 96, 3
LEAVES = np.s_[4:20, 60:92]
IMAGE = np.s_[4:20, 4:30]
GROUND = np.s_[40:56, 60:90]


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames, plate and masks: an object passes below; leaves are restless, an image in a mirror
    moves in place, and a shadow rests on the ground from the tenth frame on."""
    rng = np.random.default_rng(0)
    plate = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    frames = plate + rng.normal(0, 1.5, (LENGTH, HEIGHT, WIDTH, 3))
    masks = np.zeros((1, LENGTH, HEIGHT, WIDTH), bool)
    for t in range(LENGTH):
        masks[0, t, 50:60, 2 * t : 2 * t + 8] = True
        frames[t][masks[0, t]] = (200, 40, 40)
        frames[t][LEAVES] += rng.choice([-60, -20, 0, 20, 60], (16, 32, 1))
        frames[t][IMAGE] += rng.choice([30, 60, 90], (16, 26, 1))
        if t >= 10:
            frames[t][GROUND] -= 40
    return np.clip(frames, 0, 255).astype(np.uint8), plate, masks


def test_a_place_is_as_restless_as_what_it_does_without_anyone_near() -> None:
    frames, _, masks = scene()
    level = 255 * restlessness(frames, masks, STRIDE)
    assert level[8:16, 66:86].min() > 60
    assert level[24:36, 40:56].max() < 15  # noise alone
    assert level[46:50, 70:80].max() < 15  # a shadow that rests
    few = restlessness(frames[: STRIDE + 7], masks[:, : STRIDE + 7], STRIDE)
    assert not few.any()  # too short to know


def test_only_what_leaves_do_by_themselves_is_taken() -> None:
    frames, plate, masks = scene()
    rng = np.random.default_rng(1)
    weights = np.zeros((1, LENGTH, HEIGHT, WIDTH), np.float16)
    weights[0][:, IMAGE[0], IMAGE[1]] = 0.9
    weights[0][10:, GROUND[0], GROUND[1]] = 0.9
    weights[0][:, LEAVES[0], LEAVES[1]] = 0.9 * (rng.random((LENGTH, 16, 32)) < 0.2)  # now and then
    before = weights.copy()
    unowned = (1 - weights[0]).astype(np.float16)
    leave_restless(Ownership(weights, unowned), frames, plate, masks, STRIDE)
    assert (
        weights[0][:, LEAVES[0], LEAVES[1]].mean()
        < 0.35 * before[0][:, LEAVES[0], LEAVES[1]].mean()
    )
    assert np.array_equal(weights[0][:, IMAGE[0], IMAGE[1]], before[0][:, IMAGE[0], IMAGE[1]])
    assert np.array_equal(weights[0][:, GROUND[0], GROUND[1]], before[0][:, GROUND[0], GROUND[1]])
    assert np.allclose(weights.sum(0, dtype=np.float32) + unowned, 1, atol=2e-3)


def test_a_change_that_is_larger_than_the_leaves_own_stays() -> None:
    frames, plate, masks = scene()
    frames[20][LEAVES] = 0
    weights = np.zeros((1, LENGTH, HEIGHT, WIDTH), np.float16)
    weights[0][20, LEAVES[0], LEAVES[1]] = 0.9
    frames[:, LEAVES[0], LEAVES[1]] = np.where(
        np.arange(LENGTH)[:, None, None, None] == 20,
        0,
        np.clip(frames[:, LEAVES[0], LEAVES[1]], 95, 145),
    )
    unowned = (1 - weights[0]).astype(np.float16)
    leave_restless(Ownership(weights, unowned), frames, plate, masks, STRIDE)
    assert weights[0, 20, 8:16, 66:86].min() > 0.8

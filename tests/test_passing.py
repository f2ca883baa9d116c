"""Movers without a mask leave the plate where enough frames show the place without them."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.plate.passing import BARELY, ENOUGH, FEWEST, without_passing

SIZE, SAMPLES = (40, 60), range(0, 40, 2)
NOTHING = np.zeros(SIZE, bool)
STILL = np.zeros((40, *SIZE, 3), np.uint8), Camera.static(40, SIZE)


def mover(rests_from: int) -> np.ndarray:
    """A block that crosses the picture, and rests from a frame on: (1, 40, 40, 60) bool."""
    found = np.zeros((1, 40, *SIZE), bool)
    for t in range(40):
        left = 1 + min(t, rests_from)
        found[0, t, 10:16, left : left + 8] = True
    return found


def test_who_passes_is_left_out_with_his_rim_and_who_rests_is_not() -> None:
    strangers = mover(30)
    passing = without_passing(strangers, lambda t: NOTHING, SAMPLES, SIZE, *STILL)
    assert passing is not None
    early = passing(8)
    assert early[10:16, 9:17].all() and early[13, 8] and early[9, 12]  # and a pixel around
    assert not early[:8].any() and not early[:, 20:].any()
    assert passing(38)[13, 31:39].all()  # free for fifteen samples of twenty before he came


def test_where_nobody_has_seen_the_place_he_stays() -> None:
    need = int(np.ceil(max(FEWEST, ENOUGH * len(SAMPLES))))
    for free in (need - 1, need):
        strangers = np.zeros((1, 40, *SIZE), bool)
        strangers[0, 2 * free :, 10:20, 10:20] = True
        passing = without_passing(strangers, lambda t: NOTHING, SAMPLES, SIZE, *STILL)
        assert passing is not None
        assert passing(39)[15, 15] == (free == need)


def test_frames_in_which_something_else_hides_the_place_do_not_show_it() -> None:
    strangers = mover(30)
    before = np.zeros(SIZE, bool)
    before[10:16, 9:17] = True
    passing = without_passing(strangers, lambda t: before & (t != 8), SAMPLES, SIZE, *STILL)
    assert passing is not None and not passing(8)[12, 12] and passing(38)[12, 35]


@pytest.mark.parametrize("strangers", [None, np.zeros((0, 40, *SIZE), bool)])
def test_without_movers_there_is_nothing_to_ask(strangers: np.ndarray | None) -> None:
    assert without_passing(strangers, lambda t: NOTHING, SAMPLES, SIZE, *STILL) is None


def test_the_answer_has_the_size_of_the_frames() -> None:
    passing = without_passing(mover(50), lambda t: NOTHING, SAMPLES, (160, 240), *STILL)
    assert passing is not None
    there = passing(8)
    assert there.shape == (160, 240) and there[40:64, 36:68].all() and not there[:30].any()


def test_before_a_moving_camera_a_place_is_the_scenes() -> None:
    """The camera follows a mover at three pixels a frame: it stays where it is in the picture."""
    homographies = np.tile(np.eye(3), (40, 1, 1))
    homographies[:, 0, 2] = 3 * np.arange(40)
    camera = Camera(homographies, SIZE)
    strangers = np.zeros((1, 40, *SIZE), bool)
    strangers[0, :, 10:16, 20:28] = True
    passing = without_passing(strangers, lambda t: NOTHING, SAMPLES, SIZE, STILL[0], camera)
    still = without_passing(strangers, lambda t: NOTHING, SAMPLES, SIZE, *STILL)
    assert passing is not None and still is not None
    assert passing(20)[11:15, 21:27].all() and not passing(20)[:, 40:].any()
    assert not still(20).any()


def test_before_a_moving_camera_who_rests_in_the_scene_stays() -> None:
    homographies = np.tile(np.eye(3), (40, 1, 1))
    homographies[:, 0, 2] = np.arange(40)
    strangers = np.zeros((1, 40, *SIZE), bool)
    for t in range(40):
        strangers[0, t, 10:16, 45 - t : 53 - t] = True
    camera = Camera(homographies, SIZE)
    passing = without_passing(strangers, lambda t: NOTHING, SAMPLES, SIZE, STILL[0], camera)
    assert passing is not None and not passing(20)[11:15, 26:32].any()


def test_a_movers_shadow_leaves_with_him() -> None:
    strangers, shape = mover(50), (40, *SIZE)
    theirs = np.zeros(shape, np.float16)
    for t in range(40):
        theirs[t, 20:26, t + 1 : t + 9] = 0.7  # below him
    theirs[:, 30:36, 5:15] = 0.4  # less than half
    weights = np.zeros((1, *shape), np.float16)
    weights[0, :, 30:36] = 0.2
    ownership = Ownership(weights, 1 - weights[0], theirs)
    passing = without_passing(
        strangers, lambda t: NOTHING, SAMPLES, SIZE, *STILL, ownership=ownership
    )
    assert passing is not None
    there = passing(20)
    assert there[12, 25] and there[22, 25] and not there[22, 15] and not there[30:36].any()
    untold = without_passing(
        strangers, lambda t: NOTHING, SAMPLES, SIZE, *STILL, Ownership(weights, 1 - weights[0])
    )
    assert untold is not None and untold(20)[12, 25] and not untold(20)[20:26].any()


def test_single_pixels_that_are_seen_a_little_less_do_not_keep_specks_of_him() -> None:
    need = int(np.ceil(max(FEWEST, ENOUGH * len(SAMPLES))))
    strangers = np.zeros((1, 40, *SIZE), bool)
    strangers[0, 2 * need :, 8:24, 8:40] = True

    def hidden(t: int) -> np.ndarray:
        there = np.zeros(SIZE, bool)
        there[15, 15], there[15, 30] = t < 2 * (need - BARELY), t < 2 * (need - BARELY + 1)
        return there

    passing = without_passing(strangers, hidden, SAMPLES, SIZE, *STILL)
    assert passing is not None
    assert passing(39)[15, 15] and not passing(39)[15, 30]

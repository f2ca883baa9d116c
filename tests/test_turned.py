"""Claims that are turned round: a shadow that passed for the plate, and ground for an effect."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from omnimatte_cli.camera.canvas import Stack
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.plate.resting import resting_effects
from omnimatte_cli.plate.turned import Turned, turned_claims
from omnimatte_cli.ranks import median_shown

FRAMES, SIZE = 16, (48, 96)
STRIP = np.s_[20:24, 30:70]  # where the end of a shadow lies from the fourth frame on
ALWAYS = np.s_[16:20, 30:70]  # its middle, which is found in all frames
LIT, DARK = 180, 110
LATE = 4


@dataclass
class Views:
    """Frames of a camera that stands still, where no body is, and where nobody owns anything."""

    images: np.ndarray
    seen: np.ndarray
    free: np.ndarray

    def found(self) -> tuple[Turned, np.ndarray]:
        plate, count = median_shown(self.images, self.free)
        return turned_claims(self.images, self.seen, self.free, plate, count), plate


@pytest.fixture
def views() -> Views:
    """A shadow whose end is missed while it is there; where it is not yet, the ground is owned."""
    rng = np.random.default_rng(0)
    images = np.full((FRAMES, *SIZE, 3), LIT, np.float64)
    free = np.ones((FRAMES, *SIZE), bool)
    for t in range(FRAMES):
        images[t][ALWAYS] = DARK
        free[t][ALWAYS] = t % 4 == 0  # or there was nothing to compare it with
        if t >= LATE:
            images[t][STRIP] = DARK
        else:
            free[t][STRIP] = False
    images[::4][:, 16:20, 30:70] = LIT
    images += rng.normal(0, 1, images.shape)
    return Views(images.astype(np.uint8), np.ones_like(free), free)


def test_ground_that_passed_for_an_effect_is_found(views: Views) -> None:
    turned, plate = views.found()
    assert abs(plate[STRIP].mean() - DARK) < 3, "the first plate has the shadow"
    assert turned.where[STRIP].all()
    outside = turned.where.copy()
    outside[14:26, 28:72] = False
    assert not outside.any()
    assert abs(turned.ground[STRIP].mean() - LIT) < 3


def test_each_frame_says_what_it_shows(views: Views) -> None:
    turned, _ = views.found()
    camera = Camera.static(FRAMES, SIZE)
    stack = Stack(views.images, (views.seen, views.free), 0, (0, 0), range(FRAMES))
    for t in (0, 3, 4, 15):
        shade, ground = turned.seen(stack, camera, t, views.images[t])
        assert shade[STRIP].all() == (t >= LATE) and ground[STRIP].all() == (t < LATE)
        assert not (shade & ground).any()


def test_turned_claims_hide_the_shade_and_give_back_the_ground(views: Views) -> None:
    nothing = np.zeros(SIZE, bool)
    rest = resting_effects(
        views.images, Camera.static(FRAMES, SIZE), lambda t: nothing, lambda t: ~views.free[t]
    )
    early, late = rest(0), rest(LATE)
    assert early[1][STRIP].all() and not early[0][STRIP].any()
    assert late[0][STRIP].all() and not late[1][STRIP].any()


def test_a_shadow_that_is_found_stays_one(views: Views) -> None:
    """The other way round: the dark frames are owned, and the ground is the plate."""
    views.free[:, 20:24, 30:70] = ~views.free[:, 20:24, 30:70]
    turned, plate = views.found()
    assert abs(plate[STRIP].mean() - LIT) < 3
    assert not turned.where.any()


def test_what_is_dark_by_itself_is_left(views: Views) -> None:
    """Grass on sand beside it: as dark, but in all frames."""
    views.images[:, 26:28, 40:50] = DARK
    turned, _ = views.found()
    assert turned.where[STRIP].all() and not turned.where[26:28, 40:50].any()


def test_light_that_drifts_is_no_shadow(views: Views) -> None:
    """The owned frames are brighter, and so is all of them."""
    views.images[:, 20:24, 30:70] = LIT - 20
    views.images[LATE:] -= 20
    assert not views.found()[0].where.any()


def test_beside_an_edge_of_the_scene_nothing_is_turned(views: Views) -> None:
    """Ground in two colours, whose border moves as in a mirror."""
    views.images[:, 24:, :] = DARK
    assert not views.found()[0].where.any()


def test_where_nobody_is_near_shade_is_the_scene(views: Views) -> None:
    """Half of the dark frames have nobody's effect around: a cloud, a light that goes out."""
    views.free[8:] = True
    views.images[8:, 16:20, 30:70] = LIT
    assert not views.found()[0].where.any()

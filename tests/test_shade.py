"""Of two looks of a place that differ by light, the brighter is the plate."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.model import Camera
from omnimatte_cli.plate.resting import resting_effects
from omnimatte_cli.plate.shade import find_shade

SIZE = (60, 80)
SHADOW = np.s_[30:42, 20:40]
INSIDE = np.s_[32:40, 22:38]
FRAMES = 20
LEAVES = 14  # the frame from which on the place is lit


def ground() -> np.ndarray:
    noise = np.random.default_rng(0).integers(100, 200, (*SIZE, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def changed(factor: tuple[float, float, float]) -> np.ndarray:
    """Frames in which a place is multiplied by a factor of each channel until frame LEAVES."""
    frames = np.repeat(ground()[None], FRAMES, 0)
    for frame in frames[:LEAVES]:
        frame[SHADOW] = np.rint(frame[SHADOW] * factor)
    return frames


def nothing(t: int) -> np.ndarray:
    return np.zeros(SIZE, bool)


def in_frames(frames: range) -> np.ndarray:
    owned = np.zeros((FRAMES, *SIZE), bool)
    owned[(slice(frames.start, frames.stop), *SHADOW)] = True
    return owned


@pytest.mark.parametrize(
    "owned",
    [
        in_frames(range(LEAVES, FRAMES)),  # the shadow passes for the plate, the ground after it
        in_frames(range(4)),  # for somebody's effect; or the shadow is missed in most frames
    ],
)
def test_a_shadow_that_leaves_is_no_plate_while_it_is_there(owned: np.ndarray) -> None:
    frames = changed((0.6, 0.62, 0.65))
    look = resting_effects(frames, Camera.static(FRAMES, SIZE), nothing, lambda t: owned[t], True)
    wanted = np.zeros(SIZE, bool)
    wanted[SHADOW] = True
    far = cv2.dilate(wanted.astype(np.uint8), np.ones((7, 7), np.uint8)) == 0
    for t in (0, 13, 14, 19):
        resting, lit = look(t)
        assert resting[INSIDE].all() == (t < LEAVES)
        assert lit[INSIDE].all() == (t >= LEAVES)
        assert not (resting | lit)[far].any()


def test_another_colour_is_no_light() -> None:
    """What was there before the lit ground is a thing of another colour, or brighter than it."""
    owned = in_frames(range(LEAVES, FRAMES))
    camera = Camera.static(FRAMES, SIZE)
    for factor in ((0.9, 0.5, 0.9), (1.2, 1.2, 1.2)):
        look = resting_effects(changed(factor), camera, nothing, lambda t: owned[t], True)
        for t in (0, 19):
            _, lit = look(t)
            assert not lit.any()


def test_where_nobody_owns_anything_light_may_change() -> None:
    frames = changed((0.6, 0.6, 0.6))
    look = resting_effects(frames, Camera.static(FRAMES, SIZE), nothing, nothing, True)
    assert not any(mask.any() for mask in look(0))


def test_a_restless_scene_has_no_shade() -> None:
    """Samples that are brighter by chance everywhere, as on water, are no light."""
    random = np.random.default_rng(1)
    frames = np.clip(120 * random.lognormal(0, 0.3, (FRAMES, *SIZE, 1)), 0, 250).astype(np.uint8)
    frames = np.repeat(frames, 3, -1)
    owned = in_frames(range(4))
    seen = np.ones((FRAMES, *SIZE), bool)
    plate = np.median(frames, 0).astype(np.uint8)
    assert find_shade(frames, seen, owned, plate) is None

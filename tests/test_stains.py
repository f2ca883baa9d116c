"""Stains: pieces of effects that passed for the plate, told by edges that frames do not show."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.model import Camera
from omnimatte_cli.plate.resting import resting_effects
from omnimatte_cli.plate.stains import stained
from omnimatte_cli.ranks import median_shown

SIZE = (80, 120)
FRAMES = 20
MISSED = np.s_[34:44, 50:66]  # of the shadow below, in all frames
SHADE = 0.5


def ground() -> np.ndarray:
    noise = np.random.default_rng(1).integers(130, 230, (*SIZE, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def shadow(t: int) -> np.ndarray:
    """It reaches to all sides in turn, and always lies on what is missed of it."""
    where = np.zeros(SIZE, bool)
    up, left = t % 2, t // 2 % 2
    where[34 - 14 * up : 44 + 14 * (1 - up), 50 - 14 * left : 66 + 14 * (1 - left)] = True
    return where


def clip(scene: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, h, w, 3) of a shadow over a scene, and what of it is found, (T, h, w) bool."""
    frames = np.repeat(scene[None], FRAMES, 0)
    owned = np.stack([shadow(t) for t in range(FRAMES)])
    frames[owned] = (frames[owned] * SHADE).astype(np.uint8)
    owned[(slice(None), *MISSED)] = False
    return frames, owned


def found(frames: np.ndarray, owned: np.ndarray, seen: np.ndarray | None = None) -> np.ndarray:
    seen = np.ones(owned.shape, bool) if seen is None else seen
    plate, count = median_shown(frames, seen & ~owned)
    return stained(frames, seen, seen & ~owned, plate, count)


def test_what_is_missed_of_a_shadow_in_all_frames_is_a_stain() -> None:
    stain = found(*clip(ground()))
    assert stain[MISSED].all()
    around = np.zeros(SIZE, bool)
    around[31:47, 47:69] = True
    assert not stain[~around].any()


def test_so_is_what_was_owned_in_all_frames_without_the_shadow() -> None:
    """The other way round: the ground without it passed for an effect, and it for the ground."""
    frames = np.repeat(ground()[None], FRAMES, 0)
    frames[(slice(None, None, 3), *MISSED)] //= 2
    owned = np.zeros(frames.shape[:3], bool)
    owned[:, 34:44, 36:66] = True
    owned[::2, :, :50] = False
    owned[(slice(None, None, 3), *MISSED)] = False
    assert found(frames, owned)[MISSED].all()


def test_something_dark_is_no_stain_for_its_edges_stay_in_shade() -> None:
    scene = ground()
    scene[MISSED] = (scene[MISSED] * SHADE).astype(np.uint8)
    frames, owned = clip(scene)
    assert not found(frames, owned).any()


def test_nor_is_what_is_as_dark_as_the_shade_but_also_seen_alone() -> None:
    """Shade that rests: a shadow that falls on it too makes it no darker."""
    frames, owned = clip(ground())
    alone = (ground() * 1.0).astype(np.uint8)
    alone[MISSED] = (alone[MISSED] * SHADE).astype(np.uint8)
    frames[5:] = alone
    owned[5:] = False
    assert not found(frames, owned).any()


def test_nor_a_wall_at_which_shade_ends() -> None:
    scene = ground()
    scene[:34] //= 2  # as dark as the ground in shade
    frames = np.repeat(scene[None], FRAMES, 0)
    owned = np.zeros(frames.shape[:3], bool)
    owned[::2, 34:50, 30:60] = True
    owned[1::2, 34:50, 60:90] = True
    frames[owned] //= 2
    assert not found(frames, owned).any()


def test_rims_of_things_in_parallax_are_too_narrow_to_witness() -> None:
    frames = np.repeat(ground()[None], FRAMES, 0)
    for t, frame in enumerate(frames):
        down, right = t % 7 - 3, 3 * t % 7 - 3
        frame[30 + down : 50 + down, 40 + right : 60 + right] = 60
    darker = np.median(frames, axis=0) - frames
    owned = darker.max(3) > 12  # which is where it is and mostly is not
    assert not found(frames, owned).any()


@pytest.mark.parametrize("t", [0, 3, 19])
def test_stains_count_as_resting_effects(t: int) -> None:
    frames, owned = clip(ground())
    nothing = np.zeros(SIZE, bool)
    rest = resting_effects(
        frames, Camera.static(FRAMES, SIZE), lambda t: nothing, lambda t: owned[t]
    )
    assert rest(t)[0][MISSED].all()

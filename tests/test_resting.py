"""Effects that rest: owned in most frames, missed in some, and the same in both."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.model import Camera
from omnimatte_cli.plate.resting import resting_effects, rests

SIZE = (60, 80)
SHADOW = np.s_[30:42, 20:40]
FRAMES = 20


def ground(seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (70, 120, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def owned_now_and_then(t: int) -> np.ndarray:
    """The network misses the shadow in every fourth frame."""
    owned = np.zeros(SIZE, bool)
    owned[SHADOW] = t % 4 != 3
    return owned


def still(leaves: int) -> np.ndarray:
    """A dark patch that leaves after so many frames, seen by a camera that stands still."""
    frames = np.repeat(ground()[None, : SIZE[0], : SIZE[1]], FRAMES, 0)
    for frame in frames[:leaves]:
        frame[SHADOW] //= 2
    return frames


def nothing_hidden(t: int) -> np.ndarray:
    return np.zeros(SIZE, bool)


def test_a_shadow_that_never_leaves_rests_in_every_frame() -> None:
    frames = still(FRAMES)
    rest = resting_effects(frames, Camera.static(FRAMES, SIZE), nothing_hidden, owned_now_and_then)
    wanted = np.zeros(SIZE, bool)
    wanted[SHADOW] = True
    for t in (0, 3, 19):
        found, _ = rest(t)
        assert found[32:40, 22:38].all()
        assert not (found & ~wanted).any()


def test_a_shadow_that_leaves_shows_the_plate_then() -> None:
    """The network is right: owned while it is there, free afterwards."""
    frames = still(16)

    def owned(t: int) -> np.ndarray:
        where = np.zeros(SIZE, bool)
        where[SHADOW] = t < 16
        return where

    rest = resting_effects(frames, Camera.static(FRAMES, SIZE), nothing_hidden, owned)
    assert not rest(0)[0].any()


def test_before_a_moving_camera_it_rests_in_the_scene() -> None:
    scene = ground()
    scene[30:42, 30:50] //= 2
    homographies = np.tile(np.eye(3), (FRAMES, 1, 1))
    homographies[:, 0, 2] = np.arange(FRAMES)  # a pixel to the right a frame
    frames = np.stack([scene[: SIZE[0], t : t + SIZE[1]] for t in range(FRAMES)])

    def owned(t: int) -> np.ndarray:
        where = np.zeros(SIZE, bool)
        where[30:42, 30 - t : 50 - t] = t % 4 != 3
        return where

    rest = resting_effects(frames, Camera(homographies, SIZE), nothing_hidden, owned)
    for t in (0, 7, 19):
        wanted = np.zeros(SIZE, bool)
        wanted[33:39, 33 - t : 47 - t] = True
        found, _ = rest(t)
        assert found[wanted].all()
        assert found.sum() < 1.3 * 12 * 20


@pytest.mark.parametrize(
    ("free", "taken", "apart", "rest"),
    [
        (5, 15, 0, True),
        (5, 15, 5, True),
        (5, 15, 6, False),  # it looks different without its owner: that is the plate
        (8, 12, 0, False),  # owned too seldom
        (0, 15, 0, False),  # never free: the plate is not asked
        (15, 0, 0, False),
    ],
)
def test_what_rests_is_mostly_owned_and_looks_alike(
    free: int, taken: int, apart: int, rest: bool
) -> None:
    size = (9, 9)
    image = np.full((*size, 3), 100, np.uint8)
    other = image.copy()
    other[..., 1] += apart
    counts = (np.full(size, n, np.uint16) for n in (free, taken))
    first, second = counts
    assert rests(image, first, other, second).all() == rest

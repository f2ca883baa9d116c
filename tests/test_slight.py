"""Motion of a fraction of a pixel is found without a search, and nothing else is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.tracking import even_light
from omnimatte_cli.matte.blur import reduced
from omnimatte_cli.plate.align import Aligner, prepare
from omnimatte_cli.plate.slight import CELL, slight_motion
from tests.moving_clips import plane

SIZE = (180, 320)
NOTHING = np.zeros(SIZE, np.float32)


def ground(dx: float = 0.0, dy: float = 0.0) -> np.ndarray:
    """A texture, moved right and down by so many pixels, (h, w) uint8."""
    picture = cv2.cvtColor(plane(3)[300:600, 300:900], cv2.COLOR_RGB2GRAY)
    moved = np.float32([[1, 0, dx - 100], [0, 1, dy - 60]])
    grain = np.random.default_rng(round(10 * abs(dx))).normal(0, 1.5, SIZE)
    view = cv2.warpAffine(picture, moved, SIZE[::-1], flags=cv2.INTER_CUBIC)
    return even_light(np.clip(view + grain, 0, 255).round().astype(np.uint8))


@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (0.3, -0.2), (-0.4, 0.1)])
def test_a_fraction_of_a_pixel_is_found(dx: float, dy: float) -> None:
    found = slight_motion(ground(), ground(dx, dy), NOTHING, reduced(NOTHING, CELL), 20.0)
    assert found is not None and found.shape == (*SIZE, 2) and found.dtype == np.float32
    assert np.abs(np.median(found, (0, 1)) - (dx, dy)).max() < 0.05
    assert np.abs(found - (dx, dy)).mean() < 0.1


@pytest.mark.parametrize("dx", [3.0, 8.0])
def test_what_is_farther_away_is_left_to_the_search(dx: float) -> None:
    assert slight_motion(ground(), ground(dx), NOTHING, reduced(NOTHING, CELL), 20.0) is None


def test_something_at_another_depth_is_left_to_the_search() -> None:
    there = ground(0.2)
    there[40:140, 100:140] = ground(5.0)[40:140, 100:140]
    assert slight_motion(ground(), there, NOTHING, reduced(NOTHING, CELL), 20.0) is None


def test_what_is_unknown_has_no_say_and_moves_as_what_is_around_it() -> None:
    there, unknown = ground(0.3), NOTHING.copy()
    there[60:120, 120:180] = 255
    unknown[54:126, 114:186] = 1
    near = np.clip(3 * cv2.GaussianBlur(reduced(unknown, CELL), (0, 0), 1.25), 0, 1)
    found = slight_motion(ground(), there, unknown, near, 20.0)
    assert found is not None
    assert np.abs(found[60:120, 120:180] - (0.3, 0)).max() < 0.1


def test_a_camera_that_only_turns_needs_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    texture = plane(5)
    frames = [prepare(texture[300:480, x : x + 320], np.zeros(SIZE, bool)) for x in (300, 310)]
    aligner = Aligner(SIZE)

    def searched(_: Aligner) -> cv2.DISOpticalFlow:
        raise AssertionError("It was searched.")

    monkeypatch.setattr(Aligner, "_search", searched)
    motion = np.array([[1, 0, -10.3], [0, 1, 0.2], [0, 0, 1.0]])  # off by a third of a pixel
    image, shown = aligner.align(*frames, motion)
    inside = np.s_[20:-20, 20:-20]
    assert shown[inside].all()
    apart = image[inside].astype(np.float32) - frames[0].image[inside]
    assert np.abs(apart).mean() < 1.5

"""Registration without corners: ground that is plain, small or soft."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.direct import align, explained
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.camera.registration import register
from omnimatte_cli.camera.tracking import even_light, track_points, view
from omnimatte_cli.camera.verify import explains_more
from tests.conftest import scene

SIZE = (160, 240)


def ground(seed: int = 0) -> np.ndarray:
    """Soft stains of few levels, (h, w) float32: nothing on it is a corner."""
    rng = np.random.default_rng(seed)
    small = rng.standard_normal((24, 34)).astype(np.float32)
    return 120 + 9 * cv2.resize(small, (340, 240), interpolation=cv2.INTER_CUBIC)


def seen(motion: np.ndarray, mover: tuple[int, int] | None = None, seed: int = 0) -> np.ndarray:
    """A camera's picture (h, w) uint8: `motion` (3, 3) from its pixels to those of the ground."""
    h, w = SIZE
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    picture = cv2.warpPerspective(ground(), motion, (w, h), flags=how)
    if mover is not None:  # all that has corners
        rng = np.random.default_rng(9)
        patch = cv2.resize(rng.integers(0, 255, (12, 10), np.uint8), (40, 48), interpolation=0)
        picture[mover[1] : mover[1] + 48, mover[0] : mover[0] + 40] = patch
    noise = np.random.default_rng(seed).normal(0, 1, picture.shape)
    return np.clip(picture + noise, 0, 255).round().astype(np.uint8)


def turned(x: float, y: float, angle: float = 0.0, zoom: float = 1.0) -> np.ndarray:
    """Pixels of a picture to those of the ground."""
    about = np.vstack([cv2.getRotationMatrix2D((120, 80), angle, zoom), [0, 0, 1]])
    return np.array([[1, 0, 30 + x], [0, 1, 30 + y], [0, 0, 1.0]]) @ about


def shifted(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def error(found: np.ndarray, right: np.ndarray) -> float:
    """The largest distance, in pixels, at the corners of the picture."""
    h, w = SIZE
    at = np.array([[[0.0, 0]], [[w, 0]], [[0, h]], [[w, h]]])
    gone = cv2.perspectiveTransform(at, found) - cv2.perspectiveTransform(at, right)
    return float(np.linalg.norm(gone, axis=-1).max())


MOTIONS = {
    "nothing": turned(0, 0),
    "a little": turned(0.3, -0.2),
    "far": turned(11, -7),
    "a roll": turned(3, 2, 2.0),
    "a zoom": turned(-2, 1, 0.0, 1.03),
}


@pytest.mark.parametrize("mover", [False, True], ids=["empty", "before it something moves"])
@pytest.mark.parametrize("name", MOTIONS)
def test_a_known_motion(name: str, mover: bool) -> None:
    a = seen(turned(0, 0), (60, 50) if mover else None, 1)
    b = seen(MOTIONS[name], (90, 58) if mover else None, 2)
    right = np.linalg.inv(MOTIONS[name]) @ turned(0, 0)
    views = [view(t, x, None) for t, x in enumerate((a, b))]
    corners = track_points(*views, np.eye(3))
    assert corners is None or len(corners.start) < 40  # else it would not be asked
    hidden = (views[0].hidden, views[1].hidden)
    found = align(views[0].grey, views[1].grey, hidden, np.eye(3))
    assert found is not None and error(found, right) < 1.0, error(found, right)
    best = explained(views[0].grey, views[1].grey, hidden, found)
    assert len(best.middles) > 0.6 * best.told > 60
    beside = explained(views[0].grey, views[1].grey, hidden, shifted(6, 6))
    assert len(beside.middles) < 0.5 * len(best.middles) and beside.apart > 1.5 * best.apart


def test_a_hidden_mover_has_no_say_even_where_it_is_most_of_the_picture() -> None:
    patch = np.random.default_rng(3).integers(0, 255, (150, 150), np.uint8)
    pictures, masks = [], []
    for t in (0, 1):
        picture, mask = seen(turned(4 * t, 0), seed=t), np.zeros(SIZE, np.uint8)
        picture[5:155, 50 + 9 * t : 200 + 9 * t] = cv2.GaussianBlur(patch, (0, 0), 3)
        mask[5:155, 50 + 9 * t : 200 + 9 * t] = 1
        pictures.append(even_light(picture))
        masks.append(cv2.dilate(mask, np.ones((9, 9), np.uint8)))
    found = align(*pictures, (masks[0], masks[1]), np.eye(3))
    assert found is not None and error(found, shifted(-4, 0)) < 1.5


def test_noise_is_explained_by_no_motion() -> None:
    pictures = [
        even_light(np.random.default_rng(t).normal(120, 6, SIZE).astype(np.uint8)) for t in (0, 1)
    ]
    nothing = np.zeros(SIZE, np.uint8)
    found = align(*pictures, (nothing, nothing), np.eye(3))
    motion = np.eye(3) if found is None else found
    found_in = explained(*pictures, (nothing, nothing), motion)
    assert len(found_in.middles) < 0.1 * max(found_in.told, 1) + 5


def test_a_shadow_on_a_bare_wall_is_no_scene_that_moves() -> None:
    """All that has detail moves, but it is little: the wall says nothing."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    wall = 60 + 0.4 * columns + 0.2 * rows
    frames = []
    for t in range(10):
        shade = np.zeros(SIZE)
        shade[90:125, 10 + 15 * t : 55 + 15 * t] = 0.4
        picture = wall * (1 - cv2.GaussianBlur(shade, (0, 0), 3))
        frames.append(np.repeat(picture.round().astype(np.uint8)[..., None], 3, 2))
    assert not register(frames).moving


@pytest.mark.parametrize("picks", [(0, 4, 8), range(9)], ids=["few samples", "all"])
@pytest.mark.parametrize("size", [(36, 64), (96, 160)], ids=str)
def test_a_smooth_ramp_stands_still(size: tuple[int, int], picks: Sequence[int]) -> None:
    """Its steps of one level fit each other in many ways."""
    video, masks = scene(9, size)
    camera = register(list(video), lambda t: masks[t])
    assert not (
        camera.moving and explains_more(camera, picks, lambda t: video[t], lambda t: masks[t])
    )


@pytest.mark.slow
@pytest.mark.parametrize("speed", [0.0, 1.5])
def test_a_camera_over_plain_ground(speed: float) -> None:
    """What moves has all the corners: a pan is found, and a tripod stays one."""
    frames = [
        np.repeat(seen(turned(speed * t, 0), (20 + 4 * t, 40), t)[..., None], 3, 2)
        for t in range(14)
    ]
    camera = register(frames)
    assert camera.moving == (speed > 0)
    if camera.moving:
        right = np.linalg.inv(turned(0, 0)) @ turned(13 * speed, 0)
        assert error(camera.between(13, 0), right) < 2


def beside_a_shadow(ground_level: float) -> tuple[list[np.ndarray], list[np.ndarray], Camera]:
    """Bare sand under a sky that sinks slowly, before which a masked mover's long shadow passes.

    Frames (h, w, 3), masks (h, w) bool, and a camera that follows the shadow along the horizon.
    ground_level: how much pattern the sand has, in levels.
    """
    count, (h, w) = 24, SIZE
    pattern = cv2.resize(
        np.random.default_rng(2).standard_normal((40, 90)).astype(np.float32), (w + 120, h)
    )
    frames, masks, homographies = [], [], np.tile(np.eye(3), (count, 1, 1))
    for t in range(count):
        picture = np.full((h, w), 150, np.float32)
        picture += ground_level * pattern[:, 100 - 3 * t : 100 - 3 * t + w]
        rows, columns = np.mgrid[:h, :w]
        picture = np.where(rows < 24 + t / 3 + 4 * np.sin(columns / 40), 60, picture)
        shade, mask = np.zeros((h, w), np.float32), np.zeros((h, w), bool)
        left = 20 + 3 * t
        cv2.ellipse(shade, (left + 66, 98 + t // 3), (20, 7), 20, 0, 360, 1, -1)
        mask[80 + t // 3 : 125 + t // 3, left + 80 : left + 100] = True
        picture = picture * (1 - 0.6 * cv2.GaussianBlur(shade, (0, 0), 1))
        picture[mask] = 30
        picture += np.random.default_rng(t).normal(0, 1.5, (h, w))
        frames.append(np.repeat(np.clip(picture, 0, 255).astype(np.uint8)[..., None], 3, 2))
        masks.append(mask)
        homographies[t, :2, 2] = -3 * t, -t / 3
    return frames, masks, Camera(homographies, SIZE, "moving")


@pytest.mark.parametrize("level", [0.0, 12.0], ids=["bare sand", "sand that moves with it"])
def test_what_follows_a_shadow_is_no_camera(level: float) -> None:
    frames, masks, camera = beside_a_shadow(level)
    believed = explains_more(camera, range(24), lambda t: frames[t], lambda t: masks[t])
    assert believed == (level > 0)

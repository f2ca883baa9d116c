"""A registration is believed if it explains the clip better than standing still."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.model import Camera
from omnimatte_cli.camera.verify import explains_more

SIZE = (120, 200)


def texture(seed: int, size: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(128 + 4 * (smooth - smooth.mean()), 0, 255).astype(np.uint8)


def shifted(count: int, step: int) -> tuple[list[np.ndarray], Camera]:
    """A camera that pans over a texture by `step` pixels a frame, and its homographies."""
    wide = texture(0, (SIZE[0], SIZE[1] + count * step))
    frames = [wide[:, t * step : t * step + SIZE[1]] for t in range(count)]
    motions = np.tile(np.eye(3), (count, 1, 1))
    motions[:, 0, 2] = step * np.arange(count)
    return frames, Camera(motions, SIZE, shift=float(step * (count - 1)))


def nothing(t: int) -> np.ndarray:
    return np.zeros(SIZE, bool)


def test_a_pan_is_believed() -> None:
    frames, camera = shifted(12, 3)
    assert explains_more(camera, range(12), frames.__getitem__, nothing)


def test_a_motion_that_the_scene_does_not_share_is_not() -> None:
    """Homographies of a pan, and frames of a tripod."""
    _, camera = shifted(12, 3)
    still = texture(1, SIZE)
    assert not explains_more(camera, range(12), lambda t: still, nothing)


def test_one_large_mover_does_not_outvote_what_stands_still() -> None:
    moving, camera = shifted(12, 3)
    still = texture(1, SIZE)

    def frame(t: int) -> np.ndarray:
        out = still.copy()
        out[:70] = moving[t][:70]  # more than half of the picture moves as the points did
        return out

    assert not explains_more(camera, range(12), frame, nothing)


def test_without_texture_nothing_speaks_against_it() -> None:
    _, camera = shifted(6, 3)
    grey = np.full((*SIZE, 3), 128, np.uint8)
    assert explains_more(camera, range(6), lambda t: grey, nothing)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_nor_does_one_that_fills_most_of_the_frame(share: float) -> None:
    moving, camera = shifted(12, 3)
    still = texture(1, SIZE)
    rows = round(share * SIZE[0])

    def frame(t: int) -> np.ndarray:
        return np.concatenate([moving[t][:rows], still[rows:]])

    assert not explains_more(camera, range(12), frame, nothing)


@pytest.mark.parametrize("pans", [True, False])
def test_water_has_no_vote(pans: bool) -> None:
    """Over two thirds of the frame nothing matches in either way; the rest pans, or stands."""
    moving, camera = shifted(12, 3)
    still = texture(1, SIZE)

    def frame(t: int) -> np.ndarray:
        ground = moving[t] if pans else still
        return np.concatenate([ground[:40], texture(100 + t, SIZE)[40:]])

    assert explains_more(camera, range(12), frame, nothing) == pans


def test_a_few_places_do_not_decide() -> None:
    """A small mover over noise that nothing explains."""
    moving, camera = shifted(12, 3)

    def frame(t: int) -> np.ndarray:
        out = texture(100 + t, SIZE)
        out[50:74, :24] = moving[t][50:74, :24]
        return out

    assert not explains_more(camera, range(12), frame, nothing)


def test_noise_does_not_hide_a_slow_pan() -> None:
    rng = np.random.default_rng(3)
    frames, camera = shifted(12, 1)
    noisy = [np.clip(f + rng.normal(0, 8, f.shape), 0, 255).astype(np.uint8) for f in frames]
    assert explains_more(camera, range(12), noisy.__getitem__, nothing)


def beside_things(drift: float, tremble: float = 0.0) -> tuple[list[np.ndarray], Camera]:
    """Ground that shifts by 2 pixels a frame at its nearest, less and the other way farther off,
    and things on a fifth of it that drift by up to `drift` pixels a frame; homographies of the
    ground.

    A camera on a dolly sees that, who turns so that the things stay in view; or, with no drift, a
    tripod before whose things something else moves. tremble: pixels, of the camera, besides.
    """
    rng = np.random.default_rng(5)
    ground, things = texture(2, (SIZE[0], SIZE[1] + 120)), texture(3, (SIZE[0], SIZE[1] + 40))
    frames, motions = [], np.tile(np.eye(3), (12, 1, 1))
    wide = {"dsize": SIZE[::-1], "flags": cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP}
    spots = [(x, y, v) for v, (x, y) in enumerate(np.mgrid[20:181:40, 12:110:24].reshape(2, -1).T)]
    for t in range(12):
        # Over the middle row it shifts to the other side.
        shear = np.array([[1, t * 4 / SIZE[0], -t * 2.0], [0, 1, 0]])
        motions[t, :2] = shear
        seen = cv2.warpAffine(ground, shear + np.array([[0, 0, 60], [0, 0, 0]]), **wide)
        for x, y, v in spots:
            speed = drift * (1 - 2 * (v * 7 % len(spots)) / len(spots))
            by = np.array([[1, 0, 20 + speed * t], [0, 1, 0]])
            place = np.s_[y : y + 14, x - round(speed * t) : x - round(speed * t) + 18]
            seen[place] = cv2.warpAffine(things, by, **wide)[place]
        shake = np.array([[1, 0, 0], [0, 1, 0.0]])
        shake[:, 2] = rng.normal(0, tremble, 2)
        noisy = cv2.warpAffine(seen, shake, **wide) + rng.normal(0, 2, seen.shape)
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return frames, Camera(motions, SIZE)


@pytest.mark.parametrize(
    ("drift", "tremble", "moves"),
    [(0.6, 0.0, True), (0.8, 0.0, True), (0.0, 0.0, False), (0.0, 0.3, False)],
)
def test_parallax_is_not_what_stands_still(drift: float, tremble: float, moves: bool) -> None:
    frames, camera = beside_things(drift, tremble)
    assert explains_more(camera, range(12), frames.__getitem__, nothing) == moves


def test_where_nothing_goes_far_votes_must_be_clear() -> None:
    """Half a pixel a frame: nobody can tell parallax from what stands still."""
    moving, camera = shifted(12, 1)
    still = texture(1, SIZE)
    slow = Camera(camera.homographies[np.arange(12) // 2], SIZE)

    def frame(t: int) -> np.ndarray:
        return np.concatenate([moving[t // 2][:96], still[96:]])

    assert not explains_more(slow, range(12), frame, nothing)


def test_a_wall_behind_the_ground_contradicts_no_camera() -> None:
    """It moves much less and is most of the frame, but the ground does not move with it."""
    count = 12
    near, far = (texture(s, (SIZE[0], SIZE[1] + 4 * count)) for s in (6, 7))
    motions = np.tile(np.eye(3), (count, 1, 1))
    motions[:, 0, 2] = 4 * np.arange(count)

    def frame(t: int) -> np.ndarray:
        return np.concatenate([far[:66, t : t + SIZE[1]], near[66:, 4 * t : 4 * t + SIZE[1]]])

    assert explains_more(Camera(motions, SIZE), range(count), frame, nothing)

"""Ground under effects that never leave: its texture is told by the shaded frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.fill import fill_hole
from omnimatte_cli.plate.median import estimate_plate
from omnimatte_cli.plate.refine import refine_plate
from omnimatte_cli.plate.relit import Look, relit
from omnimatte_cli.plate.seams import with_differences
from omnimatte_cli.plate.temporal import frame_plates
from omnimatte_cli.progress import Silent

HEIGHT, WIDTH, FRAMES = 96, 128, 24
Shade = Callable[[np.ndarray, np.ndarray], np.ndarray]


def floor() -> np.ndarray:
    """Tiles that no patch fits: each has its own brightness. (H, W, 3) float32 levels."""
    rng = np.random.default_rng(3)
    tiles = rng.uniform(60, 220, (16, 22, 1)).repeat(6, 0).repeat(6, 1)[:HEIGHT, :WIDTH]
    return np.float32(tiles * (1, 0.95, 0.8))


def shadow(ground: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return ground * (1 - 0.6 * amount[..., None])


def haze(ground: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """A mirror image, whose light is added."""
    return ground + amount[..., None] * np.float32((30, 20, 10))


def passing(t: int, reach: float = 9.0) -> np.ndarray:
    """How strong an effect of three lobes is that sway to and fro, (H, W) in [0, 1]: in the middle
    there always is some."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    left = np.ones((HEIGHT, WIDTH), np.float32)
    for lobe in range(3):
        sway = reach * np.sin((0.4 + 0.15 * lobe) * t + 2 * lobe)
        within = np.hypot((x - 52 - 12 * lobe - sway) / 16, (y - 48) / 15) < 1
        left *= np.where(within, np.float32(0.65 + 0.015 * sway), 1)
    return cv2.GaussianBlur(1 - left, (0, 0), 0.7)


def frames_of(shade: Shade, reach: float = 9.0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) uint8 with noise, and where the effect is, (T, H, W) bool."""
    rng = np.random.default_rng(5)
    amounts = np.stack([passing(t, reach) for t in range(FRAMES)])
    frames = np.stack([shade(floor(), a) + rng.normal(0, 1, (HEIGHT, WIDTH, 1)) for a in amounts])
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8), amounts > 0.02


def looks_at(frames: np.ndarray, taken: np.ndarray) -> Callable[..., Iterator[Look]]:
    nothing = np.zeros((HEIGHT, WIDTH), bool)

    def looks(box) -> Iterator[Look]:
        for frame, owned in zip(frames, taken, strict=True):
            yield Look(frame[box.slices], nothing[box.slices], owned[box.slices])

    return looks


def error(plate: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(plate - floor())[where].mean())


@pytest.mark.parametrize("shade", [shadow, haze])
@pytest.mark.parametrize("deep", [False, True])
def test_shaded_tiles_are_told(shade: Shade, deep: bool) -> None:
    frames, taken = frames_of(shade)
    hole = taken.sum(0) > FRAMES - 3
    assert hole.mean() > 0.05
    plate = np.clip(np.rint(floor()), 0, 255).astype(np.uint8)
    plate[hole] = frames[0][hole]
    if deep:
        frames, plate = frames.astype(np.uint16) * 257, plate.astype(np.uint16) * 257
    result, told = relit(plate, hole, looks_at(frames, taken))
    assert result.dtype == plate.dtype
    assert told[hole].mean() > 0.5 and not told[~hole].any()
    assert np.array_equal(result[~told], plate[~told])
    scale = 257 if deep else 1
    assert 3 * error(result / scale, told) < error(fill_hole(plate, hole) / scale, told)


def test_an_effect_that_rests_tells_nothing() -> None:
    frames, taken = frames_of(shadow, reach=0)
    hole = taken.all(0)
    _, told = relit(frames[0], hole, looks_at(frames, taken))
    assert not told.any()


def test_differences_that_are_wrong_around_are_not_believed() -> None:
    """What is owned is no effect on this ground: it is a picture of something else."""
    rng = np.random.default_rng(8)
    frames, taken = frames_of(shadow)
    other = cv2.GaussianBlur(rng.uniform(0, 255, floor().shape).astype(np.float32), (0, 0), 1.5)
    strange = np.clip(128 + 4 * (other - 128), 0, 255)
    for t in range(FRAMES):
        frames[t][taken[t]] = (strange * (0.5 + 0.5 * passing(t)[..., None]))[taken[t]]
    hole = taken.sum(0) > FRAMES - 3
    _, told = relit(np.uint8(np.rint(floor())), hole, looks_at(frames, taken))
    assert not told.any()


def test_a_plate_keeps_its_tiles_under_a_shadow_that_never_leaves() -> None:
    frames, taken = frames_of(shadow)
    masks = np.zeros((1, *taken.shape), bool)
    masks[:, :, 4:9, 4:9] = True
    packed = Masks.from_arrays(masks, ["walker"])
    samples = FrameSamples.of(frames)
    first = estimate_plate(samples, packed)
    plate = refine_plate(samples, first, lambda t: taken[t], packed, Silent())
    hole = taken.sum(0) > FRAMES - 3
    assert not plate.valid[hole].any()  # still a guess, though a good one
    assert error(plate.image, hole) < 20  # 47 of patches alone


def test_a_canvas_keeps_them_too() -> None:
    """The camera slides by a pixel in two frames."""
    frames, taken = frames_of(shadow)
    shifts = np.arange(FRAMES) // 2
    width = WIDTH - int(shifts[-1])
    views = [slice(s, s + width) for s in shifts]
    seen = np.stack([f[:, v] for f, v in zip(frames, views, strict=True)])
    owned = np.stack([x[:, v] for x, v in zip(taken, views, strict=True)])
    motions = np.tile(np.eye(3), (FRAMES, 1, 1))
    motions[:, 0, 2] = shifts
    camera = Camera(motions, (HEIGHT, width))
    nothing = np.zeros((HEIGHT, width), bool)
    t = FRAMES // 2
    (plate,) = frame_plates(
        lambda: iter(seen), camera, lambda _: nothing, lambda t: owned[t], wanted=[t]
    )
    hole = taken.all(0)[:, views[t]]
    assert hole.sum() > 500
    apart = np.abs(plate.image - floor()[:, views[t]])[hole].mean()
    assert apart < 15  # 39 of patches alone


def test_differences_are_solved_as_least_squares_has_them() -> None:
    rng = np.random.default_rng(2)
    h, w = 7, 9
    values = rng.uniform(0, 100, (h, w, 3))
    hole = np.zeros((h, w), bool)
    hole[2:5, 3:8] = True
    grid = np.arange(h * w).reshape(h, w)
    ends = ((grid[:, :-1], grid[:, 1:]), (grid[:-1], grid[1:]))
    p, q = (np.concatenate([pair[k].ravel() for pair in ends]) for k in (0, 1))
    touched = hole.ravel()[p] | hole.ravel()[q]
    p, q = p[touched], q[touched]
    change, weight = rng.normal(0, 10, (len(p), 3)), rng.uniform(0.1, 1, len(p))
    hold = 0.05
    found = with_differences(values, hole, p, q, change, weight, hold)
    assert np.array_equal(found[~hole], values[~hole])

    inside = np.flatnonzero(hole)
    rows, right = [], []
    flat = values.reshape(-1, 3)
    for a, b, c, k in zip(p, q, change, np.sqrt(weight), strict=True):
        row, known = np.zeros(hole.size), c.copy()
        for pixel, sign in ((b, 1.0), (a, -1.0)):
            if hole.ravel()[pixel]:
                row[pixel] = sign
            else:
                known -= sign * flat[pixel]
        rows.append(k * row[inside])
        right.append(k * known)
    rows += list(np.sqrt(hold) * np.eye(len(inside)))
    right += list(np.sqrt(hold) * flat[inside])
    expected = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    np.testing.assert_allclose(found[hole], expected, atol=0.05)

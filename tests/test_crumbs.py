"""What scarce samples leave of effects beside a hole, and the detail that fills one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.plate.crumbs import crumbs
from omnimatte_cli.plate.ripples import rippled

SIZE = (96, 160)


def ground(texture: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (*SIZE, 3)).astype(np.float32), (0, 0), 1.5)
    light = np.linspace(120, 150, SIZE[1])[None, :, None]
    return np.clip(light + texture * noise / noise.std(), 0, 255).astype(np.uint8)


def torn(texture: float, depth: np.dtype | type = np.uint8) -> tuple[np.ndarray, ...]:
    """A plate with a hole, samples a pixel, and a dark bit of an effect at the hole's rim."""
    image, count = ground(texture), np.full(SIZE, 12, np.uint8)
    hole, bit = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    hole[40:60, 60:90], bit[44:50, 90:95] = True, True
    count[36:64, 56:98] = 3
    count[hole] = 0
    image[bit] = image[bit] // 2
    deep = image.astype(depth) * (257 if depth == np.uint16 else 1)
    return deep.astype(depth), count, hole, bit


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_piece_of_an_effect_on_plain_ground_counts_as_never_seen(depth: type) -> None:
    image, count, hole, bit = torn(2.0, depth)
    found = crumbs(image, count, hole)
    assert found[bit].mean() > 0.9
    assert not found[~cv2.dilate(bit.view(np.uint8), np.ones((5, 5))).astype(bool)].any()


def test_ground_with_texture_tells_nothing() -> None:
    image, count, hole, bit = torn(30.0)
    image[bit] = ground(30.0)[bit]
    assert crumbs(image, count, hole)[count == 3].mean() < 0.05
    image[bit] = image[bit] // 2
    assert crumbs(image, count, hole)[bit].mean() < 0.1


def test_what_is_well_seen_or_far_from_the_hole_stays() -> None:
    image, count, hole, bit = torn(2.0)
    count[bit] = 9
    assert not crumbs(image, count, hole).any()
    image, count, _, _ = torn(2.0)
    far = np.zeros(SIZE, bool)
    far[5, 5] = True
    assert not crumbs(image, count, far).any()
    assert not crumbs(image, count, np.zeros(SIZE, bool)).any()


def lake() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A plate with ripples, a canvas without, and a hole in the former."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = 6 * np.sin(y * 1.2 + 0.3 * np.sin(x / 9))
    canvas = np.full((*SIZE, 3), 120, np.uint8)
    plate = np.clip(120 + waves[..., None] + np.zeros(3), 0, 255).round().astype(np.uint8)
    hole = np.zeros(SIZE, bool)
    hole[40:64, 60:100] = True
    return plate, canvas, hole


def test_a_filled_lake_has_ripples() -> None:
    plate, canvas, hole = lake()
    flat = np.where(hole[..., None], canvas, plate)
    found = rippled(flat, plate, canvas, hole, ~hole)
    assert np.array_equal(found[~hole], flat[~hole])
    there, around = found[44:60, 64:96].std(), plate[44:60, :50].std()
    assert there == pytest.approx(around, rel=0.2)
    # They are those of the same rows.
    apart = np.abs(found.astype(float) - plate)[hole].mean()
    assert apart < 0.6 * np.abs(flat.astype(float) - plate)[hole].mean()


def test_what_the_canvas_shows_as_well_is_left() -> None:
    plate, _, hole = lake()
    still = rippled(plate, plate, plate, hole, ~hole)
    assert np.array_equal(still, plate)


def test_other_ground_is_no_ripple() -> None:
    """A fence beside sand in the same rows: its planks are no detail of the sand."""
    plate, canvas, hole = lake()
    planks = (np.arange(SIZE[1]) // 2 % 2 * 12)[None, :, None]
    fence = np.zeros(SIZE, bool)
    fence[:, :40] = fence[:, 120:] = True
    plate = np.where(fence[..., None], 80 + planks, np.where(hole[..., None], 0, 120))
    plate = plate.astype(np.uint8) * np.ones(3, np.uint8)
    canvas[fence] = 86
    flat = np.where(hole[..., None], canvas, plate)
    assert np.abs(rippled(flat, plate, canvas, hole, ~hole).astype(int) - flat).max() <= 2


def test_a_thing_beside_the_hole_is_not_copied() -> None:
    plate, canvas, hole = lake()
    plate[48:54, 10:58] = 10
    plate[48:54, 102:150] = 10
    flat = np.where(hole[..., None], canvas, plate)
    found = rippled(flat, plate, canvas, hole, ~hole)
    assert found[hole].min() > 90

"""What is never seen: continued from patches, without seams, smooth where the ground is."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.plate.fill import fill_hole, fringed, membrane, smooth_fill
from omnimatte_cli.plate.patches import find_sources
from omnimatte_cli.plate.seams import copied
from tests.moving_clips import plane


def psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    error = (image.astype(float) - truth)[where]
    return float(10 * np.log10(255**2 / (error**2).mean()))


def stripes() -> np.ndarray:
    x = np.arange(160)
    row = 127 + 100 * np.sign(np.sin(x / 3.0))
    return np.repeat(np.repeat(row[None, :, None], 120, 0), 3, 2).astype(np.uint8)


def block(top: int, left: int, height: int, width: int, size=(120, 160)) -> np.ndarray:
    hole = np.zeros(size, bool)
    hole[top : top + height, left : left + width] = True
    return hole


def without(image: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The image with a colour in the hole that is nowhere else."""
    return np.where(hole[..., None], (255, 0, 255), image).astype(image.dtype)


@pytest.mark.parametrize(
    ("hole", "least"),
    [(block(40, 60, 35, 40), 18), (block(40, 0, 35, 30), 13), (block(80, 60, 40, 40), 13)],
)
def test_a_texture_is_continued(hole: np.ndarray, least: float) -> None:
    """Stripes go through a hole, where a smooth fill has their mean; also at the border."""
    image = stripes()
    damaged = without(image, hole)
    filled = fill_hole(damaged, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    assert psnr(filled, image, hole) > least
    assert psnr(smooth_fill(damaged, hole), image, hole) < 10
    assert np.array_equal(filled, fill_hole(damaged, hole))


def test_a_horizon_goes_through_the_hole() -> None:
    """Grainy ground below, flat sky above: each stays on its side of the line."""
    rng = np.random.default_rng(0)
    image = np.full((120, 160, 3), (170, 190, 220), np.float32)
    image[60:] = (90, 80, 60)
    image[60:] += rng.normal(0, 12, (60, 160, 1))
    image = np.clip(image, 0, 255).astype(np.uint8)
    hole = block(30, 60, 60, 36)
    filled = fill_hole(without(image, hole), hole).astype(float)
    sky, ground = hole.copy(), hole.copy()
    sky[57:], ground[:63] = False, False
    assert np.abs(filled[sky] - (170, 190, 220)).mean() < 6
    assert np.abs(filled[ground].mean(0) - (90, 80, 60)).max() < 12
    assert 6 < filled[ground].std(0).min() < 18  # as grainy as the ground


def test_a_smooth_ground_stays_smooth() -> None:
    y, x = np.mgrid[:100, :140].astype(np.float32)
    image = np.stack([60 + x, 200 - x / 2, 40 + y], -1).astype(np.uint8)
    hole = block(30, 40, 30, 50, (100, 140))
    smooth = smooth_fill(without(image, hole), hole).astype(int)
    assert np.abs(smooth - image)[hole].max() < 25
    filled = fill_hole(without(image, hole), hole).astype(int)
    assert np.abs(filled - image)[hole].max() < 15
    steps = np.abs(np.diff(filled, axis=1)).max(2)[:, :-1]
    assert np.percentile(steps[hole[:, 1:-1]], 99) < 8


def test_depth_is_kept() -> None:
    image, hole = plane(seed=1)[300:380, 300:420], block(25, 40, 30, 34, (80, 120))
    deep = fill_hole(without(image, hole).astype(np.uint16) * 257, hole)
    assert deep.dtype == np.uint16
    apart = np.abs(deep / 257 - fill_hole(without(image, hole), hole))
    assert apart.max() <= 1


def test_what_lies_outside_is_no_source_and_only_goes_on() -> None:
    image = stripes()
    outside = block(0, 110, 120, 50)
    hole = block(40, 50, 30, 40)
    damaged = without(image, hole | outside)
    filled = fill_hole(damaged, hole | outside, outside)
    assert psnr(filled, image, hole) > 15
    assert np.abs(filled[outside].astype(int) - (255, 0, 255)).max(1).min() > 60
    assert fill_hole(image, np.zeros_like(hole)) is image
    everything = np.ones_like(hole)
    assert fill_hole(image, everything) is image


def test_too_few_sources_are_filled_smoothly() -> None:
    image = plane(seed=1)[300:330, 300:340]
    hole = np.ones((30, 40), bool)
    hole[:4, :4] = False
    assert find_sources(image, hole, np.zeros_like(hole)) is None
    assert fill_hole(without(image, hole), hole).shape == image.shape


def test_the_fringe_of_an_object_belongs_to_the_hole() -> None:
    count = np.full((120, 160), 40)
    count[50:70, 50:70] = 3
    hole = block(52, 52, 16, 16)
    count[hole] = 0
    assert np.array_equal(fringed(hole, count), block(50, 50, 20, 20))
    # What some frames show with no object near is seen well, though by few.
    clear = np.zeros_like(count)
    clear[:60] = 3
    upper = block(50, 50, 10, 20) & ~hole
    assert np.array_equal(fringed(hole, count, lambda _: clear), block(50, 50, 20, 20) & ~upper)
    count[~hole] = 40
    assert np.array_equal(fringed(hole, count), hole)


@pytest.mark.parametrize("gain", [0.9, 1.1])
def test_what_is_put_in_meets_the_edge(gain: float) -> None:
    """Darker or brighter: it is shifted by what it is off around the hole."""
    image = (plane(seed=1)[300:400, 300:440] * 0.9).astype(np.uint8)
    hole = block(30, 40, 40, 60, (100, 140))
    other = (image * gain).astype(np.uint8)
    joined = membrane(np.where(hole[..., None], 0, image).astype(np.uint8), other, hole)
    assert np.array_equal(joined[~hole], image[~hole])
    assert psnr(joined, image, hole) > psnr(other, image, hole) + 6


def test_an_edge_that_does_not_go_on_is_not_drawn_in() -> None:
    """What touches the hole at one side, and is not in what is put in, leaves no smear."""
    image = np.full((100, 140, 3), 120, np.uint8)
    hole = block(30, 40, 40, 60, (100, 140))
    image[45:55, 100:104] = 0
    joined = membrane(image, np.full((100, 140, 3), 115, np.uint8), hole)
    assert np.abs(joined[hole].astype(int) - 120).max() < 8


def test_a_colour_beside_the_hole_does_not_bleed_into_it() -> None:
    """What is copied is a slightly darker ground; a red thing stands at the hole's side."""
    image = np.full((100, 160, 3), 150, np.uint8)
    image[:, 90:] = 140
    hole = block(30, 40, 40, 40, (100, 160))
    image[35:60, 25:40] = (230, 60, 30)
    image[hole] = (0, 255, 0)
    sources = np.where(hole, np.arange(hole.size).reshape(hole.shape) + 60, -1)
    filled = copied(image, hole, hole, sources)
    assert np.abs(filled[hole].astype(int) - 150).max() < 8


def test_a_thin_long_hole_is_compared_with_few_places() -> None:
    from omnimatte_cli.plate import patches

    source = np.ones((400, 600), bool)
    level = patches._Level(
        np.zeros((400, 600, 5), np.float32), ~source, source.astype(np.float32), source
    )
    assert len(patches._compared(level, 100)) == patches.SOURCES[1]
    assert len(patches._compared(level, 10**6)) == patches.SOURCES[0]
    few = np.zeros_like(source)
    few[10:20, 10:40] = True
    level = patches._Level(level.features, ~few, level.weight, few)
    assert np.array_equal(patches._compared(level, 10**6), np.flatnonzero(few))

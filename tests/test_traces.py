"""What an object leaves behind is no plate: the ground from before it came is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks, Plate
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.median import Coverage, Medians
from omnimatte_cli.plate.refine import refine_plate
from omnimatte_cli.plate.traces import traces
from omnimatte_cli.progress import Silent

SIZE = (48, 96)
FRAMES = 44
WIDE = 12  # pixels, of a boat
TRACK = np.s_[20:32]


def ground() -> np.ndarray:
    noise = np.random.default_rng(5).integers(60, 120, (*SIZE, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def passing(
    start: int, trail: int, grain: float = 2.0, dtype: type = np.uint8
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) and masks (T, H, W) of a boat that crosses the picture from frame `start`
    on, by 8 pixels a frame, and leaves its way brighter by `trail` levels."""
    rng = np.random.default_rng(1)
    frames = np.repeat(ground()[None].astype(np.float32), FRAMES, 0)
    masks = np.zeros((FRAMES, *SIZE), bool)
    for t in range(FRAMES):
        front = 8 * (t - start)
        frames[t, TRACK, : max(0, front - WIDE)] += trail
        masks[t, TRACK, max(0, front - WIDE) : max(0, front)] = True
        frames[t][masks[t]] = 240
        frames[t] += rng.normal(0, grain, frames[t].shape)
    scale = np.iinfo(dtype).max // 255
    return (np.clip(frames, 0, 255).round() * scale).astype(dtype), masks


def plates(frames: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The median outside the masks, the same without traces, and where these are."""
    samples = FrameSamples.of(frames)
    coverage = Coverage(SIZE, samples.indices, lambda t: masks[t])
    medians, where = Medians(samples), traces(samples, coverage)
    return medians.of(coverage), medians.of(coverage.until_hidden(where)), where


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_trail_that_stays_is_taken_out(dtype: type) -> None:
    level = np.iinfo(dtype).max // 255
    plain, better, where = plates(*passing(14, 60, dtype=dtype))
    truth = ground().astype(np.float32)
    assert np.abs(plain / level - truth)[TRACK, :60].mean() > 30  # most samples show the trail
    assert np.abs(better / level - truth).mean() < 1.5
    assert np.abs(better / level - truth)[TRACK, :60].max() < 8
    assert better.dtype == dtype and not where[:16].any() and where[22:30, :60].all()


@pytest.mark.parametrize("grain", [2.0, 20.0])
def test_where_nothing_is_left_behind_the_median_stays(grain: float) -> None:
    plain, better, where = plates(*passing(14, 0, grain))
    assert not where.any() and np.array_equal(plain, better)


def test_a_few_frames_from_before_tell_nothing() -> None:
    """Whoever is in sight from the start may just as well uncover what was there all the time."""
    plain, better, where = plates(*passing(1, 60))
    assert not where[:, :40].any() and where[22:30, 64:].any()
    assert np.array_equal(plain[:, :40], better[:, :40])


def test_what_stays_hidden_from_its_first_time_on() -> None:
    _, masks = passing(14, 0)
    coverage = Coverage(SIZE, list(range(FRAMES)), lambda t: masks[t], grow=0)
    where = np.mgrid[: SIZE[0], : SIZE[1]][1] < 50
    rest = coverage.until_hidden(where)
    hidden = rest.rows(slice(None))
    assert hidden is not None
    assert np.array_equal(hidden, np.where(where, np.logical_or.accumulate(masks), masks))
    assert np.array_equal(rest.count, (~hidden).sum(0))


def test_the_refined_plate_is_without_traces() -> None:
    frames, masks = passing(14, 60)
    samples = FrameSamples.of(frames)
    packed = Masks.from_arrays(masks[None], ["boat"])
    first = Plate(np.median(frames, 0).astype(np.uint8), np.ones(SIZE, bool))
    plate = refine_plate(samples, first, lambda t: masks[t], packed, Silent())
    assert np.abs(plate.image.astype(float) - ground())[TRACK, :60].max() < 8

"""Masks that blink are mended, and what moves or is hidden keeps its mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.segment.mend import mend_masks

T, HEIGHT, WIDTH = 9, 64, 112
RNG = np.random.default_rng(3)
GROUND = cv2.resize(
    RNG.uniform(60, 190, (12, 20, 3)).astype(np.float32),
    (WIDTH, HEIGHT),
    interpolation=cv2.INTER_CUBIC,
)
BODY = cv2.resize(
    RNG.uniform(40, 220, (9, 9, 3)).astype(np.float32), (28, 36), interpolation=cv2.INTER_CUBIC
)


def clip() -> tuple[np.ndarray, np.ndarray]:
    """A textured box that walks over a textured ground, and its masks (T, H, W)."""
    frames = np.repeat(GROUND[None], T, 0)
    masks = np.zeros((T, HEIGHT, WIDTH), bool)
    for t in range(T):
        x = 15 + 4 * t
        frames[t, 14:50, x : x + 28] = BODY
        masks[t, 14:50, x : x + 28] = True
    return np.clip(frames + 0.5, 0, 255).astype(np.uint8), masks


def mended(frames: np.ndarray, given: np.ndarray) -> tuple[np.ndarray, list[str]]:
    masks = Masks.from_arrays(given[None], ["box"])
    found, notes = mend_masks(frames, masks, given[None], range(100, 100 + T))
    return np.stack([found.at(0, t) for t in range(T)]), notes


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("fault", ["half", "gone", "grown"])
def test_a_blink_is_mended(fault: str) -> None:
    frames, truth = clip()
    given = truth.copy()
    if fault == "half":
        given[4, 30:] = False
    elif fault == "gone":
        given[4] = False
    else:
        given[4, 4:60, 70:100] = True
    found, notes = mended(frames, given)
    assert iou(given[4], truth[4]) < 0.7
    assert iou(found[4], truth[4]) > 0.87
    assert len(notes) == 1 and "box" in notes[0] and "frame 104:" in notes[0]
    others = [t for t in range(T) if t != 4]
    assert np.array_equal(found[others], given[others])


def test_good_masks_are_left_alone() -> None:
    frames, truth = clip()
    found, notes = mended(frames, truth)
    assert notes == [] and np.array_equal(found, truth)


def test_what_passes_behind_something_keeps_its_hole() -> None:
    frames, truth = clip()
    given = truth.copy()
    frames[4, :, 40:52] = (20, 200, 20)  # something stands before it for one frame
    given[4, :, 40:52] = False
    found, _ = mended(frames, given)
    assert np.array_equal(found[4], given[4])


def test_an_object_that_comes_in_is_no_blink() -> None:
    frames, truth = clip()
    given = truth.copy()
    given[:4] = False
    found, notes = mended(frames, given)
    assert notes == [] and np.array_equal(found, given)

"""Scores and preview of a frame against plain versions of them."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.arrays import to_float
from omnimatte_cli.deliver.preview import checkerboard
from omnimatte_cli.deliver.result import CHECKS, VISIBLE_ALPHA, frame_scores, on_checker
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.matte.quantise import quantise_layers

SIZE = (48, 80)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("empty", [False, True])
def test_scores_are_those_of_all_pixels(kind: type, empty: bool) -> None:
    rng = np.random.default_rng(0)
    top = np.iinfo(kind).max
    frame, plate = (rng.integers(0, top + 1, (*SIZE, 3)).astype(kind) for _ in range(2))
    rgba = np.zeros((2, *SIZE, 4), np.float32)
    if not empty:
        rgba[0, 10:30, 12:40] = rng.random((20, 28, 4))
        rgba[1, 25:44, 30:70] = rng.random((19, 40, 4)) * 0.5
    below, truth = to_float(plate), to_float(frame)
    written = quantise_layers(rgba, below, [1, 0])
    found = frame_scores(frame, plate, written)
    seen = (written.rgba[..., 3] > VISIBLE_ALPHA * 255).any(0)
    for name, (picture, where) in {
        "after_detail": (written.composite, np.ones(SIZE, bool)),
        "after_detail_in_layers": (written.composite, seen),
        "plate_outside_layers": (below, ~seen),
    }.items():
        plain = PSNR()
        plain.add(picture, truth, where)
        assert found[name].count == plain.count
        if plain.count:
            assert found[name].value == pytest.approx(plain.value, abs=1e-4)
        else:
            assert found[name].value is None
    assert (written.box is None) == empty


def test_a_layer_stands_on_its_board() -> None:
    rng = np.random.default_rng(1)
    rgba = np.zeros((*SIZE, 4), np.uint8)
    rgba[8:20, 30:64] = rng.integers(0, 256, (12, 34, 4))
    board = checkerboard(SIZE, max(4, SIZE[0] // CHECKS)).astype(np.float32)
    alpha = to_float(rgba[..., 3:])
    plain = (board + alpha * (rgba[..., :3] - board) + 0.5).astype(np.uint8)
    assert np.abs(on_checker(rgba).astype(int) - plain).max() <= 1
    assert np.array_equal(on_checker(np.zeros_like(rgba)), board.astype(np.uint8))

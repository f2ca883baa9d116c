"""Windows: every frame gets its layer, hidden frames are where they should be."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.methods.coordination.windows import (
    draw_hidden,
    inference_windows,
    reflect,
    training_starts,
    training_window,
)


@pytest.mark.parametrize("gap", [1, 2, 3])
@pytest.mark.parametrize("length", range(1, 13))
def test_every_frame_is_predicted_once(length: int, gap: int) -> None:
    windows = list(inference_windows(length, gap))
    assert [w.target for w in windows] == list(range(length))
    for window in windows:
        assert all(0 <= f < length for f in window.frames)
        assert window.frames[2] == window.target
        if length > 4 * gap:  # long enough: the two visible frames are before or after the target
            steps = {b - a for a, b in zip(window.frames[:2], window.frames[1:3], strict=True)}
            forward = window.target >= 2 * gap
            assert steps == {gap if forward else -gap}
            assert window.target not in window.frames[:2]


def test_windows_of_the_paper() -> None:
    windows = list(inference_windows(24, 3))
    assert windows[10].frames == (4, 7, 10, 13, 16)
    assert windows[0].frames == (6, 3, 0, 3, 6)  # mirrored: what lies before frame 0 is reflected
    assert windows[23].frames == (17, 20, 23, 20, 17)


def test_reflect_is_the_mirror_of_numpy() -> None:
    for length in range(2, 8):
        padded = np.pad(np.arange(length), 3 * length, mode="reflect")
        expected = [int(padded[i + 3 * length]) for i in range(-3 * length, 4 * length)]
        assert [reflect(i, length) for i in range(-3 * length, 4 * length)] == expected


@pytest.mark.parametrize("length", range(3, 13))
def test_training_windows_stay_in_the_clip(length: int) -> None:
    for gap in (1, 2, 3):
        for start in range(training_starts(length, gap)):
            frames = training_window(start, length, gap)
            assert len(frames) == 5 and all(0 <= f < length for f in frames)


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_hiding_schemes(count: int) -> None:
    rng = np.random.default_rng(0)
    seen = {
        scheme: {tuple(draw_hidden(scheme, rng, hidden=count).tolist()) for _ in range(300)}
        for scheme in ("random", "prediction", "inpainting")
    }
    for patterns in seen.values():
        assert all(sum(p) == count for p in patterns)
    assert len(seen["inpainting"]) == 1
    last = (False,) * (5 - count) + (True,) * count
    assert seen["prediction"] == {last, last[::-1]}
    assert len(seen["random"]) == {0: 1, 1: 5, 3: 10, 4: 5}[count]

"""A frame's light against the plate's does not jump where two models of it are a close call."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.camera import exposure
from omnimatte_cli.camera.canvas import build_canvas
from omnimatte_cli.camera.exposure import Exposure, fit_exposure
from omnimatte_cli.camera.model import Camera
from tests.moving_clips import plane

SIZE = (72, 128)
SCENE = plane(3)[: SIZE[0], : SIZE[1]].astype(np.uint8)
EVERYWHERE = np.ones(SIZE, bool)


def lit(x: float, y: float = 0.0) -> np.ndarray:
    """The scene brighter to one side by a share, and by some levels."""
    side = np.linspace(-1, 1, SIZE[1])[:, None]
    return np.clip(np.rint(SCENE * 0.8 * np.exp(x * side) + y), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_large_offset_is_held_and_not_given_up(sign: int) -> None:
    most = exposure.MOST_OFFSET
    ramp = np.rint(np.linspace(40, 210, SIZE[1]))[None, :, None] * np.ones((SIZE[0], 1, 3))
    plate = ramp.astype(np.uint8)
    less, more = (
        fit_exposure((ramp + sign * y).astype(np.uint8), plate, EVERYWHERE, field=False)
        for y in (most, most + 8)
    )
    assert np.abs(less.offset).min() > most - 4
    assert (np.abs(more.offset) >= np.abs(less.offset) - 0.1).all()
    assert (np.abs(more.offset) <= most).all()


def test_light_has_a_field_in_all_frames_if_in_most(monkeypatch) -> None:
    frames = np.stack([lit(0.1 * np.sin(t)) for t in range(12)])
    still = Camera.static(len(frames), SIZE)
    fit, asked = fit_exposure, []

    def unsure(
        image: np.ndarray, plate: np.ndarray, usable: np.ndarray, field: bool | None = None
    ) -> Exposure:
        """As it is, but that in one frame a field hardly gains."""
        asked.append(field)
        alike = np.array_equal(image, frames[5])
        return fit(image, plate, usable, False if alike and field is None else field)

    monkeypatch.setattr("omnimatte_cli.camera.canvas.fit_exposure", unsure)
    canvas = build_canvas(lambda: iter(frames), still, lambda t: ~EVERYWHERE, range(len(frames)))
    assert True in asked and canvas.light_has_field
    assert canvas.exposures[5].field[0] == pytest.approx(0.1 * np.sin(5), abs=0.03)


def test_light_without_fields_is_left_to_each_frame() -> None:
    frames = np.stack(
        [np.rint(lit(0) * (0.9 + 0.1 * np.sin(t))).astype(np.uint8) for t in range(12)]
    )
    still = Camera.static(len(frames), SIZE)
    canvas = build_canvas(lambda: iter(frames), still, lambda t: ~EVERYWHERE, range(len(frames)))
    assert canvas.light_changes and canvas.light_has_field is None

"""Dense flow of pictures whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.flow import dense_flow, warp


def moved(x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """A soft random picture and the same moved by (x, y) pixels, (96, 128) uint8."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.normal(0, 1, (96, 128)).astype(np.float32), (0, 0), 2)
    picture = np.clip(128 + 200 * noise, 0, 255).astype(np.uint8)
    way = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return picture, cv2.warpAffine(picture, way, (128, 96), borderMode=cv2.BORDER_REFLECT)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("x, y", [(3, -2), (-1.5, 0.5), (0, 0)])
def test_search_finds_how_a_picture_moved(x: float, y: float, small: bool) -> None:
    picture, other = moved(x, y)
    found = dense_flow(picture, other, small)
    assert found.shape == (96, 128, 2) and found.dtype == np.float32
    assert np.abs(found[10:-10, 10:-10] - (x, y)).max() < 0.25
    back = warp(other, found)[10:-10, 10:-10].astype(int)
    assert np.abs(back - picture[10:-10, 10:-10]).mean() < 2


def test_search_in_a_small_picture_tells_small_things_apart() -> None:
    rng = np.random.default_rng(1)
    picture = np.zeros((96, 128), np.uint8)
    other = np.zeros((96, 128), np.uint8)
    # Stripes 6 pixels high that go left and right in turn.
    ways = np.where(np.arange(96) // 6 % 2, 2, -2)
    for y, way in enumerate(ways):
        if y % 6 == 0:
            row = cv2.GaussianBlur(rng.uniform(0, 255, (6, 160)), (0, 0), 1.5)
        stripe = np.clip(128 + 3 * (row[y % 6] - 128), 0, 255)
        picture[y], other[y] = stripe[16:144], stripe[16 - way : 144 - way]
    misses = [
        np.abs(dense_flow(picture, other, small)[12:-12, 12:-12, 0] - ways[12:-12, None]).mean()
        for small in (False, True)
    ]
    assert misses[1] < 0.8 * misses[0]

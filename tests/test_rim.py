"""Who owns the pixels just outside of a mask."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.matte import rim
from omnimatte_cli.matte.ownership import soft_edge
from omnimatte_cli.matte.rim import settled_rims

HEIGHT, WIDTH = 60, 80


def scene(size: tuple[int, int] = (HEIGHT, WIDTH)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A disc's mask (H, W) bool, its soft edge, and ownership that goes beyond by that edge."""
    h, w = size
    y, x = np.mgrid[:h, :w]
    body = np.hypot(x - w / 2, y - h / 2) < h / 5
    edge = soft_edge(body, 0.02 * float(np.sqrt(h * w)))
    return body, edge, np.where(edge > 0.05, 1, 0).astype(np.float32)[None]


def plainly(
    weights: np.ndarray, edge: np.ndarray, body: np.ndarray, change: np.ndarray, side: float
) -> np.ndarray:
    """Pixel by pixel, as the formula says, for pictures in which every pixel is looked at."""
    radius, result = rim.REACH * side, weights.astype(np.float64)
    steps = [round(k * max(radius / rim.TAPS, 1)) for k in range(-rim.TAPS, rim.TAPS + 1)]
    for y, x in zip(*np.nonzero((edge > rim.EDGE) & ~body), strict=True):
        total, count = np.zeros(len(weights)), 0.0
        for down in steps:
            for across in steps:
                row, column = y + down, x + across
                if down**2 + across**2 > radius**2 + 0.01 or body[row, column]:
                    continue
                apart = np.square(change[row, column] - change[y, x]).sum()
                far = (down**2 + across**2) / (rim.NEAR * radius) ** 2
                say = np.exp(-far / 2 - apart / rim.ALIKE**2 / 2)
                total += say * weights[:, row, column]
                count += say
        result[:, y, x] = total / count
    return result


def test_it_is_a_bilateral_filter_by_the_change() -> None:
    rng = np.random.default_rng(1)
    body, edge, weights = scene()
    two = np.concatenate([weights * 0.7, weights * 0.3])
    change = rng.normal(0, 0.03, (HEIGHT, WIDTH, 3)).astype(np.float32)
    side = float(np.sqrt(body.size))
    found = settled_rims(two, edge, body, change, side)
    np.testing.assert_allclose(found, plainly(two, edge, body, change, side), atol=2e-5)


def test_ringing_beside_a_body_is_nobodys_and_mixed_pixels_stay() -> None:
    body, edge, weights = scene()
    rng = np.random.default_rng(2)
    change = rng.normal(0, 0.008, (HEIGHT, WIDTH, 3)).astype(np.float32)
    mixed = (cv2.dilate(body.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & ~body
    change[mixed] -= 0.25
    change[body] -= 0.5
    found = settled_rims(weights, edge, body, change, float(np.sqrt(body.size)))[0]
    beyond = (edge > 0.05) & ~body & ~mixed
    assert weights[0][beyond].min() == 1 and found[beyond].mean() < 0.6
    assert found[mixed].min() > 0.9
    assert np.array_equal(found[body], weights[0][body])
    far = edge <= rim.EDGE
    assert np.array_equal(found[far], weights[0][far])


def test_a_shadow_at_the_foot_stays_owned() -> None:
    body, edge, weights = scene()
    shadow = np.zeros_like(body)
    shadow[HEIGHT // 2 :, WIDTH // 2 :] = True
    weights = np.maximum(weights, shadow[None])
    change = np.where(shadow[..., None], np.float32(-0.2), np.float32(0)).repeat(3, 2)
    found = settled_rims(weights, edge, body, change, float(np.sqrt(body.size)))[0]
    assert found[shadow].min() > 0.99


def test_large_pictures_are_looked_at_in_cells() -> None:
    """The same scene at four times the size has the same rims to a tenth, and shares add to 1."""
    size = (600, 800)
    body, edge, weights = scene(size)
    change = np.zeros((*size, 3), np.float32)
    change[body] = -0.5
    side = float(np.sqrt(body.size))
    assert side / rim.FINE > 2
    found = settled_rims(np.concatenate([weights, 1 - weights]), edge, body, change, side)
    assert found.sum(0).max() < 1 + 1e-5 and found.min() >= 0
    beyond = (edge > 0.05) & (edge < 0.25)
    assert found[0][beyond].mean() < 0.8


def test_without_a_mask_nothing_changes() -> None:
    weights = np.full((1, HEIGHT, WIDTH), 0.5, np.float32)
    nothing = np.zeros((HEIGHT, WIDTH), bool)
    change = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    assert settled_rims(weights, nothing * np.float32(0), nothing, change, 70.0) is weights

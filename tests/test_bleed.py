"""Colour that bled over an outline, against frames whose colour was really halved."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.matte.bleed import without_bleed
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.matte.ownership import FrameWeights
from omnimatte_cli.matte.resolve import resolve_frame

SIZE = (96, 128)
NOISE = 1.5 / 255
PLATE = (0.55, 0.55, 0.5)


def disc(radius: float = 24.3) -> np.ndarray:
    """Coverage of a disc off the centre, antialiased, (H, W) float32."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    return np.clip(radius + 0.5 - np.hypot(x - 60.4, y - 47.7), 0, 1)


def ground() -> np.ndarray:
    return np.full((*SIZE, 3), PLATE, np.float32)


def halved(frame: np.ndarray, quality: int = 95) -> np.ndarray:
    """Through a JPEG with 4:2:0 colour, (H, W, 3) float32."""
    x = np.rint(frame[..., ::-1] * 255).astype(np.uint8)
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]
    ok, data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])
    assert ok
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255


def painted(colour: tuple[float, float, float]) -> np.ndarray:
    cover = grey(disc())
    return (ground() * (1 - cover) + cover * np.float32(colour)).astype(np.float32)


def off(frame: np.ndarray, where: np.ndarray) -> float:
    """Root mean square difference from the plate, in levels."""
    return 255 * float(np.sqrt(np.square(frame - ground())[where].mean()))


@pytest.mark.parametrize("colour", [(0.8, 0.1, 0.1), (0.1, 0.2, 0.7), (0.9, 0.8, 0.1)])
def test_what_bled_onto_the_ground_is_gone(colour: tuple[float, float, float]) -> None:
    whole = painted(colour)
    frame = halved(whole)
    beside = (disc() == 0) & (cv2.dilate(disc(), np.ones((3, 3), np.uint8)) > 0.5)
    before, after = (
        off(frame, beside),
        off(without_bleed(frame, ground(), disc(), NOISE), beside),
    )
    assert before > 10
    assert after < 0.45 * before


def test_the_object_itself_keeps_its_pixels() -> None:
    frame = halved(painted((0.8, 0.1, 0.1)))
    clean = without_bleed(frame, ground(), disc(), NOISE)
    inside = disc() > 0.5
    assert np.abs(clean - frame)[inside].max() < 1 / 255


def test_full_colour_is_left_alone() -> None:
    frame = painted((0.8, 0.1, 0.1))
    clean = without_bleed(frame, ground(), disc(), NOISE)
    assert np.abs(clean - frame)[(disc() == 0) | (disc() > 0.1)].max() < 1e-3


def test_a_change_of_colour_alone_stays() -> None:
    # Light of another colour with the ground's brightness: nothing beside it bled.
    tint = np.float32([0.12, -0.05, -0.0574])
    assert abs(float(tint @ np.float32([0.299, 0.587, 0.114]))) < 1e-3
    frame = halved((ground() + grey(disc()) * tint).astype(np.float32))
    clean = without_bleed(frame, ground(), disc(), NOISE)
    assert np.abs(clean - frame)[disc() > 0].max() < 2 / 255


def test_a_line_of_equal_brightness_within_an_image_stays() -> None:
    # A picture that goes from darker than the ground to brighter has its brightness somewhere.
    x = np.linspace(0.2, 0.8, SIZE[1], dtype=np.float32)
    picture = np.broadcast_to(x[:, None] * np.float32([1.3, 0.9, 0.6]), (*SIZE, 3))
    frame = np.clip(picture, 0, 1).astype(np.float32)
    clean = without_bleed(frame, ground(), disc(), NOISE)
    size = np.linalg.norm(frame - ground(), axis=2)
    assert (np.linalg.norm(clean - frame, axis=2) < 0.4 * size).all()


def test_a_layer_ends_where_its_object_does() -> None:
    frame, mask = halved(painted((0.8, 0.1, 0.1))), disc() > 0.5
    near = cv2.dilate(mask.astype(np.float32), np.ones((9, 9), np.uint8))[None]  # owned
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)[None]
    owners, order = FrameWeights(near, soft, soft), np.array([0])
    layers = resolve_frame(frame, ground(), owners, order, NOISE, masks=mask[None])
    alpha = layers.rgba[0, ..., 3]
    beside = cv2.dilate(disc(), np.ones((7, 7), np.uint8)) > 0
    beside &= disc() == 0
    assert alpha[disc() == 1].min() > 0.95
    assert alpha[beside].mean() < 0.02

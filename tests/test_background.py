"""The plate: exact medians against NumPy's masked arrays, and plates that the user brings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.errors import PlateError, VideoError
from omnimatte_cli.plate.median import estimate, load, masked_median
from tests.conftest import encode, scene, write_masks


def reference(video: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Masked median over time, halves rounded up: (T, H, W, 3), (T, H, W) bool to (H, W, 3)."""
    hidden = np.repeat(hidden[..., None], 3, -1)
    return np.floor(np.ma.median(np.ma.array(video, mask=hidden), axis=0).filled(0) + 0.5)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9, 255, 256, 300])
def test_masked_median_is_exact(frames: int) -> None:
    rng = np.random.default_rng(frames)
    for low in (0, 252):  # any value; and many ties, with 255 among the real ones
        values = rng.integers(low, 256, (frames, 500), dtype=np.uint8)
        hidden = rng.random((frames, 500)) < rng.random(500)
        counts = (~hidden).sum(0)
        got = masked_median(np.where(hidden, np.uint8(255), values), counts)
        expected = np.ma.median(np.ma.array(values, mask=hidden), axis=0).filled(0)
        np.testing.assert_array_equal(got[counts > 0], np.floor(expected + 0.5)[counts > 0])


@pytest.mark.parametrize("budget", [1 << 20, 5000, 1])  # one pass, some strips, a row at a time
def test_estimate_in_strips(budget: int) -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (7, 20, 30, 3), dtype=np.uint8)
    hidden = rng.random((2, 7, 20, 30)) < 0.3
    masks = Masks.from_arrays(hidden, ("a", "b"))
    passes = []

    def frames():
        passes.append(1)
        return iter(video)

    got = estimate(frames, 7, (20, 30), masks, budget, dilate=0)
    valid = ~hidden.any(0).all(0)
    np.testing.assert_array_equal(got.valid, valid)
    np.testing.assert_array_equal(got.plate[valid], reference(video, hidden.any(0))[valid])
    assert len(passes) == {1 << 20: 1, 5000: 3, 1: 20}[budget] and got.moving is None


def test_without_masks_it_is_the_plain_median() -> None:
    video = np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)
    got = estimate(lambda: iter(video), 6, (12, 16), None)
    np.testing.assert_array_equal(got.plate, np.floor(np.median(video, axis=0) + 0.5))
    assert got.valid.all() and got.unseen_share == 0


def test_the_object_leaves_the_plate() -> None:
    """Masks that miss a pixel all round still give a clean plate, because they are grown."""
    video, masks = scene(9, (160, 240))
    plate = estimate(lambda: iter(video), 9, (160, 240), None).plate
    small = np.stack([cv2.erode(m.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for m in masks])
    got = estimate(lambda: iter(video), 9, (160, 240), Masks.from_arrays(small[None], ("a",)))
    clean, _ = scene(1, (160, 240))
    backdrop = np.where(masks[0][..., None], got.plate, clean[0])  # the scene where no block stands
    assert np.abs(got.plate.astype(int) - backdrop).max() == 0
    assert not masks.all(0).any() and got.valid.all() and plate.shape == got.plate.shape


def test_pixels_that_no_frame_shows_are_filled() -> None:
    video, masks = scene(5, (40, 60))
    masks[:, 20:26, 30:38] = True
    video[:, 20:26, 30:38] = (0, 255, 0)
    got = estimate(lambda: iter(video), 5, (40, 60), Masks.from_arrays(masks[None], ("a",)))
    hole = np.zeros((40, 60), bool)
    hole[20:26, 30:38] = True
    assert not got.valid[hole].any() and got.unseen_share < 0.05
    assert np.abs(got.plate[22, 33].astype(int) - got.plate[22, 45]).max() < 40  # no green left


def test_an_object_that_stands_still_keeps_its_surroundings() -> None:
    """What only the growth of the masks hides is taken from where the masks leave it free."""
    rng = np.random.default_rng(0)
    video = np.repeat(rng.integers(0, 256, (1, 30, 40, 3), dtype=np.uint8), 4, 0)
    masks = np.zeros((1, 4, 30, 40), bool)
    masks[:, :, 10:20, 10:20] = True
    got = estimate(lambda: iter(video), 4, (30, 40), Masks.from_arrays(masks, ("a",)), dilate=3)
    np.testing.assert_array_equal(got.valid, ~masks[0, 0])
    np.testing.assert_array_equal(got.plate[got.valid], video[0][got.valid])


def test_nothing_visible_at_all() -> None:
    video, _ = scene(4, (8, 12))
    masks = np.zeros((2, 4, 8, 12), bool)
    masks[0, :, :, :7] = masks[1, :, :, 6:] = True
    got = estimate(lambda: iter(video), 4, (8, 12), Masks.from_arrays(masks, ("a", "b")))
    assert got.unseen_share == 1
    np.testing.assert_array_equal(got.plate, np.floor(np.median(video, axis=0) + 0.5))


def test_a_video_that_ends_early() -> None:
    video, _ = scene(4)
    with pytest.raises(VideoError, match="ended after 4 of 6 frames"):
        estimate(lambda: iter(video), 6, (36, 64), None)


# ------------------------------------------------------------------------- plates from the user


class Said:
    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, total: int | None = None) -> None: ...

    def step(self, done: int, note: str = "") -> None: ...

    def say(self, message: str) -> None:
        self.said.append(message)


def test_load_a_still_plate(tmp_path: Path, clip) -> None:
    video, _ = clip
    path = tmp_path / "plate.png"
    cv2.imwrite(str(path), video[0][..., ::-1])
    said = Said()
    got = load(path, (36, 64), 6, said)
    np.testing.assert_array_equal(got.plate, video[0])
    assert got.valid.all() and got.moving is None and not said.said
    assert load(path, (72, 128), 6, said).plate.shape == (72, 128, 3)
    assert said.said == [f"The background {path} was resized from 64x36 to 128x72."]
    folder = tmp_path / "folder"
    folder.mkdir()
    path.rename(folder / "plate.png")
    assert load(folder, (36, 64), 6).moving is None


def test_load_a_plate_per_frame(tmp_path: Path, clip) -> None:
    video, _ = clip
    folder = write_masks(tmp_path / "plates", video[..., ::-1])
    lossless = encode(tmp_path / "plates.mkv", video, "-c:v", "libx264rgb", "-qp", "0")
    for source in (folder, lossless):
        got = load(source, (36, 64), 6)
        for _ in range(2):  # a stream can be opened again
            np.testing.assert_array_equal(np.stack(list(got.stream())), video)
        np.testing.assert_array_equal(got.plate, video[0])


def test_plates_that_do_not_fit(tmp_path: Path, clip) -> None:
    video, _ = clip
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), video[0])
    folder = write_masks(tmp_path / "plates", video)
    moving = encode(tmp_path / "plates.mkv", video, "-c:v", "ffv1")
    text = tmp_path / "text.png"
    text.write_text("no image")
    (tmp_path / "empty").mkdir()
    for source, size, frames, message in [
        (tmp_path / "no.png", (36, 64), 6, r"no\.png does not exist"),
        (text, (36, 64), 6, r"text\.png cannot be read"),
        (still, (36, 36), 6, "still.png is 64x36: not the aspect of the video, 36x36"),
        (folder, (36, 64), 7, "has 6 frames, the video 7"),
        (folder, (36, 64), 5, "has more than 5 frames, the video 5"),
        (moving, (72, 128), 6, r"plates\.mkv is 64x36, the video 128x72"),
        (tmp_path / "empty", (36, 64), 6, "empty is a folder without images"),
    ]:
        with pytest.raises(PlateError, match=message):
            load(source, size, frames)

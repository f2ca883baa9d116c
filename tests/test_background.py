"""The plate: exact medians against NumPy's masked arrays, and plates that the user brings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks, Plate
from omnimatte_cli.errors import OutputError, PlateError
from omnimatte_cli.matte.box import disc
from omnimatte_cli.matte.ownership import working_plates
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate import median
from omnimatte_cli.plate.load import check_scene, load_plate
from omnimatte_cli.plate.median import (
    Coverage,
    Medians,
    estimate_plate,
    grown_mask,
    median_of_free,
)
from omnimatte_cli.ranks import columns, masked_median, quantile, ranked
from tests.conftest import Said, encode, scene, write_masks


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


@pytest.mark.parametrize("count", [1, 2, 5, 40, 257])
def test_ranks_and_quantiles_are_numpys(count: int) -> None:
    rng = np.random.default_rng(count)
    values = rng.integers(0, 256, (count, 9000), dtype=np.uint8)
    for rank in {0, count // 3, count - 1}:
        np.testing.assert_array_equal(ranked(values, rank), np.sort(values, axis=0)[rank])
    numbers = rng.normal(size=count)
    for share in (0.0, 0.25, 0.6, 1.0):
        right = np.quantile(numbers, share)
        assert quantile(numbers, share) == right
        for near in (right, right / 3, 3 * right, 0.0):  # a guess changes nothing
            assert quantile(numbers, share, near) == right


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("budget", [1 << 20, 5000, 1])  # one pass, some strips, a row at a time
def test_estimate_in_strips(budget: int, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(median, "STRIP_BYTES", budget)
    rng = np.random.default_rng(0)
    video = rng.integers(0, np.iinfo(dtype).max, (7, 20, 30, 3), dtype=dtype, endpoint=True)
    hidden = rng.random((2, 7, 20, 30)) < 0.3
    masks = Masks.from_arrays(hidden, ("a", "b"))
    got = estimate_plate(FrameSamples.of(video), masks, grow=0)
    valid = ~hidden.any(0).all(0)
    assert got.image.dtype == dtype and got.moving is None
    np.testing.assert_array_equal(got.image[valid], reference(video, hidden.any(0))[valid])


def test_without_masks_it_is_the_plain_median() -> None:
    video = np.random.default_rng(0).integers(0, 256, (6, 12, 16, 3), dtype=np.uint8)
    got = estimate_plate(FrameSamples.of(video), None)
    np.testing.assert_array_equal(got.image, np.floor(np.median(video, axis=0) + 0.5))
    assert got.valid.all() and got.unseen_share == 0


def test_the_object_leaves_the_plate() -> None:
    """Masks that miss a pixel all round still give a clean plate, because they are grown."""
    video, masks = scene(9, (160, 240))
    plate = estimate_plate(FrameSamples.of(video), None).image
    small = np.stack([cv2.erode(m.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0 for m in masks])
    got = estimate_plate(FrameSamples.of(video), Masks.from_arrays(small[None], ("a",)))
    clean, _ = scene(1, (160, 240))
    backdrop = np.where(masks[0][..., None], got.image, clean[0])  # the scene where no block stands
    assert np.abs(got.image.astype(int) - backdrop).max() == 0
    assert not masks.all(0).any() and got.valid.all() and plate.shape == got.image.shape


def test_pixels_that_no_frame_shows_are_filled() -> None:
    video, masks = scene(5, (40, 60))
    masks[:, 20:26, 30:38] = True
    video[:, 20:26, 30:38] = (0, 255, 0)
    got = estimate_plate(FrameSamples.of(video), Masks.from_arrays(masks[None], ("a",)))
    hole = np.zeros((40, 60), bool)
    hole[20:26, 30:38] = True
    assert not got.valid[hole].any() and got.unseen_share < 0.05
    assert np.abs(got.image[22, 33].astype(int) - got.image[22, 45]).max() < 40  # no green left


def test_an_object_that_stands_still_keeps_its_surroundings() -> None:
    """What only the growth of the masks hides is taken from where the masks leave it free."""
    rng = np.random.default_rng(0)
    video = np.repeat(rng.integers(0, 256, (1, 30, 40, 3), dtype=np.uint8), 4, 0)
    masks = np.zeros((1, 4, 30, 40), bool)
    masks[:, :, 10:20, 10:20] = True
    got = estimate_plate(FrameSamples.of(video), Masks.from_arrays(masks, ("a",)), grow=3)
    np.testing.assert_array_equal(got.valid, ~masks[0, 0])
    np.testing.assert_array_equal(got.image[got.valid], video[0][got.valid])


def test_nothing_visible_at_all() -> None:
    video, _ = scene(4, (8, 12))
    masks = np.zeros((2, 4, 8, 12), bool)
    masks[0, :, :, :7] = masks[1, :, :, 6:] = True
    got = estimate_plate(FrameSamples.of(video), Masks.from_arrays(masks, ("a", "b")))
    assert got.unseen_share == 1
    np.testing.assert_array_equal(got.image, np.floor(np.median(video, axis=0) + 0.5))


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 33])
def test_samples_are_evenly_spread_and_bounded(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "omnimatte_cli.media.samples."
    monkeypatch.setattr(module + "SCRATCH_BYTES", 8 * 4 * 6 * 3 * 2)
    monkeypatch.setattr(module + "FEWEST_SAMPLES", 2)
    monkeypatch.setattr(module + "MEDIAN_SAMPLES", 5)
    video = np.random.default_rng(0).integers(0, 1 << 16, (frames, 4, 6, 3), dtype=np.uint16)
    samples = FrameSamples.of(video)
    kept = sorted(samples.kept)
    assert set(np.diff(kept)) <= {samples.stride} and min(frames, 4) <= len(kept) <= 8
    assert kept[-1] >= frames - samples.stride
    assert len(samples.indices) <= 5 and set(samples.indices) <= set(kept)
    for t in kept:
        np.testing.assert_array_equal(samples.frame(t), video[t])
    np.testing.assert_array_equal(samples.rows(slice(1, 3)), video[samples.indices, 1:3])
    assert samples.complete == (frames <= 8)
    if samples.complete:
        np.testing.assert_array_equal(np.stack(list(samples.stream())), video)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = FrameSamples()
    samples.add(0, np.zeros((4, 6, 3), np.uint8))
    samples.close()

    class Full:
        def seek(self, place: int) -> None: ...

        def close(self) -> None: ...

        def write(self, data: memoryview) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(samples, "file", Full())
    with pytest.raises(OutputError, match=r"has no room for .* TMPDIR"):
        samples.add(1, np.zeros((4, 6, 3), np.uint8))


def test_coverage_counts_what_the_median_takes() -> None:
    """The samples that are counted are those outside the grown masks (once they were not)."""
    hidden = np.zeros((5, 20, 20), bool)
    hidden[:3, 8:12, 8:12] = True
    coverage = Coverage((20, 20), list(range(5)), lambda t: hidden[t], grow=2)
    rows = coverage.rows(slice(0, 20))
    assert rows is not None
    np.testing.assert_array_equal(coverage.count, 5 - rows.sum(0))
    assert coverage.count[10, 10] == 2 and coverage.count[10, 7] == 2 and coverage.count[0, 0] == 5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_medians_asked_again_are_those_asked_at_once(dtype: type) -> None:
    """Only what other samples show is computed anew: the same as from the beginning."""
    rng = np.random.default_rng(3)
    video = rng.integers(0, np.iinfo(dtype).max, (7, 30, 21, 3), dtype=dtype)
    samples = FrameSamples.of(video)
    hidden = np.zeros((7, 30, 21), bool)
    hidden[:4, 5:9, 3:8] = True
    more = hidden.copy()
    more[2:, 14:17, 10:] = True
    less = np.zeros_like(hidden)
    less[5, 28:] = True
    medians = Medians(samples)
    for hides in (None, hidden, hidden, more, less, None):
        at = None if hides is None else (lambda t, hides=hides: hides[t])
        coverage = Coverage(samples.size, samples.indices, at, grow=1)
        np.testing.assert_array_equal(medians.of(coverage), median_of_free(samples, coverage))
        free = np.ones_like(hidden) if at is None else ~np.stack([grown_mask(h, 1) for h in hides])
        want = reference(video, ~free)
        np.testing.assert_array_equal(medians.of(coverage)[free.any(0)], want[free.any(0)])


def test_masks_grow_by_the_disc_around_them_alone() -> None:
    rng = np.random.default_rng(4)
    for share, radius in ((0.002, 5), (0.3, 2), (0.0, 3), (0.01, 0)):
        mask = rng.random((40, 61)) < share
        whole = cv2.dilate(mask.astype(np.uint8), disc(radius)) > 0
        np.testing.assert_array_equal(grown_mask(mask, radius), whole)


# ------------------------------------------------------------------------- plates from the user


def test_load_a_still_plate(tmp_path: Path, clip) -> None:
    video, _ = clip
    path = tmp_path / "plate.png"
    cv2.imwrite(str(path), video[0][..., ::-1])
    said = Said()
    got = load_plate(path, (36, 64), 6, said)
    np.testing.assert_array_equal(got.image, video[0])
    assert got.valid.all() and got.moving is None and not said.said
    assert load_plate(path, (72, 128), 6, said).image.shape == (72, 128, 3)
    assert said.said == [f"The background {path} was resized from 64x36 to 128x72."]
    folder = tmp_path / "folder"
    folder.mkdir()
    path.rename(folder / "plate.png")
    assert load_plate(folder, (36, 64), 6).moving is None


def test_load_a_plate_per_frame(tmp_path: Path, clip) -> None:
    video, _ = clip
    folder = write_masks(tmp_path / "plates", video[..., ::-1])
    lossless = encode(tmp_path / "plates.mkv", video, "-c:v", "libx264rgb", "-qp", "0")
    for source in (folder, lossless):
        got = load_plate(source, (36, 64), 6)
        for _ in range(2):  # a stream can be opened again
            np.testing.assert_array_equal(np.stack(list(got.stream())), video)
        np.testing.assert_array_equal(got.image, video[0])


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
            load_plate(source, size, frames)


def test_a_plate_of_another_scene_is_an_error(tmp_path: Path, clip) -> None:
    video, masks = clip
    source = tmp_path / "plate.png"

    def judged(image: np.ndarray, frames: np.ndarray = video) -> list[str]:
        said = Said()
        plate = Plate(image, np.ones(image.shape[:2], bool))
        check_scene(working_plates(plate, (36, 64), 1), frames, masks, source, said)
        return said.said

    empty = np.median(video, 0).astype(np.uint8)
    assert not judged(empty)
    big = cv2.resize(empty, None, fx=4, fy=4).astype(np.uint16) * 257  # deep, at full size
    assert not judged(big)
    where = r"plate\.png does not show the video's scene: .* match to \d\.\d dB at best"
    with pytest.raises(PlateError, match=where):
        judged(np.where(empty < 128, 255, 0).astype(np.uint8))
    # What the masks hide does not count, nor frames in which the light is out.
    inside = empty.copy()
    inside[masks.all(0)] ^= 255
    assert not judged(inside)
    dark = video.copy()
    dark[1:] = 0
    assert not judged(empty, dark)
    assert (
        "hardly looks like the video"
        in judged(np.clip(empty.astype(int) + 50, 0, 255).astype(np.uint8))[0]
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_columns_of_pictures_have_the_median_of_what_is_shown(
    kind: type[np.unsignedinteger],
) -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(0, np.iinfo(kind).max, (7, 5, 6, 3), kind, endpoint=True)
    shown = rng.random((7, 5, 6)) < 0.6
    shown[0] = True
    samples, counts = columns(images, shown)
    found = masked_median(samples, counts).reshape(5, 6, 3)
    hidden = np.broadcast_to(~shown[..., None], images.shape)
    wanted = np.ma.median(np.ma.array(images.astype(np.float64), mask=hidden), axis=0)
    assert samples.dtype == kind
    assert np.array_equal(found, np.floor(wanted.data + 0.5))

"""Filming of rendered scenes, and scenes written as folders."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli.errors import OutputError
from omnimatte_cli.synth import dataset
from omnimatte_cli.synth.augment import (
    FilmedBatch,
    augment_views,
    filmed,
    masked_median,
    rough_masks,
)
from omnimatte_cli.synth.dataset import write_dataset
from omnimatte_cli.synth.jpeg import jpeg
from omnimatte_cli.synth.render import SceneBatch, render_scenes
from omnimatte_cli.synth.scenes import SceneOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Many small operations: threads cost more than they give, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return render_scenes(range(10), SceneOptions(frames=4, height=48, width=64, max_objects=3))


@pytest.fixture(scope="module")
def film(batch: SceneBatch) -> FilmedBatch:
    return filmed(batch, torch.Generator().manual_seed(3))


def tensors(film: FilmedBatch) -> dict[str, torch.Tensor]:
    return {k: v for k, v in film.__dict__.items() if v is not None}


def test_filming_is_deterministic_and_in_range(batch: SceneBatch, film: FilmedBatch) -> None:
    again = filmed(batch, torch.Generator().manual_seed(3))
    other = filmed(batch, torch.Generator().manual_seed(4))
    for name, value in tensors(film).items():
        torch.testing.assert_close(getattr(again, name), value, msg=name)
        if value.is_floating_point():
            assert value.isfinite().all() and value.min() >= 0 and value.max() <= 1, name
    assert not torch.equal(other.frames, film.frames)
    assert film.frames.shape == batch.frames.shape and film.masks.shape == batch.masks.shape
    assert film.plate_estimated.shape == batch.plate.shape
    assert ((film.masks == 0) | (film.masks == 1)).all()
    assert torch.equal(film.visible, batch.masks)


def test_filming_keeps_solos_and_plate_together(batch: SceneBatch, film: FilmedBatch) -> None:
    """Where a clean solo equals the clean plate, the filmed ones are equal too (but for blur)."""
    apart = (batch.solos - batch.plate[:, None, None]).abs().amax(3)
    wide = torch.nn.functional.max_pool2d(apart.flatten(0, 2)[:, None], 7, 1, 3).view(apart.shape)
    after = (film.solos - film.plate[:, None, None]).abs().amax(3)
    assert after[wide < 1e-6].max() < 1e-4
    assert (film.frames - batch.frames).abs().mean() > 0.01


def test_rough_masks_are_near_the_true_ones(batch: SceneBatch) -> None:
    rough = rough_masks(batch.masks, torch.Generator().manual_seed(0))
    both, either = (rough * batch.masks).sum(), torch.maximum(rough, batch.masks).sum()
    assert 0.6 < both / either < 0.98
    assert rough[~batch.present].sum() == 0


def test_masked_median_ignores_what_is_covered() -> None:
    frames = torch.tensor([0.1, 0.9, 0.2, 0.3]).view(1, 4, 1, 1, 1).expand(1, 4, 3, 2, 2)
    covered = torch.tensor([False, True, False, False]).view(1, 4, 1, 1, 1).expand(1, 4, 1, 2, 2)
    torch.testing.assert_close(masked_median(frames, covered), torch.full((1, 3, 2, 2), 0.2))
    plain = masked_median(frames, torch.ones_like(covered))
    torch.testing.assert_close(plain, torch.full((1, 3, 2, 2), 0.25))


def test_jpeg_is_close_to_opencv() -> None:
    rng = np.random.default_rng(0)
    grey, tint = rng.random((40, 56, 1)), rng.random((5, 7, 3))
    tint = cv2.resize(tint, (56, 40), interpolation=cv2.INTER_CUBIC)
    picture = np.float32(cv2.GaussianBlur(grey, (0, 0), 2)[..., None] * 2 + 0.3 * tint)
    picture = (picture - picture.min()) / (picture.max() - picture.min())
    ours = jpeg(torch.from_numpy(picture).permute(2, 0, 1)[None, None], torch.tensor([40.0]))
    bgr = (picture[..., ::-1] * 255).round().astype(np.uint8)
    code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    theirs = cv2.imdecode(code, cv2.IMREAD_COLOR)[..., ::-1] / 255.0
    error = np.abs(ours[0, 0].permute(1, 2, 0).numpy() - theirs).mean()
    loss = np.abs(picture - theirs).mean()
    assert error < 0.5 * loss, (error, loss)


def test_views_are_consistent_and_deterministic(film: FilmedBatch) -> None:
    seen = augment_views(film, torch.Generator().manual_seed(1))
    again = augment_views(film, torch.Generator().manual_seed(1))
    for name, value in tensors(seen).items():
        torch.testing.assert_close(getattr(again, name), value, msg=name)
        assert value.shape == getattr(film, name).shape
    # The estimated plate is still as near to the plate, the visible masks as large.
    before = (film.plate - film.plate_estimated).abs().mean((1, 2, 3))
    after = (seen.plate - seen.plate_estimated).abs().mean((1, 2, 3))
    assert ((after / before.clamp_min(1e-4)) < 3).all()
    torch.testing.assert_close(seen.visible.sum((1, 2, 3, 4, 5)), film.visible.sum((1, 2, 3, 4, 5)))
    # Object pixels of the frame are those of the solo in old and new views alike.
    alike = ((seen.solos - seen.frames[:, None]).abs() * seen.visible).sum() / seen.visible.sum()
    were = ((film.solos - film.frames[:, None]).abs() * film.visible).sum() / film.visible.sum()
    assert alike < 1.5 * were


def test_a_dataset_has_the_authors_layout(tmp_path: Path, monkeypatch) -> None:
    folders = write_dataset(tmp_path, 2, objects=2, effect="shadow", size=32, frames=3, seed=9)
    assert [f.name for f in folders] == ["0000", "0001"]
    folder = folders[0]
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    numbers = [f"{i}_{t:05d}.png" for i in range(2) for t in range(3)]
    expected = [f"rgba_{t:05d}.jpg" for t in range(3)]
    for form in ("mask", "gt/mask", "solo/solo"):
        expected += [form + n for n in numbers]
    expected += ["bg.png", "bg_est.png", "order.txt", "meta.json"]
    assert names == sorted(expected)
    assert len((folder / "order.txt").read_text().splitlines()) == 3
    assert json.loads((folder / "meta.json").read_text())["objects"] == 2
    plate = cv2.imread(str(folder / "bg.png")).astype(np.float32)
    solo = cv2.imread(str(folder / "solo" / "solo0_00001.png"))
    region = np.square(solo - plate).sum(-1) >= 63.75
    truth = cv2.imread(str(folder / "gt" / "mask0_00001.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(truth > 0, region)
    mask = cv2.imread(str(folder / "mask0_00001.png"), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(mask)) <= {0, 255}

    # Going on: what is there is not rendered again, what is half there is.
    stamp = (folder / "meta.json").stat().st_mtime_ns
    (tmp_path / ".0002.part").mkdir()
    calls = []
    real = dataset.render_scenes
    monkeypatch.setattr(
        dataset, "render_scenes", lambda *a, **k: (calls.append(a[0]), real(*a, **k))[1]
    )
    write_dataset(tmp_path, 3, objects=2, effect="shadow", size=32, frames=3, seed=9)
    assert calls == [[11]] and (folder / "meta.json").stat().st_mtime_ns == stamp
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0000", "0001", "0002"]

    # Another scene, or a folder of the user's, is not taken for the one that is asked for.
    with pytest.raises(OutputError, match="objects 2, not 1"):
        write_dataset(tmp_path, 1, objects=1, effect="shadow", size=32, frames=3, seed=9)
    with pytest.raises(OutputError, match="asked_effect"):
        write_dataset(tmp_path, 1, objects=2, effect="both", size=32, frames=3, seed=9)
    (tmp_path / "0003").mkdir()
    with pytest.raises(OutputError, match="no scene"):
        write_dataset(tmp_path, 4, objects=2, effect="shadow", size=32, frames=3, seed=9)


def test_a_failed_scene_leaves_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    def broken(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(dataset, "_save", broken)
    with pytest.raises(OSError, match="disk full"):
        write_dataset(tmp_path, 1, objects=1, size=32, frames=1)
    assert list(tmp_path.iterdir()) == []


def test_pictures_of_128_pixels_have_both_plates(tmp_path: Path) -> None:
    (folder,) = write_dataset(tmp_path, 1, objects=1, size=128, frames=1)
    assert (folder / "bg_128.png").read_bytes() == (folder / "bg.png").read_bytes()

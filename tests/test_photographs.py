"""Clips filmed from photographs: the bank, the camera, what moves, and training on them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from omnimatte_cli.errors import OptionError
from omnimatte_cli.methods import weights
from omnimatte_cli.progress import Silent
from omnimatte_cli.synth import filming
from omnimatte_cli.synth.clips import ClipOptions
from omnimatte_cli.synth.filming import blurred, film, places, seen
from omnimatte_cli.synth.photographs import HELD_OUT, SCENE, THING, Bank, load_bank, thing
from omnimatte_cli.training import photos
from omnimatte_cli.training.loop import pretrain, share_done
from omnimatte_cli.training.photos import PhotoPool, held_out_blends
from omnimatte_cli.training.recipe import BlendRecipe, make_recipe

CPU = torch.device("cpu")
SMALL = ClipOptions(6, 40, 48)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 photographs of one colour each, in two sizes, and 8 things, two files that are neither."""
    root = tmp_path_factory.mktemp("photos")
    (root / "deep").mkdir()
    for i in range(16):
        shape = (90, 120, 3) if i % 2 else (500, 400, 3)
        cv2.imwrite(str(root / "deep" / f"{i:02d}.png"), np.full(shape, 10 * i, np.uint8))
    for i in range(8):
        image = np.full((30, 60, 4), 255, np.uint8)
        image[..., :3] = (0, 100, 200)
        image[:, :20, 3] = 0
        cv2.imwrite(str(root / f"t{i}.webp"), image, [cv2.IMWRITE_WEBP_QUALITY, 101])
    (root / "broken.jpg").write_bytes(b"nothing")
    (root / "notes.txt").write_text("nothing")
    return root


@pytest.mark.slow
def test_photographs_and_things_are_told_apart_and_some_are_held_out(folder: Path) -> None:
    bank, held = load_bank(folder), load_bank(folder, held_out=True)
    assert bank.scenes.shape[1:] == (3, SCENE, SCENE) and bank.things.shape[1:] == (4, THING, THING)
    shades = [
        {int(x.mean() / 10 + 0.5) for x in b.scenes.float() if x.std() == 0} for b in (bank, held)
    ]
    assert shades[1] == {7, 15} and shades[0] == set(range(16)) - shades[1]
    assert len(held.scenes) == 2 * 4
    assert len(bank.scenes) > 14 * 4  # and some procedural ones
    # Premultiplied: no colour is brighter than its cover.
    assert bool((bank.things[:, :3] <= bank.things[:, 3:]).all())
    again = load_bank(folder)
    assert torch.equal(bank.scenes, again.scenes) and torch.equal(bank.things, again.things)
    assert not torch.equal(bank.things, load_bank(folder, seed=1).things)


def test_too_few_photographs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="0 photographs"):
        load_bank(tmp_path)
    for i in range(HELD_OUT - 1):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((40, 40, 3), np.uint8))
    assert len(load_bank(tmp_path).scenes) > 0
    with pytest.raises(OptionError, match=f"{HELD_OUT - 1} photographs"):
        load_bank(tmp_path, held_out=True)


def test_a_thing_keeps_its_colours_and_place() -> None:
    image = np.zeros((30, 60, 4), np.uint8)
    image[:, 20:, :] = (0, 100, 200, 255)  # BGRA
    found = thing(image)
    assert found.shape == (THING, THING, 4)
    assert found[THING // 2, THING // 2 + 20].tolist() == [200, 100, 0, 255]
    assert not found[:30].any() and not found[:, : THING // 4].any()


def test_a_picture_is_seen_where_the_places_say() -> None:
    rng = torch.Generator().manual_seed(0)
    pictures = torch.rand(2, 3, 32, 32, generator=rng)
    where = places(ClipOptions(1, 8, 10), CPU).expand(2, 3, 8, 10, 2) + torch.tensor([3.0, -2.0])
    found = seen(pictures, where, "reflection")
    assert found.shape == (2, 3, 3, 8, 10)
    assert torch.allclose(found[:, 1], pictures[:, :, 10:18, 14:24], atol=1e-5)


def test_each_clip_has_its_own_blur() -> None:
    clips = torch.rand(3, 2, 3, 24, 20, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.0, 0.7, 1.5])
    found = blurred(clips, sigma)
    assert torch.allclose(found[0], clips[0], atol=1e-6)
    for i in (1, 2):
        wanted = [
            cv2.GaussianBlur(
                x.permute(1, 2, 0).numpy(),
                (11, 11),
                float(sigma[i]),
                borderType=cv2.BORDER_REPLICATE,
            )
            for x in clips[i]
        ]
        assert np.allclose(found[i].permute(0, 2, 3, 1).numpy(), np.stack(wanted), atol=1e-4)


@pytest.fixture(scope="module")
def textured() -> Bank:
    """Scenes and things with smooth noise."""
    rng = torch.Generator().manual_seed(0)
    scenes = F.interpolate(torch.rand(8, 3, 64, 64, generator=rng), size=SCENE, mode="bilinear")
    cover = torch.zeros(4, 1, THING, THING)
    cover[:, :, 32:96, 32:96] = 1
    things = torch.cat([cover * torch.rand(4, 3, 1, 1, generator=rng), cover], 1)
    return Bank((255 * scenes).byte(), (255 * things).byte())


def test_clips_follow_from_the_generator_and_most_of_them_move(textured: Bank) -> None:
    def clips(seed: int) -> torch.Tensor:
        return film(textured, 48, SMALL, torch.Generator().manual_seed(seed))

    first = clips(0)
    assert first.shape == (48, 6, 3, 40, 48) and first.dtype == torch.float32
    assert bool((first >= 0).all()) and bool((first <= 1).all())
    assert torch.equal(first, clips(0)) and not torch.equal(first, clips(1))
    change = (first[:, 1:] - first[:, :-1]).abs().mean((1, 2, 3, 4))
    assert float((change > 0.004).float().mean()) > 0.7
    assert float((first.std((1, 2, 3, 4)) > 0.03).float().mean()) > 0.8


def test_frozen_clips_change_by_grain_and_light_alone(
    textured: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filming, "FROZEN", 1.0)
    monkeypatch.setattr(filming, "developed", lambda dice, clips: clips)
    clips = film(textured, 8, SMALL, torch.Generator().manual_seed(0))
    assert torch.equal(clips, clips[:, :1].expand_as(clips))


def test_a_resting_camera_leaves_most_of_the_scene_in_place(
    textured: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filming, "STILL_CAMERA", 1.0)
    monkeypatch.setattr(filming, "SWAYING", 0.0)
    monkeypatch.setattr(filming, "developed", lambda dice, clips: clips)
    clips = film(
        textured, 32, replace(SMALL, height=80, width=80), torch.Generator().manual_seed(0)
    )
    same = ((clips - clips[:, :1]).abs().amax((1, 2)) < 1e-4).float().mean((1, 2))
    assert float((same > 0.3).float().mean()) > 0.6  # the things cover the others
    assert float((same < 1).float().mean()) > 0.7  # and something moves


# ----------------------------------------------------------------------------------------- training

TINY = BlendRecipe(
    height=32, width_pixels=32, frames=4, steps=2, batch_size=2, warmup=1, validate_steps=100
)


def test_draws_follow_from_the_step_and_differ(folder: Path) -> None:
    pool = PhotoPool(replace(TINY, photos=folder), CPU)
    first, again, other = pool.draw(0), pool.draw(0), pool.draw(1)
    assert first.blends.shape == (2, 4, 3, 32, 32)
    assert torch.equal(first.blends, again.blends)
    assert not torch.equal(first.blends, other.blends)
    assert not torch.equal(first.blends, pool.draw(0, rank=1).blends)


def test_held_out_pairs_are_even_blends(folder: Path) -> None:
    batch = held_out_blends(replace(TINY, photos=folder), CPU, 5, (True, False))
    assert batch.truth.shape == (5, 2, 4, 3, 32, 32)
    assert torch.allclose(batch.blends, batch.truth.mean(1), atol=1e-6)
    assert torch.equal(batch.truth[:, 0], batch.truth[:, 0, :1].expand(-1, 4, -1, -1, -1))


@pytest.mark.slow
def test_a_run_on_photographs_is_planned_by_the_clock(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnimatte_cli.training.blends.VALIDATION_PAIRS", 4)
    recipe = replace(TINY, photos=folder, steps=1, lasting=0.05, validate_steps=10**6)
    path = pretrain(recipe, tmp_path / "run", CPU, Silent())
    file = weights.find(str(path), weights.CENTRIFUGE)
    assert int(file.metadata["steps"]) > 1
    assert 0 < json.loads(file.metadata["validation"])["ratio"] < 3
    before = path.read_bytes()
    assert pretrain(recipe, tmp_path / "run", CPU, Silent()) == path  # it is done
    assert path.read_bytes() == before


def test_a_run_is_done_by_its_steps_or_by_the_clock() -> None:
    assert share_done(TINY, 1, 1e6) == 0.5 and share_done(TINY, 2, 0.0) == 1.0
    timed = replace(TINY, lasting=2.0)
    assert share_done(timed, 10**6, 30.0) == 0.25 and share_done(timed, 0, 121.0) == 1.0


def test_wrong_choices_are_refused(folder: Path) -> None:
    named = {"network": "centrifuge", "photos": folder}
    assert make_recipe(named, ["preset=wide"]).photos == folder
    for bad in ("lasting=0", "lasting=-1", "photos=/nowhere", f"videos={folder}"):
        with pytest.raises(OptionError):
            make_recipe({"network": "centrifuge", "photos": folder}, [bad])
    assert photos.STRIDE > 10**7

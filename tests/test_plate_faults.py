"""Faults of plates: they change what is given and leave frames and truth in step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from omnimatte_cli.synth import plate_faults as faults
from omnimatte_cli.synth.seeds import VALIDATION_SEEDS
from omnimatte_cli.training.pool import render_chunk, restored
from omnimatte_cli.training.recipe import Recipe

SMALL = Recipe(network="ownership", height=48, width_pixels=64, chunk=4, batch_size=4)


@pytest.fixture(scope="module")
def samples():
    return restored(render_chunk(SMALL, 0, VALIDATION_SEEDS, "cpu", 2), torch.device("cpu"))


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_displacement_moves_the_picture_by_as_many_pixels() -> None:
    plates = torch.rand(1, 2, 3, 12, 16)
    field = torch.zeros(1, 2, 12, 16, 2)
    field[..., 0] = 2  # every pixel shows what is two columns to the right
    moved = faults.displaced(plates, field)
    assert torch.allclose(moved[..., :-2], plates[..., 2:], atol=1e-5)
    assert torch.allclose(faults.displaced(plates, 0 * field), plates, atol=1e-5)


def test_most_plates_are_wrong_and_the_others_untouched() -> None:
    plates = 0.1 + 0.8 * torch.rand(64, 1, 3, 24, 24).expand(64, 3, 3, 24, 24)
    wrong = faults.wrong_plates(plates, drawn(3))
    assert wrong.shape == plates.shape
    same = (wrong == plates).flatten(1).all(1).float().mean().item()
    assert 0.1 < same < 0.45  # WRONG_CHANCE is 0.75
    changed = (wrong - plates).abs().flatten(1).mean(1)
    assert changed.max() > 0.02 and changed.median() < 0.1
    # Each frame has an error of its own, or registration would be a constant shift.
    assert (wrong[:, 0] - wrong[:, 1]).abs().max() > 0.01


def test_residue_is_smooth_and_about_a_pixel() -> None:
    field = faults.residue(200, 2, 128, 128, drawn(0))
    size = field.square().sum(-1).mean((1, 2, 3)).sqrt()
    assert 0.1 < size.median() < 1.5 and size.max() < 8
    step = (field[:, :, 1:] - field[:, :, :-1]).abs().mean((1, 2, 3, 4))
    assert step.median() < 0.1


@pytest.mark.slow
def test_a_moving_camera_keeps_frames_and_truth_together(samples, monkeypatch) -> None:
    monkeypatch.setattr(faults, "PAN_CHANCE", 1.0)
    monkeypatch.setattr(faults, "STRANGER_CHANCE", 0.0)
    clean = replace(samples, frames=samples.solos[:, 0])  # object 0 alone, free of noise
    clip = faults.given_clip(clean, samples.plate, drawn(1), chance=0.0)
    assert (clip.plates[:, 0] - clip.plates[:, -1]).abs().amax() > 0.05
    assert torch.equal(clip.frames, clip.solos[:, 0])
    assert torch.equal(clip.given, clip.plates)
    assert not clip.unowned.any()


def test_a_stranger_is_behind_the_objects_and_nobodys(samples, monkeypatch) -> None:
    monkeypatch.setattr(faults, "PAN_CHANCE", 0.0)
    monkeypatch.setattr(faults, "STRANGER_CHANCE", 1.0)
    clip = faults.given_clip(samples, samples.plate, drawn(1))
    body = samples.visible.amax(1) > 0.5
    assert clip.unowned.any()
    assert not (clip.unowned[:, 0] & body[:, :, 0]).any()
    there = clip.unowned[:, 0, :, None].expand_as(clip.frames)
    assert torch.equal(clip.frames[there], samples.frames.roll(1, 0)[there])
    assert torch.equal(clip.frames[~there], samples.frames[~there])


def test_the_same_seed_gives_the_same_faults(samples) -> None:
    one, two, other = (faults.given_clip(samples, samples.plate, drawn(s)) for s in (5, 5, 6))
    assert torch.equal(one.given, two.given)
    assert not torch.equal(one.given, other.given)

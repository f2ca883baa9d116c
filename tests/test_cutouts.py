"""Cutouts that the matting network learns from, and its training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli.errors import OptionError
from omnimatte_cli.matte.matting_network import INPUTS, MattingNet
from omnimatte_cli.methods import weights
from omnimatte_cli.progress import Silent
from omnimatte_cli.synth import cutouts, figures
from omnimatte_cli.synth.cutouts import PLANES, SHEET, Studio, make_sheets, panelled, rounded
from omnimatte_cli.synth.figures import (
    FEET,
    GLASS,
    HEIGHTS,
    MAIN,
    PARTS,
    THINGS,
    Figure,
    Pencil,
    car,
    person,
    random_figure,
)
from omnimatte_cli.synth.rough import OFF_PIXELS, RIGHT, rough_mask
from omnimatte_cli.training.cutouts import (
    make_chunk,
    matting_loss,
    planes,
    pyramid_error,
    validate_cutouts,
    varied,
)
from omnimatte_cli.training.loop import new_network, pretrain, warm_start
from omnimatte_cli.training.recipe import CutoutRecipe, make_recipe

CPU = torch.device("cpu")
TINY = CutoutRecipe(
    height=64, width_pixels=64, steps=4, batch_size=2, chunk=4, pool=2, sheets=2, warmup=1, ema=0.5
)


@pytest.fixture(scope="module")
def studio() -> Studio:
    return Studio(make_sheets(0, 4), 64)


def test_a_seed_has_one_cutout(studio: Studio) -> None:
    assert studio.sheets.shape == (4, SHEET, SHEET, 3) and studio.sheets.std() > 20
    first, again, other = (studio.cutout(seed) for seed in (3, 3, 4))
    assert first.shape == (64, 64, PLANES) and first.dtype == np.uint8
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_outside_of_bodies_and_effects_the_frame_is_the_plate(studio: Studio) -> None:
    """As far as faults of plates leave it so: by the median over many."""
    off = {"ground": [], "body": []}
    for seed in range(40):
        found = studio.cutout(seed).astype(np.float32)
        change, alpha = np.abs(found[..., :3] - found[..., 3:6]).mean(-1), found[..., 8]
        for name, there in (("ground", alpha == 0), ("body", alpha == 255)):
            if there.sum() > 50:
                off[name].append(np.median(change[there & (found[..., 7] == 0)]))
    ground, body = (float(np.nanmedian(off[name])) for name in ("ground", "body"))
    assert ground < 12 and body > 3 * ground, off


def test_figures_have_outlines_in_the_picture() -> None:
    rng = np.random.default_rng(1)
    shares, heights = [], []
    for _ in range(60):
        figure = random_figure(rng, 64)
        assert figure.parts.shape == (128, 128) and figure.parts.max() < PARTS
        assert figure.feet.ndim == 2 and len(figure.feet)
        shares.append((figure.parts > 0).mean())
        heights.append(figure.height / 64)
    assert np.mean([0 < s < 1 for s in shares]) > 0.8
    assert HEIGHTS[0] <= min(heights) < 0.4 and 1.5 < max(heights) <= HEIGHTS[1]


def test_hands_hold_things() -> None:
    """A person is wider than its limbs reach where it holds a racket."""
    drawn = {}
    for share in (0.0, 1.0):
        total = 0
        for seed in range(20):
            pencil = Pencil(256)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(figures, "HELD", share)
                person(np.random.default_rng(seed), pencil, np.array([128.0, 128]), 160.0)
            total += int((pencil.canvas > 0).sum())
        drawn[share] = total
    assert drawn[1.0] > 1.05 * drawn[0.0]


def test_bodies_wear_shoes_and_stand_in_their_shadows(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At their feet they have another colour, and are darker."""
    body, ground = (np.full((64, 64, 3), x, np.float32) for x in (0.8, 0.3))
    figures_seen = (random_figure(np.random.default_rng(seed), 64) for seed in range(50))
    figure = next(f for f in figures_seen if (np.abs(f.feet - 32) < 25).all())
    monkeypatch.setattr(cutouts, "BAREFOOT", 0.0)
    shod = studio._shod(np.random.default_rng(1), body, ground, figure)
    rows, columns = np.nonzero(np.abs(shod - body).max(-1) > 0.02)
    assert len(rows)
    away = np.hypot(*(np.stack([columns, rows], -1)[:, None] - figure.feet).T).min(0)
    assert away.max() < 0.3 * figure.height + 6
    monkeypatch.setattr(cutouts, "BAREFOOT", 1.0)
    assert studio._shod(np.random.default_rng(1), body, ground, figure) is body

    def brightness(share: float) -> float:
        """Of bodies, in 30 cutouts."""
        monkeypatch.setattr(cutouts, "SHADED_BODY", share)
        found = [studio.cutout(seed).astype(np.float32) for seed in range(30)]
        return float(np.mean([x[..., :3][x[..., 8] > 250].sum() for x in found]))

    assert brightness(1.0) < brightness(0.0)


def test_parts_of_bodies_have_colours_of_their_own(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limbs have theirs where a body is dressed, a little beyond its outline, too."""
    pencil = Pencil(128)
    car(np.random.default_rng(0), pencil, np.array([64.0, 64]), 90.0)
    assert {MAIN, FEET, THINGS, GLASS} <= set(np.unique(pencil.canvas))
    figure = Figure(pencil.canvas, np.array(pencil.feet) / 2, 45.0)
    parts = figure.nearest_part
    assert np.array_equal(parts[figure.cover == 1], figure.parts[::2, ::2][figure.cover == 1])
    assert (parts[cv2.dilate(figure.cover, np.ones((9, 9))) > 0] > 0).all()
    monkeypatch.setattr(cutouts, "DRESSED", 1.0)
    monkeypatch.setattr(cutouts, "ROUNDED", 0.0)
    ground = np.full((64, 64, 3), 0.5, np.float32)
    between, within = [], []
    for seed in range(30):
        body = studio._body(np.random.default_rng(seed), ground, figure).mean(-1)
        means = [body[(figure.parts[::2, ::2] == part)].mean() for part in (MAIN, GLASS)]
        between.append(abs(means[0] - means[1]))
        within.append(body[figure.parts[::2, ::2] == GLASS].std())
    assert np.mean(between) > 1.5 * np.mean(within)


def test_bodies_are_lit_from_one_side_and_have_panes() -> None:
    side = np.zeros((128, 128), np.uint8)
    side[32:96, 32:96] = MAIN
    figure = Figure(side, np.array([[32.0, 48]]), 32.0)
    for seed in range(5):
        light = rounded(np.random.default_rng(seed), figure)
        assert np.allclose(light, -light[::-1, ::-1], atol=1e-4)  # of a square: dark where not lit
        assert 0.02 < np.abs(light).max() < 3 and np.abs(light[32, 32]) < 1e-3
    ground = np.zeros((64, 64, 3), np.float32)
    ground[:, 32:] = 0.8
    body = np.full((64, 64, 3), 0.3, np.float32)
    seen = np.concatenate(
        [
            panelled(np.random.default_rng(s), body, ground, figure)[16:48, 40:48, 0]
            for s in range(40)
        ]
    )
    pieces = seen[seen > 0.4]
    assert 0.005 < len(pieces) / seen.size < 0.3 and 0.5 < np.median(pieces) < 0.95


def test_masks_are_rough_but_near() -> None:
    rng = np.random.default_rng(2)
    alpha = np.zeros((96, 96), np.float32)
    alpha[30:66, 30:66] = 1
    light = np.ones_like(alpha)
    found = [rough_mask(rng, alpha, 36.0, light) for _ in range(300)]
    assert RIGHT - 0.08 < np.mean([np.array_equal(m, alpha) for m in found]) < RIGHT + 0.2
    off = np.array([np.abs(m - alpha).sum() / (4 * 36) for m in found])  # pixels along the outline
    assert 0.2 < np.median(off[off > 0]) < OFF_PIXELS[1] and off.max() < 36
    assert min(m.min() for m in found) >= 0 and max(m.max() for m in found) <= 1


def test_masks_may_take_in_dark_ground() -> None:
    rng = np.random.default_rng(3)
    alpha = np.zeros((96, 96), np.float32)
    alpha[30:66, 30:66] = 1
    light = np.ones_like(alpha)
    light[66:70] = 0.2
    below = [rough_mask(rng, alpha, 36.0, light)[67, 48] for _ in range(200)]
    above = [rough_mask(rng, alpha, 36.0, light[::-1])[67, 48] for _ in range(200)]
    assert np.mean(below) > np.mean(above) + 0.1


def test_a_cutout_is_seen_in_other_ways() -> None:
    chunk = make_chunk(TINY, 0)
    rng = np.random.default_rng(0)
    for _ in range(20):
        out = varied(chunk[0], rng)
        assert out.shape == chunk[0].shape and out[8].float().sum() == chunk[0][8].float().sum()
        assert set(out[:3].flatten(1).sum(1).tolist()) == set(
            chunk[0, :3].flatten(1).sum(1).tolist()
        )


def test_the_pyramid_is_that_of_smaller_and_smaller_pictures() -> None:
    error = np.random.default_rng(0).normal(0, 1, (64, 64))
    wanted, level = 0.0, error
    line = np.array([1, 4, 6, 4, 1]) / 16
    for weight in (1, 2, 4, 8):
        smooth = cv2.sepFilter2D(level, -1, line, line, borderType=cv2.BORDER_REFLECT_101)
        wanted += weight * np.abs(level - smooth).mean()
        level = smooth[::2, ::2]
    wanted += 4 * np.abs(level).mean()
    found = pyramid_error(torch.from_numpy(error.astype(np.float32))[None, None])
    assert float(found) == pytest.approx(wanted, rel=1e-4)


def test_the_network_learns_on_one_batch() -> None:
    torch.manual_seed(0)
    net = MattingNet()
    samples = planes(make_chunk(replace(TINY, chunk=8), 0), CPU)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    losses = []
    for step in range(25):
        loss, terms = matting_loss(net, samples, TINY, step, np.random.default_rng(step % 2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert set(terms) == {"off", "detail"}
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5]), losses


def test_a_stopped_run_resumes_exactly(tmp_path: Path) -> None:
    whole = pretrain(TINY, tmp_path / "whole", CPU, Silent())
    pretrain(TINY, tmp_path / "parts", CPU, Silent(), stop_after=0.0)
    assert torch.load(tmp_path / "parts" / "state.pt", weights_only=True)["done"] == 1
    parts = pretrain(TINY, tmp_path / "parts", CPU, Silent())
    first, second = weights.read_tensors(whole), weights.read_tensors(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)
    facts = weights.find(str(whole), weights.MATTING).metadata
    assert facts["samples"] == "8" and json.loads(facts["recipe"])["sheets"] == 2
    assert set(json.loads(facts["validation"])) == {"off", "square", "coarse", "mask"}
    assert (tmp_path / "whole" / "sheet.png").is_file()


def test_a_run_begins_with_the_shipped_weights_as_they_are() -> None:
    net = new_network(TINY)
    assert warm_start(net, weights.shipped_folder() / "matting.safetensors", TINY) > 0
    shipped = weights.load_matting(weights.find("matting", weights.MATTING)).state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in net.state_dict().items())
    assert INPUTS == PLANES - 1


def test_the_shipped_network_mends_masks_of_held_out_cutouts() -> None:
    """A third of the masks' error, about, is left."""
    net = weights.load_matting(weights.find("matting", weights.MATTING))
    scores = validate_cutouts(net, CutoutRecipe(chunk=100), CPU)
    assert scores["off"] < 0.5 * scores["mask"] and scores["coarse"] < 0.65 * scores["mask"]


def test_wrong_recipes_are_refused() -> None:
    assert make_recipe({"network": "matting"}, ["lr=0.001"]).height == 128
    for bad, words in (
        ("sheets=0", "sheets"),
        ("width_pixels=64", "square"),
        ("hiding=x", "hiding"),
    ):
        with pytest.raises(OptionError, match=words):
            make_recipe({"network": "matting"}, [bad])

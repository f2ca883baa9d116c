"""Generative Omnimatte, stage 2: parity with the published code, closed-form layers, trimasks.

The reference arrays are made-up clips computed by the authors' public code (and, under
"paper_losses", from the paper's text); the initial weights are drawn here from the same seed.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from omnimatte_cli.arrays import Masks, integers, to_float
from omnimatte_cli.matte.metrics import effect_region, iou
from omnimatte_cli.methods.generative import objective
from omnimatte_cli.methods.generative.bodies import depth_order, guess_body, hidden_body, ordered
from omnimatte_cli.methods.generative.closed_form import measure_noise, solo_layer, window_alpha
from omnimatte_cli.methods.generative.detail import copy_detail, seen_alphas
from omnimatte_cli.methods.generative.method import run_key, solo_clip
from omnimatte_cli.methods.generative.network import SoloUNet, colour_logits
from omnimatte_cli.methods.generative.optimise import (
    Layer,
    Optimisation,
    SoloClip,
    bootstrap,
    enlarge,
    optimise,
    window_start,
)
from omnimatte_cli.methods.generative.options import (
    BASE,
    FULL,
    PAPER_BASE,
    PAPER_UPSAMPLED,
    PUBLISHED_CODE,
    StageOptions,
)
from omnimatte_cli.methods.generative.trimask import KEEP, REMOVE, REST, shrink_mask, trimask
from omnimatte_cli.progress import Silent
from tests.conftest import interrupt_twice

pytestmark = pytest.mark.slow

DATA = Path(__file__).parent / "data"
SEED = 43  # of the reference's weights
TINY = replace(BASE, steps=6, frames=3, width=4, lr_drops=(), mask_drops=((3, 0.0),))


@pytest.fixture(scope="module")
def runs() -> dict[str, np.ndarray]:
    with np.load(DATA / "generative_optimise.npz", allow_pickle=False) as z:
        return dict(z)


@pytest.fixture(scope="module")
def pieces() -> dict[str, np.ndarray]:
    with np.load(DATA / "generative_pieces.npz", allow_pickle=False) as z:
        return dict(z)


def reference_clip(runs: dict[str, np.ndarray]) -> SoloClip:
    names = ("solo_u8", "background_u8", "mask_eroded5_u8")
    return SoloClip(*(torch.from_numpy(runs[f"clip/{n}"]).float() / 255 for n in names))


REFERENCE = replace(PUBLISHED_CODE, frames=4, width=8)
STAGES: dict[str, StageOptions] = {
    "unet": REFERENCE,
    "unet_sched": replace(
        REFERENCE,
        lr_drops=((5, 0.1), (10, 0.1), (15, 0.1)),
        mask_drops=((8, 0.0),),
        l0_drops=((12, 0.5),),
        l1_drops=((14, 0.25),),
    ),
    "unet_l1_tv": replace(REFERENCE, recon_power=1, mask_power=1, smooth=0.1),
    "tensor_rgb": replace(REFERENCE, colour="free"),
}


@pytest.mark.parametrize("name", STAGES)
def test_steps_equal_those_of_the_published_code(name: str, runs: dict[str, np.ndarray]) -> None:
    clip, stage = reference_clip(runs), STAGES[name]
    torch.manual_seed(SEED)
    if stage.colour == "free":
        nn.Embedding(len(clip), clip.solo[0].numel())  # the reference draws, then overwrites it
    work = Optimisation(clip, stage)
    assert work.coverage == pytest.approx(0.03125)
    for step, begin in enumerate(runs[f"{name}/begin"]):
        terms, _, alpha = work.step(step, int(begin))
        found = [terms.total, terms.recon, terms.l0, terms.l1]
        found += [terms.mask, terms.inside, terms.smooth]
        row = [np.nan if x is None else float(x.detach()) for x in found]
        expected = runs[f"{name}/loss"][step]
        # AdamW scales up the rounding in gradients that a norm cancels.
        np.testing.assert_allclose(row, expected, rtol=1e-6 if step == 0 else 5e-3)
        assert work.optimiser.param_groups[0]["lr"] == pytest.approx(runs[f"{name}/lr"][step, -1])
        if step == 0 and f"{name}/first_alpha" in runs:
            first = runs[f"{name}/first_alpha"]
            np.testing.assert_allclose(alpha[..., ::4, ::4], first, atol=1e-5)
    np.testing.assert_allclose(row[0], expected[0], rtol=1e-3)
    if f"{name}/final_alpha" in runs:
        _, alpha = work.predict()
        np.testing.assert_allclose(alpha[..., ::4, ::4], runs[f"{name}/final_alpha"], atol=5e-3)


def test_the_network_is_as_large_as_the_published_one() -> None:
    assert sum(p.numel() for p in SoloUNet(4).parameters()) == 2_629_860
    assert sum(p.numel() for p in SoloUNet(4, 8).parameters()) == 165_948


def test_losses_equal_those_of_the_published_code(pieces: dict[str, np.ndarray]) -> None:
    x = {k[7:]: torch.from_numpy(v) for k, v in pieces.items() if k.startswith("losses/")}
    rgb, alpha, mask = x["rgb"], x["alpha"], x["mask"]
    made = objective.composite(rgb, alpha, x["background"])
    found = {
        "composite": made,
        "recon_l2": objective.power_mean(made - x["solo"], 2),
        "recon_l1": objective.power_mean(made - x["solo"], 1),
        "l0_k5": objective.sparsity_l0(alpha),
        "l1": objective.sparsity_l1(alpha),
        "tv": objective.total_variation(alpha),
        "inv_sigmoid_clamped": colour_logits(x["inv_sigmoid_in"]),
    }
    for power in (1, 2):
        for name, where in (("inside", mask), ("outside", 1 - mask)):
            error = objective.masked_error(alpha, mask, where, power)
            found[f"mask_l{power}_{name}"] = error
    for name, value in found.items():
        torch.testing.assert_close(
            value, x[name], rtol=1e-5, atol=2e-6, msg=lambda m, n=name: n + m
        )


@pytest.mark.parametrize(("part", "stage"), [("base", PAPER_BASE), ("up", PAPER_UPSAMPLED)])
def test_losses_of_the_papers_text(
    part: str, stage: StageOptions, pieces: dict[str, np.ndarray]
) -> None:
    """Where the stored mask's mean is all there is of a mask, its term is taken from the file."""
    prefix = f"paper_losses/{part}/"
    x = {
        k[len(prefix) :]: torch.from_numpy(np.asarray(v)) for k, v in pieces.items() if prefix in k
    }
    made = objective.composite(x["rgb"], x["alpha"], x["background"])
    recon = objective.power_mean(made - x["solo"], stage.recon_power)
    l0, l1 = objective.sparsity_l0(x["alpha"]), objective.sparsity_l1(x["alpha"])
    torch.testing.assert_close(
        torch.stack([recon, l0, l1]), torch.stack([x["recon"], x["l0"], x["l1"]])
    )
    total = recon + stage.l0 * l0 + stage.l1 * l1 + stage.mask * x["mask_balanced"]
    if part == "up":
        band = x["edge_band"]
        below = objective.alpha_supervision(x["alpha"], x["alpha_up"], band)
        torch.testing.assert_close(below, x["alpha_sup_off_edges"])
        total = total + stage.below * below
        ours = objective.edge_band(x["alpha_up"], 3)  # one low-resolution pixel is three
        assert iou(ours.numpy(), band.numpy()) > 0.8
    torch.testing.assert_close(total, x["total_start"], rtol=1e-5, atol=1e-5)


def test_layers_order_and_detail_as_in_the_published_code(pieces: dict[str, np.ndarray]) -> None:
    front = pieces["layers/layers_front_to_back"]  # (3, T, 4, H, W), the background last
    layers = np.moveaxis(front, 2, -1)
    order = np.array([2, 1, 0])
    for t in range(front.shape[1]):
        seen = seen_alphas(layers[:, t], order)
        expected = pieces["layers/transmitted_alpha"][:, t, 0]
        np.testing.assert_allclose(seen, expected, atol=1e-6)
        made = np.zeros((*layers.shape[2:4], 3), np.float32)
        for i in order:
            made += layers[i, t, ..., 3:] * (layers[i, t, ..., :3] - made)
        np.testing.assert_allclose(
            made, np.moveaxis(pieces["layers/composite"][t], 0, -1), atol=1e-5
        )

    stored = np.moveaxis(pieces["layers/dt/layers_u8"], 2, -1)[:2]
    back = pieces["layers/dt/order_front_to_back"][::-1]
    for t in range(stored.shape[1]):
        frame = np.moveaxis(pieces["layers/dt/video"][t], 0, -1)
        out = copy_detail(to_float(stored[:, t]), frame, pieces["layers/dt/masks"][:, t], back)
        expected = np.moveaxis(pieces["layers/dt/out_u8"], 2, -1)[:, t]
        np.testing.assert_array_equal(integers(out), expected)


@pytest.mark.parametrize("size", [(24, 32), (16, 16)])
def test_trimasks_equal_those_of_the_published_code(
    size: tuple[int, int], pieces: dict[str, np.ndarray]
) -> None:
    masks = pieces["trimask/masks_u8"] > 127  # (N, T, H, W)
    for t in range(masks.shape[1]):
        small = np.stack([shrink_mask(m, size) for m in masks[:, t]])
        for name, keep in (("background", None), ("solo0", 0), ("solo1", 1)):
            levels = trimask(small, keep)
            assert set(np.unique(levels)) <= {KEEP, REST, REMOVE}
            expected = pieces[f"trimask/{name}_{size[0]}x{size[1]}_code"][t]
            # The code's own numbers: 0 keeps, 1 removes.
            np.testing.assert_allclose((255 - levels) / 255, expected, atol=1 / 254)


# ---------------------------------------------------------------------------------- optimisation


def shadow_scene(frames: int = 4, size: tuple[int, int] = (64, 96)) -> tuple[np.ndarray, ...]:
    """A red block with a shadow of alpha 0.4 crosses a texture.

    Solo (T, H, W, 3) and plate (1, H, W, 3) uint8, body and shadow (T, H, W) bool.
    """
    rng = np.random.default_rng(3)
    h, w = size
    noise = cv2.GaussianBlur(rng.random((h, w, 3)).astype(np.float32), (0, 0), 1.5)
    plate = integers(0.5 + 1.5 * (noise - 0.5))
    body, shadow = np.zeros((2, frames, h, w), bool)
    for t in range(frames):
        x = 8 + 12 * t
        body[t, 20:44, x : x + 14] = True
        shadow[t, 44:52, x : x + 24] = True
    solo = np.repeat(plate[None], frames, 0)
    solo[shadow] = (solo[shadow] * 0.6 + 0.5).astype(np.uint8)
    solo[body] = (200, 40, 30)
    return solo, plate[None], body, shadow


def test_optimising_finds_the_body_and_its_shadow() -> None:
    torch.set_num_threads(1)
    solo, plate, body, shadow = shadow_scene()
    stage = replace(BASE.scaled(120), width=8, lr_alpha=1e-2)
    clip = solo_clip(solo, plate, body, torch.device("cpu"))
    layer = optimise(clip, stage, seed=0)
    alpha = layer.alpha[:, 0].numpy()
    nothing = ~cv2.dilate((body | shadow).any(0).astype(np.uint8), np.ones((9, 9))).astype(bool)
    assert alpha[body].mean() > 0.9
    # So few steps find it faintly, and the ground has hardly left the alpha that it started from.
    assert 0.15 < alpha[shadow].mean() < 0.7
    assert alpha[:, nothing].mean() < 0.06
    made = objective.composite(layer.rgb, layer.alpha, clip.plates(slice(None)))
    before = float((clip.plates(slice(None)) - clip.solo).square().mean())
    assert float((made - clip.solo).square().mean()) < 0.2 * before


class Watcher(Silent):
    """Remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class Stop(Silent):
    """Interrupts at step 3."""

    def step(self, done: int, note: str = "") -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_resumed_optimisation_ends_with_the_same_numbers(tmp_path: Path) -> None:
    solo, plate, body, _ = shadow_scene()
    clip = solo_clip(solo, plate, body, torch.device("cpu"))
    whole = optimise(clip, TINY, seed=1)

    state = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        optimise(clip, TINY, 1, Stop(), state, "key")
    assert state.is_file()
    resumed = optimise(clip, TINY, 1, None, state, "key")
    torch.testing.assert_close(resumed.alpha, whole.alpha, rtol=0, atol=0)
    other = optimise(clip, TINY, 1, None, state, "another key")  # starts anew
    torch.testing.assert_close(other.alpha, whole.alpha, rtol=0, atol=0)


def test_a_second_interrupt_saves_no_half_of_a_step(tmp_path: Path, monkeypatch) -> None:
    solo, plate, body, _ = shadow_scene()
    clip = solo_clip(solo, plate, body, torch.device("cpu"))
    state, whole = tmp_path / "state.pt", optimise(clip, TINY, seed=1)
    monkeypatch.setattr("omnimatte_cli.methods.generative.optimise.SAVE_INTERVAL", 0.0)

    with monkeypatch.context() as patch:
        interrupt_twice(patch, torch.optim.AdamW, state, 1)
        with pytest.raises(KeyboardInterrupt):
            optimise(clip, TINY, 1, None, state, "key")
    assert torch.load(state, weights_only=True)["done"] == 1
    resumed = optimise(clip, TINY, 1, None, state, "key")
    torch.testing.assert_close(resumed.alpha, whole.alpha, rtol=0, atol=0)


def test_the_full_size_is_held_to_the_base_that_it_grew_from() -> None:
    stage, arrays = FULL, [np.zeros((2, 4, 4, 3), np.uint8)]
    keys = {run_key(stage, 0, *arrays, np.full((2, 1, 2, 2), a, np.float32)) for a in (0.1, 0.2)}
    assert len(keys) == 2


@pytest.mark.parametrize("damage", ["no state", "no steps", "no optimiser", "other shapes"])
def test_a_damaged_state_begins_anew(damage: str, tmp_path: Path) -> None:
    solo, plate, body, _ = shadow_scene()
    clip = solo_clip(solo, plate, body, torch.device("cpu"))
    whole, state, watcher = optimise(clip, TINY, seed=1), tmp_path / "state.pt", Watcher()
    with pytest.raises(KeyboardInterrupt):
        optimise(clip, TINY, 1, Stop(), state, "key")
    saved = torch.load(state, weights_only=True)
    if damage == "no steps":
        del saved["done"]
    elif damage == "no optimiser":
        saved["optimiser"] = {"state": {}}
    elif damage == "other shapes":
        saved["model"] = {k: v[..., :1] for k, v in saved["model"].items()}
    torch.save(saved, state)
    if damage == "no state":
        state.write_bytes(b"no state")
    damaged = optimise(clip, TINY, 1, watcher, state, "key")
    assert len(watcher.said) == 1 and "damaged" in watcher.said[0]
    torch.testing.assert_close(damaged.alpha, whole.alpha, rtol=0, atol=0)


def test_full_size_starts_from_the_enlarged_base() -> None:
    solo, plate, body, _ = shadow_scene(size=(64, 96))
    clip = solo_clip(solo, plate, body, torch.device("cpu"))
    low = torch.full((4, 1, 32, 32), 0.3)
    base = Layer(torch.full((4, 3, 32, 32), 0.25), low, {})
    stage = replace(FULL, steps=1, frames=2, width=4, colour="free")
    layer = bootstrap(base, clip, stage, seed=0)
    assert layer.alpha.shape == (4, 1, 64, 96)
    assert float((layer.rgb - 0.25).abs().max()) < 0.02  # one step from where the base was
    assert torch.equal(enlarge(low, (64, 96)), torch.full((4, 1, 64, 96), 0.3))


def test_every_frame_is_trained_even_in_a_clip_shorter_than_a_window() -> None:
    rng = np.random.default_rng(0)
    assert {window_start(rng, 4, 16) for _ in range(50)} == {0}
    starts = [window_start(rng, 10, 4) for _ in range(2000)]
    assert set(starts) == set(range(7))
    assert starts.count(0) > 2 * starts.count(3) and starts.count(6) > 2 * starts.count(3)


def test_schedules_are_compressed_with_the_steps() -> None:
    short = PUBLISHED_CODE.scaled(600)
    assert short.lr_drops == ((50, 0.1), (100, 0.1), (200, 0.1))
    assert short.mask_drops == ((100, 0.0),)
    assert objective.scheduled(8.0, ((5, 0.5), (10, 0.5)), 9) == 4.0


# ----------------------------------------------------------------------------------- closed form


def test_closed_form_layers_give_an_exact_solo_back() -> None:
    solo, plate, body, shadow = shadow_scene()
    noise = measure_noise(solo, plate, body)
    for t in range(len(solo)):
        rgba = solo_layer(solo[t], plate[0], body[t], noise)
        alone = integers(plate[0] / 255 + rgba[..., 3:] * (rgba[..., :3] - plate[0] / 255))
        assert np.abs(alone.astype(int) - solo[t]).max() <= 2
        assert iou(effect_region(alone, plate[0]), effect_region(solo[t], plate[0])) > 0.99
        inner = cv2.erode(shadow[t].astype(np.uint8), np.ones((5, 5))).astype(bool)
        assert rgba[inner, 3] == pytest.approx(0.4, abs=0.05)
        assert rgba[inner, :3].max() < 0.1  # a shadow is black
        nothing = ~cv2.dilate((body[t] | shadow[t]).astype(np.uint8), np.ones((9, 9))).astype(bool)
        assert rgba[nothing, 3].max() == 0


def test_a_noisy_pair_leaves_the_ground_empty() -> None:
    """Noise of 8 levels and texture that is half a pixel off, as removal models leave it."""
    solo, plate, body, shadow = shadow_scene(6)
    rng = np.random.default_rng(1)
    off = np.array([[1, 0, 0.5], [0, 1, 0]], np.float32)
    noisy = cv2.warpAffine(plate[0], off, (96, 64), borderMode=cv2.BORDER_REPLICATE)
    noisy = np.clip(noisy + rng.normal(0, 8, (6, 64, 96, 3)), 0, 255).astype(np.uint8)
    noise = measure_noise(solo, noisy, body)
    assert noise.offset > 0.2
    rgba = np.stack([solo_layer(s, p, m, noise) for s, p, m in zip(solo, noisy, body, strict=True)])
    changed = (body | shadow).astype(np.uint8).transpose(1, 2, 0)
    nothing = cv2.dilate(np.ascontiguousarray(changed), np.ones((9, 9))).transpose(2, 0, 1) == 0
    assert (rgba[nothing, 3] > 0.1).mean() < 0.01
    assert (rgba[shadow, 3] > 0.2).mean() > 0.8
    assert rgba[body, 3].mean() > 0.95


def test_window_alpha_knows_shadows_from_veils() -> None:
    plate = to_float(shadow_scene()[1][0])
    ones = np.ones(plate.shape[:2], np.float32)
    for colour in (0.0, 1.0):  # a shadow, and a white veil
        solo = 0.7 * plate + 0.3 * colour
        assert window_alpha(solo, plate, ones, 3) == pytest.approx(0.3, abs=1e-3)


def test_a_base_alpha_says_where_the_layer_is() -> None:
    solo, plate, body, shadow = shadow_scene()
    noise = measure_noise(solo, plate, body)
    base = cv2.GaussianBlur(body[0].astype(np.float32), (0, 0), 0.5)
    rgba = solo_layer(solo[0], plate[0], None, noise, base)
    assert rgba[shadow[0], 3].mean() < 0.1 and rgba[body[0], 3].mean() > 0.9


def test_bodies_are_guessed_and_completed() -> None:
    solo, plate, body, shadow = shadow_scene()
    guess = guess_body(solo, plate)
    assert iou(guess, body) > 0.7
    assert (guess & shadow).sum() < 0.3 * shadow.sum()
    visible, other = body[1].copy(), np.zeros_like(body[1])
    other[:, 27:] = True  # somebody stands before half of the block and beyond
    visible[:, 27:] = False
    whole = hidden_body(solo[1], plate[0], visible, other, np.full(visible.shape, 0.01))
    assert iou(whole, body[1]) > 0.8
    alone = hidden_body(solo[1], plate[0], visible, other & False, np.zeros(visible.shape))
    np.testing.assert_array_equal(alone, visible)


def test_order_by_depth_or_by_what_stands_lower() -> None:
    masks = np.zeros((2, 3, 20, 20), bool)
    masks[0, :, 2:18, 2:8] = True  # reaches lower
    masks[1, :, 2:10, 10:16] = True
    depth = np.zeros((3, 20, 20), np.float32)
    depth[:, :, 9:] = 200.0  # but the other one is nearer
    packed = Masks.from_arrays(masks, ["a", "b"])
    assert depth_order(depth, masks).tolist() == [[0, 1]] * 3
    assert ordered(packed, depth).order.tolist() == [[0, 1]] * 3
    lower = ordered(packed, None)
    assert lower.order.tolist() == [[1, 0]] * 3
    assert lower.order_source == "lower edge of each mask"
    given = replace(packed, order_source="order.txt")
    assert ordered(given, depth) is given

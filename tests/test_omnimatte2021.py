"""Omnimatte 2021: the numbers of the authors' published code, and learning on a tiny clip.

data/omnimatte2021.npz: computed by the authors' PyTorch code (float32, CPU) on a made-up clip of
64x96 pixels with seeded random weights of width 8. Images in it are every fourth pixel of every
fourth row, from (1, 1). Runs: train_adj (batch statistics, camera adjustment), train_noadj,
eval_adj (running statistics), train_adj_alt (other loss weights).
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from omnimatte_cli.device import deterministic
from omnimatte_cli.errors import InputError, OptionError
from omnimatte_cli.matte.over import in_order, over
from omnimatte_cli.methods.omnimatte2021 import losses as L
from omnimatte_cli.methods.omnimatte2021 import method
from omnimatte_cli.methods.omnimatte2021 import optimise as tuning
from omnimatte_cli.methods.omnimatte2021.inputs import (
    ClipInputs,
    Zoom,
    canvas_bounds,
    clip_inputs,
    flow_confidence,
    trimap,
)
from omnimatte_cli.methods.omnimatte2021.network import (
    CameraAdjustment,
    LayerUNet,
    Omnimatte,
    Pairs,
    Rendered,
    warp,
)
from omnimatte_cli.methods.omnimatte2021.options import PUBLISHED, LossWeights, Options
from omnimatte_cli.progress import Silent
from tests.conftest import interrupt_twice

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
TOLERANCE = 1e-4
FRAMES = 4  # of the reference clip
GRID_FRAMES = 200  # that the published camera adjustment is laid out for
Reference = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def ref() -> Reference:
    with np.load(Path(__file__).parent / "data" / "omnimatte2021.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def clip(ref: Reference) -> ClipInputs:
    masks = np.moveaxis(ref["clip/mask"], 1, 0) > 127
    band = int(ref["clip/trimap_width"])
    trimaps = np.stack([np.stack([trimap(m, band) for m in obj]) for obj in masks])
    width, height = ref["clip/size"]
    confidence = ref["clip/confidence_u8"].astype(np.float32) / 255 * masks.any(0)
    return ClipInputs(
        frames=torch.from_numpy(np.moveaxis(ref["clip/rgb"], -1, 1).copy()),
        masks=torch.from_numpy(masks.copy()),
        trimaps=torch.from_numpy(trimaps),
        flow=torch.from_numpy(np.moveaxis(ref["clip/flow_px"], -1, 1).copy()),
        confidence=torch.from_numpy(confidence),
        homographies=ref["clip/homographies"][: FRAMES + 1],
        extent=(float(height), float(width)),
        bounds=ref["clip/bounds"],
        noise=torch.from_numpy(ref["clip/zbar"]),
        order=torch.arange(2).repeat(FRAMES, 1),
    )


@pytest.fixture(scope="module")
def batch(clip: ClipInputs) -> tuple[Pairs, L.Targets]:
    return clip.pairs([0, 2], [None, None])


def network(ref: Reference, adjust: bool = True) -> Omnimatte:
    """The reference's weights."""
    net = Omnimatte(LayerUNet(8, "batch"), CameraAdjustment(GRID_FRAMES))
    grids = ("bg_offset", "brightness_scale")
    weights = {
        ("adjustment." if name in grids else "unet.") + name: torch.from_numpy(ref[key])
        for key in ref
        if key.startswith("weights/")
        for name in [key.removeprefix("weights/")]
    }
    net.load_state_dict(weights)
    return net if adjust else Omnimatte(net.unet, None)


def near(ours: Tensor | np.ndarray, theirs: np.ndarray, tolerance: float = TOLERANCE) -> None:
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    if ours.shape != theirs.shape:  # the reference holds every fourth pixel
        ours = ours[..., 1::4, 1::4]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize("part", ["batch", "jit"])
def test_inputs(ref: Reference, clip: ClipInputs, part: str) -> None:
    if part == "batch":
        theirs = {k.removeprefix("batch/"): v for k, v in ref.items() if k.startswith("batch/")}
        pairs, targets = clip.pairs([0, 2], [None, None])
    else:
        theirs = {k.removeprefix("jit/"): v[None] for k, v in ref.items() if k.startswith("jit/")}
        pairs, targets = clip.pairs([1], [Zoom(*theirs["params"][0].tolist())])
    b, h, w = len(pairs.index), *theirs["input"].shape[-2:]
    layers = np.moveaxis(theirs["input"].reshape(b, 3, 2, 16, h, w), 2, 1)
    near(pairs.objects, layers[:, :, 1:])
    if part == "batch":
        near(pairs.background, layers[:1, 0, 0])
    else:  # unlike the published code: a zoomed frame looks at the same canvas
        near(pairs.background, ref["batch/input"][:1, 0, :16])
    near(targets.frames.flatten(1, 2), theirs["image"])
    near(targets.trimaps, theirs["mask"].reshape(b, 2, 3, 1, h, w)[:, :, 1:])
    near(targets.flow.flatten(1, 2), theirs["flow"])
    near(targets.confidence.flatten(1, 2), theirs["confidence"])
    near(pairs.camera_flow.flatten(1, 2), theirs["bg_flow"])
    near(pairs.canvas_places.flatten(1, 2), theirs["bg_warp"])
    near(pairs.frame_places.flatten(1, 2), theirs["jitter_grid"])


def test_canvas_bounds_confidence_and_warp(ref: Reference) -> None:
    homographies = ref["clip/homographies"]
    width, height = (float(x) for x in ref["clip/size"])
    bounds = canvas_bounds(homographies, (height - 1, width - 1), (height, width))
    near(bounds, ref["pieces/bounds/value"], 1e-9)
    flows = ref["pieces/conf/flow_fwd"], ref["pieces/conf/flow_bwd"]
    near(flow_confidence(*flows, ref["pieces/conf/rgb"]), ref["pieces/conf/out"], 1e-6)
    flow = torch.from_numpy(np.moveaxis(ref["pieces/warp/flow"], -1, 1).copy())
    near(warp(torch.from_numpy(ref["pieces/warp/tensor"]), flow), ref["pieces/warp/out"], 1e-6)


@pytest.mark.parametrize("run", ["train_adj", "train_noadj", "eval_adj"])
def test_network_and_renderer(ref: Reference, batch: tuple[Pairs, L.Targets], run: str) -> None:
    net = network(ref, adjust=run != "train_noadj").train(run != "eval_adj")
    rendered: Rendered = net(batch[0])
    theirs = {k.split("/")[-1]: v for k, v in ref.items() if k.startswith(f"net/{run}/out/")}
    near(rendered.composite.flatten(1, 2), theirs["reconstruction_rgb"])
    near(rendered.warped_composite, theirs["reconstruction_warped"])
    if run == "train_noadj":
        return
    h, w = theirs["layers_rgba"].shape[-2:]
    layers = np.moveaxis(theirs["layers_rgba"].reshape(2, 2, 4, 3, h, w), 3, 2)
    near(rendered.layers, layers[:, :, 1:])
    near(rendered.plate, layers[:, :, 0])
    layer_flow = np.moveaxis(theirs["layers_flow"].reshape(2, 2, 2, 3, h, w), 3, 2)
    near(rendered.layer_flow, layer_flow[:, :, 1:])
    near(rendered.flow.flatten(1, 2), theirs["reconstruction_flow"])
    near(rendered.warped[:, :, 3], theirs["alpha_warped"][:, 0, 1:])
    assert rendered.offset is not None and rendered.brightness is not None
    near(rendered.offset.flatten(1, 2), theirs["bg_offset"])
    near(rendered.brightness.flatten(1, 2), theirs["brightness_scale"])


def weighted(terms: dict[str, Tensor], weights: dict[str, float]) -> dict[str, float]:
    """The terms under the published code's names."""
    x = {name: weights[name] * float(term.detach()) for name, term in terms.items()}
    return {
        "recon": x["reconstruction"],
        "alpha_reg": x["l1"] + x["l0"],
        "mask": x["mask_in"] + x["mask_out"],
        "recon_flow": x["flow"],
        "recon_warp": x["warped"],
        "alpha_warp": x["alpha_warp"],
        "adj_reg": x["adjustment"],
        "total": sum(x.values()),
    }


@pytest.mark.parametrize("run", ["train_adj", "train_noadj", "eval_adj", "train_adj_alt"])
def test_losses(ref: Reference, batch: tuple[Pairs, L.Targets], run: str) -> None:
    net = network(ref, adjust=run != "train_noadj").train(run != "eval_adj")
    pairs, targets = batch
    terms = L.loss_terms(net(pairs), targets)
    other = run == "train_adj_alt"
    weights = L.start_weights(LossWeights(l1=0, mask=5, warped=1) if other else LossWeights())
    theirs = {k.split("/")[-1]: float(v) for k, v in ref.items() if f"net/{run}/loss/" in k}
    if run == "train_noadj":  # published: the unused grids are still held near 0 and 1
        theirs["total"] -= theirs.pop("adj_reg")
    for name, value in weighted(terms, weights).items():
        assert value == pytest.approx(theirs.get(name, 0), rel=1e-5, abs=1e-6), name


def test_mask_and_sparsity_terms(ref: Reference) -> None:
    alpha, target = (
        torch.from_numpy(ref[f"pieces/maskloss/{name}"])[:, None, :, None]
        for name in ("alpha", "trimap")
    )
    inside, outside = L.mask_terms(alpha, target)
    assert float(inside + outside) == pytest.approx(float(ref["pieces/maskloss/value"]), rel=1e-6)
    coverage = torch.from_numpy(ref["pieces/reg/alpha_comp01"])
    l1, l0 = float(coverage.mean()), float(L.smooth_count(coverage))
    assert l1 == pytest.approx(float(ref["pieces/reg/l1_only"]), rel=1e-6)
    assert l0 == pytest.approx(float(ref["pieces/reg/l0_only"]), rel=1e-6)
    weights = LossWeights()
    both = weights.l1 * l1 + weights.l0 * l0
    assert both == pytest.approx(float(ref["pieces/reg/default"]), rel=1e-6)


def test_gradients_and_ten_steps_of_adam(ref: Reference, batch: tuple[Pairs, L.Targets]) -> None:
    net, (pairs, targets) = network(ref).train(), batch
    weights = L.start_weights(LossWeights())
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    names = ref["net/adam/names"].tolist()
    for step, theirs in enumerate(ref["net/adam/loss"]):
        terms = L.loss_terms(net(pairs), targets)
        ours = weighted(terms, weights)
        for name, value in zip(names, theirs.tolist(), strict=True):
            assert ours[name] == pytest.approx(value, rel=1e-3, abs=1e-6), (step, name)
        optimiser.zero_grad()
        L.total(terms, weights).backward()
        if step == 0:
            for name, parameter in net.named_parameters():
                grad = ref.get(f"net/train_adj/grad/{name.split('.', 1)[1]}")
                if grad is not None:
                    assert parameter.grad is not None
                    near(parameter.grad, grad, 1e-4 * float(np.abs(grad).max()))
        optimiser.step()


def test_published_size() -> None:
    count = sum(p.numel() for p in LayerUNet(PUBLISHED.width, PUBLISHED.norm).parameters())
    assert count == pytest.approx(10.5e6, rel=0.01)


def test_schedule_falls_when_the_masks_are_learned_and_not_before() -> None:
    schedule = L.Schedule(Options(iterations=100, mask_hold=0.1, mask_deadline=0.4, l1_until=0.5))
    start = L.start_weights(LossWeights())
    schedule.update(0, None)
    schedule.update(5, 0.001)  # learned, but too early
    assert schedule.fall is None and schedule.weights(5) == start
    schedule.update(12, 0.03)
    schedule.update(15, 0.019)
    schedule.update(20, 0.5)  # falls once
    assert schedule.fall == 15
    assert schedule.weights(15) == {**start, "mask_in": 5.0, "mask_out": 5.0}
    assert schedule.weights(30) == {**start, "mask_in": 5.0, "mask_out": 0.0}
    assert schedule.weights(50) == {**start, "mask_in": 5.0, "mask_out": 0.0, "l1": 0.0}
    late = L.Schedule(Options(iterations=100, mask_hold=0.1, mask_deadline=0.4))
    for step in range(41):
        late.update(step, 1.0)
    assert late.fall == 40
    published = L.Schedule(PUBLISHED, fall=100)
    assert published.weights(200)["mask_in"] == published.weights(200)["mask_out"] == 0.0


SIDE, LENGTH = 64, 6  # of the clip below


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A red block with a dark shadow under it crosses a smooth ground.

    Frames (T, H, W, 3) uint8, masks (1, T, H, W) bool of the block, shadows (T, H, W) bool, ground.
    """
    y, x = np.mgrid[:SIDE, :SIDE]
    ground = np.stack([90 + x, 110 + y, 150 + 20 * np.sin(x / 6)], -1).astype(np.uint8)
    frames = np.repeat(ground[None], LENGTH, 0)
    masks = np.zeros((1, LENGTH, SIDE, SIDE), bool)
    shadows = np.zeros((LENGTH, SIDE, SIDE), bool)
    for t in range(LENGTH):
        left = 6 + 7 * t
        masks[0, t, 16:30, left : left + 12] = True
        shadows[t, 36:46, left : left + 12] = True
        frames[t][masks[0, t]] = (220, 40, 30)
        frames[t][shadows[t]] //= 2
    return frames, masks, shadows, ground


def arrays(frames: np.ndarray, masks: np.ndarray, **facts) -> method.ClipArrays:
    images = torch.from_numpy(np.moveaxis(frames, -1, 1).copy())
    return method.ClipArrays(images, torch.from_numpy(masks), **facts)


def test_the_body_is_in_the_layer_and_the_plate_is_clean(scene) -> None:
    frames, masks, shadows, ground = scene
    options = Options(width=8, batch_size=2, iterations=60, lr=5e-3, jitter_chance=0.0)
    found = method.optimise_clip(arrays(frames, masks), options, Silent())
    assert found.layers.shape == (1, LENGTH, SIDE, SIDE, 4) and found.layers.dtype == np.float16
    assert found.plates.shape == (LENGTH, SIDE, SIDE, 3)
    alpha = found.layers[0, ..., 3].astype(np.float32)
    assert alpha[masks[0]].mean() > 0.8
    assert alpha[~(masks[0] | shadows)].mean() < 0.1
    passed = (masks[0] | shadows).any(0)
    clean = np.abs(found.plates.astype(np.float32) - ground / np.float32(255))
    before = np.abs(frames.astype(np.float32) - ground).mean(0)[passed].mean() / 255
    assert clean[:, passed].mean() < 0.6 * before
    start = method.optimise_clip(arrays(frames, masks), replace(options, iterations=1), Silent())
    assert found.losses["reconstruction"] < 0.45 * start.losses["reconstruction"]
    assert found.psnr > start.psnr + 5
    net = tuning.new_network(LENGTH, options, CPU)
    assert found.network["parameters"] == sum(p.numel() for p in net.parameters())


def clip_of(scene, options: Options) -> ClipInputs:
    frames, masks = scene[:2]
    return clip_inputs(frames, masks, None, None, options.seed, options.trimap_width, CPU)


def trained(scene, options: Options, *args) -> Omnimatte:
    net = tuning.new_network(LENGTH, options, CPU)
    tuning.optimise(net, clip_of(scene, options), options, *(args or (Silent(),)))
    return net


def same(a: Omnimatte, b: Omnimatte) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_same_seed_same_network_and_another_seed_another(scene) -> None:
    with deterministic():
        first, again, other = (
            trained(scene, Options(width=4, batch_size=2, iterations=2, seed=seed))
            for seed in (3, 3, 4)
        )
    assert same(first, again) and not same(first, other)


class Interrupting(Silent):
    """Interrupts like Ctrl-C after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.said: list[str] = []

    def step(self, done: int, note: str = "") -> None:
        if done == self.after:
            os.kill(os.getpid(), signal.SIGINT)

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_an_interrupted_run_resumes_to_the_same_network(
    scene, tmp_path: Path, interval: float
) -> None:
    options = Options(
        width=4,
        batch_size=2,
        iterations=6,
        mask_deadline=0.2,
        mask_hold=0.0,
        save_interval=interval,
    )
    state = tmp_path / "state.pt"
    whole = trained(scene, options)
    with pytest.raises(KeyboardInterrupt):
        trained(scene, options, Interrupting(4), state, "key")
    watcher = Interrupting(99)
    assert same(whole, trained(scene, options, watcher, state, "key"))
    assert "step 4" in watcher.said[0]
    watcher = Interrupting(99)
    trained(scene, options, watcher, state, "another input")
    assert watcher.said == []  # a state of another input is not taken


def test_a_second_interrupt_saves_no_half_of_a_step(scene, tmp_path: Path, monkeypatch) -> None:
    options = Options(width=4, batch_size=2, iterations=6, save_interval=0.0)
    state, whole = tmp_path / "state.pt", trained(scene, options)
    interrupt_twice(monkeypatch, torch.optim.Adam, state, 3)
    with pytest.raises(KeyboardInterrupt):
        trained(scene, options, Silent(), state, "key")
    monkeypatch.undo()
    assert torch.load(state, weights_only=True)["done"] == 3
    assert same(whole, trained(scene, options, Silent(), state, "key"))


@pytest.mark.parametrize("damage", ["no state", "no history", "no optimiser"])
def test_a_damaged_state_starts_anew(damage: str, scene, tmp_path: Path) -> None:
    options = Options(width=4, batch_size=2, iterations=2, save_interval=0.0)
    state = tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        trained(scene, options, Interrupting(1), state, "key")
    saved = torch.load(state, weights_only=True)
    if damage == "no history":
        del saved["history"]
    elif damage == "no optimiser":
        saved["optimiser"] = {"state": {}}
    torch.save(saved, state)
    if damage == "no state":
        state.write_bytes(b"no state")
    watcher = Interrupting(99)
    assert same(trained(scene, options), trained(scene, options, watcher, state, "key"))
    assert "damaged" in watcher.said[0]


def test_a_panning_camera(scene) -> None:
    frames, masks = scene[:2]
    homographies = np.tile(np.eye(3), (LENGTH, 1, 1))
    homographies[:, 0, 2] = -2 * np.arange(LENGTH)  # the ground moves 2 pixels to the left a frame
    clip = clip_inputs(frames, masks, homographies, None, 1, 20, CPU)
    np.testing.assert_allclose(clip.bounds, [0, SIDE + 2 * (LENGTH - 1), 0, SIDE])
    for t in range(LENGTH):  # the last frame's motion goes on
        near(clip.camera_flow(t)[0], np.full((SIDE, SIDE), -2, np.float32), 1e-4)
    last = clip.canvas_places(LENGTH - 1)
    assert last[0, 0, -1] == pytest.approx(1) and last[0, 0, 0] > -1


def test_flow_points_from_a_frame_to_the_next(scene) -> None:
    frames, masks = scene[:2]
    clip = clip_inputs(frames, masks, None, None, 1, 20, CPU)
    inside = clip.masks[0]
    for t in range(LENGTH):  # the block moves 7 pixels a frame; the last frame's flow goes on
        assert float(clip.flow[t, 0][inside[t]].median()) == pytest.approx(7, abs=1)
    assert clip.confidence[:-1][inside[:-1]].mean() > 0.3
    assert not clip.confidence[-1].any() and not clip.confidence[~inside].any()

    def right(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.full((*frame.shape[:2], 2), (3, 0), np.float32)

    given = clip_inputs(frames, masks, None, None, 1, 20, CPU, right)
    assert (given.flow[:-1, 0] == 3).all() and not given.confidence.any()  # there is not back


def test_any_working_size_and_order(scene) -> None:
    frames, masks = scene[0][:3, :40, :50], scene[1][:, :3, :40, :50]
    masks = np.concatenate([masks, np.roll(masks, 8, -1)])
    homographies = np.tile(np.eye(3), (3, 1, 1))
    homographies[:, 0, 2] = [0.0, 1.0, 2.0]
    order = np.array([[0, 1], [1, 0], [0, 1]])
    clip = arrays(frames, masks, homographies=homographies, order=order)
    found = method.optimise_clip(clip, Options(width=4, batch_size=2, iterations=2), Silent())
    assert found.layers.shape == (2, 3, 40, 50, 4) and found.plates.shape == (3, 40, 50, 3)
    assert np.isfinite(found.layers).all() and found.layers.min() >= 0 and found.layers.max() <= 1
    assert found.network["size"] == "32x64"


@pytest.mark.parametrize(
    "bad",
    [
        np.array([[1.0, 0, 0], [0, 1, 0], [0.05, 0, 1]]),  # its inverse has a horizon in the frame
        np.diag([0.01, 0.01, 1.0]),
        np.zeros((3, 3)),
        np.full((3, 3), np.nan),
    ],
)
def test_a_homography_that_has_gone_wrong_is_named(scene, bad: np.ndarray) -> None:
    frames, masks = scene[:2]
    homographies = np.tile(np.eye(3), (LENGTH, 1, 1))
    homographies[2] = bad
    with pytest.raises(InputError, match="frame 2"):
        clip_inputs(frames, masks, homographies, None, 1, 20, CPU)


def test_layers_are_composited_in_the_order_of_each_frame(scene) -> None:
    frames, masks = scene[:2]
    masks = np.concatenate([masks, np.roll(masks, 6, -1)])
    order = np.array([[0, 1], [1, 0]] * (LENGTH // 2))
    clip = clip_inputs(frames, masks, None, order, 1, 20, CPU)
    net = Omnimatte(LayerUNet(4, "instance"), None)
    with torch.no_grad():
        x = net(clip.pairs([0, 1, 2], [None] * 3)[0])
    layers = ((x.layers + 1) / 2).movedim(2, 1)  # (B, N, T, 4, H, W)
    rows = torch.from_numpy(np.stack([order[[t, t + 1]] for t in range(3)]))
    expected = over(in_order(layers, rows), (x.plate[:, :, :3] + 1) / 2)
    near((x.composite[:, :, :3] + 1) / 2, expected.numpy(), 1e-6)
    assert not torch.allclose(expected, over(layers, (x.plate[:, :, :3] + 1) / 2), atol=1e-4)


def test_a_tiny_mask_does_not_disappear() -> None:
    masks = np.zeros((1, 2, 64, 64), bool)
    masks[0, 0, 5, 9] = True
    small = method.resize_masks(masks, (32, 32))
    assert small[0, 0].sum() == 1 and small[0, 0, 2, 4] and not small[0, 1].any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"norm": "layer"},
        {"width": 0},
        {"iterations": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"seed": -1},
        {"jitter_zoom": 0.5},
        {"mask_hold": 0.5},
        {"size": (64, 100)},
    ],
)
def test_wrong_options(wrong: dict) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Options(**wrong)

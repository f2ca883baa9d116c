"""Finetuning learns, repeats itself exactly, and resumes where it was interrupted."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.device import deterministic
from omnimatte_cli.errors import OptionError
from omnimatte_cli.interrupt import held_interrupts
from omnimatte_cli.methods.coordination import finetune as tuning
from omnimatte_cli.methods.coordination.finetune import (
    SETTLED_SPAN,
    finetune,
    mask_weight,
    random_crop,
    settled,
    window_losses,
)
from omnimatte_cli.methods.coordination.losses import SPARSITY_WEIGHT
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.methods.coordination.options import Options
from omnimatte_cli.methods.coordination.predict import predict_layers
from omnimatte_cli.progress import Silent
from omnimatte_cli.tensors import ClipTensors
from tests.conftest import interrupt_twice, scene

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tensors() -> ClipTensors:
    video, masks = scene(8, (32, 48))
    background = np.median(video, axis=0).astype(np.uint8)[None]
    order = np.zeros((8, 1), np.int64)
    return ClipTensors.from_arrays(video, masks[None], background, order, CPU)


def new_net() -> LayerNet:
    torch.manual_seed(0)
    return LayerNet(8, (2, 3))


def settings(iterations: int) -> Options:
    return Options(iterations=iterations, batch_size=2, lr=2e-3, save_interval=0.0)


def test_finetuning_lowers_the_loss(tensors: ClipTensors) -> None:
    early = finetune(new_net(), tensors, settings(20), 0, Silent())
    late = finetune(new_net(), tensors, settings(120), 0, Silent())
    assert early is not None and late is not None
    assert (early.iterations, late.iterations) == (20, 120)
    assert late.losses.reconstruction < 0.6 * early.losses.reconstruction
    assert late.losses.total < 0.6 * early.losses.total
    assert finetune(new_net(), tensors, settings(0), 0, Silent()) is None


def test_no_step_waits_for_its_device(tensors: ClipTensors) -> None:
    # A meta tensor has no values: whatever would wait for a GPU's numbers fails on it.
    meta = torch.device("meta")
    clip = ClipTensors(
        *(getattr(tensors, name).to(meta) for name in ("frames", "masks", "plates", "order"))
    )
    net = new_net().to(meta)
    with pytest.raises((RuntimeError, NotImplementedError)):
        clip.frames.float().mean().item()
    options = Options(iterations=3, batch_size=2)
    optimiser = tuning.make_optimiser(net, options)
    for iteration in range(2):
        terms = tuning.step(net, optimiser, clip, options, 0, iteration)
        assert terms.shape == (5,) and terms.device == meta


def test_same_seed_same_weights_and_another_seed_others(tensors: ClipTensors) -> None:
    with deterministic():
        nets = []
        for seed in (3, 3, 4):
            net = new_net()
            finetune(net, tensors, Options(iterations=3, batch_size=2), seed, Silent())
            nets.append(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].values(), nets[1].values(), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(nets[0].values(), nets[2].values(), strict=True)
    )


class Interrupting(Silent):
    """Sends Ctrl-C's signal after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.said: list[str] = []

    def step(self, done: int, note: str = "") -> None:
        if done == self.after:
            os.kill(os.getpid(), signal.SIGINT)

    def say(self, message: str) -> None:
        self.said.append(message)


def history(first: float, second: float, steps: int = 2 * SETTLED_SPAN) -> list[torch.Tensor]:
    """Terms whose reconstruction falls once in the middle, under a mask loss that falls on."""
    terms = torch.zeros(steps, 5)
    terms[:, 0] = torch.where(torch.arange(steps) < steps // 2, first, second)
    terms[:, 3] = torch.linspace(1, 0, steps)
    return list(terms)


def test_when_the_loss_has_settled() -> None:
    assert settled(history(0.5, 0.5)) and settled(history(0.5, 0.495))
    assert not settled(history(0.5, 0.45))
    assert not settled(history(0.5, 0.5)[1:])  # too short to say
    sparse = history(0.5, 0.5)
    for terms in sparse[SETTLED_SPAN:]:
        terms[1] = -0.5 / SPARSITY_WEIGHT * 0.1  # 10 % of the loss
    assert not settled(sparse)


@pytest.mark.slow
def test_training_ends_when_the_loss_falls_no_more(
    tensors: ClipTensors, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("omnimatte_cli.methods.coordination.finetune.SETTLED_SPAN", 15)
    monkeypatch.setattr("omnimatte_cli.methods.coordination.finetune.SETTLED_FALL", 0.1)
    options = Options(iterations="auto", batch_size=2, lr=2e-3, save_interval=0.0)
    whole, watcher = new_net(), Interrupting(0)
    trained = finetune(whole, tensors, options, 0, watcher)
    assert trained is not None and 30 <= trained.iterations < 1000
    assert watcher.said == [
        f"The loss falls no more: finetuning ended after {trained.iterations} steps."
    ]
    early = finetune(new_net(), tensors, settings(20), 0, Silent())
    assert early is not None and trained.losses.total < 0.75 * early.losses.total
    # It ends at the same step after an interrupt.
    parts, state = new_net(), tmp_path / "state.pt"
    with pytest.raises(KeyboardInterrupt):
        finetune(parts, tensors, options, 0, Interrupting(27), state, "key")
    again = finetune(parts, tensors, options, 0, Silent(), state, "key")
    assert again == trained
    pairs = zip(whole.state_dict().values(), parts.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("interval", [0.0, 1e9])
def test_an_interrupted_run_resumes_to_the_same_weights(
    tensors: ClipTensors, tmp_path: Path, interval: float
) -> None:
    whole, parts = new_net(), new_net()
    options = Options(iterations=6, batch_size=2, save_interval=interval)
    state = tmp_path / "state.pt"
    finetune(whole, tensors, options, 0, Silent())
    with pytest.raises(KeyboardInterrupt):
        finetune(parts, tensors, options, 0, Interrupting(4), state, "key")
    fresh, watcher = new_net(), Interrupting(99)
    finetune(fresh, tensors, options, 0, watcher, state, "key")
    assert "iteration 4" in watcher.said[0]
    pairs = zip(whole.state_dict().values(), fresh.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    other, watcher = new_net(), Interrupting(99)
    finetune(other, tensors, options, 0, watcher, state, "another input")
    assert watcher.said == []  # a state of another input is not taken


class Signalling(Silent):
    """Is sent a real interrupt in the middle of a step."""

    def __init__(self, module, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        self.steps = 0

        def losses(*args):
            self.steps += 1
            if self.steps == after:
                os.kill(os.getpid(), signal.SIGINT)
            return window_losses(*args)

        monkeypatch.setattr(module, "window_losses", losses)


def test_an_interrupt_waits_for_the_end_of_the_step(
    tensors: ClipTensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state.pt"
    options = Options(iterations=4, batch_size=2)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        progress = Signalling(tuning, monkeypatch, after=3)
        finetune(new_net(), tensors, options, 0, progress, state, "key")
    assert progress.steps == 3 and torch.load(state, weights_only=True)["done"] == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_interrupt_saves_no_half_step(
    tensors: ClipTensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the weights may have moved: what was saved at the last whole step stays."""
    state = tmp_path / "state.pt"
    options = Options(iterations=6, batch_size=2, save_interval=0.0)
    interrupt_twice(monkeypatch, torch.optim.AdamW, state, 3)
    with pytest.raises(KeyboardInterrupt):
        finetune(new_net(), tensors, options, 0, Silent(), state, "key")
    monkeypatch.undo()
    assert torch.load(state, weights_only=True)["done"] == 3
    whole, parts = new_net(), new_net()
    finetune(whole, tensors, options, 0, Silent())
    finetune(parts, tensors, options, 0, Silent(), state, "key")
    pairs = zip(whole.state_dict().values(), parts.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("damage", ["truncated", "no history", "no optimiser", "other shapes"])
def test_a_damaged_state_begins_anew_with_the_weights_it_had(
    tensors: ClipTensors, tmp_path: Path, damage: str
) -> None:
    state = tmp_path / "state.pt"
    options = Options(iterations=3, batch_size=2, save_interval=0.0)
    finetune(new_net(), tensors, options, 0, Silent(), state, "key")
    saved = torch.load(state, weights_only=True)
    saved["done"] = 2
    if damage == "no history":
        del saved["history"]
    elif damage == "no optimiser":
        saved["optimiser"] = {"state": {}}
    elif damage == "other shapes":
        saved["net"] = {k: v[:1] for k, v in saved["net"].items()}
    torch.save(saved, state)
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:1000])
    whole, anew, watcher = new_net(), new_net(), Interrupting(99)
    finetune(whole, tensors, options, 0, Silent())
    finetune(anew, tensors, options, 0, watcher, state, "key")
    assert "damaged" in watcher.said[0]
    pairs = zip(whole.state_dict().values(), anew.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_interrupts_are_held_back_once() -> None:
    with pytest.raises(KeyboardInterrupt), held_interrupts() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    found = []

    def elsewhere() -> None:
        with held_interrupts() as interrupt:
            found.append(interrupt.asked)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]


def test_mask_weight_falls_at_a_tenth_and_a_fifth() -> None:
    options = Options(iterations=100)
    weights = [mask_weight(options, i) for i in (0, 9, 10, 19, 20, 99)]
    assert weights == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_crops_move_frames_masks_and_plates_alike() -> None:
    rng = np.random.default_rng(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 48), indexing="ij")
    ramp = torch.stack([x, y, x * y]).expand(4, 5, 3, 32, 48)
    masks = (ramp[:, None, :, :1] > 0.5).float()
    options = Options(iterations=1, crop_chance=1.0, crop=0.2)
    crop = random_crop(rng, ramp.shape, options, CPU)
    frames, cropped = crop(ramp), crop(masks, "nearest")
    assert torch.equal(frames, crop(ramp))
    assert not torch.allclose(frames, ramp, atol=0.02)
    agree = (frames[:, None, :, :1] > 0.5).float() == cropped
    assert agree.float().mean() > 0.97
    spread = frames[:, 0, 0].amax((1, 2)) - frames[:, 0, 0].amin((1, 2))
    assert bool((spread > 0.55).all()) and bool((spread <= 1).all())


def test_every_frame_gets_its_layer(tensors: ClipTensors) -> None:
    found = list(predict_layers(new_net(), tensors, 1, Silent(), batch_size=3))
    frames = [f for part, _ in found for f in part]
    assert frames == list(range(8))
    assert all(rgba.shape == (1, len(part), 32, 48, 4) for part, rgba in found)


@pytest.mark.parametrize("has", [{}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_a_cpu_computes_in_bfloat16_where_it_has_instructions_for_it(
    has: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **has})
    with devices.autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has else torch.float32)


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert not devices.has_bfloat16(torch.device("cuda"))
    assert asked == [False]


def test_the_random_state_is_the_callers_again() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with deterministic():
        torch.manual_seed(1)
        torch.rand(3)
    assert torch.equal(torch.rand(2), expected)


def test_devices() -> None:
    assert devices.choose("cpu") == CPU
    threads = torch.get_num_threads()  # part of what a run's files depend on
    assert devices.describe(CPU).startswith(f"cpu ({threads} threads, ")
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="--device cuda"):
            devices.choose("cuda")

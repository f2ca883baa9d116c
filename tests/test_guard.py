"""Trainings that run out of memory or of numbers: smaller, or once back at half the rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from omnimatte_cli.device import BatchSize, is_out_of_memory
from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.matte import predict
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.methods.coordination import finetune as coordination
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.methods.coordination.options import Options
from omnimatte_cli.methods.coordination.predict import predict_layers
from omnimatte_cli.methods.generative import optimise as generative
from omnimatte_cli.methods.generative.options import StageOptions
from omnimatte_cli.methods.guard import INTERVAL, Guard
from omnimatte_cli.progress import Silent
from omnimatte_cli.tensors import ClipTensors
from tests.conftest import Said, scene

CPU = torch.device("cpu")
NAN = float("nan")


@pytest.fixture(scope="module")
def clip() -> ClipTensors:
    video, masks = scene(8, (32, 48))
    plate = np.median(video, axis=0).astype(np.uint8)[None]
    return ClipTensors.from_arrays(video, masks[None], plate, np.zeros((8, 1), np.int64), CPU)


# ------------------------------------------------------------------------------------------ memory


def full(limit: int, error: type[Exception] = torch.cuda.OutOfMemoryError):
    """A computation for which memory runs out above a size."""
    asked: list[int] = []

    def compute(size: int) -> int:
        asked.append(size)
        if size > limit:
            raise error("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation")
        return size

    return compute, asked


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError, MemoryError])
def test_sizes_are_halved_until_they_fit_and_stay_so(error) -> None:
    progress = Said()
    batch = BatchSize(16, "windows", progress)
    compute, asked = full(3, error)
    assert batch.fit(compute) == 2 and batch.fit(compute) == 2
    assert asked == [16, 8, 4, 2, 2]
    assert progress.said[0] == "Memory ran out with 16 windows at a time: 8 from here on."
    assert len(progress.said) == 3


def test_where_one_does_not_fit_the_run_ends_with_a_sentence() -> None:
    compute, asked = full(0)
    with pytest.raises(OmnimatteError, match="not enough memory for one of the windows: try"):
        BatchSize(5, "windows", Silent()).fit(compute)
    assert asked == [5, 2, 1]


def test_other_errors_pass() -> None:
    def compute(size: int) -> None:
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes"):
        BatchSize(4, "windows", Silent()).fit(compute)
    assert not is_out_of_memory(ValueError("memory"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to"))


@pytest.mark.slow
def test_finetuning_goes_on_with_smaller_batches(clip: ClipTensors, monkeypatch) -> None:
    """As with the smaller batch from the start, since each step draws by itself."""
    losses, sizes = coordination.window_losses, []

    def limited(net, frames, *rest):
        sizes.append(len(frames))
        if len(frames) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return losses(net, frames, *rest)

    monkeypatch.setattr(coordination, "window_losses", limited)
    nets, progress = [], Said()
    for size in (8, 2):
        torch.manual_seed(0)
        nets.append(LayerNet(8, (2, 3)))
        options = Options(iterations=3, batch_size=size)
        coordination.finetune(nets[-1], clip, options, 0, progress)
    assert sizes[:5] == [8, 4, 2, 2, 2] and len(progress.said) == 2
    pairs = zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


class Limited(torch.nn.Module):
    """A network that has memory for so many entries along its first input's axis only."""

    def __init__(self, net: torch.nn.Module, limit: int, axis: int) -> None:
        super().__init__()
        self.net, self.limit, self.axis = net, limit, axis

    def forward(self, first, *rest):
        if first.shape[self.axis] > self.limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self.net(first, *rest)


@pytest.mark.slow
def test_predictions_are_the_same_in_smaller_pieces(clip: ClipTensors) -> None:
    torch.manual_seed(0)
    net = LayerNet(8, (2, 3))
    whole = list(predict_layers(net, clip, 1, Silent()))
    parts = list(predict_layers(Limited(net, 1, 0), clip, 1, Silent()))  # type: ignore[arg-type]
    assert [f for frames, _ in parts for f in frames] == list(range(8)) and len(parts) == 8
    a, b = (np.concatenate([rgba for _, rgba in found], 1) for found in (whole, parts))
    assert np.abs(a - b).max() < 0.02  # bfloat16 where the CPU has it


@pytest.mark.slow
def test_ownership_is_the_same_in_smaller_pieces() -> None:
    video, masks = scene(31, (32, 48))
    plate = np.median(video, axis=0).astype(np.uint8)[None]
    order = np.zeros((31, 1), np.int64)
    clip = ClipTensors.from_arrays(video, masks[None], plate, order, CPU)
    owner, progress = OwnerNet().eval(), Said()
    limited: OwnerNet = Limited(owner, 2 * predict.CONTEXT + 7, 1)  # type: ignore[assignment]
    one = predict.predict_ownership(owner, clip, 1, 10.0, Silent())
    two = predict.predict_ownership(limited, clip, 1, 10.0, progress)
    assert np.abs(one.weights.astype(float) - two.weights).max() < 0.02
    assert progress.said[-1] == "Memory ran out with 12 frames at a time: 6 from here on."


# ----------------------------------------------------------------------------------------- numbers


def poisoned(monkeypatch, steps: set[int]):
    """Finetuning whose loss is NaN in some calls. Returns the calls' learning rates."""
    losses, rates = coordination.window_losses, []

    def window_losses(*args):
        terms = losses(*args)
        rates.append(len(rates))
        return tuple(t * NAN for t in terms) if len(rates) - 1 in steps else terms

    monkeypatch.setattr(coordination, "window_losses", window_losses)
    return rates


@pytest.mark.slow
def test_a_loss_that_is_no_number_goes_back_once_at_half_the_rate(
    clip: ClipTensors, tmp_path: Path, monkeypatch
) -> None:
    calls, progress = poisoned(monkeypatch, {3}), Said()
    net = LayerNet(8, (2, 3))
    options = Options(iterations=6, batch_size=2, lr=1e-3, save_interval=0.0)
    state = tmp_path / "state.pt"
    trained = coordination.finetune(net, clip, options, 0, progress, state, "key")
    assert trained is not None and np.isfinite(trained.losses.total) and len(calls) == 6 + 6
    assert progress.said == [
        "The loss is not a number at step 6: back to step 0, at half the rate."
    ]
    assert all(p.isfinite().all() for p in net.parameters())
    saved = torch.load(state, weights_only=True)
    assert saved["optimiser"]["param_groups"][0]["lr"] == 5e-4
    assert all(x.isfinite().all() for x in saved["net"].values())


@pytest.mark.slow
def test_the_second_time_ends_it(clip: ClipTensors, monkeypatch) -> None:
    poisoned(monkeypatch, {3, 8})
    options = Options(iterations=6, batch_size=2)
    with pytest.raises(OmnimatteError, match="diverged at step 6, at half the rate as well"):
        coordination.finetune(LayerNet(8, (2, 3)), clip, options, 0, Silent())


def test_weights_that_are_no_numbers_at_the_end_count_too() -> None:
    net = torch.nn.Linear(2, 1)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    guard = Guard(net, optimiser, Said())
    before = net.weight.detach().clone()
    guard.keep(0)
    with torch.no_grad():
        net.weight.fill_(NAN)
    guard.keep(INTERVAL)  # not kept: it is not sound
    assert guard.back(INTERVAL, [1.0]) is None and not guard.sound()
    assert guard.back(INTERVAL, [1.0], last=True) == 0
    assert torch.equal(net.weight, before) and optimiser.param_groups[0]["lr"] == 0.05


def test_the_optimisation_of_a_solo_goes_back_too(monkeypatch) -> None:
    video = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(5, 1, 64, 64)
    mask[..., 16:36, 16:36] = 1
    clip = generative.SoloClip(video, video.mean(0, keepdim=True), mask)
    stage, progress, calls = StageOptions(steps=4, frames=4, width=8), Said(), []
    losses = generative.layer_losses

    def layer_losses(rgb, *rest):
        calls.append(len(rgb))
        if len(rgb) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return losses(rgb * NAN if len(calls) == 4 else rgb, *rest)

    monkeypatch.setattr(generative, "layer_losses", layer_losses)
    layer = generative.optimise(clip, stage, 0, progress)
    assert calls[:2] == [4, 2] and len(calls) == 1 + 3 + 4
    assert bool(layer.alpha.isfinite().all()) and len(progress.said) == 2

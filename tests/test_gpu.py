"""What a GPU computes: the CPU's answers, the same twice, by every method and command.

Where there is no GPU nothing of this can be seen, and the tests say so; the same code runs on the
CPU in the other tests.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli.api import decompose
from omnimatte_cli.device import deterministic, has_bfloat16
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.finetune import finetune, make_optimiser, step
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.methods.coordination.options import Options
from omnimatte_cli.progress import Silent
from omnimatte_cli.synth.seeds import VALIDATION_SEEDS
from omnimatte_cli.tensors import ClipTensors
from omnimatte_cli.training.pool import render_chunk, restored
from omnimatte_cli.training.recipe import Recipe
from tests.conftest import write_masks

DEVICE = "cuda"
GPU, CPU = torch.device(DEVICE), torch.device("cpu")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]
METHODS = {
    "ownership": {},
    "coordination": {"iterations": 4, "weights": "small"},
    "omnimatte2021": {"iterations": 4},
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with frames/ and masks/a, masks/b: two blocks with shadows over a noisy ground."""
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)
    frames, height, width = 12, 64, 96
    plate = cv2.resize(rng.uniform(60, 200, (8, 12, 3)).astype(np.float32), (width, height))
    video = np.repeat(plate[None], frames, 0) + rng.normal(0, 1, (frames, height, width, 1))
    masks = np.zeros((2, frames, height, width), bool)
    for t in range(frames):
        for i, (top, left) in enumerate(((10, 6 + 5 * t), (34, 76 - 5 * t))):
            masks[i, t, top : top + 14, left : left + 12] = True
            video[t, top + 14 : top + 20, left + 2 : left + 16] *= 0.6
        video[t][masks[0, t]], video[t][masks[1, t]] = (220, 40, 30), (30, 60, 220)
    video = np.clip(video + 0.5, 0, 255).astype(np.uint8)
    (folder / "frames").mkdir()
    for t, frame in enumerate(video):
        cv2.imwrite(str(folder / "frames" / f"{t:05d}.png"), frame)
    for name, mask in zip("ab", masks, strict=True):
        write_masks(folder / "masks" / name, mask)
    return folder


def layers(clip: Path, out: Path, device: str, method: str) -> dict[str, np.ndarray]:
    """Every layer's frames, (T, H, W, 4) uint8, of one run."""
    result = decompose(
        clip / "frames", out, masks=clip / "masks", method=method, device=device, size=(64, 96),
        **METHODS[method],
    )  # fmt: skip
    return {
        name: np.stack(
            [cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in sorted(folder.glob("*.png"))]
        )
        for name, folder in result.layers.items()
    }


@pytest.mark.parametrize("method", METHODS)
def test_the_same_command_gives_the_same_layers(clip: Path, tmp_path: Path, method: str) -> None:
    first = layers(clip, tmp_path / "first", DEVICE, method)
    second = layers(clip, tmp_path / "second", DEVICE, method)
    assert first.keys() == second.keys() == {"a", "b"}
    for name, layer in first.items():
        assert layer[..., 3].max() == 255
        assert np.array_equal(layer, second[name])


def test_ownership_gives_the_layers_of_the_cpu(clip: Path, tmp_path: Path) -> None:
    here = layers(clip, tmp_path / "here", "cpu", "ownership")
    there = layers(clip, tmp_path / "there", DEVICE, "ownership")
    for name, layer in here.items():
        apart = np.abs(layer[..., 3].astype(int) - there[name][..., 3])
        assert apart.mean() < 0.5 and (apart > 16).mean() < 0.005


@torch.no_grad()
def test_networks_answer_as_on_the_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(1, 5, 3, 64, 96, generator=generator)
    masks = (torch.rand(1, 2, 5, 1, 64, 96, generator=generator) > 0.8).float()
    owner = weights.load_owner(weights.find(weights.OWNERSHIP, "ownership"))
    net = weights.load(weights.find("small", "coordination"), (4, 6))
    hidden = torch.tensor([[False, True, False, True, True]])
    for network, given in ((owner, (frames, frames[:, :1], masks)), (net, (frames, masks, hidden))):
        here = network(*given)
        there = network.to(GPU)(*(x.to(GPU) for x in given)).cpu()
        assert float((here - there).norm() / here.norm()) < 2e-3  # convolutions take TF32


def test_finetuning_is_the_same_twice() -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 64, 96, 3), np.uint8)
    masks = rng.random((2, 8, 64, 96)) > 0.9
    order = np.tile(np.arange(2), (8, 1))
    clip = ClipTensors.from_arrays(frames, masks, frames[:1], order, GPU)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        net = LayerNet(16, (4, 6)).to(GPU)
        with deterministic():
            trained = finetune(net, clip, Options(iterations=5), 0, Silent())
        assert trained is not None and np.isfinite(trained.losses.total)
        found.append(net.state_dict())
    assert all(torch.equal(found[0][k], found[1][k]) for k in found[0])
    assert has_bfloat16(GPU) or torch.cuda.get_device_capability(GPU) < (8, 0)


@pytest.mark.parametrize("width", [16, 64])
def test_no_step_of_finetuning_waits_for_the_device(width: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 64, 96, 3), np.uint8)
    masks = rng.random((2, 8, 64, 96)) > 0.9
    order = np.tile(np.arange(2), (8, 1))
    clip = ClipTensors.from_arrays(frames, masks, frames[:1], order, GPU)
    net, options = LayerNet(width, (4, 6)).to(GPU).train(), Options(iterations=10)
    optimiser = make_optimiser(net, options)
    with deterministic():
        step(net, optimiser, clip, options, 0, 0)  # the first one prepares
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says that it may miss some
                torch.cuda.set_sync_debug_mode("error")
            step(net, optimiser, clip, options, 0, 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_scenes_are_rendered_as_on_the_cpu() -> None:
    recipe = Recipe(network="ownership", chunk=2, batch_size=2, objects=(2,))
    here = restored(render_chunk(recipe, 0, VALIDATION_SEEDS, "cpu"), CPU)
    there = restored(render_chunk(recipe, 0, VALIDATION_SEEDS, DEVICE), CPU)
    # Filming draws from the device's own generator: what is compared is what lies before it.
    assert float((here.visible != there.visible).float().mean()) < 1e-3
    assert torch.equal(here.order, there.order)


def test_an_ownership_network_trains(tmp_path: Path) -> None:
    from omnimatte_cli.training.loop import pretrain

    recipe = Recipe(
        network="ownership", height=32, width_pixels=32, steps=2, batch_size=2, chunk=2, pool=2,
        objects=(2,), validate_steps=100, validation_objects=(2,),
    )  # fmt: skip
    file = weights.find(str(pretrain(recipe, tmp_path, GPU, Silent())), "ownership")
    assert isinstance(weights.load_owner(file), OwnerNet)

"""The coordination method: finetune the layer network on the clip and predict its layers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.arrays import Plate, Size, frame_or_static, to_float
from omnimatte_cli.errors import WeightsError
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.matte.noise import residual_noise
from omnimatte_cli.matte.over import in_order, over
from omnimatte_cli.matte.ownership import (
    UNOWNED,
    Ownership,
    frame_weights,
    layer_weights,
    product,
    working_plates,
)
from omnimatte_cli.matte.pool import pool_over_time
from omnimatte_cli.matte.resolve import resolve_frame
from omnimatte_cli.matte.transfer import transferrer
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.base import Method, Run, Separation
from omnimatte_cli.methods.coordination.finetune import Trained, finetune
from omnimatte_cli.methods.coordination.network import STRIDE, LayerNet
from omnimatte_cli.methods.coordination.options import (
    CPU_ITERATIONS,
    CPU_WEIGHTS,
    CPU_WIDTH,
    GPU_ITERATIONS,
    GPU_WEIGHTS,
    GPU_WIDTH,
    Options,
)
from omnimatte_cli.methods.coordination.predict import predict_layers
from omnimatte_cli.methods.weights import WeightsFile
from omnimatte_cli.progress import Progress
from omnimatte_cli.shot import Shot
from omnimatte_cli.tensors import ClipTensors, clip_key

RANDOM_START = (
    "Starting from random weights: effects such as shadows will be found only in part "
    "(--weights names others)."
)


@dataclass(frozen=True)
class Prediction:
    """What finetuning gave.

    ownership: by the predicted layers alone. layers: (N, T, h, w, 4) float16 straight alpha, kept
    only where the options' detail needs them. psnr: of their composite against the clip, dB. state:
    the file that the training is saved in, not needed once the result is written.
    """

    ownership: Ownership
    layers: np.ndarray | None
    psnr: float | None
    trained: Trained | None
    state: Path | None = None

    def forget(self) -> None:
        """Remove the saved training."""
        if self.state is not None:
            self.state.unlink(missing_ok=True)


class CoordinationMethod(Method[Options]):
    """The paper's method; with `owner`, the ownership network says part of whose a change is."""

    def __init__(self, options: Options, run: Run) -> None:
        on_cpu = run.device.type == "cpu"
        if options.iterations is None:
            options = replace(options, iterations=CPU_ITERATIONS if on_cpu else GPU_ITERATIONS)
        super().__init__(options, run)
        self.file = find_weights(run)
        if self.file is not None:
            weights.load(self.file)  # what is wrong with it is said before the video is read
        if options.uses_ownership and run.ownership is None:
            raise WeightsError(
                "This version ships no ownership weights: --set owner=layers does without."
            )

    def separate(self, shot: Shot, plate: Plate, progress: Progress) -> Separation:
        """Finetune, predict, ask the ownership network where the options say so, and resolve."""
        options, run = self.options, self.run
        plates = working_plates(plate, shot.size, len(shot))
        clip = shot.tensors(plates, run.device)
        known = None
        if options.uses_ownership:
            assert run.ownership is not None
            known = shot.ownership(run.ownership, plates, run.device, progress)
        if options.bootstrap == "ownership":
            assert known is not None
            clip = replace(clip, bootstrap=first_alphas(clip, known))
        net, origin = make_network(self.file, run, shot.size)
        prediction = finetune_and_predict(net, origin, clip, options, run, progress)
        trained = prediction.trained
        facts: dict[str, Any] = {
            "network": origin,
            "iterations": trained.iterations if trained else 0,
            "losses": asdict(trained.losses) if trained else None,
            "psnr": {"before_detail": prediction.psnr},
        }
        if options.detail != "resolve":
            assert prediction.layers is not None
            sharpen = options.detail == "transfer"
            layers_at = transferrer(prediction.layers, shot.masks.order, sharpen)
            return Separation(layers_at, facts, prediction.forget)
        ownership = choose_owner(prediction.ownership, options, known)
        ownership = pool_over_time(ownership, shot.frames, plates, float(shot.fps), progress)
        layers_at = shot.resolver(ownership, plates, run.solve, plate, run.cut_out)
        return Separation(layers_at, facts, prediction.forget)


METHOD = CoordinationMethod


def find_weights(run: Run) -> WeightsFile | None:
    """The layer network's weights that a run asks for; None for a random start."""
    name = run.weights
    if name == "auto":
        name = CPU_WEIGHTS if run.device.type == "cpu" else GPU_WEIGHTS
        if name not in weights.shipped_names():
            return None
    return None if name == "none" else weights.find(name)


def make_network(
    file: WeightsFile | None, run: Run, size: Size
) -> tuple[LayerNet, dict[str, object]]:
    """The network in eval mode on the device, and where its weights came from."""
    grid = (size[0] // STRIDE, size[1] // STRIDE)
    if file is None:
        width = CPU_WIDTH if run.device.type == "cpu" else GPU_WIDTH
        torch.manual_seed(run.seed)
        net = LayerNet(width, grid)
        return net.to(run.device), {"weights": "none", "width": width, "seed": run.seed}
    net = weights.load(file, grid)
    origin: dict[str, object] = {"weights": file.path.name, "sha256": file.sha256}
    return net.to(run.device), origin | file.metadata


def run_key(clip: ClipTensors, options: Options, seed: int, origin: dict[str, object]) -> str:
    """A hash of all that the finetuned weights depend on."""
    facts = {
        k: v
        for k, v in asdict(options).items()
        if k not in ("owner", "detail", "save_interval")  # decided after the finetuning
    }
    return clip_key(clip, [facts, seed, origin])


def finetune_and_predict(
    net: LayerNet,
    origin: dict[str, object],
    clip: ClipTensors,
    options: Options,
    run: Run,
    progress: Progress,
) -> Prediction:
    """Finetune the network on the clip and predict every object's layer.

    origin: where the network's weights came from. A training that was interrupted is resumed; the
    predictions are kept in the run's memo for a later call that differs in `owner` alone.
    """
    keep = options.detail != "resolve"
    key = run_key(clip, options, run.seed, origin)
    memo = run.memo.get("coordination")
    if memo is not None and memo[0] == key and (memo[1].layers is not None or not keep):
        return memo[1]
    progress.stage("finetuning", options.steps)
    if origin.get("weights") == "none":
        progress.say(RANDOM_START)
    state = run.state_file(key)
    trained = finetune(net, clip, options, run.seed, progress, state, key)

    progress.stage("predicting", len(clip))
    n, t = len(clip.masks), len(clip)
    size = (clip.frames.shape[2], clip.frames.shape[3])
    found = np.zeros((n, t, *size), np.float16)
    layers = np.zeros((n, t, *size, 4), np.float16) if keep else None
    psnr = PSNR()
    plates = to_float(np.moveaxis(clip.plates.cpu().numpy(), 1, -1))
    for frames, rgba in predict_layers(net, clip, options.frame_stride, progress):
        for place, frame in enumerate(frames):
            plate = frame_or_static(plates, frame)
            for i in range(n):
                found[i, frame] = layer_weights(rgba[i, place], plate)
        add_prediction(psnr, clip, frames, rgba)
        if layers is not None:
            layers[:, frames] = rgba
    ownership = Ownership(found, np.full((1, 1, 1), UNOWNED, np.float16))
    prediction = Prediction(ownership, layers, psnr.value, trained, state)
    run.memo["coordination"] = (key, prediction)
    return prediction


def choose_owner(layers: Ownership, options: Options, known: Ownership | None) -> Ownership:
    """What the option `owner` asks for: the predicted layers' word, the network's, or both."""
    if options.owner == "layers":
        return layers
    assert known is not None
    return known if options.owner == "network" else product(layers, known)


def first_alphas(clip: ClipTensors, known: Ownership) -> Tensor:
    """Alphas of the layers that an ownership gives at working size, (N, T, h, w) uint8."""
    n, t, h, w = clip.masks.shape
    frames = np.moveaxis(clip.frames.cpu().numpy(), 1, -1)
    plates = np.moveaxis(clip.plates.cpu().numpy(), 1, -1)
    masks, order = clip.masks.cpu().numpy(), clip.order.cpu().numpy()
    noise = residual_noise(frames, plates, masks)
    alphas = np.empty((n, t, h, w), np.uint8)
    for k in range(t):
        frame = frame_weights(known, k, masks[:, k], order[k])
        plate = frame_or_static(plates, k)
        layers = resolve_frame(to_float(frames[k]), to_float(plate), frame, order[k], noise)
        alphas[:, k] = np.rint(255 * layers.rgba[..., 3])
    return torch.from_numpy(alphas).to(clip.frames.device)


def add_prediction(psnr: PSNR, clip: ClipTensors, frames: list[int], rgba: np.ndarray) -> None:
    """Add the composite of predicted layers (N, K, h, w, 4) of frames K to a score."""
    index = torch.tensor(frames, device=clip.frames.device)[None]
    truth, _, plate, order = clip.windows(index)
    layers = torch.from_numpy(np.moveaxis(rgba, -1, 2)).to(truth.device)[None]
    composite = over(in_order(layers, order), plate)
    psnr.add(composite.cpu().numpy(), truth.cpu().numpy())

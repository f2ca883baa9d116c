"""Which object does each change of the picture belong to?

The paper's answer ("coordination"): finetune the layer network on the clip and predict layers. Ours
("ownership"): a network that was trained to say it at once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.arrays import Size, at_frame, to_float
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.over import in_order, over
from omnimatte_cli.matte.ownership import NOBODY, Ownership, claims_of, product, shares
from omnimatte_cli.matte.resolve import residual_noise, resolve_frame
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.finetune import ClipTensors, Losses, finetune
from omnimatte_cli.methods.coordination.infer import predict_layers
from omnimatte_cli.methods.coordination.network import STRIDE, LayerNet
from omnimatte_cli.methods.weights import WeightsFile
from omnimatte_cli.progress import Progress
from omnimatte_cli.settings import (
    CPU_ITERATIONS,
    CPU_WEIGHTS,
    CPU_WIDTH,
    GPU_ITERATIONS,
    GPU_WEIGHTS,
    GPU_WIDTH,
    OWNER_WEIGHTS,
    FinetuneSettings,
    Method,
    Settings,
    check,
)

RANDOM_START = (
    "Starting from random weights: effects such as shadows will be found only in part "
    "(--weights names others)."
)


@dataclass(frozen=True)
class Association:
    """What the network found out about a clip.

    layers: (N, T, h, w, 4) float16 predicted layers, kept only for detail transfer.
    psnr: of the predicted layers' composite against the clip at working size, dB.
    network: where the weights came from, for the manifest.
    """

    ownership: Ownership
    network: dict[str, object]
    layers: np.ndarray | None = None
    psnr: float | None = None
    losses: Losses | None = None
    iterations: int = 0


def choose_method(settings: Settings, device: torch.device) -> tuple[str, str]:
    """The method to use, and a sentence that says why."""
    if settings.method != "auto":
        return settings.method, f"Method: {settings.method}, as asked."
    if settings.weights not in ("auto", "none"):
        method = weights.find(settings.weights, network=None).metadata.get("network", "")
        check(method in get_args(Method), f"--weights {settings.weights} is of an unknown network")
        return method, f"Method: {method}, since --weights is for it."
    asks = (
        settings.iterations is not None
        or settings.detail == "transfer"
        or settings.weights == "none"
    )
    if device.type != "cpu":
        return "coordination", "Method: coordination, since there is a GPU to finetune on."
    if asks:
        return "coordination", "Method: coordination, since an option asks for it."
    if OWNER_WEIGHTS not in weights.shipped_names():
        return "coordination", "Method: coordination, since no ownership weights are shipped."
    # 200 steps take minutes on a CPU and gain 0.01 of IoU at most (weights/README.md).
    return "ownership", "Method: ownership, which needs no finetuning (there is no GPU)."


def owner_network(settings: Settings, method: str, device: torch.device) -> OwnerNet | None:
    """The ownership network on the device; None where it is not needed and not shipped."""
    given = method == "ownership" and settings.weights not in ("auto", "none")
    name = settings.weights if given else OWNER_WEIGHTS
    needed = method == "ownership" or uses_owner(settings)
    if not needed and name not in weights.shipped_names():
        return None
    return weights.load_owner(weights.find(name, "ownership")).to(device)


def uses_owner(settings: Settings) -> bool:
    """Whether finetuning or its result asks the ownership network."""
    return settings.owner != "layers" or settings.bootstrap == "ownership"


def finetune_settings(settings: Settings, device: torch.device) -> FinetuneSettings:
    """The finetuning that the options ask for; what they leave open follows the device."""
    iterations = settings.iterations
    if iterations is None:
        iterations = CPU_ITERATIONS if device.type == "cpu" else GPU_ITERATIONS
    return FinetuneSettings(
        iterations=iterations,
        batch_size=settings.batch_size,
        lr=settings.lr,
        gap=settings.gap or FinetuneSettings.gap,
        hiding=settings.hiding,
        seed=settings.seed,
    )


def find_weights(settings: Settings, device: torch.device) -> WeightsFile | None:
    """The layer network's weights that the options ask for; None for a random start."""
    name = settings.weights
    if name == "auto":
        name = CPU_WEIGHTS if device.type == "cpu" else GPU_WEIGHTS
        if name not in weights.shipped_names():
            return None
    return None if name == "none" else weights.find(name)


def make_network(
    file: WeightsFile | None, settings: Settings, device: torch.device, size: Size
) -> tuple[LayerNet, dict[str, object]]:
    """The network in eval mode on the device, and where its weights came from."""
    grid = (size[0] // STRIDE, size[1] // STRIDE)
    if file is None:
        width = CPU_WIDTH if device.type == "cpu" else GPU_WIDTH
        torch.manual_seed(settings.seed)
        net = LayerNet(width, grid)
        return net.to(device), {"weights": "none", "width": width, "seed": settings.seed}
    net = weights.load(file, grid)
    origin: dict[str, object] = {"weights": file.path.name, "sha256": file.sha256}
    return net.to(device), origin | file.metadata


def run_key(clip: ClipTensors, tuning: FinetuneSettings, origin: dict[str, object]) -> str:
    """A hash of all that the finetuned weights depend on."""
    digest = hashlib.sha256(json.dumps([asdict(tuning), origin], sort_keys=True).encode())
    for tensor in (clip.frames, clip.masks, clip.plates, clip.order, clip.bootstrap):
        if tensor is not None:
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def coordinate(
    clip: ClipTensors,
    settings: Settings,
    file: WeightsFile | None,
    progress: Progress,
    state: Path | None = None,
    known: Ownership | None = None,
) -> Association:
    """Finetune the network on the clip and predict every object's layer.

    file: the weights to begin with, None for random ones. state: file that an interrupted
    finetuning is saved to and resumed from. known: the ownership network's answer, for the
    settings `owner` and `bootstrap` that use it.
    """
    device = clip.frames.device
    size = (clip.frames.shape[2], clip.frames.shape[3])
    net, origin = make_network(file, settings, device, size)
    if file is None:
        progress.say(RANDOM_START)
    tuning = finetune_settings(settings, device)
    if settings.bootstrap == "ownership":
        assert known is not None
        clip = replace(clip, bootstrap=first_alphas(clip, known))
    progress.stage("finetuning", tuning.iterations)
    losses = finetune(net, clip, tuning, progress, state, run_key(clip, tuning, origin))

    progress.stage("predicting", len(clip))
    n, t = len(clip.masks), len(clip)
    claims = np.zeros((n, t, *size), np.float16)
    keep = settings.detail == "transfer"
    layers = np.zeros((n, t, *size, 4), np.float16) if keep else None
    psnr = PSNR()
    plates = to_float(np.moveaxis(clip.plates.cpu().numpy(), 1, -1))
    for frames, rgba in predict_layers(net, clip, tuning.gap, progress):
        for place, frame in enumerate(frames):
            plate = at_frame(plates, frame)
            for i in range(n):
                claims[i, frame] = claims_of(rgba[i, place], plate)
        psnr_of_prediction(psnr, clip, frames, rgba)
        if layers is not None:
            layers[:, frames] = rgba
    found = Ownership(claims, np.full((1, 1, 1), NOBODY, np.float16))
    return Association(
        choose_owner(found, settings, known), origin, layers, psnr.value, losses, tuning.iterations
    )


def choose_owner(layers: Ownership, settings: Settings, known: Ownership | None) -> Ownership:
    """What the setting `owner` asks for: the predicted layers' claims, the network's, or both."""
    if settings.owner == "layers":
        return layers
    assert known is not None
    return known if settings.owner == "network" else product(layers, known)


def first_alphas(clip: ClipTensors, known: Ownership) -> Tensor:
    """Alphas of the layers that an ownership gives at working size, (N, T, h, w) uint8."""
    n, t, h, w = clip.masks.shape
    frames = np.moveaxis(clip.frames.cpu().numpy(), 1, -1)
    plates = np.moveaxis(clip.plates.cpu().numpy(), 1, -1)
    masks, order = clip.masks.cpu().numpy(), clip.order.cpu().numpy()
    noise = residual_noise(frames, plates, masks)
    alphas = np.empty((n, t, h, w), np.uint8)
    for k in range(t):
        share = shares(known, k, masks[:, k], order[k])
        plate = at_frame(plates, k)
        alphas[:, k] = resolve_frame(frames[k], plate, share, order[k], noise).rgba[..., 3]
    return torch.from_numpy(alphas).to(clip.frames.device)


def psnr_of_prediction(psnr: PSNR, clip: ClipTensors, frames: list[int], rgba: np.ndarray) -> None:
    """Add the composite of predicted layers (N, K, h, w, 4) of frames K to a score."""
    index = torch.tensor(frames, device=clip.frames.device)[None]
    truth, _, plate, order = clip.windows(index)
    layers = torch.from_numpy(np.moveaxis(rgba, -1, 2)).to(truth.device)[None]
    composite = over(in_order(layers, order), plate)
    psnr.add(composite.cpu().numpy(), truth.cpu().numpy())

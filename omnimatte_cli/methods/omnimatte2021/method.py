"""Omnimatte 2021 as a method: a clip at working size in, layers at working size out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Plate, Size, resize_frames
from omnimatte_cli.matte.ownership import working_plates
from omnimatte_cli.matte.transfer import transferrer, upsample_layer
from omnimatte_cli.methods.base import Method, Separation
from omnimatte_cli.methods.omnimatte2021.inputs import DenseFlow, clip_inputs
from omnimatte_cli.methods.omnimatte2021.optimise import (
    Layers,
    new_network,
    optimise,
    predict_layers,
)
from omnimatte_cli.methods.omnimatte2021.options import STRIDE, Options
from omnimatte_cli.progress import Progress
from omnimatte_cli.shot import Shot
from omnimatte_cli.tensors import clip_key


@dataclass(frozen=True)
class ClipArrays:
    """A clip at working size.

    frames: (T, 3, h, w) uint8 tensor on the device to compute on. masks: (N, T, h, w) bool, on the
    same. homographies: (T, 3, 3) in pixels of these frames, frame 0 to frame t, or None: the camera
    stands. order: (T, N), back to front, or None: as the masks come.
    """

    frames: torch.Tensor
    masks: torch.Tensor
    homographies: np.ndarray | None = None
    order: np.ndarray | None = None


@dataclass(frozen=True)
class Optimised:
    """What the optimisation found out.

    layers: (N, T, h, w, 4) float16 straight RGBA in [0, 1] at working size. plates: (T, h, w, 3)
    float16 in [0, 1], the method's own background canvas as each frame sees it. losses: means of
    the last steps by name, before weights. psnr: layers over plates against the frames, dB, at the
    optimisation's size. network: facts for the manifest.
    """

    layers: np.ndarray
    plates: np.ndarray
    losses: dict[str, float]
    psnr: float
    network: dict[str, object]


def optimise_clip(
    shot: ClipArrays,
    options: Options,
    progress: Progress,
    state: Path | None = None,
    key: str = "",
    dense_flow: DenseFlow | None = None,
) -> Optimised:
    """Optimise a network on the clip and return what it makes of every frame.

    state, key: see `optimise`. dense_flow:
    another estimator of optical flow (RAFT, say), see `inputs`. The network works at
    `options.size`, or at the multiples of 32 nearest to the clip's size.
    """
    device = shot.frames.device
    frames = np.ascontiguousarray(shot.frames.permute(0, 2, 3, 1).cpu().numpy())
    masks = shot.masks.cpu().numpy()
    working = (frames.shape[1], frames.shape[2])
    size = options.size or nearest_size(working)
    clip = clip_inputs(
        frames if size == working else resize_frames(frames, size),
        masks if size == working else resize_masks(masks, size),
        rescaled(shot.homographies, working, size),
        shot.order,
        options.seed,
        options.trimap_width,
        device,
        dense_flow,
    )
    net = new_network(len(clip), options, device)
    progress.stage("optimising", options.iterations)
    run = optimise(net, clip, options, progress, state, key)
    progress.stage("layers", len(clip))
    found = predict_layers(net, clip, progress)
    network: dict[str, object] = {
        "network": "omnimatte2021",
        "start": "random",
        "width": options.width,
        "norm": options.norm,
        "parameters": sum(p.numel() for p in net.parameters()),
        "size": "{}x{}".format(*size),
        "iterations": run.done,
        "mask_weight_fell_at": run.schedule.fall,
    }
    found = enlarged(found, working)
    return Optimised(found.layers, found.plates, run.losses, found.psnr, network)


def nearest_size(size: Size) -> Size:
    """The multiples of 32 nearest to a size, at least 32."""
    height, width = (max(STRIDE, round(side / STRIDE) * STRIDE) for side in size)
    return height, width


def rescaled(homographies: np.ndarray | None, size: Size, new: Size) -> np.ndarray | None:
    """Homographies in pixels of frames of `size`, for frames resized to `new`."""
    if homographies is None or size == new:
        return homographies
    scale = np.diag([new[1] / size[1], new[0] / size[0], 1.0])
    return scale @ homographies @ np.linalg.inv(scale)


def resize_masks(masks: np.ndarray, size: Size) -> np.ndarray:
    """Masks (N, T, H, W) bool at another size: on where at least half a pixel is covered.

    A mask too small for that keeps its densest pixel, so that no object that is there disappears.
    """
    height, width = size
    out = np.zeros((*masks.shape[:2], height, width), bool)
    for i, t in np.ndindex(masks.shape[:2]):
        if masks[i, t].any():
            part = masks[i, t].astype(np.float32)
            part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
            out[i, t] = part >= min(0.5, float(part.max()))
    return out


def enlarged(found: Layers, size: Size) -> Layers:
    """Layers and plates resized to `size`, colours weighted by alpha."""
    if found.plates.shape[1:3] == size:
        return found
    n, t = found.layers.shape[:2]
    layers = np.empty((n, t, *size, 4), np.float16)
    for i, k in np.ndindex(n, t):
        layers[i, k] = upsample_layer(found.layers[i, k].astype(np.float32), size)
    plates = np.empty((t, *size, 3), np.float16)
    for k in range(t):
        plate = found.plates[k].astype(np.float32)
        plates[k] = cv2.resize(plate, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return Layers(layers, plates, found.psnr)


class Omnimatte2021Method(Method[Options]):
    """The method of "Omnimatte" (Lu et al., CVPR 2021). It learns a background of its own."""

    def separate(self, shot: Shot, plate: Plate, progress: Progress) -> Separation:
        """Optimise, then transfer the detail that the layers lack over the given plate."""
        plates = working_plates(plate, shot.size, len(shot))
        clip = shot.tensors(plates, self.run.device)
        homographies = None
        if shot.camera is not None and shot.camera.moving:
            camera = shot.camera.scaled(shot.size)
            homographies = np.stack([camera.between(0, t) for t in range(len(shot))])
        options = replace(self.options, seed=self.run.seed)
        arrays = ClipArrays(clip.frames, clip.masks, homographies, shot.masks.order)
        key = clip_key(clip, [asdict(options)])
        state = self.run.state_file(key)
        found = optimise_clip(arrays, options, progress, state, key)
        facts: dict[str, Any] = {
            "network": found.network,
            "iterations": found.network["iterations"],
            "losses": found.losses,
            "psnr": {"before_detail": found.psnr},
        }

        def forget() -> None:
            if state is not None:
                state.unlink(missing_ok=True)

        return Separation(transferrer(found.layers, shot.masks.order), facts, forget)


METHOD = Omnimatte2021Method

"""From solo videos and a plate to every object's layer, a frame at a time.

What is optimised is optimised on the clip at a small size, one object after the other; full-size
frames are only streamed, except with `full`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Masks, Size, eight_bits, integers, to_float
from omnimatte_cli.matte.ownership import Ownership, frame_weights
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.matte.transfer import upsample_layer
from omnimatte_cli.methods.generative.bodies import eroded, hidden_body
from omnimatte_cli.methods.generative.closed_form import SoloNoise, measure_noise, solo_layer
from omnimatte_cli.methods.generative.detail import copy_detail
from omnimatte_cli.methods.generative.optimise import Layer, SoloClip, bootstrap, optimise
from omnimatte_cli.methods.generative.options import GenerativeOptions, StageOptions
from omnimatte_cli.methods.generative.solos import RemovalVideo
from omnimatte_cli.progress import Progress

ERODED = 5 / 384  # of the height: side of the square that masks shrink by for the mask loss
KEPT = 12  # decoded solo frames that wait for their turn


class Solos(Protocol):
    """The solo images of every object in one frame."""

    def at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> Sequence[np.ndarray]:
        """N times (H, W, 3), each uint8 or uint16. frame, plate: (H, W, 3) of frame t."""


class SoloVideos:
    """Solo videos read in step with the shot. Threads may ask for frames a little out of order."""

    def __init__(self, videos: Sequence[RemovalVideo]) -> None:
        self.videos = tuple(videos)
        self.lock = threading.Lock()
        self.streams: list[Iterator[np.ndarray]] = []
        self.next = 0
        self.frames: dict[int, list[np.ndarray]] = {}

    def at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> Sequence[np.ndarray]:
        with self.lock:
            if not self.streams or (t < self.next and t not in self.frames):
                self.streams = [v.stream() for v in self.videos]
                self.next, self.frames = 0, {}
            while self.next <= t:
                self.frames[self.next] = [next(s) for s in self.streams]
                self.next += 1
                self.frames.pop(self.next - KEPT, None)
            return self.frames[t]


@dataclass(frozen=True)
class OwnedSolos:
    """Solos that ownership gives: the plate plus the object's part of the residual."""

    ownership: Ownership
    masks: Masks

    def at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> Sequence[np.ndarray]:
        weights = frame_weights(self.ownership, t, self.masks.frame(t), self.masks.order[t]).weights
        below = to_float(plate)
        bits = 8 * max(frame.itemsize, plate.itemsize)
        solos = below + weights[..., None] * (to_float(frame) - below)
        return list(integers(solos, bits))


@dataclass(frozen=True)
class SmallClip:
    """The shot at one size.

    solos: (N, T, h, w, 3) uint8. plates: (1 or T, h, w, 3) uint8. masks: (N, T, h, w) bool.
    """

    solos: np.ndarray
    plates: np.ndarray
    masks: np.ndarray

    def __post_init__(self) -> None:
        assert self.masks.shape == self.solos.shape[:4], (self.masks.shape, self.solos.shape)
        assert self.plates.shape[1:] == self.solos.shape[2:], (self.plates.shape, self.solos.shape)


@dataclass(frozen=True)
class SoloLayers:
    """Makes the layers of any frame of a shot.

    masks: at the shot's size, with the order of the layers. noises: one an object, at the shot's
    size. base: (N, T, h, w) float16 alphas of the base optimisation, or None. full: (N, T, h, w, 4)
    float16 layers of the full-size optimisation, or None. detail: copy the video's own pixels.
    """

    masks: Masks
    solos: Solos
    noises: tuple[SoloNoise, ...]
    detail: bool = True
    base: np.ndarray | None = None
    full: np.ndarray | None = None
    losses: dict[str, dict[str, float]] = field(default_factory=dict)

    def layers_at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
        """(N, H, W, 4) float32 straight RGBA of frame t. frame, plate: (H, W, 3)."""
        masks = self.masks.frame(t)
        if self.full is not None:
            large = [upsample_layer(x[t].astype(np.float32), self.masks.size) for x in self.full]
            out = np.stack(large)
        else:
            out = np.stack(list(self._closed(t, frame, plate, masks)))
        if self.detail:
            out = copy_detail(out, to_float(frame), masks, self.masks.order[t])
        return out

    def _closed(
        self, t: int, frame: np.ndarray, plate: np.ndarray, masks: np.ndarray
    ) -> Iterator[np.ndarray]:
        """Every object's layer in closed form, (H, W, 4) float32."""
        for i, solo in enumerate(self.solos.at(t, frame, plate)):
            base = None
            if self.base is not None:
                small = self.base[i, t].astype(np.float32)
                size = self.masks.size[::-1]
                base = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
            order = self.masks.order[t]
            front = np.any(masks[order[list(order).index(i) + 1 :]], axis=0)
            body = hidden_body(solo, plate, masks[i], front, self.noises[i].pixel)
            yield solo_layer(solo, plate, body, self.noises[i], base)

    def __call__(self, t: int, frame: np.ndarray, plate: np.ndarray) -> Layers:
        """The same, as a writer takes it."""
        return Layers(self.layers_at(t, frame, plate))


def make_layers(
    clip: SmallClip,
    solos: Solos,
    masks: Masks,
    options: GenerativeOptions,
    device: torch.device,
    progress: Progress,
    full_clip: Callable[[int], SmallClip] | None = None,
    state: Path | None = None,
) -> SoloLayers:
    """Optimise what the options ask for, and return what makes each frame's layers.

    clip: at working size, sides multiples of 32 if anything is optimised. full_clip: with `full`,
    reads object i's own clip (one solo) at the size of the second optimisation. state: files beside
    it, one an object, keep what an interrupted optimisation has done.
    """
    fit = resolved_fit(options, device)
    noises = tuple(
        measure_noise(solo, clip.plates, clip.masks[i]).resized(masks.size)
        for i, solo in enumerate(clip.solos)
    )
    if fit == "closed":
        return SoloLayers(masks, solos, noises, options.detail)
    base: list[np.ndarray] = []
    full: list[np.ndarray] = []
    losses: dict[str, dict[str, float]] = {}
    for i, name in enumerate(masks.names):
        stage = options.stage(full=False)
        progress.stage(f"optimising {name}", stage.steps)
        arrays = clip.solos[i], clip.plates, clip.masks[i]
        place, key = state_of(state, f"{i}"), run_key(stage, options.seed, *arrays)
        layer = optimise(solo_clip(*arrays, device), stage, options.seed, progress, place, key)
        base.append(layer.alpha[:, 0].cpu().numpy().astype(np.float16))
        if fit == "full":
            assert full_clip is not None
            stage = options.stage(full=True)
            progress.stage(f"optimising {name} at full size", stage.steps)
            whole = full_clip(i)
            arrays = whole.solos[0], whole.plates, whole.masks[0]
            held = [x.cpu().numpy() for x in (layer.alpha, layer.rgb)]  # what it is held to
            place = state_of(state, f"{i}.full")
            key = run_key(stage, options.seed, *arrays, *held)
            large = solo_clip(*arrays, device)
            layer = bootstrap(layer, large, stage, options.seed, progress, place, key)
            full.append(layer_array(layer))
        losses[name] = layer.losses
    return SoloLayers(
        masks,
        solos,
        noises,
        options.detail,
        np.stack(base),
        np.stack(full) if full else None,
        losses,
    )


def state_of(state: Path | None, part: str) -> Path | None:
    """The file that one optimisation of a run is saved to."""
    return None if state is None else state.with_name(f"{state.name}.{part}")


def run_key(stage: StageOptions, seed: int, *arrays: np.ndarray) -> str:
    """A hash of all that an optimisation depends on."""
    digest = hashlib.sha256(json.dumps([asdict(stage), seed]).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def resolved_fit(options: GenerativeOptions, device: torch.device) -> str:
    """closed, base or full; `auto` is closed on a CPU, where optimising takes minutes an object."""
    if options.fit != "auto":
        return options.fit
    return "closed" if device.type == "cpu" else "full"


def solo_clip(
    solo: np.ndarray, plates: np.ndarray, mask: np.ndarray, device: torch.device
) -> SoloClip:
    """Host arrays (T, h, w, 3) uint8, (1 or T, h, w, 3) uint8, (T, h, w) bool to tensors."""

    def picture(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous().to(device).float() / 255

    side = max(1, round(solo.shape[1] * ERODED) // 2 * 2 + 1)
    shrunk = np.stack([eroded(m, side) for m in mask])
    # An object so small that nothing would be left keeps its mask.
    shrunk = shrunk if shrunk.any() else mask
    return SoloClip(
        picture(solo), picture(plates), torch.from_numpy(shrunk)[:, None].float().to(device)
    )


def layer_array(layer: Layer) -> np.ndarray:
    """(T, h, w, 4) float16 straight RGBA in [0, 1]."""
    rgba = torch.cat([layer.rgb, layer.alpha], 1).clamp(0, 1)
    return rgba.permute(0, 2, 3, 1).cpu().numpy().astype(np.float16)


def small_solos(
    solos: Solos, frames: Iterator[np.ndarray], plates: Iterator[np.ndarray], size: Size
) -> np.ndarray:
    """All solos of a shot at working size, (N, T, h, w, 3) uint8; full-size frames are streamed."""
    h, w = size
    out = []
    for t, (frame, plate) in enumerate(zip(frames, plates, strict=False)):
        pictures = solos.at(t, frame, plate)
        small = [cv2.resize(p, (w, h), interpolation=cv2.INTER_AREA) for p in pictures]
        out.append([eight_bits(p) for p in small])
    return np.swapaxes(np.array(out), 0, 1)

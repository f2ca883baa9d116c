"""From solo videos and a plate to every object's layer, a frame at a time.

What is optimised is optimised on the clip at a small size, one object after the other; full-size
frames are only streamed, except with `full`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Masks, Size, at_frame, to_float, to_uint8
from omnimatte_cli.methods.generative.closed_form import (
    SoloNoise,
    guess_body,
    hidden_body,
    measure_noise,
    solo_layer,
)
from omnimatte_cli.methods.generative.optimise import Layer, SoloClip, bootstrap, optimise
from omnimatte_cli.methods.generative.options import GenerativeOptions
from omnimatte_cli.methods.generative.solos import RemovalVideo
from omnimatte_cli.ownership import Ownership, shares
from omnimatte_cli.progress import Progress
from omnimatte_cli.resolve import FrameLayers, extend_colour
from omnimatte_cli.transfer import upsample_layer

ERODED = 5 / 384  # of the height: side of the square that masks shrink by for the mask loss
OPAQUE = 0.98  # alpha that the camera sees, above which a layer takes the video's own pixels
KEPT = 12  # decoded solo frames that wait for their turn


class Solos(Protocol):
    """The solo images of every object in one frame."""

    def at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) uint8. frame, plate: (H, W, 3) uint8 of frame t."""


class SoloVideos:
    """Solo videos read in step with the shot. Threads may ask for frames a little out of order."""

    def __init__(self, videos: Sequence[RemovalVideo]) -> None:
        self.videos = tuple(videos)
        self.lock = threading.Lock()
        self.streams: list[Iterator[np.ndarray]] = []
        self.next = 0
        self.frames: dict[int, np.ndarray] = {}

    def at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
        with self.lock:
            if not self.streams or (t < self.next and t not in self.frames):
                self.streams = [v.stream() for v in self.videos]
                self.next, self.frames = 0, {}
            while self.next <= t:
                self.frames[self.next] = np.stack([next(s) for s in self.streams])
                self.next += 1
                self.frames.pop(self.next - KEPT, None)
            return self.frames[t]


@dataclass(frozen=True)
class OwnedSolos:
    """Solos that ownership gives: the plate plus the object's part of the residual."""

    ownership: Ownership
    masks: Masks

    def at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
        weights = shares(self.ownership, t, self.masks.frame(t), self.masks.order[t]).weights
        below = to_float(plate)
        return to_uint8(below + weights[..., None] * (to_float(frame) - below))


@dataclass(frozen=True)
class SmallClip:
    """The shot at working size.

    solos: (N, T, h, w, 3) uint8. plates: (1 or T, h, w, 3) uint8. masks: (N, T, h, w) bool, or None
    where the user gave none: then they are guessed from the solos.
    """

    solos: np.ndarray
    plates: np.ndarray
    masks: np.ndarray | None

    def bodies(self) -> np.ndarray:
        """The masks given or guessed, (N, T, h, w) bool."""
        if self.masks is not None:
            return self.masks
        return np.stack([guess_body(s, self.plates) for s in self.solos])


@dataclass(frozen=True)
class SoloLayers:
    """Makes the layers of any frame of a shot.

    size: the shot's (H, W). order: (T, N), back to front. noises: one an object, at the shot's
    size. masks: full size; None: `bodies`, (N, T, h, w) bool, are enlarged. base: (N, T, h, w)
    float16 alphas of the base optimisation, or None. full: (N, T, h, w, 4) float16 layers of the
    full-size optimisation, or None.
    """

    size: Size
    order: np.ndarray
    solos: Solos
    noises: tuple[SoloNoise, ...]
    masks: Masks | None
    bodies: np.ndarray
    options: GenerativeOptions
    base: np.ndarray | None = None
    full: np.ndarray | None = None
    losses: dict[str, dict[str, float]] = field(default_factory=dict)

    def layers_at(self, t: int, frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
        """(N, H, W, 4) float32 straight RGBA of frame t. frame, plate: (H, W, 3) uint8."""
        masks = self.masks_at(t)
        order = self.order[t]
        if self.full is not None:
            large = [upsample_layer(x[t].astype(np.float32), self.size) for x in self.full]
            out = np.stack(large)
        else:
            out = np.stack(list(self._closed(t, frame, plate, masks)))
        if self.options.detail:
            out = copy_detail(out, to_float(frame), masks, order)
        return out

    def _closed(
        self, t: int, frame: np.ndarray, plate: np.ndarray, masks: np.ndarray
    ) -> Iterator[np.ndarray]:
        solos = self.solos.at(t, frame, plate)
        for i, solo in enumerate(solos):
            base = None
            if self.base is not None:
                small = self.base[i, t].astype(np.float32)
                base = cv2.resize(small, self.size[::-1], interpolation=cv2.INTER_LINEAR)
            body = hidden_body(solo, plate, masks[i], np.delete(masks, i, 0).any(0))
            yield solo_layer(solo, plate, body, self.noises[i], base)

    def masks_at(self, t: int) -> np.ndarray:
        """The visible bodies in frame t, (N, H, W) bool."""
        if self.masks is not None:
            return self.masks.frame(t)
        return np.stack([enlarged_mask(m, self.size) for m in self.bodies[:, t]])

    def __call__(self, t: int, frame: np.ndarray, plate: np.ndarray) -> FrameLayers:
        """The same, as a writer takes it."""
        return written_layers(self.layers_at(t, frame, plate), plate, self.order[t])


def make_layers(
    clip: SmallClip,
    solos: Solos,
    size: Size,
    order: np.ndarray,
    names: Sequence[str],
    masks: Masks | None,
    options: GenerativeOptions,
    device: torch.device,
    progress: Progress,
    full_clips: Sequence[SmallClip] = (),
    state: Path | None = None,
    key: str = "",
) -> SoloLayers:
    """Optimise what the options ask for, and return what makes each frame's layers.

    clip: at working size, sides multiples of 32 if anything is optimised. full_clips: with `full`,
    each object's own clip (one solo) at the size of the second optimisation. state, key: see
    `optimise`.
    """
    fit = resolved_fit(options, device)
    bodies = clip.bodies()
    noises = []
    for i, solo in enumerate(clip.solos):
        noises.append(measure_noise(solo, clip.plates, bodies[i]).resized(size))
    base, full, losses = [], [], {}
    for i, name in enumerate(names):
        if fit == "closed":
            break
        stage = options.stage(full=False)
        progress.stage(f"optimising {name}", stage.steps)
        tensors = solo_clip(clip.solos[i], clip.plates, bodies[i], device)
        mine = state and state.with_name(f"{state.name}.{i}")
        layer = optimise(tensors, stage, options.seed, progress, mine, f"{key} {name} base")
        losses[name] = layer.losses
        base.append(layer.alpha[:, 0].cpu().numpy().astype(np.float16))
        if fit == "full":
            whole = full_clips[i]
            progress.stage(f"optimising {name} at full size", options.stage(full=True).steps)
            tensors = solo_clip(whole.solos[0], whole.plates, whole.bodies()[0], device)
            later = state and state.with_name(f"{state.name}.{i}.full")
            layer = bootstrap(
                layer,
                tensors,
                options.stage(full=True),
                options.seed,
                progress,
                later,
                f"{key} {name} full",
            )
            full.append(layer_array(layer))
    return SoloLayers(
        size,
        order,
        solos,
        tuple(noises),
        masks,
        bodies,
        options,
        np.stack(base) if base else None,
        np.stack(full) if full else None,
        losses,
    )


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


def eroded(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask (H, W) bool shrunk by a square; outside of the frame counts as object."""
    kernel = np.ones((side, side), np.uint8)
    return cv2.erode(mask.astype(np.uint8), kernel, borderValue=1) > 0


def layer_array(layer: Layer) -> np.ndarray:
    """(T, h, w, 4) float16 straight RGBA in [0, 1]."""
    rgba = torch.cat([layer.rgb, layer.alpha], 1).clamp(0, 1)
    return rgba.permute(0, 2, 3, 1).cpu().numpy().astype(np.float16)


def enlarged_mask(mask: np.ndarray, size: Size) -> np.ndarray:
    """(h, w) bool at (H, W), its outline smooth."""
    soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.0)
    return cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR) > 0.5


def seen_alphas(layers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Alpha that the camera sees of each layer through those in front, (N, H, W).

    layers: (N, H, W, 4); order: (N,) back to front.
    """
    out = np.empty(layers.shape[:3], np.float32)
    clear = np.ones(layers.shape[1:3], np.float32)
    for i in order[::-1]:
        out[i] = layers[i, ..., 3] * clear
        clear = clear * (1 - layers[i, ..., 3])
    return out


def copy_detail(
    layers: np.ndarray, frame: np.ndarray, masks: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Take the video's own pixels where a layer is all that the camera sees; alpha stays.

    Supplement D and the authors' code: where the alpha that is seen exceeds 0.98, or in the
    object's mask and no other's. layers: (N, H, W, 4) float32; frame: (H, W, 3) float32.
    """
    seen = seen_alphas(layers, order)
    alone = masks & (masks.sum(0) == 1)
    out = layers.copy()
    for i in range(len(layers)):
        where = (seen[i] > OPAQUE) | alone[i]
        out[i, ..., :3] = np.where(where[..., None], frame, layers[i, ..., :3])
    return out


def written_layers(layers: np.ndarray, plate: np.ndarray, order: np.ndarray) -> FrameLayers:
    """Layers (N, H, W, 4) float32 as they are written, and their composite over the plate."""
    rgba = to_uint8(layers)
    composite = to_float(plate)
    clear = np.ones(plate.shape[:2], np.float32)
    for i in order:
        alpha = to_float(rgba[i, ..., 3])
        colour = to_float(rgba[i, ..., :3])
        composite = composite + alpha[..., None] * (colour - composite)
        clear = clear * (1 - alpha)
        rgba[i, ..., :3] = extend_colour(rgba[i, ..., :3], alpha)
    return FrameLayers(rgba, composite, clear)


def depth_order(depth: np.ndarray, masks: np.ndarray, window: int = 5) -> np.ndarray:
    """Order from a depth video, (T, N) back to front: nearer is brighter, by the median in a mask.

    depth: (T, h, w) float; masks: (N, T, h, w) bool. Depths are averaged over `window` frames to
    either side; where an object is out of sight its last depth holds.
    """
    n, t = masks.shape[:2]
    score = np.zeros((n, t))
    for i, k in np.ndindex(n, t):
        if masks[i, k].any():
            score[i, k] = np.median(depth[k][masks[i, k]])
        elif k:
            score[i, k] = score[i, k - 1]
    kernel = np.ones(2 * window + 1)
    count = np.convolve(np.ones(t), kernel, "same") if t >= len(kernel) else np.ones(t)
    if t >= len(kernel):
        score = np.stack([np.convolve(row, kernel, "same") / count for row in score])
    return np.argsort(score, axis=0, kind="stable").T


def small_plates(stream: Iterator[np.ndarray], size: Size, frames: int) -> np.ndarray:
    """A plate stream at working size, (T, h, w, 3) uint8."""
    h, w = size
    return np.stack(
        [cv2.resize(next(stream), (w, h), interpolation=cv2.INTER_AREA) for _ in range(frames)]
    )


def small_solos(
    solos: Solos, frames: Iterator[np.ndarray], plates: Iterator[np.ndarray], size: Size
) -> np.ndarray:
    """All solos of a shot at working size, (N, T, h, w, 3) uint8; full-size frames are streamed."""
    h, w = size
    out = []
    for t, (frame, plate) in enumerate(zip(frames, plates, strict=False)):
        pictures = solos.at(t, frame, plate)
        out.append([cv2.resize(p, (w, h), interpolation=cv2.INTER_AREA) for p in pictures])
    return np.swapaxes(np.array(out), 0, 1)


def union_at(masks: np.ndarray, t: int) -> np.ndarray:
    """Where any object is, (h, w) bool."""
    return at_frame(masks.any(0), t)

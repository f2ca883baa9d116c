"""Ownership in one pass: the ownership network over a whole clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch

from omnimatte_cli.device import BatchSize, autocast, sent, side_by_side
from omnimatte_cli.matte.network import CONTEXT, OwnerNet
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.still import average_static
from omnimatte_cli.progress import Progress
from omnimatte_cli.scratch import EVERY, release, scratch_array
from omnimatte_cli.tensors import ClipTensors

SPACING = 0.25  # seconds between a frame and its neighbours in training
CHUNK = 24  # frames that are computed together, besides the context at both ends,
LONGEST = 48  # and where objects are few: the context is computed less often then
LARGE = 4 << 20  # pixels of all objects' pictures from which frames are computed one lot at a time
ABSENCE = 4  # spacings (a second) after which an object out of sight owns nothing any more


def frame_stride(fps: Fraction, frames: int) -> int:
    """Frames from a frame to its neighbour: a quarter of a second, if the clip is long enough."""
    return max(1, min(round(float(fps) * SPACING), (frames - 1) // 4))


def chunks(
    frames: int, stride: int, every: int = 1, size: int = CHUNK
) -> Iterator[tuple[np.ndarray, slice]]:
    """Frame indices to compute together, and which of them are kept; no frame is kept twice.

    Frames `stride` apart form a sequence of their own; a long one is cut into pieces of `size` with
    as much context at both ends as a frame's result can depend on. every: of these sequences, the
    one of every so many frames is computed; 1: all of them, and so all frames.
    """
    for phase in range(0, min(stride, frames), every):
        line = np.arange(phase, frames, stride)
        for start in range(0, len(line), size):
            stop = min(start + size, len(line))
            first = max(0, start - CONTEXT)
            yield line[first : stop + CONTEXT], slice(start - first, stop - first)


def together(pixels: int) -> int:
    """How many frames are computed together. pixels: of one frame's pictures, one an object."""
    return max(CHUNK, min(LONGEST, LARGE // 2 // max(pixels, 1)))


def asked(frames: int, stride: int, every: int) -> list[int]:
    """The frames that `predict_ownership` looks at, ascending."""
    return sorted({int(t) for line, _ in chunks(frames, stride, every) for t in line})


def predict_ownership(
    net: OwnerNet,
    clip: ClipTensors,
    stride: int,
    fps: float,
    progress: Progress,
    strangers: np.ndarray | None = None,
    every: int = 1,
) -> Ownership:
    """Who owns every pixel's residual: the network's weights, which add to 1 with 'unowned'.

    stride: frames between neighbours that the network sees. fps: frames a second; where nothing
    changes, the answers of neighbouring frames are averaged. strangers: (S, T, h, w) bool, movers
    that nobody masked: they own changes as objects do, and what they own is unowned here. every:
    above 1, only one in so many frames is asked about, and between two of them an object owns what
    it owns in either: enough to leave it out of a plate.
    """
    n, t = len(clip.masks), len(clip)
    everyone = clip
    if strangers is not None and len(strangers):
        everyone = _with_strangers(clip, strangers)
    h, w = clip.frames.shape[2:]
    # A row more for what strangers own together.
    shares = scratch_array((n + (everyone is not clip), t, h, w), np.float16)
    unowned = scratch_array((t, h, w), np.float16)
    pixels = len(everyone.masks) * h * w
    net.eval()

    def answer(line: np.ndarray, kept: slice) -> np.ndarray:
        index = sent(torch.from_numpy(line), clip.frames.device)[None]
        frames, masks, plates, _ = everyone.windows(index)
        with torch.inference_mode(), autocast(frames.device):
            logits = net(frames, plates, masks).float()
            return logits.softmax(1)[0, :, kept].cpu().numpy()

    def ask(size: int) -> None:
        seen = np.zeros(t, bool)
        parts = list(chunks(t, stride, every, size))
        few = pixels * size <= LARGE
        asked_for = side_by_side(answer, parts, clip.frames.device, 2 if few else 1)
        with closing(asked_for) as answers:
            for (line, kept), share in zip(parts, answers, strict=True):
                frames = line[kept]
                shares[:n, frames], unowned[frames] = share[:n], share[n:].sum(0)
                if len(shares) > n:
                    shares[n, frames] = share[n:-1].sum(0)
                seen[frames] = True
                release(shares, unowned)
                everyone.release()
                progress.step(int(seen.sum()))
        fill_between(shares, unowned, seen)

    BatchSize(together(pixels), "frames", progress).fit(ask)
    ownership = Ownership(shares[:n], unowned, shares[n] if len(shares) > n else None)
    if every == 1:
        frames = clip.held[0] if clip.held else np.moveaxis(clip.frames.cpu().numpy(), 1, -1)
        ownership = average_static(ownership, frames, fps)
    seen = clip.masks.flatten(2).any(2).cpu().numpy()
    clip.release()
    for i, frame in np.argwhere(far_from_sight(seen, ABSENCE * stride)):
        ownership.weights[i, frame] = 0
    return ownership


def _with_strangers(clip: ClipTensors, strangers: np.ndarray) -> ClipTensors:
    """The clip with strangers (S, T, h, w) bool as more objects, after its own."""
    if not clip.held:
        hidden = torch.from_numpy(strangers).to(clip.masks.device)
        return replace(clip, masks=torch.cat([clip.masks, hidden]))
    frames, own, *rest = clip.held
    both = scratch_array((len(own) + len(strangers), *own.shape[1:]), bool)
    for t in range(len(clip)):
        both[: len(own), t], both[len(own) :, t] = own[:, t], strangers[:, t]
        if t % EVERY == 0:
            release(both, own, strangers)
    return replace(clip, masks=torch.from_numpy(both), held=(frames, both, *rest))


def fill_between(weights: np.ndarray, unowned: np.ndarray, seen: np.ndarray) -> None:
    """Frames that were not asked about, in place: what is owned before or after them is owned.

    weights: (N, T, h, w). unowned: (T, h, w). seen: (T,) bool, at least one of them.
    """
    known = np.flatnonzero(seen)
    for t in np.flatnonzero(~seen):
        place = int(np.searchsorted(known, t))
        a, b = known[max(0, place - 1)], known[min(place, len(known) - 1)]
        weights[:, t] = np.maximum(weights[:, a], weights[:, b])
        unowned[t] = np.minimum(unowned[a], unowned[b])
        if place % EVERY == 0:
            release(weights, unowned)


def far_from_sight(seen: np.ndarray, reach: int) -> np.ndarray:
    """Where an object is further than `reach` frames from any frame that shows it.

    seen: (N, T) bool. Returns (N, T) bool. A shadow may come into the picture before its owner
    does, but not long before.
    """
    kernel = np.ones(2 * reach + 1, int)
    near = [np.convolve(row, kernel)[reach : reach + seen.shape[1]] > 0 for row in seen]
    return ~np.stack(near)

"""Ownership in one pass: the ownership network over a whole clip, and a better plate from it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Background, Masks, at_frame, pack_mask
from omnimatte_cli.device import autocast
from omnimatte_cli.matte.network import CONTEXT, OwnerNet
from omnimatte_cli.matte.ownership import Ownership, upsample
from omnimatte_cli.methods.coordination.finetune import ClipTensors
from omnimatte_cli.plate import median as background
from omnimatte_cli.plate.median import Frames
from omnimatte_cli.progress import Progress

SPACING = 0.25  # seconds between a frame and its neighbours in training
CHUNK = 24  # frames that are computed together, besides the context at both ends
ABSENCE = 4  # spacings (a second) after which an object out of sight owns nothing any more
CALM_REACH = 3  # frames to each side that shares are averaged over where nothing changes
CALM_CHANGE = 5.0  # levels of change at which a neighbouring frame counts 1/e
TAKEN = 0.5  # a pixel owned by more than this is no sample of the plate
FEWEST = 3  # samples that a second plate needs at a pixel; else the first one stays


def frame_gap(fps: Fraction, frames: int) -> int:
    """Frames from a frame to its neighbour: a quarter of a second, if the clip is long enough."""
    return max(1, min(round(float(fps) * SPACING), (frames - 1) // 4))


def chunks(frames: int, gap: int) -> Iterator[tuple[np.ndarray, slice]]:
    """Frame indices to compute together, and which of them are kept; each frame is kept once.

    Frames `gap` apart form a sequence of their own; a long one is cut into pieces with as much
    context at both ends as a frame's result can depend on.
    """
    for phase in range(gap):
        line = np.arange(phase, frames, gap)
        for start in range(0, len(line), CHUNK):
            stop = min(start + CHUNK, len(line))
            first = max(0, start - CONTEXT)
            yield line[first : stop + CONTEXT], slice(start - first, stop - first)


def own(net: OwnerNet, clip: ClipTensors, gap: int, progress: Progress) -> Ownership:
    """Who owns every pixel's residual: claims are the network's shares, which add to 1."""
    n, t = len(clip.masks), len(clip)
    h, w = clip.frames.shape[2:]
    claims = np.zeros((n, t, h, w), np.float16)
    nobody = np.zeros((t, h, w), np.float16)
    seen = np.zeros(t, bool)
    net.eval()
    for line, kept in chunks(t, gap):
        index = torch.from_numpy(line).to(clip.frames.device)[None]
        frames, masks, plates, _ = clip.windows(index)
        with torch.inference_mode(), autocast(frames.device):
            logits = net(frames, plates, masks).float()
            share = logits.softmax(1)[0, :, kept].cpu().numpy()
        claims[:, line[kept]], nobody[line[kept]] = share[:-1], share[-1]
        seen[line[kept]] = True
        progress.step(int(seen.sum()))
    assert seen.all(), np.flatnonzero(~seen)
    claims, nobody = calm(claims, nobody, clip.frames.cpu().numpy())
    claims[far_from_sight(clip.masks.flatten(2).any(2).cpu().numpy(), ABSENCE * gap)] = 0
    return Ownership(claims, nobody)


def calm(
    claims: np.ndarray, nobody: np.ndarray, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Average shares over neighbouring frames where the picture stays the same.

    The network answers every frame a little differently; where nothing changes between two frames
    their answers are as good, and layers made of the mean do not flicker.
    claims: (N, T, h, w), nobody: (T, h, w) float16; frames: (T, 3, h, w) uint8.
    """
    t = len(frames)
    pictures = frames.astype(np.int16)
    shares = np.concatenate([claims, nobody[None]]).astype(np.float32)
    total = shares.copy()
    weight = np.ones(nobody.shape, np.float32)
    for step in range(1, CALM_REACH + 1):
        if step >= t:
            break
        change = np.abs(pictures[step:] - pictures[:-step]).max(1).astype(np.float32)
        alike = np.stack([cv2.blur(np.exp(-np.square(c / CALM_CHANGE)), (3, 3)) for c in change])
        total[:, step:] += alike * shares[:, :-step]
        total[:, :-step] += alike * shares[:, step:]
        weight[step:] += alike
        weight[:-step] += alike
    total /= weight
    return total[:-1].astype(np.float16), total[-1].astype(np.float16)


def far_from_sight(seen: np.ndarray, reach: int) -> np.ndarray:
    """Where an object is further than `reach` frames from any frame that shows it.

    seen: (N, T) bool. Returns (N, T) bool. A shadow may come into the picture before its owner
    does, but not long before.
    """
    kernel = np.ones(2 * reach + 1, int)
    near = [np.convolve(row, kernel)[reach : reach + seen.shape[1]] > 0 for row in seen]
    return ~np.stack(near)


def owned_masks(ownership: Ownership, masks: Masks) -> Masks:
    """What anyone owns in each frame, as the mask of one object at full size."""
    order = np.zeros((len(masks), 1), np.int64)
    taken = []
    for t in range(len(masks)):
        shares = ownership.claims[:, t].astype(np.float32).sum(0)
        total = shares + at_frame(ownership.nobody, t)
        mine = upsample(shares / np.maximum(total, 1e-6), masks.size) > TAKEN
        taken.append(pack_mask(mine | masks.union(t)))
    return Masks(("owned",), masks.size, order, (tuple(taken),))


def second_plate(
    frames: Frames, plate: Background, ownership: Ownership, masks: Masks, progress: Progress
) -> Background:
    """Estimate the plate again without the pixels that anyone owns.

    The masked median keeps ghosts of effects that rest. Where too few frames are free of owners the
    first plate stays.
    """
    taken = owned_masks(ownership, masks)
    free = np.zeros(masks.size, np.int32)
    for t in range(len(masks)):
        free += ~taken.at(0, t)
    again = background.estimate(frames, len(masks), masks.size, taken, progress=progress)
    better = again.valid & (free >= FEWEST)
    return Background(np.where(better[..., None], again.plate, plate.plate), plate.valid)

"""Scores of a network on rendered scenes that no training sees, and a picture to look at."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.matte.metrics import REGION_THRESHOLD
from omnimatte_cli.matte.over import layer_over
from omnimatte_cli.matte.ownership import UNOWNED, Ownership, frame_weights, layer_weights
from omnimatte_cli.media.atomic import replacing
from omnimatte_cli.synth.augment import FilmedBatch
from omnimatte_cli.synth.plate_faults import given_clip
from omnimatte_cli.synth.seeds import VALIDATION_SEEDS
from omnimatte_cli.training.pool import render_chunk, restored
from omnimatte_cli.training.recipe import Recipe

SHEET_CLIPS = 4


def regions(solo: Tensor, plate: Tensor) -> Tensor:
    """Where a solo differs from the plate by the published rule; both (..., 3, H, W) in [0, 1]."""
    return (255 * (solo - plate)).square().sum(-3) >= REGION_THRESHOLD


def solo_predictions(net: nn.Module, samples: FilmedBatch, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Every object alone over the estimated plate, and the true regions it is scored against.

    Returns (B, N, K, 3, H, W) for the K scored frames and their indices (K,).
    """
    t = samples.frames.shape[1]
    if recipe.network == "ownership":
        logits = net(samples.frames, samples.plate_estimated[:, None], samples.masks)
        owned = logits.softmax(1)[:, :-1].unsqueeze(3)
        residual = samples.frames - samples.plate_estimated[:, None]
        return samples.plate_estimated[:, None, None] + owned * residual[:, None], torch.arange(t)
    first = scored_frame(recipe, t)
    hidden = torch.zeros(samples.frames.shape[:2], dtype=torch.bool, device=samples.frames.device)
    hidden[:, first : first + recipe.hidden] = True
    kept = torch.full((len(samples), 1), first, device=hidden.device)
    rgba = net(samples.frames, samples.masks, hidden, kept).float()
    return layer_over(rgba, samples.plate_estimated[:, None, None]), kept[0].cpu()


def scored_frame(recipe: Recipe, frames: int) -> int:
    """The frame of a window that is scored: the first hidden one, as in inference.

    The last frames are hidden, or with "inpainting" the middle ones (paper, section 5.4). With none
    hidden the middle frame is scored.
    """
    if recipe.hidden == 0:
        return frames // 2
    return (frames - recipe.hidden) // (2 if recipe.hiding == "inpainting" else 1)


def shared_out(samples: FilmedBatch, alone: Tensor, frames: Tensor) -> Tensor:
    """The residual given to its owners by predicted layers, as in `--detail resolve`.

    alone: (B, N, K, 3, H, W), every layer over the estimated plate in the scored frames (K,).
    Returns the same shape: every object's share of the change over the plate.
    """

    def picture(x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(x.movedim(-3, -1).cpu().numpy())

    plates, solos = picture(samples.plate_estimated), picture(alone)
    pictures = picture(samples.frames[:, frames])
    masks = samples.masks[:, :, frames, 0].cpu().numpy() > 0.5
    order = samples.order[:, frames].cpu().numpy()
    out = np.empty_like(solos)
    for b, k in np.ndindex(len(solos), len(frames)):
        plate = plates[b]
        opaque = np.concatenate([solos[b, :, k], np.ones_like(solos[b, :, k, ..., :1])], -1)
        found = np.stack([layer_weights(layer, plate) for layer in opaque])[:, None]
        owned = Ownership(found.astype(np.float16), np.full((1, 1, 1), UNOWNED, np.float16))
        share = frame_weights(owned, 0, masks[b, :, k], order[b, k])
        out[b, :, k] = plate + share.weights[..., None] * (pictures[b, k] - plate)
    return torch.from_numpy(out).movedim(-1, -3).to(alone.device)


@torch.no_grad()
def validate(
    net: nn.Module, recipe: Recipe, device: torch.device, sheet: Path | None = None
) -> dict[str, float]:
    """IoU, effect recall and wrong-owner share over held-out chunks, means over objects.

    iou: of each object's region over its clip. masks_iou: of the given masks, for comparison.
    effect_recall: share of the true region outside the object's mask that is found. wrong: share of
    the other objects' exclusive effects that is claimed. resolved: IoU of the residual given to its
    owners by a layer network's layers, which is what `decompose` writes. iou_wrong_plates, leak: of
    an ownership network, see `wrong_plate_scores`.
    """
    net.eval()
    found: dict[str, list[float]] = {"iou": [], "masks_iou": [], "effect_recall": [], "wrong": []}
    if recipe.network == "coordination":
        found["resolved"] = []
    else:
        found |= {"iou_wrong_plates": [], "leak": []}
    for number, objects in enumerate(recipe.validation_objects):
        chunk = render_chunk(recipe, number, VALIDATION_SEEDS, str(device), objects)
        samples = restored(chunk, device)
        solos, frames = solo_predictions(net, samples, recipe)
        frames = frames.to(device)
        assert samples.solos is not None
        truth = regions(samples.solos[:, :, frames], samples.plate[:, None, None])
        result = regions(solos, samples.plate_estimated[:, None, None])
        mask = samples.masks[:, :, frames, 0] > 0.5
        body = (samples.visible[:, :, frames, 0] > 0.5).any(1, keepdim=True)
        scores = {
            "iou": _ratio(truth & result, truth | result),
            "masks_iou": _ratio(truth & mask, truth | mask),
            "effect_recall": _ratio(truth & result & ~mask & ~body, truth & ~mask & ~body),
        }
        others = (truth.sum(1, keepdim=True) - truth.int() > 0) & ~truth & ~body
        scores["wrong"] = _ratio(result & others, others)
        if recipe.network == "coordination":
            resolved = regions(
                shared_out(samples, solos, frames), samples.plate_estimated[:, None, None]
            )
            scores["resolved"] = _ratio(truth & resolved, truth | resolved)
        else:
            scores |= wrong_plate_scores(net, samples, number)
        for name, values in scores.items():
            found[name] += values[torch.isfinite(values)].tolist()
        if sheet is not None and number == 0:
            write_sheet(sheet, samples, solos, frames)
    return {name: float(np.mean(values)) if values else 0.0 for name, values in found.items()}


def wrong_plate_scores(net: nn.Module, samples: FilmedBatch, seed: int) -> dict[str, Tensor]:
    """Scores of the ownership network with plates that are wrong as those of real footage are.

    Each object's region is where its share of the residual, put over the true plate, changes it.
    iou_wrong_plates: of that region. leak: share of the pixels farther than 5 % of the height from
    every true region that some object changes, which is what no compositor forgives.
    """
    generator = torch.Generator(samples.frames.device).manual_seed(seed)
    clip = given_clip(samples, samples.plate_estimated, generator)
    share = net(clip.frames, clip.given, clip.masks).float().softmax(1)[:, :-1].unsqueeze(3)
    changes = share * (clip.frames - clip.given)[:, None]
    truth = regions(clip.solos, clip.plates[:, None]) & ~clip.unowned
    result = regions(clip.plates[:, None] + changes, clip.plates[:, None])
    reach = max(1, round(truth.shape[-2] * 0.05))
    near = truth.any(1).flatten(0, 1).float()[:, None]
    near = F.max_pool2d(near, 2 * reach + 1, 1, reach)[:, 0].unflatten(
        0, (len(truth), truth.shape[2])
    )
    far = near[:, None] < 0.5
    return {
        "iou_wrong_plates": _ratio(truth & result, truth | result),
        "leak": _ratio(result.any(1, keepdim=True) & far, far),
    }


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Pixels of `part` over those of `whole` for each clip and object; NaN where there are none."""
    return part.sum((2, 3, 4)).float() / whole.sum((2, 3, 4)).float()


def write_sheet(path: Path, samples: FilmedBatch, solos: Tensor, frames: Tensor) -> None:
    """A row a clip: frame, estimated plate, then each object's prediction above its truth."""
    assert samples.solos is not None
    middle = len(frames) // 2
    rows = []
    for i in range(min(SHEET_CLIPS, len(samples))):
        frame = samples.frames[i, frames[middle]]
        top, bottom = [frame, *solos[i, :, middle]], [samples.plate_estimated[i]]
        bottom += list(samples.solos[i, :, frames[middle]])
        rows += [torch.cat(top, 2), torch.cat(bottom, 2)]
    picture = torch.cat(rows, 1).clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    picture = (picture * 255 + 0.5).astype(np.uint8)[..., ::-1]
    scale = max(1, 256 // samples.frames.shape[-1])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    with replacing(path) as partial:
        cv2.imwrite(str(partial), picture)

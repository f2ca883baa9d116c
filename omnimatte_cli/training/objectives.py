"""What each network is trained on: losses of one batch of rendered clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.matte.over import in_order, layer_over, over
from omnimatte_cli.methods.coordination.losses import (
    SPARSITY_WEIGHT,
    mask_bootstrap,
    object_weight,
    reconstruction,
    sparsity,
)
from omnimatte_cli.methods.coordination.windows import draw_hidden
from omnimatte_cli.synth.plate_faults import GivenClip, given_clip

if TYPE_CHECKING:
    from omnimatte_cli.synth.augment import FilmedBatch
    from omnimatte_cli.training.recipe import Recipe

UNMASKED_CHANCE = 0.15  # clips whose last object loses its mask: a stranger that nobody owns
TRUE_PLATE_CHANCE = 0.3  # clips that are given the true plate instead of an estimate
EFFECT_CAP = 0.5  # change, summed over 3 channels, from which an effect has its whole weight
NOBODY_CHANGE = 0.015  # change, summed over 3 channels, that noise alone explains
RESIDUAL_FLOOR = 0.02  # weight of pixels without a residual in the cross-entropy
CHANGE_WEIGHT = 10.0  # weight of |w D - change|, which is small in most pixels
BODY_WEIGHT = 0.3  # weight of visible bodies, whose owner is known from the masks anyway

Terms = dict[str, Tensor]


@dataclass(frozen=True)
class OwnershipTruth:
    """share: (B, N + 1, T, H, W), sums to 1, 'nobody' last. changes: (B, N, T, 3, H, W)."""

    share: Tensor
    changes: Tensor


def ownership_truth(clip: GivenClip, masked: int) -> OwnershipTruth:
    """Each object's share of the picture's change, by the true solos.

    The first `masked` objects have masks; what the others change belongs to nobody, and so does
    what a stranger hides. Where an object is visible the pixel is its own; elsewhere each object's
    share is in proportion to its change.
    """
    changes = clip.solos - clip.plates[:, None]
    changes = changes.masked_fill(clip.unowned[:, :, :, None], 0)
    size = changes.abs().sum(3)  # (B, N, T, H, W)
    # The square makes the larger change clearly the owner.
    claim = size * size
    visible = clip.visible[:, :, :, 0]
    body = visible.amax(1, keepdim=True)
    claim = torch.where(body > 0.5, visible, claim)
    nobody = claim[:, masked:].sum(1, keepdim=True) + NOBODY_CHANGE**2 * (1 - body)
    claim = torch.cat([claim[:, :masked], nobody], 1)
    share = claim / claim.sum(1, keepdim=True).clamp(min=1e-8)
    return OwnershipTruth(share, changes[:, :masked])


def given_plates(samples: FilmedBatch, rng: np.random.Generator) -> Tensor:
    """The plate that each clip is trained with, (B, 3, H, W): an estimate or the true one."""
    exact = torch.from_numpy(rng.random(len(samples)) < TRUE_PLATE_CHANCE).to(samples.plate.device)
    return torch.where(exact[:, None, None, None], samples.plate, samples.plate_estimated)


def ownership_loss(
    net: nn.Module, samples: FilmedBatch, recipe: Recipe, step: int, rng: np.random.Generator
) -> tuple[Tensor, Terms]:
    """Cross-entropy against the true shares, weighted by the residual, plus |w_i D - change_i|."""
    n = samples.masks.shape[1]
    masked = n - 1 if n > 1 and rng.random() < UNMASKED_CHANCE else n
    generator = torch.Generator(samples.frames.device).manual_seed(int(rng.integers(2**62)))
    clip = given_clip(samples, given_plates(samples, rng), generator, recipe.wrong_plates)
    truth = ownership_truth(clip, masked)
    logits = net(clip.frames, clip.given, clip.masks[:, :masked]).float()
    residual = clip.frames - clip.given
    # Where an effect rests the estimated plate holds its ghost and the residual is nearly 0; the
    # true change keeps such pixels counting, so that a second plate can be estimated without them.
    change = truth.changes.abs().sum((1, 3))
    weight = torch.maximum(residual.abs().sum(2), change).clamp(max=0.5) + RESIDUAL_FLOOR
    body = clip.visible[:, :masked, :, 0].amax(1)
    weight = weight * (1 - (1 - BODY_WEIGHT) * body)
    log_share = F.log_softmax(logits, 1)
    entropy = -(truth.share * log_share).sum(1)
    cross = (weight * entropy).sum() / weight.sum()
    owned = log_share[:, :-1].exp().unsqueeze(3) * residual[:, None]
    error = (1 - 0.5 * body)[:, None, :, None] * (owned - truth.changes).abs()
    loss = cross + CHANGE_WEIGHT * error.mean()
    return loss, {"cross_entropy": cross, "change": error.mean()}


def coordination_loss(
    net: nn.Module, samples: FilmedBatch, recipe: Recipe, step: int, rng: np.random.Generator
) -> tuple[Tensor, Terms]:
    """The paper's losses, with the curriculum of the recipe."""
    b, t = samples.frames.shape[:2]
    device = samples.frames.device
    hidden = torch.from_numpy(
        np.stack([draw_hidden(recipe.hiding, rng, t, recipe.hidden) for _ in range(b)])
    )
    frames_out = [torch.nonzero(row)[:, 0] for row in hidden]
    visible_out = [torch.nonzero(~row)[:, 0] for row in hidden]
    if recipe.hidden == 0:
        decoded = torch.stack(visible_out)
    elif step < recipe.auxiliary_steps:
        extra = [v[int(rng.integers(len(v)))][None] for v in visible_out]
        decoded = torch.stack([torch.cat(x) for x in zip(frames_out, extra, strict=True)])
    else:
        decoded = torch.stack(frames_out)
    decoded = decoded.to(device)
    rgba = net(samples.frames, samples.masks, hidden, decoded).float()

    rows = torch.arange(b, device=device)[:, None]
    target, order = samples.frames[rows, decoded], samples.order[rows, decoded]

    def at_decoded(x: Tensor) -> Tensor:  # (B, N, T, ...) to (B, N, K, ...)
        return x.transpose(1, 2)[rows, decoded].transpose(1, 2)

    masks = at_decoded(samples.masks)
    plate = given_plates(samples, rng)[:, None].expand_as(target)
    layers, sorted_masks = in_order(rgba, order), in_order(masks, order)
    composite = over(layers, plate)
    # At first bodies count in full: their colours teach the attention where to look.
    whole = step < recipe.whole_steps
    weight = torch.ones_like(sorted_masks[:, 0]) if whole else object_weight(sorted_masks)
    squared = 1.0 if step < recipe.squared_steps else recipe.squared_share
    recon = squared * reconstruction(composite, target, weight, 2)
    if squared < 1:
        recon = recon + (1 - squared) * reconstruction(composite, target, weight)
    alpha = layers[:, :, :, 3:]
    l1, l0 = sparsity(alpha, sorted_masks, t)
    mask = mask_bootstrap(alpha, sorted_masks, t)
    mask_weight = 0.1 ** sum(step >= drop for drop in recipe.mask_drops)
    loss = recon + SPARSITY_WEIGHT * (l1 + l0) + mask_weight * mask
    terms = {"reconstruction": recon, "l1": l1, "l0": l0, "mask": mask}

    fade = max(0.0, 1 - step / recipe.layer_steps) if recipe.layer_steps else 0.0
    if recipe.layer_weight * fade > 0:
        assert samples.solos is not None
        layer = layer_error(
            rgba,
            at_decoded(samples.solos),
            at_decoded(samples.visible),
            samples.plate,
            squared,
            recipe.effect_weight,
        )
        loss = loss + recipe.layer_weight * fade * layer
        terms["layer"] = layer
    return loss, terms


def layer_error(
    rgba: Tensor, solo: Tensor, visible: Tensor, plate: Tensor, squared: float, effect_weight: float
) -> Tensor:
    """Mean error of each layer alone over the true plate, in [-1, 1] units, summed over channels.

    rgba: (B, N, K, 4, H, W). solo: (B, N, K, 3, H, W), the object alone. visible:
    (B, N, K, 1, H, W), its body. plate: (B, 3, H, W). squared: share of squared error, the rest
    absolute. effect_weight: how much more the pixels count that an object changes outside its body.
    """
    plate = plate[:, None, None]
    alone = layer_over(rgba, plate)
    change = (solo - plate).abs().sum(3, keepdim=True).clamp(max=EFFECT_CAP) / EFFECT_CAP
    weight = 1 + effect_weight * change * (1 - visible)
    error = (2 * (alone - solo)).abs()
    return (weight * (squared * error.square() + (1 - squared) * error)).sum(3).mean()

"""The losses of Generative Omnimatte's stage 2. Pure functions on tensors in [0, 1].

Lee et al., "Generative Omnimatte", CVPR 2025, section 3.5 and supplement D. Where the paper leaves
sums or means open, means are taken, as in the authors' public code.
Letters: B frames, H, W. Straight colour rgb (B, 3, H, W), alpha and mask (B, 1, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.methods.generative.options import StageOptions

L0_GAIN = 5.0  # steepness of the smooth count of pixels with any alpha (Omnimatte 2021)
EDGE_ALPHA = 0.5  # alpha whose outline is the edge of a layer


def composite(rgb: Tensor, alpha: Tensor, plate: Tensor) -> Tensor:
    """The layer over the plate."""
    return alpha * rgb + (1 - alpha) * plate


def power_mean(x: Tensor, power: int) -> Tensor:
    """Mean of |x| (power 1) or of x squared (power 2)."""
    return x.abs().mean() if power == 1 else x.square().mean()


def sparsity_l0(alpha: Tensor) -> Tensor:
    """About the share of pixels with any alpha: 0 at alpha 0, near 1 at alpha 1."""
    return (2 * torch.sigmoid(L0_GAIN * alpha) - 1).mean()


def sparsity_l1(alpha: Tensor) -> Tensor:
    """Mean of |alpha|."""
    return alpha.abs().mean()


def masked_error(alpha: Tensor, mask: Tensor, where: Tensor, power: int = 2) -> Tensor:
    """Mean error of alpha against the mask over the pixels `where` (weights); 0 if there are none.

    Over the whole batch, not frame by frame: a frame without the object adds nothing.
    """
    error = (alpha - mask).abs() if power == 1 else (alpha - mask).square()
    return (where * error).sum() / where.sum().clamp(min=1e-6)


def edge_band(alpha: Tensor, radius: int) -> Tensor:
    """Where the outline of a layer passes within `radius` pixels, bool, the shape of alpha.

    A square neighbourhood that holds alphas on both sides of 0.5.
    """
    solid = (alpha > EDGE_ALPHA).float()
    side = 2 * radius + 1
    near = F.max_pool2d(solid, side, 1, radius)
    inner = -F.max_pool2d(-solid, side, 1, radius)
    return near != inner


def alpha_supervision(alpha: Tensor, lower: Tensor, edges: Tensor) -> Tensor:
    """Squared error against the enlarged alpha of the base optimisation, off its edges.

    The outline of an enlarged alpha is a staircase, which must not be learned.
    """
    return (alpha - lower).square()[~edges.expand_as(alpha)].mean()


def total_variation(alpha: Tensor) -> Tensor:
    """Mean absolute difference of neighbours, down and across together."""
    down = (alpha[..., 1:, :] - alpha[..., :-1, :]).abs()
    across = (alpha[..., :, 1:] - alpha[..., :, :-1]).abs()
    return down.mean() + across.mean()


def scheduled(weight: float, drops: tuple[tuple[int, float], ...], step: int) -> float:
    """A weight or learning rate at a step: multiplied by each drop's factor from its step on."""
    for at, factor in drops:
        if step >= at:
            weight *= factor
    return weight


@dataclass(frozen=True)
class Terms:
    """Loss terms of one step before their weights, and their weighted sum. None: not computed."""

    total: Tensor
    recon: Tensor
    l0: Tensor
    l1: Tensor
    mask: Tensor | None = None
    inside: Tensor | None = None
    smooth: Tensor | None = None
    below: Tensor | None = None


def layer_losses(
    rgb: Tensor,
    alpha: Tensor,
    solo: Tensor,
    plate: Tensor,
    mask: Tensor,
    coverage: float,
    stage: StageOptions,
    step: int,
    lower: tuple[Tensor, Tensor] | None = None,
) -> Terms:
    """All terms of one window at a step.

    solo, plate: (B, 3, H, W). coverage: mean of the mask over the whole clip, by which the sparsity
    weights are multiplied if `stage.sparsity_by_coverage`. lower: the enlarged alpha of the base
    optimisation and its edges, (B, 1, H, W).
    """
    recon = power_mean(composite(rgb, alpha, plate) - solo, stage.recon_power)
    l0, l1 = sparsity_l0(alpha), sparsity_l1(alpha)
    scale = coverage if stage.sparsity_by_coverage else 1.0
    weight_l0 = scheduled(stage.l0 * scale, stage.l0_drops, step)
    weight_l1 = scheduled(stage.l1 * scale, stage.l1_drops, step)
    total = stage.recon * recon + weight_l0 * l0 + weight_l1 * l1
    mask_term = inside = smooth = below = None
    weight = scheduled(stage.mask, stage.mask_drops, step)
    if weight > 0:
        mask_term = masked_error(alpha, mask, mask, stage.mask_power)
        mask_term = mask_term + masked_error(alpha, mask, 1 - mask, stage.mask_power)
        total = total + weight * mask_term
    elif stage.inside > 0:
        inside = masked_error(alpha, mask, mask, stage.mask_power)
        total = total + stage.inside * inside
    if stage.smooth > 0:
        smooth = total_variation(alpha)
        total = total + stage.smooth * smooth
    if lower is not None and stage.below > 0:
        below = alpha_supervision(alpha, *lower)
        total = total + stage.below * below
    return Terms(total, recon, l0, l1, mask_term, inside, smooth, below)

"""The three losses of the paper (section 3.3): pure functions on tensors in [0, 1].

The published loss is in units of [-1, 1]; the factors of 2 below keep its scale.
Only hidden frames are passed. The means of the sparsity and mask terms run over all T frames of the
window, the visible ones counting as zero, as published: hence the argument `total` = T.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from omnimatte_cli.matte.over import alpha_over

WeightRule = Literal["any", "overlap"]
BODY_WEIGHT = 0.9  # the paper's lambda_w: how much less object regions count in reconstruction
SPARSITY_WEIGHT = 0.05  # the paper's lambda_r, for each of the two terms (gamma = 1)


def object_weight(masks: Tensor, rule: WeightRule = "any") -> Tensor:
    """Reconstruction weight, low on objects so that their effects count.

    masks: (B, N, T, 1, H, W). Returns (B, T, 1, H, W), 0.1 on objects and 1 elsewhere. "any": where
    any mask is on (the paper); "overlap": where more than one is (the published code).
    """
    covered = masks.sum(1)
    body = covered > (0 if rule == "any" else 1)
    return 1 - BODY_WEIGHT * body.to(masks.dtype)


def reconstruction(composite: Tensor, frame: Tensor, weight: Tensor, power: int = 1) -> Tensor:
    """Weighted mean of |composite - frame|^power in [-1, 1] units.

    composite, frame: (B, T, 3, H, W) in [0, 1]; weight: (B, T, 1, H, W).
    The divisor is the sum of weights before they spread over the 3 channels, as published: the
    error is summed over channels.
    """
    error = (2 * (composite - frame)).abs() ** power
    return (weight * error).sum() / weight.sum()


def sparsity(alpha: Tensor, masks: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """Mean coverage and its smooth count (equation 3), where no object is in front.

    The coverage is one picture; it is weighted once for every object, by where no mask of an object
    in front of that one lies, and averaged over the objects.
    alpha, masks: (B, N, K, 1, H, W) in compositing order, of the K hidden frames; total: frames T
    of the window. Returns (l1, l0), before lambda_r.
    """
    coverage = alpha_over(alpha)
    hidden_by = torch.zeros_like(masks)
    for i in range(masks.shape[1] - 2, -1, -1):
        hidden_by[:, i] = torch.maximum(hidden_by[:, i + 1], masks[:, i + 1])
    clear = (1 - hidden_by).mean(1)
    share = alpha.shape[2] / total
    l1 = (clear * coverage).mean() * share
    l0 = (clear * (2 * torch.sigmoid(5 * coverage) - 1)).mean() * share
    return l1, l0


def mask_bootstrap(alpha: Tensor, masks: Tensor, total: int) -> Tensor:
    """Balanced |alpha - mask| in [-1, 1] units (equation 4, with the published L1 norm).

    alpha, masks: (B, N, K, 1, H, W) of the K hidden frames; total: frames T of the window.
    """
    pixels = masks.shape[-1] * masks.shape[-2]
    inside = masks.sum((-2, -1), keepdim=True)
    outside = pixels - inside
    balance = pixels / 2 * (masks / (inside + 1) + (1 - masks) / (outside + 1))
    return (balance * 2 * (alpha - masks).abs()).mean() * alpha.shape[2] / total

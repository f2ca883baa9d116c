"""The loss terms of Omnimatte 2021 and their schedule: pure functions on tensors.

Colours and alpha are in [-1, 1] unless stated, flow in pixels; means run over everything. Each term
is unweighted; the weights are `LossWeights`. Letters as in `network`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from omnimatte_cli.methods.omnimatte2021.network import Rendered
from omnimatte_cli.methods.omnimatte2021.options import LossWeights, Options

MASK_FALL = 0.1  # what is left of the mask term's weight after its first fall
TERMS = (
    "reconstruction",
    "l1",
    "l0",
    "mask_in",
    "mask_out",
    "flow",
    "alpha_warp",
    "warped",
    "adjustment",
)


@dataclass(frozen=True)
class Targets:
    """What B pairs are compared with.

    frames: (B, 2, 3, H, W) in [-1, 1]. trimaps: (B, 2, N, 1, H, W): 1 object, -1 not, 0 unknown
    (in between where a crop was interpolated). flow: (B, 2, 2, H, W) pixels. confidence:
    (B, 2, 1, H, W) in [0, 1], how far the flow is to be trusted.
    """

    frames: Tensor
    trimaps: Tensor
    flow: Tensor
    confidence: Tensor


def start_weights(weights: LossWeights) -> dict[str, float]:
    """The factor of every term before any of them falls, by the names in TERMS."""
    return {
        "reconstruction": weights.reconstruction,
        "l1": weights.l1,
        "l0": weights.l0,
        "mask_in": weights.mask,
        "mask_out": weights.mask,
        "flow": weights.flow,
        "alpha_warp": weights.alpha_warp,
        "warped": weights.warped,
        "adjustment": weights.adjustment,
    }


def loss_terms(rendered: Rendered, targets: Targets) -> dict[str, Tensor]:
    """Every unweighted term by the names in TERMS, scalars."""
    alpha = rendered.layers[:, :, :, 3:]
    coverage = (rendered.composite[:, :, 3:] + 1) / 2
    inside, outside = mask_terms(alpha, targets.trimaps)
    zero = alpha.new_zeros(())
    terms = (
        reconstruction(rendered.composite[:, :, :3], targets.frames),
        coverage.mean(),
        smooth_count(coverage),
        inside,
        outside,
        flow_reconstruction(rendered.flow, targets.flow, targets.confidence),
        alpha_warp(alpha[:, 0], rendered.warped[:, :, 3:]),
        reconstruction(rendered.warped_composite, targets.frames[:, 0]),
        zero
        if rendered.offset is None or rendered.brightness is None
        else adjustment(rendered.offset, rendered.brightness),
    )
    return dict(zip(TERMS, terms, strict=True))


def total(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The weighted sum. A term of weight 0 is left out: no gradient is computed through it."""
    return torch.stack([weights[name] * x for name, x in terms.items() if weights[name]]).sum()


def reconstruction(composite: Tensor, frames: Tensor) -> Tensor:
    """Mean |composite - frame|."""
    return (composite - frames).abs().mean()


def smooth_count(coverage: Tensor) -> Tensor:
    """Mean 2 sigmoid(5 A) - 1 of a coverage A in [0, 1]: how much is covered at all."""
    return (2 * torch.sigmoid(5 * coverage) - 1).mean()


def mask_terms(alpha: Tensor, trimaps: Tensor) -> tuple[Tensor, Tensor]:
    """The mask loss in two parts, inside and outside of the objects; the loss is their sum.

    Half of the mean |alpha - trimap| where the trimap is +1, and the same where it is -1; sums over
    the whole batch and all layers, so that a small object counts as much as what is around it.
    alpha, trimaps: (B, 2, N, 1, H, W).
    """

    def part(where: Tensor) -> Tensor:
        where = where.to(alpha.dtype)
        return 0.5 * (where * (alpha - trimaps).abs()).sum() / (1 + where.sum())

    return part(trimaps == 1), part(trimaps == -1)


def flow_reconstruction(flow: Tensor, target: Tensor, confidence: Tensor) -> Tensor:
    """Mean |confidence * (flow - target)| in pixels; (B, 2, 2, H, W) and (B, 2, 1, H, W)."""
    return (confidence * (flow - target)).abs().mean()


def alpha_warp(alpha: Tensor, warped: Tensor) -> Tensor:
    """Mean |alpha of t - alpha of t + 1 seen from t|, both (B, N, 1, H, W).

    The mean is over all layers, of which the background counts as 0.
    """
    n = alpha.shape[1]
    return (alpha - warped).abs().mean() * (n / (n + 1))


def adjustment(offset: Tensor, brightness: Tensor) -> Tensor:
    """Mean |brightness - 1| plus mean |offset in pixels|."""
    return (brightness - 1).abs().mean() + offset.abs().mean()


@dataclass
class Schedule:
    """Which weights are in force: the published rule, counted in steps instead of epochs.

    The mask term's weight falls to a tenth at the first step after `mask_hold` at which the last
    batch's mask loss is below `mask_threshold` (at `mask_deadline` in any case). At `mask_off`
    times that step nothing holds the outside of the objects down any longer, so that effects far
    from the mask can appear; inside, `mask_keep` stays, without which bodies fade. An epoch of a
    short clip is a few steps: counted in epochs the term would end before the masks are learned.

    fall: the step at which the weight fell, or None as yet. All that there is to save.
    """

    options: Options
    fall: int | None = None

    def update(self, step: int, mask_loss: float | None) -> None:
        """Before `step` (from 0); mask_loss: the last step's, unweighted, or None before any."""
        options = self.options
        if self.fall is not None or mask_loss is None:
            return
        share = step / options.iterations
        learned = share >= options.mask_hold and mask_loss < options.mask_threshold
        if learned or share >= options.mask_deadline:
            self.fall = step

    def weights(self, step: int) -> dict[str, float]:
        """The factors in force at a step, by the names in TERMS."""
        options, factors = self.options, start_weights(self.options.weights)
        if step >= options.l1_until * options.iterations:
            factors["l1"] = 0.0
        if self.fall is not None:
            free = step >= options.mask_off * self.fall
            factors["mask_in"] *= options.mask_keep if free else MASK_FALL
            factors["mask_out"] *= 0.0 if free else MASK_FALL
        return factors

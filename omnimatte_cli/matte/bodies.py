"""Bodies cut out of a frame by the matting network, whatever their rough masks say.

Masks are some pixels off and take in ground: floor around shoes, grass between legs. The network
(`matting_network.py`) sees the frame and the plate around each mask and gives alpha there. A mask
has a say in it: what is far from it is no body.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from omnimatte_cli.device import autocast
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.matte.matting_network import HALO, INPUTS, STRIDE, MattingNet, features, fused
from omnimatte_cli.matte.ownership import smoothstep

# Of the mean side, the root of a picture's area: how far outside of its mask a body may be, and as
# far again in which it fades. 6 pixels at 640x360.
REACH = 0.0125
CONTEXT = 24  # pixels around that which are looked at, of a picture that is seen whole
FINE = 900  # pixels of the mean side up to which the U-Net sees every pixel
LEAST_FINE = 4  # times as small a picture that it sees at most
THERE = 0.05  # of a mask from which it is one
STRIP = 128  # rows that are decided at a time
LEAST_GAP = 0.0075  # share of its mask: the least gap that a body may enclose
GAP_LIGHT = (0.5, 1.3)  # what of the plate's light such a gap has: of less or more it is body
SURE = (0.2, 0.9)  # alphas that are 0 .. 1

CutOut = Callable[[np.ndarray, np.ndarray, np.ndarray, float], np.ndarray]
"""Alphas (N, H, W) of bodies from frame and plate (H, W, 3), masks (N, H, W) and the mean side."""


def by_masks(frame: np.ndarray, plate: np.ndarray, masks: np.ndarray, side: float) -> np.ndarray:
    """Bodies as their masks are, where no network is at hand."""
    return masks.astype(np.float32)


class Matting:
    """Cuts bodies out with a network, on the CPU."""

    def __init__(self, net: MattingNet) -> None:
        """net: becomes its fused self."""
        self.net = fused(net.cpu())

    def __call__(
        self, frame: np.ndarray, plate: np.ndarray, masks: np.ndarray, side: float
    ) -> np.ndarray:
        """Alphas of the bodies that masks are of, (N, H, W) float32 in [0, 1].

        frame, plate: (H, W, 3) float32 in [0, 1]. masks: (N, H, W) in [0, 1], bool or float32,
        visible parts. side: mean side of the picture that these are part of, in pixels.
        """
        out = np.zeros(masks.shape, np.float32)
        shape = masks.shape[1], masks.shape[2]
        reach, less = REACH * side, coarseness(side)
        for i, mask in enumerate(masks):
            near = bounding_box(mask > THERE, fading(side))
            if near is None:
                continue
            box = near.grown(CONTEXT * less, shape).aligned(STRIDE * less, shape)
            others = np.delete(masks[:, box.rows, box.columns], i, 0)
            alpha = self._alpha(
                frame[box.slices], plate[box.slices], mask[box.slices], others, less
            )
            least = LEAST_GAP * np.count_nonzero(mask > THERE)
            alpha = without_holes(alpha, frame[box.slices], plate[box.slices], least)
            part = near.seen_from(box).slices
            distance = outside(mask[near.slices])
            out[i][near.slices] = alpha[part] * np.clip(2 - distance / reach, 0, 1)
        return out

    def _alpha(
        self,
        frame: np.ndarray,
        plate: np.ndarray,
        mask: np.ndarray,
        others: np.ndarray,
        less: int,
    ) -> np.ndarray:
        """Of one body in a part of a picture, (h, w). others: (N - 1, h, w), the other masks. less:
        as the network takes it."""
        h, w = mask.shape
        other = others.max(0) if len(others) else np.zeros_like(mask)
        down, right = (-n % (STRIDE * less) for n in (h, w))
        planes = np.empty((1, INPUTS, h + down, w + right), np.float32)
        for k, plane in enumerate((*cv2.split(frame), *cv2.split(plate), mask, other)):
            whole = np.asarray(plane, np.float32)
            cv2.copyMakeBorder(whole, 0, down, 0, right, cv2.BORDER_REFLECT, planes[0, k])
        given = torch.from_numpy(planes)
        with torch.inference_mode(), autocast(torch.device("cpu")):
            small = computed(features(F.avg_pool2d(given, less) if less > 1 else given))
            said = self.net.look(small, less).to(small.dtype)
            strips = []
            for top in range(0, h, STRIP):  # full size takes memory
                rows = slice(max(0, top - HALO), top + STRIP + HALO)
                seen = small[:, :, rows] if less == 1 else computed(features(given[:, :, rows]))
                found = self.net.decide(seen, said[:, :, rows])
                found = found[:, :, top - rows.start :][:, :, :STRIP]
                strips.append(torch.sigmoid(found.float()))
        alpha = torch.cat(strips, 2)[0, 0, :h, :w]
        return np.asarray(smoothstep(alpha.numpy(), *SURE), np.float32)


def computed(x: Tensor) -> Tensor:
    """(B, C, H, W) as convolutions take it: in the type that they compute in, channels last."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return x.to(dtype, memory_format=torch.channels_last)


def without_holes(
    alpha: np.ndarray, frame: np.ndarray, plate: np.ndarray, least: float
) -> np.ndarray:
    """Alpha (H, W) without holes that show no ground: too small, or in no light of the plate's.

    frame, plate: (H, W, 3). least: pixels, of the least gap. A number plate in the grey of the
    road is no gap between legs.
    """
    count, names, facts, _ = cv2.connectedComponentsWithStats((alpha < 0.5).astype(np.uint8))
    outer = np.unique(np.concatenate([names[0], names[-1], names[:, 0], names[:, -1]]))
    filled = np.zeros(alpha.shape, np.uint8)
    for i in np.setdiff1d(np.arange(1, count), outer):
        left, top, width, height, area = facts[i]
        part = np.s_[top : top + height, left : left + width]
        there = names[part] == i
        seen, known = (float(x[part][there].mean()) for x in (frame, plate))
        if area < least or not GAP_LIGHT[0] * known <= seen <= GAP_LIGHT[1] * known:
            filled[part] |= there
    rims = cv2.dilate(filled, np.ones((5, 5), np.uint8)) > 0
    return np.where(rims, np.float32(1), alpha)


def coarseness(side: float) -> int:
    """How many times as small a picture the U-Net sees of one with this mean side: a power of 2."""
    less = 1
    while side / less > FINE and less < LEAST_FINE:
        less *= 2
    return less


def fading(side: float) -> int:
    """Pixels around a mask within which a body fades, in a picture with this mean side."""
    return round(2 * REACH * side) + 2


def margin_of(side: float) -> int:
    """Pixels around a mask that alpha depends on."""
    return fading(side) + CONTEXT * coarseness(side)


def outside(mask: np.ndarray) -> np.ndarray:
    """Pixels from each place to a mask (H, W), (H, W) float32; 0 within it."""
    away = np.asarray(mask <= THERE, np.uint8)
    return cv2.distanceTransform(away, cv2.DIST_L2, 3).astype(np.float32)

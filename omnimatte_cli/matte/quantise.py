"""Float layers as integers of 8 to 16 bits, such that rounding does not add up.

A layer's alpha is rounded up and its colour computed anew for the rounded alpha, so that the change
that it makes over the plate is right to half a level. What one layer's rounding leaves over, the
layers in front of it make good where they have alpha of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np

from omnimatte_cli.arrays import integers
from omnimatte_cli.matte.box import Box, alpha_box
from omnimatte_cli.matte.closed_form import min_alpha
from omnimatte_cli.matte.compositing import grey, layer_over

BITS = (8, 10, 12, 16)
SLACK = 1e-3  # levels by which alpha may fall short of the next level before it is rounded up
MEND = 2.0  # levels by which an alpha may grow to make good what other layers' rounding left
EXTENSION = 5  # pixels by which colour continues under alpha 0, for filtering without dark fringes


@dataclass(frozen=True)
class QuantisedLayers:
    """One frame's layers as they are written.

    rgba: (N, H, W, 4) uint8 (8 bits) or uint16 (more), straight alpha, 0 .. 2 ** bits - 1. plate:
    (H, W, 3) float32 in [0, 1], what they are over. box: the part outside of which there is nothing
    but the plate; None where there is nothing at all. made, seen: (h, w, 3) and (h, w) float32, of
    that part, the composite of these very layers and how much of the plate is seen through them.
    """

    rgba: np.ndarray
    plate: np.ndarray
    box: Box | None
    made: np.ndarray
    seen: np.ndarray
    bits: int = 8

    @property
    def composite(self) -> np.ndarray:
        """These very layers over the plate, (H, W, 3) float32 in [0, 1]."""
        out = self.plate.copy()
        if self.box is not None:
            out[self.box.slices] = self.made
        return out

    @property
    def transmittance(self) -> np.ndarray:
        """How much of the plate is seen through the layers, (H, W) float32."""
        out = np.ones(self.plate.shape[:2], np.float32)
        if self.box is not None:
            out[self.box.slices] = self.seen
        return out


def highest(bits: int) -> int:
    """The largest value of an integer channel with this many bits."""
    assert bits in BITS, bits
    return 2**bits - 1


def floats(x: np.ndarray, bits: int) -> np.ndarray:
    """Integers 0 .. 2 ** bits - 1 as float32 in [0, 1]."""
    assert x.dtype == (np.uint8 if bits == 8 else np.uint16), (x.dtype, bits)
    return x.astype(np.float32) * np.float32(1 / highest(bits))


def quantise_layers(
    rgba: np.ndarray,
    plate: np.ndarray,
    order: Sequence[int] | np.ndarray,
    bits: int = 8,
    extend: bool = True,
    within: Box | None = None,
) -> QuantisedLayers:
    """Integer layers that over the plate look as the float layers do, to half a level.

    rgba: (N, H, W, 4) float32 straight alpha; plate: (H, W, 3) float32; both in [0, 1]. order: (N,)
    indices back to front. extend: continue colours under alpha 0. within: where there is any alpha;
    None: look everywhere.
    """
    levels = highest(bits)
    out = np.zeros(rgba.shape, np.uint8 if bits == 8 else np.uint16)
    found = {i: alpha_box(rgba[i], EXTENSION, within) for i in order}
    boxes = {i: box for i, box in found.items() if box is not None}
    if not boxes:
        return QuantisedLayers(out, plate, None, plate[:0, :0], plate[:0, :0, 0], bits)
    whole = reduce(Box.around, boxes.values())
    goal, made = plate[whole.slices].copy(), plate[whole.slices].copy()
    seen = np.ones(made.shape[:2], np.float32)
    for i, box in boxes.items():
        part = box.seen_from(whole).slices
        layer, under = rgba[i][box.slices], made[part]
        alpha = layer[..., 3]
        touched = (alpha > 0).astype(np.float32)
        goal[part] = layer_over(layer, goal[part])
        change = grey(touched) * (goal[part] - under)
        needed = np.clip(min_alpha(change, under), alpha, alpha + MEND / levels)
        alpha_int = round_up(needed * touched, bits)
        alpha = floats(alpha_int, bits)
        # A fully opaque pixel gets its colour from nothing but the goal.
        colour = under + change / grey(np.maximum(alpha, np.float32(1 / levels)))
        colour_int = integers(colour, bits)
        made[part] = under + grey(alpha) * (floats(colour_int, bits) - under)
        seen[part] *= 1 - alpha
        colour_int = edge_extend(colour_int, alpha, bits) if extend else colour_int
        out[i][box.slices] = cv2.merge([*cv2.split(colour_int), alpha_int])
    return QuantisedLayers(out, plate, whole, made, seen, bits)


def round_up(alpha: np.ndarray, bits: int) -> np.ndarray:
    """Alpha in [0, 1] (clipped) to integers, rounded up but for a thousandth of a level."""
    kind = np.uint8 if bits == 8 else np.uint16
    return np.ceil(np.clip(alpha, 0, 1) * highest(bits) - SLACK).astype(kind)


def edge_extend(colour: np.ndarray, alpha: np.ndarray, bits: int = 8) -> np.ndarray:
    """Continue colours under alpha 0 from their surroundings; elsewhere unchanged.

    colour: (H, W, 3) integers of `bits`; alpha: (H, W) float32. Returns the same type, 0 far from
    the layer.
    """
    size = (2 * EXTENSION + 1,) * 2
    near = cv2.blur(colour * grey(alpha), size)
    weight = cv2.blur(alpha, size)
    around = near / grey(np.maximum(weight, np.float32(1e-4)))
    around = np.clip(around + np.float32(0.5), 0, highest(bits)).astype(colour.dtype)
    cv2.copyTo(colour, (alpha > 0).astype(np.uint8), around)
    return around

"""Layers at full size from plate, frame and ownership, in float32. Pure functions on arrays.

An object's layer is its body over its reflection over its shadow. The body, cut out of its mask
(`bodies.py`), is opaque and has the frame's colours; the effects are smooth (`effects.py`) or, with
`exact_layers`, the sparsest layer that explains every pixel by itself (`closed_form.py`). What the
layers do not explain is in `residual_plate`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.bleed import without_bleed
from omnimatte_cli.matte.bodies import CutOut, by_masks
from omnimatte_cli.matte.box import Box, bounding_box, cropped
from omnimatte_cli.matte.closed_form import min_alpha, sure_min_alpha
from omnimatte_cli.matte.compositing import grey, layer_over, straight
from omnimatte_cli.matte.effects import Effect, channel_sum, find_effect
from omnimatte_cli.matte.ownership import FrameWeights, smoothstep
from omnimatte_cli.matte.parts import Body, Elsewhere, Part, Solved, behind_others, lay_down
from omnimatte_cli.matte.passes import BODY, PASSES, effect_passes, split_layer
from omnimatte_cli.matte.rim import settled_rims
from omnimatte_cli.matte.walls import plain_ground, without_ground

SMOOTHING = 1.5  # pixels; sigma over which a faint change must be coherent to count
EVIDENCE = (0.3, 0.6)  # smoothed change, in noise deviations: nothing counts below, all above
BODY_CHANGE = (0.02, 0.12)  # change that makes an edge pixel of a mask transparent .. opaque
PARTIAL_CHANGE = 3 / 255  # the most of a change that may be split between objects and nobody
RIVALS = (0.33, 0.6)  # share of what objects own at which one makes nothing of a change .. all
RIM = (0.4, 0.6)  # soft mask at which the residual begins to count as body, and counts in full

TOUCHED = 0.02  # ownership or mask from which a pixel is looked at
REACH = 0.0375  # of the mean side: how far around those the smoothest effect reaches
REACH_PIXELS = 8  # besides: rims

REST_GAIN = 4.0  # times what the layers leave over that the residual plate may change
GROUND = (0.02, 0.3)  # blurred body up to which a pixel shows the ground .. from which not
BESIDE = 0.0025  # of the mean side; sigma of that blur, of a pixel at least
GROUND_SPREAD = 0.012  # least deviation of the frame from the ground
NO_SHADOW = (2.5, 5.0)  # deviations off the ground in any light: a shadow .. none
RIM_SIGMA = 1.2  # pixels; of a blur of the body's alpha
RIM_REACH = 8  # pixels, more than that blur reaches
RIM_MOST = (2.5, 1.0)  # times that blur: the most that a mixed pixel may need, in a clean picture
# and in one with this much noise (deviation in [0, 1]), where its need may be the codec's.
RIM_NOISE = (1 / 255, 1.5 / 255)
MIXED = (0.005, 0.1)  # blurred alpha at which pixels begin to be mixed, and are explained exactly


@dataclass(frozen=True)
class Layers:
    """One frame's layers, float32 straight alpha in [0, 1].

    rgba: (N, H, W, 4). split: makes `passes`; None where a method does not tell them apart. box:
    outside of it every layer is empty; None: nobody looked.
    """

    rgba: np.ndarray
    split: Callable[[], np.ndarray] | None = None
    box: Box | None = None

    @cached_property
    def passes(self) -> np.ndarray | None:
        """The same in parts, (N, 3, H, W, 4), in the order of `passes.PASSES`, back to front.

        They take three times the memory of the layers, and are made when they are asked for.
        """
        return None if self.split is None else self.split()


def resolve_frame(
    frame: np.ndarray,
    plate: np.ndarray,
    owners: FrameWeights,
    order: np.ndarray,
    noise: np.ndarray | float,
    exact_layers: bool = False,
    masks: np.ndarray | None = None,
    side: float | None = None,
    doubt: np.ndarray | None = None,
    continue_hidden: bool = True,
    elsewhere: Elsewhere | None = None,
    cut_out: CutOut = by_masks,
) -> Layers:
    """Every object's layer in one frame.

    frame, plate: (H, W, 3) float32 in [0, 1]. order: (N,) back to front. noise: (H, W) or a number,
    deviation of the residual where nothing happens, in [0, 1]. exact_layers: explain every owned
    pixel exactly, texture, noise and faults of the plate included. masks: (N, H, W) bool, or
    float32 where masks of several frames disagree; without them the soft edges stand in. side:
    mean side of the picture that these are part of, in pixels; None: they are all of it. doubt:
    (H, W, 2) in [0, 1], how much darker, and brighter, than the plate means nothing; None: unknown.
    continue_hidden: layers go on behind the bodies before them, unless they are exact. elsewhere:
    what other frames show of what is hidden; None: nothing. cut_out: finds bodies in masks.
    """
    if exact_layers:
        return _exact_layers(frame, plate, owners, order, noise)
    side = side or float(np.sqrt(frame.shape[0] * frame.shape[1]))
    rgba, found = solve_parts(frame, plate, owners, order, noise, masks, side, doubt, cut_out)
    parts = found.parts
    if continue_hidden:
        more = behind_others(found, side, elsewhere)
        parts = {**parts, **more}
        for i, (box, effect, body) in more.items():
            lay_down(rgba[i][box.slices], effect, body)

    def split() -> np.ndarray:
        passes = np.zeros((len(order), len(PASSES), *frame.shape[:2], 4), np.float32)
        for i, (box, effect, body) in parts.items():
            for place, layer in enumerate(effect_passes(effect)):
                passes[i, place][box.slices] = layer
            if body is not None:
                whole = passes[i, -1][box.slices]
                whole[body.box.slices] = straight(body.light, body.alpha)
        return passes

    return Layers(rgba, split)


def visible_masks(masks: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Masks (N, H, W) without what masks in front of them cover, float32."""
    out = masks.astype(np.float32)
    for place, i in enumerate(order):
        for front in order[place + 1 :]:
            out[i] = np.minimum(out[i], 1 - masks[front])
    return out


def disjoint(bodies: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Alphas (N, H, W) of which those behind have what those in front leave."""
    out, free = np.empty_like(bodies), np.ones(bodies.shape[1:], np.float32)
    for i in order[::-1]:
        out[i] = np.minimum(bodies[i], free)
        free = free - out[i]
    return out


def solve_parts(
    frame: np.ndarray,
    plate: np.ndarray,
    owners: FrameWeights,
    order: np.ndarray,
    noise: np.ndarray | float,
    masks: np.ndarray | None,
    side: float,
    doubt: np.ndarray | None,
    cut_out: CutOut,
) -> tuple[np.ndarray, Solved]:
    """Every object as it is seen, as `resolve_frame` takes it: (N, H, W, 4), and in parts."""
    shape = frame.shape[:2]
    rgba = np.zeros((len(order), *shape, 4), np.float32)
    parts: dict[int, Part] = {}
    visible_parts = owners.edge if masks is None else visible_masks(masks, order)
    edge = owners.edge.max(0)
    bodies = cut_out(frame, plate, visible_parts, side)
    taken = plain_ground(frame, plate, edge, noise, side)
    bodies = disjoint(without_ground(bodies, taken, side), order)
    body = bodies.max(0)
    weights = settled_rims(owners.weights, edge, body > 0.5, frame - plate, side)
    total = weights.sum(0)
    # An effect is learnt from where no body can be.
    clean = without_bleed(frame, plate, body, noise)
    beside = cv2.GaussianBlur(body, (0, 0), max(BESIDE * side, 1))
    ground = 1 - smoothstep(beside, *GROUND)
    below = plate.copy()
    for i in order:
        touched = np.maximum(weights[i], bodies[i]) > TOUCHED
        box = bounding_box(touched, round(REACH * side) + REACH_PIXELS)
        if box is None:
            continue
        part = box.slices
        here, under, mine = clean[part], below[part], weights[i][part]
        near = cropped(noise, box)
        visible = ground[part] * (1 - np.clip(total[part] - mine, 0, 1))
        unsure = None if doubt is None else doubt[part]
        # Two layers that both make a change make it twice.
        claim = mine * smoothstep(mine / np.maximum(total[part], 1e-3), *RIVALS)
        effect = find_effect(here - plate[part], under, claim, visible, near, side, unsure)
        pictures = here, frame[part]
        solid = find_body(pictures, under, effect, bodies[i][part], mine, near)
        lay_down(rgba[i][part], effect, solid)
        if i != order[-1]:
            below[part] = layer_over(rgba[i][part], under)
        parts[i] = box, effect, solid
    return rgba, Solved(parts, order, ground)


def find_body(
    pictures: tuple[np.ndarray, np.ndarray],
    below: np.ndarray,
    effect: Effect,
    body: np.ndarray,
    weight: np.ndarray,
    noise: np.ndarray | float,
) -> Body | None:
    """An object's body before its own effect; None where there is none.

    pictures: (H, W, 3) twice, the frame without colour that bled, which says what alpha is needed,
    and as it is, whose colours the body has. below: (H, W, 3). body: (H, W), its alpha. weight:
    (H, W), the object's ownership. noise: as in `resolve_frame`.
    """
    box = bounding_box(body > 0, RIM_REACH)
    if box is None:
        return None
    part = box.slices
    under, near = below[part], cropped(noise, box)
    here, seen = (x[part] for x in pictures)
    floor = under + believed(effect, part, under, near)
    return Body(box, *body_light(here, seen, floor, body[part], weight[part], near))


def believed(
    effect: Effect, part: tuple[slice, slice], ground: np.ndarray, noise: np.ndarray | float
) -> np.ndarray:
    """How an effect changes the ground at its own body's outline, (h, w, 3).

    Where a mask is too small its body passes for an effect, and would explain the body away: a
    shadow that leaves the ground in no light at all is not believed. ground: (h, w, 3), and noise,
    in this part of the picture.
    """
    change = effect.light[part] - grey(effect.alpha[part]) * ground
    quiet = np.square(np.maximum(noise, GROUND_SPREAD))
    strange = out_of_light(ground + change, ground, quiet)
    return change * grey(1 - smoothstep(strange, *NO_SHADOW) * (1 - effect.mirror[part]))


def out_of_light(x: np.ndarray, ground: np.ndarray, variance: np.ndarray | float) -> np.ndarray:
    """How far x (H, W, 3) is from the ground (H, W, 3) in any light, (H, W) in deviations."""
    light = channel_sum(x * ground) / np.maximum(channel_sum(ground * ground), 1e-4)
    off = channel_sum(np.square(x - grey(light) * ground))
    return np.sqrt(off / variance)


def body_light(
    frame: np.ndarray,
    seen: np.ndarray,
    ground: np.ndarray,
    alpha: np.ndarray,
    weight: np.ndarray,
    noise: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """The body that over its own effect gives the frame: premultiplied colour and alpha.

    frame, seen, ground: (H, W, 3), the frame without colour that bled and as it is, and the ground
    with the effect on it. alpha, weight: (H, W), the body's alpha and the object's ownership.
    Pixels next to the outline are mixed: there alpha grows to what the frame needs, within RIM_MOST
    of what it is around them. Where alpha is too small the colour is the nearest one. Returns
    (H, W, 3) and (H, W).
    """
    near = cv2.GaussianBlur(alpha, (0, 0), RIM_SIGMA)
    rim = smoothstep(near, *MIXED) * weight
    needed = sure_min_alpha(grey(rim) * (frame - ground), ground, noise)
    clean, noisy = RIM_MOST
    most = clean + (noisy - clean) * smoothstep(np.float32(noise), *RIM_NOISE)
    alpha = np.maximum(alpha, np.minimum(needed, most * near))
    limit = grey(alpha)
    return np.clip(seen - (1 - limit) * ground, 0, limit), alpha


def _exact_layers(
    frame: np.ndarray,
    plate: np.ndarray,
    owners: FrameWeights,
    order: np.ndarray,
    noise: np.ndarray | float,
) -> Layers:
    residual = frame - plate
    coherent = channel_max(np.abs(cv2.GaussianBlur(residual, (0, 0), SMOOTHING)))
    evidence = smoothstep(coherent / noise, *EVIDENCE)
    size = channel_max(np.abs(residual))
    opaque = smoothstep(size, *BODY_CHANGE)
    weights = commit_large_changes(owners.weights * np.maximum(evidence, owners.body), size)

    rgba = np.zeros((len(order), *size.shape, 4), np.float32)
    parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    owned = np.zeros_like(size)
    below = plate
    for i in order:
        owned = owned + weights[i]
        touched = (weights[i] > 0).astype(np.float32)
        change = grey(touched) * (plate + grey(owned) * residual - below)
        # At the mask's rim the residual says what is object and what is plate.
        solid = np.maximum(owners.body[i], smoothstep(owners.edge[i], *RIM) * opaque)
        solid = solid * (weights[i] > 0.5)
        alpha = np.clip(np.maximum(min_alpha(change, below), solid), 0, 1) * touched
        rgba[i] = straight(grey(alpha) * below + change, alpha)
        brightens = (channel_max(change) > channel_max(-change)).astype(np.float32)
        parts[i] = solid, brightens
        below = layer_over(rgba[i], below)

    def split() -> np.ndarray:
        return np.stack([split_layer(rgba[i], *parts[i]) for i in range(len(order))])

    return Layers(rgba, split)


def commit_large_changes(weights: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Give large changes wholly to the objects or wholly to nobody.

    A part of a small change may stay with nobody, which keeps layers soft where they fade; part of
    a large one would be seen in neither the layers nor the plate.
    weights: (N, H, W) that sum to at most 1; size: (H, W), the change, in [0, 1].
    """
    total = weights.sum(0)
    large = size * np.minimum(total, 1 - total) > PARTIAL_CHANGE
    factor = np.where(total >= 0.5, 1 / np.maximum(total, 1e-6), 0)
    return np.where(large, weights * factor, weights)


def residual_plate(
    frame: np.ndarray, plate: np.ndarray, composite: np.ndarray, transmittance: np.ndarray
) -> np.ndarray:
    """The plate with what the layers leave over: the layers over it give the frame back.

    frame, plate: (H, W, 3) float32. composite: (H, W, 3), the layers as they are written over the
    plate; transmittance: (H, W), what is seen of the plate through them. Returns (H, W, 3) in
    [0, 1]. Where less than 1 / REST_GAIN of the plate is seen, only part of the rest comes back.
    """
    rest = frame - composite
    # Behind a nearly opaque layer hardly anything of the plate is seen: a change large enough to
    # mend the composite there would be a blotch wherever the layer is taken away.
    gain = np.minimum(1 / np.maximum(transmittance, 1 / 255), REST_GAIN)
    out = plate + grey(gain) * rest
    return np.clip(out, 0, 1)


assert PASSES[-1] == BODY

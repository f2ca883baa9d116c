"""Layers go on behind the bodies before them, and make the same picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks, integers
from omnimatte_cli.matte.blur import carried
from omnimatte_cli.matte.bodies import by_masks
from omnimatte_cli.matte.compositing import composite, grey, lay_over
from omnimatte_cli.matte.hidden import EFFECT_WITHIN, GRID, KNOWN, continued
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.ownership import FrameWeights, Ownership
from omnimatte_cli.matte.passes import BODY, PASSES
from omnimatte_cli.matte.resolve import Layers, resolve_frame
from omnimatte_cli.settings import SolveSettings

SIZE = (120, 200)
NOISE = np.float32(1 / 255)
BACK, FRONT = 0, 1
SHADE = 0.4
BACK_COLOUR = (0.8, 0.3, 0.2)


def plate() -> np.ndarray:
    """Ground with soft spots."""
    rng = np.random.default_rng(3)
    spots = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), 3)
    return np.clip(0.6 + 0.3 * grey(spots), 0, 1)


def block(rows: slice, columns: slice) -> np.ndarray:
    out = np.zeros(SIZE, np.float32)
    out[rows, columns] = 1
    return out


# The one at the back throws a long shadow, in which the other stands.
BODY_BEHIND, SHADOW = block(np.s_[40:70], np.s_[20:50]), block(np.s_[60:85], np.s_[50:180])
BODY_BEFORE = block(np.s_[30:95], np.s_[90:120])


def scene(before: np.ndarray = BODY_BEFORE) -> tuple[np.ndarray, FrameWeights, np.ndarray]:
    shadow = cv2.GaussianBlur(SHADOW, (0, 0), 2)
    frame = plate() * grey(1 - SHADE * shadow)
    frame = np.where(BODY_BEHIND[..., None] > 0, np.float32(BACK_COLOUR), frame)
    frame = np.where(before[..., None] > 0, np.float32([0.1, 0.2, 0.9]), frame)
    masks = np.stack([BODY_BEHIND * (1 - before), before]) > 0
    edge = np.stack([cv2.GaussianBlur(m.astype(np.float32), (0, 0), 1) for m in masks])
    owned = np.maximum(BODY_BEHIND, (shadow > 0.02).astype(np.float32)) * (1 - before)
    owners = FrameWeights(np.stack([owned, before]).astype(np.float32), edge, edge)
    return frame.astype(np.float32), owners, masks


def layers_of(before: np.ndarray = BODY_BEFORE, go_on: bool = True) -> Layers:
    frame, owners, masks = scene(before)
    order = np.array([BACK, FRONT])
    return resolve_frame(frame, plate(), owners, order, NOISE, masks=masks, continue_hidden=go_on)


def test_a_shadow_goes_on_behind_who_stands_in_it() -> None:
    hidden = np.s_[66:79, 95:115]
    assert layers_of(go_on=False).rgba[BACK, ..., 3][hidden].max() < 0.05
    layer = layers_of().rgba[BACK]
    alpha = layer[..., 3][hidden]
    assert alpha.min() > 0.4 * SHADE and 0.7 * SHADE < alpha.mean() < 1.1 * SHADE
    assert layer[..., :3][hidden].max() < 0.1
    beside = np.s_[34:50, 95:115]  # behind the same body, where there was no shadow
    assert layer[..., 3][beside].max() < 0.05


def test_a_body_goes_on_behind_who_passes_before_it() -> None:
    before = block(np.s_[20:100], np.s_[32:38])
    layer = layers_of(before).rgba[BACK]
    hidden = np.s_[46:64, 34:36]
    np.testing.assert_allclose(layer[..., 3][hidden], 1, atol=0.05)
    np.testing.assert_allclose(layer[hidden][..., :3], [[BACK_COLOUR] * 2] * 18, atol=0.05)
    assert layer[22:32, 34:36, 3].max() < 0.05


@pytest.mark.parametrize("before", [BODY_BEFORE, block(np.s_[20:100], np.s_[32:38])])
def test_the_picture_is_the_same(before: np.ndarray) -> None:
    order = [BACK, FRONT]
    with_it, _ = composite(layers_of(before).rgba, plate(), order)
    without, _ = composite(layers_of(before, go_on=False).rgba, plate(), order)
    assert np.abs(with_it - without).max() < 1.5 / 255


def test_the_passes_are_the_layer() -> None:
    found = layers_of()
    assert found.passes is not None
    whole = lay_over(found.passes[BACK], plate())
    assert np.abs(whole - lay_over(found.rgba[BACK : BACK + 1], plate())).max() < 1 / 255
    assert PASSES[-1] == BODY and found.passes[BACK, -1][66:79, 95:115, 3].max() < 0.05


def test_large_pictures_are_filled_on_a_grid() -> None:
    """What is looked at of a 1080p frame may be so large, with alpha, light and mirror share."""
    size = (2 * GRID + 5, 3 * GRID)
    alpha, mirror = np.full(size, 0.4, np.float32), np.full(size, 0.25, np.float32)
    light = np.full((*size, 3), 0.1, np.float32)
    front = np.zeros(size, np.float32)
    front[200:400, 300:600] = 1
    holed = [x * (1 - (front if x.ndim == 2 else grey(front))) for x in (alpha, light, mirror)]
    known = np.ones(size, np.float32)
    found = continued(holed, known, front, EFFECT_WITHIN)
    for filled, plane in zip(found, (alpha, light, mirror), strict=True):
        np.testing.assert_allclose(filled[205:395, 305:595], plane[205:395, 305:595], atol=0.01)


def test_nothing_in_front_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    planes = rng.random(SIZE, np.float32), rng.random((*SIZE, 3), np.float32)
    ones, zeros = np.ones(SIZE, np.float32), np.zeros(SIZE, np.float32)
    for same, plane in zip(continued(planes, ones, zeros, EFFECT_WITHIN), planes, strict=True):
        np.testing.assert_array_equal(same, plane)
    half = np.full(SIZE, 0.8, np.float32)  # a veil covers nothing
    for same, plane in zip(continued(planes, ones, half, EFFECT_WITHIN), planes, strict=True):
        np.testing.assert_array_equal(same, plane)


def test_holes_are_filled_from_around() -> None:
    ramp = np.broadcast_to(np.linspace(0.2, 0.7, 130, dtype=np.float32), (90, 130))
    known = np.ones_like(ramp)
    known[30:60, 40:80] = 0
    filled = carried(np.where(known > 0, ramp, 9).astype(np.float32), known, KNOWN)
    np.testing.assert_allclose(filled[known > 0], ramp[known > 0], rtol=1e-5)
    assert np.abs(filled - ramp).max() < 0.08  # of 0.15 from side to side of the hole
    both = carried(cv2.merge([ramp, 2 * ramp]), known, KNOWN)
    np.testing.assert_allclose(both[..., 1], 2 * both[..., 0], rtol=1e-4)
    flat = carried(
        np.full_like(ramp, 0.7),
        (np.random.default_rng(2).random(ramp.shape) > 0.7).astype(np.float32),
    )
    np.testing.assert_allclose(flat, 0.7, rtol=1e-4)


def test_layers_go_on_only_where_somebody_said_who_is_before_whom() -> None:
    frame, owners, masks = scene()
    ownership = Ownership(owners.weights[:, None].astype(np.float16), np.zeros((1, 1, 1)))

    def hidden_alpha(source: str, solve: SolveSettings | None = None) -> float:
        known = Masks.from_arrays(masks[:, None], ["back", "front"], order_source=source)
        layers_at = resolver(ownership, known, np.full(SIZE, NOISE), solve, cut_out=by_masks)
        return float(
            layers_at(0, integers(frame), integers(plate())).rgba[BACK, 66:79, 95:115, 3].mean()
        )

    assert hidden_alpha("order.txt") > 0.6 * SHADE
    assert hidden_alpha("alphabetical") < 0.05
    assert hidden_alpha("order.txt", SolveSettings(continue_hidden=False)) < 0.05

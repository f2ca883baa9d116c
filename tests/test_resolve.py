"""Layers in closed form: they recompose, are black for shadows, and survive 8 bits."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import integers, to_float
from omnimatte_cli.matte import resolve
from omnimatte_cli.matte.bleed import without_bleed
from omnimatte_cli.matte.box import bounding_box
from omnimatte_cli.matte.compositing import composite, grey, layer_over, straight
from omnimatte_cli.matte.effects import Effect, find_effect
from omnimatte_cli.matte.noise import residual_noise, seen_quantile
from omnimatte_cli.matte.ownership import FrameWeights, Ownership, frame_weights, smoothstep
from omnimatte_cli.matte.quantise import QuantisedLayers, quantise_layers
from omnimatte_cli.matte.resolve import commit_large_changes, residual_plate
from omnimatte_cli.matte.rim import settled_rims
from omnimatte_cli.matte.transfer import transfer_frame
from omnimatte_cli.matte.walls import plain_ground, without_ground

NOISE = 1 / 255


def resolve_frame(frame, plate, weights, order, noise) -> QuantisedLayers:
    """Exact layers of 8-bit pictures, as they are written."""
    below = to_float(plate)
    layers = resolve.resolve_frame(to_float(frame), below, weights, order, noise, True)
    return quantise_layers(layers.rgba, below, order)


def flat_shares(weights: np.ndarray) -> FrameWeights:
    return FrameWeights(weights.astype(np.float32), *np.zeros((2, *weights.shape), np.float32))


def smooth_picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    import cv2

    small = rng.integers(40, 216, (4, 5, 3)).astype(np.float32)
    return (
        cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )


def recompose(rgba: np.ndarray, plate: np.ndarray, order) -> np.ndarray:
    """The written layers over the plate, pixel values in [0, 1], the plain way."""
    out = to_float(plate)
    for i in order:
        alpha = to_float(rgba[i, ..., 3])[..., None]
        out = alpha * to_float(rgba[i, ..., :3]) + (1 - alpha) * out
    return out


@pytest.mark.parametrize("n", [1, 2, 4])
def test_ownerships_that_add_to_one_recompose_the_frame(n: int) -> None:
    rng = np.random.default_rng(n)
    plate, frame = smooth_picture(rng, (40, 56)), smooth_picture(rng, (40, 56))
    weights = rng.dirichlet(np.ones(n), (40, 56)).transpose(2, 0, 1)
    order = rng.permutation(n)
    layers = resolve_frame(frame, plate, flat_shares(weights), order, NOISE)
    again = recompose(layers.rgba, plate, order)
    assert np.abs(again - layers.composite).max() < 1e-5
    moved = np.abs(to_float(frame) - to_float(plate)).max(2) > 8 / 255
    assert np.abs(again - to_float(frame))[moved].max() <= 1.01 / 255


def shrunk(frame: np.ndarray, plate: np.ndarray, masks: np.ndarray, side: float) -> np.ndarray:
    """Bodies a pixel smaller than their masks, with soft edges."""
    return np.stack([cv2.blur(cv2.erode(m, np.ones((3, 3))), (3, 3)) for m in masks])


def test_layers_are_computed_where_they_are_as_in_the_whole_picture() -> None:
    """Bodies only around their masks, effects only where they are: the same to the last bit."""
    rng = np.random.default_rng(5)
    size = (120, 160)
    plate = to_float(smooth_picture(rng, size))
    masks = np.zeros((3, *size), bool)
    masks[0, 30:60, 20:50] = masks[1, 40:70, 40:75] = True  # the third is away
    shadow = np.zeros((3, *size), np.float32)
    shadow[0, 60:75, 25:60] = shadow[1, 70:80, 60:150] = shadow[2, 5:15, 100:120] = 1
    light = (1 - 0.4 * shadow.max(0))[..., None]
    frame = np.where(masks.any(0)[..., None], 0.9 - plate, plate * light).astype(np.float32)
    frame = np.clip(frame + rng.normal(0, 1 / 255, frame.shape), 0, 1).astype(np.float32)
    order, noise = np.array([1, 2, 0]), np.full(size, 1.5 / 255, np.float32)
    ownership = Ownership(
        np.maximum(shadow, masks)[:, None].astype(np.float16), np.full((1, 1, 1), 0.1, np.float16)
    )
    owners = frame_weights(ownership, 0, masks, order)
    layers = resolve.resolve_frame(
        frame, plate, owners, order, noise, masks=masks, continue_hidden=False, cut_out=shrunk
    )
    assert layers.passes is not None

    side, edge = float(np.sqrt(size[0] * size[1])), owners.edge.max(0)
    bodies = shrunk(frame, plate, resolve.visible_masks(masks, order), side)
    bodies = without_ground(bodies, plain_ground(frame, plate, edge, noise, side), side)
    clean = without_bleed(frame, plate, bodies.max(0), noise)
    weights = settled_rims(owners.weights, edge, bodies.max(0) > 0.5, frame - plate, side)
    owners = replace(owners, weights=weights)
    ground = 1 - smoothstep(cv2.GaussianBlur(bodies.max(0), (0, 0), 1), *resolve.GROUND)
    below = plate
    for i in order:
        touched = np.maximum(owners.weights[i], bodies[i]) > resolve.TOUCHED
        margin = round(resolve.REACH * side) + resolve.REACH_PIXELS
        box = bounding_box(touched, margin)
        assert box is not None
        here, seen, under, base, near, mine = (
            x[box.slices] for x in (clean, frame, below, plate, noise, owners.weights[i])
        )
        visible = ground[box.slices] * (1 - np.clip(owners.weights.sum(0)[box.slices] - mine, 0, 1))
        rivals = owners.weights.sum(0)[box.slices]
        claim = mine * smoothstep(mine / np.maximum(rivals, 1e-3), *resolve.RIVALS)
        effect = find_effect(here - base, under, claim, visible, near, side)
        floor = under + resolve.believed(effect, np.s_[:, :], under, near)
        mask = bodies[:, box.rows, box.columns]
        alpha = mask[i] * np.minimum(1, 2 - 2 * np.delete(mask, i, 0).max(0))
        colour, alpha = resolve.body_light(here, seen, floor, alpha, mine, near)
        through = 1 - alpha
        whole = np.zeros((*size, 4), np.float32)
        whole[box.slices] = straight(
            colour + grey(through) * effect.light, alpha + through * effect.alpha
        )
        np.testing.assert_array_equal(layers.rgba[i], whole)
        body = np.zeros_like(whole)
        body[box.slices] = straight(colour, alpha)
        np.testing.assert_array_equal(layers.passes[i, -1], body)
        below = layer_over(whole, below)


def test_a_shadow_is_black_with_the_alpha_that_darkens() -> None:
    plate = np.full((32, 32, 3), (200, 160, 120), np.uint8)
    frame = plate.copy()
    frame[8:24, 8:24] = (100, 80, 60)  # half as bright
    layers = resolve_frame(frame, plate, flat_shares(np.ones((1, 32, 32))), np.array([0]), NOISE)
    inside = layers.rgba[0, 12:20, 12:20]
    assert inside[..., :3].max() <= 1
    assert np.abs(inside[..., 3].astype(int) - 128).max() <= 1
    assert layers.rgba[0, :4, :4, 3].max() == 0


def test_a_reflection_brightens_and_is_transparent() -> None:
    plate = np.full((32, 32, 3), 80, np.uint8)
    frame = plate.copy()
    frame[8:24, 8:24] = (120, 100, 90)
    layers = resolve_frame(frame, plate, flat_shares(np.ones((1, 32, 32))), np.array([0]), NOISE)
    inside = layers.rgba[0, 16, 16]
    assert inside[0] >= 250 and inside[3] < 70
    assert np.abs(recompose(layers.rgba, plate, [0])[16, 16] * 255 - (120, 100, 90)).max() < 1


@pytest.mark.parametrize("exact", [False, True])
def test_a_frame_equal_to_the_plate_gives_empty_layers(exact: bool) -> None:
    plate = to_float(smooth_picture(np.random.default_rng(3), (48, 48)))
    found = flat_shares(np.full((2, 48, 48), 0.5))
    layers = resolve.resolve_frame(plate, plate, found, np.arange(2), NOISE, exact)
    assert layers.rgba.shape == (2, 48, 48, 4) and layers.rgba.dtype == np.float32
    assert layers.rgba[..., 3].max() == 0
    assert np.array_equal(quantise_layers(layers.rgba, plate, [0, 1]).composite, plate)


def test_a_shadow_of_two_is_not_there_twice() -> None:
    rng = np.random.default_rng(4)
    size = (96, 128)
    plate = to_float(smooth_picture(rng, size))
    weights = np.zeros((2, *size), np.float32)
    weights[0, 20:70, 20:80] = weights[1, 20:70, 50:110] = 1
    weights /= np.maximum(weights.sum(0), 1)  # both own half of what lies between
    frame = plate * grey(1 - 0.5 * np.minimum(weights.sum(0), 1))
    order = np.array([0, 1])
    layers = resolve.resolve_frame(frame, plate, flat_shares(weights), order, NOISE)
    again, _ = composite(layers.rgba, plate, order)
    both = np.s_[28:62, 54:76]
    ratio = again[both].mean() / frame[both].mean()
    assert 0.85 < ratio < 1.15


def test_the_body_is_opaque_and_has_the_frames_colours() -> None:
    rng = np.random.default_rng(5)
    plate, frame = smooth_picture(rng, (64, 64)), smooth_picture(rng, (64, 64))
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 16:48, 16:48] = True
    nothing = Ownership(np.zeros((1, 1, 16, 16), np.float16), np.full((1, 1, 1), 0.03, np.float16))
    found = frame_weights(nothing, 0, mask, np.array([0]))
    layers = resolve_frame(frame, plate, found, np.array([0]), NOISE)
    core = (slice(20, 44), slice(20, 44))
    assert (layers.rgba[0][core][..., 3] == 255).all()
    assert np.array_equal(layers.rgba[0][core][..., :3], frame[core])
    assert layers.rgba[0, :8, :8, 3].max() == 0


def test_nobody_elses_body_is_in_a_layer_and_the_front_mask_wins() -> None:
    masks = np.zeros((2, 48, 48), bool)
    masks[0, 8:40, 8:30] = True
    masks[1, 8:40, 20:44] = True
    claims = np.ones((2, 1, 12, 12), np.float16)
    everyone = Ownership(claims, np.full((1, 1, 1), 0.03, np.float16))
    for order, front in (([0, 1], 1), ([1, 0], 0)):
        weights = frame_weights(everyone, 0, masks, np.array(order)).weights
        assert np.allclose(weights.sum(0), 1, atol=1e-5)
        overlap = masks.all(0)
        assert (weights[front][overlap] == 1).all() and (weights[1 - front][overlap] == 0).all()
        for i in range(2):
            only = masks[i] & ~masks[1 - i]
            assert (weights[i][only] == 1).all() and (weights[1 - i][only] == 0).all()


def test_ownership_is_smooth_across_the_working_grid() -> None:
    """An effect's weight at full size has no steps of the size of a working pixel."""
    claims = np.zeros((2, 1, 16, 16), np.float16)
    claims[0, 0, :, :8] = claims[1, 0, :, 8:] = 0.3
    found = Ownership(claims, np.full((1, 1, 1), 0.03, np.float16))
    weights = frame_weights(found, 0, np.zeros((2, 128, 128), bool), np.arange(2)).weights
    assert np.abs(np.diff(weights[0], axis=1)).max() < 0.15
    assert np.abs(np.diff(weights[0], axis=0)).max() < 1e-4


def test_what_nobody_owns_stays_in_the_remaining_plate() -> None:
    rng = np.random.default_rng(7)
    plate, frame = smooth_picture(rng, (40, 40)), smooth_picture(rng, (40, 40))
    weights = np.stack([rng.uniform(0, 0.8, (40, 40))])
    layers = resolve_frame(frame, plate, flat_shares(weights), np.array([0]), NOISE)
    seen = layers.transmittance
    rest = residual_plate(to_float(frame), to_float(plate), layers.composite, seen)
    again = recompose(layers.rgba, integers(rest), [0])
    error = np.abs(again - to_float(frame)) * 255
    assert np.percentile(error, 90) <= 1 and error.mean() < 1.5


def test_noise_is_measured_outside_the_masks() -> None:
    rng = np.random.default_rng(9)
    plates = np.full((1, 60, 80, 3), 128, np.uint8)
    frames = np.clip(np.rint(128 + rng.normal(0, 6, (10, 60, 80, 3))), 0, 255).astype(np.uint8)
    masks = np.zeros((1, 10, 60, 80), bool)
    masks[:, :, 10:30, 10:40] = True
    frames[:, 10:30, 10:40] = 255
    noise = residual_noise(frames, plates, masks) * 255
    assert noise.shape == (60, 80) and noise.dtype == np.float32
    assert noise.min() == pytest.approx(6, rel=0.1) and noise.mean() == pytest.approx(6, rel=0.15)
    assert (residual_noise(frames, plates, np.ones_like(masks)) == np.float32(NOISE)).all()


def test_noise_is_nowhere_below_a_known_variation() -> None:
    rng = np.random.default_rng(12)
    plates = np.full((1, 60, 80, 3), 128, np.uint8)
    frames = np.clip(np.rint(128 + rng.normal(0, 3, (10, 60, 80, 3))), 0, 255).astype(np.uint8)
    variation = np.zeros((60, 80), np.float32)
    variation[:, 40:] = 9 / 255
    noise = residual_noise(frames, plates, np.zeros((1, 10, 60, 80), bool), variation) * 255
    assert noise[:, :30].mean() == pytest.approx(3, rel=0.3)
    assert noise[:, 50:].mean() == pytest.approx(9, rel=0.05)


def test_restless_places_have_more_noise_and_passing_effects_do_not() -> None:
    rng = np.random.default_rng(10)
    plates = np.full((1, 60, 80, 3), 128, np.uint8)
    frames = np.clip(np.rint(128 + rng.normal(0, 2, (40, 60, 80, 3))), 0, 255).astype(np.uint8)
    leaves = np.clip(np.rint(128 + rng.normal(0, 8, (40, 60, 30, 3))), 0, 255).astype(np.uint8)
    frames[:, :, :30] = leaves
    frames[:20, 20:40, 50:70] = 90  # a shadow for half of the time
    noise = residual_noise(frames, plates, np.zeros((1, 40, 60, 80), bool)) * 255
    assert noise[:, :24].mean() > 6
    assert noise[25:35, 55:65].mean() < 5  # of a change of 38 levels


def test_large_changes_are_owned_wholly_or_not_at_all() -> None:
    weights = np.array([[[0.5, 0.2, 0.4, 0.0]], [[0.2, 0.2, 0.4, 0.0]]], np.float32)
    large = commit_large_changes(weights, np.full((1, 4), 0.5, np.float32))
    assert np.allclose(large.sum(0), [[1, 0, 1, 0]])
    assert large[0, 0, 0] / large[1, 0, 0] == pytest.approx(2.5)
    assert np.array_equal(commit_large_changes(weights, np.full((1, 4), 0.01, np.float32)), weights)


def test_transferred_detail_brings_the_composite_nearer_to_the_frame() -> None:
    rng = np.random.default_rng(11)
    plate, frame = smooth_picture(rng, (40, 56)), smooth_picture(rng, (40, 56))
    predicted = rng.uniform(0, 1, (2, 10, 14, 4)).astype(np.float16)
    order = np.array([1, 0])
    layers = transfer_frame(frame, plate, predicted, order)
    written = quantise_layers(layers.rgba, to_float(plate), order)
    again = recompose(written.rgba, plate, order)
    assert np.abs(again - written.composite).max() < 1e-5
    clear = np.prod(1 - to_float(written.rgba[..., 3]), axis=0)
    assert np.abs(clear - written.transmittance).max() < 1e-5
    plain = transfer_frame(frame, plate, predicted, order, sharpen=False)
    assert np.array_equal(plain.rgba[..., 3], layers.rgba[..., 3])
    error = [np.abs(recompose(integers(x.rgba), plate, order) - to_float(frame)).mean()
             for x in (layers, plain)]  # fmt: skip
    assert error[0] < error[1]


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_seen_quantile_is_numpys(q: float) -> None:
    rng = np.random.default_rng(9)
    x = rng.integers(0, 256, (7, 50, 3), np.uint8)
    seen = rng.random((7, 50)) < 0.5
    seen[rng.integers(7, size=50), np.arange(50)] = True  # each column has something
    found = seen_quantile(x, seen, q)
    assert found.dtype == np.float32
    plain = np.where(seen[..., None], x.astype(np.float32), np.nan)
    np.testing.assert_allclose(found, np.nanquantile(plain, q, axis=0), atol=1e-4)


def test_what_no_light_makes_of_the_ground_does_not_explain_a_body_away() -> None:
    """A shadow is believed at its body's outline, and a mirror image; a body is not."""
    ground = np.full((20, 30, 3), (0.6, 0.5, 0.4), np.float32)
    alpha = np.full((20, 30), 0.5, np.float32)
    change = {
        "shadow": (np.zeros_like(ground), 0),
        "body": (np.full_like(ground, (0.0, 0.1, 0.5)), 0),
        "mirror": (np.full_like(ground, (0.0, 0.1, 0.5)), 1),
    }
    for name, (light, mirror) in change.items():
        effect = Effect(alpha, light, np.full_like(alpha, mirror), None)
        found = resolve.believed(effect, np.s_[:, :], ground, 2 / 255)
        whole = light - 0.5 * ground
        np.testing.assert_allclose(found, 0 * whole if name == "body" else whole, atol=1e-6)


@pytest.mark.parametrize("levels", [1.0, 2.0])
def test_a_mixed_pixel_needs_no_more_than_is_around_it_where_pictures_are_noisy(
    levels: float,
) -> None:
    """One pixel at a rim is off by what a codec may have done: in a clean picture it is body."""
    shape = (21, 21)
    ground = np.full((*shape, 3), 0.5, np.float32)
    alpha = np.zeros(shape, np.float32)
    alpha[:, :10] = 1
    frame = ground * (1 - alpha[..., None])
    frame[10, 11] = 0.1
    weight = np.ones(shape, np.float32)
    _, found = resolve.body_light(frame, frame, ground, alpha, weight, levels / 255)
    around = cv2.GaussianBlur(alpha, (0, 0), resolve.RIM_SIGMA)[10, 11]
    most = resolve.RIM_MOST[0] if levels == 1 else resolve.RIM_MOST[1]
    assert found[10, 11] == pytest.approx(min(0.8, most * around), rel=0.05)

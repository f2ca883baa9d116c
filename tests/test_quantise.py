"""Integer layers of 8 to 16 bits make the float layers' change; rounding does not add up."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import to_float
from omnimatte_cli.matte.closed_form import min_alpha
from omnimatte_cli.matte.compositing import composite, layer_over, merge
from omnimatte_cli.matte.ownership import FrameWeights, Ownership, frame_weights
from omnimatte_cli.matte.quantise import edge_extend, floats, integers, quantise_layers
from omnimatte_cli.matte.resolve import residual_plate, resolve_frame
from tests.eight_bit_oracle import resolve_frame as resolve_8_bits

NOISE = 1 / 255


def smooth_picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    small = rng.integers(20, 236, (4, 5, 3)).astype(np.float32)
    return (
        cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    )


def flat_shares(weights: np.ndarray) -> FrameWeights:
    return FrameWeights(weights.astype(np.float32), *np.zeros((2, *weights.shape), np.float32))


def random_layers(rng: np.random.Generator, n: int, size: tuple[int, int]) -> np.ndarray:
    rgba = rng.uniform(0, 1, (n, *size, 4)).astype(np.float32)
    rgba[..., 3] *= rng.uniform(0, 1, (n, *size)) > 0.3
    return rgba


def test_over_is_merged_layer_over() -> None:
    rng = np.random.default_rng(0)
    back, front = random_layers(rng, 2, (20, 30))
    ground = rng.uniform(0, 1, (20, 30, 3)).astype(np.float32)
    whole, seen = composite(np.stack([back, front]), ground, [0, 1])
    assert np.allclose(layer_over(merge([back, front], ground.shape[:2]), ground), whole, atol=1e-5)
    assert np.allclose(seen, (1 - back[..., 3]) * (1 - front[..., 3]), atol=1e-6)


def test_min_alpha_is_the_smallest_by_search() -> None:
    rng = np.random.default_rng(0)
    below = rng.uniform(0.1, 0.9, (6, 7, 3)).astype(np.float32)
    change = (rng.uniform(0, 1, (6, 7, 3)) - below).astype(np.float32)
    found = min_alpha(change, below)
    for y, x in itertools.product(range(6), range(7)):
        for alpha in np.linspace(0.01, 1, 400):
            colour = below[y, x] + change[y, x] / alpha
            possible = bool(((colour >= -1e-6) & (colour <= 1 + 1e-6)).all())
            assert possible == (alpha >= found[y, x] - 1e-6) or abs(alpha - found[y, x]) < 1e-5


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("n", [1, 3])
def test_quantised_layers_look_as_the_float_ones_over_the_plate(bits: int, n: int) -> None:
    rng = np.random.default_rng(bits)
    rgba = random_layers(rng, n, (40, 50))
    plate = rng.uniform(0, 1, (40, 50, 3)).astype(np.float32)
    order = rng.permutation(n)
    found = quantise_layers(rgba, plate, order, bits)
    wanted, _ = composite(rgba, plate, order)
    made, seen = composite(floats(found.rgba, bits), plate, order)
    assert np.abs(made - found.composite).max() < 1e-5
    assert np.abs(seen - found.transmittance).max() < 1e-5
    level = 1 / (2**bits - 1)
    error = np.abs(made - wanted)
    # Half a level in front; behind, half a level more where no layer in front can mend it.
    assert error.max() <= (0.51 if n == 1 else 1.6) * level + 1e-6
    assert error.mean() <= 0.3 * level
    assert np.array_equal(found.rgba[..., 3] > 0, rgba[..., 3] > 0)
    assert np.abs(floats(found.rgba[..., 3], bits) - rgba[..., 3]).max() <= 3.01 * level


def test_integers_and_floats_are_inverse() -> None:
    for bits in (8, 10, 12, 16):
        values = np.arange(2**bits).astype(np.uint8 if bits == 8 else np.uint16)
        assert np.array_equal(integers(floats(values, bits), bits), values)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_exact_layers_in_8_bits_are_those_of_the_integer_solver(n: int) -> None:
    """The former solver, which worked in 8 bits throughout, is the oracle."""
    rng = np.random.default_rng(n)
    size = (72, 96)
    plate, frame = smooth_picture(rng, size), smooth_picture(rng, size)
    masks = np.zeros((n, *size), bool)
    for i in range(n):
        y, x = rng.integers(0, 40), rng.integers(0, 60)
        masks[i, y : y + 24, x : x + 20] = True
    claims = rng.uniform(0, 0.4, (n, 1, 9, 12)).astype(np.float16)
    nobody = np.full((1, 9, 12), 0.1, np.float16)
    order = rng.permutation(n)
    found = frame_weights(Ownership(claims, nobody), 0, masks, order)
    old = resolve_8_bits(frame, plate, found, order, NOISE)
    layers = resolve_frame(to_float(frame), to_float(plate), found, order, NOISE, True)
    new = quantise_layers(layers.rgba, to_float(plate), order)
    if n == 1:
        same = (new.rgba == old.rgba).all(-1)
        assert same.mean() > 0.99  # the rest are ties in rounding a colour
        assert np.array_equal(new.rgba[..., 3], old.rgba[..., 3])
    truth = to_float(frame)
    owned = found.weights.sum(0) > 0.99
    errors = [float(np.square(x.composite - truth)[owned].mean()) for x in (new, old)]
    assert errors[0] <= errors[1] * 1.1  # of 65 to 69 dB: the floor of 8 bits
    assert np.abs(new.rgba.astype(int) - old.rgba)[..., 3].mean() < 0.5


@pytest.mark.parametrize("exact", [False, True])
def test_layers_over_the_residual_plate_are_the_frame(exact: bool) -> None:
    rng = np.random.default_rng(7)
    plate = to_float(smooth_picture(rng, (60, 80)))
    frame = np.clip(plate * (0.6 + 0.05 * rng.random((60, 80, 1))), 0, 1).astype(np.float32)
    layers = resolve_frame(
        frame, plate, flat_shares(np.full((1, 60, 80), 0.7)), np.arange(1), NOISE, exact
    )
    for bits in (8, 12):
        written = quantise_layers(layers.rgba, plate, [0], bits)
        rest = residual_plate(frame, plate, written.composite, written.transmittance)
        rest = floats(integers(rest, bits), bits)
        again, _ = composite(floats(written.rgba, bits), rest, [0])
        # Not where the plate would have to be brighter than white.
        assert np.percentile(np.abs(again - frame), 99.5) <= 0.6 / (2**bits - 1)


def test_colour_continues_under_alpha_zero() -> None:
    for bits in (8, 16):
        colour = np.zeros((20, 20, 3), np.uint8 if bits == 8 else np.uint16)
        alpha = np.zeros((20, 20), np.float32)
        colour[8:12, 8:12], alpha[8:12, 8:12] = (200, 100, 50), 1
        out = edge_extend(colour, alpha, bits)
        assert out.dtype == colour.dtype
        assert np.array_equal(out[8:12, 8:12], colour[8:12, 8:12])
        assert np.abs(out[6, 6].astype(int) - (200, 100, 50)).max() <= 1
        assert out[0, 0].max() == 0

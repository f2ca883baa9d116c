"""A layer in parts: shadow, reflection and body over each other are the layer."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.matte.bodies import by_masks
from omnimatte_cli.matte.compositing import composite, merge, straight
from omnimatte_cli.matte.effects import Effect
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.ownership import FrameWeights, Ownership
from omnimatte_cli.matte.passes import PASSES, effect_passes, split_layer
from omnimatte_cli.matte.quantise import floats, integers
from omnimatte_cli.matte.resolve import resolve_frame

SIZE = (40, 60)


def random_layer(rng: np.random.Generator) -> np.ndarray:
    rgba = rng.uniform(0, 1, (*SIZE, 4)).astype(np.float32)
    rgba[:10, ..., 3] = 1
    rgba[10:20, ..., 3] = 0
    return rgba


def test_the_parts_of_any_layer_are_the_layer_over_any_ground() -> None:
    rng = np.random.default_rng(0)
    rgba = random_layer(rng)
    body = (rng.uniform(0, 1, SIZE) * rgba[..., 3]).astype(np.float32)
    body[:5] = 1
    parts = split_layer(rgba, body, rng.integers(0, 2, SIZE).astype(np.float32))
    assert parts.shape == (len(PASSES), *SIZE, 4)
    assert np.allclose(parts[2, ..., 3], np.minimum(body, rgba[..., 3]))
    for _ in range(3):
        ground = rng.uniform(0, 1, (*SIZE, 3)).astype(np.float32)
        whole, _ = composite(rgba[None], ground, [0])
        stacked, _ = composite(parts, ground, range(3))
        assert np.abs(stacked - whole).max() < 1e-5
    again = merge(parts, SIZE)
    assert np.abs(again[..., 3] - rgba[..., 3]).max() < 1e-5


def test_a_shadow_and_a_reflection_are_told_apart() -> None:
    alpha = np.full(SIZE, 0.4, np.float32)
    mirror = np.zeros(SIZE, np.float32)
    mirror[:, 30:] = 1
    light = np.where(mirror[..., None] > 0, np.float32(0.3), np.float32(0)).repeat(3, 2)
    shadow, reflection = effect_passes(Effect(alpha, light, mirror, None))
    assert np.allclose(shadow[:, :30, 3], 0.4) and shadow[:, 30:, 3].max() == 0
    assert np.allclose(reflection[:, 30:, 3], 0.4) and reflection[:, :30, 3].max() == 0
    assert np.allclose(reflection[:, 30:, :3], 0.75)


@pytest.mark.parametrize("bits", [8, 16])
def test_passes_as_integers_over_each_other_look_as_the_layer(bits: int) -> None:
    """Over any ground, to a level and a half: two objects of three passes each are rounded."""
    rng = np.random.default_rng(1)
    layers = np.stack([random_layer(rng) for _ in range(2)])
    body = (rng.uniform(0, 1, (2, *SIZE)) * layers[..., 3]).astype(np.float32)
    mirror = rng.uniform(0, 1, (2, *SIZE)).astype(np.float32)
    parts = np.stack([split_layer(*x) for x in zip(layers, body, mirror, strict=True)])
    rounded = floats(integers(parts, bits), bits)
    order = [1, 0]
    for _ in range(2):
        ground = rng.uniform(0, 1, (*SIZE, 3)).astype(np.float32)
        wanted, _ = composite(layers, ground, order)
        made = ground
        for i in order:
            made, _ = composite(rounded[i], made, range(3))
        error = np.abs(made - wanted) * (2**bits - 1)
        assert error.max() <= 1.5 and error.mean() < 0.25


@pytest.mark.parametrize("exact", [False, True])
def test_a_frames_passes_are_its_layers(exact: bool) -> None:
    rng = np.random.default_rng(2)
    plate = rng.uniform(0.3, 0.8, (64, 96, 3)).astype(np.float32)
    frame = plate.copy()
    frame[40:60, 20:50] *= 0.6
    frame[40:60, 50:80] += 0.15
    frame[8:40, 30:60] = (0.9, 0.1, 0.2)
    edge = np.zeros((1, 64, 96), np.float32)
    edge[0, 8:40, 30:60] = 1
    weights = np.ones_like(edge)
    layers = resolve_frame(
        frame, plate, FrameWeights(weights, edge, edge), np.arange(1), 2 / 255, exact
    )
    again = merge(layers.passes[0], (64, 96))
    assert np.abs(again - layers.rgba[0])[..., 3].max() < 1e-5
    shadow, reflection, body = layers.passes[0, ..., 3]
    assert (body[10:38, 32:58] == 1).all() and body[44:, :].max() == 0
    assert shadow[50, 35] > 0.3 and reflection[50, 35] < 0.05
    assert reflection[50, 68] > 0.15 and shadow[50, 68] < 0.05
    assert np.abs(straight(body[..., None] * frame, body)[20, 40, :3] - frame[20, 40]).max() < 1e-5


def test_passes_of_a_frame_that_nobody_owns_are_empty_and_of_the_same_type() -> None:
    masks = np.zeros((1, 2, *SIZE), bool)
    masks[0, 1, 4:9, 4:9] = True
    nobody = Ownership(np.zeros((1, 2, *SIZE), np.float16), np.ones((2, *SIZE), np.float16))
    noise = np.full(SIZE, 2 / 255, np.float32)
    layers_at = resolver(nobody, Masks.from_arrays(masks, ["box"]), noise, cut_out=by_masks)
    picture = np.full((*SIZE, 3), 90, np.uint8)
    empty, body = (layers_at(t, picture, picture) for t in range(2))
    assert empty.passes is not None and body.passes is not None
    assert empty.passes.max() == 0 and body.passes.max() > 0
    assert empty.passes.dtype == body.passes.dtype == np.float32
    assert empty.passes.shape == body.passes.shape

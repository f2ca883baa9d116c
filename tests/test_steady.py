"""Opinions pooled over frames, along the motion of what they are about."""

from __future__ import annotations

import numpy as np
import pytest

from omnimatte_cli.camera.flow import dense_flow, warp
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.pool import (
    ALIKE,
    LEAST,
    MEMORY,
    SAY,
    pool_over_time,
    residual,
    visible,
)
from omnimatte_cli.progress import Silent

FPS = 12.0
GROUND = np.full((1, 48, 64, 3), 120, np.uint8)


def owned(claims: np.ndarray) -> Ownership:
    shares = claims.astype(np.float16)
    return Ownership(shares, (1 - shares.astype(np.float32).sum(0)).astype(np.float16))


def pooled(first: Ownership, frames: np.ndarray, plates: np.ndarray = GROUND) -> Ownership:
    return pool_over_time(first, frames, plates, FPS, Silent())


def still(rng: np.random.Generator, length: int) -> np.ndarray:
    """A picture with structure everywhere, the same in every frame."""
    frame = rng.integers(0, 256, (1, *GROUND.shape[1:]), np.uint8)
    return np.repeat(frame, length, 0)


@pytest.mark.parametrize("count", [2, 7])
def test_in_a_still_picture_it_is_the_weighted_geometric_mean(count: int) -> None:
    rng = np.random.default_rng(0)
    t = 7
    claims = rng.dirichlet([1] * (count + 1), (t, 48, 64)).transpose(3, 0, 1, 2)[:count]
    first = owned(claims)
    found = pooled(first, still(rng, t))
    # The definition, frame by frame.
    claims = first.weights.astype(float)
    total = claims.sum(0)
    say = total + SAY
    logs = np.log((claims + LEAST) / (claims + LEAST).sum(0))
    away = np.abs(np.subtract.outer(np.arange(t), np.arange(t)))
    fade = np.exp(-away / (FPS * MEMORY))
    mean = np.einsum("st,thw,nthw->nshw", fade, say, logs) / np.einsum("st,thw->shw", fade, say)
    expected = np.exp(mean) / np.exp(mean).sum(0) * total
    np.testing.assert_allclose(found.weights.astype(float), expected, atol=4e-3)
    assert np.array_equal(found.unowned, first.unowned)


def clip_of_a_passing_blotch(t: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark textured disc that goes 2 pixels a frame over the ground: frames, where it is."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:48, :64]
    frames = np.repeat(GROUND, t, 0)
    places = np.zeros((t, 48, 64), bool)
    texture = rng.integers(30, 90, (48, 64, 3)).repeat(3, 0).repeat(3, 1)[:48, :64]
    for k in range(t):
        places[k] = (y - 20) ** 2 + (x - 12 - 2 * k) ** 2 < 64
        frames[k][places[k]] = np.roll(texture, 2 * k, 1)[places[k]]
    return frames, places


def test_the_majority_decides_along_the_motion() -> None:
    t = 16
    frames, places = clip_of_a_passing_blotch(t)
    claims = np.zeros((2, t, 48, 64))
    owner = np.zeros(t, int)
    owner[[4, 9, 10]] = 1  # frames that are wrong
    for k in range(t):
        claims[owner[k], k][places[k]] = 0.8
        claims[1 - owner[k], k][places[k]] = 0.1
    first = owned(claims)
    found = pooled(first, frames)
    inner = [places[k] & np.roll(places[k], 3, 1) & np.roll(places[k], -3, 1) for k in range(t)]
    for k in range(t):
        assert found.weights[0, k][inner[k]].min() > found.weights[1, k][inner[k]].max(), k
    sums = [x.weights.astype(np.float32).sum(0) for x in (first, found)]
    np.testing.assert_allclose(*sums, atol=2e-3)  # how much is owned stays


def test_a_change_of_another_colour_is_another_change() -> None:
    t = 8
    frames = np.repeat(GROUND, t, 0)
    frames[:4, 10:30, 10:30], frames[4:, 10:30, 10:30] = (20, 20, 120), (250, 200, 60)
    claims = np.zeros((2, t, 48, 64))
    claims[:, :, 10:30, 10:30] = 0.05
    claims[0, :4, 10:30, 10:30] = claims[1, 4:, 10:30, 10:30] = 0.85
    found = pooled(owned(claims), frames)
    np.testing.assert_allclose(found.weights, claims, atol=6e-3)


def test_who_claims_nothing_in_a_frame_gets_nothing() -> None:
    rng = np.random.default_rng(2)
    claims = rng.uniform(0.1, 0.5, (2, 5, 48, 64))
    claims[1, 3] = 0
    found = pooled(owned(claims), still(rng, 5))
    assert not found.weights[1, 3].any()
    np.testing.assert_allclose(found.weights[0, 3], claims[0, 3], atol=2e-3)


def test_who_is_out_of_sight_says_nothing_about_the_time_before() -> None:
    claims = np.zeros((2, 10, 48, 64))
    claims[0, :5], claims[1, :5], claims[1, 5:] = 0.6, 0.3, 0.3
    found = pooled(owned(claims), still(np.random.default_rng(5), 10))
    np.testing.assert_allclose(found.weights, claims, atol=2e-3)


def test_the_scale_of_the_claims_does_not_matter() -> None:
    rng = np.random.default_rng(6)
    frames = still(rng, 6)
    first = owned(rng.uniform(0.05, 0.3, (3, 6, 48, 64)))
    second = Ownership(first.weights / 64, first.unowned / 64)
    one, other = (pooled(x, frames).weights for x in (first, second))
    np.testing.assert_allclose(one.astype(float), other.astype(float) * 64, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 6), (3, 1)])
def test_one_object_or_one_frame_is_as_it_was(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    first = owned(rng.uniform(0, 0.3, (*shape, 48, 64)))
    assert pooled(first, still(rng, shape[1])) is first


def test_a_plate_for_every_frame() -> None:
    rng = np.random.default_rng(4)
    claims = rng.uniform(0, 0.45, (2, 5, 48, 64))
    frames = rng.integers(0, 200, (5, 48, 64, 3), np.uint8)
    brighter = np.arange(5, dtype=np.uint8)[:, None, None, None] * 10
    one = pooled(owned(claims), frames)
    each = pooled(owned(claims), frames + brighter, GROUND + brighter)
    assert np.array_equal(one.weights, each.weights)


def moving_pair() -> np.ndarray:
    """Two frames of two textured bodies, and far below a blotch that moves as one of them."""
    rng = np.random.default_rng(8)
    texture = rng.integers(0, 100, (3, 6, 6, 3)).repeat(2, 1).repeat(2, 2)
    frames = np.repeat(GROUND, 2, 0)
    for k in range(2):
        for i, (speed, top, tall) in enumerate(((2, 2, 10), (-2, 16, 10), (2, 32, 12))):
            left = 26 + speed * k - speed // 2
            frames[k, top : top + tall, left : left + 12] = texture[i, :tall]
    return frames


def test_two_frames_make_of_their_opinions_what_the_definition_says() -> None:
    rng = np.random.default_rng(10)
    frames = moving_pair()
    shares = rng.uniform(0.05, 0.3, (2, 2, 48, 64))
    first = owned(shares)
    found = pool_over_time(first, frames, GROUND, FPS, Silent())
    assert np.isfinite(found.weights).all()

    def seen(k: int) -> np.ndarray:
        return visible(residual(frames[k], GROUND[0]))

    claims = first.weights.astype(float)
    total = claims.sum(0)
    say = total + SAY
    logs = np.log((claims + LEAST) / (claims + LEAST).sum(0))
    fade = np.exp(-1 / (FPS * MEMORY))
    for t in range(2):
        way = dense_flow(seen(t), seen(1 - t), small=True, refined=False)
        apart = warp(residual(frames[1 - t], GROUND[0]), way) - residual(frames[t], GROUND[0])
        trust = fade * np.exp(-np.square(np.abs(apart).max(2) / ALIKE))
        own = logs[:, t] * say[t]
        other = [warp((logs[i, 1 - t] * say[1 - t]).astype(np.float32), way) for i in range(2)]
        weight = say[t] + trust * warp(say[1 - t].astype(np.float32), way)
        mean = (own + trust * np.stack(other)) / weight
        expected = np.exp(mean) / np.exp(mean).sum(0) * total[t]
        np.testing.assert_allclose(found.weights[:, t].astype(float), expected, atol=4e-3)


def test_a_strong_body_keeps_its_texture_in_the_picture_that_is_searched() -> None:
    levels = np.arange(20, 160, 10, dtype=np.float32)
    change = np.repeat(np.repeat(levels[:, None, None], 4, 1), 3, 2)
    picture = visible(change).astype(int)
    assert (np.diff(picture[:, 0]) > 0).all()
    assert picture[0, 0] > 2 * levels[0]  # faint ones are amplified

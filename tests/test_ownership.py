"""The ownership network, its run over a clip, and the second plate."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli.arrays import Masks, Plate
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte import predict as owners
from omnimatte_cli.matte.likeness import likeness
from omnimatte_cli.matte.network import CONTEXT, OwnerNet, join_channels, join_levels
from omnimatte_cli.matte.ownership import (
    Ownership,
    frame_weights,
    layer_weights,
    product,
    soft_edge,
    upsample,
)
from omnimatte_cli.matte.predict import (
    chunks,
    far_from_sight,
    frame_stride,
    predict_ownership,
    together,
)
from omnimatte_cli.matte.resolve import resolve_frame
from omnimatte_cli.matte.still import average_static
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.estimate import clean_plate
from omnimatte_cli.plate.refine import leave_far, owned_pixels, refine_plate
from omnimatte_cli.progress import Silent
from omnimatte_cli.shot import Shot
from omnimatte_cli.tensors import ClipTensors


@pytest.fixture(scope="module", params=[((2, 2),), ((2, 0, 2, 0), 1, True)], ids=str)
def net(request: pytest.FixtureRequest) -> OwnerNet:
    torch.manual_seed(0)
    net = OwnerNet(*request.param).eval()
    for p in net.parameters():  # blocks within a frame begin as if they were not there
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return net


def batch(seed: int, n: int, t: int = 5, size: tuple[int, int] = (32, 48)):
    g = torch.Generator().manual_seed(seed)
    frames = torch.rand(1, t, 3, *size, generator=g)
    plate = torch.rand(1, 1, 3, *size, generator=g)
    masks = (torch.rand(1, n, t, 1, *size, generator=g) > 0.8).float()
    return frames, plate, masks


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_order_of_objects_does_not_matter(net: OwnerNet, n: int) -> None:
    frames, plate, masks = batch(n, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    with torch.no_grad():
        first = net(frames, plate, masks)
        second = net(frames, plate, masks[:, order])
    assert first.shape == (1, n + 1, 5, 32, 48)
    assert torch.allclose(first[:, :-1][:, order], second[:, :-1], atol=1e-4)
    assert torch.allclose(first[:, -1], second[:, -1], atol=1e-4)


def test_neighbouring_frames_count_and_far_ones_do_not(net: OwnerNet) -> None:
    frames, plate, masks = batch(1, 2, t=12)
    changed = frames.clone()
    changed[:, 0] = torch.rand_like(changed[:, 0])
    with torch.no_grad():
        difference = (
            (net(frames, plate, masks) - net(changed, plate, masks)).abs().amax((0, 1, 3, 4))
        )
    reach = sum(net.reaches) + net.motion
    assert reach <= CONTEXT
    assert bool((difference[: reach + 1] > 0).all())
    assert float(difference[reach + 1 :].max()) < 1e-5


@torch.no_grad()
@pytest.mark.parametrize("motion", [False, True])
def test_which_way_time_runs_counts_with_motion_alone(motion: bool) -> None:
    torch.manual_seed(0)
    net = OwnerNet((2, 0), motion=motion).eval()
    frames, plate, masks = batch(2, 2)
    forward = net(frames, plate, masks)
    backward = net(frames.flip(1), plate, masks.flip(2)).flip(2)
    apart = float((forward - backward).abs().max())
    assert apart > 1e-3 if motion else apart < 1e-4


@pytest.fixture
def carried() -> tuple[torch.Tensor, torch.Tensor]:
    """A residual (1, 5, 3, 64, 64) and the mask (1, 1, 5, 1, 64, 64) of an object that moves by 6
    and 2 pixels a frame, with a shadow below it that moves with it."""
    masks, residual = torch.zeros(1, 1, 5, 1, 64, 64), torch.zeros(1, 5, 3, 64, 64)
    shadow = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0)) - 0.5
    for t in range(5):
        x, y = 8 + 6 * t, 8 + 2 * t
        masks[0, 0, t, 0, y : y + 10, x : x + 10] = 1
        residual[0, t, :, y + 20 : y + 32, x : x + 12] = shadow
    return residual, masks


def test_what_an_object_carries_is_like_itself_along_its_motion(carried) -> None:
    residual, masks = carried
    at = (0, 0, 2, slice(None), (8 + 4 + 26) // 2, (8 + 12 + 6) // 2)  # the shadow's middle
    same, floor, wall, resting = likeness(residual, masks)[at]
    assert same > 0.99 and max(floor, wall, resting) < 0.5
    same, floor, wall, resting = likeness(residual.flip(3), masks)[0, 0, 2, :, 32 - 19, 13]
    assert floor > 0.99 and max(same, wall, resting) < 0.5
    same, floor, wall, resting = likeness(residual.flip(4), masks)[0, 0, 2, :, 19, 32 - 13]
    assert wall > 0.99 and max(same, floor, resting) < 0.5
    still = residual[:, 2:3].expand_as(residual)
    same, floor, wall, resting = likeness(still, masks)[at]
    assert resting > 0.99 and max(same, floor, wall) < 0.5


def test_likeness_is_that_of_a_slow_plain_version() -> None:
    g = torch.Generator().manual_seed(3)
    residual = torch.rand(1, 3, 3, 32, 48, generator=g) - 0.5
    masks = (torch.rand(1, 2, 3, 1, 32, 48, generator=g) > 0.9).float()
    masks[0, 1, 2] = 0  # it has left
    found = likeness(residual, masks)
    small = torch.nn.functional.avg_pool2d(residual[0], 2).numpy()
    for i, t in ((0, 0), (0, 1), (1, 1), (1, 2)):
        best = np.zeros((4, 16, 24))
        met = np.zeros(4, bool)
        for other in (t + 1, t - 1):
            if not 0 <= other < 3:
                continue
            rows, columns = np.nonzero(masks[0, i, t, 0].numpy())
            far_rows, far_columns = np.nonzero(masks[0, i, other, 0].numpy())
            moves = [(0.0, 0.0)]
            if len(rows) and len(far_rows):
                dy, dx = (
                    (far_rows.mean() - rows.mean()) / 2,
                    (far_columns.mean() - columns.mean()) / 2,
                )
                moves = [(dy, dx), (-dy, dx), (dy, -dx), (0.0, 0.0)]
            for k, (dy, dx) in zip(range(4 - len(moves), 4), moves, strict=True):
                there = np.zeros((3, 16, 24))
                for y, x in np.ndindex(16, 24):
                    for v, u in np.ndindex(2, 2):  # bilinear, black outside
                        py, px = int(np.floor(y + dy)) + v, int(np.floor(x + dx)) + u
                        share = (1 - abs(y + dy - py)) * (1 - abs(x + dx - px))
                        if 0 <= py < 16 and 0 <= px < 24:
                            there[:, y, x] += share * small[other, :, py, px]
                products, sizes = (there * small[t]).sum(0), (there**2 + small[t] ** 2).sum(0)
                products, sizes = np.pad(products, 2), np.pad(sizes, 2)
                for y, x in np.ndindex(16, 24):
                    window = np.s_[y : y + 5, x : x + 5]
                    alike = 2 * products[window].mean() / (sizes[window].mean() + 3e-4)
                    best[k, y, x] = max(best[k, y, x], alike) if met[k] else alike
                met[k] = True
        assert np.allclose(found[0, i, t].numpy(), best, atol=1e-4), (i, t)


@pytest.mark.parametrize("stride", [1, 2])
def test_joined_parts_give_what_one_convolution_of_all_channels_gives(stride: int) -> None:
    b, n, t, h, w = 2, 3, 4, 6, 10
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(b * n * t, 5, h // 2, w // 2, generator=rng)
    own = torch.rand(b * n * t, 4, h, w, generator=rng)
    image = torch.rand(b * t, 3, h, w, generator=rng)
    weight = torch.rand(7, 12, 3, 3, generator=rng) - 0.5
    every = image.unflatten(0, (b, 1, t)).expand(-1, n, -1, -1, -1, -1).flatten(0, 2)

    both = torch.nn.functional.conv2d(
        torch.cat([own, every], 1), weight[:, 5:], stride=stride, padding=1
    )
    assert torch.allclose(join_channels(weight[:, 5:], own, image, t, stride), both, atol=1e-5)
    if stride == 1:
        large = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
        all_three = torch.cat([large, own, every], 1)
        expected = torch.nn.functional.conv2d(all_three, weight, padding=1)
        assert torch.allclose(join_levels(weight, coarse, own, image, t), expected, atol=1e-5)


@pytest.mark.parametrize("gap", [1, 2, 3])
@pytest.mark.parametrize("length", [3, 4, 11, 24, 60])
def test_every_frame_is_computed_once_with_its_context(length: int, gap: int) -> None:
    kept = np.zeros(length, int)
    for line, part in chunks(length, gap):
        assert (np.diff(line) == gap).all()
        kept[line[part]] += 1
        first, last = line[part][0], line[part][-1]
        for side in range(1, CONTEXT + 1):  # all the context that the clip has is there
            assert first - side * gap < 0 or first - side * gap in line
            assert last + side * gap >= length or last + side * gap in line
    assert (kept == 1).all()


def test_a_coarse_answer_is_exact_where_it_was_asked_for_and_owns_enough_between(
    net: OwnerNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "average_static", lambda ownership, frames, fps: ownership)
    rng = np.random.default_rng(0)
    t, stride, every = 26, 4, 2
    frames = rng.integers(0, 256, (t, 32, 48, 3), np.uint8)
    masks = rng.random((1, t, 32, 48)) > 0.9
    order = np.zeros((t, 1), int)
    clip = ClipTensors.from_arrays(frames, masks, frames[:1], order, torch.device("cpu"))
    whole = predict_ownership(net, clip, stride, 12.0, Silent())
    found = predict_ownership(net, clip, stride, 12.0, Silent(), every=every)
    assert np.array_equal(found.weights[:, ::every], whole.weights[:, ::every])
    assert np.array_equal(found.unowned[::every], whole.unowned[::every])
    for between in range(1, t - 1, every):
        around = found.weights[:, [between - 1, between + 1]]
        assert np.array_equal(found.weights[:, between], around.max(1))
    assert np.array_equal(found.weights[:, t - 1], found.weights[:, t - 2])


def test_chunks_give_what_the_whole_clip_gives(
    net: OwnerNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "average_static", lambda ownership, frames, fps: ownership)
    monkeypatch.setattr(owners, "autocast", lambda device: nullcontext())  # to compare exactly
    rng = np.random.default_rng(0)
    t = 60
    frames = rng.integers(0, 256, (t, 32, 48, 3), np.uint8)
    masks = rng.random((2, t, 32, 48)) > 0.9
    order = np.tile([0, 1], (t, 1))
    clip = ClipTensors.from_arrays(frames, masks, frames[:1], order, torch.device("cpu"))
    found = predict_ownership(net, clip, 2, 12.0, Silent())
    pictures, visible, plates, _ = clip.windows(torch.arange(0, t, 2)[None])
    with torch.no_grad():
        whole = net(pictures, plates, visible).softmax(1)[0].numpy()
    assert np.abs(found.weights[:, ::2] - whole[:-1]).max() < 2e-3
    assert np.abs(found.unowned[::2] - whole[-1]).max() < 2e-3


def test_answers_stand_still_where_nothing_changes_and_are_free_where_it_moves() -> None:
    rng = np.random.default_rng(0)
    t = 20
    frames = np.full((t, 16, 24, 3), 100, np.uint8)
    frames[:, :, 12:] = rng.integers(0, 256, (t, 16, 12, 3))
    weights = rng.random((2, t, 16, 24)).astype(np.float16) / 2
    unowned = (1 - weights.astype(np.float32).sum(0)).astype(np.float16)
    quiet = average_static(Ownership(weights, unowned), frames, 12.0)
    total = quiet.weights.astype(np.float32).sum(0) + quiet.unowned
    assert np.abs(total - 1).max() < 5e-3  # still parts of one
    before, after = (
        np.abs(np.diff(x.astype(np.float32), axis=1)) for x in (weights, quiet.weights)
    )
    assert after[..., :10].mean() < 0.3 * before[..., :10].mean()
    assert after[..., 14:].mean() > 0.9 * before[..., 14:].mean()
    alone = average_static(Ownership(weights[:, :1], unowned[:1]), frames[:1], 12.0)
    assert np.array_equal(alone.weights, weights[:, :1])


def test_gap_follows_the_frame_rate() -> None:
    assert frame_stride(Fraction(12), 100) == 3
    assert frame_stride(Fraction(30000, 1001), 100) == 7
    assert frame_stride(Fraction(60), 9) == 2  # a short clip has no neighbours further away
    assert frame_stride(Fraction(1), 3) == 1


def test_objects_long_out_of_sight_own_nothing() -> None:
    seen = np.zeros((2, 12), bool)
    seen[0, 3] = True
    far = far_from_sight(seen, 2)
    assert np.flatnonzero(~far[0]).tolist() == [1, 2, 3, 4, 5]
    assert far[1].all()
    assert not far_from_sight(np.ones((1, 4), bool), 9).any()


def test_a_layers_claim_is_its_change() -> None:
    plate = np.full((16, 16, 3), 0.5, np.float32)
    layer = np.zeros((16, 16, 4), np.float32)
    layer[4:12, 4:12, 3] = 0.5  # half-transparent black: darkens by 0.25 in each channel
    claim = layer_weights(layer, plate)
    assert claim[8, 8] == pytest.approx(0.75, abs=0.01) and claim[0, 0] < 1e-3


def test_layers_and_network_share_the_say_and_the_network_alone_says_nobody() -> None:
    layer = np.zeros((2, 1, 1, 4), np.float16)
    layer[0, ..., 1:3], layer[1, ..., 2:] = 0.2, 0.2
    network = np.array([0.4, 0.4, 0.4, 0.1], np.float16)
    known = Ownership(
        np.stack([network, 0.8 - network])[:, None, None], np.full((1, 1, 4), 0.2, np.float16)
    )
    both = product(Ownership(layer, np.full((1, 1, 1), 0.03, np.float16)), known)
    assert np.allclose(both.weights.astype(float).sum(0), 0.8, atol=1e-3)
    assert np.array_equal(both.unowned, known.unowned)
    share = both.weights[0, 0, 0].astype(float) / 0.8
    # Silent layers leave it to the network; one that speaks wins; two are weighed; a wrong one may
    # be outvoted.
    assert np.allclose(share, [0.5, 21 / 22, 0.5, 1 / (1 + 21 * 7)], atol=2e-3)


def test_the_second_plate_loses_its_ghost() -> None:
    """A shadow that rests for two thirds of the clip is in the median; its owner takes it out."""
    t, size = 12, (32, 48)
    plate = np.full((*size, 3), 160, np.uint8)
    frames = np.repeat(plate[None], t, 0)
    frames[:8, 20:28, 8:24] = 80
    masks = np.zeros((1, t, *size), bool)
    masks[0, :, 4:12, 30:40] = True
    packed = Masks.from_arrays(masks, ["thing"])
    ghost = np.median(frames, 0).astype(np.uint8)
    assert ghost[24, 16, 0] == 80
    claims = np.zeros((1, t, 16, 24), np.float16)
    claims[0, :8, 9:15, 3:13] = 1
    nobody = (1 - claims[0]).astype(np.float16)
    found = Ownership(claims, nobody)
    assert owned_pixels(found, 0, size)[24, 16]

    def owned_in(ownership: Ownership) -> Callable[[int], np.ndarray]:
        return lambda t: owned_pixels(ownership, t, size)

    first = Plate(ghost, np.ones(size, bool))
    second = refine_plate(FrameSamples.of(frames), first, owned_in(found), packed, Silent())
    assert np.abs(second.image[18:30, 6:26].astype(int) - 160).max() == 0
    always = np.ones_like(claims)
    everything = Ownership(always, 0 * nobody)
    kept = refine_plate(FrameSamples.of(frames), first, owned_in(everything), packed, Silent())
    assert np.array_equal(kept.image, ghost)  # no free sample anywhere: the first plate stays


def test_another_look_finds_more_only_beside_what_was_found() -> None:
    """The rest of a shadow, one half of which was found before; nothing far from it and masks."""
    size, t = (50, 80), 3
    before = np.zeros((2, t, *size), np.float16)
    before[0, :, 20:24, 10:20] = 1
    claims = before.copy()
    claims[0, :, 20:24, 20:22] = 0.9  # its rest, two pixels of a reach of two
    claims[1, :, 40:44, 60:64] = 0.8  # elsewhere
    claims[1, :, 2:6, 30:34] = 0.7  # beside a mask
    masks = np.zeros((t, *size), bool)
    masks[:, 6:10, 30:40] = True
    found = Ownership(claims.copy(), (1 - claims.sum(0)).astype(np.float16))
    known = Ownership(before, (1 - before.sum(0)).astype(np.float16))
    leave_far(found, known, masks)
    expected = claims.copy()
    expected[1, :, 40:44, 60:64] = 0
    expected[1, :, 2:4, 30:34] = 0
    assert np.array_equal(found.weights, expected)
    assert np.allclose(found.weights.sum(0, dtype=float) + found.unowned, 1, atol=2e-3)


def test_the_third_plate_loses_what_the_second_had_of_a_shadow() -> None:
    """Over the second plate the rest of a shadow is seen, over the third nothing more; what is
    claimed far away, as wrong plates would have it, is in all plates as it was."""
    t, size = 12, (64, 96)
    frames = np.full((t, *size, 3), 160, np.uint8)
    frames[:8, 40:46, 20:32] = 80
    frames[:8, 10:16, 70:82] = 80
    masks = np.zeros((1, t, *size), bool)
    masks[0, :, 30:38, 14:20] = True
    shot = Shot(
        Fraction(12), frames, Masks.from_arrays(masks, ["thing"]), masks, FrameSamples.of(frames),
        lambda: iter(frames), Camera.static(t, size),
    )  # fmt: skip
    looks: list[np.ndarray] = []

    def find(plates: np.ndarray) -> Ownership:
        looks.append(plates[0])
        claims = np.zeros((1, t, *size), np.float16)
        claims[0, :8, 38:48, 18 : 30 if len(looks) == 1 else 34] = 1
        if len(looks) > 1:
            claims[0, :8, 8:18, 68:84] = 1
        return Ownership(claims, (1 - claims[0]).astype(np.float16))

    plates = []
    for passes in (1, 2, 3):
        looks.clear()
        plates.append(clean_plate(shot, passes, find, None, (), Silent()).image)
    assert [int(plate[43, 31, 0]) for plate in plates] == [80, 80, 160]
    assert [int(plate[43, 25, 0]) for plate in plates] == [80, 160, 160]
    assert [int(plate[13, 76, 0]) for plate in plates] == [80, 80, 80]
    assert all(np.array_equal(look, plate) for look, plate in zip(looks, plates[:2], strict=True))


def test_a_mask_has_no_holes_whatever_the_network_says() -> None:
    """A weight of 'unowned' near 1 once cut holes into a body."""
    masks = np.zeros((1, 32, 48), bool)
    masks[0, 8:24, 10:30] = True
    certain = Ownership(np.zeros((1, 1, 16, 24), np.float16), np.ones((1, 16, 24), np.float16))
    weights = frame_weights(certain, 0, masks, np.array([0])).weights
    assert (weights[0][masks[0]] == 1).all()


@pytest.mark.parametrize("n", [1, 3])
def test_empty_masks_and_a_frame_equal_to_the_plate(net: OwnerNet, n: int) -> None:
    frames = np.full((5, 32, 48, 3), 120, np.uint8)
    masks = np.zeros((n, 5, 32, 48), bool)
    order = np.tile(np.arange(n), (5, 1))
    clip = ClipTensors.from_arrays(frames, masks, frames[:1], order, torch.device("cpu"))
    found = predict_ownership(net, clip, 1, 12.0, Silent())
    assert not found.weights.any()
    share = frame_weights(found, 0, masks[:, 0], order[0])
    layers = resolve_frame(frames[0], frames[0], share, order[0], 1 / 255)
    assert layers.rgba[..., 3].max() == 0


def test_upsampling_keeps_constants_and_signs() -> None:
    assert np.allclose(upsample(np.full((2, 4, 6), 0.3, np.float32), (37, 65)), 0.3, atol=1e-6)
    assert upsample(np.eye(6, dtype=np.float32)[None], (48, 48)).min() >= 0


def test_a_soft_edge_is_that_of_the_whole_picture() -> None:
    mask = np.zeros((90, 120), bool)
    assert not soft_edge(mask, 3.0).any()
    for part, sigma in ((np.s_[40:50, 60:75], 3.0), (np.s_[:20, 100:], 2.2), (np.s_[:, 30:], 8.0)):
        mask[:] = False
        mask[part] = True
        whole = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
        np.testing.assert_allclose(soft_edge(mask, sigma), whole, atol=1e-6)


def test_frames_of_few_objects_are_computed_in_longer_pieces() -> None:
    one = 128 * 224
    assert together(one) == 48 and 24 < together(2 * one) < 48
    assert together(8 * one) == 24


def test_where_nothing_moves_ownership_stands_still() -> None:
    rng = np.random.default_rng(5)
    frames = np.full((16, 32, 48, 3), 100, np.uint8)
    frames = np.clip(frames + rng.normal(0, 1, frames.shape), 0, 255).astype(np.uint8)
    for t in range(16):
        frames[t, 4:12, 2 * t : 2 * t + 8] = 220
    claims = np.clip(0.5 + rng.normal(0, 0.1, (1, 16, 32, 48)), 0, 1).astype(np.float16)
    for t in range(16):
        claims[0, t, 4:12, 2 * t : 2 * t + 8] = 1
    before = Ownership(claims, (1 - claims[0]).astype(np.float16))
    after = average_static(before, frames, 12.0)
    assert after.weights.dtype == np.float16 and after.weights.shape == claims.shape

    def flicker(x: np.ndarray) -> float:
        return float(np.abs(np.diff(x[0, :, 20:].astype(np.float32), axis=0)).mean())

    assert flicker(after.weights) < 0.15 * flicker(before.weights)
    # What moves keeps its own answer.
    moving = after.weights[0, 8, 5:11, 18:22].astype(np.float32)
    assert moving.min() > 0.9
    total = after.weights[0].astype(np.float32) + after.unowned
    assert np.abs(total - 1).max() < 0.01

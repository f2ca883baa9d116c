"""Bodies cut out of frames before a known plate, by the network that ships, against true alpha."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli.device import shared_among
from omnimatte_cli.matte import bodies
from omnimatte_cli.matte.bodies import FINE, by_masks, coarseness, margin_of, outside, without_holes
from omnimatte_cli.matte.matting_network import INPUTS, STRIDE, fused
from omnimatte_cli.matte.ownership import FrameWeights
from omnimatte_cli.matte.resolve import disjoint, resolve_frame
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.networks import body_matting

SIZE = (144, 192)
SIDE = float(np.sqrt(SIZE[0] * SIZE[1]))
NOISE = 2 / 255


def picture(seed: int, low: float, high: float, cells: int = 10) -> np.ndarray:
    small = np.random.default_rng(seed).uniform(low, high, (cells, cells, 3)).astype(np.float32)
    return np.clip(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def true_alpha(x: int = 96) -> np.ndarray:
    """A body with an arm and a notch, antialiased."""
    big = np.zeros((SIZE[0] * 8, SIZE[1] * 8), np.uint8)
    cv2.ellipse(big, (x * 8, 72 * 8), (28 * 8, 44 * 8), 0, 0, 360, 255, -1)
    cv2.line(big, (x * 8, 60 * 8), ((x + 50) * 8, 40 * 8), 255, 10 * 8)
    cv2.circle(big, ((x - 28) * 8, 80 * 8), 10 * 8, 0, -1)
    return cv2.resize(big, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def scene(body: np.ndarray, ground: np.ndarray, alpha: np.ndarray, seed: int = 0) -> np.ndarray:
    frame = ground + alpha[..., None] * (body - ground)
    noise = np.random.default_rng(seed).normal(0, NOISE, frame.shape)
    return np.clip(frame + noise, 0, 1).astype(np.float32)


def rough(alpha: np.ndarray, kind: str, pixels: int = 3) -> np.ndarray:
    mask = (alpha >= 0.5).astype(np.uint8)
    if kind == "exact":
        return mask > 0
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pixels + 1,) * 2)
    return (cv2.dilate if kind == "dilated" else cv2.erode)(mask, kernel) > 0


def cut(frame: np.ndarray, plate: np.ndarray, *masks: np.ndarray, side: float = 400) -> np.ndarray:
    """The first body's alpha."""
    return body_matting()(frame, plate, np.stack(masks), side)[0]


BODY, GROUND = picture(1, 0.5, 0.9) * (1, 0.6, 0.5), picture(2, 0.15, 0.45, 24) * (0.5, 1, 0.8)
BODY, GROUND = BODY.astype(np.float32), GROUND.astype(np.float32)


@pytest.mark.parametrize("kind", ["exact", "dilated", "eroded"])
def test_alpha_is_found_whatever_the_masks_fault(kind: str) -> None:
    alpha = true_alpha()
    mask = rough(alpha, kind)
    found = cut(scene(BODY, GROUND, alpha), GROUND, mask)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    error, naive = (np.abs(x - alpha).sum() for x in (found, mask))
    assert error < (1 if kind == "exact" else 0.35) * naive


def test_a_shadow_beside_the_body_is_not_body() -> None:
    alpha = true_alpha()
    shadow = np.zeros(SIZE, np.float32)
    cv2.ellipse(shadow, (96, 116), (60, 16), 0, 0, 360, 0.5, -1)
    shadow = cv2.GaussianBlur(shadow, (0, 0), 2)[..., None]
    frame = scene(BODY, GROUND * (1 - shadow), alpha)
    found = cut(frame, GROUND, rough(alpha, "dilated", 5))
    beside = (alpha == 0) & (shadow[..., 0] > 0.3)
    assert found[beside].mean() < 0.05


def test_a_pale_body_before_a_pale_wall_stays_opaque() -> None:
    """Eight levels apart; what is the same to the level is taken for the wall."""
    alpha = true_alpha()
    wall = np.full((*SIZE, 3), 0.86, np.float32)
    wall[:, 96:] = 0.3  # the right half of the body stands out
    body = np.full((*SIZE, 3), 0.89, np.float32)
    found = cut(scene(body, wall, alpha), wall, rough(alpha, "exact"))
    inside = cv2.erode((alpha == 1).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    assert found[inside].min() > 0.9
    away = cv2.dilate((alpha > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    assert found[away & (np.arange(SIZE[1]) > 100)].max() < 0.1


def test_ground_within_a_mask_is_seen_through() -> None:
    """A mask that closes the gap at the notch."""
    alpha = true_alpha()
    cv2.circle(filled := rough(alpha, "exact").astype(np.uint8), (68, 80), 6, 1, -1)
    found = cut(scene(BODY, GROUND, alpha), GROUND, filled > 0)
    assert found[76:84, 65:70].mean() < 0.1


def test_a_pale_limb_before_pale_ground_is_kept() -> None:
    """Lit like the ground in a light shade, where the rest of the body is dark."""
    alpha = true_alpha()
    body, sand = (np.full((*SIZE, 3), x, np.float32) for x in (0.35, 0.85))
    sand = sand * np.float32([1, 0.95, 0.88])
    body[:, 124:] = 0.72 * sand[0, 0]  # the arm
    arm = (alpha == 1) & (np.arange(SIZE[1]) > 126)
    found = cut(scene(body, sand, alpha), sand, rough(alpha, "exact"))
    assert found[arm].mean() > 0.65


def test_the_floor_around_feet_becomes_their_shadow() -> None:
    """A mask that takes in shadowed floor: it goes over to the effect."""
    alpha = true_alpha()
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    dark = 0.5 * np.exp(-(((x - 96) / 50) ** 2 + ((y - 112) / 12) ** 2)).astype(np.float32)
    frame = scene(BODY, GROUND * (1 - dark[..., None]), alpha)
    mask = rough(alpha, "exact") | ((abs(x - 96) < 30) & (y > 90) & (y < 124))
    edge = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1)[None]
    owners = FrameWeights(np.maximum(edge, dark > 0.03), edge, edge)
    given = frame, GROUND, owners, np.array([0]), NOISE
    layers = resolve_frame(*given, masks=mask[None], side=400, cut_out=body_matting())
    assert layers.passes is not None
    shadow, _, body = layers.passes[0]
    floor = mask & (cv2.dilate(alpha, np.ones((5, 5), np.uint8)) == 0)
    assert floor.sum() > 400 and body[floor, 3].mean() < 0.1
    assert body[alpha == 1, 3].mean() > 0.97
    assert np.abs(shadow[floor, 3] - dark[floor]).mean() < 0.05


@pytest.mark.parametrize("kind", ["exact", "dilated", "eroded"])
def test_a_body_before_another_keeps_its_outline(kind: str) -> None:
    alpha, front = true_alpha(80), true_alpha(120)
    other = BODY[::-1] * np.float32([0.3, 0.9, 1.2])
    frame = scene(other, scene(BODY, GROUND, alpha), front)
    shape = rough(front, kind)
    masks = rough(alpha, kind) & ~shape, shape
    behind, before = cut(frame, GROUND, *masks), cut(frame, GROUND, *masks[::-1])
    assert behind[(alpha == 1) & (front == 0)].mean() > 0.9
    assert behind[front == 1].mean() < 0.1
    assert before[front == 1].mean() > 0.95
    assert before[(alpha == 1) & (front == 0)].mean() < 0.1


def test_where_two_bodies_want_a_pixel_the_one_in_front_has_it() -> None:
    alphas = np.array([0.8, 1, 0.3], np.float32)[:, None, None] * np.ones((3, 2, 2), np.float32)
    found = disjoint(alphas, np.array([1, 0, 2]))[:, 0, 0]
    np.testing.assert_allclose(found, [0.7, 0, 0.3], atol=1e-6)
    apart = np.eye(3, dtype=np.float32)[:, None] * 0.6
    np.testing.assert_array_equal(disjoint(apart, np.arange(3)), apart)


def test_holes_in_bodies_show_the_ground_or_are_none() -> None:
    alpha = np.zeros((60, 80), np.float32)
    alpha[10:50, 10:70] = 1
    frame, plate = np.full((60, 80, 3), 0.4, np.float32), np.full((60, 80, 3), 0.5, np.float32)
    gap, speck, bright, notch = (
        np.s_[20:30, 20:30], np.s_[20:22, 40:42], np.s_[35:45, 20:30], np.s_[40:50, 50:60],
    )  # fmt: skip
    for hole in (gap, speck, bright, notch):
        alpha[hole] = 0.1
    frame[bright] = 0.9
    found = without_holes(alpha, frame, plate, 16)
    assert found[gap].max() < 0.2 and found[notch].max() < 0.2  # which is open below
    assert found[speck].min() == found[bright].min() == 1
    assert found[:10].max() == 0 and found[10:50, 10:20].min() == 1


def test_no_mask_no_body() -> None:
    assert cut(BODY, GROUND, np.zeros(SIZE, bool)).max() == 0


def test_nothing_far_from_its_mask_is_body() -> None:
    mask = rough(true_alpha(), "exact")
    found = cut(BODY, GROUND, mask, side=240)  # where all of the frame is strange
    assert found[outside(mask) >= 6].max() == 0 < found[mask].mean()


def test_objects_of_one_frame_do_not_change_each_others_alpha_from_afar() -> None:
    alpha = true_alpha()
    wide = np.zeros((2 * SIZE[0], 3 * SIZE[1]), bool)
    frame, ground = (np.tile(x, (2, 3, 1)) for x in (scene(BODY, GROUND, alpha), GROUND))
    near, far = wide.copy(), wide.copy()
    near[: SIZE[0], : SIZE[1]] = far[SIZE[0] :, 2 * SIZE[1] :] = rough(alpha, "dilated")
    both, alone = cut(frame, ground, near, far), cut(frame, ground, near)
    np.testing.assert_array_equal(both, alone)


def test_large_pictures_are_seen_smaller() -> None:
    assert [coarseness(s) for s in (100, FINE, FINE + 1, 2 * FINE, 3 * FINE, 9 * FINE)] == [
        1, 1, 2, 2, 4, 4,
    ]  # fmt: skip
    alpha = true_alpha()
    given = scene(BODY, GROUND, alpha), GROUND
    plain = cut(*given, rough(alpha, "dilated"))
    large = [cv2.resize(x, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for x in given]
    mask = rough(cv2.resize(alpha, None, fx=2, fy=2), "dilated", 6)
    found = cut(*large, mask, side=2 * FINE)
    assert np.abs(cv2.resize(found, SIZE[::-1], interpolation=cv2.INTER_AREA) - plain).mean() < 0.01


def test_a_fused_network_gives_the_same() -> None:
    net = weights.load_matting(weights.find("matting", "matting"))
    planes = torch.rand(2, INPUTS, 2 * STRIDE, 3 * STRIDE, generator=torch.manual_seed(0))
    with torch.no_grad():
        before, after = net(planes), fused(copy.deepcopy(net))(planes)
    assert torch.allclose(before, after, atol=1e-3) and float(before.std()) > 0.1
    assert len(after.shape) == 4 and after.shape[2:] == planes.shape[2:]


def test_threads_do_not_disturb_each_other() -> None:
    matting, alpha = body_matting(), true_alpha()
    given = [
        (scene(BODY, GROUND, alpha, n), GROUND, np.stack([rough(alpha, kind, n + 1)]), SIDE)
        for n, kind in enumerate(("exact", "dilated", "eroded", "dilated"))
    ]
    alone = [matting(*x) for x in given]
    with shared_among(2), ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda x: matting(*x), given))
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-4)


def test_alpha_does_not_depend_on_what_else_is_in_the_picture() -> None:
    """In the middle of a large picture as in the part of it around a mask."""
    alpha = true_alpha()
    frame, mask = scene(BODY, GROUND, alpha), rough(alpha, "dilated")
    wide = [np.pad(x, [(160, 160), (160, 160), (0, 0)], "wrap") for x in (frame, GROUND)]
    masks = np.pad(mask, 160)[None]
    whole = body_matting()(*wide, masks, 240)[0]
    rows, columns = np.nonzero(masks[0])
    around = [
        slice(x.min() - margin_of(240) - STRIDE, x.max() + 1 + margin_of(240) + STRIDE)
        for x in (rows, columns)
    ]
    part = tuple(around)
    found = body_matting()(*(x[part] for x in wide), masks[:, part[0], part[1]], 240)[0]
    np.testing.assert_allclose(found, whole[part], atol=0.02)


def test_strips_are_decided_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    alpha = true_alpha()
    given = scene(BODY, GROUND, alpha), GROUND, np.stack([rough(alpha, "dilated")]), SIDE
    strips = []
    for rows in (7, bodies.STRIP, 1000):
        monkeypatch.setattr(bodies, "STRIP", rows)
        strips.append(body_matting()(*given))
    np.testing.assert_allclose(strips[0], strips[2], atol=2e-2)
    np.testing.assert_allclose(strips[1], strips[2], atol=2e-2)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 200), (40, 5)])
def test_pictures_of_any_size_have_alphas(size: tuple[int, int]) -> None:
    mask, picture_ = np.ones((1, *size), np.float32), np.full((*size, 3), 0.5, np.float32)
    found = body_matting()(picture_, picture_, mask, 100)
    assert found.shape == mask.shape and np.isfinite(found).all()
    none = body_matting()(picture_, picture_, mask[:0], 100)
    assert none.shape == (0, *size)


def test_without_weights_the_masks_are_the_bodies(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(weights, "shipped_names", list)
    assert body_matting.__wrapped__() is by_masks and "matting" in caplog.text
    mask = rough(true_alpha(), "exact")[None]
    np.testing.assert_array_equal(by_masks(BODY, GROUND, mask, SIDE), mask)

"""Ground within a rough mask: floor in the body's shadow is told from the body by its pattern."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.matte import ground
from omnimatte_cli.matte.box import MOST_PIECES, boxes_around
from omnimatte_cli.matte.ground import (
    HUES,
    LIGHTS,
    PATTERNED,
    PLAIN,
    STEPS,
    enclosed,
    ends_at_edges,
    follow_light,
    free_of_ground,
    kinds_of_colour,
    share_of_rim,
    shared_colours,
    shown_ground,
    small_pieces,
    spread_counts,
    supported,
    without_ground,
    without_specks,
)
from omnimatte_cli.matte.ownership import FrameWeights
from omnimatte_cli.matte.resolve import resolve_frame

SIZE = (180, 240)
SIDE = 480.0  # the pictures are parts of such a one
NOISE = 2 / 255
BODY = (slice(40, 130), slice(100, 140))
ROUGH = (slice(30, 150), slice(80, 170))  # what the mask takes in


def pattern(seed: int, low: float, high: float) -> np.ndarray:
    """Spots of some four pixels, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(low, high, (SIZE[0] // 4, SIZE[1] // 4, 1)).astype(np.float32)
    large = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(large[..., None] * np.float32([1, 0.8, 0.6]), 0, 1)


def soft(mask: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.006 * SIDE)


def box(part: tuple[slice, slice]) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[part] = True
    return mask


def light() -> np.ndarray:
    """A shadow that is darkest at the body, (H, W, 1)."""
    dark = np.zeros(SIZE, np.float32)
    cv2.ellipse(dark, (120, 135), (60, 30), 0, 0, 360, 0.5, -1)
    return 1 - cv2.GaussianBlur(dark, (0, 0), 14)[..., None]


def noisy(x: np.ndarray, seed: int = 5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, NOISE, x.shape)
    return np.clip(x + noise, 0, 1).astype(np.float32)


PLATE = pattern(1, 0.25, 0.65)


def seen(body: np.ndarray) -> np.ndarray:
    """The plate in the shadow with the body on it."""
    return noisy(np.where(box(BODY)[..., None], body, PLATE * light()))


@pytest.mark.parametrize("scale", [1, 3])
def test_patterned_ground_in_a_mask_is_given_back_and_the_body_is_not(scale: int) -> None:
    frame, plate, edge = seen(pattern(2, 0.3, 0.6)), PLATE, soft(box(ROUGH))
    if scale > 1:
        size = (SIZE[1] * scale, SIZE[0] * scale)
        frame, plate, edge = (cv2.resize(x, size) for x in (frame, plate, edge))
    taken = shown_ground(frame, plate, edge, NOISE, SIDE * scale)
    taken = cv2.resize(taken, SIZE[::-1], interpolation=cv2.INTER_AREA)
    ground = box(ROUGH) & ~(soft(box(BODY)) > 0.02)
    assert taken[ground].mean() > 0.9
    assert taken[box(BODY)].mean() < 0.1
    assert taken[~box(ROUGH)].max() < 0.6  # outside of the mask there is nothing to give back


def test_a_body_in_the_grounds_colours_without_its_pattern_stays() -> None:
    body = cv2.GaussianBlur(PLATE * light(), (0, 0), 6) + pattern(3, -0.1, 0.1).clip(-1, 1) * 0.2
    frame = noisy(np.where(box(ROUGH)[..., None], body, PLATE * light()))
    assert shown_ground(frame, PLATE, soft(box(ROUGH)), NOISE, SIDE).mean() < 3e-3


@pytest.mark.parametrize(("tint", "taken"), [((0.8, 0.65, 0.5), True), ((0.5, 0.9, 1.4), False)])
def test_a_shade_may_have_a_colour_but_brightens_nothing(
    tint: tuple[float, ...], taken: bool
) -> None:
    """A green body on a brown floor is as dark as a shadow on it, and yet is no shadow."""
    much = cv2.GaussianBlur(box(BODY).astype(np.float32), (0, 0), 12)[..., None]
    frame = noisy(PLATE * (1 + much * (np.float32(tint) - 1)))
    found = shown_ground(frame, PLATE, soft(box(ROUGH)), NOISE, SIDE)
    middle = found[60:110, 110:130].mean()
    assert middle > 0.9 if taken else middle < 0.05


def test_plain_ground_in_a_deep_shadow_may_be_the_body() -> None:
    plain = np.full_like(PLATE, 0.5)
    frame = noisy(np.where(box(BODY)[..., None], pattern(2, 0.3, 0.6), plain * light()))
    taken = shown_ground(frame, plain, soft(box(ROUGH)), NOISE, SIDE)
    dark = light()[..., 0] < 0.7
    assert (box(ROUGH) & dark).any() and taken[dark].max() < 0.05
    assert taken[box(BODY)].mean() < 0.02


def test_a_plate_that_is_unlike_the_ground_takes_nothing() -> None:
    frame = seen(pattern(2, 0.3, 0.6))
    other = pattern(9, 0.25, 0.65)
    assert shown_ground(frame, other, soft(box(ROUGH)), NOISE, SIDE).mean() < 0.01


def test_no_mask_no_ground() -> None:
    assert not shown_ground(PLATE, PLATE, np.zeros(SIZE, np.float32), NOISE, SIDE).any()


GAP = (slice(70, 120), slice(114, 126))  # between two legs


@pytest.mark.parametrize(("elsewhere", "taken"), [(False, True), (True, False)])
def test_a_gap_between_legs_is_ground_where_its_colours_are_none_of_the_bodys(
    elsewhere: bool, taken: bool
) -> None:
    """The mask is right but for the gap, and the ground there has hardly any detail."""
    plate = np.float32([0.6, 0.35, 0.15]) * (1 + 0.05 * (pattern(4, -1, 1)[..., :1]))
    frame = np.where(box(BODY)[..., None], pattern(2, 0.02, 0.2)[..., ::-1], plate)
    frame[GAP] = plate[GAP] * 0.95
    if elsewhere:  # a belt and a bag of leather
        frame[45:65, 105:135] = np.float32([0.57, 0.33, 0.15])
    found = shown_ground(noisy(frame), plate, soft(box(BODY)), NOISE, SIDE)
    middle = found[75:115, 117:123].mean()
    assert middle > 0.9 if taken else middle < 0.1
    assert found[box(BODY) & ~(soft(box(GAP)) > 0.01)].mean() < 0.02


def test_only_what_the_mask_has_all_around_is_enclosed() -> None:
    mask = box(ROUGH)
    inside, rim, speck = (
        (slice(60, 70), slice(100, 110)),
        (slice(30, 40), slice(100, 110)),
        (80, 90),
    )
    there = box(inside) | box(rim)
    there[speck] = True
    np.testing.assert_array_equal(enclosed(there, mask, 2), box(inside))


@pytest.mark.parametrize(("place", "colour", "most"), [
    ((slice(60, 90), slice(110, 130)), 0.3, 0.0),  # in the body, in its colours: by chance
    ((slice(60, 90), slice(110, 130)), 0.8, 1.0),  # in the body, in colours of its own
    ((slice(60, 90), slice(80, 90)), 0.3, 1.0),  # along the outline
])  # fmt: skip
def test_detail_counts_at_the_outline_or_in_colours_of_its_own(
    place: tuple[slice, slice], colour: float, most: float
) -> None:
    frame = np.full((*SIZE, 3), 0.3, np.float32)
    frame[place] = colour
    out = supported(frame, box(place), box(ROUGH), 60)
    assert out[place].min() == out[place].max() == most


def test_fur_with_the_pattern_of_a_fence_stays() -> None:
    """Stripes of a body in the ground's colours are in step with the plate's in one place."""
    stripes = 0.4 + 0.08 * np.sin(np.arange(SIZE[1]) / 1.5)
    plate = np.broadcast_to(stripes[None, :, None], (*SIZE, 3)).astype(np.float32)
    body = np.roll(plate, 4, axis=1)
    body[50:110, 90:150] = plate[50:110, 90:150]
    frame = noisy(np.where(box(ROUGH)[..., None], body, plate))
    assert shown_ground(frame, plate, soft(box(ROUGH)), NOISE, SIDE)[55:105, 95:145].max() < 0.1


def test_kinds_of_colour_tell_hue_and_light_and_lose_nothing() -> None:
    rng = np.random.default_rng(6)
    colours = rng.uniform(0, 1, (500, 3)).astype(np.float32)
    extremes = np.float32([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]])
    kinds = kinds_of_colour(np.concatenate([colours, extremes]))
    assert kinds.min() >= 0 and kinds.max() < HUES * HUES * LIGHTS
    assert len(set(kinds[-len(extremes) :])) == len(extremes)
    assert spread_counts(kinds).sum() == pytest.approx(len(kinds))


def test_colours_are_compared_a_piece_at_a_time() -> None:
    frame = np.full((*SIZE, 3), 0.1, np.float32)
    own, other = (slice(50, 60), slice(90, 100)), (slice(50, 60), slice(120, 130))
    frame[own] = 0.15, 0.1, 0.1
    frame[other] = 0.6, 0.3, 0.1
    nothing = np.zeros(SIZE, np.float32)
    shares = shared_colours(frame, box(own) | box(other), box(ROUGH), nothing, 50)
    assert shares[other].max() < 0.01 and shares[own].min() > 0.4
    assert shares[~(box(own) | box(other))].min() == 1


def test_islands_belong_to_what_is_around_them() -> None:
    mask = box(ROUGH)
    found = np.zeros(SIZE, np.float32)
    found[60:64, 100:104] = 1  # ground in the middle of the body
    found[100:150, 80:170] = 1  # ground at the rim
    found[120:124, 120:124] = 0  # a piece of body in it
    out = without_specks(found, mask, 60)
    assert not out[:100].any() and out[100:150, 80:170].min() == 1
    # A small mask of its own is no remainder of a larger one.
    alone = box((slice(5, 9), slice(5, 9)))
    assert not without_specks(found, mask | alone, 60)[alone].any()


def test_small_pieces_are_counted_in_pixels() -> None:
    there = box((slice(0, 2), slice(0, 5))) | box((slice(10, 20), slice(10, 20)))
    assert small_pieces(there, 11).sum() == 10 and small_pieces(there, 10).sum() == 0


def test_the_floor_around_a_body_becomes_its_shadow() -> None:
    frame, mask = seen(pattern(2, 0.3, 0.6) * np.float32([0.3, 0.6, 1.5])), box(ROUGH)
    edge = soft(mask)[None]
    owners = FrameWeights(np.ones((1, *SIZE), np.float32), edge, edge)
    order = np.array([0])
    layers = resolve_frame(frame, PLATE, owners, order, NOISE, masks=mask[None], side=SIDE)
    assert layers.passes is not None
    shadow, _, body = layers.passes[0]
    floor = box(ROUGH) & ~(soft(box(BODY)) > 0.01)
    assert body[floor, 3].mean() < 0.05 and body[box(BODY), 3].mean() > 0.97
    assert np.abs(shadow[floor, 3] - (1 - light()[floor, 0])).mean() < 0.05


def wall_scene(body: np.ndarray) -> np.ndarray:
    """A body before a plain wall that gets a little darker towards it."""
    shade = 1 - 0.08 * cv2.GaussianBlur(box(BODY).astype(np.float32), (0, 0), 20)[..., None]
    return noisy(np.where(box(BODY)[..., None], body, 0.7 * shade * np.float32([1, 1, 1.1])))


def test_a_plain_wall_in_a_mask_is_given_back_up_to_the_body() -> None:
    plate = np.full_like(PLATE, 0.7) * np.float32([1, 1, 1.1])
    frame = wall_scene(pattern(2, 0.1, 0.4))
    # The mask is right on three sides of the body and takes in a piece of wall on the fourth.
    mask = box(BODY) | box((slice(60, 120), slice(80, 140)))
    taken = shown_ground(frame, plate, soft(mask), NOISE, SIDE)
    wall = mask & ~(soft(box(BODY)) > 0.02)
    assert taken[wall].mean() > 0.9 and taken[box(BODY)].mean() < 0.02


def test_light_is_followed_as_deep_as_masks_take_ground_in() -> None:
    plate = np.full_like(PLATE, 0.7)
    frame = noisy(plate * np.float32([0.96, 0.92, 0.88]))
    deep = box((slice(0, 180), slice(140, 240)))  # a fifth of the picture's side
    found, _ = follow_light(frame, plate, deep, NOISE, 3, 3, PLAIN)
    assert found[60:120, 200:].mean() > 0.8


def test_corners_of_a_mask_go_with_the_ground_beside_them() -> None:
    mask, taken = box(ROUGH).astype(np.float32), np.zeros(SIZE, np.float32)
    taken[30:150, 80:100] = 1
    taken[30, 80:82] = taken[149, 80] = taken[60:62, 80] = 0  # too soft to be told
    alone = box((slice(5, 9), slice(5, 9)))
    rest = without_ground(np.stack([np.maximum(mask, alone)]), taken, SIDE)
    wanted = box((ROUGH[0], slice(100, 170))) | alone
    np.testing.assert_array_equal(rest[0] > 0, wanted)


def test_a_mask_is_free_of_ground_where_none_was_found_near() -> None:
    mask, taken = box((slice(20, 160), slice(20, 220))).astype(np.float32), np.zeros(SIZE)
    taken[60:120, 20:60] = 1
    free = free_of_ground(mask, taken.astype(np.float32), 200.0)
    assert free[80, 30] < 0.01 and free[80, 210] > 0.99
    assert free_of_ground(mask, np.zeros(SIZE, np.float32), 200.0).min() == 1


def test_a_body_like_the_wall_that_is_left_gradually_stays() -> None:
    plate = np.full_like(PLATE, 0.7) * np.float32([1, 1, 1.1])
    x = np.linspace(0, 1, BODY[1].stop - BODY[1].start, dtype=np.float32)
    body = plate.copy()  # the wall's own colour at one side, and darker and darker
    body[:, BODY[1]] *= (1 - 0.5 * x)[:, None]
    frame = noisy(np.where(box(BODY)[..., None], body, plate))
    lit, off = follow_light(frame, plate, soft(box(BODY)) > 0.02, NOISE, 3, 19, PLAIN)
    assert lit[box(BODY)].mean() > 0.03  # it is like it
    assert not ends_at_edges(lit > 0.3, off, box(BODY), 92).any()
    assert shown_ground(frame, plate, soft(box(BODY)), NOISE, SIDE).mean() < 1e-3


@pytest.mark.parametrize(("least", "kept"), [(300, False), (150, False), (50, True)])
def test_the_larger_a_piece_of_wall_the_softer_its_end_may_be(least: float, kept: bool) -> None:
    mask = box(ROUGH)
    there = ~mask | box((slice(30, 90), slice(80, 130)))  # 3000 pixels of the mask
    off = np.full(SIZE, 2.0, np.float32)
    off[30:90, 130:133] = 5  # a quarter of its end is an edge
    off[60:90, 130:133] = 2
    assert ends_at_edges(there, off, mask, least).any() == kept


def test_a_mask_that_a_body_has_left_is_all_wall() -> None:
    plate = np.full_like(PLATE, 0.7) * np.float32([1, 1, 1.1])
    x = np.linspace(0, 1, SIZE[1], dtype=np.float32)[None, :, None]
    frame = noisy(plate * (1 - x * np.float32([0.0, 0.05, 0.15])))
    mask = box((slice(60, 130), slice(160, 240)))  # up to the picture's edge
    taken = shown_ground(frame, plate, soft(mask), NOISE, SIDE)
    assert taken[70:120, 170:230].mean() > 0.9


def test_each_mask_has_its_ground_to_itself() -> None:
    """Masks too far apart to see each other's ground: the same as each alone."""
    frame, plate, edge = seen(pattern(2, 0.3, 0.6)), PLATE, soft(box(ROUGH))
    twice = [np.concatenate([x, x], 1) for x in (frame, plate)]
    none = np.zeros_like(edge)
    alone = shown_ground(*twice, np.concatenate([edge, none], 1), NOISE, SIDE)
    assert alone.sum() > 100
    other = shown_ground(*twice, np.concatenate([none, edge], 1), NOISE, SIDE)
    both = shown_ground(*twice, np.concatenate([edge, edge], 1), NOISE, SIDE)
    np.testing.assert_array_equal(both, alone + other)


def test_boxes_around_pieces_hold_them_all_and_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    for count, margin in ((0, 3), (4, 0), (6, 4), (9, 12), (200, 1)):
        mask = np.zeros((70, 90), bool)
        for y, x in zip(rng.integers(0, 64, count), rng.integers(0, 84, count), strict=True):
            mask[y : y + 3, x : x + 5] = True
        found = boxes_around(mask, margin)
        times = np.zeros(mask.shape, int)
        for part in found:
            times[part.slices] += 1
        wide = cv2.dilate(mask.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8)) > 0
        assert times.max() == (1 if count else 0) and (times[wide] == 1).all()
        assert len(found) <= MOST_PIECES
    assert len(boxes_around(np.eye(40, dtype=bool)[::13], 1)) == 4


def test_the_share_of_a_rim_counts_its_pixels_alone() -> None:
    mask = box(BODY)
    found = np.zeros(SIZE, np.float32)
    found[60:100, 110:130] = 1  # deep inside
    assert share_of_rim(found, mask, 3.0) == 0
    found[BODY[0], 100:103] = 1  # one of the long sides
    around = 90 * 40 - 84 * 34  # pixels
    assert share_of_rim(found, mask, 3.0) == pytest.approx(3 * 90 / around, abs=0.01)
    assert share_of_rim(np.ones(SIZE, np.float32), mask, 3.0) == 1
    assert share_of_rim(found, np.zeros(SIZE, bool), 3.0) == 0


def test_light_that_wavers_around_a_mask_does_not_hold_up_the_search(monkeypatch) -> None:
    blur, calls = ground.coarse_blur, []

    def counted(*args: object) -> np.ndarray:
        calls.append(args)
        return blur(*args)

    monkeypatch.setattr(ground, "coarse_blur", counted)
    strange = np.random.default_rng(6).normal(0, 0.05, PLATE.shape).astype(np.float32)
    frame = np.where(box(ROUGH)[..., None], 0.9, PLATE + strange)
    follow_light(frame, PLATE, soft(box(ROUGH)) > 0.02, NOISE, 3.0, 19.0, PATTERNED)
    assert len(calls) < 3 * (2 + STEPS)

"""Moving objects are found before any camera, outlined without shadows, and kept apart."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import unpack_mask
from omnimatte_cli.camera.flow import warp, warp_mask
from omnimatte_cli.errors import InputError
from omnimatte_cli.segment import methods, motion
from omnimatte_cli.segment.backdrop import _usual, find_motion
from omnimatte_cli.segment.prompts import Box, Point, Prompt
from omnimatte_cli.segment.refine import enlarge_mask, occlusion_order
from omnimatte_cli.segment.tracking import Tracker
from tests.segment_clips import BLUE, GREEN, RED, TWO, Actor, iou, render, walk

pytestmark = pytest.mark.slow


def masks_of(rough: methods.Rough) -> dict[str, np.ndarray]:
    return {n: np.stack([unpack_mask(m, rough.size) for m in v]) for n, v in rough.masks.items()}


def best(found: dict[str, np.ndarray], truth: np.ndarray) -> tuple[float, str]:
    return max((iou(m, truth), n) for n, m in found.items())


def test_two_objects_with_shadows_noise_and_drifting_exposure() -> None:
    frames, truth = render(TWO, 30)
    rough = methods.by_motion(frames, [], 4, 0)
    found = masks_of(rough)
    assert list(found) == ["object1", "object2"]
    near, far = best(found, truth["near"]), best(found, truth["far"])
    assert near[0] >= 0.85 and far[0] >= 0.85, (near, far)
    assert near[1] != far[1]
    for name, values in rough.confidence.items():
        assert len(values) == 30 and all(0 <= c <= 1 for c in values), name
        assert np.mean(values) > 0.5


def test_the_shadow_is_not_in_the_mask() -> None:
    actors = [Actor("one", GREEN, walk(50, 80, 7), seed=5)]
    lit, truth = render(actors, 24, shadow=0)
    shaded, _ = render(actors, 24, shadow=0.45)
    found = masks_of(methods.by_motion(shaded, [], 4, 0))["object1"]
    # Where the shadow falls and the actor is not.
    shadow = (np.abs(lit.astype(int) - shaded).max(3) > 25) & ~truth["one"]
    assert shadow.sum() > 5000
    assert (found & shadow).sum() < 0.1 * shadow.sum()
    assert iou(found, truth["one"]) >= 0.85


def test_a_person_in_pieces_stays_one_object() -> None:
    frames, truth = render([Actor("one", RED, walk(60, 90, 7), (18, 40), 6)], 24)
    plate = np.median(frames, axis=0).astype(np.uint8)
    # A belt that looks exactly like the background parts the body.
    for t in range(24):
        y = 90
        frames[t, y - 3 : y + 3] = plate[y - 3 : y + 3]
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    assert len(found) == 1
    assert iou(found["object1"], truth["one"]) > 0.75


def test_crossing_objects_keep_their_identity() -> None:
    actors = [
        Actor("back", BLUE, walk(50, 82, 6), (16, 34), 7),
        Actor("front", RED, walk(260, 96, -6), (16, 36), 8),
    ]
    frames, truth = render(actors, 36)
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    back, front = best(found, truth["back"]), best(found, truth["front"])
    assert back[1] != front[1]
    assert front[0] >= 0.85 and back[0] >= 0.8, (front, back)


def test_an_object_that_leaves_has_empty_masks() -> None:
    actors = [
        Actor("first", RED, lambda t: (200 + 9 * t, 90) if t < 20 else None, seed=9),
        Actor("second", BLUE, lambda t: (-20 + 9 * (t - 20), 90) if t >= 20 else None, seed=10),
    ]
    frames, truth = render(actors, 40)
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    assert len(found) == 2
    for name in ("first", "second"):
        score, which = best(found, truth[name])
        assert score >= 0.85
        away = ~truth[name].any((1, 2))
        assert not found[which][away].any()


def test_only_the_most_prominent_objects_are_kept() -> None:
    frames, truth = render(TWO, 24)
    rough = methods.by_motion(frames, [], 1, 0)
    assert best(masks_of(rough), truth["near"])[0] >= 0.85
    assert len(rough.masks) == 1 and "2 things move" in rough.notes[0]


def test_a_point_or_a_box_selects_and_names_a_moving_object() -> None:
    frames, truth = render(TWO, 24)
    prompts = [
        Prompt("walker", 3, (Point(40 + 21, 60),)),
        Prompt("lady", 2, box=Box(248, 84, 284, 156)),
    ]
    found = masks_of(methods.by_motion(frames, prompts, 4, 0))
    assert list(found) == ["walker", "lady"]
    assert iou(found["walker"], truth["far"]) >= 0.85
    assert iou(found["lady"], truth["near"]) >= 0.85


def test_a_prompt_where_nothing_moves_is_cut_out_by_colours() -> None:
    still = Actor("still", RED, lambda t: (90, 90), (24, 40), 11)
    frames, truth = render([still, Actor("mover", BLUE, walk(180, 60, 4), seed=12)], 12)
    prompts = [Prompt("statue", 4, box=Box(62, 46, 118, 134))]
    rough = methods.by_motion(frames, prompts, 4, 0)
    assert iou(masks_of(rough)["statue"], truth["still"]) >= 0.85
    assert not rough.notes
    point = [Prompt("statue", 4, (Point(90, 90), Point(90, 70), Point(140, 90, False)))]
    again = masks_of(methods.by_motion(frames, point, 4, 0))["statue"]
    assert iou(again, truth["still"]) >= 0.7


@pytest.mark.parametrize("pan", [0.4, 3.0, 12.0])
def test_objects_are_found_before_a_moving_camera(pan: float) -> None:
    frames, truth = render(TWO, 24, pan=pan)
    assert find_motion(frames).moving
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    near, far = best(found, truth["near"]), best(found, truth["far"])
    assert near[0] >= 0.8 and far[0] >= 0.8 and near[1] != far[1], (near, far)


def test_what_the_camera_follows_moves_over_the_scene() -> None:
    """It stays in the middle of the picture, and something else stays on its spot of the scene."""
    frames, truth = render(
        [
            Actor("runner", RED, lambda t: (160, 90), (18, 36), 5),
            Actor("post", BLUE, lambda t: (250 - 6 * t, 60), (12, 30), 6),
        ],
        24,
        pan=6.0,
    )
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    assert list(found) == ["object1"]
    assert iou(found["object1"], truth["runner"]) >= 0.8


def test_shots_on_both_sides_of_a_cut_do_not_share_objects_or_plate() -> None:
    first, left = render([TWO[0]], 14)
    second, right = render([TWO[1]], 14, seed=40)
    found = masks_of(methods.by_motion(np.concatenate([first, second]), [], 4, 0))
    nothing = np.zeros_like(left["far"])
    for truth in (np.concatenate([left["far"], nothing]), np.concatenate([nothing, right["near"]])):
        assert best(found, truth)[0] >= 0.8


def test_a_static_camera_is_recognised_behind_large_movers() -> None:
    big = Actor("bus", GREEN, walk(0, 110, 6), (110, 55), 13)
    frames, _ = render([big], 40)
    assert not find_motion(frames).moving


def test_objects_that_touch_when_the_clip_begins_are_two_from_the_start() -> None:
    frames, truth = render(
        [
            Actor("left", BLUE, lambda t: (150 - 7 * max(t - 4, 0), 90), (16, 34), 3),
            Actor("right", RED, lambda t: (176 + 7 * max(t - 4, 0), 94), (16, 34), 4),
        ],
        24,
    )
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    left, right = best(found, truth["left"]), best(found, truth["right"])
    assert left[1] != right[1]
    for (_, name), actor in ((left, "left"), (right, "right")):
        assert iou(found[name][:5], truth[actor][:5]) >= 0.7
        assert iou(found[name], truth[actor]) >= 0.8


@pytest.mark.parametrize("pan", [0.0, 4.0])
def test_what_rests_most_of_the_time_is_found_there_and_leaves_no_ghost(pan: float) -> None:
    """For 20 of 32 frames it stands on one spot of the scene, which the median takes for ground."""

    def at(t: int) -> tuple[float, float]:
        return 120 - pan * t + 14 * max(t - 20, 0), 90

    frames, truth = render([Actor("idler", RED, at, (18, 36), 7)], 32, pan=pan)
    found = masks_of(methods.by_motion(frames, [], 4, 0))
    score, name = best(found, truth["idler"])
    assert score >= 0.75
    assert found[name][:20].any((1, 2)).all()
    spot = truth["idler"][10]
    if pan == 0:  # once it has left, nothing is found where it stood
        assert not (found[name][29] & spot).any()


def test_nothing_moving_is_an_error() -> None:
    frames, _ = render([], 6)
    with pytest.raises(InputError, match=r"Nothing was found.*--point"):
        methods.by_motion(frames, [], 4, 0)


def test_exposure_is_matched_where_nothing_moves() -> None:
    frames, truth = render(TWO, 2, drift=0, noise=0, shadow=0)
    plate, _ = render([], 1, drift=0, noise=0)
    darker = np.clip(frames[0] * np.array([0.85, 0.9, 0.95]) + 6, 0, 255).astype(np.uint8)
    matched = motion.match_exposure(darker, plate[0].astype(np.float32))
    free = ~(truth["near"][0] | truth["far"][0])
    assert np.abs(matched - plate[0])[free].mean() < 1.5


def test_temporal_rank_agrees_with_numpy() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 5, 7, 3), np.uint8)
    assert (motion.temporal_rank(frames) == np.median(frames, axis=0)).all()


def test_enlarged_masks_follow_the_picture() -> None:
    frame = np.full((360, 480, 3), 200, np.uint8)
    truth = np.zeros((360, 480), np.uint8)
    cv2.circle(truth, (240, 180), 90, 1, -1)
    frame[truth > 0] = 60
    small = cv2.resize(truth, (120, 90), interpolation=cv2.INTER_AREA) > 0
    blocky = cv2.resize(small.astype(np.uint8), (480, 360), interpolation=cv2.INTER_NEAREST) > 0
    enlarged = enlarge_mask(small, frame)
    assert iou(enlarged, truth > 0) > max(iou(blocky, truth > 0), 0.97)
    assert not enlarge_mask(np.zeros((90, 120), bool), frame).any()


def test_the_lower_object_is_nearer() -> None:
    from omnimatte_cli.arrays import pack_mask

    def box(top: int, bottom: int) -> bytes:
        mask = np.zeros((60, 80), bool)
        mask[top:bottom, 10:30] = True
        return pack_mask(mask)

    # The first object walks past the second towards the viewer.
    first = [box(0, 20 + t) for t in range(30)]
    second = [box(5, 35)] * 30
    order = occlusion_order([first, second], (60, 80))
    assert order.shape == (30, 2)
    assert order[0].tolist() == [0, 1] and order[-1].tolist() == [1, 0]
    # Once it has passed, it stays there: no flicker.
    assert (np.diff(order[:, 0]) != 0).sum() == 1


def test_a_piece_of_two_parts_goes_whole_to_the_object_that_swallows_it() -> None:
    """Its upper part alone is still its own; the lower one has grown together with the object."""
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    apart, joined = np.zeros((2, 96, 96), bool)
    apart[50:90, 20:60] = apart[4:36, 20:30] = True
    joined[50:90, 20:60] = joined[4:14, 20:30] = joined[26:50, 20:30] = True
    tracker = Tracker((96, 96))
    tracker.advance(picture, apart)
    assert len(tracker.tracks) == 2
    tracker.advance(picture, joined)
    assert len(tracker.tracks) == 1
    (mask,) = tracker.current.values()
    assert np.array_equal(mask, joined)


@pytest.mark.parametrize("reach", [0.4, 6.0, 60.0])
def test_a_mask_is_warped_where_it_can_come_to_alone(reach: float) -> None:
    """As if the whole picture were warped, with flows of all lengths, at the picture's edge too."""
    rng = np.random.default_rng(round(10 * reach))
    flow = cv2.resize(rng.normal(0, reach, (6, 8, 2)).astype(np.float32), (97, 64))
    for box in ((0, 9, 0, 12), (30, 40, 50, 75), (55, 64, 80, 97), (5, 5, 5, 5)):
        mask = np.zeros((64, 97), bool)
        mask[box[0] : box[1], box[2] : box[3]] = True
        whole = warp(mask.astype(np.float32), flow, cv2.BORDER_CONSTANT) >= 0.5
        np.testing.assert_array_equal(warp_mask(mask, flow), whole)


def test_what_a_mover_does_to_a_place_is_not_its_noise() -> None:
    """What varies in one place alone is a thing that stands there at times; water is the scene."""
    rng = np.random.default_rng(0)
    variation = rng.uniform(0.004, 0.008, (180, 320)).astype(np.float32)
    variation[60:110, 40:80] = 0.2  # a mover
    variation[:, 200:] = rng.uniform(0.04, 0.06, (180, 120))  # water
    usual = _usual(variation, np.ones(variation.shape, bool))
    assert usual[60:110, 40:80].max() < 0.02
    assert (usual[:, 230:] >= variation[:, 230:]).all()

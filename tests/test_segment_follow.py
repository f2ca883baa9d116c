"""Objects that were clicked on stay apart, stay found, and are said to be lost where they are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import pack_mask, unpack_mask
from omnimatte_cli.segment import methods
from omnimatte_cli.segment.doubts import doubt_of_first, doubts_of
from omnimatte_cli.segment.prompts import Box, Point, Prompt
from omnimatte_cli.segment.seed import First, _is_two
from omnimatte_cli.segment.track import Track
from tests.segment_clips import BLUE, GREEN, RED, Actor, iou, render, walk

pytestmark = pytest.mark.slow

CLOSE = [  # side by side, touching in every frame
    Actor("left", BLUE, walk(60, 90, 5), (18, 36), 3),
    Actor("right", RED, walk(90, 96, 5), (18, 36), 4),
]
CROSSING = [
    Actor("left", BLUE, walk(90, 88, 7), (14, 30), 3),
    Actor("right", RED, walk(230, 96, -7), (16, 34), 4),
]
SLOW = [
    Actor("snail", GREEN, lambda t: (90 + 0.35 * t, 90), (12, 18), 3),
    Actor("runner", RED, walk(20, 120, 7), (14, 30), 4),
]


def clicked(frames: np.ndarray, points: dict[str, tuple[int, float, float]]) -> methods.Rough:
    """Masks from one click an object: frame, x, y."""
    prompts = [Prompt(n, t, (Point(x, y),)) for n, (t, x, y) in points.items()]
    return methods.by_motion(frames, prompts, 4, 0)


def masks_of(rough: methods.Rough, name: str) -> np.ndarray:
    return np.stack([unpack_mask(m, rough.size) for m in rough.masks[name]])


def each(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """IoU in every frame, (T,)."""
    return np.array([iou(a, b) for a, b in zip(found, truth, strict=True)])


@pytest.mark.parametrize("pan", [0.0, 4.0])
def test_objects_that_touch_all_the_time_stay_apart(pan: float) -> None:
    frames, truth = render(CLOSE, 24, pan=pan)
    rough = clicked(frames, {"left": (0, 54, 90), "right": (0, 96, 96)})
    for name, right in truth.items():
        assert each(masks_of(rough, name), right).min() >= 0.85, name
    assert not (masks_of(rough, "left") & masks_of(rough, "right")).any()


def test_objects_keep_their_names_when_one_passes_behind_the_other() -> None:
    frames, truth = render(CROSSING, 22, pan=3)
    rough = clicked(frames, {"left": (0, 90, 88), "right": (0, 230, 96)})
    for name, right in truth.items():
        found = each(masks_of(rough, name), right)
        assert found[:6].min() >= 0.7 and found[-5:].min() >= 0.85, (name, found.round(2))


@pytest.mark.parametrize("pan", [0.0, 3.0])
def test_an_object_that_hardly_moves_stays_found(pan: float) -> None:
    frames, truth = render(SLOW, 24, pan=pan)
    rough = clicked(frames, {"snail": (12, 94, 90), "runner": (12, 104, 120)})
    for name, right in truth.items():
        there = right.any((1, 2))
        found = each(masks_of(rough, name)[there], right[there])
        # The runner hides most of the snail in between.
        assert found.min() >= 0.55 and found.mean() >= 0.85, (name, found.round(2))


def test_one_of_two_that_touch_is_not_both() -> None:
    frames, truth = render(CLOSE, 12, pan=2)
    keys = {"left": {0: truth["left"][0]}}
    rough = methods.by_kept(frames, keys, None, 1, 0)
    found = masks_of(rough, "left")
    assert each(found, truth["left"]).min() >= 0.75
    assert (found & truth["right"]).sum() < 0.1 * truth["right"].sum()


def test_the_same_clicks_give_the_same_masks() -> None:
    frames, _ = render(CLOSE, 6)
    points = {"left": (0, 54.0, 90.0), "right": (0, 96.0, 96.0)}
    assert clicked(frames, points).masks == clicked(frames, points).masks


def test_a_click_on_bare_ground_is_said_and_one_on_an_object_is_not() -> None:
    frames, _ = render(CLOSE, 10)
    rough = clicked(frames, {"left": (0, 54, 90), "hill": (2, 250, 50)})
    assert len(rough.notes) == 1, rough.notes
    assert "cut out for 'hill' in frame 2 is doubtful" in rough.notes[0]
    assert "--point hill:2:X,Y" in rough.notes[0]


def test_first_masks_are_doubted_where_little_speaks_for_them() -> None:
    def said(size: int, *terms: float) -> str | None:
        mask = np.zeros((100, 100), bool)
        mask[:size, :size] = True
        return doubt_of_first("dog", 7, First(mask, *terms))

    assert said(20, 0.8, 0.1, 0.0) is None
    assert said(20, 0.1, 0.1, 0.7) is None
    assert "colours are those of the ground" in str(said(20, 0.1, 0.1, 0.1))
    assert "tiny" in str(said(1, 0.8, 0.9, 0.9))
    assert "covers 49% of the picture" in str(said(70, 0.8, 0.9, 0.9))


def test_a_first_mask_that_holds_two_movers_is_said() -> None:
    """Two that walked apart at other times: a click between them when they touch took both in."""
    size = (90, 160)
    left, right = (np.zeros(size, bool) for _ in range(2))
    left[30:60, 40:60], right[30:60, 62:82] = True, True
    tracks = [Track(i, size) for i in (0, 1)]
    for track, mask in zip(tracks, (left, right), strict=True):
        track.put(4, mask, 0.1)
    assert _is_two(left | right, 4, tracks)
    assert not _is_two(left, 4, tracks) and not _is_two(left | right, 5, tracks)
    rim = left.copy()
    rim[30:60, 60:66] = True  # a little of the neighbour's rim
    assert not _is_two(rim, 4, tracks)
    said = doubt_of_first("dog", 7, First(left | right, 0.9, 0.9, 0.9, True))
    assert said and "two things that move" in said and "neighbour" in said


def test_a_box_holds_what_differs_in_it_and_not_its_middle_alone() -> None:
    """A horseshoe: the middle of its box is ground."""
    frames, _ = render([], 8)
    shoe = np.zeros(frames.shape[1:3], np.uint8)
    cv2.ellipse(shoe, (160, 90), (40, 40), 0, 180, 360, 1, 18)
    frames[:, shoe > 0] = (180, 60, 50)
    rows, columns = np.nonzero(shoe)
    box = Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    rough = methods.by_motion(frames, [Prompt("shoe", 0, (), box)], 4, 0)
    assert iou(unpack_mask(rough.masks["shoe"][0], rough.size), shoe > 0) >= 0.85


def test_what_is_pointed_at_in_another_frame_is_not_taken_for_a_part() -> None:
    """One coat of one colour before the other, and only one of them is pointed at in each frame."""
    pair = [
        Actor("back", RED, lambda t: (160 + 2 * t, 84), (16, 34), 3),
        Actor("front", RED, lambda t: (56 + 11 * t, 98), (18, 36), 3),
    ]
    frames, truth = render(pair, 14)
    rough = clicked(frames, {"front": (0, 56, 104), "back": (9, 184, 70)})
    for name in truth:
        assert each(masks_of(rough, name), truth[name]).mean() >= 0.7, name


def test_what_vanishes_is_said_to_be_lost() -> None:
    # It stands in the middle of the picture, and from frame 9 on it does not.
    gone = Actor("ghost", RED, lambda t: (150, 90) if t < 9 else None, (18, 34), 4)
    frames, truth = render([gone, Actor("runner", BLUE, walk(20, 40, 6), (10, 20), 3)], 18)
    rough = clicked(frames, {"ghost": (0, 150, 90)})
    found = masks_of(rough, "ghost")
    assert each(found[:9], truth["ghost"][:9]).min() >= 0.7
    assert not found[12:].any()
    said = doubts_of(rough.masks, rough.confidence, rough.size, 100)
    assert len(said) == 1 and "'ghost' is not found in frames 1" in said[0], said
    assert "--point ghost:1" in said[0] and "to 117" in said[0]


SIZE = (20, 40)


def box(x: int) -> bytes:
    mask = np.zeros(SIZE, bool)
    mask[6:14, max(x, 0) : max(x + 8, 0)] = True
    return pack_mask(mask)


def test_only_what_can_be_wrong_is_said() -> None:
    def said(masks: dict[str, Sequence[int | None]], sure: dict[str, list[float]]) -> list[str]:
        packed = {n: [box(-9 if x is None else x) for x in v] for n, v in masks.items()}
        return doubts_of(packed, sure, SIZE, 0)

    leaves = {"a": [30, 32, None, None, None, None]}
    assert not said(leaves, {"a": [1, 1, 0, 0, 0, 0]})
    vanishes = {"a": [10, 12, None, None, None, None]}
    assert "'a' is not found in frames 2 to 5" in said(vanishes, {"a": [1, 1, 0, 0, 0, 0]})[0]
    hides = {"a": [8, 10, None, None, None, 24], "b": [16] * 6}
    assert not said(hides, {"a": [1, 1, 0, 0, 0, 0.6], "b": [1.0] * 6})
    stays = {"a": [10] * 6}
    assert not said(stays, {"a": [1, 0.4, 0.9, 0.3, 0.3, 0.9]})
    assert "doubtful in frames 2 to 5" in said(stays, {"a": [1, 0.9, 0.3, 0.3, 0.3, 0.4]})[0]

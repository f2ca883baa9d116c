"""Objects that nobody pointed at are whole, apart and found in every frame, by the whole clip."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import unpack_mask
from omnimatte_cli.segment import methods, motion
from omnimatte_cli.segment.clean import away, clean_frames
from omnimatte_cli.segment.ghosts import ghosts
from omnimatte_cli.segment.track import Track
from tests.segment_clips import BLUE, RED, SIZE, Actor, iou, render, texture, walk


def found_in(frames: np.ndarray) -> list[np.ndarray]:
    """Masks of what moves, (T, H, W) bool each."""
    rough = methods.by_motion(frames, [], 4, 0)
    return [np.stack([unpack_mask(m, rough.size) for m in v]) for v in rough.masks.values()]


def each(found: list[np.ndarray], truth: np.ndarray) -> np.ndarray:
    """IoU in every frame with the object that fits best, where it is there."""
    best = max(found, key=lambda m: iou(m, truth))
    there = truth.any((1, 2))
    return np.array([iou(a, b) for a, b in zip(best[there], truth[there], strict=True)])


@pytest.mark.slow
def test_two_that_cross_are_themselves_in_every_frame() -> None:
    frames, truth = render(
        [
            Actor("back", BLUE, walk(50, 82, 6), (16, 34), 7),
            Actor("front", RED, walk(260, 96, -6), (16, 36), 8),
        ],
        36,
    )
    found = found_in(frames)
    assert each(found, truth["back"]).min() >= 0.85
    assert each(found, truth["front"]).min() >= 0.85


@pytest.mark.slow
def test_two_of_like_colours_that_touch_for_the_first_third_are_two() -> None:
    frames, truth = render(
        [
            Actor("left", BLUE, lambda t: (120 + 1.5 * t - 5 * max(t - 13, 0), 90), (16, 34), 3),
            Actor("right", (80, 80, 170), lambda t: (146 + 1.5 * t + 2 * max(t - 13, 0), 98),
                  (12, 28), 4),
        ],
        36,
    )  # fmt: skip
    found = found_in(frames)
    assert len(found) == 2
    assert each(found, truth["left"]).min() >= 0.65
    assert each(found, truth["right"]).min() >= 0.75


@pytest.mark.slow
def test_a_slow_object_does_not_drag_what_it_hid() -> None:
    """The median shows it in the middle of its way."""
    frames, truth = render([Actor("slow", BLUE, walk(60, 110, 2), (16, 36), 3)], 30)
    assert each(found_in(frames), truth["slow"]).min() >= 0.8


@pytest.mark.slow
def test_a_small_object_that_is_faster_than_it_is_large_is_one_object() -> None:
    def thrown(t: int) -> tuple[float, float] | None:
        return (20 + 13 * t, 50 - 2.5 * t + 0.12 * t**2) if t < 24 else None

    frames, truth = render(
        [
            Actor("man", BLUE, walk(210, 110, 3), (16, 36), 3),
            Actor("ball", (230, 200, 40), thrown, (4, 4), 9),
        ],
        28,
        shadow=0.3,
    )
    found = each(found_in(frames), truth["ball"])
    assert (found > 0.5).all() and found.mean() >= 0.85, found.round(2)


@pytest.mark.slow
@pytest.mark.parametrize(("grey", "ground", "radius"), [(110, 165, 26), (90, 140, 34)])
def test_a_plain_ball_before_plain_ground_is_whole(grey: int, ground: int, radius: int) -> None:
    """But for its rim it looks as a shadow does."""
    frames, truth = ball(grey, ground, radius)
    assert each(found_in(frames), truth).min() >= 0.9


def ball(grey: int, ground: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) uint8 of a ball of one grey, and its mask (T, H, W) bool."""
    rng = np.random.default_rng(0)
    wall = texture(SIZE, 0, 5) + ground
    frames, masks = [], []
    for t in range(24):
        disc = np.zeros(SIZE, np.uint8)
        cv2.circle(disc, (40 + 7 * t, 100), radius, 1, -1)
        picture = np.where(disc[..., None] > 0, np.float32(grey), wall)
        picture = cv2.GaussianBlur(picture, (0, 0), 0.6) + rng.normal(0, 2, picture.shape)
        frames.append(np.clip(picture, 0, 255).astype(np.uint8))
        masks.append(disc > 0)
    return np.stack(frames), np.stack(masks)


def test_a_soft_shadow_alone_is_no_object() -> None:
    wall = (texture(SIZE, 0, 5) + 165).clip(0, 255)
    dark = np.zeros(SIZE, np.float32)
    cv2.circle(dark, (150, 100), 26, 1.0, -1)
    shaded = wall * (1 - 0.4 * cv2.GaussianBlur(dark, (0, 0), 5)[..., None])
    plate = wall.round().astype(np.uint8)
    scene = motion.scene_of(plate, np.full(SIZE, 2, np.float32))
    assert not motion.foreground(shaded.round().astype(np.uint8), scene).any()
    hard = wall * (1 - 0.4 * dark[..., None])
    assert iou(motion.foreground(hard.round().astype(np.uint8), scene), dark > 0) > 0.9


def test_the_plate_shows_what_is_seen_before_and_after() -> None:
    frames, _ = render([], 30, drift=0)
    slow = frames.copy()
    slow[8:25, 60:120, 100:150] = (190, 60, 50)  # it stands there for more than half of the clip
    plate = motion.study_scene(slow).plate
    assert np.abs(plate - frames[0])[60:120, 100:150].mean() < 6
    leaves = frames.copy()
    leaves[:17, 60:120, 100:150] = (190, 60, 50)  # what was never seen before is left as it is
    assert np.abs(motion.study_scene(leaves).plate - (190, 60, 50))[70:110, 110:140].mean() < 3


def test_a_ghost_beside_a_thing_that_is_there_is_a_ghost() -> None:
    ground = np.full((*SIZE, 3), 150, np.uint8)
    frame, plate = ground.copy(), ground.copy()
    frame[60:120, 100:140] = (50, 70, 190)
    plate[60:120, 140:180] = (190, 60, 50)
    differs = np.zeros(SIZE, bool)
    differs[60:120, 100:180] = True
    found = ghosts(differs, frame, plate.astype(np.float32))
    assert found[70:110, 150:175].mean() > 0.95 and found[70:110, 105:130].mean() < 0.05


def track_of(boxes: dict[int, tuple[int, int, int, int]], number: int = 0) -> Track:
    """A track of boxes x, y, w, h by frame."""
    track = Track(number, (60, 100))
    for t, (x, y, w, h) in boxes.items():
        mask = np.zeros(track.size, bool)
        mask[y : y + h, x : x + w] = True
        track.put(t, mask, 0.1)
    return track


def test_frames_are_clean_where_an_object_is_alone_and_of_its_usual_size() -> None:
    one = track_of({t: (20 + t, 20, 10, 20) for t in range(20)})
    one.put(9, one.at(9) & (np.arange(60) < 30)[:, None], 0.1)  # half of it is lost
    assert clean_frames(one, []) == [t for t in range(20) if t != 9]
    # Another walks into it at frame 13.
    other = track_of({t: (80 - 3 * t, 22, 10, 18) for t in range(20)}, 1)
    clean = clean_frames(one, [other])
    assert 5 in clean and not {13, 14, 15} & set(clean)


def test_frames_from_before_two_parted_are_not_clean() -> None:
    host = {t: (20, 20, 24, 20) for t in range(10)} | {t: (20, 20, 12, 20) for t in range(10, 20)}
    guest = {t: (33 + t - 10, 20, 12, 20) for t in range(10, 20)}
    clean = clean_frames(track_of(host), [track_of(guest, 1)])
    assert clean and min(clean) > 10


def test_what_left_at_the_edge_is_away_and_what_was_lost_is_not() -> None:
    leaves = track_of({t: (70 + 4 * t, 20, 12, 20) for t in range(6)})
    assert away(leaves, range(20), 20) == list(range(9, 20))
    lost = track_of({t: (40 + t, 20, 12, 20) for t in range(6)})
    assert away(lost, range(20), 20) == []
    assert away(lost, range(10), 20) == list(range(10, 20))  # of another shot it is no part

"""What a body in front hides is taken from frames in which it was seen, where they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks, Plate, integers
from omnimatte_cli.matte.bodies import by_masks
from omnimatte_cli.matte.box import Box
from omnimatte_cli.matte.compositing import composite, grey
from omnimatte_cli.matte.elsewhere import Clip, references
from omnimatte_cli.matte.kept import bytes_of, kept_within
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.motion import View, likely_shift, similarity
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.plate.estimate import written
from omnimatte_cli.plate.temporal import FramePlate
from omnimatte_cli.progress import Silent

SIZE = (96, 160)
NOISE = np.full(SIZE, 1 / 255, np.float32)
FRAMES, BEHIND, FRONT = 13, 0, 1
SHIFT, TOP, TALL, WIDE = 6, 30, 36, 40  # pixels: of a frame, and the body behind
POLE = np.s_[:, 74:90]
MIDDLE = 7  # the frame in which the pole is before the body's middle


def spots(seed: int, size: tuple[int, int], sigma: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (*size, 3)).astype(np.float32)
    return np.asarray(np.clip(0.5 + 0.8 * cv2.GaussianBlur(noise, (0, 0), sigma), 0, 1))


GROUND = np.clip(0.4 + 0.2 * spots(1, SIZE, 6), 0, 1)


def left(t: int) -> int:
    return 20 + SHIFT * t


def body(t: int) -> np.ndarray:
    """Object behind as it would be seen alone: (H, W, 4) premultiplied."""
    out = np.zeros((*SIZE, 4), np.float32)
    part = np.s_[TOP : TOP + TALL, left(t) : left(t) + WIDE]
    out[part] = np.dstack([spots(2, (TALL, WIDE), 3), np.ones((TALL, WIDE), np.float32)])
    return out


def clip_of(bodies: list[np.ndarray], pole: tuple[slice, slice] = POLE) -> tuple[Clip, Masks]:
    """Bodies (H, W, 4) that pass behind a pole, and their masks."""
    frames, masks = [], np.zeros((2, len(bodies), *SIZE), bool)
    masks[(FRONT, slice(None), *pole)] = True
    for t, layer in enumerate(bodies):
        frame = layer[..., :3] + (1 - layer[..., 3:]) * GROUND
        frame[pole] = 0.1, 0.2, 0.9
        frames.append(integers(frame))
        masks[BEHIND, t] = (layer[..., 3] > 0.5) & ~masks[FRONT, t]
    known = Masks.from_arrays(masks, ["behind", "front"], order_source="order.txt")
    ownership = Ownership(masks.astype(np.float16), np.zeros((1, 1, 1), np.float16))
    count = len(bodies)
    return Clip(np.stack(frames), masks, known.order, ownership, 2, range(count), SIZE), known


def solver(clip: Clip, masks: Masks, looks: bool = True) -> Callable[[int], Layers]:
    """Frame t's layers; looks: whether other frames are looked at."""
    image = integers(GROUND)
    given = (clip, lambda s: (clip.frames[s], image)) if looks else (None, None)
    layers_at = resolver(clip.ownership, masks, NOISE, None, None, *given, cut_out=by_masks)
    return lambda t: layers_at(t, clip.frames[t], image)


BODIES = [body(t) for t in range(FRAMES)]


def test_a_body_that_was_seen_is_seen_behind_a_pole() -> None:
    clip, masks = clip_of(BODIES)
    hidden = np.s_[TOP + 4 : TOP + TALL - 4, 76:88]
    true = BODIES[MIDDLE][hidden]
    found, smooth = (solver(clip, masks, looks)(MIDDLE).rgba[BEHIND] for looks in (True, False))
    off, before = (np.abs(x[hidden][..., :3] - true[..., :3]).mean() for x in (found, smooth))
    assert off < 0.02 and before > 0.05
    assert found[hidden][..., 3].min() > 0.97
    above = np.s_[8 : TOP - 6, 76:88]  # behind the pole, too, but nothing was ever there
    assert found[above][..., 3].max() < 0.03


def test_the_picture_is_the_same() -> None:
    clip, masks = clip_of(BODIES)
    pictures = [
        composite(solver(clip, masks, looks)(MIDDLE).rgba, GROUND, [BEHIND, FRONT])[0]
        for looks in (True, False)
    ]
    assert np.abs(pictures[0] - pictures[1]).max() < 1.5 / 255


def test_what_does_not_agree_is_not_taken() -> None:
    """In the other frames the body has other colours."""
    others = [x * np.float32([0.2, 0.9, 0.3, 1]) for x in BODIES]
    clip, masks = clip_of([*others[:MIDDLE], BODIES[MIDDLE], *others[MIDDLE + 1 :]])
    found, smooth = (solver(clip, masks, looks)(MIDDLE).rgba for looks in (True, False))
    np.testing.assert_array_equal(found, smooth)


def test_a_sliver_tells_no_motion() -> None:
    clip, _ = clip_of(BODIES)
    assert references(clip)(BEHIND, MIDDLE)
    wide, _ = clip_of(BODIES, np.s_[:, 70:110])  # where 28 of its 40 columns are hidden
    assert not references(wide)(BEHIND, MIDDLE)


def test_where_nothing_is_before_another_nothing_is_looked_for() -> None:
    clip, _ = clip_of(BODIES)
    find = references(clip)
    assert not find(FRONT, MIDDLE)
    assert not find(BEHIND, 0)  # which is not at the pole yet


def test_layers_do_not_depend_on_what_was_asked_before() -> None:
    clip, masks = clip_of(BODIES)
    solve = solver(clip, masks)
    for t in (3, 9, 8, 4, 11):
        solve(t)
    again, fresh = solve(MIDDLE), solver(clip, masks)(MIDDLE)
    np.testing.assert_array_equal(again.rgba, fresh.rgba)


def test_only_frames_that_are_kept_are_looked_at() -> None:
    clip, _ = clip_of(BODIES)
    some = {0, 4, 8, 12}
    found = references(replace(clip, kept=some))(BEHIND, MIDDLE)
    assert found and {x.frame for x in found} <= some


def test_a_similarity_is_found_from_half_of_an_object() -> None:
    true = np.array([[1.06, -0.04, 9.0], [0.04, 1.06, -6.0]])
    there = body(3)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    here = cv2.warpAffine(there, true, SIZE[::-1], flags=how)
    known = np.ones(SIZE, np.float32)
    known[:, 46:] = 0
    views = View(here * grey(known)[..., :1], known), View(there, np.ones(SIZE, np.float32))
    found = similarity(*views, np.column_stack([np.eye(2), likely_shift(*views)]))
    assert found is not None
    corners = np.array([[28, 30, 1], [46, 30, 1], [28, 60, 1], [46, 60, 1]], float)
    assert np.abs(corners @ (found - true).T).max() < 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_shifts_are_found_to_both_sides(sign: int) -> None:
    views = [View(body(t), np.ones(SIZE, np.float32)) for t in (4, 4 + 3 * sign)]
    np.testing.assert_array_equal(likely_shift(*views), [sign * 3 * SHIFT, 0])


def test_motions_of_working_pixels_are_enlarged() -> None:
    clip, _ = clip_of(BODIES)
    large = replace(clip, size=(4 * SIZE[0], 4 * SIZE[1]))
    motion = np.array([[1.0, 0, 3.0], [0, 1.0, -2.0]])
    np.testing.assert_allclose(large.enlarged(motion), [[1, 0, 12], [0, 1, -8]], atol=1e-9)
    twice = large.enlarged(np.array([[2.0, 0, 0], [0, 2.0, 0]]))
    # The picture's corner, half a working pixel off what is enlarged about, moves by as much.
    np.testing.assert_allclose(twice @ [-0.5, -0.5, 1], [-2.5, -2.5], atol=1e-9)


def test_plates_of_single_frames_are_read_again(tmp_path: Path) -> None:
    pictures = [integers(np.clip(GROUND + 0.05 * t, 0, 1)) for t in range(3)]
    shown = np.ones(SIZE, bool)
    still = np.zeros(SIZE, np.float32)
    plates = (FramePlate(x, still, shown, still) for x in pictures)
    plate = written(plates, SIZE, tmp_path / "plates", (5, 6, 7), Silent())
    for t in (2, 0, 1):
        np.testing.assert_array_equal(plate.at(t), pictures[t])
    fixed = Plate(pictures[1], shown)
    np.testing.assert_array_equal(fixed.at(7), pictures[1])
    assert Plate(pictures[1], shown, lambda: iter(pictures)).at(0) is None


def test_what_two_boxes_share_is_empty_where_they_are_apart() -> None:
    box = Box(slice(2, 9), slice(3, 8))
    assert box.shared(Box(slice(5, 20), slice(0, 6))) == Box(slice(5, 9), slice(3, 6))
    assert not np.zeros(SIZE)[box.shared(Box(slice(40, 50), slice(0, 6))).slices].size


def test_small_results_are_kept_and_large_ones_in_small_number() -> None:
    asked: list[tuple[int, int]] = []

    def make(i: int, size: int) -> tuple[int, dict[str, np.ndarray]]:
        asked.append((i, size))
        return i, {"a": np.zeros(size, np.uint8)}

    keep = kept_within(1000, 2, make)
    for _ in range(2):
        assert [keep(i, 100)[0] for i in range(9)] == list(range(9))
    assert len(asked) == 9  # 900 bytes
    keep(9, 300)  # one of 300 more: the two oldest go
    assert keep(2, 100)[0] == 2 and len(asked) == 10
    assert keep(0, 100)[0] == 0 and len(asked) == 11
    for _ in range(2):  # each larger than the budget: two are kept nevertheless
        assert [keep(i, 5000)[0] for i in (20, 21)] == [20, 21]
    assert len(asked) == 13


def test_bytes_are_counted_wherever_arrays_are() -> None:
    @dataclass
    class Pair:
        first: np.ndarray
        second: tuple[np.ndarray | None, list[np.ndarray]]

    four = np.zeros(4, np.float32)
    assert bytes_of((Pair(four, (None, [four])), {1: four}, "text")) == 48

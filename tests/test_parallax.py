"""What parallax made differ is ground: other frames show it. Shadows go along with their object."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.align import Aligner
from omnimatte_cli.plate.align import Shot as Prepared
from omnimatte_cli.plate.estimate import grown_array, owner_pixels
from omnimatte_cli.plate.parallax import AROUND, ground_in_parallax
from omnimatte_cli.shot import Shot
from tests.moving_clips import plane

SIZE, COUNT = (96, 168), 24
STEP = 2  # pixels a frame, by which the camera pans over the wall


@dataclass(frozen=True)
class Street:
    """A wall, a post before it, and somebody with a shadow. All (COUNT, *SIZE), bool but frames."""

    frames: np.ndarray
    walker: np.ndarray
    shadow: np.ndarray
    post: np.ndarray
    camera: Camera

    @property
    def owned(self) -> np.ndarray:
        return self.shadow | self.post

    def ground(self, t: int) -> np.ndarray:
        hidden = grown_array(self.walker[None])
        weights = self.owned[None].astype(np.float16)
        owners = Ownership(weights, np.full((1, 1, 1), 1e-3, np.float16))
        find = ground_in_parallax(
            self.frames, self.camera, self.walker[None], lambda t: hidden[t], owners
        )
        return find(t, self.owned[t])


def film(walks: float = 5.0) -> Street:
    """walks: pixels a frame over the wall, of the one who walks."""
    h, w = SIZE
    rng = np.random.default_rng(4)
    wall, boards = plane(3), plane(8)
    frames = np.empty((COUNT, *SIZE, 3), np.uint8)
    walker, shadow, post = (np.zeros((COUNT, *SIZE), bool) for _ in range(3))
    for t in range(COUNT):
        view = wall[300 : 300 + h, 300 + STEP * t : 300 + STEP * t + w].astype(np.float32)
        left = 100 - round(1.25 * STEP * (t - COUNT // 2))  # nearer than the wall
        post[t, 8:88, left : left + 10] = True
        view[8:88, left : left + 10] = boards[8:88, 500:510]
        at = round(84 + (walks - STEP) * (t - COUNT // 2))
        columns = slice(max(at - 6, 0), max(at + 6, 0)), slice(max(at - 20, 0), max(at - 6, 0))
        shadow[t, 50:74, columns[1]] = True
        view[50:74, columns[1]] *= 0.6
        walker[t, 30:74, columns[0]] = True
        view[30:74, columns[0]] = (200, 60, 40)
        grain = rng.normal(0, 1.5, view.shape)
        frames[t] = np.clip(view + grain, 0, 255).round()
    moves = np.tile(np.eye(3), (COUNT, 1, 1))
    moves[:, 0, 2] = STEP * np.arange(COUNT)
    post &= ~walker & ~shadow
    return Street(frames, walker, shadow & ~walker, post, Camera(moves, SIZE, shift=STEP))


@pytest.fixture(scope="module")
def street() -> Street:
    return film()


def test_a_post_is_ground_and_a_shadow_is_not(street: Street) -> None:
    kept, given = [], []
    for t in range(6, COUNT - 6):
        found = street.ground(t)
        assert not (found & ~street.owned[t]).any()
        if street.post[t].sum() > 400:
            given.append(found[street.post[t]].mean())
        if street.shadow[t].sum() > 100:
            kept.append(1 - found[street.shadow[t]].mean())
    assert len(given) > 8 and np.mean(given) > 0.7, given
    assert len(kept) > 5 and np.mean(kept) > 0.97, kept


def test_who_hardly_moves_over_the_ground_tells_nothing() -> None:
    still = film(walks=0.3)
    assert not any(still.ground(t).any() for t in range(4, COUNT, 4))


def test_before_a_camera_that_stands_still_nothing_is_given_back(street: Street) -> None:
    still = Street(
        street.frames, street.walker, street.shadow, street.post, Camera.static(COUNT, SIZE)
    )
    assert not still.ground(12).any()


def test_what_is_given_back_is_no_longer_left_out_of_the_plate(street: Street) -> None:
    large = tuple(2 * n for n in SIZE)
    masks = np.stack([cv2.resize(m.astype(np.uint8), large[::-1]) > 0 for m in street.walker])[None]
    shot = Shot(
        Fraction(12),
        street.frames,
        Masks.from_arrays(masks, ["walker"]),
        street.walker[None],
        FrameSamples.of(street.frames),
        lambda: iter(street.frames),
        street.camera.scaled(large),
    )
    owners = Ownership(street.owned[None].astype(np.float16), np.full((1, 1, 1), 1e-3, np.float16))
    found = owner_pixels(shot, street.camera.scaled(large), owners, large)(12)
    small = cv2.resize(found.astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_NEAREST) > 0
    given = street.ground(12)
    assert given.sum() > 300
    core = cv2.erode(given.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert not small[core].any() and small[street.shadow[12]].mean() > 0.9


def test_motion_is_looked_for_only_around_what_is_owned(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[int, int]] = []
    align = Aligner.align

    def noted(self: Aligner, target: Prepared, *rest: object) -> tuple[np.ndarray, np.ndarray]:
        looked.append(target.hidden.shape)
        return align(self, target, *rest)

    monkeypatch.setattr(Aligner, "align", noted)
    assert street.ground(12).sum() > 300
    there = cv2.boundingRect((street.owned[12] & ~street.walker[12]).astype(np.uint8))
    assert looked and all(
        h <= there[3] + 2 * AROUND and w <= there[2] + 2 * AROUND and w < SIZE[1] for h, w in looked
    )

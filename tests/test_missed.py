"""Parts of bodies that masks leave out, and what is none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.matte import missed
from omnimatte_cli.matte.bodies import by_masks
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.missed import missed_parts
from omnimatte_cli.matte.ownership import Ownership

HEIGHT, WIDTH = 120, 160
SIDE = float(np.sqrt(HEIGHT * WIDTH))
NOISE = 2 / 255
BODY = np.s_[30:90, 50:90]
ARM = np.s_[44:49, 90:114]  # beside the body
SKIN = (0.8, 0.5, 0.4)

Picture = np.ndarray


def ground(seed: int = 1) -> Picture:
    """A grainy floor with dark seams, (H, W, 3) float32."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 0.06, (HEIGHT, WIDTH, 3)), (0, 0), 1.5)
    plate = 0.35 + grain
    plate[:, ::12] -= 0.2
    return np.clip(plate, 0, 1).astype(np.float32)


def body() -> np.ndarray:
    """A body's mask, (1, H, W) bool."""
    mask = np.zeros((1, HEIGHT, WIDTH), bool)
    mask[0][BODY] = True
    return mask


def painted(plate: Picture, place: tuple[slice, slice]) -> Picture:
    """The plate with the body before it, and something in its colours, with a sensor's noise."""
    rng = np.random.default_rng(2)
    frame = plate.copy()
    frame[BODY] = frame[place] = SKIN
    noise = rng.normal(0, NOISE, frame.shape)
    return (cv2.GaussianBlur(frame, (0, 0), 0.5) + noise).astype(np.float32)


def levels(picture: Picture) -> np.ndarray:
    return np.clip(255 * picture + 0.5, 0, 255).astype(np.uint8)


def rim() -> np.ndarray:
    """What a body owns, (H, W) float32: itself and its outline."""
    return cv2.dilate(body()[0].astype(np.float32), np.ones((3, 3)))


def found(frame: Picture, plate: Picture, strange: np.ndarray | None = None) -> np.ndarray:
    """Where something is missed of the body, which owns itself alone, (H, W) bool."""
    return missed_parts(frame, plate, rim(), body(), NOISE, SIDE, strange)[0]


def test_an_arm_that_a_mask_leaves_out_is_missed() -> None:
    plate = ground()
    part = found(painted(plate, ARM), plate)
    arm = np.zeros_like(part)
    arm[ARM] = True
    assert part[arm].mean() > 0.85
    assert not part[cv2.dilate(arm.astype(np.uint8), np.ones((5, 5))) == 0].any()


def test_it_is_found_on_a_grid_of_cells_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    plate = ground()
    size = (4 * WIDTH, 4 * HEIGHT)
    large = [cv2.resize(x, size) for x in (painted(plate, ARM), plate, rim())]
    mask = cv2.resize(body()[0].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    given = (*large, mask[None], NOISE, 4 * SIDE)
    all_pixels = missed_parts(*given)[0]
    monkeypatch.setattr(missed, "FINE", 2 * SIDE)
    cells = missed_parts(*given)[0]
    assert all_pixels.any() and not np.array_equal(all_pixels, cells)
    assert (all_pixels & cells).sum() > 0.85 * (all_pixels | cells).sum()


def test_layers_have_it_where_somebody_looked_for_strangers() -> None:
    plate = levels(ground())
    frame = levels(painted(ground(), ARM))
    nobody = Ownership(np.zeros((1, 1, 60, 80), np.float16), np.ones((1, 60, 80), np.float16))
    masks = Masks.from_arrays(body()[:, None], ["body"])
    noise = np.full((HEIGHT, WIDTH), NOISE, np.float32)
    none = np.zeros((0, 1, 60, 80), bool)
    inner = np.s_[45:48, 94:112]
    for strangers, low, high in ((None, 0, 0.1), (none, 0.9, 1)):
        layers_at = resolver(nobody, masks, noise, strangers=strangers, cut_out=by_masks)
        alpha = layers_at(0, frame, plate).rgba[0, ..., 3]
        assert low <= alpha[inner].mean() <= high
        assert alpha[60:80, 100:].max() < 0.05
    assert not masks.frame(0)[0][ARM].any()  # the user's stay as they are
    somebody = np.zeros((1, 1, 60, 80), bool)
    somebody[0, 0, 20:26, 45:60] = True
    layers_at = resolver(nobody, masks, noise, strangers=somebody, cut_out=by_masks)
    alpha = layers_at(0, frame, plate).rgba[0, ..., 3]
    assert alpha[inner].mean() < 0.1


@pytest.mark.parametrize(
    "place",
    [np.s_[44:49, 100:124], np.s_[20:80, 94:130], np.s_[44:46, 90:94], np.s_[50:54, 91:155]],
    ids=["apart", "as large as the body", "a speck", "reaching far"],
)
def test_somebody_else_is_not(place: tuple[slice, slice]) -> None:
    plate = ground()
    assert not found(painted(plate, place), plate).any()


def test_an_effect_that_is_owned_is_not() -> None:
    plate = ground()
    frame = painted(plate, BODY)
    frame[85:100, 60:110] *= 0.3
    owned = rim()
    owned[85:100, 60:110] = 1
    assert not missed_parts(frame, plate, owned, body(), NOISE, SIDE).any()


def test_residue_of_a_plate_that_is_off_is_not() -> None:
    plate = ground()
    frame = painted(plate, BODY)
    for across, down in ((1, 0), (-2, 1), (2, 2)):
        moved = np.roll(plate, (down, across), (0, 1))
        assert not found(frame, moved).any()


def test_a_ghost_in_the_plate_is_not() -> None:
    plate = ground()
    ghost = plate.copy()
    ghost[44:60, 92:110] = SKIN
    assert np.abs(ghost - plate).max() > 2 * missed.LARGE[1]
    assert not found(painted(plate, BODY), ghost).any()


def test_missed_parts_belong_to_the_nearest_mask() -> None:
    plate = ground()
    masks = np.concatenate([body(), body(), np.zeros_like(body())])
    masks[0] = np.roll(masks[0], -45, 1)
    frame = painted(plate, ARM)
    part = missed_parts(frame, plate, rim(), masks, NOISE, SIDE)
    assert not part[0].any() and not part[2].any() and part[1].any()

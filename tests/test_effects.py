"""Smooth effect layers against known truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from omnimatte_cli.matte import effects
from omnimatte_cli.matte.box import Box
from omnimatte_cli.matte.compositing import straight
from omnimatte_cli.matte.effects import Effect, find_effect, thinning

SIZE = (180, 320)
NOISE = 2 / 255


def checkerboard(dark: tuple[float, ...], light: tuple[float, ...], cell: int = 9) -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    odd = ((y // cell + x // cell) % 2)[..., None]
    return np.where(odd, np.float32(light), np.float32(dark)).astype(np.float32)


def soft_blob(sigma: float, strength: float) -> np.ndarray:
    """A disc of alpha `strength` with a soft edge, (H, W)."""
    disc = np.zeros(SIZE, np.float32)
    cv2.circle(disc, (160, 90), 45, strength, -1)
    return cv2.GaussianBlur(disc, (0, 0), sigma)


def grainy(frame: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, deviation, frame.shape)
    return np.clip(frame + noise, 0, 1).astype(np.float32)


def effect_of(frame: np.ndarray, plate: np.ndarray, owned: np.ndarray | None = None) -> Effect:
    everywhere = np.ones(SIZE, np.float32)
    return find_effect(
        frame - plate, plate, everywhere if owned is None else owned, everywhere, NOISE
    )


def grain(alpha: np.ndarray) -> float:
    shown = alpha > 0.02
    fine = np.abs(alpha - cv2.GaussianBlur(alpha, (0, 0), 2))
    return float(fine[shown].sum() / alpha[shown].sum())


BOARDS = checkerboard((0.02, 0.05, 0.3), (0.5, 0.6, 0.7))  # a channel of it is nearly black


@pytest.mark.parametrize("sigma", [3.0, 8.0])
def test_a_soft_shadow_over_a_checkerboard_is_smooth(sigma: float) -> None:
    truth = soft_blob(sigma, 0.5)
    frame = grainy(BOARDS * (1 - truth[..., None]), 1.5 / 255)
    found = effect_of(frame, BOARDS)
    error = np.abs(found.alpha - truth)
    assert error.mean() < 0.006
    assert np.percentile(error, 99) < (0.06 if sigma < 5 else 0.032)
    assert grain(found.alpha) < 0.05
    assert found.light[truth > 0.3].max() < 0.03
    assert found.mirror[truth > 0.3].mean() < 0.05


def test_a_shadow_over_an_even_ground_is_black() -> None:
    truth = soft_blob(6, 0.4)
    plate = np.full((*SIZE, 3), (0.7, 0.6, 0.4), np.float32)
    found = effect_of(plate * (1 - truth[..., None]), plate)
    inside = truth > 0.38
    assert np.abs(found.alpha - truth)[inside].max() < 0.03
    assert found.light[inside].max() < 0.02


def test_a_sharp_shadow_keeps_its_edge() -> None:
    truth = soft_blob(0.7, 0.5)
    found = effect_of(grainy(BOARDS * (1 - truth[..., None]), 1 / 255), BOARDS)
    middle = found.alpha[90]
    rise = np.flatnonzero(middle[:160] > 0.45)[0] - np.flatnonzero(middle[:160] > 0.05)[0]
    assert rise <= 9  # pixels; the coarse window alone takes 12


def test_a_large_shadow_has_as_hard_an_edge_as_the_frame() -> None:
    """Windows soften it, by too little for their energy to tell and by far more than the noise."""
    rng = np.random.default_rng(2)
    sand = cv2.GaussianBlur(rng.normal(0, 0.05, SIZE).astype(np.float32), (0, 0), 1)
    plate = np.float32((0.85, 0.75, 0.65)) + sand[..., None]
    truth = np.zeros(SIZE, np.float32)
    truth[60:140, 80:240] = 0.55
    truth = cv2.GaussianBlur(truth, (0, 0), 0.5)
    frame = grainy(plate * (1 - truth[..., None]), 1.5 / 255)
    found = effect_of(frame, plate)
    across = found.alpha[50:70, 100:220].mean(1)
    assert across[:8].max() < 0.05 and across[12:].min() > 0.5
    off = np.abs(found.alpha - truth)
    assert np.percentile(off, 99) < 0.05
    made = plate * (1 - found.alpha[..., None]) + found.light
    edge = (truth > 0.02) & (truth < 0.53)
    assert np.sqrt(np.square(made - frame)[edge].mean()) < 6 / 255


def test_hard_edges_are_made_of_nothing_but_what_noise_cannot_be() -> None:
    """A soft shadow in film as noisy as is known keeps a smooth alpha, within and at its rim."""
    plate = np.full((*SIZE, 3), (0.5, 0.45, 0.4), np.float32)
    truth = soft_blob(8, 0.5)
    found = effect_of(grainy(plate * (1 - truth[..., None]), NOISE), plate)
    shown = found.alpha > 0.03
    fine = found.alpha - cv2.GaussianBlur(found.alpha, (0, 0), 1.5)
    assert np.abs(fine[shown]).max() < 0.02


def test_the_pattern_of_the_ground_is_no_hard_edge() -> None:
    """Grass whose blades a codec has drawn a little otherwise: they would be black and white specks
    in the shadow."""
    rng = np.random.default_rng(5)
    grass = cv2.GaussianBlur(rng.normal(0, 0.25, SIZE).astype(np.float32), (0, 0), 1)
    plate = np.clip(np.float32((0.35, 0.5, 0.2)) + grass[..., None], 0.02, 1)
    off = rng.laplace(0, 0.15, SIZE).astype(np.float32) * np.abs(grass)
    assert off.std() > 1.5 * NOISE
    frame = np.clip(plate * (1 - soft_blob(8, 0.3)[..., None]) + off[..., None], 0, 1)
    found = effect_of(grainy(frame, 1 / 255), plate)
    fine = found.alpha - cv2.GaussianBlur(found.alpha, (0, 0), 1.5)
    assert np.abs(fine[found.alpha > 0.03]).max() < 0.33


@pytest.mark.parametrize("grey", [0.03, 0.06, 0.12])
def test_a_shadow_on_dark_ground_is_no_darker_for_noise(grey: float) -> None:
    plate = np.full((*SIZE, 3), grey, np.float32)
    truth = soft_blob(6, 0.4)
    found = effect_of(grainy(plate * (1 - truth[..., None]), 1.5 / 255), plate)
    inside = truth > 0.38
    assert found.alpha[inside].mean() == pytest.approx(0.395, abs=0.025)


@pytest.mark.parametrize("size", [(1080, 1920), (2160, 3840)])
def test_a_large_picture_has_hard_edges_too(size: tuple[int, int]) -> None:
    plate = np.full((*size, 3), (0.85, 0.75, 0.65), np.float32)[:600, :900]
    truth = np.zeros(plate.shape[:2], np.float32)
    truth[200:400, 300:600] = 0.55
    truth = cv2.GaussianBlur(truth, (0, 0), 0.5)
    frame = grainy(plate * (1 - truth[..., None]), 1.5 / 255)
    ones = np.ones_like(truth)
    side = float(np.sqrt(size[0] * size[1]))
    found = find_effect(frame - plate, plate, ones, ones, NOISE, side)
    down = found.alpha[:, 350:550].mean(1)
    assert down[:196].max() < 0.05 and down[204:300].min() > 0.5


def test_a_channel_that_goes_out_alone_takes_its_alpha() -> None:
    """The dark blue image of a swan in a pink lake: there is no red in it."""
    lake, image = np.float32((0.47, 0.45, 0.6)), np.float32((0.0, 0.25, 0.43))
    truth = soft_blob(4, 1.0)[..., None]
    plate = np.broadcast_to(lake, (*SIZE, 3)).copy()
    frame = grainy(plate + truth * (image - plate), 1.5 / 255)
    found = effect_of(frame, plate)
    inside = truth[..., 0] > 0.98
    made = plate * (1 - found.alpha[..., None]) + found.light
    assert np.abs((made - frame)[inside].mean(0)).max() < 8 / 255


def test_a_channel_that_is_nearly_black_is_hardly_heard() -> None:
    """Brown boards: what little blue they have says nothing of a faint shadow."""
    plate = np.broadcast_to(np.float32((0.55, 0.33, 0.1)), (*SIZE, 3)).copy()
    shade = soft_blob(6, 1.0)[..., None]
    frame = grainy(plate * (1 - shade * np.float32((0.06, 0.06, 0.5))), 1.5 / 255)
    found = effect_of(frame, plate)
    inside = shade[..., 0] > 0.95
    assert 0.05 < found.alpha[inside].mean() < 0.16


def test_a_bluish_shadow_keeps_its_tint() -> None:
    truth = soft_blob(6, 0.5)
    sky = np.float32((0.0, 0.03, 0.08))
    frame = BOARDS * (1 - truth[..., None]) + sky * truth[..., None] / 0.5
    found = effect_of(frame, BOARDS)
    inside = truth > 0.48
    light = found.light[inside].mean(0)
    assert light[2] > 0.03 and light[0] < 0.02
    made = BOARDS * (1 - found.alpha[..., None]) + found.light
    assert np.abs(made - frame)[inside].mean() < 0.02


def test_a_mirror_image_over_a_tiled_floor_keeps_its_picture() -> None:
    tiles = checkerboard((0.3, 0.3, 0.35), (0.45, 0.45, 0.5), cell=16)
    rng = np.random.default_rng(4)
    small = rng.uniform(0.5, 1, (18, 32, 3)).astype(np.float32)
    picture = np.clip(cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    truth = soft_blob(2, 0.5)[..., None]
    frame = grainy(tiles * (1 - truth) + picture * truth, 1 / 255)
    found = effect_of(frame, tiles)
    inside = truth[..., 0] > 0.48
    assert found.mirror[inside].mean() > 0.9
    made = tiles * (1 - found.alpha[..., None]) + found.light
    assert np.sqrt(np.square(made - frame)[inside].mean()) < 0.01
    assert grain(found.alpha) < 0.05
    # Over black the true picture is seen, not the tiles.
    colour = straight(found.light, found.alpha)[..., :3]
    seen = np.corrcoef(colour[inside].ravel(), picture[inside].ravel())[0, 1]
    floor = np.corrcoef(colour[inside].ravel(), tiles[inside].ravel())[0, 1]
    assert seen > 0.8 and abs(floor) < 0.3


def test_light_on_an_even_ground_takes_little_alpha() -> None:
    truth = soft_blob(5, 0.15)[..., None]
    plate = np.full((*SIZE, 3), 0.4, np.float32)
    found = effect_of(plate + truth * (1 - plate), plate)
    inside = truth[..., 0] > 0.14
    assert found.alpha[inside].max() < 0.22 and found.alpha[inside].min() > 0.14
    assert found.mirror[inside].min() > 0.9


def test_an_effect_fades_where_ownership_ends() -> None:
    """The network says 'nobody' from one pixel to the next in the middle of a penumbra."""
    plate = np.full((*SIZE, 3), 0.6, np.float32)
    owned = np.zeros(SIZE, np.float32)
    owned[:, :160] = 1
    found = effect_of(plate * 0.8, plate, owned)
    step = np.abs(np.diff(found.alpha[90]))
    assert step.max() < 0.4 * 0.2  # of what ends there, over four pixels or so
    assert found.alpha[90, 120] == pytest.approx(0.2, abs=0.02)
    assert found.alpha[90, 190:].max() == 0


def test_bodies_and_others_do_not_colour_the_effect() -> None:
    truth = np.full(SIZE, 0.3, np.float32)
    frame = BOARDS * 0.7
    visible = np.ones(SIZE, np.float32)
    frame[60:120, 140:180] = (1, 0, 0)
    visible[58:122, 138:182] = 0
    found = find_effect(frame - BOARDS, BOARDS, np.ones(SIZE, np.float32), visible, NOISE)
    around = visible > 0
    assert np.abs(found.alpha - truth)[around].max() < 0.03
    assert found.mirror[around].max() < 0.1


def test_noise_alone_makes_no_effect() -> None:
    found = effect_of(grainy(BOARDS, NOISE), BOARDS)
    assert found.alpha.mean() < 0.002 and found.alpha.max() < 0.05


def test_a_coloured_shadow_keeps_its_strength_in_every_channel() -> None:
    """Light cannot be negative: alpha for the mean of the channels would lose the darkest."""
    plate = np.broadcast_to(np.float32([0.55, 0.6, 0.65]), (*SIZE, 3)).copy()
    change = -soft_blob(3, 0.3)[..., None] * np.float32([0.5, 0.3, 0.1])
    effect = effect_of(grainy(plate + change, 0.5 / 255), plate)
    made = effect.light - effect.alpha[..., None] * plate
    inside = soft_blob(3, 1.0) > 0.9
    kept = made[inside].sum(0) / change[inside].sum(0)
    assert np.all(kept > 0.78) and np.all(kept < 1.2), kept


@pytest.mark.parametrize("size", [(720, 1280), (721, 1279)])
def test_a_large_picture_is_fitted_as_well_on_a_smaller_one(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def large(x: np.ndarray) -> np.ndarray:
        return cv2.resize(x, size[::-1], interpolation=cv2.INTER_LINEAR)

    plate = large(BOARDS)
    truth, lit = large(soft_blob(3, 0.5)), np.roll(large(soft_blob(6, 0.3)), 300, 1)
    clean = plate * (1 - truth[..., None]) + lit[..., None] * np.float32((0.9, 0.7, 0.2))
    frame = grainy(clean, 1.5 / 255)
    owned = np.maximum(truth, lit) > 0.004
    everywhere = np.ones(size, np.float32)

    def off(less: list[int]) -> tuple[float, float]:
        """Root mean square of the composite's error and mean error of a shadow's alpha."""

        def counted(sigma: float, shape: tuple[int, ...]) -> int:
            return less.pop() if less else thinning(sigma, shape)

        monkeypatch.setattr(effects, "thinning", counted)
        found = find_effect(frame - plate, plate, owned.astype(np.float32), everywhere, NOISE)
        made = plate * (1 - found.alpha[..., None]) + found.light
        error = np.sqrt(np.square(made - clean)[owned].mean())
        return float(error), float(np.abs(found.alpha - truth)[truth > 0.004].mean())

    assert thinning(3.0, (720, 1280)) == 2
    assert off([]) == pytest.approx(off([1]), rel=0.04)
    assert off([]) != off([1])


def test_a_box_grows_to_whole_cells_where_there_is_picture() -> None:
    inside, size = Box(slice(3, 10), slice(5, 13)), (20, 14)
    assert inside.aligned(4, size) == Box(slice(3, 11), slice(5, 13))
    assert inside.aligned(6, size) == Box(slice(3, 15), slice(2, 14))  # up to the picture's end
    assert inside.aligned(16, size) == Box(slice(3, 19), slice(5, 13))  # 14 columns have no room
    assert Box(slice(2, 5), slice(0, 4)).scaled(3) == Box(slice(6, 15), slice(0, 12))


@pytest.mark.parametrize("width", [2, 4])
def test_a_narrow_shadow_is_as_narrow_and_black(width: int) -> None:
    """No picture of the lit ground lies around it, though the windows are wider than it is."""
    plate = np.full((384, 640, 3), (0.9, 0.8, 0.7), np.float32)
    shade = np.zeros(plate.shape[:2], bool)
    shade[60 : 60 + width, 30:130] = True
    frame = grainy(np.where(shade[..., None], 0.4 * plate, plate), 1 / 255)
    near = np.zeros_like(plate[..., 0])
    near[46:78, 20:140] = 1
    effect = find_effect(frame - plate, plate, near, np.ones_like(near), NOISE)
    assert effect.alpha[60 : 60 + width, 40:120].mean() == pytest.approx(0.6, abs=0.06)
    assert effect.alpha[54:57, 40:120].max() < 0.05
    assert effect.light[60 : 60 + width, 40:120].max() < 0.05


def test_what_the_plate_is_unsure_of_is_no_effect() -> None:
    """Darker and brighter are doubted apart."""
    plate = np.full((*SIZE, 3), 0.5, np.float32)
    change = np.zeros(SIZE, np.float32)
    change[40:80, 20:60], change[40:80, 90:130] = -0.1, 0.1
    frame = grainy(plate + change[..., None], 1 / 255)
    ones = np.ones(SIZE, np.float32)

    def found(darker: float, brighter: float) -> tuple[float, float]:
        doubt = np.stack([np.full_like(ones, darker), np.full_like(ones, brighter)], -1)
        effect = find_effect(frame - plate, plate, ones, ones, 1 / 255, doubt=doubt)
        return float(effect.alpha[50:70, 30:50].mean()), float(effect.alpha[50:70, 100:120].mean())

    dark, bright = found(0, 0)
    assert dark > 0.15 and bright > 0.15
    assert found(0.12, 0) == pytest.approx((0, bright), abs=0.01)
    assert found(0, 0.12) == pytest.approx((dark, 0), abs=0.01)
    assert found(0.04, 0.04) == pytest.approx((dark, bright), abs=0.01)

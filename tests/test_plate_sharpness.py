"""Plates get the sharpness of their frames, and nothing else of them."""

import cv2
import numpy as np
import pytest

from omnimatte_cli.plate.sharpness import fitted_kernel, same_detail, sharpened, sharpness

SIZE = (120, 160)


def scene(seed: int = 0) -> np.ndarray:
    """Ground with detail of all sizes, (H, W, 3) float64 in levels."""
    rng = np.random.default_rng(seed)
    fine, coarse = rng.normal(0, 1, (2, *SIZE, 3))
    return 120 + 18 * cv2.GaussianBlur(fine, (0, 0), 0.7) + 90 * cv2.GaussianBlur(coarse, (0, 0), 4)


def filmed(image: np.ndarray, seed: int = 1, grain: float = 2.0, dtype: type = np.uint8):
    noisy = image + grain * np.random.default_rng(seed).standard_normal(image.shape)
    top = np.iinfo(dtype).max
    return np.clip(np.rint(noisy * top / 255), 0, top).astype(dtype)


def nothing_hidden() -> np.ndarray:
    return np.zeros(SIZE, bool)


def off(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.square(a.astype(float) - b)[8:-8, 8:-8].mean()))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_soft_plate_gets_most_of_the_frames_detail(dtype: type) -> None:
    level = np.iinfo(dtype).max / 255
    truth = scene()
    soft = filmed(cv2.GaussianBlur(truth, (0, 0), 0.55), grain=0, dtype=dtype)
    frame = filmed(truth, dtype=dtype)
    crisp = sharpened(soft, sharpness(soft, frame, nothing_hidden(), None))
    assert crisp.dtype == dtype
    assert off(crisp, truth * level) < 0.5 * off(soft, truth * level)


def test_the_kernel_is_that_of_an_independent_solver() -> None:
    plate, frame = filmed(cv2.GaussianBlur(scene(), (0, 0), 0.5)), filmed(scene())
    there = nothing_hidden()
    there[10:110, 20:50] = True
    kernel = fitted_kernel(plate, frame, there)
    assert kernel is not None
    rows, columns = np.nonzero(there)
    terms, change = [], []
    for y in range(-2, 3):
        for x in range(-2, 3):
            shifted = plate[rows + y, columns + x].astype(float)
            terms.append((shifted - plate[rows, columns]).ravel())
    change = (frame[rows, columns].astype(float) - plate[rows, columns]).ravel()
    # Opposite places have the same weight: one unknown is the sum of both.
    pairs = np.stack([(terms[k] + terms[24 - k]) / 2 for k in range(13, 25)], 1)
    ridge = np.sqrt(len(change)) * np.eye(12)
    expected = np.linalg.lstsq(
        np.vstack([pairs, ridge]), np.concatenate([change, np.zeros(12)]), rcond=None
    )[0]
    assert kernel.ravel()[13:] == pytest.approx(expected / 2, abs=2e-4)
    assert kernel == pytest.approx(kernel[::-1, ::-1])
    assert kernel.sum() == pytest.approx(1)


def test_a_frame_of_a_fast_pan_blurs_its_plate_along_the_way() -> None:
    truth = scene()
    line = np.zeros((5, 5))
    line[2] = [0.1, 0.2, 0.4, 0.2, 0.1]
    frame = filmed(cv2.filter2D(truth, -1, line))
    kernel = sharpness(filmed(truth, 2, 0.5), frame, nothing_hidden(), None)
    assert kernel == pytest.approx(line, abs=0.08)


def test_waves_and_grain_leave_a_plate_as_it_is() -> None:
    plain = np.full((*SIZE, 3), 120.0)
    for plate, frame in (
        (filmed(scene(0)), filmed(scene(7))),  # detail of the same kind, but another
        (filmed(plain, 1, 0.5), filmed(plain, 2, 4)),
    ):
        assert sharpness(plate, frame, nothing_hidden(), None) is None
        assert sharpened(plate, None) is plate


def test_what_the_frame_hides_and_what_stands_before_it_has_no_say() -> None:
    plate, frame = filmed(cv2.GaussianBlur(scene(), (0, 0), 0.5)), filmed(scene())
    hidden = nothing_hidden()
    hidden[:, :60] = True
    frame[:, :60] = filmed(scene(5))[:, :60]
    frame[40:80, 100:140] = 10  # a stranger
    assert not same_detail(plate, frame, hidden)[:, :60].any()
    assert not same_detail(plate, frame, hidden)[42:78, 102:138].any()
    whole = sharpness(plate, filmed(scene()), nothing_hidden(), None)
    assert sharpness(plate, frame, hidden, None) == pytest.approx(whole, abs=0.06)


def test_kernels_that_are_alike_are_averaged_over_frames() -> None:
    soft, sharp = filmed(cv2.GaussianBlur(scene(), (0, 0), 0.5)), filmed(scene())
    own = sharpness(soft, sharp, nothing_hidden(), None)
    assert own is not None
    before = 0.8 * own
    before[2, 2] += 0.2
    mean = sharpness(soft, sharp, nothing_hidden(), before)
    assert mean == pytest.approx(before + 0.25 * (own - before))


def test_a_pan_blurs_its_own_plates_alone() -> None:
    """Sharp, blurred, sharp frames: neither begins late nor lasts longer."""
    truth, line = scene(), np.zeros((5, 5))
    line[2] = [0.1, 0.2, 0.4, 0.2, 0.1]
    blurred, plate = cv2.filter2D(truth, -1, line), filmed(truth, 2, 0.5)
    kernel = None
    for k, there in enumerate((truth, truth, blurred, blurred, truth, truth)):
        kernel = sharpness(plate, filmed(there, 10 + k), nothing_hidden(), kernel)
        assert off(sharpened(plate, kernel), there) < 1.5, k


def test_what_was_known_fades_where_nothing_tells() -> None:
    """From detail to open sea: a pan's blur does not stay."""
    line, none = np.zeros((5, 5)), np.zeros((5, 5))
    line[2], none[2, 2] = 0.2, 1
    kernel = line
    for _ in range(12):
        found = sharpness(filmed(scene()), filmed(scene()), ~nothing_hidden(), kernel)
        assert found is not None
        assert np.abs(found - none).sum() < np.abs(kernel - none).sum()
        kernel = found
    assert np.abs(kernel - none).sum() < 0.06
    assert sharpness(filmed(scene()), filmed(scene()), ~nothing_hidden(), None) is None

"""Registration, exposure and the canvas, against cameras that are known."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from omnimatte_cli.camera import bundle, registration
from omnimatte_cli.camera.canvas import build_canvas, stretches
from omnimatte_cli.camera.exposure import Exposure, fit_exposure
from omnimatte_cli.camera.model import (
    Camera,
    CameraError,
    corners,
    project,
    read_camera,
    scale_matrix,
    write_camera,
)
from omnimatte_cli.camera.registration import register
from omnimatte_cli.camera.tracking import FEW_LEVELS, LEVELS, Pair, View
from omnimatte_cli.ranks import masked_ranks
from tests.moving_clips import Shoot, cameras, plane, shoot

pytestmark = pytest.mark.slow


def corner_errors(camera: Camera, truth: np.ndarray) -> np.ndarray:
    """How far each frame's corners land from where they should, seen in the reference frame."""
    at = corners(camera.size)
    true = [np.linalg.solve(truth[camera.reference], h) for h in truth]
    return np.array(
        [
            np.hypot(*(project(h, at) - project(g, at)).T)
            for h, g in zip(camera.homographies, true, strict=True)
        ]
    )


@pytest.fixture(scope="module")
def filmed() -> Shoot:
    return shoot(100, size=(144, 256), seed=1)


@pytest.fixture(scope="module")
def found(filmed: Shoot) -> Camera:
    return register(iter(filmed.frames), lambda t: filmed.masks[t])


def test_a_known_camera_is_recovered(filmed: Shoot, found: Camera) -> None:
    """Pan, zoom, roll and jitter, with an object in front that takes a tenth of the frame."""
    error = corner_errors(found, filmed.homographies)
    assert found.kind == "moving" and found.doubts == ()
    assert error.mean() < 0.5, error.mean()
    assert error.max() < 1.5, error.max()
    assert np.nanmax(found.rms) < 0.5
    assert 40 < found.shift < 400


def test_long_pairs_take_the_drift_out(filmed: Shoot, found: Camera, monkeypatch) -> None:
    """The chain alone ends farther off."""
    monkeypatch.setattr("omnimatte_cli.camera.registration.adjust", lambda chain, *_: chain)
    chained = register(iter(filmed.frames), lambda t: filmed.masks[t])
    assert (
        corner_errors(found, filmed.homographies).mean()
        < 0.6 * corner_errors(chained, filmed.homographies).mean()
    )


def test_far_pairs_are_tracked_in_few_sizes(filmed: Shoot, found: Camera, monkeypatch) -> None:
    levels: list[int] = []
    points = registration.track_points

    def noted(a: View, b: View, guess: np.ndarray, few: int = LEVELS) -> Pair | None:
        if b.frame - a.frame > 1:
            levels.append(few)
        return points(a, b, guess, few)

    monkeypatch.setattr(registration, "track_points", noted)
    register(iter(filmed.frames), lambda t: filmed.masks[t])
    assert levels and set(levels) == {FEW_LEVELS}
    monkeypatch.setattr(registration, "FEW_LEVELS", LEVELS)
    slow = register(iter(filmed.frames), lambda t: filmed.masks[t])
    ends = corners(found.size)
    for t in range(len(found)):
        apart = project(found.homographies[t], ends) - project(slow.homographies[t], ends)
        assert np.abs(apart).max() < 0.02


def test_the_jacobian_is_the_derivative() -> None:
    rng = np.random.default_rng(0)
    h = np.eye(3) + 0.1 * rng.normal(size=(2, 3, 3))
    h /= h[:, 2:, 2:]
    points = np.c_[rng.uniform(-1, 1, (7, 2)), np.ones(7)]

    def projected(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        steps = [np.append(s, 0).reshape(3, 3) for s in (a, b)]
        first, second = (h[i] @ (np.eye(3) + steps[i]) for i in (0, 1))
        y = points @ np.linalg.solve(second, first).T
        return y[:, :2] / y[:, 2:]

    by_a, by_b = bundle.jacobian(np.linalg.solve(h[1], h[0]), points)
    for k in range(8):
        step = np.zeros(8)
        step[k] = 1e-6
        zero = np.zeros(8)
        numeric = (projected(step, zero) - projected(-step, zero)) / 2e-6
        assert np.allclose(by_a[:, :, k], numeric, atol=1e-6)
        numeric = (projected(zero, step) - projected(zero, -step)) / 2e-6
        assert np.allclose(by_b[:, :, k], numeric, atol=1e-6)


def test_bundle_adjustment_forgets_wrong_points() -> None:
    rng = np.random.default_rng(3)
    truth = cameras(12, (144, 256), seed=5)
    pairs = []
    for a in range(12):
        for b in range(a + 1, min(a + 4, 12)):
            start = rng.uniform((0, 0), (255, 143), (60, 2))
            end = project(np.linalg.solve(truth[b], truth[a]), start)
            end[:6] += rng.uniform(-20, 20, (6, 2))
            pairs.append(Pair(a, b, start, end, np.eye(3), 60))
    start = truth.copy()
    start[1:, :2, 2] += rng.normal(0, 3, (11, 2))
    start[0] = truth[0]
    adjusted = bundle.adjust(start, pairs, 0, 256)
    at = corners((144, 256))
    errors = [
        np.abs(project(a, at) - project(b, at)).max() for a, b in zip(adjusted, truth, strict=True)
    ]
    assert max(errors) < 0.05, max(errors)


def test_frames_that_nothing_ties_to_the_fixed_one_are_held_by_their_first() -> None:
    """Dark or plain frames may share points with their neighbours alone."""
    rng = np.random.default_rng(3)
    truth = cameras(6, (144, 256), seed=5)
    pairs = []
    for a, b in ((0, 1), (3, 4), (4, 5), (3, 5)):
        start = rng.uniform((0, 0), (255, 143), (60, 2))
        pairs.append(
            Pair(a, b, start, project(np.linalg.solve(truth[b], truth[a]), start), np.eye(3), 60)
        )
    start = np.tile(np.eye(3), (6, 1, 1))
    adjusted = bundle.adjust(start, pairs, 0, 256)
    at = corners((144, 256))
    for a, b in ((0, 1), (3, 4), (3, 5)):
        found, true = (np.linalg.solve(h[b], h[a]) for h in (adjusted, truth))
        assert np.abs(project(found, at) - project(true, at)).max() < 0.05
    for t in (0, 2, 3):
        assert np.abs(project(adjusted[t], at) - at).max() < 0.05


def test_a_tripod_is_static_in_noise_and_changing_light(
    filmed: Shoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registration, "adjust", None)  # nothing drifts
    rng = np.random.default_rng(4)
    still = filmed.frames[0].astype(np.float32)
    frames = [
        np.clip(still * (1 - 0.01 * t) + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8)
        for t in range(25)
    ]
    camera = register(frames)
    assert camera.kind == "static" and camera.doubts == ()
    assert np.array_equal(camera.homographies, np.tile(np.eye(3), (25, 1, 1)))


def test_what_moves_before_a_tripod_is_no_parallax(filmed: Shoot) -> None:
    rng = np.random.default_rng(5)
    patch = rng.integers(0, 255, (60, 100, 3), np.uint8)
    frames = [filmed.frames[0].copy() for _ in range(24)]
    for t, frame in enumerate(frames):
        frame[20:80, 4 * t : 4 * t + 100] = patch
    camera = register(frames)
    assert np.nanmax(camera.rms) >= 0 and camera.kind == "static"
    assert camera.doubts == ()


def test_a_camera_that_creeps_is_moving() -> None:
    """A tenth of a pixel a frame: no two neighbours differ, the ends do by four pixels."""
    h = np.tile(np.eye(3), (40, 1, 1))
    h[:, 0, 2] = 0.1 * np.arange(40)
    clip = shoot(40, (120, 200), seed=2, homographies=h)
    camera = register(iter(clip.frames), lambda t: clip.masks[t])
    assert camera.kind == "moving"
    assert camera.shift == pytest.approx(3.9, abs=0.2)
    assert corner_errors(camera, clip.homographies).max() < 0.5


def test_what_has_no_texture_is_not_registered() -> None:
    rng = np.random.default_rng(6)
    frames = [
        np.clip(120 + rng.normal(0, 2, (120, 200, 3)), 0, 255).astype(np.uint8) for _ in range(12)
    ]
    camera = register(frames)
    assert camera.kind == "static"
    assert np.array_equal(camera.homographies[5], np.eye(3))
    assert "too little texture" in camera.doubts[0]


@pytest.mark.parametrize("count", [1, 2])
def test_clips_of_one_and_two_frames(filmed: Shoot, count: int) -> None:
    camera = register(filmed.frames[::8][:count])
    assert len(camera) == count
    if count == 2:
        truth = filmed.homographies[::8][:2]
        assert corner_errors(camera, truth).max() < 1.5


def test_a_cut_is_named_with_its_frame(filmed: Shoot) -> None:
    other = shoot(15, (144, 256), seed=9)
    camera = register(np.concatenate([filmed.frames[:14], other.frames]))
    assert camera.cuts == (14,)
    assert any("frame 14" in d for d in camera.doubts)
    assert camera.scene(13) == range(0, 14) and camera.scene(14) == range(14, 29)
    # Each scene by itself.
    part = replace(
        camera,
        homographies=camera.homographies[14:],
        inliers=camera.inliers[14:],
        rms=camera.rms[14:],
        cuts=(),
        reference=7,
    )
    assert corner_errors(part, other.homographies).max() < 1.5


def test_a_huge_pan_is_bounded_and_said() -> None:
    size = (90, 160)
    h = np.tile(np.eye(3), (60, 1, 1))
    h[:, 0, 2] = 25.0 * np.arange(60)
    clip = shoot(60, size, seed=3, homographies=h)
    camera = register(iter(clip.frames))
    assert any("shorter stretches" in d for d in camera.doubts)
    runs = stretches(camera)
    assert [t for r in runs for t in r] == list(range(60)) and len(runs) > 1
    for run in runs[:2]:
        canvas = build_canvas(lambda: iter(clip.frames), camera, lambda t: clip.masks[t], run)
        assert canvas.count.size <= 7 * size[0] * size[1]


def test_frames_of_another_width_are_the_same_camera(filmed: Shoot, found: Camera) -> None:
    large = found.scaled((288, 512))
    scale = scale_matrix((144, 256), (288, 512))
    assert np.allclose(scale @ [0, 0, 1], [0.5, 0.5, 1])
    at = corners((144, 256))
    there = project(large.homographies[7], project(scale, at))
    assert np.allclose(there, project(scale, project(found.homographies[7], at)))
    assert np.allclose(large.scaled((144, 256)).homographies, found.homographies)


def test_json_round_trip(tmp_path, found: Camera) -> None:
    write_camera(found, tmp_path / "camera.json", {"made_by": "a test"})
    again = read_camera(tmp_path / "camera.json", found.size, len(found))
    assert np.array_equal(again.homographies, found.homographies)
    assert again.kind == found.kind and again.reference == found.reference
    assert np.array_equal(again.inliers, found.inliers)
    assert np.allclose(again.rms, found.rms, atol=1e-4)
    twice = read_camera(tmp_path / "camera.json", (288, 512), len(found))
    assert np.allclose(twice.homographies, found.scaled((288, 512)).homographies)
    (tmp_path / "bare.json").write_text(json.dumps(found.homographies.tolist()))
    bare = read_camera(tmp_path / "bare.json", found.size, len(found))
    assert np.array_equal(bare.homographies, found.homographies) and bare.moving


IDENTITY = np.eye(3).tolist()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "no JSON"),
        ({"size": [160, 90]}, 'no "homographies"'),
        ([IDENTITY] * 3, "3 homographies, the video 4"),
        ([[[1, 2], [3, 4]]] * 4, "3x3"),
        ([IDENTITY] * 3 + [["a", "b", "c"]] * 1, "numbers"),
        ([IDENTITY] * 3 + [np.diag([1.0, 1, 0]).tolist()], "ends in 0"),
        ([IDENTITY] * 3 + [np.diag([-1.0, 1, 1]).tolist()], "frame 3 folds"),
        ({"homographies": [IDENTITY] * 4, "size": [100, 100]}, "aspect"),
        ({"homographies": [IDENTITY] * 4, "size": "large"}, "width, height"),
        ({"homographies": [IDENTITY] * 4, "cuts": [9]}, "frames of the video"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, says: str) -> None:
    path = tmp_path / "camera.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(CameraError, match=says):
        read_camera(path, (90, 160), 4)


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(CameraError, match="cannot be read"):
        read_camera(tmp_path / "none.json", (90, 160), 4)


# --------------------------------------------------------------------------------------- exposure


def graded(image: np.ndarray, gain: np.ndarray, offset: float = 0.0, slope: float = 0.0):
    w = image.shape[1]
    field = 1 + slope * np.linspace(-1, 1, w)[None, :, None]
    graded = (image * np.asarray(gain) + offset) * field
    noise = np.random.default_rng(1).normal(0, 1.5, image.shape)
    return np.clip(graded + noise, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("gain", "offset", "slope"),
    [((0.75, 0.75, 0.75), 0, 0), ((0.9, 0.93, 0.99), 3, 0), ((0.97, 0.95, 0.96), 0, 0.06)],
)
def test_exposure_is_removed(gain, offset, slope) -> None:
    scene = plane(seed=1)[200:344, 200:456]
    image = graded(scene, gain, offset, slope)
    light = fit_exposure(image, scene, np.ones(scene.shape[:2], bool))
    difference = light.apply(scene).astype(float) - image
    assert np.sqrt((difference**2).mean()) < 2.2  # noise alone is 1.5
    back = light.remove(image).astype(float) - scene
    assert np.abs(back.mean((0, 1))).max() < 0.5


def test_an_offset_is_no_field() -> None:
    """A camera that opens up before something black lifts a dark floor by a greater share than the
    bright wall above it."""
    scene = plane(seed=1)[200:344, 200:456] / 255.0
    scene = np.concatenate([185 + 30 * scene[:90], (60 + 80 * scene[90:]) * (1, 0.65, 0.4)])
    image = graded(scene, (1.0, 1.01, 1.015), 17)
    light = fit_exposure(image, scene.astype(np.uint8), np.ones(scene.shape[:2], bool))
    apart = light.apply(scene.astype(np.uint8)).astype(float) - image
    assert np.abs(apart[:90].mean((0, 1))).max() < 1.5
    assert np.abs(apart[90:].mean((0, 1))).max() < 1.5


@pytest.mark.parametrize("slope", [0.0, 0.05])
def test_a_large_soft_shadow_is_no_exposure(slope: float) -> None:
    scene = plane(seed=1)[200:344, 200:456]
    image = graded(scene, (0.9, 0.9, 0.92), 0, slope).astype(np.float32)
    y, x = np.mgrid[:144, :256]
    shadow = np.clip(1.3 - np.hypot((x - 80) / 70, (y - 90) / 50), 0, 1)  # some 40 % of it
    assert 0.3 < (shadow > 0.1).mean() < 0.45
    image = (image * (1 - 0.45 * shadow[..., None])).astype(np.uint8)
    light = fit_exposure(image, scene, np.ones(scene.shape[:2], bool))
    plate = light.apply(scene).astype(np.float32)
    kept = 1 - (image + 1.0).mean(2) / (plate + 1.0).mean(2)
    core, outside = shadow > 0.9, shadow == 0
    assert kept[core].mean() == pytest.approx(0.45 * shadow[core].mean(), abs=0.03)
    assert abs(kept[outside].mean()) < 0.012


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_exposure_is_applied_as_its_formula_says(dtype) -> None:
    top, rng = np.iinfo(dtype).max, np.random.default_rng(0)
    image = rng.integers(0, top, (30, 50, 3), dtype, endpoint=True)
    light = Exposure(
        np.array([0.8, 1.1, 1.3]), np.array([9.0, -7, 3]), np.array([0.1, -0.05, 0.02, 0.03, -0.04])
    )
    y, x = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 50), indexing="ij")
    terms = (x, y, x * x - 1 / 3, x * y, y * y - 1 / 3)
    field = np.exp(sum(k * term for k, term in zip(light.field, terms, strict=True)))[..., None]
    right = (image * light.gain + light.offset * top / 255) * field
    there = light.apply(image)
    assert there.dtype == dtype
    assert np.abs(there - np.clip(right, 0, top)).max() < 0.51
    back = (image / field - light.offset * top / 255) / light.gain
    assert np.abs(light.remove(image) - np.clip(back, 0, top)).max() < 0.51


def test_constant_light_is_left_alone() -> None:
    scene = plane(seed=1)[200:344, 200:456]
    light = fit_exposure(graded(scene, (1, 1, 1)), scene, np.ones(scene.shape[:2], bool))
    assert light.constant
    assert light.apply(scene) is scene


# ----------------------------------------------------------------------------------------- ranks


def test_ranks_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 5, 16, 23):
        samples = rng.integers(0, 255, (k, 400)).astype(np.uint8)
        counts = rng.integers(1, k + 1, 400)
        samples[np.arange(k)[:, None] >= counts] = 255
        ordered = [np.sort(s[:n]).astype(float) for s, n in zip(samples.T, counts, strict=True)]
        median, spread = masked_ranks(samples.copy(), counts)
        assert np.array_equal(median, [np.floor(np.median(o) + 0.5) for o in ordered])
        assert (spread[counts == 1] == 0).all() and spread.min() >= 0
    grain = np.clip(rng.normal(128, 10, (33, 5000)), 0, 255).astype(np.uint8)
    _, spread = masked_ranks(grain, np.full(5000, 33))
    assert spread.mean() == pytest.approx(6.745, rel=0.06)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_a_long_still_shot_takes_little_memory() -> None:
    """All frames are paired with the first: pivots by size would fill the matrix, 1 GB here."""
    program = """
import resource
import numpy as np
from omnimatte_cli.camera.bundle import adjust
from omnimatte_cli.camera.tracking import FEW_LEVELS, LEVELS, Pair, View
random, count = np.random.default_rng(0), 1500
points = random.random((60, 2)) * (640, 360)
noisy = [points + random.normal(0, 0.1, points.shape) for _ in range(count)]
pairs = [Pair(0, t, points, noisy[t], np.eye(3), 60) for t in range(1, count)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
found = adjust(np.tile(np.eye(3), (count, 1, 1)), pairs, 0, 640)
assert np.abs(found - np.eye(3)).max() < 1
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10) - before
assert grown < 100, grown
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)


def test_canvas_of_a_tripod_is_the_masked_median() -> None:
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 255, (9, 20, 30, 3)).astype(np.uint8)
    hidden = rng.random((9, 20, 30)) < 0.3
    camera = Camera.static(9, (20, 30))
    for budget in (1 << 20, 9 * 30 * 3 * 7):  # in one piece, and in strips of seven rows
        canvas = build_canvas(
            lambda: iter(frames), camera, lambda t: hidden[t], range(9), budget=budget, light=False
        )
        masked = np.where(hidden[..., None], np.nan, frames.astype(float))
        seen = ~hidden.all(0)
        assert np.array_equal(canvas.count, (~hidden).sum(0))
        truth = np.floor(np.nanmedian(masked[:, seen], axis=0) + 0.5)
        assert np.array_equal(canvas.image[seen], truth)

"""Rendered scenes: the tracer against slow plain code, and what pictures of one scene share."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from omnimatte_cli.synth import primitives as prim
from omnimatte_cli.synth import render
from omnimatte_cli.synth.paths import random_flight
from omnimatte_cli.synth.render import SceneBatch, render_scenes
from omnimatte_cli.synth.scenes import SceneOptions, ScenePlan, plan_scene

pytestmark = pytest.mark.slow

SMALL = SceneOptions(frames=3, height=48, width=48, min_objects=1, max_objects=3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Many small operations: threads cost more than they give, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return render_scenes(range(8), SMALL)


def inside(kind: int, half: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Whether local points (..., 3) are in a primitive."""
    if kind == prim.ELLIPSOID:
        return ((p / half) ** 2).sum(-1) < 1
    if kind == prim.BOX:
        return (np.abs(p) < half).all(-1)
    z = p[..., 2] - np.clip(p[..., 2], -half[2], half[2])
    return np.sqrt(p[..., 0] ** 2 + p[..., 1] ** 2 + z**2) < half[0]


@pytest.mark.parametrize("kind", prim.KINDS)
def test_hits_agree_with_marching_along_the_ray(kind: int) -> None:
    rng = np.random.default_rng(kind)
    half = rng.uniform(0.3, 0.9, (60, 3))
    if kind == prim.CAPSULE:
        half[:, 1] = half[:, 0]
    o = rng.normal(size=(60, 3))
    o = 3 * o / np.linalg.norm(o, axis=1, keepdims=True)
    d = rng.uniform(-0.8, 0.8, (60, 3)) - o
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    d[0], o[0] = (0, 0, 1), (0.05, 0.02, -3)  # along an axis
    steps = np.arange(0, 6, 0.002)
    expected = np.full(60, np.inf)
    for i in range(60):
        found = inside(kind, half[i], o[i] + steps[:, None] * d[i]).nonzero()[0]
        if len(found):
            expected[i] = steps[found[0]]
    tensors = [torch.from_numpy(np.float32(x.T)) for x in (half, o, d)]
    t = prim.HIT[kind](*tensors).numpy()
    gap, where = (x.numpy() for x in prim.GAP[kind](*tensors))
    clear = np.abs(gap) > 0.01  # grazing rays may fall between two steps
    hit = np.isfinite(expected)
    assert hit.sum() > 15 and (~hit).sum() > 5
    np.testing.assert_array_equal((t < prim.MISS)[clear], hit[clear])
    np.testing.assert_allclose(t[hit & clear], expected[hit & clear], atol=0.004)
    np.testing.assert_array_equal((gap < 0)[clear], hit[clear])
    assert (where[hit & clear] > 0).all()


def test_normals_point_outward_and_are_unit() -> None:
    half = torch.tensor([[0.5], [0.5], [0.8]]).expand(3, 3)
    kind = torch.tensor([0.0, 1.0, 2.0])
    at = torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.1, 0.0], [0.0, 0.2, 0.3]])
    normal = prim.local_normal(kind, half, at)
    torch.testing.assert_close(normal, torch.tensor([[1.0] * 3, [0.0] * 3, [0.0] * 3]))


def test_a_small_light_gives_a_hard_edge_and_a_large_one_a_soft_edge() -> None:
    gap = torch.linspace(-0.2, 0.2, 41)
    t = torch.ones(41)
    hard = prim.soft_visibility(gap, t, torch.full((41,), 0.005))
    soft = prim.soft_visibility(gap, t, torch.full((41,), 0.1))
    assert ((hard > 0.01) & (hard < 0.99)).sum() <= 1
    assert ((soft > 0.01) & (soft < 0.99)).sum() > 10
    assert (soft.diff() >= 0).all() and hard[0] == 0 and hard[-1] == 1


def test_shapes_and_ranges(batch: SceneBatch) -> None:
    n = batch.masks.shape[1]
    assert batch.frames.shape == (8, 3, 3, 48, 48)
    assert batch.masks.shape == (8, n, 3, 1, 48, 48) and batch.plate.shape == (8, 3, 48, 48)
    assert batch.solos is not None and batch.solos.shape == (8, n, 3, 3, 48, 48)
    for x in (batch.frames, batch.plate, batch.solos, batch.masks):
        assert x.dtype == torch.float32 and x.isfinite().all()
        assert x.min() >= 0 and x.max() <= 1
    assert ((batch.masks == 0) | (batch.masks == 1)).all()
    assert batch.masks.sum(1).max() <= 1  # disjoint
    assert (batch.order.sort(-1).values == torch.arange(n)).all()
    assert batch.present.sum(1).min() >= 1
    assert batch.masks[~batch.present].sum() == 0


def test_a_seed_gives_the_same_scene_whatever_its_batch_mates(batch: SceneBatch) -> None:
    again = render_scenes([5, 2], SMALL)
    for i, j in ((0, 5), (1, 2)):
        n = int(batch.present[j].sum())
        torch.testing.assert_close(again.frames[i], batch.frames[j], atol=1e-4, rtol=0)
        torch.testing.assert_close(again.masks[i, :n], batch.masks[j, :n])
        torch.testing.assert_close(again.solos[i, :n], batch.solos[j, :n], atol=1e-4, rtol=0)
        # Padding comes first in the order, so the present objects' order is its end.
        assert (again.order[i, :, -n:] == batch.order[j, :, -n:]).all()


def test_the_layout_does_not_depend_on_the_resolution() -> None:
    small = plan_scene(3, SMALL)
    large = plan_scene(3, SceneOptions(**{**SMALL.__dict__, "height": 96, "width": 96}))
    np.testing.assert_array_equal(small.primitives, large.primitives)


def test_other_seeds_give_other_scenes(batch: SceneBatch) -> None:
    plates = batch.plate.flatten(1)
    apart = torch.cdist(plates, plates) + 100 * torch.eye(len(plates))
    assert apart.min() > 1


def test_frames_alone_are_the_same_without_solos(batch: SceneBatch) -> None:
    bare = render_scenes(range(4), SMALL, solos=False)
    assert bare.solos is None
    torch.testing.assert_close(bare.frames, batch.frames[:4], atol=1e-4, rtol=0)


def test_the_solo_of_an_only_object_is_the_frame() -> None:
    options = SceneOptions(frames=2, height=48, width=48, max_objects=1)
    one = render_scenes(range(6), options)
    assert one.solos is not None
    torch.testing.assert_close(one.solos[:, 0], one.frames, atol=1e-5, rtol=0)


def test_the_frame_is_the_plate_where_no_object_changes_anything(batch: SceneBatch) -> None:
    plate = batch.plate[:, None]
    same = ((batch.solos - plate[:, None]).abs().amax((1, 3)) < 1e-6)[:, :, None]
    same = same & (batch.masks.amax(1) == 0)
    difference = ((batch.frames - plate).abs() * same).amax()
    assert same.float().mean() > 0.2 and difference < 1e-4


def test_masks_lie_where_the_solo_shows_the_object(batch: SceneBatch) -> None:
    change = (batch.solos - batch.plate[:, None, None]).abs().amax(3)
    on = batch.masks[:, :, :, 0] > 0
    assert (change[on] > 0.02).float().mean() > 0.9
    # What the camera sees of an object is nearly the same in its solo; only others' effects differ.
    shown = (batch.solos - batch.frames[:, None]).abs().amax(3)[on]
    assert (shown < 0.02).float().mean() > 0.7


def test_shadows_darken_and_mirrors_change() -> None:
    def changes(effect: str) -> tuple[torch.Tensor, torch.Tensor]:
        options = SceneOptions(frames=2, height=48, width=48, effect=effect)
        made = render_scenes(range(20, 44), options)
        rest = (made.solos - made.plate[:, None, None]) * (made.masks.amax(1, keepdim=True) == 0)
        rest = rest[made.present]
        return rest.clamp_min(0).mean(), rest.clamp_max(0).mean().neg()

    brighter, darker = changes("shadow")
    assert darker > 5 * brighter and darker > 0.003
    shining, darker = changes("reflection")
    assert shining + darker > 0.0025 and shining > 10 * brighter


def test_most_objects_are_seen_and_have_an_effect() -> None:
    made = render_scenes(range(100, 124), SceneOptions(frames=3, height=48, width=48))
    seen = made.masks.mean((-1, -2, -3))[made.present]
    assert (seen > 0.002).float().mean() > 0.85
    assert 0.005 < seen.median() < 0.15
    change = ((made.solos - made.plate[:, None, None]) * 255).square().sum(3) >= 63.75
    effect = change & (made.masks.amax(1)[:, None, :, 0] == 0)
    share = effect.float().mean((-1, -2, -3))[made.present]
    assert (share > 0.003).float().mean() > 0.75


def test_the_number_of_objects_is_as_asked() -> None:
    options = SceneOptions(frames=2, min_objects=4, max_objects=4)
    assert all(len(plan_scene(seed, options).counts) == 5 for seed in range(40))


def test_a_long_clip_in_runs_of_frames_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    options = SceneOptions(frames=24, gap=1, height=24, width=24, max_objects=2)
    whole = render_scenes([1, 4], options)
    monkeypatch.setitem(render.CHUNK, "cpu", 24 * 24 * 3 * 9)
    runs = render_scenes([1, 4], options)
    for name in ("frames", "plate", "solos"):
        a, b = getattr(whole, name), getattr(runs, name)
        assert ((a - b).abs() > 1e-4).float().mean() < 1e-3, name
    assert (whole.masks != runs.masks).float().mean() < 1e-3


def test_supersampling_smooths_edges_and_keeps_masks_binary(batch: SceneBatch) -> None:
    fine = render_scenes(range(3), SceneOptions(**{**SMALL.__dict__, "supersample": 2}))
    assert ((fine.masks == 0) | (fine.masks == 1)).all() and fine.masks.sum(1).max() <= 1
    n = fine.masks.shape[1]
    assert (fine.masks != batch.masks[:3, :n]).float().mean() < 0.03
    assert (fine.plate - batch.plate[:3]).abs().mean() < 0.04


def test_wide_pictures_and_pictures_for_textures(tmp_path) -> None:
    import cv2

    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 2] = 200
    cv2.imwrite(str(tmp_path / "red.png"), red)
    options = SceneOptions(frames=1, height=32, width=64, textures=tmp_path)
    made = render_scenes(range(12), options, solos=False)
    assert made.frames.shape == (12, 1, 3, 32, 64)
    mean = made.plate.mean((-1, -2))
    redness = mean[:, 0] / mean.sum(1)
    assert (redness > 0.55).any() and math.isfinite(float(redness.max()))


@pytest.mark.parametrize("seed", range(12))
def test_what_is_thrown_stays_above_the_ground_and_comes_down(seed: int) -> None:
    times = np.linspace(0, 6, 289)
    radius, height = 0.3, 1.0
    lift, turns = random_flight(np.random.default_rng(seed), times, radius, height)
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.eye(3)[None] + 0 * turns, atol=1e-9)
    # A cylinder of that footprint and height: its lowest point, from its rim in the world.
    angle = np.linspace(0, 2 * np.pi, 721)
    rim = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], 1)
    up = np.array([0, 0, height / 2])
    ends = np.concatenate([rim - up, rim + up])
    lowest = lift + height / 2 + (ends @ turns)[..., 2].min(1)
    assert lowest.min() > -1e-4
    hovers = np.ptp(lowest) < 1e-4
    assert hovers or lowest[-48:].max() < 1e-3  # at rest, on the ground
    rates = np.abs(np.diff(turns, axis=0)).max((1, 2))
    assert hovers or rates[-1] < 1e-3


def test_some_scenes_are_of_thrown_things_and_the_others_stand_upright() -> None:
    plans = [plan_scene(seed, SMALL) for seed in range(60)]
    thrown = [p.spheres[:, 1:, 2].max() > 1.3 or _tilted(p) for p in plans]
    assert 0.2 < np.mean(thrown) < 0.5


def _tilted(plan: ScenePlan) -> bool:
    """Whether a box of an object turns about another axis than the vertical one."""
    moving = plan.primitives[:, plan.counts[0] :]
    boxes = moving[:, moving[0, :, 16] == prim.BOX]
    up = boxes[..., 3:12].reshape(*boxes.shape[:2], 3, 3)[..., 2]
    return bool((np.abs(np.diff(up, axis=0)) > 0.02).any())

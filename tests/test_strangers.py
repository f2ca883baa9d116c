"""Movers without a mask: found, and kept out of the layers."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from omnimatte_cli.arrays import Masks, Plate
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.evaluation.runner import shot_of
from omnimatte_cli.evaluation.truth import read_truth
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.predict import predict_ownership
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.methods.base import Run
from omnimatte_cli.methods.networks import ownership_network
from omnimatte_cli.pipeline import find_owners
from omnimatte_cli.plate.strangers import owned_shares, with_strangers
from omnimatte_cli.progress import Silent
from omnimatte_cli.segment import moving
from omnimatte_cli.segment.strangers import find_strangers, find_strangers_over, travel
from omnimatte_cli.shot import Shot
from omnimatte_cli.synth.dataset import write_scene
from omnimatte_cli.synth.scenes import SceneOptions
from omnimatte_cli.synth.seeds import DATASET_SEEDS
from omnimatte_cli.tensors import ClipTensors
from tests.conftest import Said

SIZE = (96, 160)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two blocks cross a textured ground: frames, and the masks of either, (T, h, w) bool."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(70, 190, (24, 40, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.repeat(ground[None], 24, 0)
    masks = np.zeros((2, 24, *SIZE), bool)
    for t in range(24):
        masks[0, t, 20:40, 4 + 5 * t : 22 + 5 * t] = True
        masks[1, t, 60:78, 130 - 5 * t : 148 - 5 * t] = True
    frames[masks[0]] = (230, 40, 30)
    frames[masks[1]] = (30, 60, 220)
    noise = rng.normal(0, 2, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8), masks[0], masks[1]


@pytest.mark.parametrize(("fps", "least"), [(12.0, 0.7), (25.0, 0.55)])
def test_the_mover_without_a_mask_is_found(clip, fps: float, least: float) -> None:
    frames, first, second = clip
    found = find_strangers(frames, first[None], fps)
    assert len(found) == 1 and found.shape[1] == len(frames)
    overlap = np.count_nonzero(found[0] & second) / np.count_nonzero(found[0] | second)
    assert overlap > least
    assert not (found[0] & first).any()


def test_none_where_all_movers_have_masks(clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is anything followed then: nothing moves beside the masks."""
    monkeypatch.setattr(moving, "track", None)
    frames, first, second = clip
    assert len(find_strangers(frames, np.stack([first, second]))) == 0


@pytest.mark.parametrize(("step", "strangers"), [(0.0, 0), (0.3, 0), (2.0, 1)])
def test_what_comes_and_goes_in_place_is_no_stranger(
    clip, monkeypatch, step: float, strangers: int
) -> None:
    """So do the ends of a shadow's way, where the median of all frames lies in the shadow."""
    frames, first, _ = clip
    mover = np.zeros_like(first)
    for t in (*range(6), *range(14, 24)):
        left = round(step * t) + (60 if t < 10 else 90)
        mover[t, 70:80, left : left + 12] = True
    found = SimpleNamespace(tracks=[mover], size=SIZE)
    monkeypatch.setattr("omnimatte_cli.segment.strangers.find_moving", lambda *a, **o: found)
    monkeypatch.setattr("omnimatte_cli.segment.strangers._stack", lambda track, *a: track.copy())
    assert len(find_strangers(frames, first[None])) == strangers


@pytest.mark.parametrize(("height", "strangers"), [(18, 1), (2, 0)])
def test_a_stranger_in_one_track_with_an_object_is_found(
    clip, monkeypatch, height: int, strangers: int
) -> None:
    """What a track has beside its object's mask: who walks past, or a rim that the mask misses."""
    frames, first, _ = clip
    mover = first.copy()
    for t in range(24):
        mover[t, 60 : 60 + height, 130 - 5 * t : 148 - 5 * t] = True
    found = SimpleNamespace(tracks=[mover], size=SIZE)
    monkeypatch.setattr("omnimatte_cli.segment.strangers.find_moving", lambda *a, **o: found)
    monkeypatch.setattr("omnimatte_cli.segment.strangers._stack", lambda track, *a: track.copy())
    got = find_strangers(frames, first[None])
    assert len(got) == strangers and not (got & first).any()


def test_how_far_a_mover_gets() -> None:
    mask = np.zeros((6, 20, 40), bool)
    for t, left in enumerate((2, 4, 8, None, 30, 31)):
        if left is not None:
            mask[t, 4:10, left : left + 6] = True
    still = Camera.static(6, (20, 40))
    assert travel(mask, still) == 6  # not 29: it was out of sight between
    assert travel(np.zeros((3, 8, 8), bool), Camera.static(3, (8, 8))) == 0
    # Over a scene that a camera leaves behind by two pixels a frame.
    assert travel(mask, panned(6, (20, 40), -2)) == pytest.approx(6 + 4)
    follows = np.stack([np.roll(mask[0], 2 * t, 1) for t in range(6)])
    assert travel(follows, panned(6, (20, 40), 2)) == pytest.approx(0, abs=1e-9)


def panned(frames: int, size: tuple[int, int], step: float) -> Camera:
    """A camera before which the scene moves by `step` pixels a frame."""
    motions = np.tile(np.eye(3), (frames, 1, 1))
    motions[:, 0, 2] = -step * np.arange(frames)
    return Camera(motions, size, shift=abs(step) * (frames - 1))


@pytest.fixture(scope="module")
def pan() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Camera]:
    """Two blocks cross a scene that the camera pans over by 3 pixels a frame: frames, plates, and
    the masks of either; a third block stands in the scene and is in no plate."""
    rng = np.random.default_rng(1)
    wide = np.kron(rng.integers(70, 190, (24, 60, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    plates = np.stack([wide[:, 3 * t : 3 * t + SIZE[1]] for t in range(24)])
    frames, masks = plates.copy(), np.zeros((2, 24, *SIZE), bool)
    for t in range(24):
        masks[0, t, 20:40, 4 + 5 * t : 22 + 5 * t] = True
        masks[1, t, 60:78, 130 - 5 * t : 148 - 5 * t] = True
        frames[t, 82:94, 120 - 3 * t : 134 - 3 * t] = (240, 240, 60)
    frames[masks[0]] = (230, 40, 30)
    frames[masks[1]] = (30, 60, 220)
    noisy = np.clip(frames + rng.normal(0, 2, frames.shape), 0, 255).astype(np.uint8)
    return noisy, plates, masks[0], masks[1], panned(24, SIZE, -3)


@pytest.mark.parametrize("step", [1, 3])
def test_the_mover_without_a_mask_is_found_before_a_moving_camera(pan, step: int) -> None:
    frames, plates, first, second, camera = pan
    seen = list(range(0, 24, step))
    known = np.where(np.isin(np.arange(24), seen)[:, None, None, None], plates, 0)
    found = find_strangers_over(frames, known, first[None], camera, seen)
    assert len(found) == 1  # and not what stands in the scene
    overlap = np.count_nonzero(found[0] & second) / np.count_nonzero(found[0] | second)
    assert overlap > (0.65 if step == 1 else 0.45)
    assert not (found[0] & first).any()
    both = np.stack([first, second])
    assert len(find_strangers_over(frames, known, both, camera, seen)) == 0


def shot_with(frames: np.ndarray, mask: np.ndarray, camera: Camera | None = None) -> Shot:
    """Frames (T, h, w, 3) with one masked object (T, h, w); None: before a camera that stands."""
    return Shot(
        Fraction(12),
        frames,
        Masks.from_arrays(mask[None], ("first",)),
        mask[None],
        FrameSamples.of(frames),
        lambda: iter(frames),
        camera or Camera.static(len(frames), SIZE),
    )


@pytest.mark.parametrize(("share", "strangers"), [(0.0, 1), (0.9, 0)], ids=["nobody's", "image"])
def test_a_shot_before_a_moving_camera_has_strangers(
    pan, monkeypatch, share: float, strangers: int
) -> None:
    frames, plates, first, _, camera = pan
    monkeypatch.setattr("omnimatte_cli.plate.strangers.working_frame_plates", lambda *a: plates)
    shot = shot_with(frames, first, camera)
    told = Said()
    looked = with_strangers(shot, lambda plates: owned_by(share, 0, len(plates)), told)
    assert looked.strangers is not None and len(looked.strangers) == len(told.said) == strangers
    assert looked.first_look is not None  # the plate needs not ask again
    assert with_strangers(shot, None, told) is shot


@pytest.mark.parametrize("moving", [False, True], ids=["still camera", "moving camera"])
def test_over_a_plate_of_the_users_it_is_asked_whose_a_mover_is(
    clip, pan, monkeypatch, moving: bool
) -> None:
    def never(*_: object) -> np.ndarray:
        raise AssertionError("no plate needs to be estimated")

    monkeypatch.setattr("omnimatte_cli.plate.strangers.working_frame_plates", never)
    monkeypatch.setattr("omnimatte_cli.plate.strangers.median_of_free", never)
    frames, mask, camera = (pan[0], pan[2], pan[4]) if moving else (*clip[:2], None)
    image = pan[1] if moving else np.full((1, *SIZE, 3), 90, np.uint8)
    plate = Plate(image[0], np.ones(SIZE, bool), (lambda: iter(image)) if moving else None)
    shot = shot_with(frames, mask, camera)
    asked: list[np.ndarray] = []

    def find_owners(plates: np.ndarray) -> Ownership:
        asked.append(plates)
        return owned_by(0.0, 0.0, len(frames))

    found = with_strangers(shot, find_owners, Said(), plate).strangers
    assert found is not None and len(found) == 1
    assert np.array_equal(asked[0], image)


def test_what_strangers_own_is_unowned(clip) -> None:
    """With them as hidden objects the network's answer is that for all, theirs given to nobody."""
    frames, first, second = clip
    torch.manual_seed(0)
    net = OwnerNet().eval()
    order = np.zeros((24, 1), np.int64)
    plate = np.median(frames, axis=0).astype(np.uint8)[None]
    alone = ClipTensors.from_arrays(frames, first[None], plate, order, torch.device("cpu"))
    both = ClipTensors.from_arrays(
        frames, np.stack([first, second]), plate, order, torch.device("cpu")
    )
    known = predict_ownership(net, both, 3, 12.0, Silent())
    found = predict_ownership(net, alone, 3, 12.0, Silent(), second[None])
    assert found.strangers is not None and known.strangers is None
    assert found.weights.shape[0] == 1
    np.testing.assert_allclose(found.weights[0], known.weights[0], atol=2e-3)
    rest = known.unowned.astype(np.float32) + known.weights[1]
    here = known.weights[1] > 0  # an object long out of sight owns nothing
    np.testing.assert_allclose(found.unowned.astype(np.float32)[here], rest[here], atol=5e-3)
    assert found.strangers is not None  # not averaged over frames that rest, as the others are
    assert np.abs(found.strangers - known.weights[1])[here].mean() < 0.01


def owned_by(first: float, second: float, length: int) -> Ownership:
    """Two objects that own the same share everywhere, the rest nobody."""
    weights = np.empty((2, length, *SIZE), np.float16)
    weights[0], weights[1] = first, second
    return Ownership(weights, np.full((length, *SIZE), 1 - first - second, np.float16))


def test_the_shares_that_objects_own(clip) -> None:
    _, first, second = clip
    movers = np.stack([first, second, np.zeros_like(first)])
    ownership = owned_by(0.0, 0.125, 24)
    ownership.weights[0][first] = 0.5
    ownership.unowned[first] = 0.375
    shares = owned_shares(ownership, movers, [0, 5, 20])
    assert np.allclose(shares, [[0.5, 0.125], [0, 0.125], [0, 0]])


@pytest.mark.parametrize(
    ("first", "second", "strangers"),
    [
        (0.0, 0.0, 1),
        pytest.param(0.28, 0.28, 1, marks=pytest.mark.slow),
        pytest.param(0.37, 0.37, 0, marks=pytest.mark.slow),
        (0.0, 0.35, 0),
    ],
    ids=["nobody's", "a little of two's, as a car that passes", "two images", "one's image"],
)
def test_a_mover_that_one_object_owns_is_its_mirror_image(
    clip, first: float, second: float, strangers: int
) -> None:
    frames, mask, _ = clip
    shot = shot_with(frames, mask)
    asked: list[np.ndarray] = []

    def find_owners(plates: np.ndarray) -> Ownership:
        asked.append(plates)
        return owned_by(first, second, len(frames))

    told = Said()
    found = with_strangers(shot, find_owners, told).strangers
    assert found is not None and len(found) == strangers and len(told.said) == strangers
    # Over the median of all frames, in which nothing that moves is left.
    assert asked[0].shape == (1, *SIZE, 3)
    assert np.abs(asked[0][0] - np.median(frames, axis=0)).max() <= 1
    if strangers:
        assert told.said[0].startswith(
            "1 more thing moves than the masks show: what it changes stays out"
        )
    if not first + second:  # it is the same where nobody can be asked
        unknown = with_strangers(shot, None, told).strangers
        assert unknown is not None and len(unknown) == 1


@pytest.mark.slow
def test_the_shipped_network_tells_a_stranger_from_a_mirror_image(tmp_path: Path) -> None:
    """What moves in the mirror is an object's; an object whose mask is kept back is nobody's."""
    options = SceneOptions(
        frames=24, gap=1, height=128, width=160, min_objects=2, max_objects=2, effect="reflection"
    )
    write_scene(tmp_path / "scene", DATASET_SEEDS + 7000, options)
    truth = read_truth(tmp_path / "scene")
    still = Camera.static(24, (128, 160))
    shot = replace(shot_of(truth), camera=still)
    run = Run(
        torch.device("cpu"), 0, ownership=ownership_network(None, "auto", torch.device("cpu"))
    )
    assert len(find_strangers(shot.frames, shot.small)) == 1  # the image in the mirror
    found = with_strangers(shot, find_owners(shot, run, Silent()), Silent()).strangers
    assert found is not None and len(found) == 0
    one = Masks.from_arrays(truth.masks[1:], ("1",))
    alone = replace(shot, masks=one, small=shot.small[1:])
    found = with_strangers(alone, find_owners(alone, run, Silent()), Silent()).strangers
    assert found is not None
    body = truth.masks[0]
    shares = [np.count_nonzero(f & body) / np.count_nonzero(f | body) for f in found]
    assert max(shares) > 0.5

"""The plate of every frame, against clips whose true plates are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera import canvas
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.camera.registration import register
from omnimatte_cli.errors import VideoError
from omnimatte_cli.media import samples
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate import temporal
from omnimatte_cli.plate.estimate import written
from omnimatte_cli.plate.settle import Samples, settle
from omnimatte_cli.plate.steady import KEPT, steadied
from omnimatte_cli.plate.temporal import FramePlate, frame_plates, pick_neighbours
from omnimatte_cli.progress import Silent
from tests.moving_clips import Shoot, cameras, shoot

pytestmark = pytest.mark.slow

SIZE = (96, 168)


def psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    error = (image.astype(float) - truth)[where]
    return float(10 * np.log10(255**2 / (error**2).mean()))


def grown(mask: np.ndarray, by: int = 2) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1))) > 0


@pytest.fixture(scope="module")
def filmed() -> Shoot:
    return shoot(28, SIZE, seed=1)


@pytest.fixture(scope="module")
def plates(filmed: Shoot) -> list[FramePlate]:
    camera = register(iter(filmed.frames), lambda t: filmed.masks[t])
    return list(frame_plates(lambda: iter(filmed.frames), camera, lambda t: grown(filmed.masks[t])))


def test_the_plate_is_true_where_the_scene_is_seen(filmed: Shoot, plates: list[FramePlate]) -> None:
    assert len(plates) == len(filmed.frames)
    for plate, truth, mask in zip(plates, filmed.plates, filmed.masks, strict=True):
        assert plate.valid.mean() > 0.99
        assert psnr(plate.image, truth, plate.valid) > 36
        assert psnr(plate.image, truth, plate.valid & mask) > 36
        assert plate.image.dtype == np.uint8 and plate.variation.dtype == np.float32
        assert plate.samples[plate.valid].min() > 0 and plate.variation.max() < 1


def test_plates_may_be_as_sharp_as_their_frames(filmed: Shoot) -> None:
    """They are nearer to the truth for it, behind masks, too."""
    camera, some = Camera(filmed.homographies, SIZE), [8, 9, 10]
    stream, hidden = lambda: iter(filmed.frames), lambda t: grown(filmed.masks[t])
    soft, sharp = (
        list(frame_plates(stream, camera, hidden, wanted=some, sharp=x)) for x in (False, True)
    )
    for t, before, plate in zip(some, soft, sharp, strict=True):
        truth, mask = filmed.plates[t], filmed.masks[t]
        for where in (plate.valid & ~mask, plate.valid & mask):
            assert psnr(plate.image, truth, where) > psnr(before.image, truth, where) + 0.4


def test_variation_tells_grain_from_what_moves_by_itself(filmed: Shoot) -> None:
    """A patch that flickers varies, the rest only by its grain of 2 levels."""
    rng = np.random.default_rng(0)
    frames = filmed.frames.copy()
    restless = np.zeros(SIZE, bool)
    restless[10:40, 110:150] = True
    still = Camera.static(len(frames), SIZE)
    frames = np.repeat(frames[:1], 20, 0)
    frames = np.clip(frames + rng.normal(0, 2, frames.shape), 0, 255).astype(np.uint8)
    frames[:, restless] = np.clip(
        frames[:, restless] + rng.normal(0, 30, (20, 1, 1)), 0, 255
    ).astype(np.uint8)
    still = Camera.static(20, SIZE)
    plate = next(frame_plates(lambda: iter(frames), still, lambda t: np.zeros(SIZE, bool)))
    assert plate.variation[restless].mean() * 255 > 10
    assert plate.variation[~restless].mean() * 255 < 3


def test_behind_an_object_restless_ground_looks_as_around_it() -> None:
    """Waves: in a part of the picture every frame is as bright as it likes."""
    rng = np.random.default_rng(3)
    scene = shoot(1, SIZE, seed=2).plates[0].astype(float)
    waves, hidden = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    waves[16:80, 60:160], hidden[36:60, 90:120] = True, True
    offsets = rng.normal(0, 25, 9)
    looks = np.stack([np.clip(scene + waves[..., None] * o, 0, 254) for o in offsets])
    truth = looks[0].astype(np.uint8)
    frame = truth.copy()
    frame[hidden] = 0
    samples = Samples(looks[1:].astype(np.uint8), np.ones((8, *SIZE), bool))
    plain = np.median(samples.images, 0)
    settle(samples, frame, hidden, SIZE)
    assert np.array_equal(samples.images[:, ~hidden], looks[1:].astype(np.uint8)[:, ~hidden])
    assert samples.shown[:, ~hidden].all()
    settled = np.ma.median(
        np.ma.masked_array(samples.images, ~np.stack([samples.shown] * 3, -1)), 0
    )
    error = [np.abs(x.astype(float) - truth)[hidden].mean() for x in (plain, settled.filled())]
    assert error[0] > 10 and error[1] < 4, error


def test_a_frame_is_no_sample_of_its_own_plate(filmed: Shoot) -> None:
    camera = Camera(cameras(30, SIZE, 1), SIZE)
    for t in (0, 3, 15, 29):
        picked = pick_neighbours(camera, t, 16, 40)
        assert t not in picked and len(picked) == len(set(picked)) and len(picked) >= 14
        assert set(picked) <= set(range(30))
    # A flash in one frame alone does not show in any plate.
    frames = filmed.frames[:14].copy()
    frames[9, 40:60, 60:90] = 255
    camera = Camera(filmed.homographies[:14], SIZE)
    plates = frame_plates(lambda: iter(frames), camera, lambda t: grown(filmed.masks[t]))
    for plate, truth in zip(plates, filmed.plates[:14], strict=True):
        assert psnr(plate.image, truth, plate.valid) > 35


def test_a_shadow_that_is_owned_leaves_the_plate(filmed: Shoot) -> None:
    """A shadow that goes along with the camera, and so rests on the ground in most samples."""
    frames = filmed.frames.copy()
    owned = np.zeros((len(frames), *SIZE), bool)
    for t in range(len(frames)):
        # Nearly still on the ground: it creeps by a pixel a frame.
        x, y = np.linalg.solve(filmed.homographies[t], [50 + t, 75, 1.0])[:2]
        w = np.linalg.solve(filmed.homographies[t], [50 + t, 75, 1.0])[2]
        disc = (
            cv2.ellipse(
                np.zeros(SIZE, np.uint8), (round(x / w), round(y / w)), (18, 7), 0, 0, 360, 1, -1
            )
            > 0
        )
        frames[t, disc] = (frames[t, disc] * 0.5).astype(np.uint8)
        owned[t] = disc
    camera = register(iter(frames), lambda t: filmed.masks[t])

    def plates_of(clip: np.ndarray, known: bool) -> Iterator[FramePlate]:
        return frame_plates(
            lambda: iter(clip),
            camera,
            lambda t: grown(filmed.masks[t]),
            (lambda t: grown(owned[t])) if known else None,
        )

    def errors(known: bool) -> list[float]:
        return [
            psnr(p.image, truth, o & p.valid)
            for p, truth, o in zip(plates_of(frames, known), filmed.plates, owned, strict=True)
            if (o & p.valid).sum() > 60
        ]

    before, after = errors(False), errors(True)
    assert np.median(before) < 20 and len(before) > 14
    assert np.median(after) > 30 and len(after) > 5
    # So it leaves the one picture that is kept of the whole scene, in part by a guess.
    clean, ghost = (next(plates_of(x, False)).canvas for x in (filmed.frames, frames))
    kept = written(plates_of(frames, True), SIZE, None, (), Silent()).canvas
    assert clean is not None and ghost is not None and kept is not None
    shadow = np.abs(ghost.astype(int) - clean).max(2) > 20
    assert shadow.sum() > 200
    assert psnr(ghost, clean, shadow) < 14 and psnr(kept, clean, shadow) > 20


@pytest.mark.parametrize("moving", [False, True])
def test_light_that_drifts_is_followed(moving: bool, tmp_path: Path) -> None:
    """Each frame's plate has that frame's light: gains of .8 to 1.1, a channel by itself."""
    count = 12
    h = None if moving else np.tile(np.eye(3), (count, 1, 1))
    clip = shoot(count, SIZE, seed=4, homographies=h)
    gains = 0.95 + 0.15 * np.sin(np.linspace(0, 4, count))[:, None] * (1, 0.9, 0.8)
    lit = np.clip(clip.frames * gains[:, None, None], 0, 255).astype(np.uint8)
    camera = register(iter(lit), lambda t: clip.masks[t])
    assert camera.moving == moving
    plates = list(frame_plates(lambda: iter(lit), camera, lambda t: grown(clip.masks[t])))
    for plate, truth, gain in zip(plates, clip.plates, gains, strict=True):
        assert psnr(plate.image, np.clip(truth * gain, 0, 255), plate.valid) > 35
    # What is said of it is what happened: a middle grey's change against the first frame's.
    said = written(iter(plates), SIZE, tmp_path / "plates", range(count), Silent()).light
    grey = np.array([[*light["gain"]] + np.array(light["offset"]) / 128 for light in said])
    assert np.allclose(grey / grey[0], gains / gains[0], atol=0.04)


@pytest.mark.parametrize("moving", [False, True])
def test_light_is_told_where_effects_are(moving: bool) -> None:
    """What passes for an effect may be the light: it would be believed for good, if no light were
    looked for there."""
    count = 12
    h = None if moving else np.tile(np.eye(3), (count, 1, 1))
    clip = shoot(count, SIZE, seed=4, homographies=h)
    gains = np.where(np.arange(count) < 8, 1, 0.8)
    lit = (clip.frames * gains[:, None, None, None]).astype(np.uint8)
    camera = register(iter(lit), lambda t: clip.masks[t])

    def owned(t: int) -> np.ndarray:
        return np.full(SIZE, t >= 8)

    plates = frame_plates(lambda: iter(lit), camera, lambda t: grown(clip.masks[t]), owned)
    for plate, truth, gain in zip(plates, clip.plates, gains, strict=True):
        assert psnr(plate.image, truth * gain, plate.valid) > 32


@pytest.mark.parametrize("fits", [False, True])
def test_light_of_a_long_clip_is_followed_in_one_pass(monkeypatch, fits: bool) -> None:
    """However many strips the samples take; all frames are followed, not the samples alone."""
    count = 60
    clip = shoot(count, SIZE, seed=4, homographies=np.tile(np.eye(3), (count, 1, 1)))
    gains = 0.95 + 0.15 * np.sin(np.linspace(0, 9, count))[:, None] * (1, 0.9, 0.8)
    lit = np.clip(clip.frames * gains[:, None, None], 0, 255).astype(np.uint8)
    monkeypatch.setattr(canvas, "LONG", 30)
    monkeypatch.setattr(canvas, "STATIC_SAMPLES", 15)
    monkeypatch.setattr(samples, "SCRATCH_BYTES", lit.nbytes if fits else lit[0].nbytes * 24)
    opened = []

    def stream() -> Iterator[np.ndarray]:
        opened.append(len(opened))
        return iter(lit)

    still, kept = Camera.static(count, SIZE), FrameSamples.of(lit)
    assert kept.complete == fits
    plates = frame_plates(stream, still, lambda t: grown(clip.masks[t]), kept=kept)
    for plate, truth, gain in zip(plates, clip.plates, gains, strict=True):
        assert psnr(plate.image, np.clip(truth * gain, 0, 255), plate.valid) > 35
    assert len(opened) == 1


def test_a_static_plate_is_the_median_and_the_same_in_every_frame() -> None:
    clip = shoot(15, SIZE, seed=5, homographies=np.tile(np.eye(3), (15, 1, 1)))
    hidden = [grown(m) for m in clip.masks]
    plates = list(
        frame_plates(lambda: iter(clip.frames), Camera.static(15, SIZE), lambda t: hidden[t])
    )
    masked = np.where(np.stack(hidden)[..., None], np.nan, clip.frames.astype(float))
    seen = plates[0].valid
    truth = np.floor(np.nanmedian(masked[:, seen], axis=0) + 0.5)
    assert all(np.array_equal(p.image[seen], truth) for p in plates)


def test_what_is_darker_is_doubted_where_all_around_varies() -> None:
    """In one place alone a shadow was missed in some samples: a frame as dark has it, too."""
    image, samples = np.zeros((80, 160, 3), np.uint8), np.full((80, 160), 12, np.uint8)
    variation = np.full((80, 160), 1 / 255, np.float32)
    variation[:, 80:] = 20 / 255  # the sea
    variation[38:42, 20:30] = 20 / 255  # a shadow
    doubts = FramePlate(image, samples, samples > 0, variation).doubts((40, 80))
    assert doubts.shape == (40, 80, 2) and doubts.dtype == np.uint8
    assert (doubts[:, 60:] == 20).all()
    assert (doubts[19:21, 10:15, 1] == 20).all() and (doubts[19:21, 10:15, 0] < 6).all()
    assert (doubts[:10, :20] == 1).all()


def test_what_is_never_seen_is_a_guess() -> None:
    """An object that never moves before a camera that does not: filled, and said."""
    clip = shoot(8, SIZE, seed=6, homographies=np.tile(np.eye(3), (8, 1, 1)))
    hidden = np.zeros(SIZE, bool)
    hidden[40:70, 80:110] = True
    frames = clip.plates.copy()
    frames[:, hidden] = (255, 0, 255)
    plate = next(frame_plates(lambda: iter(frames), Camera.static(8, SIZE), lambda t: hidden))
    assert np.array_equal(~plate.valid, hidden)
    assert (plate.samples[hidden] == 0).all()
    assert np.abs(plate.image[hidden] - np.array([255.0, 0, 255])).max(1).min() > 30
    assert psnr(plate.image, clip.plates[0], hidden) > 12


def test_two_scenes_do_not_mix() -> None:
    first, second = shoot(7, SIZE, seed=7), shoot(7, SIZE, seed=8)
    frames = np.concatenate([first.frames, second.frames])
    masks = np.concatenate([first.masks, second.masks])
    camera = register(iter(frames), lambda t: masks[t])
    assert camera.cuts == (7,)
    plates = list(frame_plates(lambda: iter(frames), camera, lambda t: grown(masks[t])))
    truths = np.concatenate([first.plates, second.plates])
    for t in (0, 6, 7, 13):
        assert psnr(plates[t].image, truths[t], plates[t].valid) > 34


def test_two_frames_are_enough_to_run() -> None:
    clip = shoot(2, SIZE, seed=9)
    camera = register(iter(clip.frames), lambda t: clip.masks[t])
    plates = list(frame_plates(lambda: iter(clip.frames), camera, lambda t: clip.masks[t]))
    assert len(plates) == 2


def test_frames_are_let_go() -> None:
    """Of a long clip no more frames are held than lie within the span."""
    clip = shoot(1, SIZE, seed=1)
    alive: list[int] = []

    class Frame(np.ndarray):
        def __del__(self) -> None:
            alive.remove(1)

    def frames() -> Iterator[np.ndarray]:
        for t in range(50):
            alive.append(1)
            yield np.roll(clip.frames[0], -t, 1).view(Frame)

    h = np.tile(np.eye(3), (50, 1, 1))
    h[:, 0, 2] = np.arange(50.0)
    most = 0
    plates = frame_plates(
        frames, Camera(h, SIZE), lambda t: np.zeros(SIZE, bool), neighbours=4, span=6
    )
    for _ in plates:
        most = max(most, len(alive))
    assert 6 < most < 24, most


def test_a_video_that_ends_early_is_an_error() -> None:
    clip = shoot(4, SIZE, seed=1)
    camera = Camera(cameras(6, SIZE, 1), SIZE)
    with pytest.raises(VideoError, match="ended after 4 of 6"):
        list(frame_plates(lambda: iter(clip.frames), camera, lambda t: clip.masks[t]))


def plate_changes(plates: list[FramePlate], camera: Camera, masks: np.ndarray) -> float:
    """Mean levels by which plates differ behind objects from those before, seen from there."""
    found = []
    for t in range(1, len(plates)):
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        motion = camera.between(t, t - 1)
        old = cv2.warpPerspective(plates[t - 1].image, motion, SIZE[::-1], flags=flags)
        found.append(cv2.absdiff(old, plates[t].image)[masks[t]].mean())
    return float(np.mean(found))


def test_plates_stand_still_behind_objects(
    filmed: Shoot, plates: list[FramePlate], monkeypatch
) -> None:
    camera = register(iter(filmed.frames), lambda t: filmed.masks[t])
    monkeypatch.setattr("omnimatte_cli.plate.temporal.steadied", lambda image, *_: image)
    single = list(
        frame_plates(lambda: iter(filmed.frames), camera, lambda t: grown(filmed.masks[t]))
    )
    before, after = (plate_changes(p, camera, filmed.masks) for p in (single, plates))
    assert after < 0.6 * before
    truths = list(zip(filmed.plates, filmed.masks, strict=True))
    alone, mixed = (
        np.mean([psnr(p.image, *truth) for p, truth in zip(x, truths, strict=True)])
        for x in (single, plates)
    )
    assert mixed > alone


def test_what_is_in_sight_is_left_and_what_was_wrong_forgotten() -> None:
    rng = np.random.default_rng(0)
    plate = rng.integers(60, 200, (*SIZE, 3), dtype=np.uint8)
    plate = cv2.GaussianBlur(plate, (0, 0), 1.5)
    hidden = np.zeros(SIZE, bool)
    hidden[30:70, 60:100] = True
    before = plate.copy()
    before[36:48, 66:94] += 8  # a guess that was a little off
    before[52:64, 66:94] = 255 - plate[52:64, 66:94]  # and something else
    found = steadied(plate, before, np.eye(3), hidden).astype(int) - plate
    assert np.median(found[38:46, 68:92]) == round(8 * KEPT)
    assert np.abs(found[54:62, 68:92]).mean() < 6
    assert not found[:, :50].any() and not found[:20].any()
    # A change of light is none of the scene.
    brighter = steadied(plate, plate + np.uint8(10), np.eye(3), hidden)
    assert np.array_equal(brighter, plate)
    assert steadied(plate, before, np.eye(3), np.zeros(SIZE, bool)) is plate


@pytest.mark.parametrize("room", [True, False])
def test_the_next_frame_is_begun_where_there_is_room(monkeypatch, room: bool) -> None:
    clip = shoot(5, SIZE, seed=1)
    camera = Camera(clip.homographies, SIZE)
    done: list[str] = []
    begin, finish = temporal._aligned, temporal.settle
    monkeypatch.setattr(temporal, "_aligned", lambda *a: (done.append("begun"), begin(*a))[1])
    monkeypatch.setattr(temporal, "settle", lambda *a: (done.append("settled"), finish(*a))[1])
    if not room:
        monkeypatch.setattr(temporal, "AHEAD", 0)
    plates = list(frame_plates(lambda: iter(clip.frames), camera, lambda t: clip.masks[t]))
    assert len(plates) == 5
    pairs = ["begun", *["begun", "settled"] * 4, "settled"]
    assert done == (pairs if room else ["begun", "settled"] * 5)

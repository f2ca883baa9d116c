"""What is doubtful about a registration reaches the user: said on the way, kept, and said last."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.camera.model import Camera
from omnimatte_cli.camera.registration import register
from omnimatte_cli.commands.decompose import print_result
from omnimatte_cli.deliver.manifest import describe_camera
from omnimatte_cli.plate.estimate import find_camera
from omnimatte_cli.settings import Settings
from omnimatte_cli.shot import read_shot
from tests.conftest import Said, encode, write_masks
from tests.moving_clips import plane, shoot

SIZE = (96, 168)


def posts(count: int, nearer: float) -> np.ndarray:
    """A dolly past posts before a wall, (T, H, W, 3): they pass `nearer` times as fast as it."""
    far, near = plane(1), plane(7)
    standing = np.zeros(near.shape[:2], np.float32)
    for x in range(0, near.shape[1], 90):
        standing[:, x : x + 30] = 1

    def seen(wall: np.ndarray, t: int, speed: float) -> np.ndarray:
        x = round(300 + speed * t)
        part = wall[300 : 300 + 2 * SIZE[0], x : x + 2 * SIZE[1]]
        return cv2.resize(part, SIZE[::-1], interpolation=cv2.INTER_AREA)

    frames = []
    for t in range(count):
        share = seen(standing, t, 4 * nearer)
        share[: SIZE[0] // 3] = 0
        share = share[..., None]
        frames.append(seen(far, t, 4) * (1 - share) + seen(near, t, 4 * nearer) * share)
    return np.rint(frames).astype(np.uint8)


def flat(count: int) -> np.ndarray:
    noise = np.random.default_rng(6).normal(0, 2, (count, *SIZE, 3))
    return np.clip(120 + noise, 0, 255).astype(np.uint8)


def cut(count: int) -> np.ndarray:
    half = count // 2
    return np.concatenate([shoot(half, SIZE, seed).frames for seed in (7, 8)])


def long_pan(count: int) -> np.ndarray:
    motions = np.tile(np.eye(3), (count, 1, 1))
    motions[:, 0, 2] = 30.0 * np.arange(count)
    return shoot(count, SIZE, 3, motions).frames


def of_file(frames: np.ndarray, folder: Path, progress: Said) -> Camera:
    """The camera that a run finds, given a video and masks on disk."""
    video = encode(folder / "video.mkv", frames, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, 40:60, 10:20] = True
    settings = Settings(masks=write_masks(folder / "masks" / "a", masks).parent)
    _, shot = read_shot(video, None, settings, progress)
    return find_camera(shot, settings, progress)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (posts(26, 3.0), ["strong parallax", "frame"]),
        (flat(8), ["too little texture", "static"]),
        (cut(16), ["A new scene begins at frame 8"]),
        (long_pan(44), ["times the frame's area", "shorter stretches"]),
    ],
    ids=["parallax", "no texture", "cut", "canvas"],
)
def test_it_is_said_kept_and_said_last(
    frames: np.ndarray, says: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Said()
    camera = of_file(frames, tmp_path, progress)
    doubts = [d for d in camera.doubts if all(s in d for s in says)]
    assert doubts, camera.doubts
    assert set(camera.doubts) <= set(progress.said)
    kept = describe_camera(camera)
    assert kept["doubts"] == list(camera.doubts)
    manifest = {
        "psnr": {"plate_outside_layers": 30.0, "after_detail": 30.0},
        "seconds": {},
        "objects": {"names": ["a"]},
        "input": {"frames": len(frames)},
        "camera": kept,
    }
    print_result(manifest, tmp_path / "out", None)
    assert capsys.readouterr().out.splitlines()[-1] == f"Doubtful: {camera.doubts[-1]}"


def test_a_little_depth_is_no_doubt() -> None:
    assert register(iter(posts(16, 1.15))).doubts == ()

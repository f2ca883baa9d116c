"""Faults while a run works: one sentence, and nothing that is half finished looks finished."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.media import samples
from omnimatte_cli.pipeline import decompose
from omnimatte_cli.progress import Silent
from omnimatte_cli.settings import Settings
from tests.conftest import encode, scene, write_masks

pytestmark = pytest.mark.slow


class Saboteur(Silent):
    """Does damage when a stage begins."""

    def __init__(self, stage: str, damage: Callable[[], None]) -> None:
        self.wanted, self.damage, self.done = stage, damage, False

    def stage(self, name: str, total: int | None = None) -> None:
        if name == self.wanted and not self.done:
            self.done = True
            self.damage()


@pytest.fixture
def clip(tmp_path: Path, monkeypatch) -> Path:
    """v.mkv, masks/ and ground.mkv; so little scratch that the video is read more than once."""
    video, masks = scene(9)
    lossless = ("-c:v", "ffv1", "-pix_fmt", "gbrp")
    encode(tmp_path / "v.mkv", video, *lossless)
    encode(tmp_path / "other.mkv", video[:, ::-1], *lossless)
    encode(tmp_path / "ground.mkv", video[:1].repeat(9, 0), *lossless)
    write_masks(tmp_path / "masks" / "block", masks)
    monkeypatch.setattr(samples, "SCRATCH_BYTES", 1)
    monkeypatch.setattr(samples, "FEWEST_SAMPLES", 3)
    return tmp_path


def run(clip: Path, stage: str, damage: Callable[[], None], **options: object) -> str:
    """The sentence that a run ends with; its output folder must be as it was."""
    out = clip / "results" / "out"
    progress = Saboteur(stage, damage)
    settings = Settings(
        masks=clip / "masks", method="ownership", size=(32, 48), report=False, **options
    )  # type: ignore[arg-type]
    with pytest.raises((OmnimatteError, OSError)) as caught:
        decompose(clip / "v.mkv", out, settings, progress)
    assert progress.done, f"there is no stage {stage}"
    left = sorted(p.name for p in out.parent.iterdir()) if out.parent.exists() else []
    assert left == [], left
    text = str(caught.value)
    assert "\n" not in text and ".work" not in text and "partial" not in text, text
    return text


def test_the_video_is_cut_short(clip: Path) -> None:
    video = clip / "v.mkv"
    text = run(clip, "writing", lambda: os.truncate(video, video.stat().st_size // 2))
    assert text.startswith(f"{video} was changed while it was read")


def test_the_video_is_swapped_for_one_of_the_same_length(clip: Path) -> None:
    text = run(clip, "writing", lambda: os.replace(clip / "other.mkv", clip / "v.mkv"))
    assert "v.mkv was changed while it was read" in text


def test_the_video_vanishes(clip: Path) -> None:
    text = run(clip, "writing", lambda: (clip / "v.mkv").unlink())
    assert "v.mkv has vanished while it was read" in text


def test_the_plate_is_swapped(clip: Path) -> None:
    text = run(
        clip, "writing", lambda: os.replace(clip / "other.mkv", clip / "ground.mkv"),
        background=clip / "ground.mkv",
    )  # fmt: skip
    assert "ground.mkv was changed while it was read" in text


@pytest.mark.parametrize("camera", ["static", "moving"])
def test_the_output_is_deleted(clip: Path, camera: str) -> None:
    """Before a moving camera the plates of the frames, which are read again, are in it, too."""
    text = run(clip, "writing", lambda: shutil.rmtree(clip / "results"), camera=camera)
    assert text == f"What was written for {clip}/results/out was deleted under way: run it again."


def test_the_disk_is_full_for_images(clip: Path, monkeypatch) -> None:
    write = Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if self.suffix == ".png" and "00004" in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, data)

    text = run(clip, "writing", lambda: monkeypatch.setattr(Path, "write_bytes", full))
    out = clip / "results" / "out"
    assert text == f"{out}/layers/block/00004.png cannot be written: No space left on device."


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_the_disk_is_full_for_videos(clip: Path) -> None:
    """A program that finds no room says so itself; its last line is what the user is told."""
    program = clip / "ffmpeg"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *-encoders) echo Encoders:; echo " V libx264 x"; exit 0;; esac\n'
        "cat >/dev/full\n"
    )
    program.chmod(0o755)
    text = run(clip, "writing", lambda: None, ffmpeg=program)
    assert "ffmpeg could not write" in text and "No space left on device" in text


def test_the_disk_is_read_only(clip: Path, monkeypatch) -> None:
    def refuse(*args: object, **more: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    text = run(clip, "plate", lambda: monkeypatch.setattr(Path, "write_bytes", refuse))
    assert text == f"{clip}/results/out/background.png cannot be written: Read-only file system."


def test_ffmpeg_is_killed(clip: Path) -> None:
    """As a machine that runs out of memory does it."""
    program = clip / "ffmpeg"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *-encoders) echo Encoders:; echo " V libx264 x"; exit 0;; esac\n'
        "head -c 20000 >/dev/null; kill -9 $$\n"
    )
    program.chmod(0o755)
    text = run(clip, "writing", lambda: None, ffmpeg=program)
    assert "ffmpeg could not write" in text and "ended with status -9" in text


def test_the_command_says_it_in_one_line(clip: Path) -> None:
    """An unexpected error of a library, with many lines, is still one sentence."""
    program = (
        "import sys\n"
        "from omnimatte_cli import pipeline\n"
        "def fail(*args):\n"
        "    raise ValueError('first line\\n  second line\\n' + 'x' * 5000)\n"
        "pipeline.plate_of = fail\n"
        "from omnimatte_cli.cli import app\n"
        "app(sys.argv[1:])\n"
    )
    line = ["decompose", clip / "v.mkv", "--masks", clip / "masks", "-o", clip / "out", "-q"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, line), "--size", "48x32"],
        capture_output=True, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.returncode == 1 and not (clip / "out").exists()
    (told,) = done.stderr.splitlines()
    assert told.startswith("Error: Internal error: ValueError: first line second line xxx")
    assert len(told) < 700

"""Faults that were found by reading, and that no other test would show again.

The files that tell of one part of the program hold the tests of their own.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli import decompose, shot
from omnimatte_cli.api import make_settings
from omnimatte_cli.cli import app
from omnimatte_cli.errors import MaskError, OptionError, OutputError, VideoError
from omnimatte_cli.masks.names import read_names
from omnimatte_cli.media.folder import state_path
from omnimatte_cli.media.images import list_images
from omnimatte_cli.methods.base import Run
from omnimatte_cli.pipeline import write_background
from omnimatte_cli.progress import Silent
from omnimatte_cli.settings import MaskSettings, Settings
from tests.conftest import encode, scene, write_masks
from tests.moving_clips import shoot
from tests.test_background import Said


def write_clip(folder: Path, video: np.ndarray, masks: np.ndarray) -> tuple[Path, Path]:
    """A lossless video and its masks."""
    encode(folder / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(folder / "masks" / "block", masks)
    return folder / "v.mkv", folder / "masks"


@pytest.mark.slow
def test_a_camera_that_moves_is_said(tmp_path: Path) -> None:
    """By `decompose` and `background`; its plate was of 12 dB, without a word."""
    pan = np.tile(np.eye(3), (8, 1, 1))
    pan[:, 0, 2] = 4 * np.arange(8)
    clip = shoot(8, (96, 160), 3, pan)
    video, masks = write_clip(tmp_path, clip.frames, clip.masks)
    heard = Said()
    write_background(video, Settings(masks=masks), tmp_path / "plates", heard)
    assert any("The camera moves, up to" in s for s in heard.said)
    heard = Said()
    done = decompose(video, tmp_path / "out", masks=masks, device="cpu", progress=heard)
    assert any("The camera moves, up to" in s for s in heard.said)
    assert done.manifest["camera"]["kind"] == "moving"


@pytest.mark.slow
def test_an_unfinished_training_outlives_other_runs(tmp_path: Path) -> None:
    """It was deleted by an ownership run to the same folder, and lost when a mask changed."""
    state = state_path(tmp_path / "out")
    run = Run(device=None, state=state)  # type: ignore[arg-type]
    mine, others = run.state_file("a" * 64), run.state_file("b" * 64)
    assert mine is not None and others is not None and mine != others
    mine.write_bytes(b"hours of work")
    video, masks = write_clip(tmp_path, *scene(5, (36, 64)))
    for overwrite in (False, True):
        decompose(video, tmp_path / "out", masks=masks, method="ownership", overwrite=overwrite)
        assert mine.read_bytes() == b"hours of work"


def test_seed_and_device_reach_the_making_of_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the command and of the Python interface, which takes the same words."""
    seen: list[MaskSettings] = []

    class Enough(Exception):
        pass

    def make(source: Path, out: Path, settings: MaskSettings, *_: object, **__: object) -> None:
        seen.append(settings)
        raise Enough

    monkeypatch.setattr(shot, "make_masks", make)
    video, _ = write_clip(tmp_path, *scene(4, (36, 64)))
    given = ["--seed", "7", "--device", "cpu", "--point", "dog:0:3,4", "--max-objects", "2"]
    CliRunner().invoke(app, ["decompose", str(video), "-o", str(tmp_path / "a"), *given])
    with pytest.raises(Enough):
        decompose(video, tmp_path / "b", seed=7, device="cpu", points=["dog:0:3,4"], max_objects=2)
    assert seen[0] == seen[1]
    assert (seen[0].seed, seen[0].device, seen[0].points) == (7, "cpu", ("dog:0:3,4",))
    with pytest.raises(OptionError, match="points"):
        make_settings({}, {"making": MaskSettings(), "points": ("dog:0:3,4",)})


@pytest.mark.slow
def test_verbose_says_what_is_decided(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video, masks = write_clip(tmp_path, *scene(5, (36, 64)))
    with caplog.at_level(logging.INFO, "omnimatte_cli"):
        decompose(video, tmp_path / "out", masks=masks, method="ownership", device="cpu")
    for words in ("Weights ownership", "Working size: ", "camera stands still", "One plate holds"):
        assert words in caplog.text, words


def test_background_names_no_file_that_it_does_not_write(tmp_path: Path) -> None:
    video, masks = scene(4, (36, 64))
    masks[:] = False
    masks[:, 10:20, 20:40] = True  # covered in every frame
    where, folder = write_clip(tmp_path, video, masks)
    heard = Said()
    write_background(where, Settings(masks=folder, camera="static"), tmp_path / "p.png", heard)
    said = [s for s in heard.said if "is a guess" in s]
    assert said and not any(".png" in s for s in said)


def test_a_plates_place_is_looked_at_before_the_video(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.json").write_text("{}")
    (tmp_path / "masks").mkdir()
    settings = Settings(overwrite=True, masks=tmp_path / "masks")
    nothing = tmp_path / "none.mp4"
    for place, words in (("mine", "not a result"), ("masks/plates", "would take it for input")):
        with pytest.raises(OutputError, match=words):
            write_background(nothing, settings, tmp_path / place)
    with pytest.raises(VideoError, match="does not exist"):
        write_background(nothing, settings, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["masks", "mine"]


def test_a_sequences_rate_is_said_and_can_be_given(tmp_path: Path) -> None:
    video, masks = scene(4, (36, 64))
    write_masks(tmp_path / "in", video)
    write_masks(tmp_path / "masks" / "block", masks)
    info, _ = shot.read_shot(tmp_path / "in", None, Settings(), heard := Said())
    assert info.fps == 24 and any("24 per second" in s and "--fps" in s for s in heard.said)
    info, _ = shot.read_shot(tmp_path / "in", None, Settings(fps="30000/1001"), Silent())
    assert (info.fps.numerator, info.fps.denominator) == (30000, 1001)


@pytest.mark.parametrize("rest", ["", " ", "_"])
def test_what_has_no_number_comes_first(rest: str, tmp_path: Path) -> None:
    names = ["mask.png", *(f"mask{rest}{n}.png" for n in (1, 2, 10))]
    for name in names:
        (tmp_path / name).touch()
    assert [p.name for p in list_images(tmp_path)] == names


def test_a_gap_in_a_sequences_numbers_is_said(tmp_path: Path) -> None:
    write_masks(tmp_path / "in", scene(5, (36, 64))[0])
    (tmp_path / "in" / "00002.png").unlink()
    heard = Said()
    shot.read_shot(tmp_path / "in", None, Settings(), heard)
    assert any("missing" in s or "gap" in s for s in heard.said), json.dumps(heard.said)


def test_names_that_are_no_names_are_left_alone(tmp_path: Path) -> None:
    video, masks = scene(4)
    path, folder = write_clip(tmp_path, video, masks)
    (folder / "block").rename(tmp_path / "labels")
    odd = [{"name": "a", "id": 1, "color": ["a", "b", "c"]}, {"name": "b", "id": 2, "color": [1]}]
    facts = {"categories": odd, "segments_info": [{"id": 5, "category_id": [1]}]}
    (tmp_path / "labels" / "x.json").write_text(json.dumps(facts))
    (tmp_path / "labels" / "deep.json").write_text("[" * 100_000)
    assert read_names(tmp_path / "labels") == {1: "a", 2: "b"}
    for image in (tmp_path / "labels").glob("*.png"):  # two labels
        labels = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE) // 255 * 7
        labels[:4, :4] = 9
        cv2.imwrite(str(image), labels)
    (tmp_path / "labels" / "labels.txt").write_text("7: ???\n9: corner\n")
    _, found = shot.read_shot(path, None, Settings(masks=tmp_path / "labels"), Silent())
    assert sorted(found.masks.names) == ["corner", "object7"]


def test_an_object_called_as_anothers_pass_is_refused_before_the_work(tmp_path: Path) -> None:
    video, masks = scene(3)
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    for name in ("dog", "dog_body"):
        write_masks(tmp_path / "masks" / name, masks)
    given = {"masks": tmp_path / "masks", "camera": "static"}
    with pytest.raises(MaskError, match="dog_body has the name that the body pass of dog gets"):
        decompose(tmp_path / "v.mkv", tmp_path / "out", passes=("body",), **given)
    for path in (tmp_path / "masks").rglob("dog_body"):
        path.rename(path.with_name("dog_matte"))
    with pytest.raises(MaskError, match="dog_matte has the name that the matte of dog gets"):
        decompose(tmp_path / "v.mkv", tmp_path / "out", formats=("mp4",), **given)
    assert not (tmp_path / "out").exists()

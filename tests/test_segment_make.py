"""`omnimatte masks` from the command line to the files, which `decompose --masks` reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.errors import InputError, OptionError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media.read import iter_frames, probe
from omnimatte_cli.segment.make import BUDGET, held_size, make_masks
from omnimatte_cli.settings import MaskSettings
from tests.segment_clips import TWO, iou, read, render, save
from tests.test_segment_sam import checkpoint, one_thread

pytestmark = pytest.mark.slow

__all__ = ["checkpoint", "one_thread"]  # fixtures

COUNT = 20
Two = tuple[Path, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Two:
    """A video of two moving objects, and their true masks."""
    frames, truth = render(TWO, COUNT)
    return save(tmp_path_factory.mktemp("clip") / "two.mp4", frames), truth


@pytest.fixture(scope="module")
def made(two: Two, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks by motion, made with points that name the objects."""
    out = tmp_path_factory.mktemp("made") / "masks"
    make_masks(two[0], out, MaskSettings(points=("near:0:280,120", "far:0:40,60")))
    return out


def command(*args: object) -> tuple[int, str, str]:
    """Run `omnimatte masks`: exit code, stdout and stderr."""
    result = CliRunner().invoke(app, ["masks", *map(str, args)])
    return result.exit_code, result.stdout, result.stderr


def test_everything_is_written_and_can_be_read_back(made: Path, two: Two) -> None:
    video, truth = two
    assert sorted(p.name for p in made.iterdir()) == [
        ".omnimatte.json",
        "far",
        "masks.json",
        "near",
        "order.txt",
        "preview.mp4",
    ]
    for name, expected in truth.items():
        found = read(made / name)
        assert found.shape == expected.shape and iou(found, expected) >= 0.85
    assert (made / "order.txt").read_text() == "far near\n" * COUNT
    masks = load_masks(made, COUNT, (180, 320))
    assert masks.names == ("far", "near") and masks.order_source == "order.txt"
    facts = json.loads((made / "masks.json").read_text())
    assert facts["method"] == "motion" and facts["objects"] == ["near", "far"]
    assert facts["options"]["points"] == ["near:0:280,120", "far:0:40,60"]
    assert len(facts["confidence"]["far"]) == COUNT
    assert facts["input"]["sha256"] == probe(video).sha256
    assert {"omnimatte", "numpy", "opencv-python"} <= facts["versions"].keys()


def test_the_preview_outlines_the_objects(made: Path, two: Two) -> None:
    info = probe(made / "preview.mp4")
    assert info.frames == COUNT and info.size == (180, 320)
    shown, plain = next(iter_frames(made / "preview.mp4")), next(iter_frames(two[0]))
    changed = np.abs(shown.astype(int) - plain).max(2) > 60
    assert 150 < changed.sum() < 4000


def test_frames_that_are_kept_stay_and_the_others_follow(
    made: Path, two: Two, tmp_path: Path
) -> None:
    import shutil

    import cv2

    video, truth = two
    work = tmp_path / "masks"
    shutil.copytree(made, work)
    # The user corrects one frame, and every other one is lost.
    for name, right in truth.items():
        for t in range(COUNT):
            mask = right[t] if t == 9 else np.zeros_like(right[t])
            mask[:3, :3] = t != 9
            path = work / name / f"{t:05d}.png"
            if t != 9 and name == "far":
                path.unlink()  # or was never drawn
            else:
                cv2.imwrite(str(path), mask.astype(np.uint8) * 255)
    settings = MaskSettings(corrected=work, keep=(9,))
    result = make_masks(video, tmp_path / "again", settings)
    assert result.confidence["near"][9] == 1
    for name, right in truth.items():
        found = read(tmp_path / "again" / name)
        assert (found[9] == right[9]).all()
        kept, old = (d / name / "00009.png" for d in (tmp_path / "again", work))
        assert kept.read_bytes() == old.read_bytes()
        assert iou(found, right) >= 0.85
    with pytest.raises(OptionError, match=r"--keep 20: the video's frames are 0 to 19"):
        make_masks(video, tmp_path / "no", MaskSettings(corrected=work, keep=(20,)))


def test_larger_videos_get_masks_of_their_own_size(tmp_path: Path) -> None:
    import cv2

    frames, truth = render(TWO[1:], 16)
    large = np.stack([cv2.resize(f, (960, 540), interpolation=cv2.INTER_CUBIC) for f in frames])
    video = save(tmp_path / "large.mp4", large)
    # Points are in the video's pixels.
    make_masks(video, tmp_path / "out", MaskSettings(points=("lady:0:840,360",)))
    found = read(tmp_path / "out" / "lady")
    assert found.shape == (16, 540, 960)
    right = np.stack([cv2.resize(m.astype(np.uint8), (960, 540)) > 0 for m in truth["near"]])
    assert iou(found, right) >= 0.85


def test_sam_from_the_command_line(checkpoint: Path, two: Two, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    code, text, error = command(
        two[0], "-o", out, "--sam", checkpoint, "--box", "near:4:230,80,275,160",
        "--point", "far:0:40,60", "--point", "far:0:200,100-", "--every", 3, "--device", "cpu",
        "-q",
    )  # fmt: skip
    # Random weights: any mask will do, as long as there is one.
    assert (code, text, error) == (0, "", "")
    facts = json.loads((out / "masks.json").read_text())
    assert facts["method"] == "sam" and facts["objects"] == ["far", "near"]
    assert facts["confidence"]["near"][4] == 1
    assert read(out / "near").shape == (COUNT, 180, 320)


def test_the_command_says_what_it_made(two: Two, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    code, text, _ = command(two[0], "-o", out, "--max-objects", 1)
    assert code == 0
    assert f"{out / 'object1'}: in {COUNT} of {COUNT} frames" in text and "preview.mp4" in text
    code, text, error = command(two[0], "-o", out)
    assert code == 2 and "--overwrite" in error
    code, text, _ = command(two[0], "-o", out, "--overwrite", "--json", "-q")
    assert code == 0 and json.loads(text)["objects"] == ["object1", "object2"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--point", "dog"], "such as dog:0:312,180"),
        (["--point", "dog:0:500,10"], "outside the picture of 320x180"),
        (["--point", "dog:20:5,10"], "frames are 0 to 19"),
        (["--keep", "x"], "--keep takes"),
        (["--keep", "3"], "--keep needs --corrected"),
        (["--method", "sam"], "--sam vit_b"),
        (["--method", "best"], "--method takes"),
        (["--sam", "nowhere.pth"], r"nowhere\.pth does not exist"),
        (["--sam", __file__], "cannot be read"),
        (["--corrected", "nowhere", "--keep", "1"], "does not exist"),
        (["--corrected", "x", "--keep", "1", "--point", "a:0:1,1"], "cannot be combined"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    two: Two, tmp_path: Path, args: list[str], says: str
) -> None:
    import re

    code, _, error = command(two[0], "-o", tmp_path / "out", "-q", *args)
    assert code == 2 and error.startswith("Error: "), error
    assert re.search(says, error) and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_before_a_moving_camera(tmp_path: Path) -> None:
    frames, truth = render(TWO, 16, pan=5)
    video = save(tmp_path / "pan.mp4", frames)
    result = make_masks(video, tmp_path / "out", MaskSettings(points=("far:0:40,60",)))
    assert iou(read(tmp_path / "out" / "far"), truth["far"]) >= 0.8
    assert result.names == ("far",) and not result.notes
    make_masks(video, tmp_path / "all")
    assert (tmp_path / "all" / "object2").is_dir()


def test_nothing_that_moves_writes_nothing(tmp_path: Path) -> None:
    video = save(tmp_path / "empty.mp4", render([], 8)[0])
    with pytest.raises(InputError, match="Nothing was found"):
        make_masks(video, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_runs_write_the_same_bytes(two: Two, tmp_path: Path) -> None:
    for out in ("a", "b"):
        make_masks(two[0], tmp_path / out, MaskSettings(boxes=("thing:2:100,20,140,60",)))
    one, other = (sorted((tmp_path / o / "thing").glob("*.png")) for o in ("a", "b"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other]


def test_working_frames_fit_in_memory() -> None:
    assert held_size((1080, 1920), 90, 640) == (360, 640)
    assert held_size((240, 321), 90, 640) == (240, 321)
    h, w = held_size((1080, 1920), 20_000, 640)
    assert 0.9 * BUDGET < h * w * 3 * 20_000 <= 1.1 * BUDGET


def test_importing_the_command_imports_no_torch() -> None:
    code = (
        "import sys, omnimatte_cli.commands.masks\n"
        "sys.exit(' '.join({'torch', 'cv2', 'av'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert not done.stderr.strip(), done.stderr

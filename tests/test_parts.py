"""Parts of a video: ranges and reading on every command that reads one, and shots between cuts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli import decompose
from omnimatte_cli.api import make_settings
from omnimatte_cli.cli import app
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.errors import NoObjectError, OptionError, ResultError
from omnimatte_cli.media.read import iter_frames
from omnimatte_cli.settings import READING
from tests.conftest import encode, scene, write_masks

pytestmark = pytest.mark.slow

SIZE = (72, 128)
LENGTHS = (9, 2, 8)  # frames of the three shots; the second is too short to work on
QUICK = {"method": "ownership", "size": (32, 48), "device": "cpu", "strangers": False}


def omnimatte(*args: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def ground(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(30, 220, (9, 16, 3), dtype=np.uint8), SIZE[::-1])


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A lossless clip of three shots, `ball` in the first and `box` in the last; their masks."""
    folder = tmp_path_factory.mktemp("cut")
    total = sum(LENGTHS)
    frames = np.concatenate(
        [np.tile(ground(i), (n, 1, 1, 1)) for i, n in enumerate(LENGTHS, start=1)]
    )
    masks = {n: np.zeros((total, *SIZE), bool) for n in ("ball", "box")}
    for t in range(LENGTHS[0]):
        disc = np.zeros(SIZE, np.uint8)
        cv2.circle(disc, (20 + 9 * t, 40), 12, 1, -1)
        masks["ball"][t] = disc > 0
    for t in range(sum(LENGTHS[:2]), total):
        masks["box"][t, 30:55, 9 * t - 90 : 9 * t - 70] = True
    for name, colour in (("ball", (250, 30, 20)), ("box", (20, 30, 250))):
        frames[masks[name]] = colour
        write_masks(folder / "masks" / name, masks[name])
    encode(folder / "v.mkv", frames, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    (folder / "masks" / "order.txt").write_text("box ball\n" * total)
    return folder, masks


def test_each_shot_is_a_result_of_its_own(cut, tmp_path: Path) -> None:
    folder, _ = cut
    out = tmp_path / "out"
    result = decompose(folder / "v.mkv", out, masks=folder / "masks", split_cuts=True, **QUICK)
    assert [p.name for p in sorted(out.iterdir()) if p.name[0] != "."] == [
        "manifest.json", "shot01", "shot03",
    ]  # fmt: skip
    assert list(result.layers) == ["shot01/ball", "shot03/box"]
    # Frames keep their numbers, so that the shots' files can lie in one folder.
    names = sorted(p.name for p in result.layers["shot03/box"].iterdir())
    assert names == [f"{t:05d}.png" for t in range(11, 19)]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == result.manifest
    assert [s["frames"] for s in manifest["shots"]] == [[0, 8], [9, 10], [11, 18]]
    assert "3 frames" in manifest["shots"][1]["left_out"]
    assert manifest["input"]["cuts"] == [9, 11] and manifest["objects"]["names"] == ["ball", "box"]
    for shot, number in zip(result.shots, (1, 3), strict=True):
        # Each plate is that of its own place, where it was seen.
        plate = cv2.imread(str(shot.out / "background.png"))[..., ::-1].astype(int)
        assert np.median(np.abs(plate - ground(number))) <= 1
        first = shot.manifest["input"]["first"]
        rebuilt = read_result(shot.out)
        source = list(rebuilt.source_frames() or ())
        want = list(iter_frames(folder / "v.mkv"))[first : first + len(source)]
        np.testing.assert_array_equal(source, want)
    with pytest.raises(ResultError, match=r"shot01.*name one of them"):
        read_result(out)


def test_shots_without_objects_are_left_out_and_a_video_without_any_is_refused(
    cut, tmp_path: Path
) -> None:
    folder, _ = cut
    code, text, error = omnimatte(
        "decompose", folder / "v.mkv", "-o", tmp_path / "out", "--split-cuts", "--point",
        "ball:4:56,40", "--method", "ownership", "--size", "48x32", "--device", "cpu",
    )  # fmt: skip
    assert code == 0, error
    assert "Shot 3 is left out: No --point or --box is in it." in error
    assert "shot01/layers/ball" in text.replace("\\", "/") and "shot03" not in text
    with pytest.raises(NoObjectError):
        only = np.zeros((19, *SIZE), bool)
        only[9:11, 10:20, 10:20] = True
        write_masks(tmp_path / "short" / "thing", only)
        decompose(
            folder / "v.mkv", tmp_path / "no", masks=tmp_path / "short", split_cuts=True, **QUICK
        )
    assert not (tmp_path / "no").exists()


def test_without_a_cut_there_is_one_result(tmp_path: Path) -> None:
    video, masks = scene(5)
    source = encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "a", masks)
    result = decompose(source, tmp_path / "out", masks=tmp_path / "masks", split_cuts=True, **QUICK)
    assert result.shots == () and (tmp_path / "out" / "layers" / "a").is_dir()


def test_a_split_clip_takes_no_plate(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="--split-cuts works with neither"):
        make_settings({}, {"split_cuts": True, "background": tmp_path})


def masks_of_part(folder: Path, out: Path) -> Path:
    arguments = ("masks", folder / "v.mkv", "-o", out, "--frames", "11:19", "--point")
    code, _, error = omnimatte(*arguments, "box:14:46,40")
    assert code == 0, error
    return out / "box"


def trimasks_of_part(folder: Path, out: Path) -> Path:
    code, _, error = omnimatte(
        "trimask", folder / "v.mkv", "--masks", folder / "masks", "-o", out, "--frames", "11:",
        "--images",
    )  # fmt: skip
    assert code == 0, error
    return out / "box"


def solos_of_part(folder: Path, out: Path) -> Path:
    """Solo and background videos of the whole clip, of which the same part is taken."""
    frames = np.stack(list(iter_frames(folder / "v.mkv")))
    plates = np.concatenate(
        [np.tile(ground(i), (n, 1, 1, 1)) for i, n in enumerate(LENGTHS, start=1)]
    )
    args = ("-c:v", "ffv1", "-pix_fmt", "gbrp")
    solo = encode(out.parent / "solo.mkv", frames, *args)
    clean = encode(out.parent / "clean.mkv", plates, *args)
    code, _, error = omnimatte(
        "layers", folder / "v.mkv", "--solo", f"box={solo}", "--background", clean,
        "--frames", "11:19", "--fit", "closed", "-o", out, "--device", "cpu",
    )  # fmt: skip
    assert code == 0, error
    return out / "layers" / "box"


def layers_of_part(folder: Path, out: Path) -> Path:
    """Times, in place of frames: the clip has ten a second."""
    code, _, error = omnimatte(
        "decompose", folder / "v.mkv", "--masks", folder / "masks", "-o", out, "--from", "1.1",
        "--method", "ownership", "--size", "48x32", "--device", "cpu", "--no-strangers",
    )  # fmt: skip
    assert code == 0, error
    return out / "layers" / "box"


def plates_of_part(folder: Path, out: Path) -> Path:
    code, _, error = omnimatte(
        "background", folder / "v.mkv", "--masks", folder / "masks", "-o", out,
        "--frames", "11:19", "--size", "48x32",
    )  # fmt: skip
    assert code == 0, error
    return out


@pytest.mark.parametrize(
    "work", [masks_of_part, trimasks_of_part, solos_of_part, layers_of_part, plates_of_part]
)
def test_every_command_works_on_a_part(
    work: Callable[[Path, Path], Path], cut, tmp_path: Path
) -> None:
    folder, masks = cut
    files = sorted(work(folder, tmp_path / "out").glob("*.png"))
    assert len(files) == 8
    if work is not plates_of_part:
        assert [f.name for f in files] == [f"{t:05d}.png" for t in range(11, 19)]
    if work is masks_of_part:
        for file, right in zip(files, masks["box"][11:], strict=True):
            found = cv2.imread(str(file), 0) > 127
            assert (found & right).sum() > 0.8 * (found | right).sum()


def test_every_command_that_reads_a_video_takes_the_same_options() -> None:
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name in ("decompose", "background", "batch", "masks", "layers", "trimask"):
        taken = {p.name for p in commands[name].params}
        assert set(READING) <= taken, name


def test_the_old_from_of_masks_says_what_it_is_called_now(cut, tmp_path: Path) -> None:
    folder, _ = cut
    for more, words in (
        (("--keep", "3"), "--corrected"),
        ((), "--from is a time now"),
    ):
        code, _, error = omnimatte(
            "masks", folder / "v.mkv", "--from", folder / "masks", *more, "-o", tmp_path / "out"
        )
        assert code == 2 and "--corrected" in error and words in error
        assert not (tmp_path / "out").exists()

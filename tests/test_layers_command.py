"""`omnimatte layers` and `omnimatte trimask` on tiny clips, through the command line."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.media.read import iter_frames
from tests.conftest import encode, scene, write_masks

pytestmark = pytest.mark.slow

LOSSLESS = ("-c:v", "ffv1", "-pix_fmt", "gbrp")
FRAMES, SIZE = 6, (64, 96)


@dataclass
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def omnimatte(*args: object) -> Done:
    result = CliRunner().invoke(app, [str(a) for a in args])
    return Done(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """video, solos red and blue, plate and masks of two blocks, blue in front of red."""
    folder = tmp_path_factory.mktemp("solos")
    red, red_masks = scene(FRAMES, SIZE)
    plate = np.repeat(np.median(red, 0, keepdims=True).astype(np.uint8), FRAMES, 0)
    plate[:, 16:37] = np.repeat(plate[:, 15:16], 21, 1)
    red = np.where(red_masks[..., None], red, plate)
    blue, blue_masks = plate.copy(), np.zeros_like(red_masks)
    blue_masks[:, 26:50, 40:60] = True
    blue[blue_masks] = (20, 40, 200)
    video = np.where(blue_masks[..., None], blue, red)
    for name, frames in (("video", video), ("red", red), ("blue", blue), ("plate", plate)):
        encode(folder / f"{name}.mkv", frames, *LOSSLESS)
    write_masks(folder / "masks" / "red", red_masks & ~blue_masks)
    write_masks(folder / "masks" / "blue", blue_masks)
    return folder


def arguments(folder: Path, out: Path, **other: Path) -> list[object]:
    """The usual command; `other` replaces red, blue or plate by another file."""
    files = {n: other.get(n, folder / f"{n}.mkv") for n in ("red", "blue", "plate")}
    return [
        "layers", folder / "video.mkv", "--solo", f"red={files['red']}",
        "--solo", f"blue={files['blue']}", "--background", files["plate"], "-o", out,
    ]  # fmt: skip


def layer(out: Path, name: str, t: int) -> np.ndarray:
    image = cv2.imread(str(out / "layers" / name / f"{t:05d}.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return image[..., [2, 1, 0, 3]]


@pytest.mark.parametrize("masks", [True, False])
def test_layers_give_the_video_back(folder: Path, tmp_path: Path, masks: bool) -> None:
    out = tmp_path / "out"
    extra = ("--masks", folder / "masks") if masks else ()
    done = omnimatte(*arguments(folder, out), *extra, "--fit", "closed", "--json", "--exact")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == [
        ".omnimatte.json", "background", "background.png", "composite.mp4", "layers",
        "manifest.json", "preview.mp4", "report.html",
    ]  # fmt: skip
    manifest = json.loads(done.stdout)
    assert manifest["method"] == "generative" and manifest["fit"] == "closed"
    assert manifest["objects"]["names"] == ["red", "blue"]
    assert manifest["objects"]["order"] == ["red", "blue"]  # blue stands lower
    assert manifest["objects"]["order_from"] == "lower edge of each mask"
    assert manifest["psnr"]["after_detail"] > (35 if masks else 28)
    assert ("guessed" in done.stderr) is not masks
    # The red block is whole, also behind the blue one.
    red = layer(out, "red", 3)
    truth = next(iter_frames(folder / "red.mkv")).shape
    assert red.shape == (*truth[:2], 4)
    _, bodies = scene(FRAMES, SIZE)
    inner = cv2.erode(bodies[3].astype(np.uint8), np.ones((7, 7))).astype(bool)
    assert (red[inner, 3] > 200).mean() > 0.9
    assert np.abs(red[inner, :3].astype(int) - (220, 40, 30)).mean() < 6


def test_optimised_layers_are_deterministic_and_leave_no_state(
    folder: Path, tmp_path: Path
) -> None:
    for name, fit in (("a", "base"), ("b", "base"), ("c", "full")):
        done = omnimatte(
            *arguments(folder, tmp_path / name), "--masks", folder / "masks", "--fit", fit,
            "--steps", 2, "--size", "32x32", "--device", "cpu",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "optimising red" in done.stderr
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert set(manifest["losses"]) == {"red", "blue"} and manifest["fit"] == fit
    np.testing.assert_array_equal(layer(tmp_path / "a", "red", 2), layer(tmp_path / "b", "red", 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_solos_made_here_need_no_other_model(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = omnimatte(
        "layers", folder / "video.mkv", "--solo", "auto", "--masks", folder / "masks", "-o", out
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["solos"] == "auto" and manifest["objects"]["names"] == ["blue", "red"]
    assert manifest["psnr"]["after_detail"] > 25


def test_other_sizes_lengths_and_shifts_are_put_right_and_said(
    folder: Path, tmp_path: Path
) -> None:
    red = np.stack(list(iter_frames(folder / "red.mkv")))
    longer = np.concatenate([red, red[-1:]])
    small = np.stack([cv2.resize(f, (80, 52), interpolation=cv2.INTER_AREA) for f in longer])
    other = encode(tmp_path / "other.mp4", small, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    done = omnimatte(
        *arguments(folder, tmp_path / "out", red=other), "--masks", folder / "masks",
        "--order", "blue,red",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "resized and stretched from 80x52 to 96x64" in done.stderr
    assert "has 7 frames: the last 1 are left out" in done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["objects"]["order"] == ["blue", "red"]
    assert any("stretched" in note for note in manifest["objects"]["notes"])


def test_a_shifted_solo_is_moved_onto_the_shot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.random((64, 112, 3)).astype(np.float32), (0, 0), 2)
    plate = (noise * 255).astype(np.uint8)
    solo = np.repeat(plate[None], 5, 0)
    masks = np.zeros((5, 64, 96), bool)
    for t in range(5):
        solo[t, 20:40, 18 + 8 * t : 38 + 8 * t] = (220, 40, 30)
        masks[t, 20:40, 10 + 8 * t : 30 + 8 * t] = True
    encode(tmp_path / "video.mkv", np.ascontiguousarray(solo[:, :, 8:104]), *LOSSLESS)
    encode(tmp_path / "solo.mkv", np.ascontiguousarray(solo[:, :, 5:101]), *LOSSLESS)
    encode(tmp_path / "plate.mkv", np.repeat(plate[None, :, 8:104], 5, 0).copy(), *LOSSLESS)
    write_masks(tmp_path / "masks" / "red", masks)
    done = omnimatte(
        "layers", tmp_path / "video.mkv", "--solo", f"red={tmp_path / 'solo.mkv'}", "--background",
        tmp_path / "plate.mkv", "--masks", tmp_path / "masks", "-o", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "moved by -3.0, " in done.stderr
    assert (layer(tmp_path / "out", "red", 2)[masks[2], 3] > 200).mean() > 0.9


def test_a_solo_that_is_late_or_of_another_object_is_named(folder: Path, tmp_path: Path) -> None:
    red = np.stack(list(iter_frames(folder / "red.mkv")))
    late = encode(tmp_path / "late.mkv", np.concatenate([red[:1], red[:1], red[:-2]]), *LOSSLESS)
    early = encode(tmp_path / "early.mkv", np.concatenate([red[1:], red[-1:]]), *LOSSLESS)
    masks = ("--masks", folder / "masks")
    for other, words in (
        ({"red": late}, "shows 'red' 2 frames late"),
        ({"red": early}, "shows 'red' 1 frame early"),
        ({"red": folder / "blue.mkv", "blue": folder / "red.mkv"}, "were two solos swapped?"),
    ):
        done = omnimatte(*arguments(folder, tmp_path / "out", **other), *masks)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert done.stderr.count("Error: ") == 1 and not (tmp_path / "out").exists()


def test_what_does_not_fit_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    red = np.stack(list(iter_frames(folder / "red.mkv")))
    short = encode(tmp_path / "short.mkv", red[:4], *LOSSLESS)
    tall = encode(tmp_path / "tall.mkv", red.swapaxes(1, 2).copy(), *LOSSLESS)
    alien = encode(tmp_path / "alien.mkv", 255 - red, *LOSSLESS)
    (tmp_path / "text.mp4").write_text("no video")
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), np.zeros((*SIZE, 3), np.uint8))
    out = tmp_path / "out"
    usual = arguments(folder, out)
    masks = ("--masks", folder / "masks")
    cases: list[tuple[list[object], str]] = [
        ([*arguments(folder, out, red=short), *masks], "has 4 frames, the shot 6"),
        ([*arguments(folder, out, red=tall), *masks], "not the aspect of the shot"),
        ([*arguments(folder, out, red=alien), *masks], "does not show the shot"),
        ([*arguments(folder, out, red=tmp_path / "no.mp4"), *masks], "no.mp4 does not exist"),
        ([*arguments(folder, out, red=tmp_path / "text.mp4"), *masks], "cannot be read"),
        ([*arguments(folder, out, plate=short), *masks], "background video"),
        (arguments(folder, out, plate=still), "still.png does not show the video's scene"),
        ([*arguments(folder, out, plate=still), *masks], "still.png does not show the video's"),
        ([*arguments(folder, out, red=folder / "plate.mkv")], "shows nothing that the background"),
        ([*usual, "--solo", "red=x.mp4"], "names red twice"),
        ([*usual, "--solo", "green"], "NAME=VIDEO"),
        ([*usual, "--solo", "auto"], "give no other --solo"),
        ([*usual, "--solo", "a/b=x.mp4"], "folder's name"),
        ([*usual, *masks, "--solo", f"dog={folder / 'red.mkv'}"], "no mask for 'dog'"),
        ([*usual, *masks, "--order", "red,dog"], "dog"),
        ([*usual, *masks, "--order", "red,blue", "--depth", folder / "red.mkv"], "contradict"),
        ([*usual, *masks, "--fit", "magic"], "--fit takes"),
        ([*usual, *masks, "--steps", "0"], "--steps"),
        ([*usual, *masks, "--size", "100x100"], "multiples of 32"),
        ([*usual, *masks, "--depth", short], "has 4 frames"),
        ([*usual[:4], "-o", out], "--background"),
    ]
    before = sorted(p.name for p in tmp_path.iterdir())
    for args, words in cases:
        done = omnimatte(*args)
        assert done.returncode == 2, (args, done.stderr)
        assert words in done.stderr and done.stderr.count("Error: ") == 1, (args, done.stderr)
        assert "Traceback" not in done.stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_trimasks_are_written_for_every_solo_and_the_background(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "trimasks"
    done = omnimatte(
        "trimask", folder / "video.mkv", "--masks", folder / "masks", "-o", out, "--grow", 0
    )
    assert done.returncode == 0, done.stderr
    paths = [str(out / f"{n}.mp4") for n in ("blue", "red", "background")]
    assert done.stdout.split() == paths
    _, bodies = scene(FRAMES, SIZE)
    blue = np.zeros_like(bodies)
    blue[:, 26:50, 40:60] = True
    red = bodies & ~blue
    for name, keep, remove in (
        ("blue", blue, red), ("red", red, blue), ("background", red & False, red | blue)
    ):  # fmt: skip
        for t, frame in enumerate(iter_frames(out / f"{name}.mp4")):
            expected = np.full(SIZE, 127)
            expected[keep[t]], expected[remove[t]] = 255, 0
            levels = np.digitize(frame[..., 0], [64, 192])  # as the public models read it
            assert (levels != np.digitize(expected, [64, 192])).mean() < 0.01, (name, t)
    again = omnimatte("trimask", folder / "video.mkv", "--masks", folder / "masks", "-o", out)
    assert again.returncode == 2 and "--overwrite" in again.stderr
    done = omnimatte(
        "trimask", folder / "video.mkv", "--masks", folder / "masks", "-o", out, "--overwrite",
        "--invert", "--images", "--size", "48x32", "-q",
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout == "", done.stderr
    image = cv2.imread(str(out / "background" / "00003.png"), cv2.IMREAD_GRAYSCALE)
    assert image is not None and image.shape == (32, 48)
    assert set(np.unique(image)) == {128, 255}


def test_trimask_errors(folder: Path, tmp_path: Path) -> None:
    _, bodies = scene(FRAMES, SIZE)
    write_masks(tmp_path / "masks" / "background", bodies)
    write_masks(tmp_path / "masks" / "red", bodies)
    for args, words in (
        (("--masks", tmp_path / "masks"), "called 'background'"),
        (("--masks", tmp_path / "none"), "none"),
        (("--masks", folder / "masks", "--size", "8x8"), "at least 16"),
        (("--masks", folder / "masks", "--grow", "-1"), "--grow"),
    ):
        done = omnimatte("trimask", folder / "video.mkv", "-o", tmp_path / "out", *args)
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert done.stderr.count("Error: ") == 1 and not (tmp_path / "out").exists()

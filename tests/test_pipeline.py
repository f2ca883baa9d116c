"""The whole way through the command line and the Python interface, on tiny clips."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli import decompose
from omnimatte_cli.errors import InputError, MaskError, OptionError, OutputError, WeightsError
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.read import iter_frames, probe
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.network import LayerNet
from tests.conftest import encode, scene, write_masks

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def omnimatte(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omnimatte_cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with video.mkv (lossless) and masks/a, masks/b of two halves of a moving block."""
    folder = tmp_path_factory.mktemp("clip")
    video, masks = scene(7, (37, 65))
    encode(folder / "video.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    left = masks.copy()
    left[..., :20] = False
    write_masks(folder / "masks" / "a", left)
    write_masks(folder / "masks" / "b", masks & ~left)
    return folder


@pytest.fixture(scope="module")
def result(clip: Path, tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("result") / "out"
    return decompose(
        clip / "video.mkv", masks=clip / "masks", out=out, iterations=2, size=(32, 48),
        method="coordination", weights="none", exact=True, device="cpu",
    )  # fmt: skip


def test_everything_is_written(result, clip: Path) -> None:
    out = result.out
    assert sorted(p.name for p in out.iterdir()) == [
        ".omnimatte.json", "background", "background.png", "composite.mp4", "layers",
        "manifest.json", "preview.mp4", "report.html",
    ]  # fmt: skip
    assert result.layers == {"a": out / "layers" / "a", "b": out / "layers" / "b"}
    for folder in result.layers.values():
        assert [p.name for p in sorted(folder.iterdir())] == [f"{t:05d}.png" for t in range(7)]
        for file in folder.iterdir():
            image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            assert image.shape == (37, 65, 4) and image.dtype == np.uint8
    for movie in (result.composite, result.preview):
        assert probe(movie).frames == 7
    assert not list(out.parent.glob(".*"))


def read_rgba(folder: Path, t: int) -> np.ndarray:
    image = cv2.imread(str(folder / f"{t:05d}.png"), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA).astype(np.float64) / 255


def read_rgb(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1].astype(np.float64) / 255


def test_written_layers_give_the_video_back(result, clip: Path) -> None:
    """PSNRs of the manifest, recomputed from the files."""
    errors, inside, exact = [], [], []
    for t, frame in enumerate(iter_frames(clip / "video.mkv")):
        truth = frame / 255.0
        plates = read_rgb(result.background), read_rgb(result.out / "background" / f"{t:05d}.png")
        results, seen = [], np.zeros(truth.shape[:2], bool)
        for plate in plates:
            picture = plate
            for folder in result.layers.values():
                rgba = read_rgba(folder, t)
                seen |= rgba[..., 3] > 0.02
                picture = rgba[..., 3:] * rgba[..., :3] + (1 - rgba[..., 3:]) * picture
            results.append(np.square(picture - truth))
        errors.append(results[0])
        inside.append(results[0][seen])
        exact.append(results[1])
    psnr = result.manifest["psnr"]
    for name, parts in (
        ("after_detail", np.stack(errors)),
        ("after_detail_in_layers", np.concatenate(inside)),
        ("exact", np.stack(exact)),
    ):
        assert psnr[name] == pytest.approx(-10 * np.log10(max(parts.mean(), 1e-10)), abs=0.01), name
    assert psnr["after_detail_in_layers"] > 40 and psnr["exact"] > 48


def test_the_objects_are_in_their_layers(result, clip: Path) -> None:
    _, masks = scene(7, (37, 65))
    for t in (1, 3, 5):
        for name in ("a", "b"):
            mask = cv2.imread(str(clip / "masks" / name / f"{t:05d}.png"), 0) > 127
            alpha = read_rgba(result.layers[name], t)[..., 3]
            core = cv2.erode(mask.astype(np.uint8), np.ones((5, 5))) > 0
            if core.any():
                assert alpha[core].min() == 1
            other = masks[t] & ~mask
            if other.any():
                assert np.median(alpha[other]) == 0


def test_manifest_says_what_was_done(result, clip: Path) -> None:
    manifest = json.loads((result.out / "manifest.json").read_text())
    assert manifest == json.loads(json.dumps(result.manifest))
    assert manifest["input"]["frames"] == 7 and manifest["input"]["width"] == 65
    assert len(manifest["input"]["sha256"]) == 64
    assert manifest["options"]["iterations"] == 2 and manifest["options"]["set"]["lr"] == 5e-4
    assert manifest["objects"]["order_from"] == "alphabetical"
    assert manifest["objects"]["order"] == ["a", "b"]
    assert manifest["working_size"] == "48x32" and manifest["iterations"] == 2
    assert manifest["versions"]["torch"] and manifest["device"].startswith("cpu")
    assert manifest["losses"]["total"] > 0
    assert {"reading", "masks", "plate", "finetuning", "predicting", "writing"} <= set(
        manifest["seconds"]
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.png")}


def test_two_runs_write_the_same_bytes(result, clip: Path, tmp_path: Path) -> None:
    again = decompose(
        clip / "video.mkv", masks=clip / "masks", out=tmp_path / "again", iterations=2,
        size=(32, 48), method="coordination", weights="none", exact=True, device="cpu",
    )  # fmt: skip
    assert files(again.out) == files(result.out)


@pytest.mark.parametrize("detail", ["resolve", "transfer"])
def test_feed_forward_and_both_details(clip: Path, tmp_path: Path, detail) -> None:
    found = decompose(
        clip / "video.mkv", masks=clip / "masks", out=tmp_path / "out", iterations=0, size=(32, 32),
        method="coordination", weights="none", set={"detail": detail}, order="b,a",
    )  # fmt: skip
    assert found.manifest["losses"] is None and found.manifest["iterations"] == 0
    assert found.manifest["objects"]["order"] == ["b", "a"]
    assert found.manifest["psnr"]["after_detail"] > found.manifest["psnr"]["before_detail"]


def test_weights_choose_the_method(clip: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights.save(LayerNet(8, (2, 3)), tmp_path / "layers.safetensors")
    weights.save(OwnerNet(), tmp_path / "owner.safetensors")
    for name, method in (("layers", "coordination"), ("owner", "ownership")):
        found = decompose(
            clip / "video.mkv", masks=clip / "masks", out=tmp_path / name, size=(32, 48),
            weights=tmp_path / f"{name}.safetensors", device="cpu",
            iterations=1 if name == "layers" else None,
        )  # fmt: skip
        assert found.manifest["method"] == method
    with pytest.raises(WeightsError, match="ownership network, but the coordination"):
        decompose(
            clip / "video.mkv", masks=clip / "masks", out=tmp_path / "x", method="coordination",
            weights=tmp_path / "owner.safetensors",
        )  # fmt: skip


def test_three_frames_are_enough(clip: Path, tmp_path: Path) -> None:
    video, masks = scene(3, (32, 48))
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "block", masks)
    found = decompose(
        tmp_path / "v.mkv", masks=tmp_path / "masks", out=tmp_path / "out", iterations=1,
        weights="none", method="coordination",
    )  # fmt: skip
    assert len(list(found.layers["block"].iterdir())) == 3


def test_command_line_prints_json_and_nothing_else_on_stdout(clip: Path, tmp_path: Path) -> None:
    done = omnimatte(
        "decompose", clip / "video.mkv", "--masks", clip / "masks", "-o", tmp_path / "out",
        "--iterations", 1, "--size", "32x32", "--weights", "none", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iterations"] == 1
    assert "finetuning" in done.stderr


def test_quiet_says_nothing(clip: Path, tmp_path: Path) -> None:
    done = omnimatte("background", clip / "video.mkv", "-q", "-o", tmp_path / "plate.png")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_background_with_and_without_masks(clip: Path, tmp_path: Path) -> None:
    for name, masks in (("plain.jpg", ()), ("masked.png", ("--masks", clip / "masks"))):
        done = omnimatte("background", clip / "video.mkv", *masks, "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(tmp_path / name)
        assert cv2.imread(str(tmp_path / name)).shape == (37, 65, 3)
    again = omnimatte("background", clip / "video.mkv", "-o", tmp_path / "plain.jpg")
    assert again.returncode == 2 and "exists" in again.stderr
    wrong = omnimatte("background", clip / "video.mkv", "-o", tmp_path / "plate.xyz")
    assert wrong.returncode == 2 and ".xyz" in wrong.stderr


def test_unseen_background_is_marked(tmp_path: Path) -> None:
    video, masks = scene(4, (32, 48))
    masks[:, 20:28, 30:40] = True  # covered in every frame
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "block", masks)
    done = omnimatte(
        "decompose", tmp_path / "v.mkv", "--masks", tmp_path / "masks", "-o", tmp_path / "out",
        "--iterations", 0, "--weights", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "covered by masks in every frame" in done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert 0.05 < manifest["background"]["unseen_share"] < 0.25
    unseen = cv2.imread(str(tmp_path / "out" / "background_unseen.png"))
    assert tuple(unseen[24, 35]) == (0, 0, 255)


def run_bad(clip: Path, tmp_path: Path, *args: object) -> subprocess.CompletedProcess[str]:
    return omnimatte("decompose", clip / "video.mkv", "-o", tmp_path / "out", *args)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--iterations", "-1"), "--iterations"),
        (("--size", "100x100"), "multiples of 16"),
        (("--size", "big"), "WIDTHxHEIGHT"),
        (("--set", "lr=0"), "lr must be"),
        (("--set", "batch_size=0"), "batch_size must be"),
        (("--set", "batch_sise=2"), "did you mean batch_size?"),
        (("--set", "lr=fast"), "lr takes number"),
        (("--set", "lr"), "--set takes NAME=VALUE"),
        (("--method", "ownership", "--iterations", "5"), "--iterations is not for"),
        (("--method", "ownership", "--set", "lr=0.1"), "no such option"),
        (("--method", "ownership", "--weights", "none"), "--weights none is not for"),
        (("--device", "tpu"), "--device"),
        (("--set", "detail=magic"), "resolve|transfer|none"),
        (("--set", "hiding=never"), "random|prediction"),
        (("--method", "magic"), "--method"),
        (("--weights", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--order", "a,z"), "z"),
        (("--background", "nothing.png"), "nothing.png"),
        (("--ffmpeg", "/nowhere/ffmpeg"), "/nowhere/ffmpeg"),
        (("--wrong",), "--wrong"),
    ],
)
def test_wrong_options_are_one_sentence_and_exit_2(clip: Path, tmp_path: Path, args, words) -> None:
    method = () if "--method" in args else ("--method", "coordination")
    done = run_bad(clip, tmp_path, "--masks", clip / "masks", *method, *args)
    expected = 1 if "--ffmpeg" in args else 2
    assert done.returncode == expected, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bad_inputs_leave_nothing_behind(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, masks, words in (
        (tmp_path / "no.mp4", clip / "masks", "no.mp4"),
        (tmp_path / "empty", clip / "masks", "empty"),
        (clip / "video.mkv", tmp_path / "empty", "empty"),
        (clip / "video.mkv", tmp_path / "nothing", "nothing"),
    ):
        done = omnimatte("decompose", source, "--masks", masks, "-o", tmp_path / "out")
        assert done.returncode == 2 and words in done.stderr, done.stderr
        assert done.stderr.count("Error: ") == 1 and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()


def test_existing_results_are_kept_unless_asked(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    args = ("--masks", clip / "masks", "--iterations", 0, "--size", "32x32", "--weights", "none")
    done = run_bad(clip, tmp_path, *args)
    assert done.returncode == 2 and "--overwrite" in done.stderr
    done = run_bad(clip, tmp_path, *args, "--overwrite")
    assert done.returncode == 2 and (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    assert run_bad(clip, tmp_path, *args).returncode == 0
    first = (out / "manifest.json").read_text()
    assert run_bad(clip, tmp_path, *args, "--overwrite").returncode == 0
    assert (out / "manifest.json").read_text() != first
    (out / "notes.txt").write_text("mine")
    done = run_bad(clip, tmp_path, *args, "--overwrite")
    assert done.returncode == 2 and "notes.txt" in done.stderr and (out / "notes.txt").exists()


def test_the_python_interface_raises_typed_errors(clip: Path, tmp_path: Path) -> None:
    out, masks = tmp_path / "out", clip / "masks"
    with pytest.raises(InputError, match=r"no\.mp4"):
        decompose(tmp_path / "no.mp4", masks=masks, out=out)
    with pytest.raises(MaskError):
        decompose(clip / "video.mkv", masks=tmp_path / "nothing", out=out)
    with pytest.raises(OptionError):
        decompose(clip / "video.mkv", masks=masks, out=out, iterations=-5)
    with pytest.raises(WeightsError):
        decompose(clip / "video.mkv", masks=masks, out=out, weights="no", method="coordination")
    out.write_text("a file")
    with pytest.raises(OutputError):
        decompose(clip / "video.mkv", masks=masks, out=out)


@pytest.mark.parametrize(
    ("kind", "code", "shell"),
    [
        (signal.SIGINT, -signal.SIGINT, []),
        (signal.SIGTERM, 130, ["sh", "-c", "trap '' INT; exec \"$@\"", "-"]),
    ],
)
def test_an_interrupt_is_saved_and_resumes(
    clip: Path, tmp_path: Path, kind: int, code: int, shell: list[str]
) -> None:
    """Of SIGINT the process dies in the end, which a shell shows as 130 and its loop ends for.

    The second as in the background of a script, where SIGINT is ignored.
    """
    args = [
        "decompose", clip / "video.mkv", "--masks", clip / "masks", "-o", tmp_path / "out",
        "--iterations", "100000", "--size", "32x32", "--weights", "none",
    ]  # fmt: skip
    command = [*shell, sys.executable, "-m", "omnimatte_cli", *map(str, args)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("finetuning:"):  # the first steps are done
            break
    process.send_signal(kind)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "the same command resumes it" in errors and "Traceback" not in errors
    (state,) = tmp_path.iterdir()
    assert state.name.startswith(".out.finetune.") and state.suffix == ".pt"
    # A run of another method to the same place leaves it alone.
    done = omnimatte(*args[:6], "--method", "ownership", "-q")
    assert done.returncode == 0, done.stderr
    assert state.is_file()


def test_help_imports_little() -> None:
    """How long that takes, benchmarks.startup says: seconds say nothing on a busy machine."""
    code = (
        "import sys; sys.argv = ['omnimatte', '--help']\n"
        "from omnimatte_cli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'cv2', 'av', 'scipy', 'jinja2', 'rich.progress'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "print(len(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "decompose" in done.stdout
    assert int(done.stdout.split()[-1]) < 350


def test_version_and_every_commands_help() -> None:
    assert omnimatte("--version").stdout.startswith("omnimatte 0.")
    for command in ("decompose", "background", "synth", "pretrain", "evaluate", "weights"):
        done = omnimatte(command, "--help")
        assert done.returncode == 0 and "Usage" in done.stdout


def test_a_missing_system_library_is_one_sentence(tmp_path: Path) -> None:
    """OpenCV's wheel without libGL fails on import; the answer says what to install."""
    fake = tmp_path / "cv2"
    fake.mkdir()
    (fake / "__init__.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file')\n"
    )
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "omnimatte_cli", "background", "x.mp4", "-o", "y.png"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "libGL.so.1" in done.stderr and "apt-get install libgl1" in done.stderr

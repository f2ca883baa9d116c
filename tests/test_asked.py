"""What is asked for happens or is refused, and what is read stays as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from omnimatte_cli import decompose
from omnimatte_cli.camera.model import Camera, CameraError, read_camera, write_camera
from omnimatte_cli.cli import app
from omnimatte_cli.compose.edits import feet_of
from omnimatte_cli.deliver.survey import all_empty
from omnimatte_cli.errors import OmnimatteError, OptionError, OutputError
from omnimatte_cli.media.ffmpeg import find_ffmpeg
from omnimatte_cli.media.read import iter_frames
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.pipeline import write_background
from omnimatte_cli.segment.doubts import doubts_of_found
from omnimatte_cli.segment.prompts import parse_prompts
from omnimatte_cli.settings import Settings
from omnimatte_cli.training.kept import check_ours, check_sound, cut_log
from tests.conftest import Said, encode, scene, write_masks
from tests.results import make_result
from tests.segment_clips import TWO, render

pytestmark = pytest.mark.slow


def run(*args: object) -> tuple[int, str]:
    """Exit code, and all that is printed on one line."""
    done = CliRunner().invoke(app, [str(a) for a in args])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture
def shot(tmp_path: Path) -> Path:
    """frames/ and masks/car of a moving block, v.mkv, and the working folder beside them."""
    video, masks = scene(8)
    write_masks(tmp_path / "frames", video[..., ::-1])
    write_masks(tmp_path / "masks" / "car", masks)
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    return tmp_path


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """frames/ and v.mkv of two things that the tool finds by itself."""
    folder = tmp_path_factory.mktemp("walk")
    frames, _ = render(TWO, 12)
    write_masks(folder / "frames", frames[..., ::-1])
    encode(folder / "v.mkv", frames, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    "out", ["masks/car/00003.png", "masks/car/plate.png", "frames/plate.png", "masks/plate.mkv"]
)
def test_a_plate_is_not_written_among_what_is_read(out: str, shot: Path) -> None:
    before = content(shot)
    with pytest.raises(OutputError, match="which is read"):
        write_background(
            shot / "frames", Settings(masks=shot / "masks", overwrite=True), shot / out
        )
    assert content(shot) == before


@pytest.mark.parametrize("command", ["convert", "compose"])
def test_a_result_is_not_put_among_its_masks_or_its_input(command: str, tmp_path: Path) -> None:
    out = make_result(tmp_path)
    masks = tmp_path / "masks"
    assert masks.is_dir()
    before = content(masks)
    more = ["--format", "png16"] if command == "convert" else []
    code, said = run(command, out, "-o", masks / "more.mp4", *more)
    assert code == 2 and "which is read" in said, said
    assert content(masks) == before


def test_homographies_of_the_result_itself_are_not_overwritten(shot: Path) -> None:
    options = {"masks": shot / "masks", "method": "ownership", "size": (32, 48)}
    out = decompose(shot / "v.mkv", shot / "out", **options).out
    write_camera(Camera.static(8, (36, 64)), out / "mine.json")
    with pytest.raises(OutputError, match=r"mine.json lies in .*--overwrite would delete"):
        decompose(shot / "v.mkv", out, overwrite=True, homographies=out / "mine.json", **options)
    assert (out / "mine.json").is_file()


def test_a_folder_of_a_training_is_not_taken_from_others(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_text("precious")
    with pytest.raises(OutputError, match=r"weights\.safetensors is there, and no state"):
        check_ours(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    for name in ("log.jsonl", "sheet.png"):
        (tmp_path / name).write_text('{"step": 1, "mine": true}\n')
        with pytest.raises(OutputError, match="is there, and no state"):
            check_ours(tmp_path)
        (tmp_path / name).unlink()
    check_ours(tmp_path)


def test_a_log_of_others_is_not_cut(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 50, "loss": 1.0}\n{"step": 100, "l')
    cut_log(log, 60)
    assert log.read_text() == '{"step": 50, "loss": 1.0}\n'
    for text in ("hello\n", '{"mine": 1}\n', "mine without an end"):
        log.write_text(text)
        with pytest.raises(OutputError, match="no step's"):
            cut_log(log, 0)
        assert log.read_text() == text


@pytest.mark.parametrize("text", ["hello\n", '{"mine": 1}\n', "mine without an end"])
def test_scores_are_not_written_over_what_is_no_score(text: str, tmp_path: Path) -> None:
    assert run("synth", "-o", tmp_path / "set", "--count", 1, "--frames", 4, "--size", 48)[0] == 0
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "results.jsonl").write_text(text)
    code, said = run("evaluate", tmp_path / "set", "-o", tmp_path / "out")
    assert code == 2 and "was not written by `omnimatte evaluate`" in said, said
    assert (tmp_path / "out" / "results.jsonl").read_text() == text


# ----------------------------------------------------------------------------- orders and numbers


def test_an_order_that_was_mended_stays(walk: Path, tmp_path: Path) -> None:
    video, kept = walk / "v.mkv", tmp_path / "kept"
    code, said = run("masks", video, "-o", kept)
    assert code == 0, said
    (kept / "masks.json").unlink()
    line = (kept / "order.txt").read_text().splitlines()[0]
    for order in (line, " ".join(line.split()[::-1])):
        (kept / "order.txt").write_text(f"{order}\n" * 12)
        out = tmp_path / order.replace(" ", "")
        code, said = run("masks", video, "--corrected", kept, "--keep", "0,11", "-o", out)
        assert code == 0, said
        assert (out / "order.txt").read_text() == f"{order}\n" * 12
    (kept / "order.txt").write_text(f"{line}\n" * 3)
    code, said = run("masks", video, "--corrected", kept, "--keep", "0", "-o", tmp_path / "short")
    assert code == 0 and "guessed anew" in said and "3 lines for 12 frames" in said, said


def test_masks_that_were_made_bear_the_numbers_that_were_asked_for(
    walk: Path, tmp_path: Path
) -> None:
    """--start-frame with a folder of images: the tool's own masks are its masks."""
    frames, made, more = walk / "frames", tmp_path / "made", ("--start-frame", 1001)
    code, said = run("masks", frames, "-o", made, *more)
    assert code == 0 and (made / "object1" / "01001.png").is_file(), said
    quick = ("--method", "ownership", "--size", "96x64", "--no-report")
    out = tmp_path / "out"
    code, said = run("decompose", frames, "-o", out, "--masks", made, *more, *quick)
    assert code == 0 and (out / "layers" / "object1" / "01001.png").is_file(), said
    again = ("--corrected", made, "--keep", 0, "-o", tmp_path / "again")
    code, said = run("masks", frames, *again, *more)
    assert code == 0, said


def scenes(count: int, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """A block before two textured grounds: video (T, 64, 96, 3) uint8, masks (T, 64, 96) bool."""
    rng = np.random.default_rng(5)
    grounds = [cv2.resize(rng.integers(0, 200, (16, 24, 3), np.uint8), (96, 64)) for _ in range(2)]
    video = np.stack([grounds[int(t >= cut)] for t in range(count)])
    masks = np.zeros((count, 64, 96), bool)
    for t in range(count):
        masks[t, 24:44, 6 + 3 * t : 22 + 3 * t] = True
    video[masks] = (250, 30, 30)
    return video, masks


@pytest.fixture(scope="module")
def two_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames; a new scene begins with frame 14. masks/: a in the first, b in the second."""
    folder = tmp_path_factory.mktemp("scenes")
    video, masks = scenes(24, 14)
    encode(folder / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    first = np.arange(24)[:, None, None] < 14
    write_masks(folder / "masks" / "a", masks & first)
    write_masks(folder / "masks" / "b", masks & ~first)
    return folder


def test_frames_of_a_part_are_called_as_in_the_whole(two_scenes: Path, tmp_path: Path) -> None:
    said = Said()
    settings = Settings(masks=two_scenes / "masks", frames="4:24")
    write_background(two_scenes / "v.mkv", settings, tmp_path / "plate.png", said)
    texts = " ".join(said.said)
    assert "begins at frame 14:" in texts and "begins at frame 10" not in texts, texts


def test_one_picture_of_several_scenes_is_of_the_longest(two_scenes: Path, tmp_path: Path) -> None:
    said, plate = Said(), tmp_path / "plate.png"
    settings = Settings(masks=two_scenes / "masks", frames="6:24")
    write_background(two_scenes / "v.mkv", settings, plate, said)
    assert any("shows frames 14 to 23" in text for text in said.said), said.said
    frames = np.stack([*iter_frames(two_scenes / "v.mkv")]).astype(int)
    got = cv2.imread(str(plate))[..., ::-1].astype(int)
    apart = np.abs(frames - got).mean((1, 2, 3))
    assert apart[18] < 0.3 * apart[8]


def test_an_object_of_another_scene_is_not_missed() -> None:
    mask = np.zeros((40, 60), bool)
    mask[15:25, 25:35] = True
    from omnimatte_cli.arrays import pack_mask

    packed = [pack_mask(mask)] * 10 + [pack_mask(mask & False)] * 10
    assert doubts_of_found({"a": packed}, (40, 60), 0)
    assert doubts_of_found({"a": packed}, (40, 60), 0, cuts=(10,)) == []


def test_a_prompt_in_no_scene_is_named(two_scenes: Path, tmp_path: Path) -> None:
    code, said = run(
        "decompose", two_scenes / "v.mkv", "--split-cuts", "--point", "a:0:10,10",
        "--point", "b:999:10,10", "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 2 and "'b' in frame 999" in said, said


def test_an_order_of_prompts_holds_in_each_scene(two_scenes: Path, tmp_path: Path) -> None:
    masks = scenes(24, 14)[1]
    points = []
    for name, t in (("a", 2), ("b", 18)):
        y, x = np.argwhere(masks[t]).mean(0).round().astype(int)
        points += ["--point", f"{name}:{t}:{x},{y}"]
    code, said = run(
        "decompose", two_scenes / "v.mkv", "--split-cuts", *points, "--order", "b,a",
        "--method", "ownership", "--size", "48x32", "--no-report", "-o", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, said
    for number, name in (("01", "a"), ("02", "b")):
        facts = json.loads((tmp_path / "out" / f"shot{number}" / "manifest.json").read_text())
        assert facts["objects"]["order"] == [name]
    code, said = run(
        "decompose", two_scenes / "v.mkv", "--split-cuts", *points, "--order", "b,c",
        "-o", tmp_path / "wrong",
    )  # fmt: skip
    assert code == 2 and "no object 'c'" in said, said


# ------------------------------------------------------------------------------- what has no effect


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--method", "omnimatte2021", "--passes", "body"], "--passes is not for"),
        (["--method", "omnimatte2021", "--weights", "small"], "--weights is not for"),
        (["--method", "omnimatte2021", "--set", "exact_layers=true"], "does nothing with"),
        (
            ["--method", "coordination", "--set", "detail=transfer", "--passes", "body"],
            "--passes is not for",
        ),
        (
            ["--method", "coordination", "--set", "detail=none", "--set", "owner=layers"],
            "owner=layers does nothing",
        ),
    ],
)
def test_options_that_a_method_cannot_follow(args: list[str], words: str, shot: Path) -> None:
    code, said = run(
        "decompose", shot / "v.mkv", "--masks", shot / "masks", "-o", shot / "o", *args
    )
    assert code == 2 and words in said, said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--set", "lr=0.5"], "--set lr does nothing to a plate"),
        (["-o", "plate.webm"], ".webm holds no H.264; write an .mp4"),
    ],
)
def test_options_that_no_plate_needs(args: list[str], words: str, shot: Path) -> None:
    out = [] if "-o" in args else ["-o", shot / "p.png"]
    code, said = run("background", shot / "v.mkv", "--masks", shot / "masks", *out, *args)
    assert code == 2 and words in said, said


def test_suffixes_of_films_may_be_large(shot: Path) -> None:
    code, said = run("background", shot / "v.mkv", "--masks", shot / "masks", "-o", shot / "p.MP4")
    assert code == 0 and len([*iter_frames(shot / "p.MP4")]) == 8, said


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (["--remove", "red", "--opacity", "red:0.5"], "--opacity red has nothing to act on"),
        (["--only", "red", "--offset", "blue:1,1"], "--offset blue has nothing to act on"),
        (["--freeze", "red:1", "--speed", "red:2"], "--freeze red contradicts --speed red"),
    ],
)
def test_edits_that_cannot_act(edits: list[str], words: str, tmp_path: Path) -> None:
    out = make_result(tmp_path)
    names = json.loads((out / "manifest.json").read_text())["objects"]["names"]
    edits = [e.replace("red", names[0]).replace("blue", names[1]) for e in edits]
    words = words.replace("red", names[0]).replace("blue", names[1])
    code, said = run("compose", out, "-o", tmp_path / "x.mp4", *edits)
    assert code == 2 and words in said, said


def test_what_masks_are_made_without_is_said(walk: Path, tmp_path: Path) -> None:
    code, said = run("masks", walk / "v.mkv", "-o", tmp_path / "made", "--every", 3)
    assert code == 0 and "--every does nothing" in said, said


# ---------------------------------------------------------------------------------- small things


def test_a_program_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mine"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert find_ffmpeg(Path("./mine")) == str(program)
    assert find_ffmpeg("mine") == str(program)
    path = tmp_path / "path"
    path.mkdir()
    program.rename(path / "mine")
    (tmp_path / "mine").write_bytes((path / "mine").read_bytes())
    (tmp_path / "mine").chmod(0o755)
    monkeypatch.setenv("PATH", str(path))
    assert find_ffmpeg("mine") == str(path / "mine")  # what lies in a folder of shots is not run


def test_a_time_is_a_time_though_a_file_is_called_so(
    walk: Path, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "0.2").write_text("a file")
    monkeypatch.chdir(tmp_path)
    code, said = run("masks", walk / "v.mkv", "--from", "0.2", "-o", "made")
    assert code == 0, said


@pytest.mark.parametrize("name", ["order.txt", "Masks.json", "preview.mp4"])
def test_objects_are_not_called_as_files_beside_them(name: str) -> None:
    with pytest.raises(OptionError, match="call it otherwise"):
        parse_prompts([f"{name}:0:1,1"], [])


def test_faint_layers_stand_somewhere_too() -> None:
    rgba = np.zeros((20, 30, 4), np.float32)
    assert feet_of(rgba) is None
    rgba[4:12, 10:15, 3] = 0.9
    clear = feet_of(rgba)
    rgba[..., 3] *= 0.2
    assert feet_of(rgba) == clear


@pytest.mark.parametrize(
    "facts",
    [
        {"shift_px": "far"}, {"shift_px": float("nan")}, {"inliers": 3}, {"inliers": ["a"] * 4},
        {"rms_px": {"a": 1}}, {"rms_px": ["a"] * 4}, {"doubts": "hello"},
    ],
)  # fmt: skip
def test_wrong_facts_beside_homographies(facts: dict, tmp_path: Path) -> None:
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({"homographies": [np.eye(3).tolist()] * 4, **facts}))
    with pytest.raises(CameraError, match=r"camera\.json: "):
        read_camera(path, (36, 64), 4)
    path.write_text(
        json.dumps({"homographies": [np.eye(3).tolist()] * 4, "reference": [], "shift_px": None})
    )
    assert read_camera(path, (36, 64), 4).kind == "static"


def test_equal_networks_are_equal_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = LayerNet(8, (2, 2))
    facts = {name: name for name in "qwertyuiop"}
    for i in range(4):
        weights.save(net, tmp_path / f"{i}.safetensors", facts, half=True)
    files = [(tmp_path / f"{i}.safetensors").read_bytes() for i in range(4)]
    assert len(set(files)) == 1
    found = weights.find(str(tmp_path / "0.safetensors"), "coordination")
    assert {k: found.metadata[k] for k in facts} == facts
    for key, value in weights.load(found, net.grid).state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[key].half().float())


def test_weights_that_are_none_are_not_kept(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 2)
    good = {k: v.clone() for k, v in net.state_dict().items()}
    check_sound(net, good, 3, tmp_path)
    large = {k: v + 1e6 for k, v in good.items()}  # float16 holds no more than 65504
    with pytest.raises(OmnimatteError, match="diverged by step 3"):
        check_sound(net, large, 3, tmp_path)
    with torch.no_grad():
        net.weight[0, 0] = float("nan")
    with pytest.raises(OmnimatteError, match="diverged"):
        check_sound(net, good, 3, tmp_path)


def test_a_layer_that_is_seldom_seen_is_not_empty() -> None:
    class Layers:
        frames = 90

        def layer(self, name: str, t: int) -> np.ndarray:
            return np.full((2, 2, 4), float(name == "car" and t == 37), np.float32)

    assert not all_empty(Layers(), "car") and all_empty(Layers(), "van")  # type: ignore[arg-type]


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda out: (
            (out / "masks").mkdir(exist_ok=True)
            or (out / "masks" / "masks.json").write_text('{"confidence": [1]}')
        ),
        lambda out: (out / "manifest.json").write_text(
            json.dumps(
                json.loads((out / "manifest.json").read_text())
                | {"warnings": [{"text": "x", "frames": ["a"]}]}
            )
        ),
    ],
)
def test_a_report_of_odd_facts(damage: Damage, tmp_path: Path) -> None:
    out = make_result(tmp_path)
    damage(out)
    code, said = run("report", out)
    assert code == 0 and (out / "report.html").is_file(), said

"""Recomposing: the input comes back, and each edit does what it says, pixel by pixel."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.compose.edits import Appearance, Edits, feet_of, moved, place, placement, plan
from omnimatte_cli.compose.render import Composition, footage, weakening
from omnimatte_cli.deliver import picture
from omnimatte_cli.deliver.linear import to_linear
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.errors import OptionError, ResultError
from omnimatte_cli.media.listing import write_list
from omnimatte_cli.media.lock import WorkFolder
from omnimatte_cli.media.read import iter_frames, probe
from tests.conftest import encode
from tests.results import (
    FRAMES,
    NAMES,
    SIZE,
    clean_at,
    composite_at,
    layers_at,
    make_result,
    plate_at,
    write_png,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_result(tmp_path_factory.mktemp("still"))


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_result(tmp_path_factory.mktemp("moving"), drift=3.0)


def frames(out: Path, edits: Edits, **facts) -> list[np.ndarray]:
    result = read_result(out)
    appearances = plan(edits, result.names, result.frames)
    return list(Composition(result, appearances, **facts).frames())


def over(*layers: np.ndarray, plate: np.ndarray) -> np.ndarray:
    for rgba in layers:
        plate = plate + rgba[..., 3:] * (rgba[..., :3] - plate)
    return plate


def near(got: np.ndarray, meant: np.ndarray, within: float = 1e-5) -> bool:
    return bool(np.abs(got - meant).max() < within)


def run(*args: object):
    return CliRunner().invoke(app, ["compose", *map(str, args)])


# ------------------------------------------------------------------------------------ what is shown


def test_without_edits_the_input_comes_back(out: Path) -> None:
    assert all(near(f, composite_at(t)) for t, f in enumerate(frames(out, Edits())))


def test_remove_and_only(out: Path) -> None:
    for edits in (Edits(remove=("box",)), Edits(only=("ball",))):
        got = frames(out, edits)
        assert all(near(f, over(layers_at(t)[0], plate=plate_at(t))) for t, f in enumerate(got))


def test_clean_is_the_other_plate(out: Path) -> None:
    got = frames(out, Edits(remove=NAMES), clean=True)
    assert near(got[3], clean_at(0))


def test_a_removal_shows_as_much_of_the_rest_as_the_input_does(tmp_path: Path) -> None:
    """Below a shadow the residual plate holds the rest amplified: it must not glow without it."""
    out = make_result(tmp_path)
    t, rest = 3, np.float32(20 / 255)
    ball, box = layers_at(t)[..., 3]
    shadow = (ball == np.float32(128 / 255)) & (box == 0)
    seen = (1 - layers_at(t)[..., 3]).prod(0)[..., None]
    residual = clean_at(t) + rest / np.maximum(seen, 0.25)
    write_png(out / "background" / f"{t:05d}.png", residual)
    amplified = frames(out, Edits())[t] - over(*layers_at(t), plate=clean_at(t))
    assert amplified[shadow].mean() == pytest.approx(rest, abs=0.003)  # as in the input
    left = frames(out, Edits(remove=NAMES))[t] - clean_at(t)
    assert shadow.sum() > 20 and left[shadow].mean() == pytest.approx(rest, abs=0.003)


def test_nothing_below(out: Path) -> None:
    got = frames(out, Edits(), transparent=True)[4]
    new = np.full((*SIZE, 3), 0.7, np.float32)
    assert got.shape == (*SIZE, 4)
    assert near(over(got, plate=new), over(*layers_at(4), plate=new))


@pytest.mark.parametrize(
    ("edits", "source"),
    [
        (Edits(delay={"ball": 2}), lambda t: t - 2 if t >= 2 else None),
        (Edits(delay={"ball": -2}), lambda t: t + 2 if t + 2 < FRAMES else None),
        (Edits(speed={"ball": 0.5}), lambda t: t // 2),
        (Edits(speed={"ball": 2.0}), lambda t: 2 * t if 2 * t < FRAMES else None),
        (Edits(freeze={"ball": 5}), lambda t: 5),
        (Edits(speed={"ball": 0.5}, delay={"ball": 2}), lambda t: (t - 2) // 2 if t >= 2 else None),
    ],
)
def test_time_of_one_object(edits: Edits, source, out: Path) -> None:
    for t, got in enumerate(frames(out, edits)):
        s = source(t)
        ball = [layers_at(s)[0]] if s is not None else []
        assert near(got, over(*ball, layers_at(t)[1], plate=plate_at(t))), t


def test_strobe_leaves_still_images(out: Path) -> None:
    got = frames(out, Edits(strobe={"ball": 3}))
    for t in (0, 2, 3, 7):
        shown = sorted({*range(0, t, 3), t})
        balls = [layers_at(s)[0] for s in shown]
        assert near(got[t], over(*balls, layers_at(t)[1], plate=plate_at(t))), t


def test_offset_and_copies_move_by_whole_pixels_exactly(out: Path) -> None:
    edits = Edits(offset={"box": (-3, 2)}, duplicate=(("ball", 4, 6, 1),))
    for t, got in enumerate(frames(out, edits)):
        copy = [moved(layers_at(t - 1)[0], 4, 6)] if t else []
        layers = [*copy, layers_at(t)[0], moved(layers_at(t)[1], -3, 2)]
        assert near(got, over(*layers, plate=plate_at(t))), t


def test_opacity_and_colour(out: Path) -> None:
    edits = Edits(opacity={"box": 0.5}, color={"ball": "gray", "box": "#ff0000"})
    ball, box = layers_at(2)
    luma = np.array([0.2126, 0.7152, 0.0722], np.float32)
    ball[..., :3] = (ball[..., :3] @ luma)[..., None]
    box[..., :3] = (box[..., :3] @ luma)[..., None] * np.array([1, 0, 0])
    box[..., 3] *= 0.5
    assert near(frames(out, edits)[2], over(ball, box, plate=plate_at(2)))


def test_scale_is_about_the_feet(out: Path) -> None:
    box = layers_at(0)[1]
    feet = feet_of(box)
    assert feet is not None and feet == pytest.approx((40, 32), abs=0.6)
    rgba = place(box, placement(Appearance("box", scale=1.5), 0, 0, None, feet))
    rows, columns = np.nonzero(rgba[..., 3] > 0.5)
    assert rows.max() == pytest.approx(32, abs=1) and columns.mean() == pytest.approx(40, abs=0.5)
    assert np.ptp(rows) == pytest.approx(14 * 1.5, abs=1.5)
    got = frames(out, Edits(scale={"box": 1.5}))[0]
    assert np.abs(got - composite_at(0)).max() > 0.1


# ---------------------------------------------------------------------------------- moving cameras


def test_a_still_stays_on_the_ground_before_a_moving_camera(moving: Path) -> None:
    """The camera pans right by 3 pixels a frame: a frozen object drifts left by as much."""
    for t, got in enumerate(frames(moving, Edits(freeze={"ball": 4}, remove=("box",)))):
        ball = moved(layers_at(4)[0], 3 * (4 - t), 0)
        assert near(got, over(ball, plate=plate_at(t, 3.0))), t


def test_a_copy_stays_on_the_ground_before_a_moving_camera(moving: Path) -> None:
    """What is shown later is drawn where it was: the camera has moved on by 3 pixels a frame."""
    edits = Edits(remove=("box",), duplicate=(("ball", -6, 4, 2),))
    for t, got in enumerate(frames(moving, edits)):
        copy = [moved(layers_at(t - 2)[0], -6 - 3 * 2, 4)] if t >= 2 else []
        assert near(got, over(*copy, layers_at(t)[0], plate=plate_at(t, 3.0))), t


def test_offsets_are_in_canvas_pixels() -> None:
    zoom = np.stack([np.diag([2.0, 2.0, 1.0]), np.diag([1.0, 1.0, 1.0])])
    matrix = placement(Appearance("a", (10, 4)), 0, 0, zoom, None)
    assert matrix[:2, 2] == pytest.approx([5, 2])
    matrix = placement(Appearance("a"), 0, 1, zoom, None)
    assert np.diag(matrix) == pytest.approx([2, 2, 1])


def test_a_warped_layer_keeps_its_colours_at_the_edge() -> None:
    box = layers_at(0)[1]
    rgba = place(box, np.array([[1, 0, 0.5], [0, 1, 0.25], [0, 0, 1.0]]))
    seen = rgba[..., 3] > 0.05
    assert near(rgba[seen][:, :3], np.broadcast_to(box[25, 40, :3], (seen.sum(), 3)), 1e-3)
    assert rgba[..., 3].sum() == pytest.approx(box[..., 3].sum(), rel=1e-3)


# ----------------------------------------------------------------------------------------- effects


def test_effects_alone_are_weakened_by_the_masks(out: Path) -> None:
    result = read_result(out)
    weaken, note = weakening(result, ("ball",))
    assert note and "masks" in note
    whole = layers_at(3)[0]
    got = weaken("ball", 3, whole, 0.5)
    body = whole[..., 3] == 1
    assert near(got[body], whole[body], 0.01)  # the mask is soft at its edge
    far = np.zeros(SIZE, bool)
    far[28, 12 + 15 - 8] = True  # in the shadow, beyond the grown mask's reach
    assert whole[far][0, 3] == pytest.approx(0.5, abs=0.01)
    assert got[far][0, 3] == pytest.approx(0.25, abs=0.04)


def test_passes_without_effects_are_not_all_of_a_layer(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    for t in range(FRAMES):
        write_png(out / "passes/ball/body" / f"{t:05d}.png", 0 * layers_at(t)[0])
    _, note = weakening(read_result(out), ("ball",))
    assert note and "masks" in note


def test_effects_alone_are_weakened_by_the_passes(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    for t in range(FRAMES):
        whole = layers_at(t)[0]
        body, shadow = whole.copy(), whole.copy()
        body[whole[..., 3] < 0.9] = 0
        shadow[whole[..., 3] >= 0.9] = 0
        write_png(out / "passes/ball/body" / f"{t:05d}.png", body)
        write_png(out / "passes/ball/reflection" / f"{t:05d}.png", 0 * whole)
        write_png(out / "passes/ball/shadow" / f"{t:05d}.png", shadow)
    result = read_result(out)
    weaken, note = weakening(result, ("ball",))
    assert note is None
    meant = layers_at(3)[0]
    meant[..., 3] *= np.where(meant[..., 3] < 0.9, 0.5, 1)
    got = Composition(result, plan(Edits(shadow={"ball": 0.5}), NAMES, FRAMES), weaken=weaken)
    frame = list(got.frames())[3]
    assert near(frame, over(meant, layers_at(3)[1], plate=plate_at(3)))


# ------------------------------------------------------------------------------------- the command


def test_the_command_rebuilds_the_input_and_says_how_well(out: Path, tmp_path: Path) -> None:
    done = run(out, "-o", tmp_path / "back.mp4")
    assert done.exit_code == 0, done.output
    said = re.search(r"It matches the input to ([0-9.]+) dB", done.stdout)
    assert said and 70 < float(said[1]) < 90  # the input was rounded to 8 bits
    assert (tmp_path / "back.mp4").stat().st_size > 500


def test_the_command_in_every_form(out: Path, tmp_path: Path) -> None:
    for name, more in [
        ("a.mov", ["--background", "transparent"]),
        ("a.webm", ["--background", "#204060"]),
        ("pngs", ["--background", "transparent", "--start-frame", "1001"]),
        ("deep", ["--format", "png16"]),
        ("exrs", ["--format", "exr", "--background", "transparent"]),
    ]:
        done = run(out, "-o", tmp_path / name, "-q", "--remove", "box", *more)
        assert done.exit_code == 0, done.output
    assert sorted(p.name for p in (tmp_path / "pngs").iterdir())[0] == "input.1001.png"
    image = cv2.imread(str(tmp_path / "pngs/input.1004.png"), -1)
    assert image.shape == (*SIZE, 4) and image[16, 27, 3] == 255 and image[2, 2, 3] == 0
    assert cv2.imread(str(tmp_path / "deep/input.0003.png"), -1).dtype == np.uint16
    assert len(list((tmp_path / "exrs").iterdir())) == FRAMES
    check_linear_shadow(tmp_path / "exrs/input.0003.exr")
    (tmp_path / "pngs/input.mine.png").write_bytes(b"mine")
    again = ["--overwrite", "--background", "transparent", "--start-frame", "0"]
    assert run(out, "-o", tmp_path / "pngs", "-q", *again).exit_code == 0
    left = {p.name for p in (tmp_path / "pngs").iterdir()}  # no frames of the run before
    assert left == {*(f"input.{t:04d}.png" for t in range(FRAMES)), "input.mine.png"}


def check_linear_shadow(path: Path) -> None:
    """A shadow takes the share of light that it takes in the picture; the body is opaque."""
    import OpenEXR

    with OpenEXR.File(str(path), separate_channels=True) as file:
        alpha = file.channels()["A"].pixels.astype(np.float64)
    ball = layers_at(3)[0, ..., 3]
    shade = ball == np.float32(128 / 255)
    for ground in (0.3, 0.8):
        dark, light = (to_linear(np.float32([v]), "bt709")[0] for v in (ground * 127 / 255, ground))
        assert np.abs(alpha[shade] - (1 - dark / light)).max() < 0.05
    assert (alpha[ball == 1] == 1).all() and (alpha[ball == 0] == 0).all()


def test_sound_goes_along_unless_unwanted(tmp_path: Path) -> None:
    out = make_result(tmp_path, sound=True)
    for name, more, sound in [
        ("a.mp4", [], "aac"),
        ("a.webm", [], "opus"),
        ("b.mp4", ["--no-audio"], None),
    ]:
        assert run(out, "-o", tmp_path / name, "-q", *more).exit_code == 0
        heard = probe(tmp_path / name).audio
        assert (heard.codec if heard else None) == sound


def test_frame_times_that_a_format_cannot_keep_are_said(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    facts = json.loads((out / "manifest.json").read_text())
    times = [0.1 * t + 0.03 * (t % 2) for t in range(FRAMES)]
    facts["input"] |= {"variable": True, "times": times}
    (out / "manifest.json").write_text(json.dumps(facts))
    for name, said in (("a.mp4", False), ("a.webm", True), ("images", True)):
        done = run(out, "-o", tmp_path / name)
        assert done.exit_code == 0 and ("times of their own" in done.stderr) == said, name


def test_an_image_of_another_size_goes_below(out: Path, tmp_path: Path) -> None:
    image = np.zeros((100, 100, 3), np.float32)
    image[..., 2] = 1
    write_png(tmp_path / "blue.png", image)
    args = ["--background", tmp_path / "blue.png", "--only", "box"]
    assert run(out, "-o", tmp_path / "o", "-q", *args).exit_code == 0
    got = cv2.imread(str(tmp_path / "o/input.0000.png"))[..., ::-1]
    assert tuple(got[2, 2]) == (0, 0, 255) and tuple(got[25, 40]) == (26, 153, 76)


def test_a_video_goes_below_and_begins_anew_where_it_ends(out: Path, tmp_path: Path) -> None:
    """Three grey frames of another shape and size, under eight."""
    greys = (40, 120, 200)
    film = np.stack([np.full((90, 100, 3), g, np.uint8) for g in greys])
    encode(tmp_path / "below.mkv", film, "-c:v", "ffv1", "-pix_fmt", "bgr0")
    args = ["--background", tmp_path / "below.mkv", "--remove", "box", "--remove", "ball"]
    assert run(out, "-o", tmp_path / "o", "-q", *args).exit_code == 0
    got = [cv2.imread(str(tmp_path / f"o/input.{t:04d}.png")) for t in range(FRAMES)]
    assert all((image == greys[t % 3]).all() for t, image in enumerate(got))


def test_several_formats_go_into_one_folder(out: Path, tmp_path: Path) -> None:
    """All of the same frames, composed once; a folder gets movies by their own name."""
    forms = [x for form in ("mp4", "prores", "png16", "exr") for x in ("--format", form)]
    done = run(out, "-o", tmp_path / "o", "--remove", "box", *forms)
    assert done.exit_code == 0, done.output
    places = [tmp_path / "o" / n for n in ("composite.mp4", "composite.mov", "png16", "exr")]
    assert done.stdout.split() == [str(p) for p in places]
    t = 3
    meant = over(layers_at(t)[0], plate=plate_at(t))
    deep = cv2.imread(str(places[2] / f"input.{t:04d}.png"), -1)[..., ::-1] / 65535
    assert near(deep, meant)
    for film, bound in ((places[0], 0.02), (places[1], 0.01)):
        image = list(iter_frames(film))[t] / 255
        assert np.abs(image - meant).mean() < bound, film
    assert len(list(places[3].iterdir())) == FRAMES
    again = run(out, "-o", tmp_path / "o", *forms)
    assert again.exit_code == 2 and "not empty" in again.stderr
    assert run(out, "-o", tmp_path / "film", "--format", "prores", "-q").exit_code == 0
    assert [p.name for p in (tmp_path / "film").iterdir()] == ["composite.mov"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["--remove", "bal"],
            "no object 'bal' in this result; it has ball, box. Did you mean ball",
        ),
        (["--offset", "ball:3"], "--offset ball:3: give NAME:DX,DY"),
        (["--delay", "ball:1.5"], "whole frames"),
        (["--freeze", "ball:8"], "the frames are 0 to 7"),
        (["--opacity", "ball:1.5"], "outside 0 to 1"),
        (["--strobe", "ball:0"], "give 1 or more"),
        (["--color", "ball:red"], "#RRGGBB"),
        (["--offset", "ball:1,1", "--offset", "ball:2,2"], "twice"),
        (["--remove", "box", "--only", "box"], "contradicts"),
        (["--background", "nowhere.png"], "does not exist"),
        (["--background", "transparent"], "no transparency"),
        (["--background", "#12345", "--format", "mp4"], "#RRGGBB"),
        (["--format", "exr"], "does not go with"),
        (["--format", "mp4", "--format", "exr"], "give a folder for several formats"),
        (["--format", "gif"], "--format takes png, png16"),
        (["--start-frame", "-1"], "--start-frame must be 0 or more"),
        (["--color", "ball:gray", "--color", "ball:#ff0000"], "twice"),
        (["--clean", "--background", "#000000"], "contradict"),
    ],
)
def test_mistakes_are_named_before_any_work(
    args: list[str], words: str, out: Path, tmp_path: Path
) -> None:
    done = run(out, "-o", tmp_path / "o.mp4", *args)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split()), done.stderr
    assert not list(tmp_path.iterdir())


def test_what_is_read_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    out, film = make_result(tmp_path / "result"), tmp_path / "ground.mp4"
    write_list(out)
    encode(film, np.full((3, *SIZE, 3), 90, np.uint8))
    before = film.read_bytes()
    masks = tmp_path / "result" / "masks"
    for read in (out / "layers" / "ball", out / "layers", film, masks, masks / "ball"):
        done = run(out, "-o", read, "--background", film, "--overwrite")
        said = " ".join(done.stderr.split())
        assert done.exit_code == 2 and ("is read" in said or "among the masks" in said)
    assert film.read_bytes() == before
    assert len(list((masks / "ball").iterdir())) == FRAMES
    assert len(list((out / "layers" / "ball").iterdir())) == FRAMES


@pytest.mark.parametrize("more", [[], ["--format", "png16"], ["--format", "mp4"]])
def test_an_image_is_no_place_for_a_film(more: list[str], out: Path, tmp_path: Path) -> None:
    done = run(out, "-o", tmp_path / "o.png", *more)
    assert done.exit_code == 2 and "or a folder" in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten_unasked(out: Path, tmp_path: Path) -> None:
    (tmp_path / "o.mp4").write_text("mine")
    assert run(out, "-o", tmp_path / "o.mp4").exit_code == 2
    assert run(out, "-o", out, "--overwrite").exit_code == 2  # the result itself
    assert (tmp_path / "o.mp4").read_text() == "mine"
    assert run(out, "-o", tmp_path / "o.mp4", "--overwrite", "-q").exit_code == 0


def test_a_failed_run_leaves_the_frames_of_the_one_before(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(out, "-o", tmp_path / "o", "-q").exit_code == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()}
    encode_image, calls = picture.encode_image, []

    def third_fails(*args: object) -> bytes:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return encode_image(*args)

    monkeypatch.setattr(picture, "encode_image", third_fails)
    failed = run(out, "-o", tmp_path / "o", "-q", "--overwrite", "--remove", "box")
    assert failed.exit_code == 1 and "No space left" in failed.stderr
    assert {p.name: p.read_bytes() for p in (tmp_path / "o").iterdir()} == before


def test_what_a_killed_run_left_goes_and_a_running_one_is_left_alone(
    out: Path, tmp_path: Path
) -> None:
    place = tmp_path / "o"
    (place / ".compose").mkdir(parents=True)
    (place / ".compose" / "input.0000.png").write_bytes(b"half")
    assert run(out, "-o", place, "-q", "--overwrite").exit_code == 0
    assert len([*place.iterdir()]) == FRAMES
    other = WorkFolder(place / ".compose")
    assert other.claim()
    done = run(out, "-o", place, "-q", "--overwrite", "--remove", "box")
    assert done.exit_code == 2 and "Another run is writing" in done.stderr
    other.remove()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"input": {}}', '{"input": 3, "objects": 4}'])
def test_what_is_no_result_is_said(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ResultError):
        read_result(tmp_path)


def test_a_lost_layer_file_is_named(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    (out / "layers/ball/00003.png").unlink()
    with pytest.raises(ResultError, match="7 images for 8 frames"):
        read_result(out).layer("ball", 0)
    facts = json.loads((out / "manifest.json").read_text())
    facts["objects"]["order"] = [["ball", "box"]] * 3
    (out / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(ResultError, match="3 orders for 8 frames"):
        read_result(out)


def test_unknown_names_list_the_right_ones() -> None:
    with pytest.raises(OptionError, match=r"it has ball, box\.$"):
        plan(Edits(remove=("cat",)), NAMES, FRAMES)


def test_which_plate_is_which(moving: Path, out: Path, tmp_path: Path) -> None:
    """Folders mean other things before a still and a moving camera, with and without --exact."""
    result = read_result(moving)
    assert result.has_residual and near(result.plate(5), plate_at(5, 3.0))
    assert near(result.plate(5, clean=True), clean_at(5, 3.0))
    assert near(read_result(out).plate(5, clean=True), clean_at(0))
    # Without --exact, background/ holds the clean plates of a moving camera.
    folder = make_result(tmp_path, drift=2.0)
    shutil.rmtree(folder / "plate")
    facts = json.loads((folder / "manifest.json").read_text())
    facts["options"]["exact"] = False
    (folder / "manifest.json").write_text(json.dumps(facts))
    result = read_result(folder)
    assert not result.has_residual
    assert near(result.plate(5), plate_at(5, 2.0)) and near(result.plate(5, True), plate_at(5, 2.0))


def test_a_ground_below_pixels_that_are_not_square_keeps_its_shape(tmp_path: Path) -> None:
    """A circle on the ground is one on screen: half as wide in stored pixels twice as wide."""
    y, x = np.mgrid[0:40, 0:40]
    circle = np.repeat((np.hypot(x - 19.5, y - 19.5) < 10)[..., None], 3, 2).astype(np.float32)
    write_png(tmp_path / "circle.png", circle)
    image = next(footage(tmp_path / "circle.png", (40, 36), (40, 72))())
    assert image.shape == (40, 36, 3)
    inside = image[..., 0] > 0.5
    assert np.ptp(np.flatnonzero(inside.any(1))) == pytest.approx(36, abs=2)  # covers 72 across
    assert np.ptp(np.flatnonzero(inside.any(0))) == pytest.approx(18, abs=2)


def test_an_input_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    """Neither measured against, nor its sound taken: a file of the same name may be anything."""
    made = make_result(tmp_path, sound=True)
    source = read_result(made).source
    encode(source, np.zeros((FRAMES, *SIZE, 3), np.uint8), "-c:v", "ffv1", "-pix_fmt", "gbrp")
    done = run(made, "-o", tmp_path / "back.mp4")
    assert done.exit_code == 0 and "matches the input" not in done.stdout
    assert "not the one that was decomposed" in done.output
    assert probe(tmp_path / "back.mp4").audio is None
    assert CliRunner().invoke(app, ["report", str(made), "-q"]).exit_code == 0
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "not the one that was decomposed" in page

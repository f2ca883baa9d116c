"""Results in other formats, with the time line and the script that put them together elsewhere."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.arrays import Plate
from omnimatte_cli.cli import app
from omnimatte_cli.deliver.aftereffects import aftereffects_script
from omnimatte_cli.deliver.footage import Footage, stack_of, usual_order
from omnimatte_cli.deliver.nuke import nuke_script, quoted
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.deliver.writer import Delivery
from omnimatte_cli.media.codecs import ColourTags, Timing
from omnimatte_cli.media.listing import MARK, files_in, write_list
from omnimatte_cli.media.read import iter_frames
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

FORMATS = ("png16", "prores", "webm", "exr", "mp4")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result with every format beside it."""
    out = make_result(tmp_path_factory.mktemp("all"))
    done = convert(out, *FORMATS, "--start-frame", "1001")
    assert done.exit_code == 0, done.output
    return out


def convert(out: Path, *args: str):
    named = [x for a in args for x in (["--format", a] if a in (*FORMATS, "png", "gif") else [a])]
    return CliRunner().invoke(app, ["convert", str(out), *named])


def delivery(**facts) -> Delivery:
    return Delivery(SIZE, FRAMES, Timing(Fraction(24000, 1001)), **{"first": 1001, **facts})


# ----------------------------------------------------------------------------------------- convert


def test_every_format_lies_in_its_folder(out: Path) -> None:
    assert {p.name for p in (out / "prores").iterdir()} == {"ball.mov", "box.mov", "plate.mov"}
    assert {p.name for p in (out / "webm").iterdir()} == {"ball.webm", "box.webm", "plate.webm"}
    assert len(list((out / "mp4").iterdir())) == 5
    assert min(p.name for p in (out / "exr").iterdir()) == "input.1001.exr"
    for name in (*NAMES, "plate"):
        files = sorted(p.name for p in (out / "layers16" / name).iterdir())
        assert files == [f"{n:05d}.png" for n in range(1001, 1001 + FRAMES)]


def test_exr_layers_over_the_plate_are_the_input_in_linear_light(out: Path) -> None:
    import OpenEXR

    with OpenEXR.File(str(out / "exr/input.1005.exr"), separate_channels=True) as file:
        c = {k: v.pixels.astype(np.float64) for k, v in file.channels().items()}
    got = np.stack([c[f"plate.{x}"] for x in "RGB"], -1)
    for name in NAMES:
        rgba = np.stack([c[f"{name}.{x}"] for x in "RGBA"], -1)
        got = rgba[..., :3] + (1 - rgba[..., 3:]) * got
    v = composite_at(4)
    linear = np.where(v < 0.081, v / 4.5, ((v + 0.099) / 1.099) ** (1 / 0.45))
    assert np.abs(got - linear).max() < 3e-3


def test_what_is_there_is_not_overwritten_unasked(out: Path, tmp_path: Path) -> None:
    done = convert(out, "exr")
    assert done.exit_code == 2 and "not empty" in done.stderr
    deep = convert(out, "png16", "--start-frame", "7")  # the deepest layers are what is read
    assert deep.exit_code == 2 and "what is read" in " ".join(deep.stderr.split())
    assert convert(out, "gif").exit_code == 2
    done = convert(out, "mp4", "--matte-color", "green", "-o", str(tmp_path / "o"))
    assert done.exit_code == 2 and not (tmp_path / "o").exists()


def test_what_a_killed_conversion_left_goes(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    (out / ".convert-png16" / "layers16").mkdir(parents=True)
    (out / ".convert-png16" / "half").write_bytes(b"half")
    assert convert(out, "png16", "-q").exit_code == 0
    assert not [p for p in out.iterdir() if p.name.startswith(".convert")]


def test_an_overwritten_format_holds_the_new_frames_alone(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    write_list(out)
    assert convert(out, "exr", "--start-frame", "1001", "-q").exit_code == 0
    assert convert(out, "exr", "-q", "--overwrite").exit_code == 0
    assert sorted(p.name for p in (out / "exr").iterdir())[-1] == "input.0007.exr"
    assert [p.name for p in out.iterdir() if p.name.startswith(".")] == [MARK]
    (out / "exr/notes.txt").write_text("mine")
    done = convert(out, "exr", "--overwrite")
    assert done.exit_code == 2 and "notes.txt" in done.stderr and (out / "exr/notes.txt").exists()
    (out / "exr/notes.txt").rename(out / "exr/mine.exr")  # whose name says nothing
    write_list(out, [f for f in files_in(out) if "mine" not in f])
    done = convert(out, "exr", "--overwrite")
    assert done.exit_code == 2 and "mine.exr" in done.stderr and (out / "exr/mine.exr").exists()


def test_a_folder_that_nobody_knows_is_not_overwritten(tmp_path: Path) -> None:
    """Names of files say nothing of whose they are, there as in a result."""
    out, other = make_result(tmp_path), tmp_path / "mine"
    (other / "exr").mkdir(parents=True)
    (other / "exr" / "precious.exr").write_bytes(b"mine")
    done = convert(out, "exr", "-o", other, "--overwrite")
    assert done.exit_code == 2 and "has no list" in done.stderr, done.stderr
    assert (other / "exr" / "precious.exr").read_bytes() == b"mine"
    for more in ([], ["--overwrite"]):  # but one of its own is written anew
        assert convert(out, "exr", "-o", tmp_path / "new", *more, "-q").exit_code == 0


def test_an_object_called_as_anothers_matte_is_refused_before_the_work(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    (out / "layers/box").rename(out / "layers/ball_matte")
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"box"', '"ball_matte"'))
    done = convert(out, "mp4")
    assert done.exit_code == 2 and "the matte of ball" in " ".join(done.stderr.split())
    assert not (out / "mp4").exists()


def test_layers_that_are_there_get_scripts_alone(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    before = {p: p.read_bytes() for p in (out / "layers").rglob("*.png")}
    done = convert(out, "png")
    assert done.exit_code == 0, done.output
    assert [Path(line).name for line in done.stdout.split()] == [
        "layers.nk", "layers.jsx", "layers.otio",
    ]  # fmt: skip
    assert before == {p: p.read_bytes() for p in (out / "layers").rglob("*.png")}
    assert '"background/%05d.png"' in (out / "layers.nk").read_text()


def test_passes_are_converted_along(tmp_path: Path) -> None:
    import OpenEXR

    out = make_result(tmp_path)
    for t in range(FRAMES):
        layer = layers_at(t)[0]
        for part, seen in (("body", layer[..., 3] > 0.9), ("shadow", layer[..., 3] <= 0.9)):
            write_png(out / "passes/ball" / part / f"{t:05d}.png", layer * seen[..., None])
    assert convert(out, "exr", "prores", "-q").exit_code == 0
    assert {p.stem for p in (out / "prores").iterdir()} >= {"ball", "ball_body", "ball_shadow"}
    with OpenEXR.File(str(out / "exr/input.0003.exr"), separate_channels=True) as file:
        c = {k: v.pixels.astype(np.float64) for k, v in file.channels().items()}
    whole = c["ball_body.A"] + (1 - c["ball_body.A"]) * c["ball_shadow.A"]
    assert c["ball_shadow.A"].max() > 0.4 and np.abs(whole - c["ball.A"]).max() < 2e-3


def test_elsewhere_the_plate_goes_along(out: Path, tmp_path: Path) -> None:
    assert convert(out, "png", "-o", str(tmp_path / "o"), "-q").exit_code == 0
    assert len(list((tmp_path / "o/layers/plate").iterdir())) == FRAMES
    assert '"layers/plate/%05d.png"' in (tmp_path / "o/layers.nk").read_text()


def test_the_plate_is_the_residual_one_or_the_clean_one(out: Path, tmp_path: Path) -> None:
    """A stranger stands in the residual plate alone."""
    place = tmp_path / "o"
    assert convert(out, "png16", "-o", str(place), "--clean", "-q").exit_code == 0
    for folder, meant in ((out, plate_at(4)), (place, clean_at(4))):
        (file,) = (f for f in (folder / "layers16/plate").iterdir() if f.stem in ("00004", "01005"))
        image = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[..., ::-1] / 65535
        assert np.abs(image - meant).max() < 1e-4, folder


def test_mp4_layers_lie_on_the_colour_that_is_asked_for(out: Path, tmp_path: Path) -> None:
    args = ("mp4", "--matte-color", "#00c040", "-o", str(tmp_path / "o"), "-q")
    assert convert(out, *args).exit_code == 0
    for folder, colour in ((out, (0, 0, 0)), (tmp_path / "o", (0, 0xC0, 0x40))):
        frame = list(iter_frames(folder / "mp4/box.mp4"))[3]
        assert np.abs(frame[:10, :20].astype(int) - colour).max() < 4
        assert np.abs(frame[22:30, 38:43].astype(int) - (26, 153, 76)).max() < 12
    matte = list(iter_frames(tmp_path / "o/mp4/box_matte.mp4"))[3]
    assert matte[:10, :20].max() < 4 and matte[22:30, 38:43].min() > 250


# -------------------------------------------------------------------------------------------- otio


def test_the_time_line_is_read_back(out: Path) -> None:
    import opentimelineio as otio

    timeline = otio.adapters.read_from_file(str(out / "layers.otio"))
    tracks = list(timeline.tracks)
    assert [t.name for t in tracks] == ["plate", "ball", "box"]  # bottom to top
    assert all(t.kind == "Video" and len(t) == 1 for t in tracks)
    assert timeline.global_start_time == otio.opentime.RationalTime(1001, 10)
    assert timeline.duration() == otio.opentime.RationalTime(FRAMES, 10)
    for track in tracks:
        url = track[0].media_reference.target_url
        assert url == f"prores/{track.name}.mov" and (out / url).is_file()
    assert timeline.metadata["omnimatte"]["alpha"] == "straight"


def test_a_time_line_of_images(tmp_path: Path) -> None:
    import opentimelineio as otio

    from omnimatte_cli.deliver.otio import write_timeline

    stack = stack_of("png16", NAMES, (1, 0), delivery(), None)
    write_timeline(tmp_path / "layers.otio", stack, delivery(), changing_order=True)
    timeline = otio.adapters.read_from_file(str(tmp_path / "layers.otio"))
    assert [t.name for t in timeline.tracks] == ["plate", "box", "ball"]
    media = timeline.tracks[1][0].media_reference
    assert media.target_url_for_image_number(2) == "layers16/box/01003.png"
    assert media.number_of_images_in_sequence() == FRAMES
    assert timeline.metadata["omnimatte"]["order_changes"] is True


# -------------------------------------------------------------------------------------------- nuke


def run_nuke(script: str) -> tuple[dict[str, dict[str, str]], dict[str, list[str]]]:
    """Follow the script's stack as Nuke does: knobs of each node, and names of its inputs."""
    knobs: dict[str, dict[str, str]] = {}
    inputs: dict[str, list[str]] = {}
    stack: list[str] = []
    named: dict[str, str] = {}
    for match in re.finditer(
        r"^set (\w+) \[stack 0\]$|^push \$(\w+)$|^(\w+) \{\n((?: .*\n)*)\}$", script, re.M
    ):
        if match[1]:
            named[match[1]] = stack[-1]
        elif match[2]:
            stack.append(named[match[2]])
        else:
            facts = dict(line.strip().split(" ", 1) for line in match[4].splitlines())
            count = int(facts.get("inputs", 1))
            taken = [stack.pop() for _ in range(count)]  # input 0 first
            name = facts.get("name", match[3])
            knobs[name], inputs[name] = {"class": match[3], **facts}, taken
            if match[3] not in ("Root", "StickyNote"):
                stack.append(name)
    return knobs, inputs


def test_the_nuke_script_merges_exr_layers_in_order(out: Path) -> None:
    text = (out / "layers.nk").read_text()
    knobs, inputs = run_nuke(text)
    assert knobs["Root"]["first_frame"] == "1001" and knobs["Root"]["last_frame"] == "1008"
    assert knobs["Root"]["fps"] == "10" and "script_directory" in knobs["Root"]["project_directory"]
    read = knobs["Read_Layers"]
    assert read["file"] == '"exr/input.%04d.exr"' and read["colorspace"] == "linear"
    assert inputs["Over_ball"] == ["Shuffle_Plate", "Shuffle_ball"]  # input 0 is B, below
    assert inputs["Over_box"] == ["Over_ball", "Shuffle_box"]
    assert inputs["Shuffle_box"] == ["Read_Layers"] and knobs["Shuffle_box"]["in"] == "box"
    assert inputs["Viewer1"] == ["Over_box"]
    assert "add_layer {box box.red box.green box.blue box.alpha}" in text


def test_straight_layers_are_premultiplied_in_the_encoded_signal() -> None:
    plate = Footage("plate", "", "background", ".png")
    stack = stack_of("png", NAMES, (1, 0), delivery(), plate)
    knobs, inputs = run_nuke(nuke_script(stack, delivery(), changing_order=True))
    for name in NAMES:
        assert knobs[f"Read_{name}"]["raw"] == "true"
        assert inputs[f"Premult_{name}"] == [f"Read_{name}"]
    assert knobs["Read_box"]["file"] == '"layers/box/%05d.png"'
    assert knobs["Read_Plate"]["before"] == "hold"
    assert inputs["Over_ball"] == ["Over_box", "Premult_ball"]
    assert inputs["ToLinear"] == ["Over_ball"] and knobs["ToLinear"]["colorspace_in"] == "rec709"
    assert knobs["Root"]["fps"] == "23.976" and "Order" in knobs


def test_curves_that_nuke_has_no_name_for_are_left_to_its_user() -> None:
    hdr = delivery(tags=ColourTags("bt2020nc", "bt2020", "arib-std-b67"))
    knobs, _ = run_nuke(nuke_script(stack_of("png16", NAMES, (0, 1), hdr, None), hdr))
    assert "ToLinear" not in knobs and "arib-std-b67" in knobs["Encoded"]["label"]


def test_words_of_the_script_are_closed() -> None:
    assert quoted('a [b] {c} $d "e"') == r'"a \[b\] \{c\} \$d \"e\""'
    for form in ("exr", "png16", "prores"):
        text = nuke_script(stack_of(form, ("2nd dog",), (0,), delivery(), None), delivery())
        bare = re.sub(r"\\.", "", text)
        for a, b in ("{}", "[]"):
            assert bare.count(a) == bare.count(b)
        assert "_2nd_dog" in text


@pytest.mark.parametrize("form", ["exr", "png16", "prores"])
def test_a_tcl_interpreter_takes_the_script(form: str, out: Path) -> None:
    """Nuke's scripts are Tcl: nodes are commands, their knobs a list of names and values."""
    tcl = pytest.importorskip("tkinter").Tcl()
    names = ("ball", 'a [b] $c "d"')
    info = delivery(shot="shot [1] {x}")
    text = nuke_script(stack_of(form, names, (0, 1), info, None), info, changing_order=True)
    taken: dict[str, dict[str, str]] = {}
    stack: list[str] = []

    def node(kind: str, body: str) -> str:
        parts = tcl.tk.splitlist(body)
        assert len(parts) % 2 == 0, (kind, body)
        knobs = dict(zip(parts[::2], parts[1::2], strict=True))
        name = knobs.get("name", kind)
        taken[name] = {"class": kind, **knobs}
        if kind not in ("Root", "StickyNote"):
            for _ in range(int(knobs.get("inputs", 1))):
                stack.pop()
            stack.append(name)
        return name

    for kind in set(re.findall(r"^(\w+) \{$", text, re.M)):
        tcl.createcommand(kind, lambda body, kind=kind: node(kind, body))
    tcl.createcommand("add_layer", lambda body: tcl.tk.splitlist(body)[0])
    tcl.createcommand("version", lambda *words: "")
    tcl.createcommand("stack", lambda place: stack[-1])
    tcl.createcommand("push", stack.append)
    tcl.eval(text)
    assert stack[-1] == "Viewer1"
    assert taken["Root"]["format"] == f"{SIZE[1]} {SIZE[0]} 0 0 {SIZE[1]} {SIZE[0]} 1 shot"
    assert taken["Root"]["project_directory"] == "[python {nuke.script_directory()}]"
    reads = [n for n in taken.values() if n["class"] == "Read"]
    assert len(reads) == (1 if form == "exr" else 3)
    if form != "exr":
        assert any('a [b] $c "d"' in n["file"] for n in reads)


def test_the_order_of_most_frames_is_taken() -> None:
    assert usual_order([(0, 1), (1, 0), (1, 0)]) == ((1, 0), True)
    assert usual_order([(0, 1)] * 3) == ((0, 1), False)


# ----------------------------------------------------------------------------------------- imports


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from omnimatte_cli.cli import app\n"
        "for c in ([], ['compose'], ['convert'], ['report']):\n"
        "    assert CliRunner().invoke(app, [*c, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'OpenEXR', 'jinja2', 'opentimelineio', 'cv2', 'av'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_compose_and_deliver_work_without_torch() -> None:
    modules = ["deliver.convert", "deliver.report", "deliver.nuke", "deliver.otio", "deliver.video"]
    modules += ["compose.render", "compose.edits", "media.encode"]
    code = f"import sys; sys.modules['torch'] = None\nfor m in {modules}:\n"
    code += "    __import__('omnimatte_cli.' + m)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_missing_library_is_named(out: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    monkeypatch.setitem(sys.modules, "opentimelineio", None)
    done = convert(out, "exr", "-o", str(tmp_path / "o"))
    assert done.exit_code == 2 and "pip install 'omnimatte[exr]'" in " ".join(done.stderr.split())
    done = convert(out, "mp4", "-o", str(tmp_path / "p"))
    assert done.exit_code == 0 and "omnimatte[otio]" in done.stderr
    assert not (tmp_path / "p/layers.otio").exists()
    assert json.loads((out / "layers.otio").read_text())["OTIO_SCHEMA"] == "Timeline.1"


def test_a_script_that_was_changed_by_hand_is_kept(tmp_path: Path) -> None:
    out = make_result(tmp_path)
    assert convert(out, "mp4", "png16", "-q").exit_code == 0
    mine = (out / "layers.nk").read_text() + "# mine\n"
    (out / "layers.nk").write_text(mine)
    done = convert(out, "exr")
    assert done.exit_code == 0 and "layers.nk.old" in done.stderr
    assert (out / "layers.nk.old").read_text() == mine
    assert "exr/input" in (out / "layers.nk").read_text()
    again = convert(out, "exr", "--overwrite")  # nothing changes: nothing is kept
    assert again.exit_code == 0 and not (out / "layers.nk.old2").exists()


# ----------------------------------------------------------------------------------- after effects

# Stands in for what After Effects gives a script; prints what the script made with it.
STAND_IN = """
const fs = require("fs"), path = require("path"), vm = require("vm");
const script = process.argv[2], log = {imported: [], layers: []};
class File_ {
    constructor(p) { this.fsName = p; this.exists = fs.existsSync(p); }
    get parent() { return new File_(path.dirname(this.fsName)); }
}
function ImportOptions(file) { this.file = file; this.sequence = false; }
const app = {
    beginUndoGroup() {}, endUndoGroup() { log.undone = true; },
    project: {
        importFile(options) {
            const name = path.relative(path.dirname(script), options.file.fsName);
            const plate = /plate|background/.test(name);
            const mainSource = {isStill: false, hasAlpha: !plate};
            const item = {mainSource, sequence: options.sequence};
            log.imported.push([name, item]);
            return item;
        },
        items: {addComp(...facts) {
            log.comp = {facts, openInViewer() {}, layers: {add(item) {
                const layer = {item};
                log.layers.unshift(layer);
                return layer;
            }}};
            return log.comp;
        }},
    },
};
const AlphaMode = {STRAIGHT: "straight"}, $ = {fileName: script};
const world = {app, AlphaMode, $, File: File_, ImportOptions};
vm.runInNewContext(fs.readFileSync(script, "utf8"), world);
console.log(JSON.stringify(log));
"""
NODE = shutil.which("node")


def run_in_node(script: Path, folder: Path) -> dict:
    assert NODE is not None
    (folder / "stand_in.js").write_text(STAND_IN)
    command = [NODE, str(folder / "stand_in.js"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="no node here")
def test_after_effects_stacks_the_movies(out: Path, tmp_path: Path) -> None:
    log = run_in_node(out / "layers.jsx", tmp_path)
    assert [name for name, _ in log["imported"]] == [f"prores/{n}.mov" for n in ("plate", *NAMES)]
    assert [layer["name"] for layer in log["layers"]] == ["box", "ball", "plate"]  # top to bottom
    assert log["comp"]["facts"] == ["input", SIZE[1], SIZE[0], 1, FRAMES / 10, 10]
    assert log["comp"]["displayStartTime"] == 100.1 and log["undone"]
    for name, item in log["imported"]:
        assert item["mainSource"]["conformFrameRate"] == 10 and not item["sequence"]
        assert item["mainSource"].get("alphaMode") == (None if "plate" in name else "straight")


@pytest.mark.skipif(NODE is None, reason="no node here")
def test_after_effects_imports_sequences_by_their_first_file(out: Path, tmp_path: Path) -> None:
    stack = stack_of("png16", NAMES, (1, 0), delivery(shot='a "b" \u2028'), None)
    text = aftereffects_script(stack, delivery(shot='a "b" \u2028'), changing_order=True)
    assert text.isascii() and not re.search(r"\b(let|const)\b|=>|`", text)  # ECMAScript 3
    (out / "again.jsx").write_text(text)
    log = run_in_node(out / "again.jsx", tmp_path)
    names = [f"layers16/{n}/01001.png" for n in ("plate", "box", "ball")]
    assert [name for name, _ in log["imported"]] == names
    assert all(item["sequence"] for _, item in log["imported"])
    assert "order of most" in log["comp"]["comment"]
    (out / "again.jsx").unlink()


def test_large_frames_are_resolved_few_at_a_time() -> None:
    """Two threads and four frames ahead up to 1080p; 4K would take gigabytes so."""

    def writer(size: tuple[int, int], count: int, formats: tuple[str, ...] = ()) -> ResultWriter:
        names = tuple(map(str, range(count)))
        info = Delivery(size, 1, Timing(Fraction(25)))
        plate = Plate(np.zeros((*size, 3), np.uint8), np.ones(size, bool))
        order, layers_at = np.zeros((1, count)), lambda *a: None
        return ResultWriter(
            Path(), names, order, plate, lambda: iter(()), layers_at, info, (0,), formats=formats
        )  # type: ignore[arg-type]

    assert writer((480, 854), 4, ("exr",)).concurrency() == (2, 4)
    assert writer((1080, 1920), 1).concurrency() == writer((1080, 1920), 2).concurrency() == (2, 4)
    assert writer((2160, 3840), 1).concurrency()[0] == 1
    assert writer((2160, 3840), 2, ("exr",)).concurrency() == (1, 1)

"""A batch that splits long shots: parts fail, are cut off and are joined."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from omnimatte_cli.batch import estimate, run
from omnimatte_cli.batch import parts as module
from omnimatte_cli.batch.local import run_local
from omnimatte_cli.batch.parts import Parts, parts_folder
from omnimatte_cli.batch.plan import plan
from omnimatte_cli.batch.records import Record, read_record
from omnimatte_cli.commands.batch import print_plan
from tests.conftest import encode, scene, write_masks
from tests.test_batch import jobs_of, omnimatte

STUB = """
import json, os, sys
args = sys.argv[2:]
name = os.path.basename(args[-1]).split(".")[0]
part = args[args.index("--part") + 1] if "--part" in args else "whole"
with open(sys.argv[0] + ".calls", "a") as calls:
    calls.write(name + " " + part + chr(10))
if name == "bad" and part == "2/3" and not os.path.exists(sys.argv[0] + ".mended"):
    print("Error: It went wrong.", file=sys.stderr)
    sys.exit(1)
out = args[args.index("-o") + 1]
os.makedirs(out, exist_ok=True)
facts = {"input": {"frames": 9, "width": 64, "height": 36}, "objects": {"names": ["a"]},
         "psnr": {"after_detail": 40.0}, "method": "ownership"}
json.dump(facts, open(os.path.join(out, "manifest.json"), "w"))
open(os.path.join(out, ".omnimatte.json"), "w").close()
print(json.dumps(facts))
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch) -> Path:
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    monkeypatch.setattr(run, "PROGRAM", (sys.executable, str(path)))
    lengths = {"short": 4, "unknown": None}
    monkeypatch.setattr(module, "read_length", lambda p: (lengths.get(p.stem, 9), 64 * 36))

    def join(folders, out, progress, overwrite):
        assert [f.name for f in folders] == [f"{i}of3" for i in (1, 2, 3)]
        return json.loads((folders[0] / "manifest.json").read_text())

    monkeypatch.setattr(module, "join_parts", join)
    return path


def run_all(tmp_path: Path, *names: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    jobs, out = jobs_of(tmp_path, *names), tmp_path / "out"
    parts = Parts(jobs, out, 3, lambda r: found.update({r.shot: r}))
    parts.begin()
    run_local(parts.jobs, out, 2, (), None, parts.add)
    return found


def calls(stub: Path) -> list[str]:
    path = stub.with_name("stub.py.calls")
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def test_long_shots_are_split_and_joined(stub: Path, tmp_path: Path) -> None:
    found = run_all(tmp_path, "long", "short", "unknown")
    assert calls(stub) == ["long 1/3", "long 2/3", "long 3/3", "short whole", "unknown whole"]
    assert {n: r.state for n, r in found.items()} == dict.fromkeys(
        ("long", "short", "unknown"), "done"
    )
    assert read_record(tmp_path / "out", "long") == found["long"] and found["long"].frames == 9
    assert not parts_folder(tmp_path / "out", "long").exists()


def test_one_part_that_fails_is_the_one_that_is_done_again(stub: Path, tmp_path: Path) -> None:
    found = run_all(tmp_path, "bad")
    assert (found["bad"].state, found["bad"].error) == ("failed", "Part 2 of 3: It went wrong.")
    assert "It went wrong." in (tmp_path / "out" / ".batch" / "bad.log").read_text()
    assert len(calls(stub)) == 3
    stub.with_name("stub.py.mended").touch()
    assert run_all(tmp_path, "bad")["bad"].state == "done"
    assert calls(stub) == ["bad 2/3"]


def test_a_batch_that_was_killed_before_it_joined_only_joins(
    stub: Path, tmp_path: Path, monkeypatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "_join", lambda self, shot: None)
        assert run_all(tmp_path, "long") == {}
    assert len(calls(stub)) == 3
    assert run_all(tmp_path, "long")["long"].state == "done" and calls(stub) == []


def test_parts_of_other_options_are_not_taken(stub: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Parts, "_join", lambda self, shot: None)
    run_all(tmp_path, "long")
    calls(stub)
    (job,) = jobs_of(tmp_path, "long")
    other = replace(job, flags={**job.flags, "--seed": ("7",)})
    assert len(Parts([other], tmp_path / "out", 3, print).jobs) == 3
    assert len(Parts([job], tmp_path / "out", 3, print).jobs) == 0


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path) -> None:
    """The images of a shot that two workers did are those of one that one did."""
    video, masks = scene(7)
    (tmp_path / "in").mkdir()
    encode(tmp_path / "in" / "a.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "in" / "a.masks" / "block", masks)
    args = ("batch", tmp_path / "in", "--method", "ownership", "--size", "48x32", "--json")
    whole = omnimatte(*args, "-o", tmp_path / "whole")
    split = omnimatte(*args, "-o", tmp_path / "split", "--part-frames", 3, "--jobs", 2)
    assert whole.returncode == split.returncode == 0, split.stderr
    (line,) = map(json.loads, split.stdout.splitlines())
    assert line["state"] == "done" and line["frames"] == 7
    one, two = (
        {p.relative_to(tmp_path / n).as_posix(): p.read_bytes()
         for p in (tmp_path / n).rglob("*.png")} for n in ("whole", "split")
    )  # fmt: skip
    assert one == two and len(one) == 8
    assert sorted(p.name for p in (tmp_path / "split" / ".batch").iterdir()) == ["a.json"]


def test_a_plan_says_what_is_left_of_each_part(stub: Path, tmp_path: Path, capsys) -> None:
    (bad, short), out = jobs_of(tmp_path, "bad", "short"), tmp_path / "out"

    def told() -> list[dict]:
        print_plan(plan([bad, short], out, True), 2, out, 3, as_json=True)
        return list(map(json.loads, capsys.readouterr().out.splitlines()))

    before, whole = told()
    assert before["parts"] == len(before["commands"]) == 3 and "parts" not in whole
    assert "--part 2/3" in before["commands"][1] and "--part" not in whole["command"]
    run_all(tmp_path, "bad")
    after, _ = told()
    assert after["parts"] == 3 and ["--part 2/3" in c for c in after["commands"]] == [True]
    print_plan(plan([bad, short], out, True), 2, out, 3, as_json=False)
    assert "1 of 3 parts" in capsys.readouterr().out


def test_the_parts_of_a_shot_take_longer_than_the_shot(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(estimate, "read_length", lambda p: (1000, 2_000_000))
    (step,) = plan(jobs_of(tmp_path, "a"), tmp_path / "out")
    parts = [step] * 4
    alone, split = estimate.estimate(step), estimate.estimate(step, parts=parts)
    assert alone.seconds is not None and split.seconds is not None
    assert 2 * alone.seconds < split.seconds < 4 * alone.seconds and alone.size == split.size

"""Batches: what is found, planned and done; failures, kills and interrupts that stop nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from omnimatte_cli.batch import run
from omnimatte_cli.batch.find import find_shots
from omnimatte_cli.batch.local import run_local
from omnimatte_cli.batch.plan import (
    FILE_OR_WORD,
    PATH_FLAGS,
    Config,
    Flags,
    Job,
    make_jobs,
    plan,
    read_config,
    shard,
)
from omnimatte_cli.batch.ray import _absolute
from omnimatte_cli.batch.records import Record, read_record, write_record
from omnimatte_cli.cli import app
from omnimatte_cli.commands.batch import GROUPS, parse_devices, to_flags
from omnimatte_cli.commands.options import fields_of, flag_of
from omnimatte_cli.errors import InputError, OptionError
from omnimatte_cli.media.listing import write_list
from omnimatte_cli.remote import url_of
from omnimatte_cli.settings import parse_share
from tests.conftest import encode, scene, write_masks

pytestmark = pytest.mark.slow

SHELL = {**os.environ, "OMP_NUM_THREADS": "1"}


def omnimatte(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "omnimatte_cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=SHELL)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # the times of files count
            path.touch()


# ----------------------------------------------------------------------------------------- finding


def test_a_folder_is_searched_and_masks_and_results_left_out(tmp_path: Path) -> None:
    touch(
        tmp_path / "b.mp4", tmp_path / "b.masks" / "dog.mp4", tmp_path / "a" / "take2.mov",
        tmp_path / "a" / "take10.mov", tmp_path / "a" / "take2" / "masks" / "x" / "0.png",
        tmp_path / "a" / "notes.txt", tmp_path / ".hidden" / "c.mp4", tmp_path / "one" / "v.mkv",
        tmp_path / "one" / "masks" / "x.mp4", tmp_path / "done" / "composite.mp4",
        *(tmp_path / "frames" / f"{i}.png" for i in range(4)),
        *(tmp_path / "frames" / "masks" / "dog" / f"{i}.png" for i in range(4)),
    )  # fmt: skip
    write_list(tmp_path / "done")
    found = {s.name: s for s in find_shots([str(tmp_path)])}
    assert list(found) == ["a/take2", "a/take10", "b", "frames", "one/v"]
    masks = {n: s.masks and s.masks.relative_to(tmp_path).as_posix() for n, s in found.items()}
    assert masks == {
        "a/take2": "a/take2/masks", "a/take10": None, "b": "b.masks", "frames": "frames/masks",
        "one/v": "one/masks",
    }  # fmt: skip


def test_patterns_lists_and_a_folder_of_masks(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    touch(*(tmp_path / "in" / n for n in ("a.mp4", "b.mp4", "c d.mov")), tmp_path / "m/a/x/0.png")
    assert [s.name for s in find_shots(["in/*.mp4"])] == ["a", "b"]
    assert [s.name for s in find_shots(["in/**/*.mov", "in/a.mp4", "in/a.mp4"])] == ["a", "c d"]
    Path("in/list.txt").write_text("# tonight\nb.mp4\n\nc d.mov\n")
    assert [s.name for s in find_shots(["in/list.txt"])] == ["b", "c d"]
    Path("in/list.csv").write_text('shot,masks,order\nb.mp4,../m/a,\nc d.mov,,"x,y"\n')
    b, c = find_shots(["in/list.csv"])
    assert (b.masks, b.options) == (Path("in/../m/a"), {})
    assert (c.masks, c.options) == (None, {"order": "x,y"})
    (a, b, _) = find_shots(["in"], Path("m"))
    assert (a.masks, b.masks) == (Path("m/a"), None)
    for wrong in (["nothing"], ["in/*.wav"], ["m"]):
        with pytest.raises(InputError):
            find_shots(wrong)


def test_shots_of_one_name_are_told_apart_or_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "a.mov", tmp_path / "a" / "b.mp4", tmp_path / "x/a.mp4")
    names = [s.name for s in find_shots([str(tmp_path)])]
    assert sorted(names) == ["a.mov", "a.mp4", "a/b", "x/a"]
    touch(tmp_path / "y" / "a.mp4")
    with pytest.raises(InputError, match="would both be written to"):
        find_shots([str(tmp_path / "x" / "a.mp4"), str(tmp_path / "y" / "a.mp4")])


# ---------------------------------------------------------------------------------------- planning


def planned(tmp_path: Path, text: str, flags: Flags) -> list[Job]:
    """The jobs of in/a.mp4 and in/b.mp4 with a file of options, and those of the command line."""
    touch(tmp_path / "in" / "a.mp4", tmp_path / "in" / "b.mp4")
    config = tmp_path / "batch.toml"
    config.write_text(text)
    shots = find_shots([str(tmp_path / "in")])
    return make_jobs(shots, tmp_path / "out", flags, read_config(config, to_flags), to_flags)


def test_options_of_the_file_the_command_line_and_the_shot(tmp_path: Path) -> None:
    touch(tmp_path / "c" / "order.txt")
    text = (
        '[defaults]\nmethod = "ownership"\nsize = "48x32"\nexact = true\n'
        '[shots.a]\nseed = 3\nset = { plate_passes = 1 }\n[shots."b*"]\nmasks = "c"\n'
    )
    a, b = planned(tmp_path, text, {"--size": ("32x32",)})
    assert a.arguments() == [
        "decompose", "-o", str(tmp_path / "out" / "a"), "--method", "ownership",
        "--size", "32x32", "--exact", "--seed", "3", "--set", "plate_passes=1",
        "--", str(tmp_path / "in" / "a.mp4"),
    ]  # fmt: skip
    assert b.flags["--masks"] == (str(tmp_path / "c"),)
    assert [j.shot for j in planned(tmp_path, "[shots.a]\nskip = true\n", {})] == ["b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[defaults]\nsise = '48x32'", "defaults: No such option: --sise"),
        ("[defaults]\nsize = '50x50'", "multiples of 16"),
        ("[shots.a]\nseed = 'x'", "shot a: .*--seed"),
        ("[shot.a]\nseed = 1", "neither"),
        ("[shots.z]\nseed = 1", "no shot z"),
        ("a = ", "not a TOML file"),
        ("[shots]\na = 1", "write"),
    ],
)
def test_mistakes_in_the_file_are_found_before_any_work(tmp_path: Path, text, words) -> None:
    touch(tmp_path / "a.mp4")
    config = tmp_path / "batch.toml"
    config.write_text(text)
    with pytest.raises(InputError, match=words):
        options = read_config(config, to_flags)
        make_jobs(find_shots([str(tmp_path)]), tmp_path, {}, options, to_flags)


def test_lists_may_name_urls(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pipe({"/in/a.mp4": b"video", "/in/m/dog/0.png": b"0"})
    listed = tmp_path / "list.csv"
    listed.write_text("shot,masks\nmemory://in/a.mp4,memory://in/m\nmemory://in/none.mp4,\n")

    def jobs() -> list[Job]:
        return make_jobs(find_shots([str(listed)]), tmp_path / "out", {}, Config({}), to_flags)

    a, none = jobs()
    assert (a.shot, a.source, a.wrong) == ("a", Path("memory://in/a.mp4"), None)
    assert url_of(a.flags["--masks"][0]) == "memory://in/m"
    assert none.wrong is not None and "memory://in/none.mp4 cannot be read" in none.wrong
    assert jobs()[0].key == a.key
    files.pipe("/in/m/dog/0.png", b"another")
    assert jobs()[0].key != a.key
    done = CliRunner().invoke(app, ["batch", str(listed), "-o", "s3://bucket/out"])
    assert done.exit_code == 2 and "a batch writes to a local folder" in done.stderr
    (given,) = find_shots(["memory://in/a.mp4"], tmp_path)
    assert (given.name, given.masks) == ("a", None)
    files.store.clear()


@pytest.mark.slow
def test_a_video_elsewhere_is_done(shots: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"file://{shots}/good.mkv\n")
    args = ("batch", listed, "-o", tmp_path / "out", "--method", "ownership", "--size", "48x32")
    args = (*args, "--masks-dir", shots, "--json")
    done = omnimatte(*args)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "out" / "good" / "manifest.json").read_text())
    assert facts["input"]["source"] == f"file://{shots}/good.mkv"
    again = json.loads(omnimatte(*args).stdout)
    assert again["state"] == "done" and not again["ran"]


def jobs_of(tmp_path: Path, *names: str, flags=None) -> list[Job]:
    touch(*(tmp_path / "in" / f"{n}.mp4" for n in names))
    shots = find_shots([str(tmp_path / "in" / f"{n}.mp4") for n in names])
    return make_jobs(shots, tmp_path / "out", flags or {}, Config({}), to_flags)


def finish(job: Job, out: Path, state="done") -> None:
    touch(job.out / "manifest.json")
    write_list(job.out)
    write_record(out, Record(job.shot, state, job.key, str(job.source), str(job.out)))


def test_finished_shots_are_known_by_input_and_options(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def reasons(retry=False, **flags) -> list[tuple[str, bool]]:
        found = plan(jobs_of(tmp_path, "a", "b", "c", "d", flags=flags or None), out, retry)
        return [(s.reason, s.run) for s in found]

    assert reasons() == [("new", True)] * 4
    for job, state in zip(jobs_of(tmp_path, "a", "b", "c"), ("done", "failed", "interrupted"),
                          strict=True):  # fmt: skip
        finish(job, out, state)
    assert reasons() == [("done", False), ("failed", False), ("interrupted", True), ("new", True)]
    assert reasons(retry=True)[1] == ("retried", True)
    assert reasons(**{"--seed": ("1",)})[:2] == [("changed", True)] * 2
    assert reasons(**{"--ffmpeg": ("/x/ffmpeg",)})[0] == ("done", False)
    (tmp_path / "in" / "a.mp4").write_text("other")
    assert reasons()[0] == ("changed", True)
    finish(jobs_of(tmp_path, "a")[0], out)
    (out / "a" / "manifest.json").unlink()
    assert reasons()[0] == ("missing", True)


def test_changed_masks_are_changed_input(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.mp4", tmp_path / "in" / "a.masks" / "x" / "0.png")
    keys = [jobs_of(tmp_path, "a")[0].key]
    (tmp_path / "in" / "a.masks" / "x" / "0.png").write_text("x")
    keys.append(jobs_of(tmp_path, "a")[0].key)
    assert keys[0] != keys[1] == jobs_of(tmp_path, "a")[0].key


def test_files_named_without_a_folder_are_input_too(tmp_path: Path, monkeypatch) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "a.masks" / "0.png", tmp_path / "plate.png")
    monkeypatch.chdir(tmp_path)

    def key() -> str:
        shots = find_shots(["a.mp4"])
        flags = {"--background": ("plate.png",)}
        return make_jobs(shots, tmp_path / "out", flags, Config({}), to_flags)[0].key

    keys = [key()]
    (tmp_path / "a.masks" / "0.png").write_text("x")
    keys.append(key())
    (tmp_path / "plate.png").write_text("x")
    keys.append(key())
    assert len(set(keys)) == 3 and key() == keys[2]


def test_a_batch_replaces_only_what_it_has_written(stub: None, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def overwrites(*names: str) -> list[bool]:
        steps = plan(jobs_of(tmp_path, *names), out, retry_failed=True)
        return ["--overwrite" in s.job.flags for s in steps]

    touch(out / "bad" / "mine.png")  # somebody's, which is why it fails
    run_all(tmp_path, "a", "bad", "crash")
    assert overwrites("a", "bad", "crash", "new") == [True, False, False, False]
    assert read_record(out, "a").written
    # What a killed batch left is its own where nothing was before, and else not.
    for name, written in (("i", True), ("bad", False)):
        job = jobs_of(tmp_path, name)[0]
        write_record(out, run.begun(run.unfinished(job, out)))
        assert overwrites(name) == [written]


def test_a_shot_that_is_listed_twice_has_one_set_of_options(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4")
    listed = tmp_path / "shots.csv"
    listed.write_text("shot,seed\na.mp4,1\na.mp4,1\n")
    assert [s.options for s in find_shots([str(listed), str(tmp_path / "a.mp4")])] == [
        {"seed": "1"}
    ]
    listed.write_text("shot,seed\na.mp4,1\na.mp4,2\n")
    with pytest.raises(InputError, match="listed twice"):
        find_shots([str(listed)])


def test_masks_that_a_result_holds_are_not_the_users(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "a" / "masks" / "0.png")
    assert find_shots([str(tmp_path / "a.mp4")])[0].masks == tmp_path / "a" / "masks"
    write_list(tmp_path / "a")
    assert find_shots([str(tmp_path / "a.mp4")])[0].masks is None


def test_no_is_said_to_what_is_on_by_default(tmp_path: Path) -> None:
    assert to_flags({"strangers": False}, tmp_path) == {"--no-strangers": ()}
    off = to_flags({"mend_masks": "false", "exact": False}, tmp_path)
    assert off == {"--no-mend-masks": (), "--exact": None}
    given = CliRunner().invoke(
        app, ["batch", str(tmp_path), "-o", str(tmp_path / "o"), "--no-report", "--no-strangers"]
    )
    assert "no shots" in " ".join(given.output.split())  # and not: no such option
    with pytest.raises(OptionError, match="bogus"):
        to_flags({"bogus": False}, tmp_path)


def test_shards_are_all_shots_each_once(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, *"abcdefg")
    parts = [shard(jobs, parse_share(f"{i}/3", "--shard")) for i in (1, 2, 3)]
    assert sorted(j.shot for p in parts for j in p) == list("abcdefg")
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for wrong in ("0/3", "4/3", "1", "a/b", "-1/3"):
        with pytest.raises(InputError, match="--shard"):
            parse_share(wrong, "--shard")


# ----------------------------------------------------------------------------------------- running

STUB = """
import json, os, signal, subprocess, sys, time
args = sys.argv[2:]
name = os.path.basename(args[-1]).split(".")[0]
print("working", file=sys.stderr, flush=True)
if name.startswith("crash"):
    os.kill(os.getpid(), signal.SIGKILL)
if name.startswith("abort"):
    os.abort()
if name.startswith("hang"):
    subprocess.Popen(["sleep", "61.7"])
    time.sleep(60)
if name.startswith("bad"):
    print("Error: The masks are missing.", file=sys.stderr)
    sys.exit(2)
if name.startswith("junk"):
    print("no json")
    sys.exit(0)
facts = {"input": {"frames": 6, "width": 64, "height": 36}, "objects": {"names": ["a"]},
         "psnr": {"after_detail": 40.0}, "method": args[args.index("--device") + 1]
         if "--device" in args else os.environ.get("OMP_NUM_THREADS", "")}
print(json.dumps(facts))
"""


@pytest.fixture
def stub(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "stub.py"
    path.write_text(STUB)
    monkeypatch.setattr(run, "PROGRAM", (sys.executable, str(path)))


def run_all(tmp_path: Path, *names: str, count=2, devices=(), limit=None) -> dict[str, Record]:
    found: dict[str, Record] = {}
    jobs = jobs_of(tmp_path, *names)
    run_local(jobs, tmp_path / "out", count, devices, limit, lambda r: found.update({r.shot: r}))
    return found


def test_failures_and_kills_stop_nothing(stub: None, tmp_path: Path) -> None:
    found = run_all(tmp_path, "a", "bad", "crash", "abort", "junk", "z")
    assert {n: r.state for n, r in found.items()} == {
        "a": "done", "bad": "failed", "crash": "failed", "abort": "failed", "junk": "failed",
        "z": "done",
    }  # fmt: skip
    assert found["bad"].error == "The masks are missing." and found["bad"].exit_code == 2
    assert "SIGKILL: usually memory ran out" in str(found["crash"].error)
    assert "SIGABRT" in str(found["abort"].error)
    assert found["a"].frames == 6 and found["a"].psnr == 40 and found["a"].objects == ("a",)
    for name, record in found.items():
        assert read_record(tmp_path / "out", name) == record


def test_a_shot_that_hangs_is_given_up_with_all_it_started(stub: None, tmp_path: Path) -> None:
    start = time.monotonic()
    found = run_all(tmp_path, "a", "hang", limit=1.0)
    assert time.monotonic() - start < 15
    assert found["a"].state == "done" and "took longer" in str(found["hang"].error)
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "sleep 61.7" not in listing


def test_devices_are_shared_out(stub: None, tmp_path: Path, monkeypatch) -> None:
    found = run_all(tmp_path, "a", "b", devices=["cuda:0", "cuda:1"])
    assert {r.method for r in found.values()} == {"cuda"}
    env = {"CUDA_VISIBLE_DEVICES": "4,7", "OMP_NUM_THREADS": "8"}
    assert run.environment(env, "cuda:1", 2)["CUDA_VISIBLE_DEVICES"] == "7"
    assert run.environment(env, "cuda:1", 2)["OMP_NUM_THREADS"] == "8"
    assert run.environment({}, "cuda:1", 2) == {
        "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "2",
    }  # fmt: skip
    assert parse_devices("cuda:0, cpu") == ["cuda:0", "cpu"]
    with pytest.raises(InputError, match="--devices"):
        parse_devices("gpu1")


def test_an_interrupt_ends_what_runs_and_the_next_run_does_it_again(
    stub: None, tmp_path: Path
) -> None:
    def interrupt(record: Record) -> None:
        raise KeyboardInterrupt

    jobs = jobs_of(tmp_path, "a", "hang", "z1", "z2")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_local(jobs, tmp_path / "out", 2, (), None, interrupt)
    assert time.monotonic() - start < 15
    reasons = {s.job.shot: s.reason for s in plan(jobs, tmp_path / "out")}
    assert reasons["hang"] == "interrupted"


# ---------------------------------------------------------------------------- through the real tool


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good.mkv with masks, broken.mkv, and unmasked.mkv whose masks are of another length."""
    folder = tmp_path_factory.mktemp("shots")
    video, masks = scene(6)
    encode(folder / "good.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(folder / "good.masks" / "block", masks)
    (folder / "broken.mkv").write_bytes((folder / "good.mkv").read_bytes()[:300])
    return folder


def test_the_whole_way(shots: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = ("batch", shots, "-o", out, "--method", "ownership", "--size", "48x32", "--json")
    done = omnimatte(*args, "--jobs", 2)
    assert done.returncode == 1 and "Internal error" not in done.stderr, done.stderr
    lines = {line["shot"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert lines["good"]["state"] == "done" and lines["good"]["frames"] == 6
    assert lines["broken"]["state"] == "failed" and "broken.mkv" in lines["broken"]["error"]
    assert (out / "good" / "layers" / "block" / "00005.png").is_file()
    assert sorted(p.name for p in out.iterdir()) == [".batch", "batch.html", "good"]
    page = (out / "batch.html").read_text()
    assert "1 done, 1 failed" in page.replace("1 failed, 1 done", "1 done, 1 failed")
    assert 'href="good/preview.mp4"' in page and 'href=".batch/broken.log"' in page
    # Again: nothing is to do, and what failed is still said.
    before = (out / "good" / "manifest.json").stat().st_mtime_ns
    again = omnimatte(*args)
    assert again.returncode == 1 and (out / "good" / "manifest.json").stat().st_mtime_ns == before
    lines = {line["shot"]: line for line in map(json.loads, again.stdout.splitlines())}
    assert not lines["good"]["ran"] and lines["broken"]["state"] == "failed"
    plan = omnimatte(*args[:-1], "--dry-run", "--seed", 5)
    assert plan.returncode == 0 and "changed" in plan.stdout and "GB" in plan.stdout


@pytest.mark.parametrize(
    "args",
    [("--jobs", "0"), ("--size", "50x50"), ("--engine", "magic"), ("--shard", "3/2"),
     ("--masks-dir", "nowhere"), ("--config", "nowhere.toml"), ("--devices", "gpu")],
)  # fmt: skip
def test_wrong_options_end_before_any_work(shots: Path, tmp_path: Path, args) -> None:
    done = CliRunner().invoke(app, ["batch", str(shots), "-o", str(tmp_path / "out"), *args])
    words = args[1] if args[0] == "--config" else args[0]
    assert done.exit_code == 2 and words in done.stderr, done.stderr
    assert not (tmp_path / "out").exists()


def test_a_child_ends_when_its_batch_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, subprocess, sys\n"
        "child = 'import sys, threading, time, os; from omnimatte_cli.batch import child; '\n"
        "child += 'child.POLL = 0.1; threading.Thread(target=child.watch, '\n"
        "child += 'args=(int(sys.argv[1]),), daemon=True).start(); time.sleep(60)'\n"
        "p = subprocess.Popen([sys.executable, '-c', child, str(os.getpid())],"
        " start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "print(p.pid, flush=True)\n"
        "import time; time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or _is_zombie(child):
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("it still runs")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


# ------------------------------------------------------------------------------------------ scripts

EXAMPLES = Path(__file__).parent.parent / "examples"


def program(folder: Path) -> tuple[dict[str, str], Path]:
    """An `omnimatte` that notes how it was called, and obeys the shot's name."""
    calls, stub = folder / "calls", folder / "omnimatte"
    stub.write_text(
        f"""#!/bin/sh
echo "$@" >> {calls}
case "$2" in
  *bad*) exit 2 ;;
  *wait*) trap 'trap - INT; kill -INT $$' INT; sleep 30 & wait ;;
esac
while [ $# -gt 0 ]; do [ "$1" = -o ] && mkdir -p "$2" && touch "$2/manifest.json"; shift; done
"""
    )
    stub.chmod(0o755)
    return {**os.environ, "OMNIMATTE": str(stub)}, calls


def test_the_shell_loop_goes_on_after_a_failure(tmp_path: Path) -> None:
    env, calls = program(tmp_path)
    touch(tmp_path / "in/a b.mp4", tmp_path / "in/bad.mp4", tmp_path / "in/c.mov")
    touch(tmp_path / "in/c.masks/x.png")
    command = ["bash", EXAMPLES / "batch.sh", tmp_path / "in", tmp_path / "out", "--exact"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == "failed: bad\n"
    assert len(calls.read_text().splitlines()) == 3 and "--exact" in calls.read_text()
    assert f"--masks {tmp_path}/in/c.masks" in calls.read_text()
    subprocess.run(command, env=env, capture_output=True)
    assert len(calls.read_text().splitlines()) == 4  # the failed one alone


def test_an_interrupt_ends_the_shell_loop(tmp_path: Path) -> None:
    env, calls = program(tmp_path)
    touch(tmp_path / "in/a_wait.mp4", tmp_path / "in/b.mp4")
    command = ["bash", EXAMPLES / "batch.sh", tmp_path / "in", tmp_path / "out"]
    process = subprocess.Popen(command, env=env, start_new_session=True)
    for _ in range(100):
        if calls.exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) in (-signal.SIGINT, 130)
    assert len(calls.read_text().splitlines()) == 1


def test_a_job_array_does_every_part(tmp_path: Path) -> None:
    env, calls = program(tmp_path)
    for task in (1, 2, 3):
        slurm = {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "3"}
        command = ["bash", EXAMPLES / "slurm_array.sh", "in", "out", "--exact"]
        subprocess.run(command, env={**env, **slurm}, check=True)
    asked = [f"batch in -o out --shard {i}/3 --exact" for i in (1, 2, 3)]
    assert calls.read_text().splitlines() == asked


def test_what_another_batch_has_done_meanwhile_is_not_done_again(
    stub: None, tmp_path: Path
) -> None:
    (job,) = jobs_of(tmp_path, "crash")
    finish(job, tmp_path / "out")
    assert run.run_shot(job, tmp_path / "out").state == "done"
    (job.out / "manifest.json").unlink()
    assert run.run_shot(job, tmp_path / "out").state == "failed"


def test_what_is_off_for_a_shot_is_off(tmp_path: Path) -> None:
    """Whatever is on for all; and the strongest of two opposites is alone."""
    touch(tmp_path / "ownership" / "x")
    text = (
        '[defaults]\nexact = true\nreport = true\nmethod = "ownership"\n'
        "[shots.a]\nexact = false\nreport = true\n"
    )
    a, b = planned(tmp_path, text, {"--no-report": ()})
    assert "--exact" not in a.flags and "--exact" in b.flags
    assert {"--report", "--no-report"} & a.flags.keys() == {"--report"}
    assert {"--report", "--no-report"} & b.flags.keys() == {"--no-report"}
    # A method is no folder, though one of its name lies beside the file.
    assert a.flags["--method"] == ("ownership",)


def test_options_that_name_files_are_known() -> None:
    fields = [(f, kind) for group in GROUPS.values() for f, kind in fields_of(group)]
    paths = {flag_of(f) for f, kind in fields if "Path" in str(kind)}
    assert paths - {"--out"} == PATH_FLAGS | (paths & FILE_OR_WORD)


def test_a_worker_elsewhere_gets_whole_paths(tmp_path: Path) -> None:
    """Of files that are there, with a slash in their names or without; words stay words."""
    touch(tmp_path / "masks" / "0.png", tmp_path / "ownership" / "x", tmp_path / "my.safetensors")
    flags = {"--masks": ("masks",), "--method": ("ownership",), "--weights": ("my.safetensors",)}
    job = _absolute(Job("a", Path("a.mp4"), Path("out"), flags, ""), tmp_path)
    assert job.source == tmp_path / "a.mp4" and job.out == tmp_path / "out"
    assert job.flags["--masks"] == (str(tmp_path / "masks"),)
    assert job.flags["--weights"] == (str(tmp_path / "my.safetensors"),)
    assert job.flags["--method"] == ("ownership",)
    touch(tmp_path / "base" / "x")  # a name of shipped weights
    job = _absolute(Job("a", Path("a.mp4"), Path("out"), {"--weights": ("base",)}, ""), tmp_path)
    assert job.flags["--weights"] == ("base",)

"""Output folders: whole or not at all, nothing of the user's lost, runs that were killed mended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omnimatte_cli.errors import InputError, OutputError
from omnimatte_cli.media import folder as module
from omnimatte_cli.media.atomic import replacing, write_text
from omnimatte_cli.media.folder import MARK, add_to_list, output_folder, state_path
from omnimatte_cli.media.listing import read_list
from omnimatte_cli.media.lock import WorkFolder, working_in


def tree(folder: Path) -> dict[str, str]:
    """Every file and empty folder below a folder with its text, the tool's list left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path.name != MARK:
            found[name] = path.read_text()
        elif path.is_dir() and not any(path.iterdir()):
            found[name + "/"] = ""
    return found


def write(folder: Path, word: str, files: tuple[str, ...] = ("layers/a/0.png", "layers/a/1.png")):
    for name in (*files, "manifest.json"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(word)


def make_result(out: Path, word: str = "old") -> Path:
    with output_folder(out, overwrite=False) as folder:
        write(folder, word)
    return out


NEW = {"layers/a/0.png": "new", "layers/a/1.png": "new", "manifest.json": "new"}
OLD = {name: "old" for name in NEW}


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with output_folder(out, overwrite=False) as folder:
        write(folder, "new")
        assert not out.exists() and folder.is_relative_to(out.parent)
    assert tree(tmp_path / "deep") == {f"out/{k}": v for k, v in NEW.items()}
    assert read_list(out) == frozenset(NEW)


@pytest.mark.parametrize("around", [(), ("lost+found",), (".DS_Store",)])
def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path, around) -> None:
    """As the working folder of a shell or a mount point must."""
    out = tmp_path / "out"
    out.mkdir()
    for name in around:
        (out / name).mkdir() if name == "lost+found" else (out / name).touch()
    before = out.stat().st_ino
    with output_folder(out, overwrite=False) as folder:
        write(folder, "new")
        assert folder.is_relative_to(out)  # on the same file system
    assert out.stat().st_ino == before
    assert {n for n in os.listdir(out) if n not in around} == {"layers", "manifest.json", MARK}


def test_the_working_folder_is_filled(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with output_folder(Path("."), overwrite=False) as folder:
        write(folder, "new")
    assert tree(Path(".")) == NEW and os.listdir(tmp_path) == ["here"]


def test_a_folder_in_an_unwritable_one_is_filled(tmp_path: Path, monkeypatch) -> None:
    """Nothing beside the folder is written, renamed or removed."""
    out = tmp_path / "out"
    out.mkdir()
    rename, mkdir = os.rename, Path.mkdir

    def refuse_rename(a, b):
        assert Path(a).is_relative_to(out) and Path(b).is_relative_to(out), (a, b)
        rename(a, b)

    def refuse_mkdir(self, *args, **kwargs):
        assert self == tmp_path or self.resolve().is_relative_to(out), self
        mkdir(self, *args, **kwargs)

    monkeypatch.setattr(os, "rename", refuse_rename)
    monkeypatch.setattr(Path, "mkdir", refuse_mkdir)
    for word in ("old", "new"):
        with output_folder(out, overwrite=True) as folder:
            (folder / "manifest.json").write_text(word)
    assert tree(out) == {"manifest.json": "new"}
    assert state_path(out).parent == out and state_path(tmp_path / "none").parent == tmp_path


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_all_as_it_was(error: type[BaseException], tmp_path: Path) -> None:
    make_result(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "out", tmp_path / "empty", tmp_path / "new" / "out"):
        with pytest.raises(error), output_folder(out, overwrite=True) as folder:
            write(folder, "new")
            raise error
    assert tree(tmp_path / "out") == OLD
    assert sorted(os.listdir(tmp_path)) == ["empty", "out"] and not os.listdir(tmp_path / "empty")


def test_overwrite_replaces_an_own_result(tmp_path: Path) -> None:
    out = make_result(tmp_path / "out")
    refused = pytest.raises(OutputError, match=r"out exists and is not empty.*--overwrite")
    with refused, output_folder(out, overwrite=False):
        pytest.fail("must not get here")
    with output_folder(out, overwrite=True) as folder:
        write(folder, "new", ("layers/b/0.png",))
        assert tree(out)["manifest.json"] == "old"
    assert tree(out) == {"layers/b/0.png": "new", "manifest.json": "new"}
    assert os.listdir(tmp_path) == ["out"]


def test_overwrite_needs_the_signature_not_the_names(tmp_path: Path) -> None:
    """Issue: a folder that held any masks.json, or a foreign manifest.json, was deleted."""
    for files in (("masks.json", "thesis.txt"), ("manifest.json", "layers/x.png"), (MARK,)):
        mine = tmp_path / files[0].strip(".")
        for name in files:
            (mine / name).parent.mkdir(parents=True, exist_ok=True)
            (mine / name).write_text('{"objects": []}')
        if files == (MARK,):
            (mine / "thesis.txt").write_text("years of work")
        before = tree(mine)
        refused = pytest.raises(OutputError, match="is not a result of this tool")
        with refused, output_folder(mine, overwrite=True):
            pytest.fail("must not get here")
        assert tree(mine) == before


@pytest.mark.parametrize("added", ["notes.txt", "layers/a/0_painted.png", "keep/", "layers/a/x/"])
def test_what_was_added_by_hand_is_refused_before_any_work(tmp_path: Path, added: str) -> None:
    out = make_result(tmp_path / "out")
    if added.endswith("/"):
        (out / added).mkdir()
    else:
        (out / added).write_text("mine")
    before = tree(out)
    refused = pytest.raises(OutputError, match=f"also holds {added}, which this tool did not write")
    with refused, output_folder(out, overwrite=True):
        pytest.fail("must not get here")
    assert tree(out) == before


def test_what_is_added_meanwhile_is_kept(tmp_path: Path) -> None:
    out = make_result(tmp_path / "out")
    with output_folder(out, overwrite=True) as folder:
        write(folder, "new")
        (out / "notes.txt").write_text("mine")
        (out / "layers" / "a" / "7.png").write_text("mine")
    assert tree(out) == {**NEW, "notes.txt": "mine", "layers/a/7.png": "mine"}


def test_a_link_is_never_followed(tmp_path: Path) -> None:
    out = make_result(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    os.rename(out / "layers", tmp_path / "elsewhere" / "layers")
    (out / "layers").symlink_to(tmp_path / "elsewhere" / "layers")
    with pytest.raises(OutputError, match="also holds layers"), output_folder(out, True):
        pytest.fail("must not get here")
    assert len(tree(tmp_path / "elsewhere")) == 2


def test_formats_that_were_added_to_a_result_are_on_its_list(tmp_path: Path) -> None:
    out = make_result(tmp_path / "out")
    (out / "prores").mkdir()
    (out / "prores" / "a.mov").write_text("x")
    (out / "report.html").write_text("x")
    add_to_list(out, [out / "prores", out / "report.html"])
    with output_folder(out, overwrite=True) as folder:
        write(folder, "new")
    assert tree(out) == NEW


def test_inputs_and_outputs_may_not_lie_in_one_another(tmp_path: Path) -> None:
    out = make_result(tmp_path / "out")
    (tmp_path / "file").touch()
    (tmp_path / "masks" / "dog").mkdir(parents=True)
    for place, inputs, message in [
        (tmp_path / "file", (), "file is a file"),
        (tmp_path / "file" / "out", (), "cannot be written to"),
        (out, (out / "layers",), "layers lies in .*out"),
        (out, (out,), "lies in"),
        (tmp_path / "masks" / "out", (tmp_path / "masks",), "the next run would take it for input"),
        (tmp_path / "masks" / "a" / "b", (tmp_path / "masks",), "next run"),
    ]:
        before = sorted(str(p) for p in tmp_path.rglob("*"))
        with pytest.raises(OutputError, match=message), output_folder(place, True, inputs):
            pytest.fail("must not get here")
        assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_two_runs_to_one_folder_are_told_apart_at_the_start(tmp_path: Path) -> None:
    for out in (tmp_path / "new", make_result(tmp_path / "old")):
        with output_folder(out, overwrite=True) as folder:
            write(folder, "new")
            refused = pytest.raises(OutputError, match="is being written by another run")
            with refused, output_folder(out, overwrite=True):
                pytest.fail("must not get here")
        assert tree(out) == NEW


def test_a_failed_move_puts_the_old_back(tmp_path: Path, monkeypatch) -> None:
    out = make_result(tmp_path / "out")
    rename, done = os.rename, []

    def refuse(a, b):
        if Path(a).parent.name == module.NEW and Path(a).name == "manifest.json":
            raise PermissionError(13, "Permission denied")
        done.append(a)
        rename(a, b)

    monkeypatch.setattr(os, "rename", refuse)
    refused = pytest.raises(OutputError, match="out cannot be put in place: Permission denied")
    with refused, output_folder(out, overwrite=True) as folder:
        write(folder, "new")
    assert done and tree(out) == OLD and os.listdir(tmp_path) == ["out"]


class Killed(BaseException):
    """Stands for a process that is no more: nothing after it runs."""


@pytest.mark.parametrize("after", range(8))
def test_a_move_that_was_cut_off_is_completed_by_the_next_run(
    tmp_path: Path, monkeypatch, after: int
) -> None:
    """Killed before each of the renames in turn; no state of the folder loses a result."""
    out = make_result(tmp_path / "out")
    rename, calls = os.rename, []

    def die(a, b):
        calls.append(a)
        if len(calls) > after:
            raise Killed
        rename(a, b)

    def nothing(*args: object) -> None: ...

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", die)
        patch.setattr(module, "_give_up", nothing)
        patch.setattr(module, "_finish", nothing)
        try:
            with output_folder(out, overwrite=True) as folder:
                write(folder, "new")
        except Killed:
            now = {k: v for k, v in tree(out).items() if not k.startswith(".")}
            assert "manifest.json" not in now or now in (OLD, NEW)
    for lock in list(tmp_path.rglob("lock")):
        lock.unlink()  # the system frees it when a process dies; this one lives on
    said: list[str] = []
    with output_folder(out, overwrite=True, say=said.append) as folder:
        found = tree(out)
        found = {k: v for k, v in found.items() if not k.startswith(".omnimatte")}
        assert found in (OLD, NEW) and len(said) == 1
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out) == [MARK]


PROGRAM = """
import sys, time
from pathlib import Path
from omnimatte_cli.media.folder import output_folder
from omnimatte_cli.__main__ import main
import signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
with output_folder(Path(sys.argv[1]), True, (), print) as folder:
    for i in range(300):
        (folder / f"{i}.png").write_text("new")
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        print("cleaning", flush=True)
"""


def start(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("existing", [False, True])
def test_what_a_killed_run_left_is_removed_and_said(tmp_path: Path, existing: bool) -> None:
    out = tmp_path / "out"
    if existing:
        make_result(out)
    process = start(out)
    process.kill()
    process.communicate()
    said: list[str] = []
    with output_folder(out, True, say=said.append) as folder:
        write(folder, "new")
    assert tree(out) == NEW and os.listdir(tmp_path) == ["out"]
    assert len(said) == 1 and "left when it was cut off was removed" in said[0]


def test_three_quick_interrupts_do_not_cut_the_cleaning_short(tmp_path: Path) -> None:
    process = start(tmp_path / "out")
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)
    process.communicate(timeout=30)
    assert process.returncode != 0 and not os.listdir(tmp_path)


def test_errors_name_the_users_paths(tmp_path: Path) -> None:
    out = make_result(tmp_path / "out")
    with pytest.raises(OutputError) as refused, output_folder(out, True) as folder:
        write_text(folder / "nowhere" / "a.txt", "x")
    assert str(out / "nowhere" / "a.txt") in str(refused.value)
    with pytest.raises(OSError) as failed, output_folder(out, True) as folder:
        raise OSError(28, "No space left on device")
    assert failed.value.filename == str(out)
    for error in (refused.value, failed.value):
        assert "omnimatte.work" not in str(error) and "partial" not in str(error)
    assert isinstance(refused.value, InputError)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    write_text(path, "old")
    with pytest.raises(ValueError), replacing(path) as partial:
        partial.write_text("half")
        raise ValueError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["facts.json"]
    with replacing(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".json" and path.read_text() == "old"
    assert path.read_text() == "new"


def test_folder_has_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with output_folder(tmp_path / "out", overwrite=False):
        pass
    mode = [stat.S_IMODE(os.stat(tmp_path / n).st_mode) for n in ("plain", "out")]
    assert mode[0] == mode[1]
    assert json.loads((tmp_path / "out" / MARK).read_text())["files"] == []


@pytest.mark.slow
def test_a_folder_that_owners_come_and_go_in_is_claimed_or_not_and_nothing_else(
    tmp_path: Path,
) -> None:
    """An owner that removes it just as the next one makes it is no error."""
    owners: list[int] = []

    def come_and_go(me: int) -> int:
        owned = 0
        for _ in range(1500):
            folder = WorkFolder(tmp_path / "work")
            if folder.claim():
                owners.append(me)
                assert owners == [me], "two owners at once"
                owners.clear()
                owned += 1
                folder.remove()
        return owned

    # How often each of them wins is the scheduler's business; that somebody does is not.
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(come_and_go, range(4))) > 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_removed_meanwhile_hides_no_error(tmp_path: Path) -> None:
    work = tmp_path / "out" / ".work"
    work.parent.mkdir()
    with pytest.raises(RuntimeError, match="what went wrong"), working_in(work):
        shutil.rmtree(work.parent)
        raise RuntimeError("what went wrong")
    assert not work.parent.exists()

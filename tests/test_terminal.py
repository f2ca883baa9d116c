"""No name of a file steers the terminal: every message, table and progress bar shows it escaped."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from omnimatte_cli import progress, terminal
from omnimatte_cli.terminal import SafeText, printable
from tests.conftest import encode, scene, write_masks

pytestmark = pytest.mark.slow

EVIL = "a\x1b[2J\x1b]0;title\x07\rError b\u202ec\x9b1m"  # clears, renames, forges, turns round
NAMES = {
    "plain": ("clip v2.mp4", "clip v2.mp4"),
    "other scripts": ("視頻 ñ 👩‍🚀.mp4", "視頻 ñ 👩‍🚀.mp4"),
    "escape sequences": ("a\x1b[2Jb", r"a\x1b[2Jb"),
    "lines": ("a\r\nError: b\u2028c", r"a\r\nError: b\u2028c"),
    "C1 and bell": ("\x9b31m\x07", r"\x9b31m\x07"),
    "turned round": ("gpj.\u202eexe\u2066", r"gpj.\u202eexe\u2066"),
    "no UTF-8": (os.fsdecode(b"caf\xe9.mp4"), r"caf\xe9.mp4"),
    "a lone surrogate": ("\ud800", r"\ud800"),
}


@pytest.mark.parametrize("kind", NAMES)
def test_printable(kind: str) -> None:
    text, shown = NAMES[kind]
    assert printable(text) == shown
    assert printable(printable(text)) == shown


def test_a_guarded_stream_keeps_lines_and_escapes_the_rest() -> None:
    raw = io.BytesIO()
    stream = SafeText(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("one\ttwo\n\x1b[31mthree é\n")
    stream.flush()
    assert raw.getvalue() == b"one\ttwo\n\\x1b[31mthree \\xe9\n"


def quiet(text: str) -> None:
    """Nothing but lines, and what rich itself sends: colours, cursor, erasing of its own lines."""
    rest = re.sub(r"\x1b\[(\?25[lh]|\d*(;\d+)*m|\d?K|1A)", "", text)
    rest = rest.replace("\r\n", "\n").replace("\r", "")
    found = [c for c in rest if terminal.unicodedata.category(c) in terminal.STEERING]
    assert set(found) <= {"\n"}, found
    assert "\x1b]0" not in text and "\x1b[2J" not in text


def on_a_terminal(*args: object, timeout: float = 120) -> tuple[int, str]:
    """Exit code and everything that a command writes to a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "omnimatte_cli", *map(str, args)]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    out = b""
    while True:
        try:
            data = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        out += data
    os.close(master)
    return process.wait(timeout), out.decode(errors="surrogateescape")


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of hostile names: clip, masks of an object, and a list for a batch."""
    folder = tmp_path_factory.mktemp("evil") / EVIL
    folder.mkdir()
    video, masks = scene(4)
    encode(folder / "v.mkv", video, "-c:v", "ffv1", "-metadata", f"title={EVIL}")
    os.rename(folder / "v.mkv", folder / f"{EVIL}.mkv")
    write_masks(folder / "masks" / EVIL, masks)
    return folder


RUN = ("--method", "ownership", "--size", "48x32", "--device", "cpu", "-v")


def test_results_and_progress(evil: Path, tmp_path: Path) -> None:
    arguments = (
        "decompose", evil / f"{EVIL}.mkv", "--masks", evil / "masks", "-o", tmp_path / EVIL, *RUN
    )  # fmt: skip
    code, text = on_a_terminal(*arguments)
    assert code == 0, text
    quiet(text)
    assert r"layers/a\x1b[2J" in re.sub(r"\s", "", text)
    code, text = on_a_terminal("report", tmp_path / EVIL)
    assert code == 0, text
    quiet(text)
    code, text = on_a_terminal("compose", tmp_path / EVIL, "-o", tmp_path / f"{EVIL}.mp4")
    assert code == 0, text
    quiet(text)


FAILS = {
    "no video": lambda f: ("decompose", f / "no.mp4", "-o", f / "o"),
    "no mask": lambda f: ("decompose", f / f"{EVIL}.mkv", "--masks", f, "-o", f.parent / "o"),
    "an unknown option": lambda f: ("decompose", f"--{EVIL}"),
    "an unknown command": lambda f: (EVIL,),
    "a wrong value": lambda f: ("masks", f / "v.mp4", "-o", f / "o", "--every", EVIL),
    "a point": lambda f: ("masks", f / f"{EVIL}.mkv", "-o", f / "o", "--point", EVIL),
    "a config": lambda f: ("batch", f, "-o", f.parent / "b", "--config", f / "no.toml"),
    "no result": lambda f: ("compose", f, "-o", f.parent / "c.mp4"),
}


@pytest.mark.parametrize("kind", FAILS)
def test_errors(kind: str, evil: Path) -> None:
    arguments = [str(a) for a in FAILS[kind](evil)]
    code, text = on_a_terminal(*arguments)
    assert code == 2, text
    quiet(text)


def test_the_table_of_a_batch(evil: Path, tmp_path: Path) -> None:
    code, text = on_a_terminal("batch", evil, "-o", tmp_path / EVIL, "--dry-run", "-v")
    assert code == 0, text
    quiet(text)


def test_pipes_are_told_the_same_and_may_close(evil: Path) -> None:
    command = [sys.executable, "-m", "omnimatte_cli", "report", str(evil / "no")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    quiet(done.stderr)
    helped = f"{shlex.quote(sys.executable)} -m omnimatte_cli decompose --help | head -n 1"
    done = subprocess.run(["bash", "-c", helped], capture_output=True, text=True)
    assert done.stderr == ""


def test_bars_show_texts_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress.Bars() as bars:
        bars.stage(f"reading {EVIL}", 2)
        bars.step(1, EVIL)
        bars.say(f"See {EVIL}.")
    quiet(stream.getvalue())
    assert r"See a\x1b[2J" in stream.getvalue()

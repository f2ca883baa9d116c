"""An ffmpeg that is another program, hangs, floods, lies or has children; one sentence each."""

from __future__ import annotations

import os
import subprocess
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.errors import MissingProgramError, OmnimatteError
from omnimatte_cli.media import ffmpeg as module
from omnimatte_cli.media.codecs import Timing, encoders
from omnimatte_cli.media.encode import VideoWriter
from omnimatte_cli.media.ffmpeg import find_ffmpeg, try_ffmpeg
from omnimatte_cli.terminal import one_line
from tests.conftest import FFMPEG, scene

SIZE = (36, 64)


def program(path: Path, script: str, answers: bool = True) -> Path:
    """A shell script; with `answers`, it passes for an ffmpeg that has libx264. $f: its output."""
    trial = 'case "$*" in *-encoders) echo Encoders:; echo " V libx264 x"; exit 0;; esac'
    name = 'for x; do case "$x" in *.mp4) f="${x#file:}";; esac; done'
    path.write_text(f"#!/bin/sh\n{trial if answers else ''}\n{name}\n{script}\n")
    path.chmod(0o755)
    return path


def write_with(program: Path, path: Path, frames: int = 1, size=SIZE, timing=Fraction(10)) -> None:
    with VideoWriter(path, size, timing, program) as writer:
        for _ in range(frames):
            writer.write(np.zeros((*size, 3), np.uint8))


def running(word: str) -> bool:
    """Whether a program goes on; one that was killed may need a moment to be gone."""
    for _ in range(20):
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        if not any(word in line and "<defunct>" not in line for line in listing.splitlines()):
            return False
        time.sleep(0.1)
    return True


def test_found_by_option_variable_path_and_package(tmp_path: Path, monkeypatch) -> None:
    given, named, on_path = (tmp_path / n for n in ("given", "named", "ffmpeg"))
    for path in (given, named, on_path):
        program(path, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("OMNIMATTE_FFMPEG", str(named))
    assert find_ffmpeg(given) == str(given)
    assert find_ffmpeg() == str(named)
    monkeypatch.delenv("OMNIMATTE_FFMPEG")
    assert find_ffmpeg() == str(on_path)
    on_path.unlink()
    assert find_ffmpeg() == FFMPEG
    with pytest.raises(MissingProgramError, match="no-such-program does not exist"):
        find_ffmpeg("no-such-program")

    def nothing() -> str:
        raise RuntimeError("no ffmpeg")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", nothing)
    with pytest.raises(MissingProgramError, match="No ffmpeg program was found: install"):
        find_ffmpeg()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo I am make; exit 0", "is not ffmpeg: asked for its encoders it says I am make"),
        ("exit 0", "it says nothing"),
        ("yes | head -c 3000000; yes >&2 & sleep 0.2", r"it says y y .{290,310}\.\.\.\.$"),
        ("sleep 61.25", "does not answer"),
        pytest.param("sleep 61.25 & sleep 61.25", "does not answer", marks=pytest.mark.slow),
        ('echo Encoders:; echo " V mpeg4 x"', "has no encoder libx264"),
        ("\0\1", "cannot be run|is not ffmpeg"),
    ],
    ids=["other", "mute", "flood", "hangs", "children", "small", "binary"],
)
def test_a_wrong_program_is_found_before_any_work(
    tmp_path: Path, monkeypatch, script: str, words: str
) -> None:
    monkeypatch.setattr(module, "TRIAL", 2.0)
    wrong = program(tmp_path / "ffmpeg", script, answers=False)
    start = time.monotonic()
    with pytest.raises(MissingProgramError, match=words) as caught:
        try_ffmpeg(wrong)
    assert "\n" not in str(caught.value) and time.monotonic() - start < 10
    assert not running("sleep 61.25") and not running("yes")


def test_every_command_that_encodes_asks_first(tmp_path: Path) -> None:
    """No input exists: the program is what is said to be wrong, and nothing is written."""
    wrong = program(tmp_path / "ffmpeg", "echo wrong", answers=False)
    for line in (["decompose", "a.mp4", "-o", "out"], ["masks", "a.mp4", "-o", "out"]):
        done = CliRunner().invoke(app, [*line, "--ffmpeg", str(wrong)])
        assert done.exit_code == 1 and "is not ffmpeg" in done.stderr, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["ffmpeg"]


def test_formats_name_their_encoders() -> None:
    assert encoders(["mp4", "prores", "png16", "exr"]) == ["libx264", "prores_ks"]
    assert try_ffmpeg(FFMPEG, encoders(["mp4", "prores", "webm"])) == FFMPEG


@pytest.mark.parametrize(
    ("script", "frames", "words"),
    [
        ("yes words | head -c 3000000 >&2; echo at last >&2; exit 3", 50, "v.mp4: at last"),
        ("cat >/dev/null; echo '[a#0/b @ 0x5f] No room.' >&2; exit 3", 1, r"v\.mp4: No room\.$"),
        ("head -c 3000000 /dev/zero >&2; exit 3", 1, "could not write"),
        ("cat >/dev/null; exit 3", 1, "it ended with status 3"),
        ("cat >/dev/null; exit 0", 1, "ended well but left no video"),
        ("cat >/dev/null; echo junk >$f", 1, "left no video"),
        ("sleep 61.5", 50, "did nothing for 1 s and was ended"),
        ("sleep 61.5 & sleep 61.5", 50, "did nothing"),
        ("cat >/dev/null; sleep 61.5", 1, "did nothing"),
        ("trap '' TERM INT; cat >/dev/null; while :; do sleep 61.5; done", 1, "did nothing"),
        ("sleep 61.5 >/dev/null 2>&1 & cat >/dev/null; exit 4", 1, "status 4"),
    ],
    ids=[
        "flood",
        "speaker",
        "binary",
        "mute",
        "nothing",
        "junk",
        "hangs",
        "children",
        "late",
        "deaf",
        "left",
    ],
)
@pytest.mark.slow
def test_failures_while_encoding(
    tmp_path: Path, monkeypatch, script: str, frames: int, words: str
) -> None:
    monkeypatch.setattr(module, "STALL", 1.0)
    wrong = program(tmp_path / "ffmpeg", script)
    start = time.monotonic()
    with pytest.raises(OmnimatteError, match=words) as caught:
        write_with(wrong, tmp_path / "v.mp4", frames, (360, 640))
    text = str(caught.value)
    assert time.monotonic() - start < 12
    assert "partial" not in text and "\n" not in text and len(text) < 500 + len(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["ffmpeg"]
    assert not running("sleep 61.5")


def test_a_stall_with_frame_times_ends_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "STALL", 0.5)
    timing = Timing(Fraction(10), (0.0, 0.3, *(1.0 + i for i in range(48))))
    with pytest.raises(OmnimatteError, match="did nothing"):
        wrong = program(tmp_path / "ffmpeg", "sleep 61.5")
        write_with(wrong, tmp_path / "v.mp4", 50, (360, 640), timing)


@pytest.mark.slow
def test_slow_is_not_stalled(tmp_path: Path, monkeypatch) -> None:
    """A program that takes a long time but goes on working is waited for."""
    monkeypatch.setattr(module, "STALL", 2.0)
    slow = program(
        tmp_path / "ffmpeg",
        f'for i in 1 2 3 4 5 6; do sleep 0.5; echo x >>$f; done\nexec "{FFMPEG}" "$@"',
    )
    write_with(slow, tmp_path / "v.mp4", 3)
    assert (tmp_path / "v.mp4").is_file()


def test_lost_frames_are_noticed(tmp_path: Path) -> None:
    short = program(tmp_path / "ffmpeg", f'exec "{FFMPEG}" -t 0.2 "$@" -frames:v 2')
    cut = program(tmp_path / "cut", f'head -c {2 * 36 * 64 * 3} | "{FFMPEG}" "$@"')
    for wrong in (short, cut):
        with pytest.raises(OmnimatteError, match=r"v\.mp4 holds 2 of 5 frames|could not write"):
            write_with(wrong, tmp_path / "v.mp4", 5)
    assert not (tmp_path / "v.mp4").exists()


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(OmnimatteError, match="could not write"):
        write_with(Path(FFMPEG), tmp_path / "no" / "v.mp4")


def test_an_error_within_stops_the_program(tmp_path: Path) -> None:
    deaf = program(tmp_path / "ffmpeg", "trap '' TERM INT; sleep 61.75 & sleep 61.75")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "v.mp4", SIZE, 10, deaf) as w:
        w.write(scene(1)[0][0])
        raise KeyboardInterrupt
    assert time.monotonic() - start < 5 and not running("sleep 61.75")


def test_long_words_are_shortened() -> None:
    assert one_line("a\n b\tc", 300) == "a b c"
    assert len(one_line("x" * 1000, 300)) == 300 and os.linesep not in one_line("x\n" * 1000, 300)

"""The ffmpeg program: found, tried before any work, and run so that it cannot hang or flood us."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from omnimatte_cli.errors import MissingProgramError
from omnimatte_cli.terminal import one_line

STALL = 120.0  # seconds without progress after which a program is given up
TRIAL = 30.0  # seconds in which a program must answer a first question
SPEAKER = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] )+")  # which of its parts says something
POLL = 0.5  # seconds between two looks at its progress
LAST_WORDS = 16 << 10  # bytes of what it says that are kept
LONGEST = 300  # characters of it that a user is shown


def find_ffmpeg(program: Path | str | None = None) -> str:
    """The ffmpeg program: the given one, OMNIMATTE_FFMPEG, that on PATH, or imageio-ffmpeg's.

    Raises MissingProgramError; one that was asked for by name is never replaced by another.
    """
    asked = program or os.environ.get("OMNIMATTE_FFMPEG")
    if asked:
        # A path has lost its "./" by now: what is not on PATH may be a file that is there.
        found = shutil.which(str(asked)) or shutil.which(os.path.abspath(asked))
        if found is None:
            raise MissingProgramError(
                f"The ffmpeg program {asked} does not exist or cannot be run."
            )
        return found
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError, OSError) as error:
        raise MissingProgramError(
            "No ffmpeg program was found: install ffmpeg (apt install ffmpeg, brew install ffmpeg) "
            "or pip install imageio-ffmpeg, or name one with --ffmpeg or OMNIMATTE_FFMPEG."
        ) from error


def try_ffmpeg(program: Path | str | None = None, encoders: Sequence[str] = ("libx264",)) -> str:
    """Find ffmpeg and ask it for its encoders: what is wrong is said before any work.

    Raises MissingProgramError where it is another program, hangs, or lacks one of `encoders`.
    """
    found = find_ffmpeg(program)
    there = encoders_of(found, os.stat(found).st_mtime_ns)
    for name in encoders:
        if name not in there:
            raise MissingProgramError(
                f"{found} has no encoder {name}: install a full ffmpeg, or "
                "pip install imageio-ffmpeg, and name it with --ffmpeg."
            )
    return found


@lru_cache
def encoders_of(program: str, changed: int) -> frozenset[str]:
    """The names of ffmpeg's encoders. changed: when the program was, so that a new one is asked.

    Raises MissingProgramError where it is not ffmpeg.
    """
    text = ask(program, "-hide_banner", "-encoders")
    if "Encoders:" not in text:
        said = one_line(text, LONGEST) or "nothing"
        raise MissingProgramError(
            f"{program} is not ffmpeg: asked for its encoders it says {said}."
        )
    return frozenset(line.split()[1] for line in text.splitlines() if len(line.split()) > 1)


def ask(program: str, *arguments: str) -> str:
    """What a program answers, on stdout or else on stderr. Raises MissingProgramError."""
    answer = Answer()
    process = start([program, *arguments], subprocess.DEVNULL, subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    spoken = Answer()
    answer.read(process.stdout, keep_first=True)
    spoken.read(process.stderr)
    try:
        process.wait(TRIAL)
    except subprocess.TimeoutExpired:
        raise MissingProgramError(
            f"{program} does not answer: it was asked about itself and ended after {TRIAL:.0f} s."
        ) from None
    finally:
        end_group(process)
        text = answer.text() or spoken.text()
    return text


def start(command: Sequence[str], stdin: int, stdout: int) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own; its stderr is a pipe.

    Raises MissingProgramError where the system cannot.
    """
    try:
        return subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True
        )
    except OSError as error:
        raise MissingProgramError(f"{command[0]} cannot be run: {error.strerror}.") from error


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and all that it started, whether or not it has ended itself."""
    if sys.platform == "win32":
        process.kill()
    else:
        # The number of a leader that was waited for stays its group's as long as that lives.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Answer:
    """Reads a pipe to its end in a thread, so that nobody waits for room in it; keeps a part."""

    def __init__(self) -> None:
        self.kept = b""
        self.thread: threading.Thread | None = None

    def read(self, pipe: Any, keep_first: bool = False) -> None:
        """Begin to read. keep_first: keep the beginning (as much as a list of encoders), not the
        end."""

        def follow() -> None:
            with contextlib.suppress(OSError, ValueError), pipe:
                while block := pipe.read1(1 << 16):
                    if keep_first:
                        self.kept = (self.kept + block)[: 16 * LAST_WORDS]
                    else:
                        self.kept = (self.kept + block)[-LAST_WORDS:]

        self.thread = threading.Thread(target=follow, daemon=True)
        self.thread.start()

    def text(self) -> str:
        """What was kept, once the pipe is at its end; a child that escaped may hold it open."""
        if self.thread is not None:
            self.thread.join(1.0)
        return self.kept.decode(errors="replace").strip()


class Feeding:
    """ffmpeg, fed with bytes: `write` and `finish` end with it if it does nothing for STALL s.

    Has the interface of a binary file as far as PyAV needs it to write to. path: the file that it
    writes, by whose growth it shows that it works.
    """

    def __init__(self, command: Sequence[str], path: Path) -> None:
        self.path = path
        self.process = start(command, subprocess.PIPE, subprocess.DEVNULL)
        assert self.process.stdin is not None and self.process.stderr is not None
        self.stdin = self.process.stdin
        self.said = Answer()
        self.said.read(self.process.stderr)
        self.stalled = False
        self.busy = False  # whether something waits for the program
        self.progress: tuple[float, object] = (time.monotonic(), None)
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def write(self, data: bytes | memoryview) -> int:
        """Hand data over. Raises OSError where the program is gone, as it is after a stall."""
        self._begin()
        try:
            self.stdin.write(data)
            self.stdin.flush()
        except ValueError as error:  # the pipe is closed
            raise BrokenPipeError from error
        finally:
            self.busy = False
        return len(data)

    def finish(self) -> int:
        """Close the pipe and wait for the end; returns the exit status."""
        self._begin()
        try:
            with contextlib.suppress(OSError):  # it may be gone; its status tells
                self.stdin.close()
            self.process.wait()
        finally:
            self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """End it with all that it has started."""
        self.over.set()
        end_group(self.process)
        with contextlib.suppress(OSError):
            self.stdin.close()

    def reason(self) -> str:
        """Why it failed, in a few words: its last line, bounded."""
        if self.stalled:
            return f"it did nothing for {STALL:.0f} s and was ended"
        lines = self.said.text().splitlines()
        code = self.process.returncode
        return (
            one_line(SPEAKER.sub("", lines[-1]), LONGEST).rstrip(".")
            if lines
            else f"it ended with status {code}"
        )

    def _begin(self) -> None:
        self.progress = (time.monotonic(), self._size())
        self.busy = True

    def _size(self) -> object:
        try:
            facts = self.path.stat()
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns

    def _watch(self) -> None:
        while not self.over.wait(min(POLL, STALL / 4)):
            if not self.busy:
                continue
            now, size = time.monotonic(), self._size()
            since, before = self.progress
            if size != before:
                self.progress = (now, size)
            elif now - since > STALL:
                self.stalled = True
                end_group(self.process)
                return

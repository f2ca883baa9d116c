"""Signals end a command cleanly; what the shell sees afterwards."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent
PROGRAM = """
import sys, time
from omnimatte_cli.interrupt import held_interrupts, run

def command():
    try:
        if sys.argv[1] == "held":
            with held_interrupts() as held:
                print("ready", flush=True)
                while not held.asked:
                    time.sleep(0.01)
                print("step ends", flush=True)
        print("ready", flush=True)
        time.sleep(30)
    except KeyboardInterrupt:
        print("cleaned", flush=True)
        sys.exit(130)

run(command)
"""


def start(*args: str, before: str = "") -> subprocess.Popen:
    program = before + PROGRAM
    command = [sys.executable, "-c", program, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE)


@pytest.mark.parametrize("mode", ["plain", "held"])
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 130), (signal.SIGHUP, 130)],
)
def test_signals(number: signal.Signals, code: int, mode: str) -> None:
    """Ctrl-C kills the process in the end, so that a shell's loop stops; all clean up."""
    process = start(mode)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert out.endswith("cleaned\n") and ("step ends" in out) == (mode == "held")
    assert process.returncode == code


def test_one_interrupt_ends_a_shell_loop() -> None:
    python = shlex.quote(sys.executable)
    loop = f'for i in 1 2 3; do {python} -c "$P" plain || echo failed; done; echo END'
    shell = subprocess.Popen(
        ["bash", "-c", loop],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env={"P": PROGRAM, "PATH": "/usr/bin:/bin"},
        start_new_session=True,
    )
    assert shell.stdout is not None and shell.stdout.readline() == "ready\n"
    os.killpg(shell.pid, signal.SIGINT)  # as a terminal does
    out, _ = shell.communicate(timeout=20)
    assert out == "cleaned\n" and shell.returncode == -signal.SIGINT


def test_ignored_signals_stay_ignored() -> None:
    ignore = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = start("plain", before=ignore)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 130

"""A run that was killed at a random moment, and then run again, writes the same files.

The long version is `python -m tests.kill_points METHOD 30`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kill_points import METHODS


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="kills forks")
@pytest.mark.parametrize("method", METHODS)
def test_killed_and_run_again(method: str) -> None:
    command = [sys.executable, "-m", "tests.kill_points", method, "2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("the same files") == 2

"""Memory that was freed is used again."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

ROUNDS, ARRAYS = 30, 8
SCRIPT = f"""
import resource
import sys
import numpy as np
from omnimatte_cli.allocator import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range({ROUNDS}):
    arrays = [np.ones(1 << 18, np.float32) for _ in range({ARRAYS})]  # of 1 MiB
    del arrays
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def faults(how: str) -> int:
    """Pages that the system had to clear for a script which makes and drops arrays."""
    command = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_arrays_use_freed_memory_again() -> None:
    glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    plain, kept = faults("plain"), faults("kept")
    if glibc:
        assert plain - kept > ROUNDS * ARRAYS * 128, (plain, kept)
    else:
        assert kept < 2 * plain  # nothing to set, and nothing fails


def test_a_command_leaves_without_a_search_for_cycles() -> None:
    code = (
        "import gc, weakref\n"
        "from omnimatte_cli.allocator import leave_cycles\n"
        "class Cycle: pass\n"
        "a = Cycle(); a.itself = a\n"
        "seen = weakref.ref(a)\n"
        "leave_cycles(); del a\n"
        "gc.collect(); print(seen() is not None, gc.isenabled())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_no_binding_complains_at_the_exit() -> None:
    pytest.importorskip("OpenImageIO")
    code = (
        "import OpenImageIO as oiio\n"
        "from omnimatte_cli.allocator import leave_cycles\n"
        "spec = oiio.ImageSpec(4, 4, 3, 'half')\n"
        "leave_cycles()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""

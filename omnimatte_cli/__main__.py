"""`omnimatte` and `python -m omnimatte_cli`."""

from __future__ import annotations

import os

from omnimatte_cli.allocator import keep_freed_memory, leave_cycles
from omnimatte_cli.interrupt import run
from omnimatte_cli.terminal import guard_streams

# Threads that wait for each other spin by default, which ruins them where another process has one
# of the cores: a step of finetuning took five times as long. Read once, when torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# NumPy's BLAS lets its threads spin, too, and its products are small: filling a hole took twice the
# CPU time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def main() -> None:
    """Run the command line. A termination request ends like an interrupt: cleanly, saved."""
    keep_freed_memory()
    guard_streams()
    try:
        run(_app)
    finally:
        leave_cycles()


def _app() -> None:
    from omnimatte_cli.cli import app

    app()


if __name__ == "__main__":
    main()

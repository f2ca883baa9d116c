"""The program of one shot's process: `omnimatte`, which ends when the batch that started it dies.

python -m omnimatte_cli.batch.child PARENT decompose ...
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

POLL = 1.0  # seconds between two looks at the parent


def watch(parent: int) -> None:
    """Ask this process to end, cleanly, once its parent is another."""
    while os.getppid() == parent:
        time.sleep(POLL)
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    parent = int(sys.argv.pop(1))
    threading.Thread(target=watch, args=(parent,), daemon=True).start()
    runpy.run_module("omnimatte_cli", run_name="__main__")


if __name__ == "__main__":
    main()

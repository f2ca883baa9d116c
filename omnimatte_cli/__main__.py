"""`omnimatte` and `python -m omnimatte_cli`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line. A termination request ends like an interrupt: cleanly, saved."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    from omnimatte_cli.cli import app

    try:
        app()
    except KeyboardInterrupt:  # before a command began
        sys.exit(130)


if __name__ == "__main__":
    main()

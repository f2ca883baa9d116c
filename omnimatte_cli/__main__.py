"""`omnimatte` and `python -m omnimatte_cli`."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command line. A termination request ends like an interrupt: cleanly, saved."""
    # Not by raising SIGINT, which shells have background jobs ignore.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    from omnimatte_cli.cli import app

    try:
        app()
    except KeyboardInterrupt:  # before a command began
        sys.exit(130)


if __name__ == "__main__":
    main()

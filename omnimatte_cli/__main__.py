"""`omnimatte` and `python -m omnimatte_cli`."""

from __future__ import annotations

from omnimatte_cli.interrupt import run


def main() -> None:
    """Run the command line. A termination request ends like an interrupt: cleanly, saved."""
    run(_app)


def _app() -> None:
    from omnimatte_cli.cli import app

    app()


if __name__ == "__main__":
    main()

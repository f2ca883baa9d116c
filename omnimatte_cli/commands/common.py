"""What the commands share: their common options, and errors as one sentence and an exit code."""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.terminal import one_line, printable

INTERRUPTED = 130
LONGEST = 500  # characters of a library's words that are shown
NO_MEMORY = "Not enough memory: try a smaller --size or --set batch_size=1."

Video = Annotated[Path, typer.Argument(help="Video file, or folder of images.", metavar="VIDEO")]
OutFolder = Annotated[Path, typer.Option("-o", "--out", help="Folder to write.", metavar="DIR")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print what is decided on the way.")]
Json = Annotated[bool, typer.Option("--json", help="Print the facts of the result as JSON.")]
ResultFolder = Annotated[
    Path, typer.Argument(help="Folder that `omnimatte decompose` wrote.", metavar="RESULT")
]


def print_facts(
    manifest: dict[str, Any], as_json: bool, quiet: bool, show: Callable[[], None]
) -> None:
    """What a run made: its facts as JSON, or what `show` prints of them; nothing if quiet."""
    if as_json:
        print(json.dumps(manifest, indent=2))
    elif not quiet:
        show()


def set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """One sentence and an exit code in place of a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except typer.Exit:  # the command's own exit code
            raise
        except OmnimatteError as e:
            fail(str(e), e.exit_code)
        except KeyboardInterrupt:
            fail("Interrupted.", INTERRUPTED)
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except MemoryError:
            fail(NO_MEMORY, 1)
        except ImportError as e:
            fail(missing_library(e), 1)
        except OSError as e:
            logging.getLogger(__name__).info("traceback", exc_info=True)
            where = f" ({e.filename})" if e.filename else ""
            fail(f"{e.strerror or e}{where}.", 1)
        except Exception as e:
            # torch's error of a full GPU, and its plain RuntimeError of a full CPU.
            if type(e).__name__ == "OutOfMemoryError" or "not enough memory" in str(e):
                fail(NO_MEMORY, 1)
            logging.getLogger(__name__).info("traceback", exc_info=True)
            said = f"{type(e).__name__}: {one_line(str(e), LONGEST)}"
            fail(f"Internal error: {said} (-v shows where; please report it).", 1)

    return run


def missing_library(error: ImportError) -> str:
    """What to install for a library that does not load."""
    text = one_line(str(error), LONGEST)
    if "libGL" in text or "libgthread" in text or "libglib" in text:
        return (
            f"OpenCV needs a system library ({text.split(':')[0]}): on Debian or Ubuntu install it "
            "with `apt-get install libgl1 libglib2.0-0`."
        )
    return f"A library does not load ({text}): install the package again."


def fail(message: str, code: int) -> None:
    """Print one sentence to stderr and leave."""
    message = printable(message)
    print(f"Error: {message}" if code != INTERRUPTED else message, file=sys.stderr)
    raise typer.Exit(code)

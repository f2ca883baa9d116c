"""What the commands share: their common options, and errors as one sentence and an exit code."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.errors import OmnimatteError

INTERRUPTED = 130
NO_MEMORY = "Not enough memory: try a smaller --size or --batch-size."

Video = Annotated[Path, typer.Argument(help="Video file, or folder of images.", metavar="VIDEO")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print what is decided on the way.")]
Json = Annotated[bool, typer.Option("--json", help="Print the facts of the result as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
MasksFolder = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        help="Folder with a folder of images or a video per object, or with indexed PNGs.",
        metavar="DIR",
    ),
]
FFmpeg = Annotated[
    Path | None, typer.Option("--ffmpeg", help="The ffmpeg program to encode with.", metavar="PATH")
]

Passes = Annotated[
    int,
    typer.Option(help="Estimates of the plate; the second leaves out what objects own."),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        help="A pixel on an object in a frame, such as dog:0:312,180; with - at the end, not on "
        "it. May be repeated.",
        metavar="NAME:FRAME:X,Y[-]",
    ),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        help="A box around an object in a frame, such as car:10:50,60,200,180. May be repeated.",
        metavar="NAME:FRAME:X0,Y0,X1,Y1",
    ),
]
SamModel = Annotated[
    str | None,
    typer.Option(
        "--sam",
        help="Make masks with SAM; downloads the checkpoint once (375 MB, 1.2 GB, 2.6 GB).",
        metavar="vit_b|vit_l|vit_h",
    ),
]
SamCheckpoint = Annotated[
    Path | None,
    typer.Option("--sam-checkpoint", help="Make masks with this SAM checkpoint.", metavar="FILE"),
]
MaxObjects = Annotated[
    int,
    typer.Option("--max-objects", help="The most objects to find where none is pointed at."),
]


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
            fail(f"Internal error: {type(e).__name__}: {e} (-v shows where; please report it).", 1)

    return run


def missing_library(error: ImportError) -> str:
    """What to install for a library that does not load."""
    text = str(error)
    if "libGL" in text or "libgthread" in text or "libglib" in text:
        return (
            f"OpenCV needs a system library ({text.split(':')[0]}): on Debian or Ubuntu install it "
            "with `apt-get install libgl1 libglib2.0-0`."
        )
    return f"A library does not load ({text}): install the package again."


def fail(message: str, code: int) -> None:
    """Print one sentence to stderr and leave."""
    print(f"Error: {message}" if code != INTERRUPTED else message, file=sys.stderr)
    raise typer.Exit(code)

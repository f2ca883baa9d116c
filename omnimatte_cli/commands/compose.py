"""`omnimatte compose`: a finished result, put together anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import Quiet, ResultFolder, Verbose, friendly, set_up_logging
from omnimatte_cli.commands.options import takes
from omnimatte_cli.compose.options import ComposeSettings
from omnimatte_cli.progress import terminal_progress


@friendly
@takes(settings=ComposeSettings)
def compose(
    result: ResultFolder,
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="File (.mp4, .mov, .webm), or folder of PNGs.", metavar="PATH"
        ),
    ],
    settings: dict[str, Any],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put the layers of a finished RESULT together anew: remove, move, retime, recolour objects.

    Pixels and frames are the video's, frames from 0. Before a moving camera, objects are moved on
    the canvas, so that a copy stays on the ground. Without any change, the input is rebuilt and
    the PSNR against it is printed.
    """
    set_up_logging(verbose)
    chosen = ComposeSettings(**settings)
    from omnimatte_cli.compose.write import write_composition
    from omnimatte_cli.deliver.read import read_result

    with terminal_progress(quiet) as progress:
        written = write_composition(read_result(result), out, chosen, progress)
    if quiet:
        return
    for path in written.paths:
        print(path)
    if written.psnr is not None:
        print(f"It matches the input to {written.psnr:.1f} dB.")
    elif written.untouched:
        print(f"The input, {written.source}, is not there any more: no PSNR.")

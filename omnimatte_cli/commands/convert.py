"""`omnimatte convert`: the layers of a finished result in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from omnimatte_cli.commands.common import (
    FFmpeg,
    Formats,
    MatteColor,
    Overwrite,
    Quiet,
    ResultFolder,
    StartFrame,
    Verbose,
    friendly,
    set_up_logging,
)
from omnimatte_cli.progress import terminal_progress


@friendly
def convert(
    result: ResultFolder,
    formats: Formats,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write; default: the result's.", metavar="DIR"),
    ] = None,
    start_frame: StartFrame = None,
    matte_color: MatteColor = "#000000",
    clean: Annotated[
        bool, typer.Option("--clean", help="Deliver the clean plate, not the residual one.")
    ] = False,
    overwrite: Overwrite = False,
    ffmpeg: FFmpeg = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the layers and the plate of a finished RESULT in other formats."""
    set_up_logging(verbose)
    from omnimatte_cli.deliver.convert import convert_result
    from omnimatte_cli.deliver.read import read_result

    with terminal_progress(quiet) as progress:
        written = convert_result(
            read_result(result),
            formats,
            out or result,
            progress,
            start_frame=start_frame,
            matte_color=matte_color,
            clean=clean,
            overwrite=overwrite,
            ffmpeg=ffmpeg,
        )
    if not quiet:
        for path in written:
            print(path)

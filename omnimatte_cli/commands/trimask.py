"""`omnimatte trimask`: what a removal model shall keep and remove, ready to be taken elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import (
    Overwrite,
    Quiet,
    Verbose,
    Video,
    friendly,
    set_up_logging,
)
from omnimatte_cli.commands.options import takes
from omnimatte_cli.options import check
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import READING, Settings, parse_size


@friendly
@takes(shared=(Settings, (*READING, "invert_masks")))
def trimask(
    source: Video,
    masks: Annotated[
        Path,
        typer.Option(
            "--masks",
            help="Folder with a folder of images or a video per object, or with indexed PNGs.",
            metavar="DIR",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.", metavar="DIR")],
    shared: dict[str, Any],
    size: Annotated[
        str | None,
        typer.Option(help="Size that the model takes. Default: the video's.", metavar="WxH"),
    ] = None,
    grow: Annotated[
        int | None,
        typer.Option(
            help="Pixels of that size: side of the square that masks grow by. Default: 11 at a "
            "width of 672."
        ),
    ] = None,
    invert: Annotated[
        bool, typer.Option("--invert", help="Black keeps and white removes, not the reverse.")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="Write a folder of PNGs each instead of a video.")
    ] = False,
    overwrite: Overwrite = False,
    ffmpeg: Annotated[
        Path | None,
        typer.Option("--ffmpeg", help="The ffmpeg program to encode with.", metavar="PATH"),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the trimasks of VIDEO: white keeps an object, black removes one, grey may change.

    One video per object, for the solo video in which it stays, and background.mp4, in which all go.
    """
    set_up_logging(verbose)
    shape = parse_size(size) if size else None
    check(shape is None or min(shape) >= 16, "--size must be at least 16 each way")
    from omnimatte_cli.media.options import reading
    from omnimatte_cli.trimask_pipeline import write_trimasks

    with terminal_progress(quiet) as progress:
        written = write_trimasks(
            source,
            masks,
            out,
            progress,
            shape,
            grow,
            invert,
            images,
            overwrite,
            ffmpeg,
            reading(Settings(**shared)),
        )
    if not quiet:
        for path in written:
            print(path)

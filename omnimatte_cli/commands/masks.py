"""`omnimatte masks`: options in, `make_masks` called, results printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import Json, Quiet, Verbose, Video, friendly, set_up_logging
from omnimatte_cli.commands.options import takes
from omnimatte_cli.errors import OptionError
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.segment.result import UNSURE
from omnimatte_cli.settings import READING, MaskSettings, Settings


@friendly
@takes(making=MaskSettings, settings=(Settings, (*READING, "start_frame", "ffmpeg")))
def masks(
    source: Video,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write the masks to.", metavar="DIR")
    ],
    making: dict[str, Any],
    settings: dict[str, Any],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make rough masks of the objects in VIDEO: what moves, or what you point at."""
    set_up_logging(verbose)
    from omnimatte_cli.media.options import TIME, reading

    begin = settings["begin"]
    if begin and Path(begin).exists() and not TIME.fullmatch(begin):
        raise OptionError(
            f"--from is a time now, and {begin} is a file: give corrected masks with --corrected."
        )
    chosen, shared = MaskSettings(**making), Settings(**settings)
    from omnimatte_cli.segment.make import make_masks

    with terminal_progress(quiet) as progress:
        result = make_masks(source, out, chosen, progress, shared.ffmpeg, options=reading(shared))
    if as_json:
        print(json.dumps(result.facts, indent=1))
    elif not quiet:
        for name in result.names:
            seen = [c for c in result.confidence[name] if c > 0]
            unsure = sum(c < UNSURE for c in seen)
            doubt = f", unsure in {unsure}" if unsure else ""
            print(f"{out / name}: in {len(seen)} of {result.frames} frames{doubt}")
        print(f"Look at {result.preview} before you go on.")

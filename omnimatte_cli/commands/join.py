"""`omnimatte join`: the parts of one shot, put together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import (
    Json,
    OutFolder,
    Quiet,
    Verbose,
    friendly,
    print_facts,
    set_up_logging,
)
from omnimatte_cli.commands.decompose import print_result
from omnimatte_cli.commands.options import takes
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import Settings


@friendly
@takes(shared=(Settings, ("overwrite", "ffmpeg")))
def join(
    parts: Annotated[
        list[Path],
        typer.Argument(
            help="Folders that `omnimatte decompose --part` wrote, all of one shot.",
            metavar="PARTS...",
        ),
    ],
    out: OutFolder,
    shared: dict[str, Any],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Put the parts of a shot together: the result that one run would have written."""
    set_up_logging(verbose)
    from omnimatte_cli.deliver.join import join_parts
    from omnimatte_cli.deliver.report import REPORT

    with terminal_progress(quiet) as progress:
        manifest = join_parts(parts, out, progress, **shared)
    report = out / REPORT if (out / REPORT).is_file() else None
    print_facts(manifest, as_json, quiet, lambda: print_result(manifest, out, report))

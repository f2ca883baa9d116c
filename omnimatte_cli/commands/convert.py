"""`omnimatte convert`: the layers of a finished result in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import Quiet, ResultFolder, Verbose, friendly, set_up_logging
from omnimatte_cli.commands.options import takes
from omnimatte_cli.deliver.options import ConvertSettings
from omnimatte_cli.progress import terminal_progress


@friendly
@takes(settings=ConvertSettings)
def convert(
    result: ResultFolder,
    settings: dict[str, Any],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder to write; default: the result's.", metavar="DIR"),
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the layers and the plate of a finished RESULT in other formats."""
    set_up_logging(verbose)
    chosen = ConvertSettings(**settings)
    from omnimatte_cli.deliver.convert import convert_result
    from omnimatte_cli.deliver.read import read_result

    with terminal_progress(quiet) as progress:
        written = convert_result(read_result(result), out or result, chosen, progress)
    if not quiet:
        for path in written:
            print(path)

"""`omnimatte report`: one HTML file to look at a finished result."""

from __future__ import annotations

from omnimatte_cli.commands.common import (
    Quiet,
    ResultFolder,
    Verbose,
    friendly,
    set_up_logging,
)
from omnimatte_cli.progress import terminal_progress


@friendly
def report(result: ResultFolder, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Write RESULT/report.html anew: images, plots over time, warnings, options and timings."""
    set_up_logging(verbose)
    from omnimatte_cli.deliver.read import read_result
    from omnimatte_cli.deliver.report import write_report

    with terminal_progress(quiet) as progress:
        path = write_report(read_result(result), progress)
    if not quiet:
        print(path)

"""`omnimatte trimask`: what a removal model shall keep and remove, ready to be taken elsewhere."""

from __future__ import annotations

from typing import Any

from omnimatte_cli.commands.common import (
    OutFolder,
    Quiet,
    Verbose,
    Video,
    friendly,
    set_up_logging,
)
from omnimatte_cli.commands.options import takes
from omnimatte_cli.media.options import reading
from omnimatte_cli.methods.generative.options import TrimaskSettings
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import READING, Settings


@friendly
@takes(settings=TrimaskSettings, shared=(Settings, (*READING, "invert_masks")))
def trimask(
    source: Video,
    out: OutFolder,
    settings: dict[str, Any],
    shared: dict[str, Any],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the trimasks of VIDEO: white keeps an object, black removes one, grey may change.

    One video per object, for the solo video in which it stays, and background.mp4, in which all go.
    """
    set_up_logging(verbose)
    chosen = TrimaskSettings(**settings, reading=reading(Settings(**shared)))
    from omnimatte_cli.trimask_pipeline import write_trimasks

    with terminal_progress(quiet) as progress:
        written = write_trimasks(source, out, chosen, progress)
    if not quiet:
        for path in written:
            print(path)

"""`omnimatte layers`: layers from solo videos and a clean background that any model made."""

from __future__ import annotations

from typing import Any

from omnimatte_cli.commands.common import (
    Json,
    OutFolder,
    Quiet,
    Verbose,
    Video,
    friendly,
    print_facts,
    set_up_logging,
)
from omnimatte_cli.commands.decompose import print_result
from omnimatte_cli.commands.options import takes
from omnimatte_cli.media.options import reading
from omnimatte_cli.methods.generative.options import LayersSettings
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import READING, Settings


@friendly
@takes(settings=LayersSettings, shared=(Settings, (*READING, "start_frame", "invert_masks")))
def layers(
    source: Video,
    out: OutFolder,
    settings: dict[str, Any],
    shared: dict[str, Any],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Split VIDEO into layers with the help of a removal model's solo videos and background."""
    set_up_logging(verbose)
    chosen = LayersSettings(**settings, reading=reading(Settings(**shared)))
    from omnimatte_cli.solo_pipeline import layers as run

    with terminal_progress(quiet) as progress:
        result = run(source, out, chosen, progress)
    facts = result.manifest
    print_facts(facts, as_json, quiet, lambda: print_result(facts, out, result.report))

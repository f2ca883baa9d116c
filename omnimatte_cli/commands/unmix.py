"""`omnimatte unmix`: the two scenes of a video that was filmed through glass, or blended."""

from __future__ import annotations

from pathlib import Path
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
from omnimatte_cli.commands.options import takes
from omnimatte_cli.media.options import reading
from omnimatte_cli.methods.centrifuge.options import UnmixSettings
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import READING, Settings


@friendly
@takes(settings=UnmixSettings, shared=(Settings, (*READING, "start_frame")))
def unmix(
    source: Video,
    out: OutFolder,
    settings: dict[str, Any],
    shared: dict[str, Any],
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Split VIDEO into the two scenes that it shows in each other, without masks.

    For reflections and double exposures of scenes that move against each other.
    """
    set_up_logging(verbose)
    chosen = UnmixSettings(**settings, reading=reading(Settings(**shared)))
    from omnimatte_cli.unmix_pipeline import unmix as run

    with terminal_progress(quiet) as progress:
        result = run(source, out, chosen, progress)
    facts = result.manifest
    print_facts(facts, as_json, quiet, lambda: print_unmixed(facts, out))


def print_unmixed(manifest: dict[str, Any], out: Path) -> None:
    """Where the layers are and how well their blend gives the video back."""
    print(f"2 layers of {manifest['input']['frames']} frames")
    for name in manifest["objects"]["names"]:
        print(f"  {out / name}.mp4, {out / 'layers' / name}")
    print(f"  {out / 'composite.mp4'}, preview.mp4, manifest.json")
    print(f"layer2's share of the picture is taken for {manifest['alpha'][0]:.2f}.")
    print(f"Blended, the layers give the video back to {manifest['psnr']['blend']:.1f} dB.")
    print(f"Time: {sum(manifest['seconds'].values()):.0f} s.")

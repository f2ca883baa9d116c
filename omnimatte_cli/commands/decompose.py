"""`omnimatte decompose` and `omnimatte background`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import (
    Json,
    Quiet,
    Verbose,
    Video,
    friendly,
    print_facts,
    set_up_logging,
)
from omnimatte_cli.commands.options import Group, help_text, takes
from omnimatte_cli.options import like, table
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import PROMPTS, READING, MaskSettings, Settings, SolveSettings


def show_set(value: bool) -> None:
    """Print what --set takes, and leave."""
    if value:
        from omnimatte_cli.methods import registry

        groups = [("every method", table(SolveSettings))]
        for name in registry.METHODS:
            options = registry.options_of(name)
            needs = " and ".join(sorted(options.needs))
            groups.append((f"{name} (needs {needs}): {options.summary}", table(options)))
        print(help_text(groups))
        raise typer.Exit


HelpSet = Annotated[
    bool,
    typer.Option("--help-set", callback=show_set, is_eager=True, help="List what --set takes."),
]


GROUPS: dict[str, Group] = {
    "settings": Settings,
    "making": (MaskSettings, PROMPTS),
}


@friendly
@takes(**GROUPS)
def decompose(
    source: Video,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder or URL to write.", metavar="DIR")
    ],
    settings: dict[str, Any],
    making: dict[str, Any],
    help_set: HelpSet = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Split VIDEO into one RGBA layer per object and a clean plate."""
    set_up_logging(verbose)
    chosen = Settings(**settings, making=MaskSettings(**making))
    from omnimatte_cli.pipeline import decompose as run
    from omnimatte_cli.remote import localised, url_of

    with (
        terminal_progress(quiet) as progress,
        localised(source, out, chosen, progress.say) as (local, folder, adapted),
    ):
        result = run(local, folder, adapted, progress)

    def show() -> None:
        if url := url_of(out):
            print(url)
            return
        for shot in result.shots or (result,):
            print_result(shot.manifest, shot.out, shot.report)

    print_facts(result.manifest, as_json, quiet, show)


def print_result(manifest: dict[str, Any], out: Path, report: Path | None) -> None:
    """Where the result is and how good it is, in a few lines on stdout."""
    psnr = manifest["psnr"]
    seconds = sum(manifest["seconds"].values())
    count = len(manifest["objects"]["names"])
    print(f"{count} layer{'s' * (count != 1)} of {manifest['input']['frames']} frames")
    for name in manifest["objects"]["names"]:
        print(f"  {out / 'layers' / name}")
    print(f"  {out / 'background.png'}, composite.mp4, preview.mp4, manifest.json")
    if report is not None:
        print(f"  {report}: look at it first")
    outside, whole = psnr["plate_outside_layers"], psnr["after_detail"]
    if outside is not None:
        print(f"Outside the layers the plate matches the video to {outside:.1f} dB.")
    print(f"The layers over the plate give the video back to {whole:.1f} dB.")
    print(f"Time: {seconds:.0f} s.")
    for doubt in manifest["camera"]["doubts"]:
        print(f"Doubtful: {doubt}")


@dataclass(frozen=True)
class PlateOptions:
    """Options of `decompose` that mean something else where only a plate is made."""

    masks: Path | None = like(
        Settings,
        "masks",
        "Folder with a folder of images or a video per object, or with indexed PNGs: what is no "
        "plate; default: all that is seen is plate.",
    )
    assignments: tuple[str, ...] = like(
        Settings,
        "assignments",
        "plate_passes=N: estimates of the plate, each without what objects own over the one before "
        "(1 to 5; default: 3).",
    )


BACKGROUND_OPTIONS = (
    "camera",
    "homographies",
    *READING,
    "start_frame",
    "invert_masks",
    "size",
    "device",
    "overwrite",
    "ffmpeg",
)


@friendly
@takes(own=PlateOptions, settings=(Settings, BACKGROUND_OPTIONS))
def background(
    source: Video,
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Image to write; or a video or a folder, which get every frame's plate.",
            metavar="PATH",
        ),
    ],
    own: dict[str, Any],
    settings: dict[str, Any],
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the clean plate of VIDEO: what the camera sees where no mask is."""
    set_up_logging(verbose)
    from omnimatte_cli.pipeline import write_background

    with terminal_progress(quiet) as progress:
        write_background(source, Settings(**own, **settings), out, progress)
    if not quiet:
        print(out)

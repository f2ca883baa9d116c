"""`omnimatte masks`: options in, `make_masks` called, results printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from omnimatte_cli.commands.common import (
    Boxes,
    FFmpeg,
    Json,
    MaxObjects,
    Overwrite,
    Points,
    Quiet,
    SamCheckpoint,
    SamModel,
    Verbose,
    Video,
    friendly,
    set_up_logging,
)
from omnimatte_cli.errors import OptionError
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.segment.options import MaskSettings

UNSURE = 0.5  # confidence below which a frame is named to the user


@friendly
def masks(
    source: Video,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder to write the masks to.", metavar="DIR")
    ],
    method: Annotated[
        str,
        typer.Option(
            help="motion: what moves before a static camera. sam: segment-anything. "
            "auto: sam if a checkpoint is named, else motion.",
            metavar="auto|motion|sam",
        ),
    ] = MaskSettings.method,
    point: Points = None,
    box: Boxes = None,
    sam: SamModel = None,
    sam_checkpoint: SamCheckpoint = None,
    every: Annotated[
        int, typer.Option(help="SAM looks at every K-th frame; optical flow does the others.")
    ] = MaskSettings.every,
    max_objects: MaxObjects = MaskSettings.max_objects,
    from_masks: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Masks to carry anew from the frames in --keep.", metavar="MASKS"
        ),
    ] = MaskSettings.from_masks,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Frames of --from that are right, such as 0,31: kept as they are.",
            metavar="FRAMES",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="For SAM: auto, cpu, cuda or mps.")
    ] = MaskSettings.device,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = MaskSettings.seed,
    overwrite: Overwrite = MaskSettings.overwrite,
    ffmpeg: FFmpeg = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make rough masks of the objects in VIDEO: what moves, or what you point at."""
    set_up_logging(verbose)
    settings = MaskSettings(
        method=method,
        points=tuple(point or ()),
        boxes=tuple(box or ()),
        sam=sam,
        sam_checkpoint=sam_checkpoint,
        every=every,
        max_objects=max_objects,
        device=device,
        seed=seed,
        from_masks=from_masks,
        keep=parse_frames(keep) if keep is not None else (),
        overwrite=overwrite,
    )
    from omnimatte_cli.segment.make import make_masks

    with terminal_progress(quiet) as progress:
        result = make_masks(source, out, settings, progress, ffmpeg)
    if as_json:
        print(json.dumps(result.facts, indent=1))
    elif not quiet:
        for name in result.names:
            seen = [c for c in result.confidence[name] if c > 0]
            unsure = sum(c < UNSURE for c in seen)
            doubt = f", unsure in {unsure}" if unsure else ""
            print(f"{out / name}: in {len(seen)} of {result.frames} frames{doubt}")
        print(f"Look at {result.preview} before you go on.")


def parse_frames(text: str) -> tuple[int, ...]:
    """ "0,31" to (0, 31), sorted. Raises OptionError."""
    try:
        frames = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        frames = []
    if not frames or frames[0] < 0:
        raise OptionError(f"--keep takes frame numbers with commas between, not {text!r}.")
    return tuple(frames)

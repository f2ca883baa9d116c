"""`omnimatte masks`: options in, `make_masks` called, results printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from omnimatte_cli.errors import OptionError
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.segment.options import MaskSettings

DEFAULTS = MaskSettings()
UNSURE = 0.5  # confidence below which a frame is named to the user


def masks_command(
    source: Annotated[
        Path, typer.Argument(help="Video file, or folder of images.", metavar="VIDEO")
    ],
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
    ] = DEFAULTS.method,
    point: Annotated[
        list[str] | None,
        typer.Option(
            help="A pixel on an object in a frame, such as dog:0:312,180; "
            "with - at the end, not on it. May be repeated.",
            metavar="NAME:FRAME:X,Y[-]",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            help="A box around an object in a frame, such as car:10:50,60,200,180. "
            "May be repeated.",
            metavar="NAME:FRAME:X0,Y0,X1,Y1",
        ),
    ] = None,
    sam: Annotated[
        str | None,
        typer.Option(
            help="Use SAM; downloads the checkpoint once (375 MB, 1.2 GB, 2.6 GB).",
            metavar="vit_b|vit_l|vit_h",
        ),
    ] = DEFAULTS.sam,
    sam_checkpoint: Annotated[
        Path | None, typer.Option(help="Use SAM with this checkpoint file.", metavar="FILE")
    ] = DEFAULTS.sam_checkpoint,
    every: Annotated[
        int, typer.Option(help="SAM looks at every K-th frame; optical flow does the others.")
    ] = DEFAULTS.every,
    max_objects: Annotated[
        int, typer.Option(help="The most objects to keep where none is pointed at.")
    ] = DEFAULTS.max_objects,
    from_masks: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Masks to carry anew from the frames in --keep.", metavar="MASKS"
        ),
    ] = DEFAULTS.from_masks,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Frames of --from that are right, such as 0,31: kept as they are.",
            metavar="FRAMES",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="For SAM: auto, cpu, cuda or mps.")] = DEFAULTS.device,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = DEFAULTS.seed,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing result.")
    ] = DEFAULTS.overwrite,
    ffmpeg: Annotated[
        Path | None,
        typer.Option("--ffmpeg", help="The ffmpeg program to encode with.", metavar="PATH"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print masks.json.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Make rough masks of the objects in VIDEO: what moves, or what you point at."""
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
        typer.echo(json.dumps(result.facts, indent=1))
    elif not quiet:
        for name in result.names:
            seen = [c for c in result.confidence[name] if c > 0]
            unsure = sum(c < UNSURE for c in seen)
            doubt = f", unsure in {unsure}" if unsure else ""
            typer.echo(f"{out / name}: in {len(seen)} of {result.frames} frames{doubt}")
        typer.echo(f"Look at {result.preview} before you go on.")


def parse_frames(text: str) -> tuple[int, ...]:
    """ "0,31" to (0, 31), sorted. Raises OptionError."""
    try:
        frames = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError:
        frames = []
    if not frames or frames[0] < 0:
        raise OptionError(f"--keep takes frame numbers with commas between, not {text!r}.")
    return tuple(frames)

"""`omnimatte decompose` and `omnimatte background`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import (
    Boxes,
    FFmpeg,
    Json,
    MasksFolder,
    MaxObjects,
    Overwrite,
    Passes,
    Points,
    Quiet,
    SamCheckpoint,
    SamModel,
    Verbose,
    Video,
    friendly,
    set_up_logging,
)
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.segment.options import MaskSettings
from omnimatte_cli.settings import CPU_ITERATIONS, GPU_ITERATIONS, Settings, check, parse_size


@friendly
def decompose(
    source: Video,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.", metavar="DIR")],
    masks: MasksFolder = None,
    point: Points = None,
    box: Boxes = None,
    sam: SamModel = None,
    sam_checkpoint: SamCheckpoint = None,
    max_objects: MaxObjects = MaskSettings.max_objects,
    order: Annotated[
        str | None,
        typer.Option(help="Object names back to front, separated by commas.", metavar="A,B"),
    ] = Settings.order,
    background: Annotated[
        Path | None,
        typer.Option(
            help="Image, video or folder to use as the plate; default: estimated.", metavar="PATH"
        ),
    ] = Settings.background,
    method: Annotated[
        str,
        typer.Option(
            help="coordination finetunes on the clip (the paper), ownership answers in seconds, "
            "auto: coordination on a GPU, ownership on a CPU."
        ),
    ] = Settings.method,
    passes: Passes = Settings.passes,
    iterations: Annotated[
        int | None,
        typer.Option(
            help="Finetuning steps; 0 uses the weights as they are. "
            f"Default: {GPU_ITERATIONS} on a GPU, {CPU_ITERATIONS} on a CPU."
        ),
    ] = Settings.iterations,
    batch_size: Annotated[int, typer.Option(help="Windows a step.")] = Settings.batch_size,
    lr: Annotated[float, typer.Option(help="Learning rate.")] = Settings.lr,
    gap: Annotated[
        int | None,
        typer.Option(
            help="Frames from one frame of a window to the next. Default: 1 for coordination, a "
            "quarter of a second for ownership."
        ),
    ] = Settings.gap,
    hiding: Annotated[
        str, typer.Option(help="Which 3 of 5 frames are hidden in training: random or prediction.")
    ] = Settings.hiding,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = Settings.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = Settings.device,
    weights: Annotated[
        str,
        typer.Option(help="Weights: a shipped name, a file, none or auto.", metavar="NAME|PATH"),
    ] = Settings.weights,
    size: Annotated[
        str | None,
        typer.Option(
            help="Working size, multiples of 16. Default: the area of 128x224 in that aspect.",
            metavar="HxW",
        ),
    ] = None,
    owner: Annotated[
        str,
        typer.Option(
            help="Who says, after finetuning, whose each change is: layers (the predicted ones), "
            "network (the ownership network) or product (both)."
        ),
    ] = Settings.owner,
    bootstrap: Annotated[
        str, typer.Option(help="What finetuning's mask loss starts from: mask or ownership.")
    ] = Settings.bootstrap,
    detail: Annotated[
        str, typer.Option(help="How layers reach full size: resolve or transfer.")
    ] = Settings.detail,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Also write background/, the plate with what no layer owns."),
    ] = Settings.exact,
    overwrite: Overwrite = Settings.overwrite,
    ffmpeg: FFmpeg = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Split VIDEO into one RGBA layer per object and a clean plate."""
    set_up_logging(verbose)
    prompted = point or box or sam or sam_checkpoint
    check(not (masks and prompted), "--masks contradicts --point, --box and --sam")
    settings = Settings(
        masks=masks,
        making=MaskSettings(
            points=tuple(point or ()),
            boxes=tuple(box or ()),
            sam=sam,
            sam_checkpoint=sam_checkpoint,
            max_objects=max_objects,
            device=device,
        ),
        order=order,
        background=background,
        method=method,  # type: ignore[arg-type]
        passes=passes,
        iterations=iterations,
        batch_size=batch_size,
        lr=lr,
        gap=gap,
        hiding=hiding,  # type: ignore[arg-type]  # Settings checks it
        seed=seed,
        device=device,  # type: ignore[arg-type]
        weights=weights,
        size=parse_size(size) if size else None,
        owner=owner,  # type: ignore[arg-type]
        bootstrap=bootstrap,  # type: ignore[arg-type]
        detail=detail,  # type: ignore[arg-type]
        exact=exact,
        overwrite=overwrite,
        ffmpeg=ffmpeg,
    )
    from omnimatte_cli.pipeline import decompose as run

    with terminal_progress(quiet) as progress:
        result = run(source, out, settings, progress)
    if as_json:
        print(json.dumps(result.manifest, indent=2))
    elif not quiet:
        print_result(result.manifest, out)


def print_result(manifest: dict[str, Any], out: Path) -> None:
    """Where the result is and how good it is, in a few lines on stdout."""
    psnr = manifest["psnr"]
    seconds = sum(manifest["seconds"].values())
    print(f"{len(manifest['objects']['names'])} layers of {manifest['input']['frames']} frames")
    for name in manifest["objects"]["names"]:
        print(f"  {out / 'layers' / name}")
    print(f"  {out / 'background.png'}, composite.mp4, preview.mp4, manifest.json")
    whole = psnr["after_detail"]
    inside = psnr["after_detail_in_layers"]
    inside_text = f", {inside:.1f} dB inside the layers" if inside is not None else ""
    print(f"The layers over the plate match the video to {whole:.1f} dB{inside_text}.")
    print(f"Time: {seconds:.0f} s.")


@friendly
def background(
    source: Video,
    out: Annotated[Path, typer.Option("-o", "--out", help="Image to write.", metavar="IMAGE")],
    masks: MasksFolder = None,
    passes: Passes = Settings.passes,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the clean plate of VIDEO: the median of the frames where a pixel is in no mask."""
    set_up_logging(verbose)
    from omnimatte_cli.pipeline import write_background

    with terminal_progress(quiet) as progress:
        write_background(source, masks, out, passes, overwrite, progress)
    if not quiet:
        print(out)

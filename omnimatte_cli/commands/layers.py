"""`omnimatte layers`: layers from solo videos and a clean background that any model made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import (
    Json,
    Overwrite,
    Quiet,
    Verbose,
    Video,
    friendly,
    set_up_logging,
)
from omnimatte_cli.commands.decompose import print_result
from omnimatte_cli.commands.options import takes
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import READING, Settings, parse_size


@friendly
@takes(shared=(Settings, (*READING, "start_frame", "invert_masks")))
def layers(
    source: Video,
    solo: Annotated[
        list[str],
        typer.Option(
            "--solo",
            help="The video in which one object is left, with its effects, such as dog=dog.mp4; "
            "once for each object. auto makes all of them here, by ownership.",
            metavar="NAME=VIDEO|auto",
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.", metavar="DIR")],
    shared: dict[str, Any],
    background: Annotated[
        Path | None,
        typer.Option(
            help="The video (or image) without any object. With --solo auto: estimated.",
            metavar="PATH",
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks",
            help="Folder with a folder of images or a video per object, or with indexed PNGs. "
            "Default: guessed from the solo videos.",
            metavar="DIR",
        ),
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            help="Object names back to front, separated by commas. Default: order.txt in --masks, "
            "else by which mask reaches lower.",
            metavar="A,B",
        ),
    ] = None,
    depth: Annotated[
        Path | None,
        typer.Option(help="Depth video, brighter is nearer, for the order.", metavar="VIDEO"),
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            help="closed: no optimisation. base: alpha optimised at about 128 pixels. full: "
            "optimised at full size too. auto: full on a GPU, closed on a CPU."
        ),
    ] = "auto",
    steps: Annotated[
        int | None, typer.Option(help="Steps of each optimisation. Default: 400.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="Size of the base optimisation, multiples of 32. Default: the area of 224x128.",
            metavar="WxH",
        ),
    ] = None,
    keep_colours: Annotated[
        bool,
        typer.Option(
            "--keep-colours", help="Leave the solo videos' colours also where a layer is opaque."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Also write background/, the plate with what no layer owns."),
    ] = False,
    overwrite: Overwrite = False,
    ffmpeg: Annotated[
        Path | None,
        typer.Option("--ffmpeg", help="The ffmpeg program to encode with.", metavar="PATH"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Split VIDEO into layers with the help of a removal model's solo videos and background."""
    set_up_logging(verbose)
    from omnimatte_cli.methods.generative.options import GenerativeOptions
    from omnimatte_cli.methods.generative.solos import parse_solos

    solos = parse_solos(solo)
    options = GenerativeOptions(
        fit=fit,  # type: ignore[arg-type]  # checked there
        steps=steps,
        seed=seed,
        detail=not keep_colours,
    )
    shape = parse_size(size) if size else None
    from omnimatte_cli.media.options import reading
    from omnimatte_cli.solo_pipeline import LayersSettings
    from omnimatte_cli.solo_pipeline import layers as run

    settings = LayersSettings(
        solos=solos,
        background=background,
        masks=masks,
        order=order,
        depth=depth,
        options=options,
        size=shape,
        device=device,  # type: ignore[arg-type]
        exact=exact,
        overwrite=overwrite,
        ffmpeg=ffmpeg,
        reading=reading(Settings(**shared)),
    )
    with terminal_progress(quiet) as progress:
        result = run(source, out, settings, progress)
    if as_json:
        print(json.dumps(result.manifest, indent=2))
    elif not quiet:
        print_result(result.manifest, out, result.report)

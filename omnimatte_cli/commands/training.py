"""`omnimatte synth`, `pretrain` and `evaluate`: rendered scenes, networks from them, scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import OutFolder, Quiet, Verbose, friendly, set_up_logging
from omnimatte_cli.options import check
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import Settings, parse_size
from omnimatte_cli.synth.seeds import DATASET_SEEDS, EFFECTS
from omnimatte_cli.terminal import printable, rich_console
from omnimatte_cli.training.recipe import (
    CENTRIFUGE,
    MATTING,
    BlendRecipe,
    CutoutRecipe,
    Recipe,
    make_recipe,
)

WIDTH = 180  # columns of the table where the output is no terminal
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


@friendly
def synth(
    out: OutFolder,
    count: Annotated[int, typer.Option(help="Scenes to write.")] = 10,
    objects: Annotated[int, typer.Option(help="Objects a scene, 1 to 5.")] = 2,
    effect: Annotated[str, typer.Option(help="shadow, reflection, both or mixed.")] = "both",
    size: Annotated[str, typer.Option(help="Width and height: 128 or 224x128.")] = "128",
    frames: Annotated[int, typer.Option(help="Frames a scene, at 12 a second.")] = 24,
    seed: Annotated[int, typer.Option(help="Seed of the first scene.")] = 0,
    textures: Annotated[
        Path | None, typer.Option(help="Folder of pictures for surfaces.", metavar="DIR")
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Render scenes with true layers, in the layout that `evaluate` reads."""
    set_up_logging(verbose)
    check(count >= 1, "--count must be at least 1")
    check(1 <= objects <= 5, "--objects must be from 1 to 5")
    check(effect in EFFECTS, f"--effect takes {', '.join(EFFECTS)}, not {effect!r}")
    check(frames >= 3, "--frames must be at least 3")
    check(seed >= 0, "--seed must be 0 or more")
    height, width = parse_size(size if "x" in size.lower() else f"{size}x{size}")
    check(min(height, width) >= 32, "--size must be at least 32")
    check(textures is None or textures.is_dir(), f"--textures: no folder {textures}")
    from omnimatte_cli.synth.dataset import write_dataset

    with terminal_progress(quiet) as progress:
        write_dataset(
            out,
            count,
            objects,
            effect,
            (height, width),
            frames,
            DATASET_SEEDS + seed,
            progress,
            textures=textures,
        )
    if not quiet:
        print(out)


@friendly
def pretrain(
    out: OutFolder,
    network: Annotated[
        str, typer.Option(help="coordination, ownership, centrifuge or matting.")
    ] = Recipe.network,
    width: Annotated[
        int | None,
        typer.Option(help=f"Width of the coordination network. Default: {Recipe.width}."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help=f"Width and height: 64 or 224x128. Default: {Recipe.height}, of the matting "
            f"network {CutoutRecipe.height}."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help=f"Optimiser steps. Default: {Recipe.steps}, of the centrifuge "
            f"{BlendRecipe.steps}, of the matting network {CutoutRecipe.steps}."
        ),
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option(
            help="Folder of videos that the centrifuge trains on beside rendered clips.",
            metavar="DIR",
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="Folder of photographs that the centrifuge's clips are filmed from, on the "
            "training device; pictures with transparency are things that move in them.",
            metavar="DIR",
        ),
    ] = None,
    warm_start: Annotated[
        Path | None, typer.Option(help="Weights to begin with.", metavar="FILE")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Any other choice of the recipe, such as --set lr=0.0005 --set objects=2,3; "
            "see omnimatte_cli/training/recipe.py.",
            metavar="NAME=VALUE",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Save and stop after this long; run again to go on.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads that training computes with.")
    ] = None,
    device: Device = Settings.device,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train a network on clips or pictures made for it. An interrupted run goes on."""
    set_up_logging(verbose)
    named: dict[str, Any] = {"network": network}
    if size is not None:
        sides = parse_size(size if "x" in size.lower() else f"{size}x{size}")
        named["height"], named["width_pixels"] = sides
    centrifuge = network == CENTRIFUGE
    for flag, value, fits in (
        ("width", width, network not in (CENTRIFUGE, MATTING)),
        ("steps", steps, True),
        ("videos", videos, centrifuge),
        ("photos", photos, centrifuge),
    ):
        check(value is None or fits, f"--{flag} is not for --network {network}")
        named |= {} if value is None else {flag: value}
    recipe = make_recipe(named, options or [])
    import torch

    from omnimatte_cli import device as devices
    from omnimatte_cli.training.loop import pretrain as run

    if threads is not None:
        check(threads >= 1, "--threads must be at least 1")
        torch.set_num_threads(threads)
    seconds = None if minutes is None else 60 * minutes
    with terminal_progress(quiet) as progress:
        weights = run(recipe, out, devices.choose(device), progress, warm_start, seconds)
    if not quiet:
        print(weights)


@friendly
def evaluate(
    dataset: Annotated[
        Path, typer.Argument(help="Folder of videos, or of sets of videos.", metavar="DATASET")
    ],
    out: OutFolder,
    method: Annotated[
        list[str] | None,
        typer.Option(help="A method, or bound (the truth); may be repeated. Default: ownership."),
    ] = None,
    plate: Annotated[
        list[str] | None, typer.Option(help="estimated, true or own; may be repeated.")
    ] = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="A name, a file, none or auto; each goes to the method it is for. May be repeated."
        ),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            help="Score with each value of a method's option, such as iterations=0,200; "
            "`omnimatte decompose --help-set` lists them. May be repeated.",
            metavar="NAME=A,B",
        ),
    ] = None,
    subset: Annotated[int | None, typer.Option(help="The first K videos of each set.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = Settings.seed,
    device: Device = Settings.device,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Score decompositions of videos whose true layers are known. Goes on where it stopped."""
    set_up_logging(verbose)
    from omnimatte_cli.evaluation.variants import BOUND, PLATES, make_variants
    from omnimatte_cli.methods import registry

    methods, plates = method or ["ownership"], plate or ["estimated"]
    for name, values, known in (
        ("method", methods, (*registry.METHODS, BOUND)),
        ("plate", plates, PLATES),
    ):
        for value in values:
            check(value in known, f"--{name} takes {', '.join(known)}, not {value!r}")
    check(subset is None or subset >= 1, "--subset must be at least 1")
    variants = make_variants(methods, plates, weights or ["auto"], vary or ())
    from omnimatte_cli import device as devices
    from omnimatte_cli.evaluation import runner, scores
    from omnimatte_cli.evaluation.truth import find_videos

    videos = find_videos(dataset, subset)
    with terminal_progress(quiet) as progress, devices.deterministic():
        results = runner.evaluate(videos, variants, out, seed, devices.choose(device), progress)
    if not quiet:
        print_table(scores.summarise(results))
        print(f"{out / 'summary.csv'}, {out / 'summary.json'}")


def print_table(lines: list[dict]) -> None:
    """One line a way of answering and set."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for name, value in lines[0].items():
        right = isinstance(value, int | float)
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for line in lines:
        cells = (
            f"{v:.3f}" if isinstance(v, float) else "-" if v is None else str(v)
            for v in line.values()
        )
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = rich_console()
    (console if console.is_terminal else rich_console(width=WIDTH)).print(table)

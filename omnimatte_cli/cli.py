"""The command line: options in, pipeline called, results printed. The only user of typer.

Heavy modules are imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

import functools
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli import __version__
from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.settings import CPU_ITERATIONS, GPU_ITERATIONS, Settings, parse_size

INTERRUPTED = 130

app = typer.Typer(
    help="Split a video into one RGBA layer per object, with its shadows and reflections, "
    "and a clean plate of the background.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
weights_app = typer.Typer(help="Weights files: list them, convert the authors'.", no_args_is_help=True)
app.add_typer(weights_app, name="weights")


def friendly(command: Callable[..., None]) -> Callable[..., None]:
    """One sentence and an exit code in place of a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except OmnimatteError as e:
            fail(str(e), e.exit_code)
        except KeyboardInterrupt:
            fail("Interrupted.", INTERRUPTED)
        except BrokenPipeError:
            raise typer.Exit(1) from None
        except MemoryError:
            fail("Not enough memory: try a smaller --size or --batch-size.", 1)
        except OSError as e:
            logging.getLogger(__name__).info("traceback", exc_info=True)
            where = f" ({e.filename})" if e.filename else ""
            fail(f"{e.strerror or e}{where}.", 1)
        except Exception as e:
            logging.getLogger(__name__).info("traceback", exc_info=True)
            fail(f"Internal error: {type(e).__name__}: {e} (-v shows where; please report it).", 1)

    return run


def fail(message: str, code: int) -> None:
    """Print one sentence to stderr and leave."""
    print(f"Error: {message}" if code != INTERRUPTED else message, file=sys.stderr)
    raise typer.Exit(code)


def show_version(value: bool) -> None:
    if value:
        print(f"omnimatte {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options of every command."""


Video = Annotated[Path, typer.Argument(help="Video file, or folder of images.", metavar="VIDEO")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print what is decided on the way.")]
Json = Annotated[bool, typer.Option("--json", help="Print the facts of the result as JSON.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")]
MasksFolder = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        help="Folder with a folder of images or a video per object, or with indexed PNGs.",
        metavar="DIR",
    ),
]
FFmpeg = Annotated[
    Path | None, typer.Option("--ffmpeg", help="The ffmpeg program to encode with.", metavar="PATH")
]


def set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(message)s", stream=sys.stderr
    )


@app.command()
@friendly
def decompose(
    source: Video,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write.", metavar="DIR")],
    masks: MasksFolder = None,
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
        int, typer.Option(help="Frames from one frame of a window to the next.")
    ] = Settings.gap,
    hiding: Annotated[
        str, typer.Option(help="Which 3 of 5 frames are hidden in training: random or prediction.")
    ] = Settings.hiding,
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = Settings.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = Settings.device,
    weights: Annotated[
        str, typer.Option(help="Weights: a shipped name, a file, none or auto.", metavar="NAME|PATH")
    ] = Settings.weights,
    size: Annotated[
        str | None,
        typer.Option(
            help="Working size, multiples of 16. Default: the area of 128x224 in the video's aspect.",
            metavar="HxW",
        ),
    ] = None,
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
    settings = Settings(
        masks=masks,
        order=order,
        background=background,
        iterations=iterations,
        batch_size=batch_size,
        lr=lr,
        gap=gap,
        hiding=hiding,  # type: ignore[arg-type]  # Settings checks it
        seed=seed,
        device=device,  # type: ignore[arg-type]
        weights=weights,
        size=parse_size(size) if size else None,
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


@app.command()
@friendly
def background(
    source: Video,
    out: Annotated[Path, typer.Option("-o", "--out", help="Image to write.", metavar="IMAGE")],
    masks: MasksFolder = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the clean plate of VIDEO: the median of the frames where a pixel is in no mask."""
    set_up_logging(verbose)
    from omnimatte_cli.pipeline import write_background

    with terminal_progress(quiet) as progress:
        write_background(source, masks, out, overwrite, progress)
    if not quiet:
        print(out)


@weights_app.command("import")
@friendly
def import_weights(
    folder: Annotated[
        Path, typer.Argument(help="Folder with tree.pkl and arrays.npy.", metavar="DIR")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.", metavar="FILE")],
    overwrite: Overwrite = False,
) -> None:
    """Convert the authors' released checkpoint. Nothing in it is executed."""
    from omnimatte_cli.checkpoint import import_checkpoint
    from omnimatte_cli.export import check_file

    check_file(out, overwrite, (".safetensors",))
    facts = import_checkpoint(folder, out)
    print(f"{facts['file']}: {facts['parameters']} parameters, width {facts['width']}")


@weights_app.command("list")
@friendly
def list_weights() -> None:
    """Print the weights that come with the tool."""
    from omnimatte_cli import weights

    names = weights.shipped_names()
    for name in names:
        metadata = weights.read_metadata(weights.shipped_folder() / f"{name}.safetensors")
        facts = (f"{k} {metadata[k]}" for k in ("network", "width", "samples", "date") if k in metadata)
        print(f"{name}: {', '.join(facts)}")
    if not names:
        print("No weights are shipped with this version.", file=sys.stderr)

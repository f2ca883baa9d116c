"""The command line: the commands, put together.

Heavy modules are imported inside the commands, so that --help answers at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from omnimatte_cli import __version__
from omnimatte_cli.commands import (
    batch,
    compose,
    convert,
    decompose,
    doctor,
    join,
    layers,
    masks,
    report,
    training,
    trimask,
    unmix,
    weights,
)

app = typer.Typer(
    help="Split a video into one RGBA layer per object, with its shadows and reflections, "
    "and a clean plate of the background.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(decompose.decompose)
app.command()(decompose.background)
app.command()(batch.batch)
app.command()(join.join)
app.command()(compose.compose)
app.command()(convert.convert)
app.command()(report.report)
app.command()(masks.masks)
app.command()(layers.layers)
app.command()(trimask.trimask)
app.command()(unmix.unmix)
app.command()(doctor.doctor)
app.command()(training.synth)
app.command()(training.pretrain)
app.command()(training.evaluate)
app.add_typer(weights.app, name="weights")


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

"""`omnimatte weights`: list the shipped files, convert the authors' checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import friendly
from omnimatte_cli.commands.options import takes
from omnimatte_cli.settings import Settings

app = typer.Typer(help="Weights files: list them, convert the authors'.", no_args_is_help=True)


@app.command("import")
@friendly
@takes(shared=(Settings, ("overwrite",)))
def import_weights(
    folder: Annotated[
        Path, typer.Argument(help="Folder with tree.pkl and arrays.npy.", metavar="DIR")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.", metavar="FILE")],
    shared: dict[str, Any],
) -> None:
    """Convert the authors' released checkpoint. Nothing in it is executed."""
    from omnimatte_cli.media.encode import check_file
    from omnimatte_cli.methods.coordination.checkpoint import import_checkpoint

    check_file(out, shared["overwrite"], (".safetensors",))
    facts = import_checkpoint(folder, out)
    print(f"{facts['file']}: {facts['parameters']} parameters, width {facts['width']}")


@app.command("list")
@friendly
def list_weights() -> None:
    """Print the weights that come with the tool."""
    from omnimatte_cli.methods import weights

    names = weights.shipped_names()
    for name in names:
        metadata = weights.read_metadata(weights.shipped_folder() / f"{name}.safetensors")
        facts = (
            f"{k} {metadata[k]}" for k in ("network", "width", "samples", "date") if k in metadata
        )
        print(f"{name}: {', '.join(facts)}")
    if not names:
        print("No weights are shipped with this version.", file=sys.stderr)

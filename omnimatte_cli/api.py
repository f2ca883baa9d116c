"""The Python interface: what the command line does, as a function."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnimatte_cli.errors import OptionError
from omnimatte_cli.options import check, types_of, unknown_name
from omnimatte_cli.progress import Progress
from omnimatte_cli.settings import PROMPTS, MaskSettings, Settings

if TYPE_CHECKING:
    from omnimatte_cli.pipeline import Result

PathLike = str | os.PathLike[str]


def decompose(
    source: PathLike,
    out: PathLike,
    *,
    progress: Progress | None = None,
    set: dict[str, Any] | None = None,
    **options: Any,
) -> Result:
    """Split a video into one RGBA layer per object and a clean plate.

    source: video file or folder of images. out: folder to write. progress: see
    `omnimatte_cli.progress`; None is silent. set: a method's own choices, as in `--set`. options:
    the fields of `omnimatte_cli.settings.Settings`, and points, boxes, sam and max_objects, which
    say how masks are made: the options of `omnimatte decompose`. Paths may be strings.
    Returns paths and figures. Raises `omnimatte_cli.errors.InputError` (or a kind of it) for wrong
    input and options, `OmnimatteError` for other failures; `out` is then as it was.
    """
    from omnimatte_cli.pipeline import decompose as run

    settings = make_settings(set or {}, options)
    return run(Path(source), Path(out), settings, progress)


def make_settings(set: dict[str, Any], options: dict[str, Any]) -> Settings:
    """Settings from keyword arguments. Raises OptionError for one that does not exist."""
    kinds = types_of(Settings)
    known = [f.name for f in fields(Settings)]
    prompts = {name: options.pop(name) for name in PROMPTS if name in options}
    if prompts:
        check(
            "making" not in options, f"{' and '.join(prompts)} belong into making, which is given"
        )
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in prompts.items()
        }
        options["making"] = MaskSettings(**lists)
    for name, value in options.items():
        if name not in known:
            raise OptionError(str(unknown_name(name, known)).replace("--set ", ""))
        if isinstance(value, str | os.PathLike) and kinds[name] == Path | None:
            options[name] = Path(value)
        elif isinstance(value, os.PathLike):
            options[name] = os.fspath(value)
    pairs = tuple(f"{k}={_text(v)}" for k, v in set.items())
    return Settings(**options, assignments=(*options.pop("assignments", ()), *pairs))


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)

"""The Python interface: the same work and the same defaults as the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from omnimatte_cli.progress import Progress
from omnimatte_cli.segment.options import MaskSettings
from omnimatte_cli.settings import (
    Bootstrap,
    Detail,
    DeviceName,
    Hiding,
    Method,
    Owner,
    Settings,
)

if TYPE_CHECKING:
    from omnimatte_cli.pipeline import Result

PathLike = str | os.PathLike[str]


def decompose(
    source: PathLike,
    *,
    out: PathLike,
    masks: PathLike | None = None,
    making: MaskSettings | None = None,
    order: str | None = Settings.order,
    background: PathLike | None = None,
    method: Method = Settings.method,
    passes: int = Settings.passes,
    iterations: int | None = Settings.iterations,
    batch_size: int = Settings.batch_size,
    lr: float = Settings.lr,
    gap: int | None = Settings.gap,
    hiding: Hiding = Settings.hiding,
    seed: int = Settings.seed,
    device: DeviceName = Settings.device,
    weights: str | os.PathLike[str] = Settings.weights,
    size: tuple[int, int] | None = Settings.size,
    owner: Owner = Settings.owner,
    bootstrap: Bootstrap = Settings.bootstrap,
    detail: Detail = Settings.detail,
    exact: bool = Settings.exact,
    overwrite: bool = Settings.overwrite,
    ffmpeg: PathLike | None = None,
    progress: Progress | None = None,
) -> Result:
    """Split a video into one RGBA layer per object and a clean plate.

    source: video file or folder of images. out: folder to write. The options are those of
    `omnimatte decompose`, described in `omnimatte_cli.settings.Settings`; without masks they are
    made first, as `making` says. progress: see
    `omnimatte_cli.progress`; None is silent.
    Returns paths and figures. Raises `omnimatte_cli.errors.InputError` (or a kind of it) for wrong
    input and options, `OmnimatteError` for other failures; `out` is then as it was.
    """
    from omnimatte_cli.pipeline import decompose as run

    def path(value: PathLike | None) -> Path | None:
        return None if value is None else Path(value)

    settings = Settings(
        masks=path(masks),
        making=making or MaskSettings(),
        order=order,
        background=path(background),
        method=method,
        passes=passes,
        iterations=iterations,
        batch_size=batch_size,
        lr=lr,
        gap=gap,
        hiding=hiding,
        seed=seed,
        device=device,
        weights=os.fspath(weights),
        size=size,
        owner=owner,
        bootstrap=bootstrap,
        detail=detail,
        exact=exact,
        overwrite=overwrite,
        ffmpeg=path(ffmpeg),
    )
    return run(Path(source), Path(out), settings, progress)

"""Rough masks where the user has none: what moves, what SAM sees, and what is carried along.

`make.make_masks` is the entry; importing this package alone is cheap.
"""

from __future__ import annotations

from pathlib import Path

from omnimatte_cli.progress import Progress
from omnimatte_cli.segment.result import MaskResult
from omnimatte_cli.settings import MaskSettings

__all__ = ["MaskResult", "MaskSettings", "make_masks"]


def make_masks(
    video: Path,
    out: Path,
    settings: MaskSettings | None = None,
    progress: Progress | None = None,
    ffmpeg: Path | str | None = None,
) -> MaskResult:
    """Make rough masks of a video's objects in the folder `out`; see `make.make_masks`."""
    from omnimatte_cli.segment import make

    return make.make_masks(video, out, settings, progress, ffmpeg)

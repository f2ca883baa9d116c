"""What is made from a finished result, once it stands in its place: scripts and report.

A failure or an interrupt here costs neither layers nor plate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnimatte_cli.arrays import Masks
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.deliver.report import write_report
from omnimatte_cli.deliver.scripts import write_scripts
from omnimatte_cli.deliver.survey import FrameAt
from omnimatte_cli.progress import Progress


def finish_result(
    folder: Path,
    formats: Sequence[str],
    report: bool,
    progress: Progress,
    masks: Masks | None = None,
    frames: FrameAt | None = None,
) -> Path | None:
    """Write the scripts and the time line, if `formats` were asked for, and report.html.

    masks, frames: what the layers were made from; None: what the manifest names is read. Returns
    the report's path, or None where none was wanted.
    """
    result = read_result(folder)
    if formats:
        numbers = result.input.frame_numbers
        write_scripts(folder, formats, result, result.delivery(), numbers, progress)
    return write_report(result, progress, masks, frames) if report else None

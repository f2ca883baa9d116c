"""What `omnimatte convert` can be told. No heavy library: this is read for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omnimatte_cli.options import check, like, option
from omnimatte_cli.settings import FORMATS, Settings, check_formats, check_start, parse_colour


@dataclass(frozen=True)
class ConvertSettings:
    """Everything that `convert` can be told."""

    formats: tuple[str, ...] = option(
        (),
        "png (8 bits), png16, prores (ProRes 4444 with alpha), webm (VP9 with alpha), exr "
        "(multi-layer, linear) or mp4 (colour over --matte-color, and a matte).",
        flag="--format",
        metavar="FORMAT",
        repeated=True,
    )
    start_frame: int | None = like(
        Settings,
        "start_frame",
        "Number of the first frame in file names; default: as in the result.",
    )
    matte_color: str = like(Settings, "matte_color")
    clean: bool = option(False, "Deliver the clean plate, not the residual one.", flag="--clean")
    overwrite: bool = like(Settings, "overwrite", "Replace formats that are there.")
    ffmpeg: Path | None = like(Settings, "ffmpeg")

    def __post_init__(self) -> None:
        check(bool(self.formats), f"--format is needed: {', '.join(FORMATS)}")
        check_formats(self.formats)
        check_start(self.start_frame)
        parse_colour("matte-color", self.matte_color)

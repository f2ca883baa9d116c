"""What `omnimatte compose` can be told. No heavy library: this is read for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omnimatte_cli.deliver.options import ConvertSettings
from omnimatte_cli.options import check, like, option
from omnimatte_cli.settings import Settings, check_formats, check_start, parse_colour

TRANSPARENT = "transparent"


@dataclass(frozen=True)
class ComposeSettings:
    """Everything that `compose` can be told. Edits are texts here; `parse.parse_edits` reads them.

    Pixels and frames are the video's, frames from 0.
    """

    remove: tuple[str, ...] = option((), "Leave an object out.", metavar="NAME", repeated=True)
    only: tuple[str, ...] = option(
        (), "Leave all other objects out.", metavar="NAME", repeated=True
    )
    background: str | None = option(
        None,
        "What goes in the plate's place: an image, a video, a colour, or transparent.",
        metavar="FILE|#RRGGBB|transparent",
    )
    clean: bool = option(
        False,
        "Over the clean plate, without what no layer owns (strangers, grain).",
        flag="--clean",
    )
    offset: tuple[str, ...] = option(
        (), "Move an object right and down, in pixels.", metavar="NAME:DX,DY", repeated=True
    )
    scale: tuple[str, ...] = option(
        (), "Scale an object about its feet.", metavar="NAME:FACTOR", repeated=True
    )
    delay: tuple[str, ...] = option(
        (), "Show an object later (or with -N, earlier).", metavar="NAME:FRAMES", repeated=True
    )
    speed: tuple[str, ...] = option(
        (), "Slow or hasten an object.", metavar="NAME:FACTOR", repeated=True
    )
    freeze: tuple[str, ...] = option(
        (), "Hold an object at one frame.", metavar="NAME:FRAME", repeated=True
    )
    strobe: tuple[str, ...] = option(
        (),
        "Leave a still image of an object every so many frames.",
        metavar="NAME:EVERY",
        repeated=True,
    )
    duplicate: tuple[str, ...] = option(
        (), "Add a copy, moved and later.", metavar="NAME:DX,DY,FRAMES", repeated=True
    )
    opacity: tuple[str, ...] = option(
        (), "Multiply an object's alpha.", metavar="NAME:FACTOR", repeated=True
    )
    shadow: tuple[str, ...] = option(
        (),
        "Multiply the alpha of an object's effects alone.",
        metavar="NAME:FACTOR",
        repeated=True,
    )
    color: tuple[str, ...] = option(
        (),
        "Show an object in grey or shades of a colour.",
        metavar="NAME:gray|#RRGGBB",
        repeated=True,
    )
    formats: tuple[str, ...] = option(
        (),
        "png, png16, prores, webm, exr or mp4; default: by the name. With several, --out is a "
        "folder, which gets composite.mp4 and so on, and a folder for each kind of images.",
        flag="--format",
        metavar="FORMAT",
        repeated=True,
    )
    start_frame: int | None = like(ConvertSettings, "start_frame")
    no_audio: bool = like(Settings, "no_audio", "Leave the input's sound out.")
    overwrite: bool = like(Settings, "overwrite", "Replace what is there.")
    ffmpeg: Path | None = like(Settings, "ffmpeg")

    def __post_init__(self) -> None:
        check_formats(self.formats)
        check_start(self.start_frame)
        check(
            not (self.clean and self.background is not None),
            "--clean and --background contradict each other: give one",
        )
        if self.background is not None and self.background.startswith("#"):
            parse_colour("background", self.background)

    @property
    def transparent(self) -> bool:
        """Whether nothing goes in the plate's place."""
        return self.background == TRANSPARENT

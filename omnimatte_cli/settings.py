"""What a user chooses, with defaults and units. Defaults live here and nowhere else.

The numerics of a method are its own (`methods/<name>/options.py`) and are set with
`--set NAME=VALUE`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from omnimatte_cli.errors import OptionError
from omnimatte_cli.options import (
    Assignment,
    check,
    check_seed,
    check_size,
    check_words,
    like,
    option,
)

SMALLEST_AREA = 80 * 80  # pixels of a working size: the networks met hardly any smaller pictures
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PASSES = ("body", "shadow", "reflection")
FORMATS = ("png", "png16", "prores", "webm", "exr", "mp4")
SAM_MODELS = ("vit_b", "vit_l", "vit_h")
# Fields of Settings that say how a video is read: every command that reads one takes them.
READING = ("frames", "begin", "end", "fps", "stream", "deinterlace", "tone_map")


PROMPTS = ("points", "boxes", "sam", "max_objects")  # what `decompose` takes of MaskSettings


@dataclass(frozen=True)
class MaskSettings:
    """How rough masks are made."""

    method: Literal["auto", "motion", "sam"] = option(
        "auto",
        "motion: what moves over the scene. sam: segment-anything. "
        "auto: sam if one is named, else motion.",
        metavar="auto|motion|sam",
    )
    points: tuple[str, ...] = option(
        (),
        "A pixel on an object in a frame, such as dog:0:312,180; with - at the end, not on it.",
        flag="--point",
        metavar="NAME:FRAME:X,Y[-]",
        repeated=True,
    )
    boxes: tuple[str, ...] = option(
        (),
        "A box around an object in a frame, such as car:10:50,60,200,180.",
        flag="--box",
        metavar="NAME:FRAME:X0,Y0,X1,Y1",
        repeated=True,
    )
    sam: str | None = option(
        None,
        "Make masks with SAM: a model, whose checkpoint is downloaded once (375 MB, 1.2 GB, "
        "2.6 GB), or a checkpoint file.",
        metavar="vit_b|vit_l|vit_h|FILE",
    )
    every: int = option(1, "SAM looks at every K-th frame; optical flow does the others.")
    max_objects: int = option(4, "The most objects to find where none is pointed at.")
    device: DeviceName = option("auto", "For SAM: auto, cpu, cuda or mps.")
    seed: int = option(0, "Seed of all random choices.")
    corrected: Path | None = option(
        None, "Masks to carry anew from the frames in --keep.", metavar="MASKS"
    )
    keep: tuple[int, ...] = option(
        (),
        "Frames of --corrected that are right, such as 0,31: kept as they are.",
        metavar="FRAMES",
    )
    overwrite: bool = option(False, "Replace an existing result.")

    def __post_init__(self) -> None:
        check_words(self)
        file = self.sam is not None and ("." in self.sam or "/" in self.sam)
        known = self.sam is None or self.sam in SAM_MODELS or file
        check(known, f"--sam takes {', '.join(SAM_MODELS)} or a checkpoint file, not {self.sam!r}")
        check(self.every >= 1, "--every must be at least 1")
        check(self.max_objects >= 1, "--max-objects must be at least 1")
        check(0 <= self.seed < 2**31, "--seed must be from 0 to 2147483647")
        check(all(t >= 0 for t in self.keep), "--keep takes frame numbers from 0")
        check(
            not self.keep or self.corrected is not None,
            "--keep needs --corrected MASKS (before, this was --from, which is a time now)",
        )
        check(
            self.corrected is None or bool(self.keep),
            "--corrected needs --keep, the frames whose masks are right, such as --keep 0,31",
        )
        if self.uses_sam:
            check(
                self.sam is not None,
                "--method sam needs --sam vit_b (downloads it once) or --sam FILE",
            )
        elif self.sam is not None:
            raise OptionError("--sam contradicts --method motion.")
        check(
            self.corrected is None or not (self.points or self.boxes),
            "--corrected cannot be combined with --point or --box: the kept masks are the prompts",
        )

    @property
    def uses_sam(self) -> bool:
        """Whether segment-anything is to be used."""
        return self.method == "sam" or (self.method == "auto" and self.sam is not None)

    @property
    def sam_model(self) -> str | None:
        """The model whose checkpoint is downloaded; None where a file was given."""
        return self.sam if self.sam in SAM_MODELS else None

    @property
    def sam_checkpoint(self) -> Path | None:
        """The checkpoint file that was given."""
        return None if self.sam is None or self.sam in SAM_MODELS else Path(self.sam)


@dataclass(frozen=True)
class SolveSettings:
    """Numerics that every method shares; set with `--set`."""

    plate_passes: int = option(
        3, "estimates of the plate; the later ones leave out what objects own"
    )
    exact_layers: bool = option(
        False,
        "layers explain every owned pixel by itself, texture and faults of the plate included, "
        "not smoothly",
    )
    continue_hidden: bool = option(
        True,
        "layers go on behind the bodies before them, where the order was given, as other frames "
        "show them or smoothly; false: they have holes there",
    )

    def __post_init__(self) -> None:
        check(1 <= self.plate_passes <= 5, "plate_passes must be from 1 to 5")


@dataclass(frozen=True)
class Settings:
    """Everything that `decompose` can be told; None means decided from device or input."""

    masks: Path | None = option(
        None,
        "Folder with a folder of images or a video per object, or with indexed PNGs; "
        "default: made first.",
        metavar="DIR",
    )
    order: str | None = option(
        None, "Object names back to front, separated by commas.", metavar="A,B"
    )
    background: Path | None = option(
        None, "Image, video or folder to use as the plate; default: estimated.", metavar="PATH"
    )
    camera: Literal["auto", "static", "moving"] = option(
        "auto",
        "static: the camera stands still. moving: it does not. auto: found out and said.",
        metavar="auto|static|moving",
    )
    homographies: Path | None = option(
        None,
        "The camera's motion, as camera.json of an earlier run: 3x3 per frame, frame to canvas.",
        metavar="FILE",
    )
    method: str = option(
        "auto",
        "coordination finetunes on the clip (the paper), ownership answers in seconds; "
        "auto: coordination on a GPU, ownership on a CPU.",
    )
    iterations: int | Literal["auto"] | None = option(
        None,
        "Steps of a method that trains on the clip; 0 uses the weights as they are, auto goes on "
        "until the loss falls no more (coordination alone).",
        metavar="<int>|auto",
    )
    weights: str = option(
        "auto", "Weights: a shipped name, a file, none or auto.", metavar="NAME|PATH"
    )
    assignments: tuple[str, ...] = option(
        (),
        "Any other choice of the method, such as lr=0.0005; --help-set lists them.",
        flag="--set",
        metavar="NAME=VALUE",
        repeated=True,
    )
    size: tuple[int, int] | None = option(
        None,
        "Working size, multiples of 16. Default: the area of 224x128, at most the video's own, in "
        "its aspect.",
        metavar="WxH",
    )
    seed: int = like(MaskSettings, "seed")
    device: DeviceName = option("auto", "auto, cpu, cuda or mps.")
    exact: bool = option(False, "Also write background/, the plate with what no layer owns.")
    strangers: bool = option(
        True,
        "Look for movers without a mask, and keep what they change out of the layers.",
        flag="--strangers/--no-strangers",
    )
    mend_masks: bool = option(
        True,
        "Mend masks that blink: lost or gained parts for a frame or two.",
        flag="--mend-masks/--no-mend-masks",
    )
    passes: tuple[str, ...] = option(
        (),
        "Also write parts of each layer, which over each other are the layer: body, shadow, "
        "reflection.",
        metavar="A,B",
    )
    formats: tuple[str, ...] = option(
        (),
        "More formats of the layers: png16, prores, webm, exr or mp4; with any (png, too) come "
        "layers.nk (Nuke), layers.jsx (After Effects) and layers.otio (Resolve, Premiere).",
        flag="--format",
        metavar="FORMAT",
        repeated=True,
    )
    start_frame: int | None = option(
        None, "Number of the first frame in file names; default: as the images have, or 0."
    )
    frames: str | None = option(
        None, "Only these frames, from 0, the last one excluded.", metavar="A:B"
    )
    begin: str | None = option(
        None,
        "Only from this time on: seconds or hours:minutes:seconds.",
        flag="--from",
        metavar="TIME",
    )
    end: str | None = option(None, "Only up to this time.", flag="--to", metavar="TIME")
    part: str | None = option(
        None,
        "Write only the I-th of N parts of the frames, as the whole would have them; "
        "`omnimatte join` puts the parts together.",
        metavar="I/N",
    )
    fps: str | None = option(
        None,
        "Frames per second of a folder of images, such as 24000/1001; default: 24.",
        metavar="RATE",
    )
    stream: int | None = option(None, "Which video stream of the file, from 0; default: the best.")
    deinterlace: bool = option(False, "Separate interlaced fields first.")
    tone_map: bool = option(
        False, "Bring HDR (PQ, HLG) to BT.709 instead of keeping it as encoded."
    )
    split_cuts: bool = option(
        False, "Split at scene cuts: a result for each shot, in shot01, shot02 and so on."
    )
    invert_masks: bool = option(False, "The masks are white where the object is not.")
    matte_color: str = option("#000000", "What mp4 layers lie on.", metavar="#RRGGBB")
    no_audio: bool = option(False, "Leave the input's sound out of composite.mp4.")
    report: bool = option(
        True, "Write report.html, to judge the result by.", flag="--report/--no-report"
    )
    overwrite: bool = like(MaskSettings, "overwrite")
    ffmpeg: Path | None = option(None, "The ffmpeg program to encode with.", metavar="PATH")
    making: MaskSettings = field(default_factory=MaskSettings, metadata={"shown": False})

    def __post_init__(self) -> None:
        check_words(self)
        check(
            self.iterations in (None, "auto")
            or (isinstance(self.iterations, int) and self.iterations >= 0),
            "--iterations must be 0 or more, or auto",
        )
        check_seed(self.seed)
        check_size(self.size, step=16, least=32)
        given = self.homographies is not None
        check(not (given and self.camera == "static"), "--homographies contradicts --camera static")
        plated = self.background is not None and (given or self.camera != "auto")
        check(not plated, "--background gives the plate: --camera and --homographies have no use")
        given = given or self.background is not None
        check(
            not (given and self.split_cuts),
            "--split-cuts works with neither --background nor --homographies: run each shot with "
            "--frames",
        )
        if self.part is not None:
            parse_share(self.part, "--part")
        # Scripts of before --passes named parts of layers give the number of plate estimates there.
        plates = tuple(f"plate_passes={p}" for p in self.passes if p.isdecimal())
        object.__setattr__(self, "assignments", (*self.assignments, *plates))
        object.__setattr__(self, "passes", tuple(p for p in self.passes if not p.isdecimal()))
        for part in self.passes:
            check(part in PASSES, f"--passes takes {', '.join(PASSES)}, not {part!r}")
        check_formats(self.formats)
        check_start(self.start_frame)
        parse_colour("matte-color", self.matte_color)
        made = self.making
        prompted = made.points or made.boxes or made.sam
        check(not (self.masks and prompted), "--masks contradicts --point, --box and --sam")

    @property
    def inputs(self) -> list[Path]:
        """All files and folders that are read, besides the shot."""
        return [p for p in (self.masks, self.background, self.homographies) if p]

    @property
    def mask_settings(self) -> MaskSettings:
        """How masks are made where none are given: with the run's own device and seed."""
        return replace(self.making, device=self.device, seed=self.seed % 2**31)

    @property
    def pairs(self) -> tuple[Assignment, ...]:
        """What `--set` and `--iterations` say."""
        pairs = tuple(Assignment.parse(p) for p in self.assignments)
        if self.iterations is None:
            return pairs
        return (*pairs, Assignment("iterations", str(self.iterations), "--iterations"))


def check_formats(formats: Sequence[str]) -> None:
    """Raise OptionError for a format of layers that does not exist."""
    for form in formats:
        check(form in FORMATS, f"--format takes {', '.join(FORMATS)}, not {form!r}")


def check_start(number: int | None) -> None:
    """Raise OptionError unless the first frame's number, if one is given, can be one."""
    check(number is None or number >= 0, "--start-frame must be 0 or more")


def parse_colour(option: str, text: str) -> tuple[float, float, float]:
    """ "#RRGGBB" as RGB in [0, 1]. Raises OptionError."""
    good = re.fullmatch(r"#[0-9a-fA-F]{6}", text) is not None
    check(good, f"--{option} takes a colour as #RRGGBB, not {text!r}")
    red, green, blue = (int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def parse_share(text: str, option: str) -> tuple[int, int]:
    """ "2/8", the second of eight parts, to (2, 8). Raises OptionError, which names the option."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise OptionError(f"{option} takes I/N with I from 1 to N, such as 2/8, not {text!r}.")
    return int(match[1]), int(match[2])


def parse_size(text: str) -> tuple[int, int]:
    """ "224x128" (width, height) to (128, 224) (height, width)."""
    try:
        width, height = (int(s) for s in text.lower().split("x"))
    except ValueError:
        raise OptionError(f"--size takes WIDTHxHEIGHT, such as 224x128, not {text!r}.") from None
    return height, width


def working_size(video: tuple[int, int], area: int = 128 * 224, step: int = 16) -> tuple[int, int]:
    """Working (height, width) of a video: about `area` pixels, its aspect, multiples of `step`.

    A smaller video keeps its own size: enlarged, it only looks soft to the networks. Below
    SMALLEST_AREA it is enlarged to that.
    """
    height, width = video
    area = min(area, max(height * width, SMALLEST_AREA))
    scale = (area / (height * width)) ** 0.5
    best = (step * 2, step * 2)
    error = float("inf")
    # Among the multiples around the ideal, the pair that keeps aspect and area best.
    for h in _multiples(height * scale, step):
        for w in _multiples(width * scale, step):
            aspect = abs(h / w * width / height - 1)
            size = abs(h * w / area - 1)
            if aspect + 0.5 * size < error:
                best, error = (h, w), aspect + 0.5 * size
    return best


def _multiples(value: float, step: int) -> set[int]:
    low = int(value // step) * step
    return {max(2 * step, low), max(2 * step, low + step)}

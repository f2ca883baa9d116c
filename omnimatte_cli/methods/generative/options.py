"""What `layers` and `trimask` can be told, with the published settings of stage 2 and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from omnimatte_cli.errors import OptionError
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.options import check, check_seed, check_size, check_words, like, option
from omnimatte_cli.settings import DeviceName, Settings, working_size

Colour = Literal["network", "free", "closed"]  # where a layer's colours come from
Fit = Literal["auto", "closed", "base", "full"]  # how much is optimised
Drops = tuple[tuple[int, float], ...]  # from this step on, times this factor

BASE_AREA = 128 * 224  # pixels of the base optimisation
STRIDE = 32  # pixels; five halvings in the network, so sides must be multiples of it
AUTO = "auto"  # in place of solo videos: they are made by ownership


@dataclass(frozen=True)
class StageOptions:
    """One optimisation of one layer. Weights are those of the losses in `objective`."""

    steps: int
    frames: int = 16  # consecutive frames a step; clamped to the clip's
    width: int = 32  # channels of the network's first block
    norm: Literal["batch", "group"] = "batch"
    colour: Colour = "network"
    squash: bool = False  # sigmoid on the network's outputs; the public code has none
    lr: float = 5e-4  # of a network that gives colour and alpha, and of free colours
    lr_alpha: float = 1e-3  # of a network that gives alpha alone
    lr_drops: Drops = ()  # of both; free colours are never slowed down
    recon: float = 1.0
    recon_power: int = 2  # 1: absolute, 2: squared error
    l0: float = 0.075
    l0_drops: Drops = ()
    l1: float = 0.75
    l1_drops: Drops = ()
    sparsity_by_coverage: bool = True  # both times the mask's mean over the clip
    mask: float = 10.0
    mask_power: int = 2
    mask_drops: Drops = ()
    inside: float = 0.1  # mask loss inside the mask alone, once the whole one has weight 0
    smooth: float = 0.0  # total variation of alpha
    below: float = 0.0  # towards the enlarged alpha of a base optimisation

    def __post_init__(self) -> None:
        assert self.colour in get_args(Colour), self.colour
        assert self.steps >= 0 and self.frames >= 1, (self.steps, self.frames)

    def scaled(self, steps: int) -> StageOptions:
        """The same with another number of steps; all schedules are compressed with it."""
        factor = steps / self.steps

        def moved(drops: Drops) -> Drops:
            return tuple((round(at * factor), by) for at, by in drops)

        return replace(
            self,
            steps=steps,
            lr_drops=moved(self.lr_drops),
            l0_drops=moved(self.l0_drops),
            l1_drops=moved(self.l1_drops),
            mask_drops=moved(self.mask_drops),
        )


# The authors' public code, one optimisation at 384x672.
PUBLISHED_CODE = StageOptions(
    steps=6000, lr_drops=((500, 0.1), (1000, 0.1), (2000, 0.1)), mask_drops=((1000, 0.0),)
)
# The paper's two optimisations. How the mask's weight falls in the first is not published: halved
# five times here.
PAPER_BASE = StageOptions(
    steps=20_000,
    frames=20,
    colour="free",
    squash=True,
    lr=1e-2,
    l0=1.0,
    l1=10.0,
    sparsity_by_coverage=False,
    mask=20.0,
    mask_drops=tuple((at, 0.5) for at in (2000, 4000, 6000, 8000, 10_000)),
)
PAPER_UPSAMPLED = replace(
    PAPER_BASE,
    recon_power=1,
    l0=10.0,
    l1=100.0,
    mask=10.0,
    mask_drops=((2000, 0.0),),
    inside=0.0,
    below=20.0,
)
# Ours: the network gives alpha alone, colours follow in closed form, and a norm that is the same in
# training and prediction. A free colour moves by less than 1 in 6000 steps of the published rate.
BASE = StageOptions(
    steps=400,
    frames=4,
    width=16,
    norm="group",
    colour="closed",
    squash=True,
    lr_alpha=3e-3,
    lr_drops=((300, 0.3), (360, 0.3)),
    mask_drops=((40, 0.1), (80, 0.0)),
    inside=0.5,
)
FULL = replace(BASE, recon_power=1, below=20.0)


def parse_solos(values: Sequence[str]) -> dict[str, Path] | None:
    """NAME=PATH options to paths by name; None for `auto`. Raises OptionError."""
    if AUTO in values:
        if len(values) > 1:
            raise OptionError("--solo auto makes all solos itself: give no other --solo.")
        return None
    out: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not name or not path:
            raise OptionError(f"--solo takes NAME=VIDEO, such as dog=dog.mp4, not {value!r}.")
        if name in (".", "..") or any(c in name for c in '/\\:*?"<>|'):
            raise OptionError(f"--solo: {name!r} cannot be a folder's name.")
        if name in out:
            raise OptionError(f"--solo names {name} twice.")
        out[name] = Path(path)
    if not out:
        raise OptionError("Give at least one --solo NAME=VIDEO, or --solo auto.")
    return out


@dataclass(frozen=True)
class GenerativeOptions:
    """How layers are made from solo videos."""

    fit: Fit = "auto"  # closed: no optimisation; base: alpha at 128 px; full: then at full size
    steps: int | None = None  # of each optimisation; None: BASE's and FULL's
    seed: int = 0
    detail: bool = True  # copy the video's own pixels where a layer is opaque
    base: StageOptions = BASE
    full: StageOptions = FULL

    def __post_init__(self) -> None:
        check(
            self.fit in get_args(Fit), f"--fit takes {', '.join(get_args(Fit))}, not {self.fit!r}"
        )
        check(self.steps is None or self.steps >= 1, "--steps must be at least 1")
        check_seed(self.seed)

    def stage(self, full: bool) -> StageOptions:
        """The options of the base or of the full-size optimisation."""
        stage = self.full if full else self.base
        return stage if self.steps is None else stage.scaled(self.steps)


@dataclass(frozen=True)
class LayersSettings:
    """Everything that `omnimatte layers` can be told."""

    solos: tuple[str, ...] = option(
        (),
        "The video in which one object is left, with its effects, such as dog=dog.mp4. auto makes "
        "all of them here, by ownership.",
        flag="--solo",
        metavar="NAME=VIDEO|auto",
        repeated=True,
    )
    background: Path | None = option(
        None,
        "The video (or image) without any object. With --solo auto: estimated.",
        metavar="PATH",
    )
    masks: Path | None = option(
        None,
        "Folder with a folder of images or a video per object, or with indexed PNGs; default: "
        "guessed from the solo videos.",
        metavar="DIR",
    )
    order: str | None = option(
        None,
        "Object names back to front, separated by commas; default: order.txt in --masks, else by "
        "which mask reaches lower.",
        metavar="A,B",
    )
    depth: Path | None = option(
        None, "Depth video, brighter is nearer, for the order.", metavar="VIDEO"
    )
    fit: Fit = option(
        "auto",
        "closed: no optimisation. base: alpha optimised at about 128 pixels. full: optimised at "
        "full size too. auto: full on a GPU, closed on a CPU.",
    )
    steps: int | None = option(None, "Steps of each optimisation; default: 400.")
    size: tuple[int, int] | None = option(
        None,
        "Size of the base optimisation, multiples of 32; default: the area of 224x128.",
        metavar="WxH",
    )
    keep_colours: bool = option(
        False,
        "Leave the solo videos' colours also where a layer is opaque.",
        flag="--keep-colours",
    )
    seed: int = like(Settings, "seed")
    device: DeviceName = like(Settings, "device")
    exact: bool = like(Settings, "exact")
    report: bool = like(Settings, "report")
    overwrite: bool = like(Settings, "overwrite")
    ffmpeg: Path | None = like(Settings, "ffmpeg")
    reading: ReadOptions = field(default_factory=ReadOptions, metadata={"shown": False})

    def __post_init__(self) -> None:
        check_words(self)
        check(
            self.solo_videos is None or self.background is not None,
            "--solo videos need the clean background that they were made with: --background VIDEO",
        )
        check(
            not (self.order is not None and self.depth is not None),
            "--order and --depth contradict each other",
        )
        check_size(self.size, step=STRIDE, least=STRIDE)
        _ = self.options  # checked there

    @property
    def solo_videos(self) -> dict[str, Path] | None:
        """Path by object name; None where the solos are made here."""
        return parse_solos(self.solos)

    @property
    def options(self) -> GenerativeOptions:
        """How the layers are made."""
        return GenerativeOptions(self.fit, self.steps, self.seed, not self.keep_colours)

    @property
    def inputs(self) -> list[Path]:
        """All files that are read, besides the shot."""
        given = (self.background, self.masks, self.depth)
        return [*(self.solo_videos or {}).values(), *(p for p in given if p)]

    def working_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of a shot of this (height, width)."""
        return self.size or working_size(size, BASE_AREA, STRIDE)


@dataclass(frozen=True)
class TrimaskSettings:
    """Everything that `omnimatte trimask` can be told."""

    masks: Path | None = option(
        None,
        "Folder with a folder of images or a video per object, or with indexed PNGs.",
        metavar="DIR",
    )
    size: tuple[int, int] | None = option(
        None, "Size that the model takes; default: the video's.", metavar="WxH"
    )
    grow: int | None = option(
        None,
        "Pixels of that size, side of the square that masks grow by; default: 11 at a width of "
        "672.",
    )
    invert: bool = option(False, "Black keeps and white removes, not the reverse.", flag="--invert")
    images: bool = option(False, "Write a folder of PNGs each instead of a video.", flag="--images")
    overwrite: bool = like(Settings, "overwrite")
    ffmpeg: Path | None = like(Settings, "ffmpeg")
    reading: ReadOptions = field(default_factory=ReadOptions, metadata={"shown": False})

    def __post_init__(self) -> None:
        check(self.masks is not None, "--masks is needed: the objects to keep or to remove")
        check(self.size is None or min(self.size) >= 16, "--size must be at least 16 each way")
        check(self.grow is None or self.grow >= 0, "--grow must be 0 or more")

"""What `omnimatte unmix` can be told. No torch: this is read for `--help`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.options import check, check_seed, check_size, check_words, like, option
from omnimatte_cli.settings import DeviceName, Settings


@dataclass(frozen=True)
class UnmixSettings:
    """Everything that `unmix` can be told; None means decided from the input."""

    iterations: int = option(
        0, "Steps that fit the layers to the clip's own two motions afterwards; 0: none."
    )
    alpha: float = option(0.5, "The second layer's share of the picture, from 0.05 to 0.95.")
    weights: str = option("centrifuge", "A shipped name or a file.", metavar="NAME|PATH")
    size: tuple[int, int] | None = like(Settings, "size")
    seed: int = like(Settings, "seed")
    device: DeviceName = like(Settings, "device")
    report: bool = like(Settings, "report")
    overwrite: bool = like(Settings, "overwrite")
    ffmpeg: Path | None = like(Settings, "ffmpeg")
    reading: ReadOptions = field(default_factory=ReadOptions, metadata={"shown": False})

    def __post_init__(self) -> None:
        check_words(self)
        check(self.iterations >= 0, "--iterations must be 0 or more")
        check_seed(self.seed)
        check_size(self.size, step=16, least=32)
        check(0.05 <= self.alpha <= 0.95, "--alpha must be from 0.05 to 0.95")

"""What the ownership method can be told with `--set`."""

from __future__ import annotations

from dataclasses import dataclass

from omnimatte_cli.methods.options import MethodOptions
from omnimatte_cli.options import check, option


@dataclass(frozen=True)
class Options(MethodOptions):
    """The ownership method's own choices."""

    summary = "a network says whose each change is; answers in seconds"
    network = "ownership"
    automatic_on = ("cpu",)

    frame_stride: int | None = option(
        None, "frames between neighbours that the network sees; a quarter of a second"
    )

    def __post_init__(self) -> None:
        good = self.frame_stride is None or self.frame_stride >= 1
        check(good, "frame_stride must be at least 1")

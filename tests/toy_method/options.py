"""What the toy can be told."""

from __future__ import annotations

from dataclasses import dataclass

from omnimatte_cli.methods.options import MethodOptions
from omnimatte_cli.options import option


@dataclass(frozen=True)
class Options(MethodOptions):
    """One choice."""

    summary = "cuts objects out along their masks"

    opacity: float = option(1.0, "alpha inside the masks")

"""What `omnimatte masks` answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNSURE = 0.5  # confidence below which a mask is doubtful, and named to the user


@dataclass(frozen=True)
class MaskResult:
    """What was written.

    names: objects, the most prominent first. confidence: for each object, one number in [0, 1] a
    frame (0 where it is absent). facts: the content of masks.json.
    """

    folder: Path
    names: tuple[str, ...]
    frames: int
    method: str
    confidence: dict[str, list[float]]
    preview: Path
    notes: tuple[str, ...]
    facts: dict[str, Any]

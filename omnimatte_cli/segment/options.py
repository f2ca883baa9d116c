"""What `omnimatte masks` can be told, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from omnimatte_cli.errors import OptionError

Method = Literal["auto", "motion", "sam"]
METHODS = ("auto", "motion", "sam")
SAM_MODELS = ("vit_b", "vit_l", "vit_h")


@dataclass(frozen=True)
class MaskSettings:
    """How rough masks are made."""

    method: str = "auto"  # auto: sam where a checkpoint is named, else motion
    points: tuple[str, ...] = ()  # "name:frame:x,y", with "-" at the end: not the object
    boxes: tuple[str, ...] = ()  # "name:frame:x0,y0,x1,y1"
    sam: str | None = None  # vit_b, vit_l or vit_h: downloaded once to the cache
    sam_checkpoint: Path | None = None  # a checkpoint file of segment-anything
    every: int = 1  # SAM looks at every K-th frame; optical flow carries masks between
    max_objects: int = 4  # the most objects that the motion method finds by itself
    device: str = "auto"  # where SAM computes: auto, cpu, cuda or mps
    seed: int = 0  # of the colour models fitted where neither SAM nor motion helps
    from_masks: Path | None = None  # masks to re-propagate
    keep: tuple[int, ...] = ()  # frames of from_masks that are right, counted from 0
    overwrite: bool = False  # replace an existing result

    def __post_init__(self) -> None:
        _check(self.method in METHODS, f"--method must be one of {', '.join(METHODS)}")
        known = self.sam is None or self.sam in SAM_MODELS
        _check(known, f"--sam must be one of {', '.join(SAM_MODELS)}")
        _check(self.every >= 1, "--every must be at least 1")
        _check(self.max_objects >= 1, "--max-objects must be at least 1")
        _check(0 <= self.seed < 2**31, "--seed must be from 0 to 2147483647")
        _check(not self.keep or self.from_masks is not None, "--keep needs --from MASKS")
        _check(
            self.from_masks is None or bool(self.keep),
            "--from needs --keep, the frames whose masks are right, such as --keep 0,31",
        )
        if self.uses_sam:
            _check(
                self.sam is not None or self.sam_checkpoint is not None,
                "--method sam needs --sam vit_b (downloads it once) or --sam-checkpoint FILE",
            )
        elif self.sam is not None or self.sam_checkpoint is not None:
            raise OptionError("--sam and --sam-checkpoint contradict --method motion.")
        prompted = bool(self.points or self.boxes)
        _check(
            self.from_masks is None or not prompted,
            "--from cannot be combined with --point or --box: the kept masks are the prompts",
        )

    @property
    def uses_sam(self) -> bool:
        """Whether segment-anything is to be used."""
        named = self.sam is not None or self.sam_checkpoint is not None
        return self.method == "sam" or (self.method == "auto" and named)


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


def _check(good: bool, message: str) -> None:
    if not good:
        raise OptionError(message + ".")

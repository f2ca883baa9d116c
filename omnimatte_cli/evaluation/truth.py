"""Videos whose true layers are known, in the layout of the authors' data.

A folder a video with `rgba_00000.*`, `mask{i}_00000.png`, `bg.png`, `bg_est.png`, `order.txt` and
`gt/mask{i}_00000.png`; `omnimatte synth` writes it, and `solo/solo{i}_00000.png` besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnimatte_cli.errors import InputError
from omnimatte_cli.media.images import read_image


@dataclass(frozen=True)
class GroundTruth:
    """A video with its true layers.

    frames (T, H, W, 3) uint8; masks, regions (N, T, H, W) bool; plates: name to (H, W, 3) uint8;
    order (T, N); solos (N, T, H, W, 3) uint8 or None.
    """

    name: str
    frames: np.ndarray
    masks: np.ndarray
    regions: np.ndarray
    plates: dict[str, np.ndarray]
    order: np.ndarray
    solos: np.ndarray | None


def find_videos(dataset: Path, subset: int | None = None) -> list[Path]:
    """Videos of a folder of videos, or of a folder of sets; `subset`: the first K of each set."""
    if not dataset.is_dir():
        raise InputError(f"No dataset folder {dataset}.")

    def videos(folder: Path) -> list[Path]:
        found = [p.parent for p in folder.glob("*/order.txt")]
        return sorted(found, key=lambda p: (len(p.name), p.name))

    sets = [dataset] if videos(dataset) else sorted(p for p in dataset.iterdir() if p.is_dir())
    found = [v for folder in sets for v in videos(folder)[:subset]]
    if not found:
        raise InputError(f"{dataset} has no videos in it: folders with rgba_00000.* and order.txt.")
    return found


def read_truth(folder: Path) -> GroundTruth:
    """Read one video of a dataset. Raises InputError naming what is missing."""
    frames = _stack(folder, "rgba_*", colour=True)
    count = len({p.name.split("_")[0] for p in folder.glob("mask*_00000.png")})
    if count == 0:
        raise InputError(f"{folder} has no mask0_00000.png.")

    def of_objects(where: Path, stem: str, colour: bool = False) -> np.ndarray:
        """(N, T, ...): as many pictures of each object as there are frames, of their size."""
        out = []
        for i in range(count):
            pictures = _stack(where, f"{stem}{i}_*", colour)
            if pictures.shape[:3] != frames.shape[:3]:
                raise InputError(
                    f"{where}: {stem}{i}_* are {_counted(pictures)}, the frames {_counted(frames)}."
                )
            out.append(pictures)
        return np.stack(out)

    masks = of_objects(folder, "mask") > 127
    regions = of_objects(folder / "gt", "mask") > 127
    solos = of_objects(folder / "solo", "solo", True) if (folder / "solo").is_dir() else None
    plates = {"true": _one(folder / "bg.png"), "estimated": _one(folder / "bg_est.png")}
    for plate in plates.values():
        if plate.shape != frames.shape[1:]:
            raise InputError(f"{folder}: bg.png and bg_est.png must have the size of the frames.")
    order = _read_order(folder / "order.txt", len(frames), count)
    name = f"{folder.parent.name}/{folder.name}"
    return GroundTruth(name, frames, masks, regions, plates, order, solos)


def _read_order(path: Path, frames: int, objects: int) -> np.ndarray:
    """A line a frame with every object's number once, back to front. (T, N) int64."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = {str(i) for i in range(objects)}
    lines = [line for line in lines if line]
    if len(lines) != frames or any(len(x) != objects or set(x) != wanted for x in lines):
        raise InputError(
            f"{path} must have {frames} lines with each of 0 to {objects - 1} once, back to front."
        )
    return np.array(lines).astype(np.int64)


def _counted(pictures: np.ndarray) -> str:
    t, h, w = pictures.shape[:3]
    return f"{t} of {h}x{w}"


def _stack(folder: Path, pattern: str, colour: bool = False) -> np.ndarray:
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputError(f"{folder} has no {pattern}.")
    pictures = [_one(f, colour) for f in files]
    if len({p.shape for p in pictures}) > 1:
        raise InputError(f"{folder}: {pattern} differ in size.")
    return np.stack(pictures)


def _one(path: Path, colour: bool = True) -> np.ndarray:
    image = read_image(path)
    if image is None:
        raise InputError(f"Cannot read {path}.")
    image = np.atleast_3d(image)
    return np.ascontiguousarray(image[..., 2::-1] if colour else image[..., 0])

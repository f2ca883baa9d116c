"""Videos whose true layers are known, in the layout of the authors' data.

A folder a video with `rgba_00000.*`, `mask{i}_00000.png`, `bg.png`, `bg_est.png`, `order.txt` and
`gt/mask{i}_00000.png`; `omnimatte synth` writes it, and `solo/solo{i}_00000.png` besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnimatte_cli.errors import InputError
from omnimatte_cli.images import read_image


@dataclass(frozen=True)
class Truth:
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


def read_truth(folder: Path) -> Truth:
    """Read one video of a dataset. Raises InputError naming what is missing."""
    frames = _stack(folder, "rgba_*", colour=True)
    count = len({p.name.split("_")[0] for p in folder.glob("mask*_00000.png")})
    if count == 0:
        raise InputError(f"{folder} has no mask0_00000.png.")
    masks = np.stack([_stack(folder, f"mask{i}_*") > 127 for i in range(count)])
    regions = np.stack([_stack(folder / "gt", f"mask{i}_*") > 127 for i in range(count)])
    solos = None
    if (folder / "solo").is_dir():
        solos = np.stack([_stack(folder / "solo", f"solo{i}_*", colour=True) for i in range(count)])
    plates = {"true": _one(folder / "bg.png"), "estimated": _one(folder / "bg_est.png")}
    lines = (folder / "order.txt").read_text().split("\n")
    order = np.array([[int(x) for x in line.split()] for line in lines if line.strip()])
    if not len(frames) == masks.shape[1] == regions.shape[1] == len(order):
        raise InputError(f"{folder}: frames, masks, gt and order.txt differ in number.")
    name = f"{folder.parent.name}/{folder.name}"
    return Truth(name, frames, masks, regions, plates, order, solos)


def _stack(folder: Path, pattern: str, colour: bool = False) -> np.ndarray:
    files = sorted(folder.glob(pattern))
    if not files:
        raise InputError(f"{folder} has no {pattern}.")
    return np.stack([_one(f, colour) for f in files])


def _one(path: Path, colour: bool = True) -> np.ndarray:
    image = read_image(path)
    if image is None:
        raise InputError(f"Cannot read {path}.")
    image = np.atleast_3d(image)
    return np.ascontiguousarray(image[..., 2::-1] if colour else image[..., 0])

"""Find and read image files: what videos, masks and plates given as images have in common."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".jp2")
)


def wxh(shape: tuple[int, ...]) -> str:
    """(H, W, ...) as people write it: width x height."""
    return f"{shape[1]}x{shape[0]}"


def natural_key(name: str) -> tuple:
    """Sorting key under which numbers count as numbers: 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(p), "") if p.isdecimal() else (-1, p) for p in parts if p), name


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, hidden ones left out, numbers sorted as numbers."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(
        (p for p in files if not p.name.startswith(".")), key=lambda p: natural_key(p.name)
    )


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing to stderr about files for which we raise an error of our own."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """An image file as OpenCV reads it (BGR), or None where it cannot be read or is cut off."""
    try:
        data = np.fromfile(path, np.uint8)
        return cv2.imdecode(data, flags) if data.size else None
    except (OSError, cv2.error):
        return None


def number_images(files: list[Path], frames: int) -> list[Path]:
    """The image of each of `frames` frames, by the numbers in the names.

    Numbers may start anywhere (0 and 1 are usual) but must run on; files without numbers count in
    their order. Raises ValueError with the first frame that is missing, doubled or left over.
    """
    numbers = _frame_numbers([p.stem for p in files])
    if numbers is None:
        by_number = dict(enumerate(files))
    else:
        by_number = {}
        for number, path in zip(numbers, files, strict=True):
            if number in by_number:
                raise ValueError(f"frame {number}: both {by_number[number]} and {path} claim it.")
            by_number[number] = path
    first = min(by_number)
    # Fewer files than frames, and the first numbers absent: they are what is missing.
    start = first if first <= 1 or len(by_number) >= frames else 0
    count = f"there are {len(files)} masks for {frames} frames"
    for t in range(frames):
        if start + t not in by_number:
            name = _example(files[0], start + t) if numbers else "its file"
            raise ValueError(f"frame {t}: {name} is missing in {files[0].parent} ({count}).")
    extra = [path for number, path in by_number.items() if number >= start + frames]
    if extra:
        raise ValueError(f"frame {frames}: {extra[0]} is left over ({count}).")
    return [by_number[start + t] for t in range(frames)]


def _frame_numbers(stems: list[str]) -> list[int] | None:
    """The number in each name that differs between names, or the last one; None without any."""
    digits = [re.findall(r"\d+", stem) for stem in stems]
    if not all(digits):
        return None
    place = -1
    if len({len(d) for d in digits}) == 1:
        differing = [
            i for i, column in enumerate(zip(*digits, strict=True)) if len(set(column)) > 1
        ]
        place = differing[-1] if differing else -1
    return [int(d[place]) for d in digits]


def _example(path: Path, number: int) -> str:
    """A file name like that of `path`, with another number where its last one stands."""
    runs = list(re.finditer(r"\d+", path.stem))
    start, end = runs[-1].span()
    return f"{path.stem[:start]}{number:0{end - start}}{path.stem[end:]}{path.suffix}"

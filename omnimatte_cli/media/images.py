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

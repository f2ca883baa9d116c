"""Pictures for people: layers on a checkerboard, and frames side by side under labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

from omnimatte_cli.arrays import Size

PREVIEW_WIDTH = 1920  # pixels, of a whole preview frame
LABEL_HEIGHT = 22  # pixels, of the band above each picture
LIGHT, DARK = 204, 153  # greys of the checkerboard


@lru_cache(maxsize=4)
def checkerboard(size: Size, cell: int) -> np.ndarray:
    """(H, W, 3) uint8 grey squares of `cell` pixels, on which transparency shows; read-only."""
    rows, columns = (np.arange(side) // max(1, cell) for side in size)
    grey = np.where((rows[:, None] + columns) % 2, DARK, LIGHT).astype(np.uint8)
    board = np.repeat(grey[..., None], 3, axis=2)
    board.setflags(write=False)
    return board


def preview_frame(tiles: Sequence[tuple[str, np.ndarray]]) -> np.ndarray:
    """Pictures of one size (H, W, 3) uint8, each under its label, side by side in a grid.

    Scaled down, never up, so that the whole is at most PREVIEW_WIDTH wide.
    """
    h, w = tiles[0][1].shape[:2]
    columns = len(tiles) if len(tiles) <= 3 else math.ceil(math.sqrt(len(tiles)))
    scale = min(1.0, PREVIEW_WIDTH / (columns * w))
    h, w = max(1, int(h * scale)), max(1, int(w * scale))
    rows = math.ceil(len(tiles) / columns)
    sheet = np.zeros((rows * (h + LABEL_HEIGHT), columns * w, 3), np.uint8)
    for i, (label, picture) in enumerate(tiles):
        top, left = i // columns * (h + LABEL_HEIGHT), i % columns * w
        cell = sheet[top : top + h + LABEL_HEIGHT, left : left + w]
        cell[LABEL_HEIGHT:] = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
        band = np.zeros((LABEL_HEIGHT, w, 3), np.uint8)
        cv2.putText(
            band, label, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255,) * 3, 1, cv2.LINE_AA
        )
        cell[:LABEL_HEIGHT] = band
    return sheet

"""How players turn and crop a video's frames, and how wide they show them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.media.boxes import Crop


def cropped(image: np.ndarray, crop: Crop) -> np.ndarray:
    if not any(crop):
        return image
    h, w = image.shape[:2]
    part = image[crop.top : h - crop.bottom, crop.left : w - crop.right]
    return np.ascontiguousarray(part)


def display_matrix(frame: av.VideoFrame) -> np.ndarray | None:
    """How players turn the picture: 9 int32, or None for as it is.

    Ask one frame only, as it is the same for all: a frame whose side data were looked at stays in
    memory until the garbage collector runs.
    """
    sides: Any = frame.side_data.get("DISPLAYMATRIX")
    return None if sides is None else np.frombuffer(bytes(sides), np.int32)


def is_identity(matrix: np.ndarray) -> bool:
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    return a > 0 and d > 0 and b == c == 0


def turn(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply a display matrix (a b u c d v x y w): point (x, y) goes to (a x + c y, b x + d y).

    Only quarter turns and mirrorings exist in practice; other angles go to the nearest of them.
    """
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    if across < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


def shown_size(size: Size, sar: Fraction) -> Size:
    """(H, W) on screen of a picture with pixels that are not square: the width is stretched."""
    return size[0], max(1, round(size[1] * sar))

"""Masks cut out of a label map's pictures, as kinds.py says how the series is to be read."""

from __future__ import annotations

import cv2
import numpy as np

from omnimatte_cli.masks.kinds import Reading
from omnimatte_cli.masks.pictures import Picture, codes, colours_of, flat_areas

UNKNOWN = 255  # number of no label: a smoothed edge


def cut_labels(picture: Picture, reading: Reading) -> dict[int, np.ndarray]:
    """Masks (H, W) bool by label value of what is present, for a label map's picture."""
    wanted = [label.value for label in reading.labels]
    if reading.plane == "colour":
        which = _nearest_colours(picture, reading)
    else:
        plane = picture.indices if reading.plane == "index" else picture.grey()
        assert plane is not None
        which = _nearest_levels(reading)[plane]
    if reading.edge is not None:
        which = _without_edges(picture, which, reading)
    present = np.bincount(which.ravel(), minlength=len(wanted) + 1)
    return {v: which == i for i, v in enumerate(wanted) if present[i]}


def _without_edges(picture: Picture, which: np.ndarray, reading: Reading) -> np.ndarray:
    """Smoothed edges go to the label of the nearest flat area, not to one whose level they pass.

    which: (H, W) uint8 numbers of labels by level or colour. Returns the same kind.
    """
    solid = which != UNKNOWN
    if reading.plane != "index":
        assert reading.edge is not None
        image = picture.grey() if reading.plane == "grey" else picture.colour()
        assert image is not None
        solid &= flat_areas(image, reading.edge * (int(np.iinfo(image.dtype).max) // 255))
    if solid.all() or not solid.any():
        return which
    _, nearest = cv2.distanceTransformWithLabels(
        (~solid).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # Numbers of the solid pixels, in OpenCV's own order.
    by_number = np.zeros(int(nearest.max()) + 1, np.uint8)
    by_number[nearest[solid]] = which[solid]
    return by_number[nearest]


def _nearest_levels(reading: Reading) -> np.ndarray:
    """For every level the number of its label, or of none (the count of labels): (65536,) uint8."""
    if "levels" not in reading.table:
        objects = [label.value for label in reading.labels]
        every = np.array([*objects, *reading.others])
        if reading.plane == "index":  # indices are names, not amounts
            table = np.full(1 << 16, UNKNOWN, np.uint8)
            table[objects] = np.arange(len(objects))
            table[list(reading.others)] = len(objects)
        else:
            away = np.abs(np.arange(1 << 16)[:, None] - every)
            table = np.minimum(away.argmin(1), len(objects)).astype(np.uint8)
        reading.table["levels"] = table
    return reading.table["levels"]


def _nearest_colours(picture: Picture, reading: Reading) -> np.ndarray:
    """For every pixel the number of its label, or of none: (H, W) uint8.

    The answer for each of the 2^24 colours is kept once it was needed.
    """
    bgr = picture.colour()
    count = len(reading.labels)
    if bgr is None:
        return np.full(picture.size, count, np.uint8)
    table = reading.table.setdefault("colours", np.full(1 << 24, 255, np.uint8))
    numbers = codes(bgr)
    which = table[numbers]
    new = which == 255
    if new.any():
        unknown = np.unique(numbers[new])
        every = colours_of(np.array([*(x.value for x in reading.labels), *reading.others]))
        colours = colours_of(unknown)
        for at in range(0, len(unknown), 1 << 14):
            away = ((colours[at : at + (1 << 14), None] - every) ** 2).sum(2)
            table[unknown[at : at + (1 << 14)]] = np.minimum(away.argmin(1), count)
        which = table[numbers]
    alpha = picture.alpha()
    if alpha is not None:
        which = np.where(alpha > picture.full // 2, which, np.uint8(count))
    return which

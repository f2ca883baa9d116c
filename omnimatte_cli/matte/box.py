"""Parts of a picture: most of a layer is empty, and only the rest is computed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MOST_PIECES = 32  # of a mask, that are looked at one by one


@dataclass(frozen=True)
class Box:
    """Rows and columns of a picture, in pixels, both with start and stop."""

    rows: slice
    columns: slice

    @classmethod
    def whole(cls, size: tuple[int, ...]) -> Box:
        """All of a picture (H, W)."""
        return cls(slice(0, size[0]), slice(0, size[1]))

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of the part in an array (H, W, ...)."""
        return self.rows, self.columns

    def around(self, other: Box) -> Box:
        """The smallest box that holds both."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return Box(*(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in pairs))

    def aligned(self, step: int, size: tuple[int, int]) -> Box:
        """The box with sides that are multiples of `step` pixels, grown where there is picture.

        size: (H, W) of the picture. A side for which there is no room stays as it is.
        """
        spans = []
        for part, room in zip((self.rows, self.columns), size, strict=True):
            length = part.stop - part.start
            length += -length % step
            start = max(0, min(part.start, room - length))
            spans.append(part if length > room else slice(start, start + length))
        return Box(*spans)

    def grown(self, margin: int, size: tuple[int, int]) -> Box:
        """The box with so many pixels more on each side, as far as there is picture (H, W)."""
        pairs = zip((self.rows, self.columns), size, strict=True)
        return Box(*(slice(max(0, x.start - margin), min(n, x.stop + margin)) for x, n in pairs))

    def scaled(self, times: int) -> Box:
        """The same part of a picture that is so many times as large."""
        pairs = (self.rows, self.columns)
        return Box(*(slice(x.start * times, x.stop * times) for x in pairs))

    def overlaps(self, other: Box) -> bool:
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return all(a.start < b.stop and b.start < a.stop for a, b in pairs)

    def shared(self, other: Box) -> Box:
        """The part that lies in both; nowhere wide or high where they do not overlap."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        starts = [max(a.start, b.start) for a, b in pairs]
        stops = [min(a.stop, b.stop) for a, b in pairs]
        return Box(*(slice(x, max(x, y)) for x, y in zip(starts, stops, strict=True)))

    def seen_from(self, other: Box) -> Box:
        """The same part, in the pixels of a box that holds it."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return Box(*(slice(a.start - b.start, a.stop - b.start) for a, b in pairs))

    def within(self, other: Box) -> Box:
        """The same part of a box, in the pixels of the picture that the box is a part of."""
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return Box(*(slice(a.start + b.start, a.stop + b.start) for a, b in pairs))


def bounding_box(mask: np.ndarray, margin: int = 0) -> Box | None:
    """The smallest box around a mask (H, W) bool, grown by a margin; None if it is empty.

    margin: pixels on each side, as far as there is picture.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if rows.size == 0:
        return None
    spans = zip((rows, columns), mask.shape, strict=True)
    ends = [(max(0, int(x[0]) - margin), min(n, int(x[-1]) + margin + 1)) for x, n in spans]
    return Box(slice(*ends[0]), slice(*ends[1]))


def boxes_around(mask: np.ndarray, margin: int) -> list[Box]:
    """Boxes around the pieces of a mask (H, W) bool, grown by a margin, that do not overlap.

    margin: pixels on each side, as far as there is picture. Pieces whose boxes would overlap share
    one; so many pieces that it does not pay to tell them apart have one for all.
    """
    whole = bounding_box(mask, margin)
    if whole is None:
        return []
    # Outlines are found faster than pieces are named; a piece in another's hole lies in its box.
    some = np.asarray(mask, np.uint8)[whole.slices]
    start = whole.columns.start, whole.rows.start
    pieces, _ = cv2.findContours(some, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=start)
    if len(pieces) > MOST_PIECES:
        return [whole]
    height, width = mask.shape
    found: list[Box] = []
    for x, y, w, h in map(cv2.boundingRect, pieces):
        box = Box(
            slice(max(0, y - margin), min(height, y + h + margin)),
            slice(max(0, x - margin), min(width, x + w + margin)),
        )
        while touching := [other for other in found if other.overlaps(box)]:
            for other in touching:
                found.remove(other)
                box = box.around(other)
        found.append(box)
    return found


def alpha_box(rgba: np.ndarray, margin: int = 0, within: Box | None = None) -> Box | None:
    """The box around a layer's alpha above 0, grown by a margin; None if there is none.

    rgba: (H, W, 4). within: outside of it there is nothing; None: look everywhere.
    """
    height, width = rgba.shape[:2]
    within = within or Box.whole((height, width))
    found = bounding_box(rgba[within.rows, within.columns, 3] > 0)
    if found is None:
        return None
    ends = (
        (part.start + start - margin, part.stop + start + margin, n)
        for part, start, n in (
            (found.rows, within.rows.start, height),
            (found.columns, within.columns.start, width),
        )
    )
    return Box(*(slice(max(0, start), min(n, stop)) for start, stop, n in ends))


def cropped(x: np.ndarray | float, box: Box) -> np.ndarray | float:
    """A part of a picture (H, W, ...), or the number that holds for all of it."""
    return x[box.slices] if isinstance(x, np.ndarray) else x


def disc(radius: float) -> np.ndarray:
    """A disc of so many pixels around its middle, for growing and shrinking, uint8."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(radius) + 1,) * 2)

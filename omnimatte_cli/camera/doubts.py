"""What is doubtful about a registration, as sentences with frame numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.camera.model import corners, project

LARGE_RMS = 1.0  # pixels at working width
LITTLE_AGREES = 0.45  # of the tracked points: fewer inliers mean depth, or that most of it moves
CANVAS_AREAS = 6.0  # times the frame's area that a canvas may have


@dataclass(frozen=True)
class Fits:
    """rms: (T,) pixels, or NaN. share: (T,) inliers among the points that were tracked, or NaN.
    lost: frames whose motion could not be found."""

    rms: np.ndarray
    share: np.ndarray
    lost: Sequence[int]


def find_doubts(
    homographies: np.ndarray,
    size: Size,
    cuts: Sequence[int],
    fits: Fits | None,
    blind: bool,
    first: int = 0,
) -> list[str]:
    """Sentences for the user.

    fits: how well each frame was registered; None where the camera stands still: nothing is
    registered then, and what does not fit is what moves before it. blind: nothing could be followed
    at all. first: the number that frame 0 has in the sentences.
    """
    said = []
    if blind:
        said.append(
            "The scene has too little texture to tell whether the camera moves; it is taken to be "
            "static."
        )
        return said
    said += [
        f"A new scene begins at frame {first + t}: each scene gets a plate of its own."
        for t in cuts
    ]
    if fits is None:
        return said
    if fits.lost:
        said.append(
            f"No motion could be found in {frames_text(np.array(fits.lost) + first)}: too little "
            "texture, or too much moves at once. They are taken to lie where their neighbours do."
        )
    high = np.flatnonzero(np.nan_to_num(fits.rms) > LARGE_RMS)
    if len(high):
        said.append(
            f"The scene does not fit one plane in {frames_text(high + first)} (rms up to "
            f"{np.nanmax(fits.rms):.1f} px): strong parallax, or a lens or shutter that bends it."
        )
    torn = np.flatnonzero(np.nan_to_num(fits.share, nan=1.0) < LITTLE_AGREES)
    if len(torn):
        said.append(
            f"Less than half of what was tracked moves as one in {frames_text(torn + first)}: "
            "strong parallax, or much of the scene moves."
        )
    for start, stop in zip([0, *cuts], [*cuts, len(homographies)], strict=True):
        areas, furthest = _canvas(homographies[start:stop], size)
        if areas > CANVAS_AREAS:
            said.append(
                f"The camera sees {areas:.0f} times the frame's area (most of all in frame "
                f"{first + start + furthest}): plates are put together from shorter stretches."
            )
    return said


def frames_text(frames: Sequence[int] | np.ndarray) -> str:
    """Frame numbers as text: "frames 3-7, 12 and 20-31", at most four stretches."""
    frames = sorted(int(f) for f in frames)
    runs: list[list[int]] = []
    for t in frames:
        if runs and t == runs[-1][1] + 1:
            runs[-1][1] = t
        else:
            runs.append([t, t])
    parts = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    if len(parts) > 4:
        parts = [*parts[:3], f"{sum(b - a + 1 for a, b in runs[3:])} more"]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"frame {text}" if len(frames) == 1 else f"frames {text}"


def _canvas(homographies: np.ndarray, size: Size) -> tuple[float, int]:
    """Area of the bounds of all frames, in frames' areas, and the frame farthest from the first."""
    where = np.stack([project(h, corners(size)) for h in homographies])
    extent = np.ptp(where.reshape(-1, 2), axis=0)
    far = np.abs(where - corners(size)).max((1, 2)).argmax()
    return float(extent[0] * extent[1] / (size[0] * size[1])), int(far)

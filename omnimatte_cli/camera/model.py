"""Camera: where each frame lies on a common canvas, and what is doubtful about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import InputError
from omnimatte_cli.media.atomic import write_json

FORMAT = "omnimatte camera"
VERSION = 1
STATIC_SHIFT = 0.35  # pixels at working width: a scene that shifts less is left as it is
SMALLEST_SCALE = 1e-3  # w of a projected corner, relative to the centre's, below which it is absurd


class CameraError(InputError):
    """A file of homographies cannot be read or does not fit the video."""


@dataclass(frozen=True)
class Camera:
    """Homographies of all frames and how well they fit.

    homographies: (T, 3, 3) float64, frame pixels to canvas pixels, [2, 2] is 1. The canvas has the
    coordinates of frame `reference`; (0, 0) is the centre of the top left pixel.
    size: (H, W) of the frames. kind: "static" (all homographies are the identity) or "moving".
    inliers: (T,) int, tracked points of the scene that fit. rms: (T,) float64, their root mean
    square distance in pixels; NaN where nothing was measured.
    shift: pixels, how far the scene moves at most between two frames of the clip.
    cuts: frames at which a new scene begins; frames of two scenes share no canvas.
    doubts: sentences for the user, with frame numbers (counted from 0).
    """

    homographies: np.ndarray
    size: Size
    kind: Literal["static", "moving"] = "moving"
    inliers: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    rms: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shift: float = 0.0
    reference: int = 0
    cuts: tuple[int, ...] = ()
    doubts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        h = self.homographies
        assert h.ndim == 3 and h.shape[1:] == (3, 3) and h.dtype == np.float64, (h.shape, h.dtype)
        for name, empty in (("inliers", 0), ("rms", np.nan)):
            if len(getattr(self, name)) == 0:
                object.__setattr__(self, name, np.full(len(h), empty))
            assert len(getattr(self, name)) == len(h), (name, len(h))
        assert 0 <= self.reference < len(h), (self.reference, len(h))

    def __len__(self) -> int:
        return len(self.homographies)

    @property
    def moving(self) -> bool:
        return self.kind == "moving"

    @classmethod
    def static(cls, frames: int, size: Size, **facts: Any) -> Camera:
        """A camera that does not move: the identity for every frame."""
        return cls(np.tile(np.eye(3), (frames, 1, 1)), size, "static", **facts)

    def between(self, source: int, target: int) -> np.ndarray:
        """(3, 3) float64: pixels of frame `source` to pixels of frame `target`."""
        return normalised(np.linalg.solve(self.homographies[target], self.homographies[source]))

    def scene(self, t: int) -> range:
        """Frames of the scene, between two cuts, that frame t belongs to."""
        edges = [0, *self.cuts, len(self)]
        start = max(e for e in edges[:-1] if e <= t)
        return range(start, min(e for e in edges if e > t))

    def scaled(self, size: Size) -> Camera:
        """The same camera for frames of another size (H, W), pixels' areas covering each other."""
        if size == self.size:
            return self
        scale = scale_matrix(self.size, size)
        h = normalised(scale @ self.homographies @ np.linalg.inv(scale))
        factor = size[1] / self.size[1]
        return replace(
            self, homographies=h, size=size, rms=self.rms * factor, shift=self.shift * factor
        )


def normalised(homographies: np.ndarray) -> np.ndarray:
    """(..., 3, 3) with the last entry 1."""
    return homographies / homographies[..., 2:, 2:]


def scale_matrix(size: Size, new: Size) -> np.ndarray:
    """(3, 3): pixel coordinates of an image of `size` (H, W) to those of its resized copy."""
    y, x = new[0] / size[0], new[1] / size[1]
    # Centres: the first pixel's is at 0, so that its left edge is at -.5 in both.
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1.0]])


def project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 2) (x, y) through a (3, 3) homography."""
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return mapped[..., :2] / mapped[..., 2:]


def corners(size: Size) -> np.ndarray:
    """Centres of the four corner pixels, (4, 2) (x, y), clockwise from the top left."""
    h, w = size[0] - 1.0, size[1] - 1.0
    return np.array([[0, 0], [w, 0], [w, h], [0, h]])


def sane(homography: np.ndarray, size: Size, furthest: float = 20.0) -> bool:
    """Is a frame seen through it still a picture: not mirrored, folded, or absurdly large?

    furthest: how many times the frame's width a corner may move.
    """
    if not np.isfinite(homography).all():
        return False
    points = corners(size)
    w = points @ homography[2, :2] + homography[2, 2]
    middle = homography[2, :2] @ points.mean(0) + homography[2, 2]
    if (w / middle < SMALLEST_SCALE).any():
        return False
    mapped = project(homography, points)
    a, b = np.roll(mapped, -1, 0) - mapped, np.roll(mapped, -2, 0) - np.roll(mapped, -1, 0)
    turns = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return bool((turns > 0).all() and np.abs(mapped - points).max() < furthest * size[1])


def write_camera(camera: Camera, path: Path, extra: dict[str, Any] | None = None) -> None:
    """camera.json: everything `read_camera` reads; extra: further entries, such as exposure."""
    known = {
        "format": FORMAT,
        "version": VERSION,
        "size": [camera.size[1], camera.size[0]],
        "frames": len(camera),
        "camera": camera.kind,
        "reference": camera.reference,
        "shift_px": round(camera.shift, 3),
        "cuts": list(camera.cuts),
        "doubts": list(camera.doubts),
        "inliers": camera.inliers.tolist(),
        "rms_px": [None if np.isnan(r) else round(float(r), 4) for r in camera.rms],
        "homographies": camera.homographies.tolist(),
    }
    write_json(path, {**(extra or {}), **known})


def read_camera(path: Path, size: Size, frames: int) -> Camera:
    """Homographies from JSON: what `write_camera` writes, or a bare list of 3x3 matrices.

    Frame to canvas, row-major, the centre of the top left pixel at (0, 0). A file for another size
    of the same aspect is scaled. CameraError says what does not fit.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise CameraError(f"The homographies {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise CameraError(f"The homographies {path} are no JSON: {error}.") from error
    if isinstance(data, list):
        data = {"homographies": data}
    if not isinstance(data, dict) or "homographies" not in data:
        raise CameraError(f'{path} has no "homographies": a list of 3x3 matrices, one a frame.')
    h = _matrices(path, data["homographies"], frames)
    own = _size(path, data.get("size"), size)
    for t, matrix in enumerate(h):
        if not sane(matrix, own, furthest=1e4):
            raise CameraError(
                f"{path}: the homography of frame {t} folds or mirrors the frame, or is singular."
            )
    cuts = _numbers(path, data, "cuts", [])
    reference = (_numbers(path, data, "reference", []) or [_nearest_identity(h)])[0]
    if not all(0 < c < frames for c in cuts) or not 0 <= reference < frames:
        raise CameraError(f'{path}: "cuts" and "reference" must be frames of the video.')
    still = bool(np.abs(h - np.eye(3)).max() < 1e-12)
    inliers, rms = data.get("inliers") or [0] * frames, data.get("rms_px") or [None] * frames
    if not all(_are_numbers(values, frames) for values in (inliers, rms)):
        raise CameraError(f'{path}: "inliers" and "rms_px" must have one number a frame.')
    shift, doubts = data.get("shift_px"), data.get("doubts", [])
    if not (shift is None or _are_numbers([shift], 1)) or not isinstance(doubts, list):
        raise CameraError(f'{path}: "shift_px" must be a number, "doubts" a list of sentences.')
    camera = Camera(
        h,
        own,
        "static" if still else "moving",
        inliers=np.array([n or 0 for n in inliers], np.int64),
        rms=np.array([np.nan if r is None else r for r in rms], np.float64),
        shift=largest_shift(h, own) if shift is None else float(shift),
        reference=reference,
        cuts=tuple(sorted(cuts)),
        doubts=tuple(map(str, doubts)),
    )
    return camera.scaled(size)


def largest_shift(homographies: np.ndarray, size: Size) -> float:
    """How far the scene moves at most between two frames, in pixels.

    Means over a grid of 3x3 points of the frame; to stay cheap, from the first and the middle frame
    to every other.
    """
    h, w = size
    grid = np.stack(np.meshgrid([0.1 * w, 0.5 * w, 0.9 * w], [0.1 * h, 0.5 * h, 0.9 * h]), -1)
    largest = 0.0
    for start in {0, len(homographies) // 2}:
        for other in homographies:
            moved = project(np.linalg.solve(other, homographies[start]), grid.reshape(-1, 2))
            largest = max(largest, float(np.hypot(*(moved - grid.reshape(-1, 2)).T).mean()))
    return largest


def _nearest_identity(h: np.ndarray) -> int:
    return int(np.abs(h - np.eye(3)).sum((1, 2)).argmin())


def _matrices(path: Path, value: object, frames: int) -> np.ndarray:
    try:
        h = np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise CameraError(f'{path}: "homographies" must be numbers, 3x3 a frame.') from error
    if h.ndim == 2 and h.shape[1] == 9:
        h = h.reshape(-1, 3, 3)
    if h.ndim != 3 or h.shape[1:] != (3, 3):
        raise CameraError(f'{path}: "homographies" must be 3x3 a frame, and have {h.shape}.')
    if len(h) != frames:
        raise CameraError(f"{path} has {len(h)} homographies, the video {frames} frames.")
    if not np.isfinite(h).all() or (h[:, 2, 2] == 0).any():
        raise CameraError(f"{path}: a homography has entries that are not finite, or ends in 0.")
    return normalised(h)


def _size(path: Path, value: object, size: Size) -> Size:
    if value is None:
        return size
    if (
        not isinstance(value, Sequence)
        or len(value) != 2
        or not all(isinstance(v, int) and v > 0 for v in value)
    ):
        raise CameraError(f'{path}: "size" must be [width, height] in pixels.')
    own = (value[1], value[0])
    if abs(own[1] * size[0] / (own[0] * size[1]) - 1) > 0.01:
        raise CameraError(
            f"{path} is for frames of {own[1]}x{own[0]}, not of the video's aspect "
            f"({size[1]}x{size[0]})."
        )
    return own


def _are_numbers(values: object, count: int) -> bool:
    """Whether these are `count` finite numbers, or None where one is not known."""
    if not isinstance(values, list) or len(values) != count:
        return False
    real = [v for v in values if v is not None]
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in real)
    return plain and all(abs(v) < 1e15 for v in real)


def _numbers(path: Path, data: dict[str, Any], key: str, default: list[int]) -> list[int]:
    value = data.get(key, default)
    value = value if isinstance(value, list) else [value]
    if not all(isinstance(v, int) and not isinstance(v, bool) for v in value):
        raise CameraError(f'{path}: "{key}" must be frame numbers.')
    return value

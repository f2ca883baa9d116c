"""The scene without its movers as each frame sees it, before a camera that stands or moves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.camera.canvas import Canvas, build_canvas, stretches
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.camera.registration import register
from omnimatte_cli.camera.verify import explains_more
from omnimatte_cli.ranks import masked_median
from omnimatte_cli.segment.ghosts import ghosts
from omnimatte_cli.segment.motion import (
    Frames,
    Scene,
    foreground,
    noise_of,
    sample_indices,
    scene_of,
    study_scene,
)

REACH = 5  # pixels, side of the square around a place from which the plate may have slipped
TOLERANCE = 24  # grey levels that neighbouring plate pixels may lend before a moving camera
FEW = 4  # samples of the canvas that must show a place before a difference to it counts
LOOKS = 25  # frames that are asked for what rests in the plate
AROUND, WIDE = 48, 13  # columns of the picture, and of its part in which a variation is usual
LEVELS = 2048.0  # steps of a variation that are told apart
USUAL = 1.5  # times the usual variation that a place may have
SURE = 3  # frames that must show the ground bare where something rests in the plate
AGREED = 0.4  # share of the frames that differ there which must show the ground bare
SPREAD = 1.5  # standard deviations of noise in half an interquartile range


class Backdrop:
    """The plate of every frame of a clip (T, h, w, 3) uint8, and how the camera moves.

    cuts: frames with which a new scene begins. scenes: the stretches of frames between them, in
    which objects are followed.
    """

    def __init__(
        self, frames: Frames, camera: Camera, cuts: Sequence[int], resting: bool = True
    ) -> None:
        """resting: whether to leave out what rests for half of the time, before a fixed camera."""
        self.camera, self.size = camera, (frames.shape[1], frames.shape[2])
        edges = [0, *cuts, len(frames)]
        self.scenes = [range(a, b) for a, b in itertools.pairwise(edges)]
        self.fixed: dict[range, Scene] = {}
        self.canvases: dict[range, Canvas] = {}
        if not camera.moving:
            for scene in self.scenes:
                whole = len(scene) == len(frames)
                part = frames if whole else frames[np.array(scene)]
                self.fixed[scene] = study_scene(part, resting)
            return
        nothing = np.zeros(self.size, bool)
        for stretch in stretches(camera):
            canvas = build_canvas(
                lambda: iter(frames), camera, lambda t: nothing, stretch, light=False
            )
            usual = _usual(canvas.variation, canvas.count > 0)
            self.canvases[stretch] = replace(canvas, variation=np.minimum(canvas.variation, usual))

    def scene(self, t: int) -> Scene:
        """The scene without its movers as frame t sees it."""
        if self.fixed:
            return next(scene for s, scene in self.fixed.items() if t in s)
        canvas = next(c for s, c in self.canvases.items() if t in s)
        matrix = canvas.homography(self.camera, t)
        h, w = self.size

        def seen(x: np.ndarray, how: int = cv2.INTER_LINEAR) -> np.ndarray:
            return cv2.warpPerspective(x, matrix, (w, h), flags=how | cv2.WARP_INVERSE_MAP)

        noise = noise_of(seen(canvas.variation) * np.float32(255 * SPREAD))
        known = seen(canvas.count, cv2.INTER_NEAREST) >= min(FEW, len(canvas.frames))
        return scene_of(seen(canvas.image), noise, REACH, TOLERANCE, known)

    def uncover(self, frames: Frames) -> None:
        """Take out of the plates what rests in them and leaves at some time.

        What frames show there once it has left is the plate.
        """
        picks = sample_indices(len(frames), LOOKS).tolist()
        bare: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for t in picks:
            scene = self.scene(t)
            differs = foreground(frames[t], scene)
            bare[t] = differs, ghosts(differs, frames[t], scene.plate)
        if sum(bool(found.any()) for _, found in bare.values()) < SURE:
            return
        for stretch, scene in self.fixed.items():
            own = {t: m for t, m in bare.items() if t in stretch}
            image, seen = _bare_ground(frames, own, lambda t: np.eye(3), self.size)
            if image is None:
                continue
            plate = np.where(seen[..., None], image, scene.plate).astype(np.uint8)
            noise = np.where(seen, np.median(scene.noise), scene.noise).astype(np.float32)
            self.fixed[stretch] = scene_of(plate, noise)
        for stretch, canvas in self.canvases.items():
            own = {t: m for t, m in bare.items() if t in stretch}
            size = (canvas.image.shape[0], canvas.image.shape[1])
            place = partial(canvas.homography, self.camera)
            image, seen = _bare_ground(frames, own, place, size)
            if image is None:
                continue
            usual = np.median(canvas.variation[canvas.count > 0])
            self.canvases[stretch] = replace(
                canvas,
                image=np.where(seen[..., None], image, canvas.image),
                variation=np.where(seen, usual, canvas.variation).astype(np.float32),
            )


def _usual(variation: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The variation (h, w) float32 in [0, 1] that is usual around each place.

    Where something moves in a quarter of the frames, the variation is the mover's and not the
    scene's: taken for noise, it would hide the mover. seen: (h, w) bool.
    """
    h, w = variation.shape
    size = (AROUND, max(round(AROUND * h / w), 1))
    levels = np.where(seen, np.minimum(variation * LEVELS, 255), 0).astype(np.uint8)
    small = cv2.medianBlur(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), WIDE)
    wide = cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR).astype(np.float32)
    return USUAL * (wide + 1) / LEVELS


def _bare_ground(
    frames: Frames,
    bare: dict[int, tuple[np.ndarray, np.ndarray]],
    place: Callable[[int], np.ndarray],
    size: Size,
) -> tuple[np.ndarray | None, np.ndarray]:
    """The median of what frames show where they are bare.

    bare: by frame, two masks (h, w) bool: where it differs from the plate, and where this is
    because the plate shows something. place: frame number to the homography onto the canvas of
    `size` (H, W). Returns the image (H, W, 3) uint8, None where there is none, and (H, W) bool:
    where SURE frames show it, and enough of those that differ agree.
    """
    height, width = size
    stack = np.full((max(len(bare), 1), height, width, 3), 255, np.uint8)
    count, differing = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for k, (t, masks) in enumerate(bare.items()):
        matrix = place(t)
        differs, shown = (
            cv2.warpPerspective(
                m.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST
            )
            for m in masks
        )
        differing += differs > 0
        picture = cv2.warpPerspective(frames[t], matrix, (width, height))
        stack[k][shown > 0] = picture[shown > 0]
        count += shown > 0
    seen = (count >= SURE) & (count >= AGREED * differing)
    if not seen.any():
        return None, seen
    counts = np.repeat(count.reshape(-1), 3)
    return masked_median(stack.reshape(len(stack), -1), counts).reshape(height, width, 3), seen


def find_motion(frames: Frames) -> Camera:
    """How the camera moves, from frames (T, h, w, 3) uint8 alone; static if that explains more."""
    nothing = np.zeros(frames.shape[1:3], bool)
    camera = register(frames)
    if camera.moving:
        picks = sample_indices(len(frames)).tolist()
        if explains_more(camera, picks, lambda t: frames[t], lambda t: nothing):
            return camera
    return Camera.static(len(frames), camera.size)

"""Things in parallax that were given to an object: what stays when the object has left is ground.

Shadows and mirror images go along with their object. So frames in which it stands elsewhere are
brought into the view of frame t, by the homography and the residual motion. Where they show what
frame t shows, that is ground, and only stiffer registration made it differ from the plate. An
object that hardly moves against the scene tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.camera.canvas import Hidden
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte.box import Box, bounding_box
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.plate.align import FLOW_WIDTH, Aligner, Shot, prepare

SIDE = 2  # frames looked at for an object, to either side
REACH = 40  # frames, how far away they are at most
AGREE = 2  # of them must show the same
CLEAR = 0.25  # share of its size by which an object must have got clear of where it was
LEVELS = 4.0  # by which pixels may differ, on average over three by three,
TONE = 3.0  # and what is left of that where it is blurred, which takes grain away
BLUR = 1.5  # pixels, of that
SLIP, TONE_SLIP = 0.25, 0.1  # pixels by which the motion may be off: levels more on slopes
SPREAD = 3.0  # pixels, the neighbourhood of a pixel in which
AROUND = 24  # pixels around what is owned, in which motion is looked for as well
SHARE = 0.3  # of all that is owned must show the same


def ground_in_parallax(
    frames: np.ndarray, camera: Camera, small: np.ndarray, hidden: Hidden, ownership: Ownership
) -> Callable[[int, np.ndarray], np.ndarray]:
    """Which of the pixels that are owned in frame t, (h, w) bool, are ground, (h, w) bool.

    frames: (T, h, w, 3) uint8; camera: of that size. small: (N, T, h, w) bool, the masks. hidden:
    frame t's grown masks.
    """
    if not camera.moving:
        return lambda t, owned: np.zeros_like(owned)
    boxes = [np.stack([_corners(mask) for mask in masks]) for masks in small]

    @lru_cache(maxsize=2 * REACH)
    def ready(t: int) -> Shot:
        return prepare(frames[t], hidden(t))

    def ground(t: int, owned: np.ndarray) -> np.ndarray:
        found = np.zeros(owned.shape, bool)
        owned = owned & ~hidden(t)
        box = bounding_box(owned, AROUND)
        if box is None:
            return found
        here, corner = ready(t), np.eye(3)
        if camera.size[1] <= FLOW_WIDTH:
            here = here.part(box)
            corner[:2, 2] = box.columns.start, box.rows.start
        else:
            box = Box.whole(camera.size)
        aligner = Aligner(here.hidden.shape, min(camera.size[1], FLOW_WIDTH))
        owned, inside = owned[box.slices], found[box.slices]
        whose = ownership.weights[:, t, box.rows, box.columns].argmax(0)

        @lru_cache
        def same_in(n: int) -> np.ndarray:
            image, shown = aligner.align(here, ready(n), camera.between(t, n) @ corner)
            return shown & _alike(image, here.image)

        for i in np.unique(whose[owned]):
            far = _elsewhere(camera, boxes[i], t)
            if len(far) < AGREE:
                continue
            its = owned & (whose == i)
            same = its & (np.sum([same_in(n) for n in far], axis=0) >= AGREE)
            near, all_of_it = (
                cv2.GaussianBlur(x.astype(np.float32), (0, 0), SPREAD) for x in (same, its)
            )
            inside |= its & (near > SHARE * all_of_it)
        return found

    return ground


def _corners(mask: np.ndarray) -> np.ndarray:
    """Of the box around a mask, (4, 2) (x, y); NaN without any."""
    box = bounding_box(mask)
    if box is None:
        return np.full((4, 2), np.nan)
    rows, columns = box.slices
    low, high = (columns.start, rows.start), (columns.stop - 1, rows.stop - 1)
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])], np.float64)


def _elsewhere(camera: Camera, boxes: np.ndarray, t: int) -> list[int]:
    """The nearest frames in which an object is clear of where it is in frame t, on both sides.

    boxes: (T, 4, 2), its corners in every frame. Where it is out of the picture, its effects may
    still be in it.
    """
    scene = camera.scene(t)
    frames = np.arange(max(scene.start, t - REACH), min(scene.stop, t + REACH + 1))
    motions = np.linalg.solve(camera.homographies[t], camera.homographies[frames])
    corners = np.concatenate([boxes[frames], np.ones((len(frames), 4, 1))], axis=2)
    seen = corners @ motions.transpose(0, 2, 1)
    seen = seen[..., :2] / seen[..., 2:]
    here = boxes[t]
    low, high = np.minimum(here.min(0), seen.min(1)), np.maximum(here.max(0), seen.max(1))
    sizes = np.ptp(here, 0), np.ptp(seen, 1)
    gap = high - low - sum(sizes)
    clear = frames[(gap > CLEAR * np.maximum(*sizes)).any(1)]  # NaN is not clear
    return [*clear[clear > t][:SIDE].tolist(), *clear[clear < t][::-1][:SIDE].tolist()]


def _alike(image: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Where two pictures (h, w, 3) uint8 show the same, but for grain and small shifts, bool."""
    apart = image.astype(np.float32) - frame
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = cv2.magnitude(*(cv2.Sobel(grey, -1, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))))
    slope = cv2.dilate(slope, np.ones((3, 3), np.uint8))
    tone = channel_max(np.abs(cv2.GaussianBlur(apart, (0, 0), BLUR)))
    levels = cv2.blur(channel_max(np.abs(apart)) - SLIP * slope, (3, 3))
    return (levels < LEVELS) & (tone - TONE_SLIP * slope < TONE)

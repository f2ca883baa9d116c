"""The canvas: the scene as all frames of a stretch show it together, in one frame's coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, at_most, channel_max, eight_bits, full_scale
from omnimatte_cli.camera.doubts import CANVAS_AREAS
from omnimatte_cli.camera.exposure import FIT_WIDTH, Exposure, fit_exposure, mostly_fields
from omnimatte_cli.camera.model import Camera, corners, project, sane
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.ranks import masked_median, masked_ranks
from omnimatte_cli.scratch import EVERY, release, scratch_array

Frames = Callable[[], Iterator[np.ndarray]]  # opens a new stream of (H, W, 3) frames
Hidden = Callable[[int], np.ndarray]  # frame number to (H, W) bool: where the scene is not seen

SAMPLES = 32  # frames, spread over a stretch, from which a moving camera's canvas is made
LONG = 256  # frames up to which a static camera's canvas is made from all of them; beyond:
STATIC_SAMPLES = 100  # frames, spread evenly
BUDGET = 512 << 20  # bytes of samples held at a time
LIGHT_ROUNDS = 2
LIGHT_CHANGES = 0.012  # relative: if no frame of a stretch differs by more, its light is constant
SPREAD_SAMPLES = 16  # frames from which each pixel's variation is told


@dataclass(frozen=True)
class Canvas:
    """The median of a stretch of frames.

    image: (h, w, 3), as deep as the frames, in the light of the typical one. count: (h, w) uint16,
    frames that show each pixel; 0 where none does. reference: frame whose pixels are the canvas's,
    displaced by `corner`: the (x, y) pixel of that frame at the canvas's top left. frames: the
    stretch. variation: (h, w) float32 in [0, 1], half the interquartile range of a sample of those
    frames, of three channels the largest. exposures: each frame's light against the canvas; empty
    where it does not change.
    """

    image: np.ndarray
    count: np.ndarray
    variation: np.ndarray
    reference: int
    corner: tuple[int, int]
    frames: range
    exposures: dict[int, Exposure]

    def homography(self, camera: Camera, t: int) -> np.ndarray:
        """(3, 3): pixels of frame t to pixels of this canvas."""
        return _moved(camera.between(t, self.reference), self.corner)

    def within(self, camera: Camera) -> np.ndarray:
        """(h, w) bool: what lies within any of the stretch's frames, hidden or not."""
        inside = np.zeros(self.count.shape, np.uint8)
        for t in self.frames:
            quad = np.rint(project(self.homography(camera, t), corners(camera.size)))
            cv2.fillConvexPoly(inside, quad.astype(np.int32), 1)
        return inside > 0

    def clear_of(self, camera: Camera, hidden: Hidden, distance: int) -> np.ndarray:
        """How many of SAMPLES frames show each pixel farther than `distance` pixels from what they
        hide, (h, w) int64."""
        side = 2 * distance + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        count = np.zeros(self.count.shape, np.int64)
        for t in _picked(self.frames, SAMPLES):
            wide = cv2.dilate(hidden(t).astype(np.uint8), disc)
            motion = self.homography(camera, t)
            flags = cv2.INTER_NEAREST
            size = count.shape[::-1]
            count += cv2.warpPerspective(wide, motion, size, flags=flags, borderValue=1.0) == 0
        return count

    def placed(
        self,
        camera: Camera,
        t: int,
        frame: np.ndarray,
        part: tuple[slice, slice],
        masks: Sequence[np.ndarray],
    ) -> tuple[np.ndarray, ...]:
        """Frame t as a part of the canvas has it, in the canvas's light: image (h, w, 3), and for
        each mask (H, W) bool where it is or where the frame shows nothing, (h, w) bool.

        part: rows and columns of the canvas.
        """
        if t in self.exposures:
            frame = self.exposures[t].remove(frame)
        rows, columns = part
        motion = _moved(self.homography(camera, t), (columns.start, rows.start))
        size = rows.stop - rows.start, columns.stop - columns.start
        image, *shown = _placed(frame, motion, size, *masks)
        return image, *(~there for there in shown)

    @property
    def light_changes(self) -> bool:
        return bool(self.exposures)

    @property
    def light_has_field(self) -> bool | None:
        """Whether a frame's light is to be fitted with a field: True, or None, as it turns out."""
        return mostly_fields(self.exposures.values()) or None


@dataclass(frozen=True)
class Stack:
    """Frames of a stretch, each as it lies on the canvas.

    images: (K, h, w, 3), as the frames are. shown: for each kind of mask (K, h, w) bool, what the
    frame shows outside of it. reference, corner, frames: as of a canvas.
    """

    images: np.ndarray
    shown: tuple[np.ndarray, ...]
    reference: int
    corner: tuple[int, int]
    frames: range

    def homography(self, camera: Camera, t: int) -> np.ndarray:
        """(3, 3): pixels of frame t to pixels of this canvas."""
        return _moved(camera.between(t, self.reference), self.corner)

    def seen_from(self, camera: Camera, t: int, where: np.ndarray) -> np.ndarray:
        """Places (h, w) bool of this canvas in frame t, (H, W) bool."""
        if not where.any():
            return np.zeros(camera.size, bool)
        motion, flags = self.homography(camera, t), cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        return cv2.warpPerspective(where.view(np.uint8), motion, camera.size[::-1], flags=flags) > 0


def stack_frames(
    frames: np.ndarray, camera: Camera, masks: Sequence[Hidden], stretch: range
) -> Stack:
    """The frames that a canvas of the stretch is made of, of small ones (T, H, W, 3)."""
    reference = stretch.start + len(stretch) // 2
    picked = _members(camera, stretch, SAMPLES)
    corner, size = _bounds(camera, picked, reference)
    images = np.empty((len(picked), *size, 3), frames.dtype)
    shown = tuple(np.empty(images.shape[:3], bool) for _ in masks)
    for k, t in enumerate(picked):
        motion = _moved(camera.between(t, reference), corner)
        images[k], *seen = _placed(frames[t], motion, size, *(mask(t) for mask in masks))
        for out, there in zip(shown, seen, strict=True):
            out[k] = there
    return Stack(images, shown, reference, corner, stretch)


def stretches(camera: Camera, areas: float = CANVAS_AREAS) -> list[range]:
    """The frames in runs that each fit on a canvas of `areas` times the frame; cut at each cut."""
    runs = []
    start = 0
    while start < len(camera):
        scene = camera.scene(start)
        stop = scene.stop
        while stop - start > 1 and not _fits(camera, range(start, stop), areas):
            stop = start + (stop - start + 1) // 2
        runs.append(range(start, stop))
        start = stop
    return runs


def longest_stretch(camera: Camera) -> range:
    """The frames of the largest canvas: all of a camera that stands still."""
    return max(stretches(camera), key=len)


def build_canvas(
    frames: Frames,
    camera: Camera,
    hidden: Hidden,
    stretch: range,
    samples: int = SAMPLES,
    budget: int = BUDGET,
    light: bool = True,
    dtype: np.dtype | type = np.uint8,
    kept: FrameSamples | None = None,
    bodies: Hidden | None = None,
) -> Canvas:
    """The masked median of a stretch of frames on one canvas.

    frames: is opened once for light and once for each strip of rows whose samples fit in `budget`
    bytes. A static camera's stretch is taken whole, unless it is LONG. light: whether exposure is
    evened. dtype: of the frames, uint8 or uint16. kept: frames at hand, of which the canvas of a
    whole LONG clip is made, without opening `frames` for it. bodies: where nothing is known of the
    light; None: wherever the scene is hidden.
    """
    reference = stretch.start + len(stretch) // 2
    at_hand = None
    picked = _members(camera, stretch, samples)
    everyone = picked if camera.moving else list(stretch)
    if len(picked) < len(everyone) and kept is not None and kept.offered == len(stretch):
        picked, at_hand = kept.indices, kept
    (left, top), (h, w) = _bounds(camera, picked, reference)
    exposures = {}
    if light:
        masks = (hidden,) if bodies in (None, hidden) else (hidden, bodies)
        exposures = _lights(frames, camera, masks, picked, everyone, reference)
    top_level, size_of = full_scale(dtype), np.dtype(dtype).itemsize
    image = np.empty((h, w, 3), dtype)
    count = np.zeros((h, w), np.uint16)
    variation = np.empty((h, w), np.float32)
    rows = max(1, min(h, budget // (len(picked) * w * 3 * size_of)))
    for start in range(0, h, rows):
        part = slice(start, min(start + rows, h))
        shape = (part.stop - start, w)
        stack = np.empty((len(picked), *shape, 3), dtype)
        found = pick(frames, picked) if at_hand is None else ((t, at_hand.frame(t)) for t in picked)
        for k, (t, frame) in enumerate(found):
            here = _moved(camera.between(t, reference), (left, top + start))
            if t in exposures:
                frame = exposures[t].remove(frame)
            stack[k], shown = _placed(frame, here, shape, hidden(t))
            stack[k][~shown] = top_level  # sorts to the end, where it does not count
            count[part] += shown
        flat = stack.reshape(len(picked), -1)
        counts = np.repeat(count[part].reshape(-1).astype(np.int64), 3)
        image[part] = masked_median(flat, counts).reshape(*shape, 3)
        few = at_most(flat, SPREAD_SAMPLES)
        some = counts if len(few) == len(flat) else (few < top_level).sum(0)
        variation[part] = channel_max(masked_ranks(few, some)[1].reshape(*shape, 3)) / top_level
    return Canvas(image, count, variation, reference, (left, top), stretch, exposures)


def pick(frames: Frames, picked: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """The frames of the given ascending numbers, with their numbers."""
    wanted = set(picked)
    last = picked[-1]
    for t, frame in enumerate(frames()):
        if t in wanted:
            yield t, frame
        if t >= last:
            return


def _members(camera: Camera, stretch: range, samples: int) -> list[int]:
    """The frames that a canvas is made of."""
    if camera.moving:
        return _picked(stretch, samples)
    return list(stretch) if len(stretch) <= LONG else _picked(stretch, STATIC_SAMPLES)


def _picked(stretch: range, samples: int) -> list[int]:
    spread = np.linspace(stretch.start, stretch.stop - 1, min(samples, len(stretch)))
    return sorted({int(x) for x in spread.round()})


def _fits(camera: Camera, frames: range, areas: float) -> bool:
    if not camera.moving:
        return True
    reference = frames.start + len(frames) // 2
    h, w = camera.size
    motions = [camera.between(t, reference) for t in frames]
    if not all(sane(m, camera.size) for m in motions):
        return False
    extent = np.ptp(np.concatenate([project(m, corners(camera.size)) for m in motions]), axis=0)
    return bool((extent[0] + 1) * (extent[1] + 1) <= areas * h * w)


def _bounds(camera: Camera, picked: Sequence[int], reference: int) -> tuple[tuple[int, int], Size]:
    """Corner (x, y) in the reference's pixels and size (h, w) of the canvas of some frames."""
    where = np.concatenate(
        [project(camera.between(t, reference), corners(camera.size)) for t in picked]
    )
    low, high = np.floor(where.min(0) + 1e-6), np.ceil(where.max(0) - 1e-6)
    w, h = (high - low + 1).astype(int)
    return (int(low[0]), int(low[1])), (int(h), int(w))


def _moved(homography: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    shift = np.array([[1, 0, -corner[0]], [0, 1, -corner[1]], [0, 0, 1.0]])
    return shift @ homography


def _placed(
    frame: np.ndarray, homography: np.ndarray, shape: Size, *hidden: np.ndarray
) -> tuple[np.ndarray, ...]:
    """A frame on the canvas: image (h, w, 3), and what it shows outside of each mask, (h, w) bool.

    hidden: masks (H, W) bool.
    """
    if np.array_equal(homography, np.eye(3)) and shape == frame.shape[:2]:
        return frame, *(~mask for mask in hidden)
    if np.array_equal(homography[:2, :2], np.eye(2)) and not homography[2, :2].any():
        x, y = -homography[:2, 2]
        if x == round(x) and y == round(y) and x >= 0 and y >= 0:  # rows of a static camera
            bottom, right = int(y) + shape[0], int(x) + shape[1]
            if bottom <= frame.shape[0] and right <= frame.shape[1]:
                part = np.s_[int(y) : bottom, int(x) : right]
                return frame[part], *(~mask[part] for mask in hidden)
    size, linear = shape[::-1], cv2.INTER_LINEAR
    image = cv2.warpPerspective(frame, homography, size, flags=cv2.INTER_CUBIC)
    covered = (
        cv2.warpPerspective(
            mask.astype(np.uint8) * 255, homography, size, flags=linear, borderValue=255.0
        )
        for mask in hidden
    )
    return image, *(share < 64 for share in covered)


def _lights(
    frames: Frames,
    camera: Camera,
    masks: Sequence[Hidden],
    picked: Sequence[int],
    everyone: Sequence[int],
    reference: int,
) -> dict[int, Exposure]:
    """The light of each frame of `everyone` against the canvas of the `picked` of them.

    masks: what the canvas does without, and last where nothing is known of the light: what an
    effect seems to change may be the light. Empty where it does not change.
    """
    size = camera.size
    small = (max(8, round(size[0] * min(1.0, FIT_WIDTH / size[1]))), min(size[1], FIT_WIDTH))
    little = camera.scaled(small)
    (left, top), shape = _bounds(little, picked, reference)
    images = scratch_array((len(everyone), *small, 3), np.uint8)
    hidden = tuple(scratch_array((len(everyone), *small), bool) for _ in masks)
    motions = [_moved(little.between(t, reference), (left, top)) for t in everyone]
    for k, (t, frame) in enumerate(pick(frames, everyone)):
        images[k] = eight_bits(cv2.resize(frame, small[::-1], interpolation=cv2.INTER_AREA))
        for out, mask in zip(hidden, masks, strict=True):
            full = mask(t).astype(np.float32)
            out[k] = cv2.resize(full, small[::-1], interpolation=cv2.INTER_AREA) > 0
        if k % EVERY == 0:
            release(images, *hidden)
    wanted = set(picked)
    among = [k for k, t in enumerate(everyone) if t in wanted]
    found = [Exposure.none()] * len(everyone)

    def fit(k: int, field: bool | None = None) -> Exposure:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        plate = cv2.warpPerspective(canvas, motions[k], small[::-1], flags=flags)
        known = cv2.warpPerspective(
            (count > 0).astype(np.uint8), motions[k], small[::-1], flags=flags
        )
        return fit_exposure(images[k], plate, (known > 0) & ~hidden[-1][k], field)

    for _ in range(LIGHT_ROUNDS):
        stack = np.empty((len(among), *shape, 3), np.uint8)
        count = np.zeros(shape, np.int64)
        for place, k in enumerate(among):
            image = found[k].remove(images[k])
            stack[place], shown = _placed(image, motions[k], shape, hidden[0][k])
            stack[place][~shown] = 255
            count += shown
        flat = stack.reshape(len(among), -1)
        canvas = masked_median(flat, np.repeat(count.reshape(-1), 3)).reshape(*shape, 3)
        for k in among:
            found[k] = fit(k)
        if max(found[k].change for k in among) < LIGHT_CHANGES:
            return {}
    for k in set(range(len(everyone))).difference(among):
        found[k] = fit(k)
    if mostly_fields(found):  # one model for all, or light would jump where it is a close call
        for k in (k for k, light in enumerate(found) if not light.field.any()):
            found[k] = fit(k, field=True)
    return dict(zip(everyone, found, strict=True))

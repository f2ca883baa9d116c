"""The plate of every frame, from its neighbours seen from it.

For frame t: the masked median of some 12 neighbours, each aligned to frame t by homography and a
smooth residual motion, in frame t's light. Frame t itself is not among them, so that the plate is
no copy of what it is to be compared with. What no neighbour shows comes from the canvas of a whole
stretch of frames, and what nothing shows is filled, and marked as a guess.
A camera that does not move has one median of all frames, in each frame's light.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, at_most, channel_max, full_scale, integers
from omnimatte_cli.camera.canvas import Canvas, Frames, Hidden, build_canvas, pick, stretches
from omnimatte_cli.camera.exposure import Exposure, fit_exposure, for_fit
from omnimatte_cli.camera.model import Camera, corners, project, sane
from omnimatte_cli.errors import VideoError
from omnimatte_cli.matte.blur import wide_blur
from omnimatte_cli.matte.box import Box, disc
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.align import Aligner, Shot, prepare
from omnimatte_cli.plate.crumbs import crumbs
from omnimatte_cli.plate.fill import fill_hole, fringed, membrane
from omnimatte_cli.plate.median import growth
from omnimatte_cli.plate.relit import LOOKS, Look, relit
from omnimatte_cli.plate.ripples import rippled
from omnimatte_cli.plate.settle import Samples, settle
from omnimatte_cli.plate.sharpness import sharpened, sharpness
from omnimatte_cli.plate.steady import steadied
from omnimatte_cli.ranks import masked_ranks

NEIGHBOURS = 12
WORKERS = 2  # neighbours that are aligned at the same time
SPAN = 40  # frames to either side that neighbours are taken from
ONE_SIDED = 1.5  # times the span, where the other side has too few frames
MEMORY = 1 << 30  # bytes of decoded frames held; larger frames get a shorter span
AHEAD = 256 << 20  # bytes of samples, up to which a frame's are begun during the one before it
AROUND = 0.05  # of the width: over which the ground changes by itself alike
ENOUGH = 3  # samples that tell a pixel's detail
OVERLAP = 0.25  # share of the frame that a neighbour must show

Item = TypeVar("Item")


@dataclass(frozen=True)
class FramePlate:
    """The clean plate of one frame.

    image: (H, W, 3), as deep as the frames. samples: (H, W) uint8, how many frames the pixel's
    colour is from. valid: (H, W) bool, False where it is a guess. variation: (H, W) float32 in [0,
    1], how much the scene varies there by itself: half the interquartile range of its samples, of
    three channels the largest; 0 where the colour is from a canvas, or a guess.
    light: the frame's, against its canvas.
    canvas: (h, w, 3), the picture of its whole stretch, without holes; None for a fixed camera.
    """

    image: np.ndarray
    samples: np.ndarray
    valid: np.ndarray
    variation: np.ndarray
    light: Exposure = field(default_factory=Exposure.none)
    canvas: np.ndarray | None = None

    def doubts(self, size: Size) -> np.ndarray:
        """How much darker, and how much brighter, a frame may be than the plate before that means
        anything: (h, w, 2) uint8 levels of 255, at another size.

        A place that is darker in some samples than all places around are had a shadow there that
        was missed, and a frame that is as dark has it, too.
        """
        seen = (self.samples > 1).astype(np.float32)
        varies, known = (
            cv2.resize(x, size[::-1], interpolation=cv2.INTER_AREA) for x in (self.variation, seen)
        )
        sigma = AROUND * size[1]
        around = wide_blur(varies * known, sigma) / np.maximum(wide_blur(known, sigma), 1e-3)
        return integers(cv2.merge([np.minimum(varies, around), varies]))


def frame_plates(
    frames: Frames,
    camera: Camera,
    hidden: Hidden,
    owned: Hidden | None = None,
    neighbours: int = NEIGHBOURS,
    span: int = SPAN,
    dtype: np.dtype | type = np.uint8,
    kept: FrameSamples | None = None,
    wanted: Sequence[int] | None = None,
    sharp: bool = False,
) -> Iterator[FramePlate]:
    """One plate a frame, in order.

    frames: opens a stream of (H, W, 3) RGB frames, uint8 or uint16 as `dtype` says; it is opened a
    few times, and its frames are held only as long as they are somebody's neighbours. hidden: frame
    t's grown masks. owned: frame t's pixels that effects of objects change, where those are known:
    they count as hidden. kept: some of the frames, at hand. wanted: the frames that get one,
    ascending; None: all. sharp: whether each plate is made as sharp as its frame; the one
    of a fixed camera is not.
    """
    wanted = range(len(camera)) if wanted is None else wanted

    def masks(t: int) -> tuple[np.ndarray, np.ndarray]:
        """What does not show frame t's scene as it is, and what of that are bodies."""
        bodies = hidden(t)
        return bodies if owned is None else bodies | owned(t), bodies

    covered = hidden if owned is None else lambda t: masks(t)[0]
    if not camera.moving and not camera.cuts:
        yield from _static(frames, camera, hidden, covered, wanted, dtype, kept)
        return
    runs = stretches(camera)
    span = _span(camera, span, dtype)
    plan = {t: pick_neighbours(camera, t, neighbours, span) for t in wanted}
    aligner = Aligner(camera.size)
    before: tuple[int, np.ndarray] | None = None  # the last frame that got a plate, and it
    kernel: np.ndarray | None = None  # its sharpness
    with ThreadPoolExecutor(WORKERS) as pool:

        def begun() -> Iterator[tuple[int, Shot, Canvas, Callable[[], Samples]]]:
            """Each frame, the canvas that it lies on, and its neighbours, which are on the way."""
            canvas: Canvas | None = None
            for t, target, others in _neighbourhoods(frames, len(camera), masks, plan):
                if canvas is None or t not in canvas.frames:
                    run = next(r for r in runs if t in r)
                    canvas = build_canvas(frames, camera, covered, run, dtype=dtype, bodies=hidden)
                    image, guess = filled_canvas(canvas, camera, hidden, covered, frames)
                    canvas = replace(canvas, image=image, count=np.where(guess, 0, canvas.count))
                light = canvas.light_changes
                yield t, target, canvas, _aligned(aligner, pool, camera, target, others, t, light)

        room = neighbours * np.prod(camera.size) * 4 * np.dtype(dtype).itemsize <= AHEAD
        for t, target, canvas, aligned in _one_ahead(begun()) if room else begun():
            samples = aligned()
            settle(samples, target.image, target.hidden, aligner.flow_size)
            plate = _typical(samples)
            hole = _hole(plate, target.hidden)
            if hole.any() or canvas.light_changes:
                view = _canvas_view(aligner, camera, canvas, target, t)
                # What lies beyond the neighbours' borders is hidden by nothing that leaves crumbs.
                hole |= crumbs(plate.image, plate.samples, hole & target.hidden)
                plate = _completed(plate, view, hole)
            last = None
            if before is not None and before[0] == t - 1 and t in camera.scene(t - 1):
                last = before[1]
            image = plate.image
            if sharp:
                shown = image, target.image, target.hidden
                kernel = sharpness(*shown, None if last is None else kernel)
                image = sharpened(image, kernel)
            if last is not None:
                image = steadied(image, last, camera.between(t, t - 1), target.hidden)
            plate = replace(plate, image=image)
            before = t, image
            yield replace(plate, canvas=canvas.image)


def _one_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same, each asked for while the one before it is still worked on."""
    last = next(items, None)
    for item in items:
        assert last is not None
        yield last
        last = item
    if last is not None:
        yield last


def pick_neighbours(camera: Camera, t: int, count: int, span: int) -> list[int]:
    """About `count` other frames of t's scene: dense nearby, sparser farther, on both sides."""
    scene = camera.scene(t)
    left, right = t - scene.start, scene.stop - 1 - t
    on_left = min(count // 2, left)
    on_right = min(count - on_left, right)
    on_left = min(count - on_right, left)
    picked = []
    for n, room, sign in ((on_left, left, -1), (on_right, right, 1)):
        reach = min(room, max(n, round(span if n <= count // 2 else span * ONE_SIDED)))
        for i in range(n):
            distance = 1 + i + (reach - n) * (i / max(n - 1, 1)) ** 2
            picked.append(t + sign * round(distance))
    return sorted(n for n in set(picked) if _overlaps(camera, t, n))


def _overlaps(camera: Camera, t: int, other: int) -> bool:
    motion = camera.between(t, other)
    if not sane(motion, camera.size, furthest=3.0):
        return False
    where = project(motion, corners(camera.size))
    h, w = camera.size
    low, high = np.maximum(where.min(0), 0), np.minimum(where.max(0), (w - 1, h - 1))
    return bool(np.prod(np.maximum(high - low, 0)) >= OVERLAP * h * w)


def _span(camera: Camera, span: int, dtype: np.dtype | type) -> int:
    per_pixel = 3 * np.dtype(dtype).itemsize + 1  # frame and mask
    held = MEMORY / (camera.size[0] * camera.size[1] * per_pixel)
    return max(4, min(span, int(held / (2 * ONE_SIDED))))


def _neighbourhoods(
    frames: Frames,
    count: int,
    masks: Callable[[int], tuple[np.ndarray, np.ndarray]],
    plan: dict[int, list[int]],
) -> Iterator[tuple[int, Shot, dict[int, Shot]]]:
    """Each planned frame of a video of `count` with its neighbours.

    A frame is let go when nobody needs it any more.
    """
    # What frame t and all later ones need: frames from this one on.
    oldest: dict[int, int] = {}
    first = count
    for t in reversed(plan):
        first = oldest[t] = min(first, t, *plan[t])
    needed = {n for t, others in plan.items() for n in (t, *others)}
    held: dict[int, Shot] = {}
    source = iter(frames())
    read = 0
    for t, others in plan.items():
        while read <= max([t, *others]):
            frame = next(source, None)
            if frame is None:
                raise VideoError(f"The video ended after {read} of {count} frames.")
            if read in needed:
                held[read] = prepare(frame, *masks(read))
            read += 1
        for n in [n for n in held if n < oldest[t]]:
            del held[n]
        yield t, held[t], {n: held[n] for n in others}


def _aligned(
    aligner: Aligner,
    pool: Executor,
    camera: Camera,
    target: Shot,
    others: dict[int, Shot],
    t: int,
    light_changes: bool,
) -> Callable[[], Samples]:
    """A frame's neighbours as seen from it, in its light, the nearest in time first.

    They are begun; what is returned waits for them.
    """
    order = sorted(others, key=lambda n: abs(n - t))
    top = full_scale(target.image.dtype)
    images = np.full((max(len(order), 1), *camera.size, 3), top, target.image.dtype)
    shown = np.zeros(images.shape[:3], bool)
    here = for_fit(target.image) if light_changes else target.image

    def place(k: int) -> None:
        n = order[k]
        motion = camera.between(t, n)
        image, shown[k] = aligner.align(target, others[n], motion)
        if light_changes:
            # Light is told where effects are, too: what passes for one of them may be the light.
            lit = aligner.lit(target, others[n], motion)
            image = fit_exposure(here, image, lit).apply(image)
        cv2.copyTo(image, shown[k].view(np.uint8), images[k])  # which holds `top` elsewhere

    placed = [pool.submit(place, k) for k in range(len(order))]

    def waited() -> Samples:
        for one in placed:
            one.result()
        return Samples(images, shown)

    return waited


def _typical(samples: Samples) -> FramePlate:
    """The median of what is shown, and its spread. The samples are sorted in place."""
    images, shown = samples.images, samples.shown
    h, w = shown.shape[1:]
    count = shown.sum(0, dtype=np.uint8)
    counts = np.repeat(count.reshape(-1), 3)
    median, spread = masked_ranks(images.reshape(len(images), -1), counts)
    variation = channel_max(spread.reshape(h, w, 3)) / full_scale(images.dtype)
    return FramePlate(median.reshape(h, w, 3), count, count > 0, variation)


def filled_canvas(
    canvas: Canvas, camera: Camera, bodies: Hidden, hidden: Hidden, frames: Frames
) -> tuple[np.ndarray, np.ndarray]:
    """A canvas without holes, (h, w, 3), and which of it is a guess, (h, w) bool.

    bodies: frame t's grown masks. hidden: what the canvas was built without, frame by frame: those
    and what effects change. frames: as the canvas was built from. It is filled once, so that all
    frames see the same guess. Beyond all frames it just goes on.
    """
    unseen = canvas.count == 0
    # Frames' own edges are no holes, but a hole goes up to them.
    core = unseen & (cv2.erode(canvas.within(camera).astype(np.uint8), np.ones((5, 5))) > 0)
    hole = unseen & (cv2.dilate(core.astype(np.uint8), np.ones((7, 7))) > 0)
    guess = unseen | fringed(hole, canvas.count, partial(canvas.clear_of, camera, hidden))
    outside = unseen & ~hole
    wrong = crumbs(canvas.image, canvas.count, guess & ~outside)
    hole, guess = hole | wrong, guess | wrong

    def looks(box: Box) -> Iterator[Look]:
        picked = at_most(canvas.frames, LOOKS)
        for t, frame in pick(frames, picked):
            masks = bodies(t), hidden(t)
            yield Look(*canvas.placed(camera, t, frame, box.slices, masks))

    image, told = relit(canvas.image, hole, looks)
    return fill_hole(image, guess & ~told, outside), guess


def _canvas_view(
    aligner: Aligner, camera: Camera, canvas: Canvas, target: Shot, t: int
) -> FramePlate:
    """The canvas seen from frame t, in its light."""
    h, w = camera.size
    motion = canvas.homography(camera, t)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    image = cv2.warpPerspective(
        canvas.image, motion, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    samples = cv2.warpPerspective(
        np.minimum(canvas.count, 255).astype(np.uint8), motion, (w, h), flags=flags
    )
    # Already in frame t's view: what is left is the residual motion.
    seen = prepare(image, samples == 0)
    image, shown = aligner.align(target, seen, np.eye(3))
    light = Exposure.none()
    if canvas.light_changes:
        lit = aligner.lit(target, seen, np.eye(3))
        light = fit_exposure(target.image, image, lit, canvas.light_has_field)
        image = light.apply(image)
    samples = np.where(shown, samples, 0).astype(np.uint8)
    unknown = np.zeros((h, w), np.float32)
    return FramePlate(image, samples, shown & (samples > 0), unknown, light)


def _hole(plate: FramePlate, hidden: np.ndarray) -> np.ndarray:
    """Where a plate is not to be had from neighbours, (H, W) bool.

    hidden: (H, W) bool, the frame's objects, whose own edges may have got into scarce samples.
    """
    hole = ~plate.valid
    if hole.any():
        near = cv2.dilate(hidden.astype(np.uint8), disc(2 * growth(hidden.shape))) > 0
        hole |= fringed(hole, plate.samples) & near
    return hole


def _completed(plate: FramePlate, view: FramePlate, hole: np.ndarray) -> FramePlate:
    """The plate in the canvas's light, with the canvas in its hole, joined without a seam."""
    if not hole.any():
        return replace(plate, light=view.light)
    image = membrane(plate.image, view.image, hole)
    image = rippled(image, plate.image, view.image, hole, plate.samples >= ENOUGH)
    guess = hole & ~view.valid
    variation = np.where(hole, view.variation, plate.variation)
    samples = np.where(hole, view.samples, plate.samples).astype(np.uint8)
    return FramePlate(image, samples, ~guess, variation, view.light)


def _static(
    frames: Frames,
    camera: Camera,
    bodies: Hidden,
    hidden: Hidden,
    wanted: Sequence[int],
    dtype: np.dtype | type,
    kept: FrameSamples | None,
) -> Iterator[FramePlate]:
    """One median of all frames, in the light of each that is wanted."""
    everyone = range(len(camera))
    canvas = build_canvas(frames, camera, hidden, everyone, dtype=dtype, kept=kept, bodies=bodies)
    image, hole = filled_canvas(canvas, camera, bodies, hidden, frames)
    samples = np.minimum(canvas.count, 255).astype(np.uint8)
    variation = np.where(hole, np.float32(0), canvas.variation)
    plate = FramePlate(image, samples, ~hole, variation)
    for t in wanted:
        light = canvas.exposures.get(t, Exposure.none())
        yield plate if light.constant else replace(plate, image=light.apply(image), light=light)

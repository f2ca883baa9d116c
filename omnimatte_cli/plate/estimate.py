"""The clean plate of a shot, whatever its camera does.

A camera that stands still in steady light has one plate, the masked median. Where camera or light
move, every frame has a plate of its own. Either is estimated three times: at first outside the
masks, then also without the pixels that the objects' effects own, as is seen over the plate before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Plate, Size, eight_bits
from omnimatte_cli.camera.canvas import Frames, build_canvas, longest_stretch
from omnimatte_cli.camera.exposure import Exposure
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.camera.registration import register
from omnimatte_cli.camera.verify import explains_more
from omnimatte_cli.matte.blur import enlarged
from omnimatte_cli.matte.box import disc
from omnimatte_cli.matte.ownership import Ownership, working_plates
from omnimatte_cli.media.encode import write_image
from omnimatte_cli.media.read import iter_frames, read_still
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.median import (
    Coverage,
    Medians,
    estimate_plate,
    growth,
    median_of_free,
)
from omnimatte_cli.plate.parallax import ground_in_parallax
from omnimatte_cli.plate.passing import without_passing
from omnimatte_cli.plate.refine import leave_far, owned_pixels, refine_plate
from omnimatte_cli.plate.resting import resting_effects
from omnimatte_cli.plate.temporal import FramePlate, frame_plates
from omnimatte_cli.progress import Progress
from omnimatte_cli.scratch import EVERY, Growing, release, scratch_array
from omnimatte_cli.settings import Settings
from omnimatte_cli.shot import Shot, known_camera

log = logging.getLogger(__name__)

LIGHT_FRAMES = 64  # in which a drift of the light is looked for, at most
LIGHT_GAIN = 0.9  # share of the residue that following the light must leave at most
SHORTEST_SCENE = 5  # frames
SOFT_EDGE = 2  # pixels by which an object's edge is soft in small videos, too
UNLIKE = 32  # levels; a larger difference counts as this, whatever it is

FindOwners = Callable[[np.ndarray], Ownership]  # from plates (1 or T, h, w, 3) uint8


def find_camera(shot: Shot, settings: Settings, progress: Progress) -> Camera:
    """How the camera moves: as the user says, or registered. Says what was found.

    Raises CameraError for a file of homographies that does not fit.
    """
    size, count = shot.full_size, len(shot)
    if (known := known_camera(settings)) is not None:
        return known(size, count)
    progress.stage("camera", count)

    def counted() -> Iterator[np.ndarray]:
        for t, frame in enumerate(shot.open_frames()):
            progress.step(t + 1)
            yield eight_bits(frame)

    def sample(t: int) -> np.ndarray:
        return eight_bits(samples.frame(t))

    samples, hidden = shot.samples, shot.masks.union
    camera = register(counted(), hidden, first=shot.first)
    if camera.moving and settings.camera == "auto":
        picks = samples.indices
        if not explains_more(camera, picks, sample, hidden):
            camera = Camera.static(count, size, cuts=camera.cuts)
    edges = np.array([0, *camera.cuts, count])
    if not camera.moving and camera.cuts and np.diff(edges).min() < SHORTEST_SCENE:
        # Without texture there is nothing to follow, and what passes by looks like a cut.
        camera = replace(camera, cuts=())
    if camera.moving:
        progress.say(f"The camera moves, up to {camera.shift:.0f} px.")
    elif settings.camera == "moving":
        progress.say("--camera moving: no motion of the camera was found; it is taken to be still.")
    else:
        log.info("The camera stands still.")
    for doubt in camera.doubts:
        progress.say(doubt)
    return camera


def clean_plate(
    shot: Shot,
    passes: int,
    find_owners: FindOwners | None,
    folder: Path | None,
    numbers: Sequence[int],
    progress: Progress,
) -> Plate:
    """The plate of a shot, as deep as its frames.

    passes: estimates; the later ones leave out what objects own, as `find_owners` says for the
    plates so far (None: nobody knows, and one estimate is all). folder: where the plates of single
    frames are written, as 00000.png and so on; None: only the first of them is kept.
    """
    camera = shot.camera or Camera.static(len(shot), shot.full_size)
    steady = not camera.moving and not camera.cuts
    if steady and not light_changes(shot):
        log.info("One plate holds for all frames: the median of %d.", len(shot.samples.indices))
        medians = Medians(shot.samples)
        plate = estimate_plate(shot.samples, shot.masks, progress, medians=medians)
        if find_owners is None:
            return plate
        look = looking(shot, find_owners)
        for _ in range(passes - 1):
            found = look(working_plates(plate, shot.size, len(shot)))
            taken = owner_pixels(shot, camera, found, shot.full_size)
            plate = refine_plate(shot.samples, plate, taken, shot.masks, progress, medians)
        return plate

    why = "light changes" if steady else "camera moves, or there are cuts"
    log.info("Every frame gets a plate of its own: the %s.", why)
    ownership = shot.first_look if passes > 1 else None
    if find_owners is not None:
        look = looking(shot, find_owners, ownership)
        for _ in range(passes - 1 - (ownership is not None)):
            progress.stage("plate", len(shot))
            ownership = look(working_frame_plates(shot, camera, ownership, progress))
    progress.stage("plate", len(shot))
    hidden = grown(shot.masks)
    owned = None if ownership is None else owner_pixels(shot, camera, ownership, shot.full_size)
    plates = frame_plates(
        shot.open_frames, camera, hidden, owned, dtype=shot.dtype, kept=shot.samples, sharp=True
    )
    first = longest_stretch(camera).start
    return written(plates, shot.size, folder, numbers, progress, first)


def looking(shot: Shot, find_owners: FindOwners, before: Ownership | None = None) -> FindOwners:
    """Who owns each change, look after look: each finds more only beside what the last one found.

    before: the last look so far.
    """
    hidden = cache(lambda: grown_array(shot.small))

    def look(plates: np.ndarray) -> Ownership:
        nonlocal before
        found = find_owners(plates)
        if before is not None:
            leave_far(found, before, hidden())
        before = found
        return found

    return look


def light_changes(shot: Shot) -> bool:
    """Whether the light of a static shot drifts: fitted at working size, outside the masks.

    Of a long shot LIGHT_FRAMES frames, spread evenly, are looked at.
    """
    step = -(-len(shot) // LIGHT_FRAMES)
    frames, hidden = shot.frames[::step], grown_array(shot.small[:, ::step])
    still = Camera.static(len(frames), shot.size)
    canvas = build_canvas(lambda: iter(frames), still, lambda t: hidden[t], range(len(frames)))
    if all(light.constant for light in canvas.exposures.values()):
        return False
    # Fitted numbers always fit a little better: light that drifts shows in clearly less residue
    # against the plate of the steady light.
    samples = FrameSamples.of(frames)
    steady = median_of_free(samples, Coverage(shot.size, samples.indices, lambda t: hidden[t], 0))
    free = ~hidden & (canvas.count > 0)
    before, after = 0.0, 0.0
    for t, frame in enumerate(frames):
        light = canvas.exposures.get(t, Exposure.none())
        pair = (steady, light.apply(canvas.image))
        apart = [np.abs(frame.astype(np.int16) - plate)[free[t]] for plate in pair]
        before += float(np.minimum(apart[0], UNLIKE).sum())
        after += float(np.minimum(apart[1], UNLIKE).sum())
    return after < LIGHT_GAIN * before


def grown(masks: Masks) -> Callable[[int], np.ndarray]:
    """Frame t's masks together, grown as rough ones need it, (H, W) bool."""
    kernel = disc(max(SOFT_EDGE, growth(masks.size)))
    return lambda t: cv2.dilate(masks.union(t).astype(np.uint8), kernel).astype(bool)


def grown_array(small: np.ndarray) -> np.ndarray:
    """The masks (N, T, h, w) bool together, grown, (T, h, w) bool."""
    kernel = disc(max(SOFT_EDGE, growth(small.shape[2:])))
    out = scratch_array(small.shape[1:], bool)
    for t in range(len(out)):
        out[t] = cv2.dilate(np.any(small[:, t], axis=0).astype(np.uint8), kernel) > 0
        if t % EVERY == 0:
            release(out, small)
    return out


def owner_pixels(
    shot: Shot, camera: Camera, ownership: Ownership, size: Size
) -> Callable[[int], np.ndarray]:
    """What anyone owns in frame t, effects that rest included, (H, W) bool of the given size.

    The places of movers without a mask are theirs where enough samples show what is behind them.
    Before a camera that moves, ground that only parallax made differ is nobody's.
    """
    hidden = grown_array(shot.small)
    frames, camera = shot.frames, camera.scaled(shot.size)
    parallax = ground_in_parallax(frames, camera, shot.small, lambda t: hidden[t], ownership)
    few = shot.size[0] * shot.size[1]

    @cache
    def packed(t: int) -> np.ndarray:
        found = owned_pixels(ownership, t, shot.size)
        return np.packbits([found, parallax(t, found)], axis=None)

    def both(t: int) -> np.ndarray:
        return np.unpackbits(packed(t), count=2 * few).reshape(2, *shot.size).view(bool)

    def small(t: int) -> np.ndarray:
        owned, given = both(t)
        return owned & ~given

    rest = resting_effects(frames, camera, lambda t: hidden[t], small)
    passing = without_passing(
        shot.strangers,
        lambda t: hidden[t] | small(t),
        shot.samples.indices,
        size,
        frames,
        camera,
        ownership,
    )

    def owned(t: int) -> np.ndarray:
        found, (resting, ground) = owned_pixels(ownership, t, size), rest(t)
        given = both(t)[1] | ground
        if given.any():
            found &= enlarged(given.astype(np.float32), size) < 0.5
        if resting.any():
            found |= enlarged(resting.astype(np.float32), size) > 0.5
        if passing is not None:
            found |= passing(t)
        return found

    return owned


def working_frame_plates(
    shot: Shot, camera: Camera, ownership: Ownership | None, progress: Progress
) -> np.ndarray:
    """The plates at working size of the frames that a coarse answer asks about, (T, h, w, 3) uint8.

    The others are 0: nothing reads them.
    """
    hidden = grown_array(shot.small)
    owned = None if ownership is None else owner_pixels(shot, camera, ownership, shot.size)
    camera = camera.scaled(shot.size)
    frames: Frames = lambda: iter(shot.frames)  # noqa: E731
    out = scratch_array(shot.frames.shape, np.uint8)
    wanted = shot.coarse_frames
    plates = frame_plates(frames, camera, lambda t: hidden[t], owned, wanted=wanted)
    for done, (t, plate) in enumerate(zip(wanted, plates, strict=True)):
        out[t] = plate.image
        if done % EVERY == 0:
            release(out, hidden, shot.frames)
        progress.step(t + 1)
    return out


def written(
    plates: Iterator[FramePlate],
    size: Size,
    folder: Path | None,
    numbers: Sequence[int],
    progress: Progress,
    pictured: int = 0,
) -> Plate:
    """Plates of single frames as one that changes over time, read back from `folder`.

    size: at which the plates' doubts are kept. pictured: the frame whose canvas is kept.
    """
    first, valid, canvas = None, None, None
    lights, doubts = [], Growing()
    for t, plate in enumerate(plates):
        lights.append(plate.light)
        doubts.add(plate.doubts(size))
        if t == pictured:
            canvas = plate.canvas
        if first is None:
            first, valid = plate.image, plate.valid.copy()
        assert valid is not None
        valid &= plate.valid
        if folder is not None:
            folder.mkdir(exist_ok=True)
            write_image(folder / f"{numbers[t]:05d}.png", plate.image)
        progress.step(t + 1)
    assert first is not None and valid is not None
    moving = None if folder is None else (lambda: iter_frames(folder, deep=None))

    def reread(t: int) -> np.ndarray:
        assert folder is not None
        image = read_still(folder / f"{numbers[t]:05d}.png")
        assert image is not None
        return image

    changes = any(not light.constant for light in lights)
    described = tuple(light.described() for light in lights) if changes else ()
    return Plate(first, valid, moving, described, canvas, doubts.array(), reread)

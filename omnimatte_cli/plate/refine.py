"""A cleaner plate: estimated again without the pixels that objects' effects own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Plate, Size, at_most, frame_or_static
from omnimatte_cli.matte.box import Box, bounding_box, disc
from omnimatte_cli.matte.ownership import Ownership, possible, upsample
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.fill import fill_hole, fringed
from omnimatte_cli.plate.median import Coverage, Medians, clear_of, grown_mask, growth
from omnimatte_cli.plate.relit import LOOKS, Look, relit
from omnimatte_cli.plate.traces import traces
from omnimatte_cli.progress import Progress
from omnimatte_cli.scratch import EVERY, release

TAKEN = 0.5  # a pixel owned by more than this is no sample of the plate
FURTHER = 0.04  # of the height: how far from what is owned another look may find more
FEWEST = 3  # samples that a refined plate needs at a pixel; else the first one stays


def owned_pixels(ownership: Ownership, t: int, size: Size) -> np.ndarray:
    """What anyone owns in frame t at full size, (H, W) bool."""
    owned = ownership.weights[:, t].astype(np.float32).sum(0)
    share = owned / np.maximum(owned + frame_or_static(ownership.unowned, t), 1e-6)
    found = np.zeros(size, bool)
    box = bounding_box(possible(share, size))
    if box is not None:
        found[box.slices] = upsample(share[None], size, box)[0] > TAKEN
    return found


def leave_far(ownership: Ownership, before: Ownership, hidden: np.ndarray) -> None:
    """Take from the objects, in place, what is far from all that they owned before.

    ownership: `unowned` is (T, h, w), and what is taken goes to it. before: an ownership over other
    plates of the same frames. hidden: grown masks, (T, h, w) bool.
    What a look at better plates finds beside the rest of a shadow is the end of it. What it finds
    elsewhere are mostly places where those plates are worse, made without frames that were wrongly
    owned there: each look would find more of them.
    """
    size = hidden.shape[1], hidden.shape[2]
    reach = disc(max(1, FURTHER * size[0]))
    for t, masks in enumerate(hidden):
        known = owned_pixels(before, t, size) | masks
        far = cv2.dilate(known.view(np.uint8), reach) == 0
        mine = ownership.weights[:, t]
        ownership.unowned[t] += np.where(far, mine.sum(0, dtype=np.float32), 0).astype(np.float16)
        ownership.weights[:, t] = np.where(far, 0, mine)
        if t % EVERY == 0:
            release(ownership.weights, ownership.unowned, before.weights, before.unowned, hidden)


def refine_plate(
    samples: FrameSamples,
    plate: Plate,
    owned: Callable[[int], np.ndarray],
    masks: Masks,
    progress: Progress,
    medians: Medians | None = None,
) -> Plate:
    """Estimate the plate again without what anyone owns: `owned` of frame t, (H, W) bool.

    The masked median keeps ghosts of effects that rest. Where too few frames are free of owners no
    frame shows the plate: an effect that never leaves is as good as a mask, and what is behind it
    is filled in and marked as a guess. What objects left behind is no plate either. medians: of the
    samples, as the plate was estimated with.
    """
    progress.stage("plate", samples.size[0])

    def hides(t: int) -> np.ndarray:
        return owned(t) | masks.union(t)

    coverage = Coverage(samples.size, samples.indices, hides)
    medians = medians or Medians(samples)
    again = medians.of(coverage, progress)
    left = traces(samples, coverage)
    if left.any():
        before = coverage.until_hidden(left)
        enough = (before.count >= FEWEST)[..., None]
        again = np.where(enough, medians.of(before), again)

    def clear(distance: int) -> np.ndarray:
        return clear_of(samples.size, samples.indices, masks.union, distance)

    shown = ~fringed(coverage.count < FEWEST, coverage.count, clear)
    image = np.where(shown[..., None], again, plate.image)

    def looks(box: Box) -> Iterator[Look]:
        """Some of the samples, in a part of the picture."""
        for t in at_most(samples.indices, LOOKS):
            body = grown_mask(masks.union(t), growth(samples.size))[box.slices]
            taken = owned(t)[box.slices] | body
            yield Look(samples.frame(t, box.rows)[:, box.columns], body, taken)

    image, told = relit(image, ~shown, looks)
    image = fill_hole(image, ~shown & ~told)
    return Plate(image, shown)

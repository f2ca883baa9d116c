"""A cleaner plate: estimated again without the pixels that objects' effects own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from omnimatte_cli.arrays import Masks, Plate, Size, frame_or_static
from omnimatte_cli.matte.ownership import Ownership, upsample
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.fill import fill_hole, fringed
from omnimatte_cli.plate.median import Coverage, clear_of, median_of_free
from omnimatte_cli.progress import Progress

TAKEN = 0.5  # a pixel owned by more than this is no sample of the plate
FEWEST = 3  # samples that a refined plate needs at a pixel; else the first one stays


def owned_pixels(ownership: Ownership, t: int, size: Size) -> np.ndarray:
    """What anyone owns in frame t at full size, (H, W) bool."""
    owned = ownership.weights[:, t].astype(np.float32).sum(0)
    total = owned + frame_or_static(ownership.unowned, t)
    return upsample((owned / np.maximum(total, 1e-6))[None], size)[0] > TAKEN


def refine_plate(
    samples: FrameSamples,
    plate: Plate,
    owned: Callable[[int], np.ndarray],
    masks: Masks,
    progress: Progress,
) -> Plate:
    """Estimate the plate again without what anyone owns: `owned` of frame t, (H, W) bool.

    The masked median keeps ghosts of effects that rest. Where too few frames are free of owners no
    frame shows the plate: an effect that never leaves is as good as a mask, and what is behind it
    is filled in and marked as a guess.
    """
    progress.stage("plate", samples.size[0])

    def hides(t: int) -> np.ndarray:
        return owned(t) | masks.union(t)

    coverage = Coverage(samples.size, samples.indices, hides)
    again = median_of_free(samples, coverage, progress)

    def clear(distance: int) -> np.ndarray:
        return clear_of(samples.size, samples.indices, masks.union, distance)

    shown = ~fringed(coverage.count < FEWEST, coverage.count, clear)
    image = fill_hole(np.where(shown[..., None], again, plate.image), ~shown)
    return Plate(image, shown)

"""Movers that nobody masked, told from mirror images of those that somebody did.

An image in a mirror moves by itself, far from its object, as a passing car does. The ownership
network tells the two apart: asked without strangers, it gives a mirror image to its object, and a
car to nobody or in parts to several.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from omnimatte_cli.arrays import Plate, at_most
from omnimatte_cli.matte.ownership import Ownership, working_plates
from omnimatte_cli.media.samples import MEDIAN_SAMPLES, FrameSamples
from omnimatte_cli.plate.estimate import FindOwners, working_frame_plates
from omnimatte_cli.plate.median import Coverage, median_of_free
from omnimatte_cli.progress import Progress
from omnimatte_cli.scratch import EVERY, release, scratch_array
from omnimatte_cli.segment.strangers import find_strangers, find_strangers_over
from omnimatte_cli.shot import Shot

# Shares of a mover from which it is an image: by how much one object owns more of it than any
# other, and what all own together. Strangers in films have several owners: 0.12, 0.57 at most.
BY_ONE, BY_ALL = 0.25, 0.7


def with_strangers(
    shot: Shot, find_owners: FindOwners | None, progress: Progress, plate: Plate | None = None
) -> Shot:
    """The shot with the movers that nobody masked.

    find_owners: who owns each change, of the shot as it is; None: nobody knows, and before a camera
    that moves nobody is looked for. plate: the user's, if there is one, over which all is asked.
    """
    camera = shot.camera
    if camera is None or camera.cuts or (camera.moving and find_owners is None):
        return shot
    if camera.moving:
        assert find_owners is not None
        if plate is None or plate.moving is None:
            progress.stage("plate", len(shot))
            plates = working_frame_plates(shot, camera, None, progress)
        else:
            plates = working_plates(plate, shot.size, len(shot))
        ownership = find_owners(plates)
        progress.stage("strangers")
        found = find_strangers_over(
            shot.frames, plates, shot.small, camera.scaled(shot.size), shot.coarse_frames
        )
        found = nobodys(found, ownership, shot.coarse_frames)
        shot = replace(shot, first_look=ownership)
    else:
        progress.stage("strangers")
        found = find_strangers(shot.frames, shot.small, float(shot.fps))
        if len(found) and find_owners is not None:
            if plate is None:
                plates = median_of_all(shot)[None]
            else:
                plates = working_plates(plate, shot.size, len(shot))
            found = nobodys(found, find_owners(plates), shot.coarse_frames)
    if len(found):
        one = len(found) == 1
        moves = "1 more thing moves" if one else f"{len(found)} more things move"
        progress.say(
            f"{moves} than the masks show: what {'it changes' if one else 'they change'} stays out "
            "of the layers (--no-strangers does not look for such things)."
        )
    return replace(shot, strangers=found)


def median_of_all(shot: Shot) -> np.ndarray:
    """The median of a shot's frames at working size, masks or not, (h, w, 3) uint8."""
    samples = FrameSamples.of(at_most(shot.frames, MEDIAN_SAMPLES))
    return median_of_free(samples, Coverage(shot.size, samples.indices, None))


def nobodys(movers: np.ndarray, ownership: Ownership, frames: list[int]) -> np.ndarray:
    """Those of the movers (S, T, h, w) that no object owns, asked about in some frames."""
    if not len(movers):
        return movers
    owned = owned_shares(ownership, movers, frames)
    first, second = np.sort(np.pad(owned, ((0, 0), (0, 1))), axis=1)[:, :-3:-1].T
    return chosen(movers, (first - second < BY_ONE) & (owned.sum(1) < BY_ALL))


def chosen(movers: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Those of the movers (S, T, h, w) to `keep`, (S,) bool; on the disk where they are large."""
    if keep.all():
        return movers
    few = scratch_array((int(keep.sum()), *movers.shape[1:]), bool)
    for place, mover in enumerate(np.flatnonzero(keep)):
        few[place] = movers[mover]
        release(few, movers)
    return few


def owned_shares(ownership: Ownership, movers: np.ndarray, frames: list[int]) -> np.ndarray:
    """How much of each mover's picture each object owns, (S, N) in [0, 1].

    movers: (S, T, h, w) bool. frames: those that the ownership was asked about. 0 for a mover that
    none of them shows.
    """
    owned = np.zeros((len(movers), len(ownership.weights)))
    area = np.zeros(len(movers))
    for t in frames:
        weights = ownership.weights[:, t].astype(np.float32)
        share = weights / np.maximum(weights.sum(0) + ownership.unowned[t], np.float32(1e-6))
        for i, mover in enumerate(movers[:, t]):
            owned[i] += share[:, mover].sum(1)
            area[i] += np.count_nonzero(mover)
        if t % EVERY == 0:
            release(ownership.weights, ownership.unowned, movers)
    return owned / np.maximum(area, 1)[:, None]

"""Does a registration explain the clip better than no motion at all?

Tracked points can agree on a motion that is not the camera's: a shadow's edge, a pattern of grain,
water, one large thing that moves. Frames far apart tell: if it was the camera, they match better
nearly everywhere once the one is seen from the other; if it was not, what stands still gets worse.
Over plain ground a chain of frames can follow an object's shadow along the only edge that there is.
Then a much smaller motion, found without the chain and away from the objects, explains as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from omnimatte_cli.camera.direct import align, explained
from omnimatte_cli.camera.model import Camera, corners, normalised, project, sane
from omnimatte_cli.camera.tracking import view

PAIRS = 12  # pairs of frames that are compared
WIDTH = 480  # pixels at which they are
TILE = 12  # pixels of a side of the places that are compared
CLEARLY = 0.6  # share of a place's difference that the better way may leave at most
# Places that get better for each that gets worse. In made clips true motions have 44 and more, over
# water and past movers too; movers that fill four fifths of a tripod's frame have 4.5.
MAJORITY = 12.0
# Share of the textured places that the registration must explain: with water over four fifths of
# the frame a true one has .26, one of nothing .05.
LEAST = 0.1
EXPLAINED = 0.6  # of a place's detail: what the better way leaves at most (1.4 if all differs)
TEXTURE = 1.0  # levels of detail below which a place says nothing
UNLIKE = 32.0  # levels; a larger difference counts as this, whatever it is
FAR = 0.02  # of the width: motion, the mean of the corners, below which a pair does no harm
NEAR = 0.15  # of the height: as far around objects, their shadows may move the picture
MUCH_SMALLER = 0.6  # times the registration's motion, up to which another contradicts it


def explains_more(
    camera: Camera,
    picks: Sequence[int],
    frame: Callable[[int], np.ndarray],
    hidden: Callable[[int], np.ndarray],
) -> bool:
    """Whether frames seen from each other match better than left where they are, nearly everywhere.

    picks: numbers of frames that can be had, ascending. frame: one of them, (H, W, 3) uint8.
    hidden: where its objects are, (H, W) bool. True where no place can be compared: then nothing
    speaks against the registration.
    """
    pairs = _pairs(camera, picks)
    votes = [_votes(camera, a, b, frame, hidden) for a, b in pairs]
    better, worse, right, places = np.array(votes).reshape(-1, 4).sum(0)
    if better < MAJORITY * worse or right < LEAST * places:
        return False
    said = [_contradicted(camera, a, b, frame, hidden) for a, b in pairs]
    return 2 * said.count(True) <= len(said) - said.count(None)


def _contradicted(
    camera: Camera,
    a: int,
    b: int,
    frame: Callable[[int], np.ndarray],
    hidden: Callable[[int], np.ndarray],
) -> bool | None:
    """Whether a much smaller motion explains frames a and b as well as the registration does.

    None where that says that they lie close to each other.
    """
    size = _working(camera.size)
    motion = camera.scaled(size).between(a, b)
    if _length(motion, size) < FAR * size[1]:
        return None
    side = 2 * round(NEAR * size[0]) + 1
    here, there = (view(t, _grey(frame(t), size), _grown(hidden(t), size, side)) for t in (a, b))
    covered = here.hidden, there.hidden
    other = align(here.grey, there.grey, covered, np.eye(3), most=4)
    if other is None or not sane(normalised(other), size):
        return False
    if _length(other, size) > MUCH_SMALLER * _length(motion, size):
        return False
    by_it, by_other = (explained(here.grey, there.grey, covered, m) for m in (motion, other))
    return len(by_other.middles) >= max(len(by_it.middles), 1)


def _length(motion: np.ndarray, size: tuple[int, int]) -> float:
    """How far a motion (3, 3) takes the corners of a picture, in pixels, their mean."""
    ends = corners(size)
    return float(np.linalg.norm(project(motion, ends) - ends, axis=1).mean())


def _working(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) at which frames are compared."""
    scale = min(1.0, WIDTH / size[1])
    return max(16, round(size[0] * scale)), max(16, round(size[1] * scale))


def _pairs(camera: Camera, picks: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of frames of one scene, a third of the clip apart or as far as their views overlap."""
    found = []
    step = max(1, len(picks) // 3)
    for i in range(len(picks)):
        for gap in (step, max(1, step // 4)):
            if i + gap < len(picks):
                a, b = picks[i], picks[i + gap]
                near = sane(camera.between(b, a), camera.size, furthest=0.5)
                if b in camera.scene(a) and near:
                    found.append((a, b))
                    break
    return found[:: -(-len(found) // PAIRS)] if found else []


def _votes(
    camera: Camera,
    a: int,
    b: int,
    frame: Callable[[int], np.ndarray],
    hidden: Callable[[int], np.ndarray],
) -> tuple[int, int, int, int]:
    """Places: that match clearly better registered, clearly worse, well registered, and all.

    What matches in neither way, such as water, is won by chance and has no vote.
    """
    size = _working(camera.size)
    here, there = (_detail(frame(t), size) for t in (a, b))
    free_here, free_there = (_free(hidden(t), size) for t in (a, b))
    motion = camera.scaled(size).between(b, a)
    moved = cv2.warpPerspective(there, motion, size[::-1], flags=cv2.INTER_LINEAR)
    free_moved = cv2.warpPerspective(free_there, motion, size[::-1], flags=cv2.INTER_NEAREST)
    both = ((free_here > 0) & (free_there > 0) & (free_moved > 0)).astype(np.float32)
    places = (max(1, size[1] // TILE), max(1, size[0] // TILE))

    def mean(x: np.ndarray) -> np.ndarray:
        return cv2.resize(x * both, places, interpolation=cv2.INTER_AREA)

    share = mean(np.ones_like(both))
    still, registered = (mean(np.minimum(np.abs(x - here), UNLIKE)) for x in (there, moved))
    detail = mean(np.abs(here))
    told = (share > 0.5) & (detail > TEXTURE * share)
    explained = told & (registered < EXPLAINED * detail)
    better = explained & (registered < CLEARLY * still)
    worse = told & (still < EXPLAINED * detail) & (still < CLEARLY * registered)
    return int(better.sum()), int(worse.sum()), int(explained.sum()), int(told.sum())


def _detail(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """What is left of a picture without its light, (h, w) float32: blurs compare light instead."""
    grey = cv2.GaussianBlur(_grey(image, size).astype(np.float32), (0, 0), 0.8)
    return grey - cv2.GaussianBlur(grey, (0, 0), 6.0)


def _free(hidden: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return (~_grown(hidden, size, 9)).astype(np.uint8)


def _grey(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.resize(grey, size[::-1], interpolation=cv2.INTER_AREA)


def _grown(mask: np.ndarray, size: tuple[int, int], side: int) -> np.ndarray:
    """A mask at a size (h, w), grown by a square of `side` pixels, bool."""
    small = cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_AREA)
    return cv2.dilate(small, np.ones((side, side), np.uint8)) > 0

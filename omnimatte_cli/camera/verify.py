"""Does a registration explain the clip better than no motion at all?

Tracked points can agree on a motion that is not the camera's: a shadow's edge, a pattern of grain,
water, one large thing that moves. Frames far apart tell: if it was the camera, they match better
nearly everywhere once the one is seen from the other; if it was not, what stands still gets worse.
So does what lies nearer or farther than the rest, but it does not stay in one place: where a
tripod stood, the same places stay throughout the clip, and all alike.
Over plain ground a chain of frames can follow an object's shadow along the only edge that there is.
Then a much smaller motion, found without the chain and away from the objects, explains as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import at_most
from omnimatte_cli.camera.direct import Explained, align, explained
from omnimatte_cli.camera.flow import least_squares_step
from omnimatte_cli.camera.model import Camera, corners, normalised, project, sane
from omnimatte_cli.camera.tracking import view

PAIRS = 12  # pairs of frames that are compared
WIDTH = 480  # pixels at which they are
TILE = 12  # pixels of a side of the places that are compared
CLEARLY = 0.6  # share of a place's difference that the better way may leave at most
# Places that get better for each that gets worse. In made clips true motions have 44 and more, over
# water and past movers too, but fewer where there is parallax; movers that fill four fifths of a
# tripod's frame have 4.5.
MAJORITY = 12.0
AT_LEAST = 2.0  # the same where nothing stays: made clips with parallax have 2.3 and more
# Places that stay for each that gets better, up to which nothing does: two in all of one made clip
# with parallax, none in the others; 0.010 and more before a tripod, 0.004 before one that trembles.
STAYING = 0.002
OFTEN = 0.5  # of the pairs, in which a place must get worse to be one that stays
ALIKE = 0.3  # pixels: a tripod may tremble, but what stays does so together
TOGETHER = 0.4  # of such places, that must
CHANCE = 2  # places that are alike in any pair; and, beyond these, that stay in any clip
TELLING = 0.1  # of what gets worse, about which far pairs must tell
RIDGE = 0.02  # share of the detail that is added to that of each direction
# Share of the textured places that the registration must explain: with water over four fifths of
# the frame a true one has .26, one of nothing .05.
LEAST = 0.1
ENOUGH = 0.2  # the same where not nearly everything gets better
EXPLAINED = 0.6  # of a place's detail: what the better way leaves at most (1.4 if all differs)
TEXTURE = 1.0  # levels of detail below which a place says nothing
UNLIKE = 32.0  # levels; a larger difference counts as this, whatever it is
FAR = 0.02  # of the width: motion, the mean of the corners, below which a pair tells little
NEAR = 0.15  # of the height: as far around objects, their shadows may move the picture
MUCH_SMALLER = 0.6  # times the registration's motion, up to which another contradicts it
# Share of what the registration explains that such a motion may leave, in all pairs that it
# contradicts: beside a shadow .09 to .16 in made clips, where two planes are in parallax .36.
ANOTHER = 0.25


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
    counts = [[x.sum() for x in (v.better, v.worse, v.right, v.told)] for v in votes]
    better, worse, right, places = np.array(counts).reshape(-1, 4).sum(0)
    if right < LEAST * places or better < AT_LEAST * worse:
        return False
    nearly_all = better >= MAJORITY * worse
    if not nearly_all and right < ENOUGH * places:
        return False
    if not nearly_all and _staying(votes) > max(STAYING * better, CHANCE):
        return False
    said = [_contradicted(camera, a, b, frame, hidden) for a, b in pairs]
    against = [x for x in said if x]
    if 2 * len(against) <= len(said) - said.count(None):
        return True
    alone, of = np.sum(against, axis=0)
    return bool(alone > ANOTHER * of)


def _contradicted(
    camera: Camera,
    a: int,
    b: int,
    frame: Callable[[int], np.ndarray],
    hidden: Callable[[int], np.ndarray],
) -> tuple[int, ...] | None:
    """Whether a much smaller motion explains as much of frames a and b as the registration does.

    If so, of how many places that the registration explains the other motion leaves how many: these
    and all. Else (). None where the registration says that the frames lie close to each other.
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
        return ()
    if _length(other, size) > MUCH_SMALLER * _length(motion, size):
        return ()
    by_it, by_other = (explained(here.grey, there.grey, covered, m) for m in (motion, other))
    if len(by_other.middles) < max(len(by_it.middles), 1):
        return ()
    return len(_places(by_it) - _places(by_other)), len(by_it.middles)


def _places(found: Explained) -> set[tuple[float, float]]:
    return {(x, y) for x, y in found.middles.tolist()}


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
    return at_most(found, PAIRS)


@dataclass(frozen=True)
class _Votes:
    """Places (h, w) of two frames.

    better, worse: bool, that match clearly better registered, clearly better where they were.
    right: bool, that match well registered. told: bool, all that have detail. shift: (h, w, 2)
    float32, how far what stays about where it was has moved, in pixels (x, y). far: whether the
    frames lie far from each other.
    """

    better: np.ndarray
    worse: np.ndarray
    right: np.ndarray
    told: np.ndarray
    shift: np.ndarray
    far: bool


def _staying(votes: Sequence[_Votes]) -> int:
    """Places that stay where they were in most pairs of far frames, and alike, pair by pair."""
    far = [v for v in votes if v.far]
    worse, told = (sum(int(v.worse.sum()) for v in some) for some in (votes, far))
    if told < TELLING * worse:  # nobody knows
        return worse
    often = np.sum([v.worse for v in far], axis=0) >= OFTEN * len(far)
    count = 0
    for vote in far:
        shift = vote.shift[vote.worse & often]
        if len(shift):
            apart = np.hypot(*(shift - np.median(shift, 0)).T)
            alike = int((apart < ALIKE).sum())
            count += max(alike - CHANCE, 0) if alike > TOGETHER * len(shift) else 0
    return count


def _votes(
    camera: Camera,
    a: int,
    b: int,
    frame: Callable[[int], np.ndarray],
    hidden: Callable[[int], np.ndarray],
) -> _Votes:
    """What the places of frames a and b say.

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
    right = told & (registered < EXPLAINED * detail)
    better = right & (registered < CLEARLY * still)
    worse = told & (still < EXPLAINED * detail) & (still < CLEARLY * registered)
    middle, change = (here + there) / 2, there - here
    across, down = (cv2.Sobel(middle, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    xx, xy, yy = mean(across * across), mean(across * down), mean(down * down)
    ridge = RIDGE * (xx + yy) + 1e-6
    slopes = xx + ridge, xy, yy + ridge
    shift = least_squares_step(*slopes, mean(across * change), mean(down * change))
    far = _length(motion, size) >= FAR * size[1]
    return _Votes(better, worse, right, told, shift, far)


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

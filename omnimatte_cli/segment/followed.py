"""One object that is followed, what one frame shows on its way, and how it is known again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from omnimatte_cli.camera.flow import warp
from omnimatte_cli.segment.colours import colour_histogram, similarity
from omnimatte_cli.segment.evidence import Seen, motion_bins
from omnimatte_cli.segment.looks import Looks, grown
from omnimatte_cli.segment.motion import fill_holes
from omnimatte_cli.segment.propagate import SMALLEST, Carried
from omnimatte_cli.segment.track import Track

BACK_ALIKE = 0.55  # Bhattacharyya coefficient of colours from which an object is known again
BACK_SURE = 0.3  # share of the likelihood on its known mask that it then must have
BACK_AREA = (0.12, 3.0)  # of its largest area that it may then have
BACK_REACH = (1.5, 2.0)  # in roots of its area, and pixels a frame: how far from its expected place
PIECE = 0.25  # share of a lost object's largest area that a piece of another's mask must have
GOES_ON = 15  # frames for which it is taken to go on as it did
AWAY = 45  # frames after which it is not looked for any more
AGREES = 0.6  # IoU of a mover and a carried mask from which they are the same
MERGED = 0.2  # share of another object in a mover, from which it is both
SPECK = 0.03  # share of an object below which a separate piece is none of it
HELD = 0.2  # share of a piece, or of the carried mask, that must lie in the other
HOLE = 0.02  # ... a hole is closed
USUAL_SHARE = 0.2  # of a mask's area in the area that is usual for its object
AREA_FREE = 0.1  # share by which an area may differ from it
BIAS = 1.0  # logarithm of a likelihood ratio by which it is brought nearer
MEMORY_SHARE = 0.15  # of a decided mask in what is remembered of the frames before
SMOOTH_RADIUS = 4  # pixels over which neighbours are asked, where the picture shows no edge
SMOOTH_EDGE = 0.002  # variance of brightness (range 0 to 1) that is an edge


@dataclass(frozen=True)
class View:
    """One frame on a way through the clip.

    grey: (h, w) float32 in [0, 1]. flow, scene: where its pixels, and those of the scene behind,
    lie in the frame before on the way, (h, w, 2) offsets. sound: (h, w) bool, where the flow holds.
    """

    seen: Seen
    grey: np.ndarray
    flow: np.ndarray
    scene: np.ndarray
    sound: np.ndarray

    def motion(self, mask: np.ndarray, window: tuple = np.s_[:, :]) -> np.ndarray:
        """Motion bins in a window, of an object of which `mask` (h, w) bool is near."""
        own = np.median(self.flow[mask], axis=0) if mask.any() else np.zeros(2)
        return motion_bins(self.flow[window], self.scene[window], own)


@dataclass
class Followed:
    """One object on its way; `looks` and `state` are None before it was met.

    centre: of its box, (x, y). speed: pixels a frame of the way. away: frames since it was seen.
    known: the last frame in which its mask was known. memory: (h, w) float32 in [0, 1], in how
    much of the frames before what is seen at a pixel was the object's. usual: its area.
    """

    looks: Looks | None = None
    state: Carried | None = None
    centre: np.ndarray = field(default_factory=lambda: np.zeros(2))
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))
    away: int = 0
    known: int | None = None
    memory: np.ndarray | None = None
    usual: float = 0.0

    def recall(self, flow: np.ndarray, sound: np.ndarray) -> None:
        """Carry the memory into the next frame on the way; where no flow leads, there is none.

        flow: (h, w, 2) offsets into the frame before; sound: (h, w) bool, where it holds.
        """
        if self.memory is not None:
            self.memory = warp(self.memory, flow, cv2.BORDER_CONSTANT)
            self.memory[~sound] = 0

    def remember(self, mask: np.ndarray, known: bool) -> None:
        """Take a mask (h, w) bool into the memory: all of it where it is known, else a share."""
        area = int(np.count_nonzero(mask))
        if self.memory is None or known:
            self.memory, self.usual = mask.astype(np.float32), float(area)
        else:
            self.memory += MEMORY_SHARE * (mask - self.memory)
            self.usual += USUAL_SHARE * (area - self.usual) if area else 0.0


def to_usual_area(total: np.ndarray, usual: float) -> float:
    """What to add to a likelihood (h, w), so that the area above 0 comes near the usual one.

    Else a mask that loses a little of its rim in every frame is gone after twenty.
    """
    area = int(np.count_nonzero(total > 0))
    wanted = int((1 - AREA_FREE) * usual)
    if area >= wanted or wanted >= total.size:
        return 0.0
    level = np.partition(total, total.size - wanted, axis=None)[total.size - wanted]
    return float(min(-level, BIAS))


def tracked_mover(
    tracks: Sequence[Track], t: int, mask: np.ndarray, others: Sequence[np.ndarray]
) -> np.ndarray | None:
    """The mover (h, w) bool that a carried mask shows in frame t; None where it is two.

    others: what other objects were carried to, (h, w) bool each.
    """
    for track in tracks:
        if t not in track.masks:
            continue
        mover = track.at(t)
        if np.count_nonzero(mover & mask) >= AGREES * np.count_nonzero(mover | mask):
            both = any((mover & m).sum() > MERGED * m.sum() for m in others)
            return None if both else mover
    return None


def cleaned(mask: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """A mask (h, w) bool without specks that the carried one did not have, and small holes."""
    area = int(np.count_nonzero(mask))
    if area == 0:
        return mask
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    size = stats[:, cv2.CC_STAT_AREA]
    held = np.bincount(labels[carried], minlength=count)
    keep = (size >= SPECK * area) & (held > HELD * np.minimum(size, carried.sum()))
    keep[0] = False
    kept = keep[labels]
    return fill_holes(kept.astype(np.uint8), HOLE * area / mask.size) > 0


def find_again(each: Followed, view: View, taken: np.ndarray) -> np.ndarray:
    """Where an object that was away is seen again, (h, w) bool, empty if nowhere.

    taken: (h, w) bool, what other objects hold.
    """
    nothing = np.zeros(taken.shape, bool)
    assert each.state is not None and each.looks is not None
    largest = each.state.largest
    if each.away > AWAY or largest < SMALLEST:
        return nothing
    h, w = taken.shape
    # Where it went out of the picture it comes back.
    place = np.clip(each.centre + each.speed * min(each.away + 1, GOES_ON), 0, (w, h))
    reach = BACK_REACH[0] * np.sqrt(largest) + BACK_REACH[1] * min(each.away, GOES_ON)
    x0, y0 = np.maximum(np.rint(place - reach), 0).astype(int)
    x1, y1 = np.rint(place + reach).astype(int)
    window = np.s_[y0:y1, x0:x1]
    motion = motion_bins(view.flow[window], view.scene[window], -each.speed)
    ratio = smooth(each.looks.ratio(view.seen, motion, window), view.grey[window])
    likely = ((ratio > 0) & ~grown(taken, 2)[window]).astype(np.uint8)
    likely = cv2.morphologyEx(likely, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(likely)
    best, found = BACK_ALIKE, nothing
    for k in range(1, count):
        if not BACK_AREA[0] < stats[k, cv2.CC_STAT_AREA] / largest < BACK_AREA[1]:
            continue
        part = labels == k
        if ratio[part].mean() < BACK_SURE * each.looks.sure:
            continue
        alike = similarity(colour_histogram(view.seen.colour[window][part]), each.looks.colours)
        if alike > best:
            best, found = alike, nothing.copy()
            found[window] = part
    return found


def taken_over(lost: Followed, holder: Followed, mask: np.ndarray, view: View) -> np.ndarray | None:
    """The piece of a holder's mask (h, w) bool that is an object lost beside it, or None.

    Two that were one in the picture and part again are two pieces of whoever kept the mask. One
    object cannot be both: the lost one gets the piece that has rather its colours.
    """
    if lost.looks is None or lost.state is None or holder.looks is None or holder.state is None:
        return None
    if not 0 < lost.away <= AWAY:
        return None
    apart = float(np.linalg.norm(lost.centre - holder.centre))
    roots = np.sqrt(lost.state.largest) + np.sqrt(holder.state.largest)
    if apart > roots + BACK_REACH[1] * min(lost.away, GOES_ON):
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = 1 + np.argsort(stats[1:, cv2.CC_STAT_AREA], kind="stable")[::-1][:2]
    if len(largest) < 2:
        return None
    pieces = [labels == k for k in largest]
    areas = stats[largest, cv2.CC_STAT_AREA]
    if areas[1] < PIECE * lost.state.largest:
        return None
    rather = np.log((lost.looks.colours + 1e-5) / (holder.looks.colours + 1e-5))
    votes = [float(rather[view.seen.colour[p]].mean()) for p in pieces]
    return pieces[int(np.argmax(votes))]


def smooth(cost: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """A likelihood (h, w) smoothed within what the picture (h, w) in [0, 1] shows as one.

    A guided filter (He et al. 2010), as Hosni et al. 2011 decide labels with it.
    """
    box = (2 * SMOOTH_RADIUS + 1,) * 2
    mean_g, mean_c = cv2.blur(grey, box), cv2.blur(cost, box)
    variance = cv2.blur(grey * grey, box) - mean_g**2
    slope = (cv2.blur(grey * cost, box) - mean_g * mean_c) / (variance + SMOOTH_EDGE)
    offset = mean_c - slope * mean_g
    result: np.ndarray = cv2.blur(slope, box) * grey + cv2.blur(offset, box)
    return result

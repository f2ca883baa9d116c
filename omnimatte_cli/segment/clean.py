"""The frames in which a track shows its object as it is: alone, whole, and of its usual size.

These are what the follower (follow.py) starts from where nobody points at anything. In the frames
between, whoever follows frames in order has two people in one mask, half of one, or none; looked at
over the whole clip, they are the exceptions.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

from omnimatte_cli.segment.looks import grown
from omnimatte_cli.segment.propagate import at_edge
from omnimatte_cli.segment.track import Track

APART = 0.006  # share of the picture's width that must lie between two objects
SIZES = 8  # frames to each side from which an object's usual area is taken
USUAL = 1.3  # factor by which an area may differ from it
DOUBT = 0.3  # in a mask, that a clean one has at most; or, where it is more, ...
DOUBT_RATIO = 1.3  # ... times the median of the track's
WHOLE = 0.8  # share of the mask that its largest piece must have; or as usual in the track
HOLDS = 1.2  # times its area beside another, at which a mask from before they parted holds both
LEAST = 30  # pixels
FEWEST = 3  # frames that are taken where none is clean
MARGIN = 3  # frames beside an object's first and last at the edge in which a rest may be seen


def clean_frames(track: Track, others: Sequence[Track]) -> list[int]:
    """Numbers of the clean frames of a track, in order; those of least doubt where none is."""
    times = sorted(track.masks)
    alone = _alone(track, others)
    pieces = {t: _largest_share(track.at(t)) for t in times}
    usual_piece = min(WHOLE, float(np.median([*pieces.values()])) - 0.05)
    most = max(DOUBT, DOUBT_RATIO * float(np.median([track.doubt[t] for t in times])))
    good = [
        t for t in times
        if alone[t] and track.areas[t] >= LEAST and track.doubt[t] <= most
        and pieces[t] >= usual_piece
    ]  # fmt: skip
    clean = []
    for t in good:
        near = [track.areas[k] for k in good if abs(k - t) <= SIZES]
        if 1 / USUAL <= track.areas[t] / float(np.median(near)) <= USUAL:
            clean.append(t)
    return clean or sorted(sorted(times, key=lambda t: track.doubt[t])[:FEWEST])


def away(track: Track, scene: range, count: int) -> list[int]:
    """Frames out of `count` in which the object is not in the picture: it left at the edge.

    scene: the frames of its shot; in others it is not.
    """
    times = sorted(track.masks)
    found: list[int] = []
    edges = [scene.start - 1, *times, scene.stop]
    for before, after in itertools.pairwise(edges):
        if after - before <= 1:
            continue
        ends = [t for t in (before, after) if t in scene]
        if all(at_edge(grown(track.at(t), 2)) for t in ends):
            first = before + 1 + (MARGIN if before in scene else 0)
            last = after - 1 - (MARGIN if after in scene else 0)
            found += range(first, last + 1)
    return [*found, *(t for t in range(count) if t not in scene)]


def _alone(track: Track, others: Sequence[Track]) -> dict[int, bool]:
    """Whether, by frame, no other object touches this one or may be within its mask."""
    reach = max(round(APART * track.size[1]), 2)
    alone = dict.fromkeys(track.masks, True)
    for other in others:
        both = track.masks.keys() & other.masks.keys()
        touches = {t for t in both if _touch(track.at(t), other.at(t), reach)}
        for t in touches:
            alone[t] = False
        for t in _holding(track, other, touches):
            alone[t] = False
    return alone


def _holding(track: Track, other: Track, touches: set[int]) -> list[int]:
    """Frames without the other object, before it came out of this one or after it went into it."""
    found = []
    for end, step in ((min(other.masks), -1), (max(other.masks), 1)):
        # Where they are not seen side by side it came, or went, elsewhere.
        if not touches & set(range(end - 2, end + 3)) or at_edge(grown(other.at(end), 2)):
            continue
        apart = [
            track.areas[t] for t in range(end, end - step * (2 * SIZES), -step)
            if t in track.areas and t in other.masks
        ]  # fmt: skip
        usual = float(np.median(apart)) if apart else 0.0
        t = end + step
        while t in track.areas and t not in other.masks:
            if abs(t - end) > SIZES and track.areas[t] < HOLDS * usual:
                break
            found.append(t)
            t += step
    return found


def _touch(a: np.ndarray, b: np.ndarray, reach: int) -> bool:
    """Whether two masks (h, w) bool lie within `reach` pixels."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = (cv2.boundingRect(m.astype(np.uint8)) for m in (a, b))
    across = max(ax, bx) - min(ax + aw, bx + bw)
    down = max(ay, by) - min(ay + ah, by + bh)
    return max(across, down) <= reach and bool((grown(a, reach) & b).any())


def _largest_share(mask: np.ndarray) -> float:
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    part = mask[y : y + h, x : x + w].astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(part)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return float(areas.max() / areas.sum()) if areas.size else 0.0

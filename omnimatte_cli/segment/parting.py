"""Objects that share one component: parted by nearness and colour, in later frames and in earlier.

Two that touch when the clip begins are one to whoever follows frames in order. Once they have
parted, the way back tells what each of them was before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from omnimatte_cli.camera.flow import backward_flow, warp_mask
from omnimatte_cli.segment.colours import colour_bins
from omnimatte_cli.segment.motion import Frames
from omnimatte_cli.segment.track import Track

WITHIN = 0.5  # share of an object's expected mask that lies in another's, if they were one
REMAINS = 0.35  # share of its area that must be left to an object on the way back
DOUBT = 0.4  # in what was parted on the way back


def share(
    part: np.ndarray,
    claims: Sequence[int],
    expected: Mapping[int, np.ndarray],
    bins: np.ndarray,
    known: Mapping[int, Track],
) -> dict[int, np.ndarray]:
    """Part a component (h, w) bool among the objects in it, by nearness and colour.

    claims: their numbers; expected: where each should be, (h, w) bool; bins: `colour_bins` of the
    frame. Objects that get nothing are left out.
    """
    if len(claims) == 1:
        return {claims[0]: part}
    x, y, w, h = cv2.boundingRect(part.astype(np.uint8))
    window = np.s_[max(y - 4, 0) : y + h + 4, max(x - 4, 0) : x + w + 4]
    inside = bins[window]
    costs = []
    for n in claims:
        there = (~expected[n][window]).astype(np.uint8)
        distance = cv2.distanceTransform(there, cv2.DIST_L2, 3)
        inner = cv2.distanceTransform(1 - there, cv2.DIST_L2, 3)
        histogram = known[n].histogram
        assert histogram is not None, n
        unlikely = -np.log(histogram[inside] + 1e-5)
        unlikely = cv2.blur(unlikely.astype(np.float32), (7, 7))
        costs.append((distance - 0.5 * np.minimum(inner, 8)) / 4 + 0.5 * unlikely)
    owner = np.argmin(np.stack(costs), axis=0)
    result = {}
    for i, n in enumerate(claims):
        mask = np.zeros_like(part)
        mask[window] = part[window] & (owner == i)
        if mask.any():
            result[n] = mask
    return result


def part_backwards(tracks: Sequence[Track], frames: Frames, start: int) -> None:
    """Give objects that came out of another one their share of it in the frames before.

    frames: (T, h, w, 3) uint8, of which the first has the number `start`. Masks are changed in
    place.
    """
    for each in sorted(tracks, key=lambda t: min(t.masks), reverse=True):
        t = min(each.masks) - 1
        while t >= start and _part_at(each, tracks, frames[t - start], frames[t + 1 - start], t):
            t -= 1


def _part_at(
    each: Track, tracks: Sequence[Track], frame: np.ndarray, later: np.ndarray, t: int
) -> bool:
    """Look for an object of frame t + 1 in another's mask in frame t; False where it is not."""
    flow = backward_flow(frame, later)
    expected = {each.number: warp_mask(each.at(t + 1), flow)}
    mine = expected[each.number]
    area = int(np.count_nonzero(mine))
    if area == 0:
        return False
    hosts = [o for o in tracks if o is not each and t in o.masks and t + 1 in o.masks]
    host = max(hosts, key=lambda o: int(np.count_nonzero(o.at(t) & mine)), default=None)
    if host is None or np.count_nonzero(host.at(t) & mine) < WITHIN * area:
        return False
    expected[host.number] = warp_mask(host.at(t + 1), flow)
    known = {o.number: o for o in (each, host)}
    if any(o.histogram is None for o in known.values()):
        return False
    found = share(host.at(t), [*known], expected, colour_bins(frame), known)
    if len(found) < 2 or found[each.number].sum() < REMAINS * each.areas[t + 1]:
        return False
    for number, mask in found.items():
        known[number].put(t, mask, max(DOUBT, known[number].doubt.get(t, 0.0)))
    return True

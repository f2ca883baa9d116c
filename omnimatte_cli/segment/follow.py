"""Objects that were pointed at, followed together without a network.

From frame to frame the masks are carried along the flow; what each pixel is then is decided for all
objects at once: by the colours, the change against the scene behind and the motion that belong to
each object and not to the ground around it (looks.py), and by how far it lies from the carried
masks. A pixel has one owner, so objects that touch stay apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from omnimatte_cli.arrays import pack_mask, unpack_mask
from omnimatte_cli.camera.flow import agreement, mismatch, warp, warp_mask
from omnimatte_cli.media.images import luma
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.segment.cut import joined_to
from omnimatte_cli.segment.evidence import Evidence, Seen
from omnimatte_cli.segment.followed import (
    AWAY,
    SMOOTH_RADIUS,
    Followed,
    View,
    cleaned,
    find_again,
    smooth,
    taken_over,
    to_usual_area,
    tracked_mover,
)
from omnimatte_cli.segment.looks import Looks, grown, ring
from omnimatte_cli.segment.propagate import (
    REMNANT,
    SMALLEST,
    UNLIKE,
    Carried,
    Keys,
    at_edge,
    better,
    disjoint,
)
from omnimatte_cli.segment.track import Track

SOFT = 0.05  # of the root of an object's area: the width of its outline's uncertainty
SOFT_LEAST = 1.5  # pixels
INSIDE, OUTSIDE = 2.0, 4.0  # how many such widths from the carried outline count at most
ENTERS = 2.0  # factor of the width at the picture's edge, where objects come in
RING = (0.06, 0.5)  # of the root of the area: between which distances the ground is looked at
# Where less than a share (2) of the ground moves, a mover that joins an object is part of it. The
# ground is looked at to a distance (1) in roots of the object's area, at least a share (0) of all.
CALM = (0.015, 2.0, 0.25)
JOINED = 1.0  # widths from the carried outline that count for what joins the object there
TRACKED = 1.0  # logarithm of a likelihood ratio by which a tracked mover speaks for its pixels
GROUND = 2.0  # ... by which ground that looks as in a known frame is still the ground
ALIKE = 10.0  # grey levels up to which it looks the same
STRANGE_FRAMES = 4  # frames after which a mover that was nobody's is a stranger
STRANGE = 3.0  # logarithm of a likelihood ratio by which it then is nobody's again
FADE = 0.995  # confidence kept from one frame to the next
RECOVER = 0.15  # share of the way by which it follows what the frame says
AREAS = (0.25, 3.0)  # times the known area that are believed, where no edge cuts the object off
LEARNS = 0.55  # confidence from which an object's looks are learned
STEADY = 0.6  # share of the speed so far in an object's speed
REMEMBERED = 1.0  # logarithm of a likelihood ratio by which what was an object's still is
MOSTLY = 0.5  # share of its usual area from which a carried mask is still the object
TOUCH = 6  # pixels between two objects, at which one may hide the other
AHEAD = 6  # frames before one in which a mask is asked for, from which looks are learned


def follow(
    frames: np.ndarray,
    keys: Keys,
    evidence: Evidence,
    tracks: Sequence[Track] = (),
    progress: Progress | None = None,
) -> dict[str, list[Carried]]:
    """Masks of each object in all frames (T, h, w, 3) uint8, from known masks by object and frame.

    tracks: what moves. A mover that is nearly where an object is carried to, and in no other
    object, speaks for its pixels. Known masks are kept exactly. Between two of them the more
    confident way there counts.
    """
    progress = progress or Silent()
    count = len(frames)
    progress.stage("following what was pointed at", 2 * count)
    ways = [_Way(frames, keys, evidence, tracks, d).run(progress) for d in (1, -1)]
    size = (frames.shape[1], frames.shape[2])
    nothing = Carried(pack_mask(np.zeros(size, bool)), 0.0, count, 0)
    result: dict[str, list[Carried]] = {name: [] for name in keys}
    for ahead, back in zip(*ways, strict=True):
        chosen = {n: better(ahead.get(n), back.get(n)) or nothing for n in keys}
        for name, each in disjoint(chosen, size).items():
            result[name].append(each)
    return result


def carried_to(
    t: int, frames: np.ndarray, keys: Keys, evidence: Evidence, tracks: Sequence[Track]
) -> dict[str, np.ndarray]:
    """Where the objects of some keys, all in frames before t, are in frame t: (h, w) bool each."""
    before = {name: known for name, known in keys.items() if known}
    if not before:
        return {}
    states = _Way(frames, before, evidence, tracks, 1).run(Silent(), t)[t]
    size = (frames.shape[1], frames.shape[2])
    return {name: unpack_mask(state.mask, size) for name, state in states.items()}


class _Way:
    """One pass through the clip, forwards (1) or backwards (-1)."""

    def __init__(
        self,
        frames: np.ndarray,
        keys: Keys,
        evidence: Evidence,
        tracks: Sequence[Track],
        direction: int,
    ) -> None:
        self.frames, self.keys, self.evidence, self.direction = frames, keys, evidence, direction
        self.tracks = tracks
        self.objects = {name: Followed() for name in keys}
        self.shape = (frames.shape[1], frames.shape[2])
        self.strange = np.zeros(self.shape, np.float32)  # frames for which a mover was nobody's

    def run(self, progress: Progress, last: int | None = None) -> list[dict[str, Carried]]:
        """By frame, the objects met so far. last: the frame after which no more are asked for."""
        count = len(self.frames)
        result: list[dict[str, Carried]] = [{} for _ in range(count)]
        order = range(count) if self.direction > 0 else range(count - 1, -1, -1)
        for done, t in enumerate(order, 1):
            started = any(o.state is not None for o in self.objects.values())
            if self._all_known(t):
                self._take(t)
            elif started or any(t in known for known in self.keys.values()):
                self._step(t)
            result[t] = {n: o.state for n, o in self.objects.items() if o.state is not None}
            progress.step(done + (0 if self.direction > 0 else count))
            if t == last:
                break
        return result

    def _all_known(self, t: int) -> bool:
        """Whether no mask is asked for in this frame and the next ones on the way."""
        ahead = range(t, t + self.direction * (AHEAD + 1), self.direction)
        asked = [k for k in ahead if 0 <= k < len(self.frames)]
        return all(k in known for known in self.keys.values() for k in asked)

    def _take(self, t: int) -> None:
        """Take known masks over without a look at the frame."""
        for name, each in self.objects.items():
            self._put(each, self.keys[name][t], 1.0, 0)
            each.known = t
        self.strange[:] = 0

    def _step(self, t: int) -> None:
        before = t - self.direction
        # The first frame of a way has none before it: there the flow to the next one is asked.
        first = not 0 <= before < len(self.frames)
        other = t + self.direction if first else before
        if not 0 <= other < len(self.frames):
            other = t
        frame, seen = self.frames[t], self.evidence.at(t)
        flow = self.evidence.flow(t, other)
        scene = self.evidence.camera_flow(t, other)
        carried: dict[str, np.ndarray] = {}
        sound = np.ones(self.shape, bool)
        if not first:
            sound = agreement(flow, self.evidence.flow(other, t))
            left = (~sound) & (mismatch(frame, self.frames[other], flow) > UNLIKE)
            for name, each in self.objects.items():
                each.recall(flow, sound & ~left)
                if each.state is not None:
                    mask = warp_mask(unpack_mask(each.state.mask, self.shape), flow)
                    carried[name] = mask & ~left
            self.strange = warp(self.strange, flow, cv2.BORDER_CONSTANT)
            self.strange[~seen.foreground] = 0
        view = View(seen, luma(frame), flow, scene, sound)
        masks, sures = self._decide(t, view, carried)
        self._keep(t, view, masks, sures)
        self._estrange(t, seen)

    def _estrange(self, t: int, seen: Seen) -> None:
        """Count for how long what moves has been nobody's."""
        taken = np.zeros(self.shape, bool)
        for name, each in self.objects.items():
            if each.state is None:
                continue
            mask = unpack_mask(each.state.mask, self.shape)
            taken |= mask
            if t in self.keys[name] and mask.any():
                # Masks that are known are rough: what lies close may still belong to them.
                near = grown(
                    mask, round(4 * max(SOFT * np.sqrt(np.count_nonzero(mask)), SOFT_LEAST))
                )
                self.strange[seen.foreground & ~near] = STRANGE_FRAMES
        nobody = seen.foreground & ~taken
        self.strange = np.where(nobody, np.minimum(self.strange + 1, STRANGE_FRAMES), 0)
        self.strange = self.strange.astype(np.float32)

    def _decide(
        self,
        t: int,
        view: View,
        carried: dict[str, np.ndarray],
    ) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """Masks of all objects in frame t, and the mean likelihood ratio on each."""
        masks: dict[str, np.ndarray] = {}
        sures: dict[str, float] = {}
        best = np.zeros(self.shape, np.float32)
        owner = np.full(self.shape, -1, np.int32)
        names = list(self.objects)
        known = np.zeros(self.shape, bool)
        for name in names:
            if t in self.keys[name]:
                masks[name] = self.keys[name][t]
                known |= masks[name]
        ratios: dict[str, tuple[tuple, np.ndarray]] = {}
        for i, name in enumerate(names):
            each, mask = self.objects[name], carried.get(name)
            if name in masks or mask is None or each.looks is None or each.state is None:
                continue
            area = int(np.count_nonzero(mask))
            gone = area < REMNANT * each.state.largest and at_edge(mask)
            if area < SMALLEST or gone:
                continue
            wide = max(SOFT * np.sqrt(max(area, 0.5 * each.state.largest)), SOFT_LEAST)
            if at_edge(mask):
                wide *= ENTERS
            joined = self._joined(each, mask, carried, view.seen)
            window = self._window(mask | joined, OUTSIDE * wide + 2 * SMOOTH_RADIUS)
            rivals = [
                o.looks
                for o in self.objects.values()
                if o is not each and o.looks is not None and self._near(o, each)
            ]
            ratio = each.looks.ratio(view.seen, view.motion(mask, window), window, rivals)
            inside = mask[window].astype(np.uint8)
            place = np.minimum(_depth(inside) / wide, INSIDE)
            outside = _depth(1 - inside) / wide
            # Where the flow does not hold, the carried outline says less.
            place = np.where(view.sound[window], place, 0.5 * place)
            outside = np.where(joined[window], np.minimum(outside, JOINED), outside)
            strange = self.strange[window] * (STRANGE / STRANGE_FRAMES) * (inside == 0)
            still = self._still_ground(t, name, each)[window] & (inside == 0)
            others = [m for n, m in carried.items() if n != name and m.any()]
            mover = tracked_mover(self.tracks, t, mask, others)
            tracked = TRACKED * (2.0 * mover[window] - 1) if mover is not None else 0
            memory = np.zeros_like(ratio) if each.memory is None else each.memory[window].copy()
            for m in others:
                memory[m[window]] = 0
            remembered = REMEMBERED * min(area / max(each.usual, 1), 1)  # of what is left
            total = smooth(
                ratio + place - outside - strange - GROUND * still + tracked + remembered * memory,
                view.grey[window],
            )
            close = grown(mask, TOUCH)
            whole = area > MOSTLY * each.usual and not at_edge(mask)
            if whole and not any((close & m).any() for m in others):
                total = total + to_usual_area(total, min(each.usual, area))
            total[outside > OUTSIDE] = -1
            total[known[window]] = -1
            ratios[name] = window, ratio
            won = total > best[window]
            best[window][won], owner[window][won] = total[won], i
        for i, name in enumerate(names):
            if name in ratios:
                window, ratio = ratios[name]
                tidy = cleaned(owner == i, carried[name])
                masks[name] = tidy & ((owner == i) | (owner < 0)) & ~known
                own = masks[name][window]
                sures[name] = float(ratio[own].mean()) if own.any() else 0.0
        return masks, sures

    def _still_ground(self, t: int, name: str, each: Followed) -> np.ndarray:
        """Where the scene looks as it did around the object in a known frame, (h, w) bool."""
        if each.known is None:
            return np.zeros(self.shape, bool)
        flow = self.evidence.camera_flow(t, each.known)
        alike = mismatch(self.frames[t], self.frames[each.known], flow) < ALIKE
        ground = ~grown(self.keys[name][each.known], 2)
        return alike & warp_mask(ground, flow)

    def _joined(
        self, each: Followed, mask: np.ndarray, others: Mapping[str, np.ndarray], seen: Seen
    ) -> np.ndarray:
        """Movers (h, w) bool that join a mask and are no strangers, where the ground is calm."""
        nothing = np.zeros(self.shape, bool)
        if not mask.any():
            return nothing
        wide = np.sqrt(max(each.state.largest if each.state else 0, CALM[0] * mask.size))
        taken = np.any([m for m in others.values() if m is not mask] or [nothing], axis=0)
        calm = ring(mask, taken, 2, round(CALM[1] * wide))
        if not calm.any() or seen.foreground[calm].mean() >= CALM[2]:
            return nothing
        new = seen.foreground & ~taken & (self.strange < STRANGE_FRAMES)
        return joined_to(new | mask, mask) & new & ~mask

    def _near(self, other: Followed, each: Followed) -> bool:
        """Whether another object may touch or hide this one in the next frame."""
        assert other.state is not None and each.state is not None
        if other.away > AWAY:
            return False
        reach = np.sqrt(other.state.largest) + np.sqrt(each.state.largest)
        return bool(np.linalg.norm(other.centre - each.centre) < 1.5 * reach + 2 * other.away)

    def _window(self, mask: np.ndarray, reach: float) -> tuple:
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        r = int(np.ceil(reach))
        return np.s_[max(y - r, 0) : y + h + r, max(x - r, 0) : x + w + r]

    def _keep(
        self,
        t: int,
        view: View,
        masks: dict[str, np.ndarray],
        sures: dict[str, float],
    ) -> None:
        """Take the masks over, look for those that were lost, and learn how they look."""
        self._give_back(t, view, masks, sures)
        taken = np.zeros(self.shape, bool)
        for mask in masks.values():
            taken |= mask
        for name, each in self.objects.items():
            if name in masks and t in self.keys[name]:
                self._put(each, masks[name], 1.0, 0)
                each.known = t
                self._learn(each, view, masks[name], taken, True)
            elif each.state is not None and each.looks is not None:
                mask = masks.get(name, np.zeros(self.shape, bool))
                confidence = each.state.confidence * FADE
                if np.count_nonzero(mask) >= SMALLEST:
                    share = min(max(sures[name] / max(each.looks.sure, 0.3), 0.0), 1.0)
                    share *= 0.5 + 0.5 * float(view.sound[mask].mean())
                    if not self._believable(each, mask):
                        share *= 0.5
                    confidence += RECOVER * (share - confidence)
                    area, last = int(np.count_nonzero(mask)), each.state.area
                    jump = last > 0 and not 0.6 < area / last < 1.7 and not at_edge(mask)
                    confidence *= 0.7 if jump else 1.0
                else:
                    mask = find_again(each, view, taken)
                    taken |= mask
                    if mask.any():
                        confidence = max(confidence, 0.5)
                self._put(each, mask, confidence, each.state.distance + 1)
                self._learn(each, view, mask, taken, confidence >= LEARNS)
            elif each.state is not None:  # so far it was known to be away
                nothing = np.zeros(self.shape, bool)
                self._put(each, nothing, each.state.confidence * FADE, each.state.distance + 1)

    def _give_back(
        self, t: int, view: View, masks: dict[str, np.ndarray], sures: dict[str, float]
    ) -> None:
        """Give what parts from one object to the one that was lost beside it."""
        for name, lost in self.objects.items():
            if t in self.keys[name] or lost.state is None:
                continue
            if name in masks and masks[name].any():
                continue
            for other, holder in self.objects.items():
                if other == name or other not in masks or t in self.keys[other]:
                    continue
                piece = taken_over(lost, holder, masks[other], view)
                if piece is not None:
                    masks[name], masks[other] = piece, masks[other] & ~piece
                    sures[name] = 0.5 * lost.looks.sure if lost.looks else 0.0
                    break

    def _believable(self, each: Followed, mask: np.ndarray) -> bool:
        """Whether a mask (h, w) bool is as large as the known one, if all of both is seen."""
        assert each.looks is not None
        if each.looks.cut_off or at_edge(mask):
            return True
        return bool(AREAS[0] < np.count_nonzero(mask) / max(each.looks.area, 1) < AREAS[1])

    def _put(self, each: Followed, mask: np.ndarray, confidence: float, distance: int) -> None:
        area = int(np.count_nonzero(mask))
        largest = max(area, each.state.largest if each.state else 0)
        each.remember(mask, distance == 0)
        if area:
            x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
            each.centre, each.away = np.array([x + w / 2, y + h / 2]), 0
        else:
            each.away += 1
        each.state = Carried(pack_mask(mask), confidence, distance, area, largest)

    def _learn(
        self,
        each: Followed,
        view: View,
        mask: np.ndarray,
        taken: np.ndarray,
        sure: bool,
    ) -> None:
        if not mask.any():
            return
        root = float(np.sqrt(np.count_nonzero(mask)))
        taken = taken | self._joined(each, mask, {}, view.seen)
        if each.memory is not None:
            taken = taken | (each.memory > 0.5)
        around = ring(mask, taken, max(round(RING[0] * root), 2), max(round(RING[1] * root), 8))
        if sure:  # the flow leads back to where the object was
            each.speed = STEADY * each.speed - (1 - STEADY) * np.median(view.flow[mask], axis=0)
        if each.looks is None:
            each.looks = Looks.of(view.seen, view.motion(mask), mask, around)
        else:
            window = self._window(mask | around, 0)
            motion, part = view.motion(mask, window), view.seen.within(window)
            each.looks.learn(part, motion, mask[window] if sure else None, around[window])


def _depth(mask: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a mask (h, w) uint8 from what is not in it, float32."""
    return cv2.distanceTransform(mask, cv2.DIST_L2, 3)

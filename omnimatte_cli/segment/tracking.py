"""From the foreground of each frame to a few objects that persist.

Components are matched to the objects of the frame before by overlap along the optical flow; where
one component holds two objects, nearness and colour part it, also backwards (parting.py); objects
that were away are known again by place and colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import cv2
import numpy as np

from omnimatte_cli.camera.flow import backward_flow, warp_mask
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.matte.box import disc
from omnimatte_cli.segment.colours import colour_bins, colour_histogram, similarity
from omnimatte_cli.segment.motion import Frames
from omnimatte_cli.segment.parting import part_backwards, share
from omnimatte_cli.segment.track import Track

SMALLEST = 0.0002  # share of the picture below which a component starts no object
PROMINENT = 0.0012  # share of the picture that an object must have at some time; or ...
FAR = 0.1  # ... share of the picture's width that a smaller one must move
FAST = 0.07  # share of the picture's width that a new object may move from one frame to the next
YOUNG = 5  # frames in which a new object may still turn out to be a piece of another
CONSTANTLY = 0.6  # share of its frames within another's component that makes an object a piece
PIECE = 0.15  # an object smaller than this share of another does not part a common component
GAP = 0.02  # share of the picture's width between pieces of one object
AWAY = 45  # frames after which an object that left is not known again
LEAST_FRAMES = 4
TRAVEL = 0.02  # share of the picture's width that an object must move at some time
SWAP_MARGIN = 0.15  # histogram similarity by which exchanged identities must fit better

Flow = Callable[[int, int], np.ndarray]


class Tracker:
    """Follows objects frame by frame: call `advance` for each frame in order."""

    def __init__(self, size: tuple[int, int], start: int = 0, flow: Flow | None = None) -> None:
        """start: number of the first frame. flow: between two frames, by their numbers."""
        self.size = size
        self.tracks: list[Track] = []
        self.time, self.flow = start - 1, flow
        self.next_number = 0
        self.before: np.ndarray | None = None  # the previous frame
        self.current: dict[int, np.ndarray] = {}  # masks in the previous frame by track number
        self.merged: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        self.absorbed: dict[int, int] = {}  # pieces found out in this frame, to their objects
        self.reach = disc(max(round(GAP * size[1]) // 2, 1))

    def advance(self, frame: np.ndarray, foreground: np.ndarray) -> None:
        """The next frame (h, w, 3) uint8 with its foreground (h, w) bool."""
        self.time += 1
        bins = colour_bins(frame)
        known = {t.number: t for t in self.tracks}
        expected: dict[int, np.ndarray] = {}
        if self.before is not None and self.current:
            if self.flow is None:
                flow = backward_flow(frame, self.before)
            else:
                flow = self.flow(self.time, self.time - 1)
            expected = {n: warp_mask(m, flow) for n, m in self.current.items()}
        pieces: dict[int, list[np.ndarray]] = {}
        shared: dict[int, bool] = {}
        free: list[np.ndarray] = []
        meeting: set[tuple[int, int]] = set()
        self.absorbed = {}
        for part in self._groups(foreground):
            claims = self._claims(part, expected, known)
            if not claims:
                free.append(part)
                continue
            for number, mask in share(part, claims, expected, bins, known).items():
                pieces.setdefault(number, []).append(mask)
                shared[number] = shared.get(number, False) or len(claims) > 1
            meeting |= {(a, b) for a in claims for b in claims if a < b}
            for a in claims:
                for b in claims:
                    known[a].together[b] = known[a].together.get(b, 0) + 1
        # What an object had in an earlier group goes with it to the one that swallowed it since.
        for number in [n for n in pieces if n in self.absorbed]:
            whose = self.absorbed[number]
            while whose in self.absorbed:
                whose = self.absorbed[whose]
            pieces.setdefault(whose, []).extend(pieces.pop(number))
            shared[whose] = True
        now: dict[int, np.ndarray] = {}
        for number, masks in pieces.items():
            kept, loose = self._keep_together(masks)
            now[number] = kept
            free += loose
        for part in sorted(free, key=np.count_nonzero, reverse=True):
            self._adopt(part, bins, now)
        known = {t.number: t for t in self.tracks}
        for number, mask in now.items():
            self._record(known[number], mask, expected.get(number), shared.get(number, False), bins)
        self.current, self.before = now, frame
        self._check_identities(meeting, bins)

    def _groups(self, foreground: np.ndarray) -> Iterator[np.ndarray]:
        """Foreground components, those within reach of each other together, as (h, w) bool."""
        near = cv2.dilate(foreground.astype(np.uint8), self.reach)
        count, labels = cv2.connectedComponents(near)
        for label in range(1, count):
            part = (labels == label) & foreground
            if np.count_nonzero(part) >= 12:
                yield part

    def _claims(
        self, part: np.ndarray, expected: dict[int, np.ndarray], known: dict[int, Track]
    ) -> list[int]:
        """Which objects, expected where, this component may hold; absorbs pieces of one object."""
        overlap = {n: int(np.count_nonzero(part & m)) for n, m in expected.items() if n in known}
        area = int(np.count_nonzero(part))
        claims = [
            n
            for n, common in overlap.items()
            if common > 0.2 * min(area, max(int(np.count_nonzero(expected[n])), 1))
        ]
        claims.sort(key=lambda n: overlap[n], reverse=True)
        kept: list[int] = []
        for n in claims:
            if not kept:
                kept.append(n)
                continue
            rival = kept[0]
            young, old = sorted((known[n], known[rival]), key=lambda t: len(t.run()))
            small = np.count_nonzero(expected[n]) < PIECE * np.count_nonzero(expected[rival])
            # What never stood alone, or not for long, is a piece: legs under a dark coat.
            lived = len(young.run())
            joined = young.together.get(old.number, 0)
            piece = lived < YOUNG or joined > CONSTANTLY * lived
            if piece and np.count_nonzero(expected[young.number]) < 0.5 * np.count_nonzero(
                expected[old.number]
            ):
                old.take(young)
                young.together.clear()
                if not young.masks:
                    self.tracks.remove(young)
                del known[young.number]
                self.absorbed[young.number] = old.number
                if young.number in kept:
                    kept[kept.index(young.number)] = old.number
            elif not small:
                kept.append(n)
        return kept

    def _keep_together(self, masks: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """One object's pieces: those near the largest stay, the others are loose."""
        masks = sorted(masks, key=np.count_nonzero, reverse=True)
        kept, loose = masks[0], []
        for mask in masks[1:]:
            a, b = (cv2.boundingRect(m.astype(np.uint8)) for m in (kept, mask))
            apart = [max(a[i], b[i]) - min(a[i] + a[i + 2], b[i] + b[i + 2]) for i in (0, 1)]
            near = max(apart) <= 0.25 * max(a[2], a[3])
            # Of like size and beside it: a second object that walked within the first.
            equal = (
                np.count_nonzero(mask) > 0.4 * np.count_nonzero(kept)
                and apart[0] > 0.01 * self.size[1]
            )
            if near and not equal:
                kept = kept | mask
            else:
                loose.append(mask)
        return kept, loose

    def _adopt(self, part: np.ndarray, bins: np.ndarray, now: dict[int, np.ndarray]) -> None:
        """A component nobody expected: a known object that was away, or a new one."""
        area = int(np.count_nonzero(part))
        large = area >= SMALLEST * part.size
        histogram = colour_histogram(bins[part])
        x, y, w, h = cv2.boundingRect(part.astype(np.uint8))
        best, best_fit = None, 0.0
        for track in self.tracks:
            if track.number in now or track.histogram is None:
                continue
            away = self.time - track.last
            if away > AWAY:
                continue
            places = np.array([track.centres[track.last], track.place(self.time)])
            distance = float(np.linalg.norm(places - (x + w / 2, y + h / 2), axis=1).min())
            # It may have gone on while hidden, but did not jump.
            allowed = 0.7 * max(w, h) + 0.006 * min(away, 15) * self.size[1]
            if len(track.masks) == 1 and away == 1:
                # Nothing is known of its speed; a small one may be faster than it is large.
                allowed = max(allowed, FAST * self.size[1])
                if not 0.5 < area / track.areas[track.last] < 2:
                    continue
            fit = similarity(histogram, track.histogram)
            if distance <= allowed and fit > max(0.65 + 0.35 * away / AWAY, best_fit):
                best, best_fit = track, fit
        if best is None:
            if not large:
                return
            best = Track(self.next_number, self.size)
            self.next_number += 1
            best.histogram = histogram
            self.tracks.append(best)
        now[best.number] = part

    def _record(
        self,
        track: Track,
        mask: np.ndarray,
        expected: np.ndarray | None,
        shared: bool,
        bins: np.ndarray,
    ) -> None:
        doubt = 0.2
        if expected is not None:
            doubt = 1 - float(np.count_nonzero(mask & expected)) / max(
                float(np.count_nonzero(mask | expected)), 1
            )
        track.put(self.time, mask, min(doubt + 0.3 * shared, 1.0))
        if not shared:
            track.learn(colour_histogram(bins[mask]))

    def _check_identities(self, meeting: set[tuple[int, int]], bins: np.ndarray) -> None:
        """After two objects part again, exchange them if their colours say so."""
        known = {t.number: t for t in self.tracks}
        for pair in meeting - self.merged.keys():
            if all(n in known and known[n].histogram is not None for n in pair):
                first, second = (known[n].histogram for n in pair)
                assert first is not None and second is not None
                self.merged[pair] = (first, second)
        for pair in [p for p in self.merged if p not in meeting]:
            a, b = pair
            if a not in known or b not in known:
                del self.merged[pair]
            elif a in self.current and b in self.current:
                before = self.merged.pop(pair)
                after = [colour_histogram(bins[self.current[n]]) for n in pair]
                same = similarity(before[0], after[0]) + similarity(before[1], after[1])
                crossed = similarity(before[0], after[1]) + similarity(before[1], after[0])
                if crossed > same + SWAP_MARGIN:
                    self._exchange(known[a], known[b])
                    known[a].histogram, known[b].histogram = before

    def _exchange(self, a: Track, b: Track) -> None:
        now = self.time
        masks = a.at(now), b.at(now)
        doubt = a.doubt[now], b.doubt[now]
        a.put(now, masks[1], doubt[1])
        b.put(now, masks[0], doubt[0])
        self.current[a.number], self.current[b.number] = masks[1], masks[0]


def track(
    frames: Frames,
    foregrounds: Iterable[np.ndarray],
    camera: Camera | None = None,
    start: int = 0,
    flow: Flow | None = None,
) -> list[Track]:
    """Objects that persist and move, the largest first.

    frames: (h, w, 3) uint8 each; foregrounds: (h, w) bool each. camera: of the whole clip; None: it
    stands still. start: number of the first frame. flow: between two frames of such numbers, (h, w,
    2); None: it is made. What is small, short-lived or never moves over
    the scene (a hole in the plate where somebody stood) is dropped.
    """
    tracker: Tracker | None = None
    for frame, foreground in zip(frames, foregrounds, strict=True):
        tracker = tracker or Tracker(foreground.shape[:2], start, flow)
        tracker.advance(frame, foreground)
    if tracker is None:
        return []
    h, w = tracker.size
    good = [
        t
        for t in tracker.tracks
        if len(t.masks) >= min(LEAST_FRAMES, len(frames))
        and t.travel(camera) >= (TRAVEL if max(t.areas.values()) >= PROMINENT * h * w else FAR) * w
    ]
    part_backwards(good, frames, start)
    return sorted(good, key=lambda t: t.weight, reverse=True)

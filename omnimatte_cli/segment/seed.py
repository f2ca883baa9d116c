"""From points and boxes to a first mask of each object, in the frame that they are in.

What moves there, parted among the objects that were pointed at, is the best answer where the ground
is calm. Elsewhere several cuts by colour and by common motion are made, small to large, and the one
is taken that differs most from the ground around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.segment.colours import colour_bins, colour_histogram, similarity
from omnimatte_cli.segment.cut import complete, cut_disc, cut_prompt
from omnimatte_cli.segment.evidence import Evidence, Seen
from omnimatte_cli.segment.looks import grown, ring
from omnimatte_cli.segment.parting import share
from omnimatte_cli.segment.prompts import Box, Prompt
from omnimatte_cli.segment.track import Track

BESIDE = 0.02  # share of the picture's width around a point that is no other object's
MOSTLY = 0.5  # share of a mover that another object holds, from which it is that object
NEAR_POINT = 0.01  # share of the picture's width by which a point may miss what moves
BOX_FITS = 0.3  # IoU of a user's box with that of what moves in it, from which they are the same
BOX_PART = 0.5  # ... below which it is only a part of what the box was drawn around
BOX_WHOLE = 0.7  # ... from which it is all that the box was drawn around
TWO = (0.1, 0.3)  # shares of a mask, and of a mover, from which the one holds the other
LARGEST = 0.5  # share of the picture that one object may cover
CALM = 0.25  # share of the ground around a mover, below which what moves there is the object
CALM_BONUS = 0.5  # ... in its favour, in a box that it fills
AROUND = 0.3  # of the root of a box's area, to which the ground around it is looked at
HEIGHTS = (0.35, 0.5, 0.65)  # of a box, at which its object is taken to be in the middle
CORE = 0.6  # share of a box that may be taken to be its object at first
SCALES = (0.018, 0.03, 0.05, 0.08, 0.13, 0.2)  # of the picture's width: radii that are tried
STEPS = (-3, 3)  # frames over which motion is compared
TOGETHER = 1.5  # pixels at least that a point must move over the scene for this to tell anything
SMALL = 0.01  # share of the picture that who points at something points at, mostly
# Of colour, change, motion, edges, what runs into the limit of a search, smallness, and the fit to
# a box. A box gives the extent, so that colours tell more. Those of points were chosen on 147
# clicks on rendered objects: the best of the masks that are tried has a mean IoU of 0.80, what is
# taken 0.71 (and 0.65 where a calm mover is preferred, as in a box: it holds its reflection).
SCORES = (1.0, 0.6, 0.6, 0.4, 2.0, 0.5, 0.0)
SCORES_IN_BOX = (3.0, 0.6, 0.6, 0.4, 2.0, 0.0, 1.5)


@dataclass(frozen=True)
class First:
    """A first mask (h, w) bool, disjoint from others, and what sets it apart from what is around.

    colour, change, motion: each 1 where it is all of the object and none of the ground, 0 where it
    is both alike. two: whether much of it is a second thing that moves apart at other times.
    """

    mask: np.ndarray
    colour: float
    change: float
    motion: float
    two: bool = False


def first_masks(
    frames: np.ndarray, prompts: Sequence[Prompt], evidence: Evidence,
    tracks: Sequence[Track], seed: int, present: Mapping[str, np.ndarray],
) -> dict[str, First]:  # fmt: skip
    """The objects that were pointed at in one frame, by name.

    frames: (T, h, w, 3) uint8; prompts in their pixels, one an object. tracks: what moves.
    present: where objects are here that were pointed at in other frames, (h, w) bool. A mask may
    be empty.
    """
    t = prompts[0].frame
    seen = evidence.at(t)
    taken = _taken(present, prompts, seen)
    movers = _movers(frames[t], t, prompts, seen, tracks, taken)
    found: dict[str, First] = {}
    for p in prompts:
        others = np.any([taken, *(f.mask for f in found.values())], axis=0)
        rivals = np.any([m for n, m in movers.items() if n != p.name] or [_none(seen)], axis=0)
        for q in prompts:
            if q.name != p.name:
                others |= _dots(q, others.shape, True)
        mask = movers.get(p.name, _none(seen))
        others |= rivals & ~mask
        refused = others | _dots(p, others.shape, False)
        together = _together(frames, t, p, evidence)
        cuts = list(_cuts(frames[t], p, seen, together, refused, seed))
        if mask.any() and (p.box is None or _fit(mask, p.box) >= BOX_PART):
            mask = complete(frames[t], mask, others & ~mask, seed) & ~others
            cuts.insert(0, (mask, ~_none(seen)))
        if p.points and p.box is None:  # what lies elsewhere is none of what was pointed at
            dots = grown(_dots(p, mask.shape, True), 2)
            cuts = [cut for cut in cuts if (cut[0] & dots).any()] or cuts
        terms = [_terms(frames[t], c, limit, seen, together, others, p.box) for c, limit in cuts]
        weights = SCORES if p.box is None else SCORES_IN_BOX
        scores = [float(np.dot(weights, x)) if x else -np.inf for x in terms]
        whole = p.box is not None and _fit(mask, p.box) >= BOX_WHOLE
        if mask.any() and whole and _is_calm(mask, others, seen):
            scores[0] += CALM_BONUS
        best = max(range(len(cuts)), key=scores.__getitem__)
        colour, change, motion = (terms[best] or (0.0, 0.0, 0.0))[:3]
        mask = cuts[best][0] & ~others
        found[p.name] = First(mask, colour, change, motion, _is_two(mask, t, tracks))
    return found


def _is_two(mask: np.ndarray, t: int, tracks: Sequence[Track]) -> bool:
    """Whether a mask (h, w) bool of frame t holds much of two things that move."""
    here = [track.at(t) for track in tracks if t in track.masks]
    common = [np.count_nonzero(mask & m) for m in here]
    held = [
        bool(c > TWO[0] * np.count_nonzero(mask) and c > TWO[1] * np.count_nonzero(m))
        for c, m in zip(common, here, strict=True)
    ]
    return held.count(True) > 1


def _taken(present: Mapping[str, np.ndarray], prompts: Sequence[Prompt], seen: Seen) -> np.ndarray:
    """What other objects hold in a frame, (h, w) bool, but around what is pointed at there."""
    here = {p.name for p in prompts}
    taken: np.ndarray = np.any([_none(seen), *(m for n, m in present.items() if n not in here)], 0)
    near = max(round(BESIDE * taken.shape[1]), 4)
    for p in prompts:
        taken = taken & ~grown(_dots(p, taken.shape, True), near)
    return taken


def _none(seen: Seen) -> np.ndarray:
    return np.zeros(seen.foreground.shape, bool)


def _dots(prompt: Prompt, shape: tuple[int, ...], inside: bool) -> np.ndarray:
    """Small discs at a prompt's points on the object (or not on it), (h, w) bool."""
    mask = np.zeros(shape, np.uint8)
    for p in prompt.points:
        if p.inside == inside:
            cv2.circle(mask, (round(p.x), round(p.y)), 2, 1, -1)
    return mask > 0


def _movers(
    frame: np.ndarray, t: int, prompts: Sequence[Prompt], seen: Seen,
    tracks: Sequence[Track], taken: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What moves where each object was pointed at; what several share is parted among them."""
    count, labels = cv2.connectedComponents(seen.foreground.astype(np.uint8))
    parts = [t_.at(t) for t_ in tracks if t in t_.masks]
    covered = np.any(parts or [_none(seen)], axis=0)
    parts += [(labels == k) & ~covered for k in range(1, count)]
    # A mover that is mostly another object's is not what was pointed at here.
    parts = [m & ~taken for m in parts if (m & taken).sum() <= MOSTLY * m.sum()]
    owners: dict[int, list[Prompt]] = {}
    for p in prompts:
        for k, part in enumerate(parts):
            if part.any() and part.mean() < LARGEST and _meant(p, part):
                owners.setdefault(k, []).append(p)
                break
    found: dict[str, np.ndarray] = {}
    for k, own in owners.items():
        if len(own) == 1:
            found[own[0].name] = parts[k]
        else:
            found |= _parted(frame, parts[k], own)
    for p in prompts:
        if p.name in found and p.box is not None:
            found[p.name] &= _inside(p.box, found[p.name].shape)
    return found


def _meant(prompt: Prompt, part: np.ndarray) -> bool:
    """Whether a prompt points at a mover (h, w) bool."""
    if prompt.box is not None:
        return _fit(part, prompt.box) > BOX_FITS
    reach = max(round(NEAR_POINT * part.shape[1]), 2)
    near = grown(_dots(prompt, part.shape, True), reach - 2)
    return bool((near & part).any()) and not (_dots(prompt, part.shape, False) & part).any()


def _fit(mask: np.ndarray, box: Box) -> float:
    """IoU of a mask's bounding box with another box."""
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    across = min(box.x1, x + w) - max(box.x0, x)
    down = min(box.y1, y + h) - max(box.y0, y)
    common = max(across, 0.0) * max(down, 0.0)
    return common / ((box.x1 - box.x0) * (box.y1 - box.y0) + w * h - common)


def _inside(box: Box, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[max(int(box.y0), 0) : int(np.ceil(box.y1)), max(int(box.x0), 0) : int(np.ceil(box.x1))] = 1
    return mask


def _parted(
    frame: np.ndarray, part: np.ndarray, prompts: Sequence[Prompt]
) -> dict[str, np.ndarray]:
    """One mover parted among several objects that were pointed at in it, by nearness and colour."""
    depth = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5)
    places = []
    for p in prompts:
        points = [(d.x, d.y) for d in p.points if d.inside]
        if not points and p.box is not None:
            points = [((p.box.x0 + p.box.x1) / 2, (p.box.y0 + p.box.y1) / 2)]
        places.append(np.array(points))
    expected = {}
    for i, own in enumerate(places):
        disc = np.zeros(part.shape, np.uint8)
        for x, y in own:
            others = np.concatenate([q for j, q in enumerate(places) if j != i])
            away = float(np.linalg.norm(others - (x, y), axis=1).min())
            inner = depth[min(int(y), part.shape[0] - 1), min(int(x), part.shape[1] - 1)]
            radius = max(min(float(inner), 0.4 * away), 2.0)
            cv2.circle(disc, (round(x), round(y)), round(radius), 1, -1)
        expected[i] = disc > 0
    bins = colour_bins(frame)
    for _ in range(3):  # until the colours are those of the whole objects
        known = {
            i: Track(i, part.shape[:2], histogram=colour_histogram(bins[m]))
            for i, m in expected.items()
        }
        shares = share(part, list(expected), expected, bins, known)
        expected = {i: shares.get(i, m) for i, m in expected.items()}
    return {p.name: expected[i] & part for i, p in enumerate(prompts)}


def _is_calm(mask: np.ndarray, others: np.ndarray, seen: Seen) -> bool:
    """Whether little else moves around a mover (h, w) bool."""
    if not mask.any():
        return False
    root = float(np.sqrt(mask.sum()))
    around = ring(mask, grown(others, 3), 3, max(round(0.7 * root), 10))
    return bool(around.any()) and float(seen.foreground[around].mean()) < CALM


def _cuts(
    frame: np.ndarray, prompt: Prompt, seen: Seen,
    together: np.ndarray | None, refused: np.ndarray, seed: int,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Masks that may be the object, and for each the region in which it was looked for."""
    h, w = frame.shape[:2]
    whole = np.ones((h, w), bool)
    if prompt.box is not None:
        yield cut_prompt(frame, prompt, seed), whole
        within = _inside(prompt.box, (h, w)) & ~refused
        likely = _unlike_around(within, seen)
        sure = cv2.erode(likely.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        if sure.any():
            yield cut_disc(frame, sure, likely, within, seed), whole
        b = prompt.box
        for share in HEIGHTS:
            dot = np.zeros((h, w), np.uint8)
            at = round((b.x0 + b.x1) / 2), round(b.y0 + share * (b.y1 - b.y0))
            cv2.circle(dot, at, 2, 1, -1)
            middle = (dot > 0) & within
            for scale in SCALES:
                core = grown(middle, max(round(scale * w), 4)) & within
                if middle.any() and core.sum() < CORE * within.sum():
                    yield cut_disc(frame, middle, core, within, seed), whole
        return
    dots = _dots(prompt, (h, w), True)
    for scale in SCALES:
        radius = max(round(scale * w), 4)
        reach, core = grown(dots, round(1.7 * radius)), grown(dots, radius)
        yield cut_disc(frame, dots, core, reach & ~refused, seed), reach
        if together is not None:
            like = core & (together > 0)
            if like.sum() > 30:
                yield cut_disc(frame, dots, like, reach & ~refused, seed), reach


def _unlike_around(within: np.ndarray, seen: Seen) -> np.ndarray:
    """Of a region (h, w) bool, what has colours that are rarer around it, (h, w) bool."""
    around = ring(within, _none(seen), 1, max(round(AROUND * np.sqrt(within.sum())), 8))
    if not (within.any() and around.any()):
        return _none(seen)
    inside, outside = (colour_histogram(seen.colour[m]) for m in (within, around))
    rather = np.log((inside + 1e-5) / (outside + 1e-5)).astype(np.float32)[seen.colour]
    return within & (cv2.blur(rather, (5, 5)) > 0)


def _together(frames: np.ndarray, t: int, prompt: Prompt, evidence: Evidence) -> np.ndarray | None:
    """How much rather each pixel moves with the points than with the scene, (h, w) float32.

    None where the points move with the scene.
    """
    dots = _dots(prompt, frames.shape[1:3], True)
    if not dots.any() and prompt.box is not None:
        b = prompt.box
        middle = Box(
            b.x0 + 0.35 * (b.x1 - b.x0), b.y0 + 0.35 * (b.y1 - b.y0),
            b.x1 - 0.35 * (b.x1 - b.x0), b.y1 - 0.35 * (b.y1 - b.y0),
        )  # fmt: skip
        dots = _inside(middle, frames.shape[1:3])
    maps = []
    for step in STEPS:
        other = t + step
        if not 0 <= other < len(frames):
            continue
        over = evidence.flow(t, other) - evidence.camera_flow(t, other)
        own = np.median(over[dots], axis=0)
        if np.linalg.norm(own) < TOGETHER:
            continue
        with_scene = np.linalg.norm(over, axis=2)
        with_points = np.linalg.norm(over - own, axis=2)
        maps.append((with_scene - with_points) / np.linalg.norm(own))
    return np.mean(maps, axis=0) if maps else None


def _terms(
    frame: np.ndarray, mask: np.ndarray, limit: np.ndarray, seen: Seen,
    together: np.ndarray | None, others: np.ndarray, box: Box | None,
) -> tuple[float, ...] | None:  # fmt: skip
    """How much a mask looks like an object, term by term (SCORES); None: it is none.

    The last three: how little it runs into the limit of the search, how little it is smaller than
    what people point at, and how well it fits a box.
    """
    area = int(mask.sum())
    if area < 20 or mask.mean() > LARGEST:
        return None
    around = ring(mask, others, 2, max(round(0.4 * np.sqrt(area)), 6))
    if around.sum() < 20:
        return None
    inside, outside = (colour_histogram(seen.colour[m]) for m in (mask, around))
    colour = 1 - similarity(inside, outside)
    change = float(seen.foreground[mask].mean() - seen.foreground[around].mean())
    motion = 0.0
    if together is not None:
        motion = float((together[mask] > 0).mean() - (together[around] > 0).mean())
    grey = cv2.cvtColor(cv2.GaussianBlur(frame, (0, 0), 1), cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    rim = mask & ~(cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)
    nearby = grown(mask, max(round(0.4 * np.sqrt(area)), 6))
    edges = min(float(slope[rim].mean()) / max(float(slope[nearby].mean()), 1.0), 3.0) / 3
    edge_of_search = grown(~limit, 2) if not limit.all() else ~limit
    runs = float((rim & edge_of_search).sum()) / max(int(rim.sum()), 1)
    fits = min(_fit(mask, box) / BOX_WHOLE, 1.0) if box is not None else 0.0
    small = min(float(np.log(mask.mean() / SMALL)), 0.0)
    return colour, change, motion, edges, -runs, small, fits

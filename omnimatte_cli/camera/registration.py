"""Where each frame lies on one canvas: points tracked outside masks, chained, adjusted together.

As long as the scene stays where it was in its first frame, each frame is only compared with that
one. From the frame on in which it moves, neighbours and frames 4, 12 and 36 apart are paired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.camera.bundle import adjust, residuals
from omnimatte_cli.camera.doubts import Fits, find_doubts
from omnimatte_cli.camera.model import (
    STATIC_SHIFT,
    Camera,
    largest_shift,
    normalised,
    project,
    sane,
)
from omnimatte_cli.camera.tracking import (
    FEW,
    FEW_LEVELS,
    WORKING_WIDTH,
    Pair,
    View,
    better_of,
    match,
    tiles_of,
    track,
    track_points,
    view,
)
from omnimatte_cli.scratch import EVERY, Store, release, trim

Hidden = Callable[[int], np.ndarray]  # frame number to (H, W) bool: where objects are

GAPS = (4, 12, 36)  # frames apart, besides neighbours, that are paired against drift
KEY_SHIFT = 0.15  # of the width: the first frame is paired with others that have moved less
STILL = 0.7  # pixels within which a point counts as not moved
STILL_TILES = 1 / 3  # of the tiles with points: if so many stay, so does the scene
THUMB = (64, 36)  # pixels across and down, at which two frames are compared that share no motion
CUT_CHANGE = 0.35  # half the difference of two colour histograms, from which it may be a cut
CUT_LIKENESS = 0.25  # correlation of two frames' detail below which it may be one
SHORT_SHIFTS = 2  # frames: a shift of no more is taken for a mistake


@dataclass
class _Scene:
    """The frames since a cut, as they are read."""

    start: int
    key: View
    store: Store  # of the pairs' points
    views: dict[int, View] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    chain: dict[int, np.ndarray] = field(default_factory=dict)  # frame pixels to key's pixels
    lost: list[int] = field(default_factory=list)
    known: int = 0  # frames that could be compared at all
    moves: bool = False


def register(
    frames: Iterable[np.ndarray],
    hidden: Hidden | None = None,
    width: int = WORKING_WIDTH,
    first: int = 0,
) -> Camera:
    """Homographies of all frames (H, W, 3) uint8 RGB, which are read once.

    hidden: where frame t's objects are; they are grown here. width: pixels at which is tracked.
    first: the number that frame 0 has in what is said to the user.
    """
    scenes: list[_Scene] = []
    store = Store()
    size: Size = (0, 0)
    scale = 1.0
    last = None
    count = 0
    for t, frame in enumerate(frames):
        size = frame.shape[:2]
        scale = min(1.0, width / size[1])
        small = (round(size[1] * scale), round(size[0] * scale))
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        mask = hidden(t) if hidden else None
        if scale < 1:
            grey = cv2.resize(grey, small, interpolation=cv2.INTER_AREA)
            if mask is not None:
                mask = cv2.resize(mask.astype(np.uint8), small, interpolation=cv2.INTER_AREA) > 0
        here = view(t, grey, mask)
        if last is None or not _continue(scenes[-1], here, frame, last):
            scenes.append(_begin(here, store))
        last = frame
        count = t + 1
        if count % EVERY == 0:
            store.release()
            trim()
    assert count > 0, "no frames"
    return _solve(scenes, count, size, small[::-1], first)


def _begin(key: View, store: Store) -> _Scene:
    scene = _Scene(key.frame, key, store)
    scene.views[key.frame] = key
    scene.chain[key.frame] = np.eye(3)
    return scene


def _continue(scene: _Scene, here: View, frame: np.ndarray, last: np.ndarray) -> bool:
    """Add a frame to the scene; False where it begins a new one.

    frame, last: (H, W, 3) uint8, it and the one before.
    """
    t, before = here.frame, scene.views[here.frame - 1]
    key_pair = None
    if not scene.moves:
        key_pair = track(scene.key, here, np.eye(3))
        shift = None if key_pair is None else scene_shift(key_pair, here.grey.shape)
        if key_pair is not None and shift is not None and shift < STATIC_SHIFT:
            scene.known += 1
            _keep(scene, key_pair)
            scene.chain[t] = np.linalg.inv(key_pair.homography)
            _remember(scene, here)
            return True
    pair = _neighbours(scene, before, here)
    if pair is None and key_pair is None:
        # A frame that is unlike the one before, and shares no motion with it, is another scene.
        if _is_cut(*(cv2.resize(x, THUMB, interpolation=cv2.INTER_AREA) for x in (frame, last))):
            return False
        scene.lost.append(t)
        scene.chain[t] = scene.chain[t - 1]
        _remember(scene, here)
        return True
    scene.known += 1
    if pair is None:
        assert key_pair is not None
        _keep(scene, key_pair)
        scene.chain[t] = np.linalg.inv(key_pair.homography)
    else:
        _keep(scene, pair)
        scene.chain[t] = normalised(scene.chain[t - 1] @ np.linalg.inv(pair.homography))
    moved = key_pair is None or scene_shift(key_pair, here.grey.shape) is not None
    scene.moves = scene.moves or moved
    _pair_far(scene, here)
    _remember(scene, here)
    return True


def _keep(scene: _Scene, pair: Pair) -> None:
    keep = scene.store.keep
    scene.pairs.append(replace(pair, start=keep(pair.start), end=keep(pair.end)))


def _remember(scene: _Scene, here: View) -> None:
    scene.views[here.frame] = here
    scene.views.pop(here.frame - max(GAPS) - 1, None)


def _neighbours(scene: _Scene, before: View, here: View) -> Pair | None:
    """The motion since the frame before: as last time, or none, or any."""
    guesses = [np.eye(3)]
    t = here.frame
    if t - 2 in scene.chain and scene.moves:
        same = np.linalg.solve(scene.chain[t - 1], scene.chain[t - 2])  # t-2 to t-1
        if sane(normalised(same), here.grey.shape, 0.5):
            guesses.insert(0, normalised(same))
    best = None
    for guess in guesses:
        pair = track_points(before, here, guess)
        if pair is not None and (best is None or len(pair.start) > len(best.start)):
            best = pair
        if best is not None and best.share > 0.6:
            break
    best = better_of(best, before, here, guesses[0])
    if best is None or best.share < 0.45:
        found = match(before, here)
        if found is not None and (best is None or len(found.start) > len(best.start)):
            # What descriptors find is a pixel off: from there, it is tracked.
            best = track(before, here, found.homography) or found
    return best


def _pair_far(scene: _Scene, here: View) -> None:
    t = here.frame
    others = [scene.views[t - gap] for gap in GAPS if t - gap in scene.views]
    if not any(o.frame == scene.start for o in others) and t - 1 != scene.start:
        others.append(scene.key)
    for other in others:
        guess = np.linalg.solve(scene.chain[t], scene.chain[other.frame])
        if not np.isfinite(guess).all() or not sane(normalised(guess), here.grey.shape, 0.6):
            continue
        guess = normalised(guess)
        if other is scene.key and t - other.frame not in GAPS:
            moved = project(guess, other.points[:, 0].astype(np.float64)) - other.points[:, 0]
            if len(moved) == 0 or np.median(np.hypot(*moved.T)) > KEY_SHIFT * here.grey.shape[1]:
                continue
        pair = track_points(other, here, guess, FEW_LEVELS)
        if pair is None or len(pair.start) < FEW:
            pair = track(other, here, guess)
        if pair is not None:
            _keep(scene, pair)


def scene_shift(pair: Pair, shape: tuple[int, int]) -> float | None:
    """How far the scene moved between a pair's frames, pixels; None where it cannot be told.

    If points over a third of the frame stayed, the scene stayed, whatever else moved as one; then
    their common drift is measured. Else the movement must be seen over half of the frame.
    """
    move = pair.end - pair.start
    tile = tiles_of(pair.start, shape)
    still = np.hypot(*move.T) < STILL
    tiles = len(np.unique(tile))
    if still.sum() >= 12 and len(np.unique(tile[still])) > tiles * STILL_TILES:
        move = move[still]
        # A tile counts once, so that one textured part does not speak for all.
        drift = _common(move, pair.start[still], tile[still], shape)
        return drift
    return _common(move, pair.start, tile, shape)


def _common(move: np.ndarray, at: np.ndarray, tile: np.ndarray, shape: tuple[int, int]) -> float:
    """Mean length of the similarity that fits the moves (P, 2), over the points' own area."""
    weight = 1 / np.sqrt(np.bincount(tile)[tile])
    x, y = ((at - (shape[1] / 2, shape[0] / 2)) / shape[1]).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    system = np.concatenate([np.stack([one, zero, x, -y], 1), np.stack([zero, one, y, x], 1)])
    double = np.concatenate([weight, weight])[:, None]
    target = np.concatenate([move[:, 0], move[:, 1]])
    fit = np.linalg.lstsq(system * double, target * double[:, 0], rcond=None)[0]
    along = (system @ fit).reshape(2, -1)
    return float(np.average(np.hypot(*along), weights=weight**2))


def _is_cut(thumb: np.ndarray, last: np.ndarray) -> bool:
    """Do two thumbnails (36, 64, 3) uint8 show different scenes?"""
    histograms = [
        np.concatenate([np.bincount(x[..., c].ravel() >> 5, minlength=8) for c in range(3)])
        for x in (thumb, last)
    ]
    change = np.abs(histograms[0] - histograms[1]).sum() / (2 * 3 * thumb[..., 0].size)
    detail = [x.mean(2) - cv2.blur(x.mean(2), (15, 15)) for x in (thumb, last)]
    spread = [float(d.std()) for d in detail]
    if min(spread) < 1:  # levels: one of them has no detail
        return bool(change > CUT_CHANGE)
    alike = float((detail[0] * detail[1]).mean() / (spread[0] * spread[1]))
    return bool(alike < CUT_LIKENESS or (change > CUT_CHANGE and alike < 2 * CUT_LIKENESS))


def _solve(scenes: list[_Scene], count: int, size: Size, small: Size, first: int) -> Camera:
    """Bundle adjustment of each scene, then one Camera of them all in full pixels."""
    homographies = np.tile(np.eye(3), (count, 1, 1))
    inliers, rms = np.zeros(count, np.int64), np.full(count, np.nan)
    share = np.full(count, np.nan)
    bounds = [s.start for s in scenes] + [count]
    moving, shifts = False, 0.0
    main = int(np.argmax(np.diff(bounds)))
    reference = 0
    for index, scene in enumerate(scenes):
        own = range(scene.start, bounds[index + 1])
        part, shift = _adjusted(scene, own, small)
        middle = len(own) // 2
        if part is not None:
            moving = True
            homographies[own.start : own.stop] = normalised(np.linalg.solve(part[middle], part))
        shifts = max(shifts, shift)
        if index == main:
            reference = own.start + middle
        _fit(scene, own, part, inliers, rms, share)
    lost = [t for s in scenes for t in s.lost]
    blind = not any(s.known for s in scenes) and count > 1
    fits = Fits(rms, share, lost) if moving else None
    doubts = find_doubts(homographies, small, bounds[1:-1], fits, blind, first)
    camera = Camera(
        homographies,
        small,
        "moving" if moving else "static",
        inliers,
        rms,
        shifts,
        reference,
        tuple(bounds[1:-1]),
        tuple(doubts),
    )
    return camera.scaled(size)


def _adjusted(scene: _Scene, own: range, small: Size) -> tuple[np.ndarray | None, float]:
    """A scene's homographies to its key frame, None for a scene that stays; and its shift."""
    chain = np.stack([scene.chain[t] for t in own])
    pairs = [p.counted_from(own.start) for p in scene.pairs]
    if not pairs:
        return None, 0.0
    # A scene that stays has each frame paired with the first alone: nothing drifts.
    adjusted = adjust(chain, pairs, 0, small[1]) if scene.moves else chain
    if not all(sane(h, small, 1e3) for h in adjusted):
        adjusted = chain
    shifts = np.array([largest_shift(adjusted[[0, i]], small) for i in range(len(own))])
    typical = float(np.sort(shifts)[-SHORT_SHIFTS - 1]) if len(own) > 4 else float(shifts.max())
    if not scene.moves or typical < STATIC_SHIFT:
        return None, float(typical)
    return adjusted, largest_shift(adjusted, small)


def _fit(
    scene: _Scene,
    own: range,
    part: np.ndarray | None,
    inliers: np.ndarray,
    rms: np.ndarray,
    share: np.ndarray,
) -> None:
    """Fill in how well each of a scene's frames fits: inliers, rms (pixels), share of inliers."""
    touching: dict[int, list[Pair]] = {t: [] for t in own}
    for p in scene.pairs:
        touching[p.first].append(p)
        touching[p.second].append(p)
    still = np.tile(np.eye(3), (len(own), 1, 1)) if part is None else part
    for t, pairs in touching.items():
        if pairs:
            square = [(residuals(still, p.counted_from(own.start)) ** 2).sum(1) for p in pairs]
            inliers[t] = sum(map(len, square))
            rms[t] = np.sqrt(np.concatenate(square).mean())
            share[t] = float(np.median([p.share for p in pairs]))
        if t % EVERY == 0:
            release(*(p.end for p in pairs[::EVERY]))

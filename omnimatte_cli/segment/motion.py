"""What moves before the scene: each frame against the plate that it should show, shadows left out.

Everything here works on frames of the working size, at most `WORKING_WIDTH` wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.matte.effects import channel_sum
from omnimatte_cli.ranks import quantile, ranked

WORKING_WIDTH = 640  # pixels; rough masks need no more, and thresholds below are tuned for it
PLATE_SAMPLES = 41  # frames that vote for the plate, evenly spaced over the clip
REACH = 3  # pixels, side of the square around a place whose plate values it may have
TOLERANCE = 12  # grey levels that neighbouring plate pixels may lend: tiny misalignments, leaves
RECURS = 18  # grey levels within which a place looks the same again
CLEAR = 0.75  # share of the samples like the median, from which it is not doubted
AROUND = 3  # samples that must be there before, and after
CHUNK = 8192  # pixels that are looked at together
DIFFERENCE = 14.0  # grey levels above which a pixel differs, on a noiseless background
CERTAIN = 32.0  # grey levels that each component must reach somewhere
NOISE_SIGMAS = 4.0  # standard deviations of a pixel's own noise that do not count as a difference
NOISE_RANK = 0.3  # quantile over time of a pixel's difference that measures its noise
NOISE_CAP = 10.0  # grey levels; what differs more is a mover that stays
SHADOW_RANGE = (0.35, 1.08)  # brightness against the plate that a shadow or reflection may have
SHADOW_CHROMA = 0.03  # how far a shadow may shift the normalised colour (r, g, b sum to 1)
VOTE = 0.022  # share of the picture's width over which pixels that differ follow their neighbours
BRIDGE = 0.06  # share of the picture's width over which pieces of one object are joined
RIM = 9  # pixels, more than the rim of an object which is else like a shadow has
SHARP = 0.7  # of the difference in the middle: how much it rises over four pixels of a sharp rim
OWNER = 0.1  # share of what differs, from which a solid part may cast the rest as its shadow
PLAIN_LEAST = 60  # pixels; smaller ones are all rim
SHADOW_TEXTURE = 0.03  # local deviation of log brightness ratio: a shadow keeps the plate's texture


class Frames(Protocol):
    """Frames (T, h, w, 3) uint8: an array, or what makes them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> np.ndarray: ...

    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class Scene:
    """The empty scene at working size.

    plate: (h, w, 3) float32 in [0, 255], the temporal median. low, high: the plate widened by what
    its neighbours show. noise: (h, w) float32 in grey levels, one standard deviation over time.
    """

    plate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    noise: np.ndarray

    @cached_property
    def known(self) -> np.ndarray:
        """Where the plate was seen, (h, w) bool: elsewhere every value will do."""
        return (channel_max(self.low) > 0) | (channel_max(255 - self.high) > 0)


def sample_indices(count: int, samples: int = PLATE_SAMPLES) -> np.ndarray:
    """At most `samples` evenly spaced frame numbers out of `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, samples)).round().astype(int))


def temporal_rank(frames: np.ndarray, share: float = 0.5) -> np.ndarray:
    """Quantile over the first axis (the median by default).

    frames: (T, H, W, ...) uint8. Returns (H, W, ...) uint8.
    """
    found = ranked(frames.reshape(len(frames), -1), int(len(frames) * share))
    return found.reshape(frames.shape[1:])


def match_exposure(frame: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """The frame with each channel's gain and offset fitted to the plate where nothing moves.

    frame: (h, w, 3) uint8; plate: (h, w, 3) float32 in [0, 255]. Returns float32, not clipped.
    A least-squares line is fitted again and again to the pixels that it explains best, so that
    movers over less than half of the picture do not pull it.
    """
    source, target = (
        np.ascontiguousarray(x[::4, ::4].reshape(-1, 3).T, np.float64) for x in (frame, plate)
    )
    out = frame.astype(np.float32)
    # Clipped pixels say nothing about the exposure.
    usable = ((source > 4) & (source < 251) & (target > 4) & (target < 251)).all(0)
    if usable.sum() < 100:
        return out
    source, target = source.compress(usable, 1), target.compress(usable, 1)
    gain, offset = np.ones(3), np.zeros(3)
    for _ in range(6):
        miss = np.abs(source * gain[:, None] + (offset[:, None] - target)).max(0)
        kept = miss <= max(quantile(miss, 0.6), 2.0)
        x, y = source.compress(kept, 1), target.compress(kept, 1)
        x_mean, y_mean = x.mean(1), y.mean(1)
        spread = (x * x).mean(1) - x_mean**2
        slope = ((x * y).mean(1) - x_mean * y_mean) / np.maximum(spread, 1e-3)
        # A flat picture cannot tell a gain; a strange gain is an artefact of the fit.
        gain = np.where(spread > 25, np.clip(slope, 0.7, 1.4), 1)
        offset = y_mean - gain * x_mean
    # By rows of all channels: NumPy is slow where it repeats a last axis of three.
    rows = out.reshape(len(out), -1)
    rows *= np.tile(gain.astype(np.float32), out.shape[1])
    rows += np.tile(offset.astype(np.float32), out.shape[1])
    return out


def study_scene(frames: Frames, resting: bool = True) -> Scene:
    """Plate and noise of a static scene from its frames (T, h, w, 3) uint8.

    resting: whether to leave out what stands before it for half of the time.
    """
    chosen = frames[sample_indices(len(frames))]
    plate = temporal_rank(chosen)
    reference = plate.astype(np.float32)
    matched = np.stack(
        [np.clip(match_exposure(f, reference), 0, 255).round().astype(np.uint8) for f in chosen]
    )
    plate = temporal_rank(matched)
    if resting:
        plate = _without_sojourners(matched, plate)
    misses = np.stack([channel_max(cv2.absdiff(f, plate)) for f in matched])
    # A low rank, because movers may be here in most frames. Half a standard deviation lies at this
    # rank where three channels are noisy; leaves that wave have more, movers must not.
    return scene_of(plate, noise_of(temporal_rank(misses, NOISE_RANK) * np.float32(2)))


def _without_sojourners(frames: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """A median plate (h, w, 3) uint8 without what was before the ground for half of the time.

    frames: (T, h, w, 3) uint8, exposure matched. A place that looks the same before and after
    everything else that it showed is the ground, however short it was seen.
    """
    count = len(frames)
    like = np.zeros(plate.shape[:2], np.int32)
    for frame in frames:
        like += channel_max(cv2.absdiff(frame, plate)) <= RECURS
    rows, columns = np.nonzero(like < CLEAR * count)
    result = plate.copy()
    for start in range(0, len(rows), CHUNK):
        part = np.s_[start : start + CHUNK]
        y, x = rows[part], columns[part]
        values = frames[:, y, x]
        channels = np.ascontiguousarray(np.moveaxis(values, 2, 0))
        best = np.zeros(y.size, np.int64)
        found = plate[y, x].astype(np.float32)
        low, high = (
            np.clip(channels.astype(np.int16) + step, 0, 255).astype(np.uint8)
            for step in (-RECURS, RECURS)
        )
        for t in range(count):
            inside = (channels >= low[:, t : t + 1]) & (channels <= high[:, t : t + 1])
            same = inside[0] & inside[1] & inside[2]
            before, after = same.argmin(0), same[::-1].argmin(0)
            members = same.sum(0)
            better = (before >= AROUND) & (after >= AROUND) & (members > best)
            best[better] = members[better]
            mean = (values[:, better] * same[:, better, None]).sum(0) / members[better, None]
            found[better] = mean
        result[y, x] = found.round()
    # A single place that says otherwise than those around it is noise.
    changed = (result != plate).any(2).astype(np.uint8)
    kept = cv2.morphologyEx(changed, cv2.MORPH_OPEN, _disc(3)) > 0
    return np.where(kept[..., None], result, plate)


def noise_of(deviation: np.ndarray) -> np.ndarray:
    """Noise from a standard deviation over time (h, w) float32, both in grey levels."""
    noise = np.minimum(deviation, NOISE_CAP)
    return cv2.GaussianBlur(cv2.dilate(noise, np.ones((3, 3), np.uint8)), (0, 0), 2)


def scene_of(
    plate: np.ndarray,
    noise: np.ndarray,
    reach: int = REACH,
    tolerance: float = TOLERANCE,
    known: np.ndarray | None = None,
) -> Scene:
    """A scene from its plate (h, w, 3) uint8 and noise (h, w) float32 in grey levels.

    reach: pixels, side of the square whose values a place may have; tolerance: by how many levels
    they may differ from its own. known: (h, w) bool, where the plate was seen; elsewhere every
    value will do.
    """
    wide = np.ones((reach, reach), np.uint8)
    reference = plate.astype(np.float32)
    low = np.maximum(cv2.erode(plate, wide).astype(np.float32), reference - tolerance)
    high = np.minimum(cv2.dilate(plate, wide).astype(np.float32), reference + tolerance)
    if known is not None:
        low[~known], high[~known] = 0, 255
    return Scene(reference, low, high, noise)


def shadow_like(frame: np.ndarray, plate: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Where the frame is the plate under a shadow or a faint reflection, (h, w) bool.

    frame (exposure matched) and plate: (h, w, 3) float32 in [0, 255]; noise: (h, w) grey levels.
    Three tests: a plausible brightness ratio, the plate's own colour, the plate's own texture (the
    logarithm of the ratio is locally constant).
    """
    smooth_frame = cv2.GaussianBlur(np.maximum(frame, 0), (0, 0), 1.0)
    smooth_plate = cv2.GaussianBlur(plate, (0, 0), 1.0)
    light_frame, light_plate = channel_sum(smooth_frame) + 12, channel_sum(smooth_plate) + 12
    log_ratio = np.log(light_frame / light_plate)
    within = (log_ratio > np.log(SHADOW_RANGE[0])) & (log_ratio < np.log(SHADOW_RANGE[1]))
    chroma_frame = (smooth_frame + 4) / grey(light_frame)
    chroma_plate = (smooth_plate + 4) / grey(light_plate)
    chroma = np.sqrt(channel_sum((chroma_frame - chroma_plate) ** 2))
    chroma = cv2.blur(chroma, (3, 3))
    # Against a mean that is local too, so that the soft slope of a penumbra is no texture.
    fine = log_ratio - cv2.blur(log_ratio, (7, 7))
    deviation = np.sqrt(np.maximum(cv2.blur(fine * fine, (7, 7)), 0))  # rounding can go below 0
    # What noise alone does to the ratio, after the blur above has averaged about a dozen pixels.
    grain = 1.5 * noise / np.maximum(light_frame, 1)
    return within & (chroma < SHADOW_CHROMA + grain) & (deviation < SHADOW_TEXTURE + grain)


@dataclass(frozen=True)
class Change:
    """How one frame differs from the scene behind.

    level: (h, w) float32, 1 at the threshold from which a pixel differs. shadow: (h, w) bool, where
    the frame is the plate under a shadow. foreground: (h, w) bool, movers without their shadows.
    known: (h, w) bool, where the plate was seen.
    """

    level: np.ndarray
    shadow: np.ndarray
    foreground: np.ndarray
    known: np.ndarray


def foreground(frame: np.ndarray, scene: Scene) -> np.ndarray:
    """Moving objects without their shadows in one frame (h, w, 3) uint8, as (h, w) bool."""
    return change_of(frame, scene).foreground


def change_of(frame: np.ndarray, scene: Scene) -> Change:
    """How one frame (h, w, 3) uint8 differs from the scene."""
    width = frame.shape[1]
    wide, bridge = (2 * max(round(share * width / 2), 1) + 1 for share in (VOTE, BRIDGE))
    matched = match_exposure(frame, scene.plate)
    miss = np.maximum(channel_max(np.maximum(matched - scene.high, scene.low - matched)), 0)
    miss = cv2.GaussianBlur(miss, (0, 0), 0.8)
    threshold = np.maximum(DIFFERENCE, NOISE_SIGMAS * scene.noise)
    differs = miss > threshold
    certain = miss > np.maximum(CERTAIN, 2 * NOISE_SIGMAS * scene.noise)
    shadow = shadow_like(matched, scene.plate, scene.noise)
    solid = differs & ~shadow
    plain = _plain_objects(miss, differs, shadow)
    solid = cv2.morphologyEx(solid.astype(np.uint8), cv2.MORPH_OPEN, _disc(3)) | plain
    # A plain coat before a plain wall looks like a shadow in places; its outline does not. Pixels
    # that differ join the object where most of what differs around them is solid.
    around = cv2.blur(solid.astype(np.float32), (wide, wide))
    changed = cv2.blur(differs.astype(np.float32), (wide, wide))
    solid = ((solid > 0) | (differs & (around > 0.6 * np.maximum(changed, 0.25)))).astype(np.uint8)
    solid = fill_holes(cv2.morphologyEx(solid, cv2.MORPH_CLOSE, _disc(7)))
    # A wide closing may only add what differs a little: it bridges a coat, not the gap of two legs.
    bridged = close_each(solid, bridge, wide)
    solid = fill_holes(solid | (bridged & (miss > threshold / 2).astype(np.uint8)))
    solid = cv2.morphologyEx(solid, cv2.MORPH_OPEN, _disc(3))
    movers = keep_supported(solid, certain)
    return Change(miss / threshold, shadow & differs, movers, scene.known)


def _plain_objects(miss: np.ndarray, differs: np.ndarray, shadow: np.ndarray) -> np.ndarray:
    """Objects of one colour before plain ground that are like shadows, (h, w) uint8 0/1.

    A shadow lies beside what casts it, or has a soft rim. Here nothing solid is near and the rim is
    sharp: `miss`, (h, w) levels of difference, rises across it to what it is in the middle.
    differs, shadow: (h, w) bool, what differs from the plate, and what is like a shadow.
    """
    found = np.zeros(differs.shape, np.uint8)
    solid = (differs & ~shadow).astype(np.uint8)
    opened = cv2.morphologyEx(solid, cv2.MORPH_OPEN, _disc(RIM))
    thick = cv2.dilate(opened, _disc(2 * RIM + 1)) > 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(differs.astype(np.uint8))
    for label in range(1, count):
        x, y, w, h, area = stats[label]
        if min(w, h) <= RIM or area < PLAIN_LEAST:
            continue
        window = np.s_[max(y - 3, 0) : y + h + 3, max(x - 3, 0) : x + w + 3]
        part = labels[window] == label
        if thick[window][part].sum() > OWNER * area:
            continue
        inner = cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 3)
        outer = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 3)
        level = miss[window]
        middle = level[inner >= 3]
        within, beyond = level[(inner > 1.5) & (inner < 3)], level[(outer > 1.5) & (outer < 3)]
        if not (middle.size and within.size and beyond.size):
            continue
        if np.mean(within) - np.mean(beyond) >= SHARP * np.median(middle):
            found[window] |= part
    return found


def close_each(mask: np.ndarray, size: int, reach: int) -> np.ndarray:
    """Close gaps up to `size` pixels within each component of a mask (h, w) uint8 0/1.

    Pieces less than `reach` pixels apart are one component. Not between components: two people who
    walk side by side stay two.
    """
    result = mask.copy()
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        cv2.dilate(mask, _disc(reach)), connectivity=8
    )
    for label, (x, y, w, h, _) in enumerate(stats[1:], start=1):
        part = (labels[y : y + h, x : x + w] == label) & (mask[y : y + h, x : x + w] > 0)
        # The border keeps what closing does at the box's edge like elsewhere.
        padded = np.pad(part.astype(np.uint8), size)
        closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disc(size))
        result[y : y + h, x : x + w] |= closed[size : size + h, size : size + w]
    return result


def keep_supported(mask: np.ndarray, support: np.ndarray, least: int = 4) -> np.ndarray:
    """The components of a mask (h, w) that hold at least `least` pixels of `support`, bool."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    votes = np.bincount(labels[support & (labels > 0)], minlength=count)
    return (votes >= least)[labels] & (labels > 0)


def fill_holes(mask: np.ndarray, largest: float = 0.002) -> np.ndarray:
    """A mask (h, w) uint8 0/1 with its holes closed up to a share `largest` of the picture."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= largest * mask.size
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    small[edge] = False
    small[0] = False  # the mask itself
    assert len(small) == count, (len(small), count)
    return (mask.astype(bool) | small[labels]).astype(np.uint8)


def _disc(size: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))

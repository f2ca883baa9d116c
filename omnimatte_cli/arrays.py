"""The data that flows through the pipeline, and the one place where integers meet floats.

Letters: B windows, N layers, T frames, C channels, H, W. Host arrays are NumPy, channels last.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from omnimatte_cli.scratch import EVERY, Growing, release, scratch_array

Size = tuple[int, int]  # (height, width) in pixels
Sliced = TypeVar("Sliced", bound=Any)


def full_scale(dtype: np.dtype | type) -> int:
    """What an integer image holds for 1: 255 in uint8, 65535 in uint16."""
    assert dtype in (np.uint8, np.uint16), dtype
    return int(np.iinfo(dtype).max)


def at_most(items: Sliced, most: int) -> Sliced:
    """Every so-many-th of some items, the first among them: `most` of them at most, evenly spread.

    items: an array along its first axis, a list, a range.
    """
    return items[:: max(1, -(-len(items) // most))]


def channel_max(x: np.ndarray) -> np.ndarray:
    """(..., 3) to (...): several times faster than NumPy's reduction over a short last axis."""
    return np.maximum(np.maximum(x[..., 0], x[..., 1]), x[..., 2])


def to_float(image: np.ndarray) -> np.ndarray:
    """uint8 or uint16 of full range to float32 in [0, 1], any shape."""
    return image.astype(np.float32) * np.float32(1 / full_scale(image.dtype))


def integers(x: np.ndarray, bits: int = 8) -> np.ndarray:
    """Float in [0, 1] (clipped) rounded to integers 0 .. 2 ** bits - 1, uint8 or uint16."""
    kind = np.uint8 if bits == 8 else np.uint16
    return (np.clip(x, 0, 1) * (2**bits - 1) + 0.5).astype(kind)


def eight_bits(image: np.ndarray) -> np.ndarray:
    """uint16 of full range rounded to uint8, any shape; uint8 as it is."""
    if image.dtype == np.uint8:
        return image
    assert image.dtype == np.uint16, image.dtype
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def frame_or_static(x: np.ndarray, t: int) -> np.ndarray:
    """Frame t's part of x (T, ...), or of x (1, ...) the one that holds for every frame."""
    return x[t if len(x) > 1 else 0]


@dataclass(frozen=True)
class Clip:
    """Every frame of a video at one (usually reduced) size.

    frames: (T, H, W, 3) uint8 RGB. fps: mean frames per second.
    """

    frames: np.ndarray
    fps: Fraction
    source: Path

    def __post_init__(self) -> None:
        assert self.frames.dtype == np.uint8, self.frames.dtype
        assert self.frames.ndim == 4 and self.frames.shape[3] == 3, self.frames.shape

    def __len__(self) -> int:
        return len(self.frames)


ALPHABETICAL = "alphabetical"  # where an order comes from that nobody gave


@dataclass(frozen=True)
class Masks:
    """Rough binary masks of N objects over T frames at the video's own size.

    They are kept as compressed bits (a few kB a mask), so that a long clip at full resolution fits
    in memory; `frame` unpacks one frame.

    names: N object names. size: (H, W). order: (T, N) int, indices into `names`, back to front.
    order_source: where the order came from ("option", "order.txt" or "alphabetical").
    notes: sentences for the user about what was adapted while reading.
    """

    names: tuple[str, ...]
    size: Size
    order: np.ndarray
    packed: tuple[tuple[bytes, ...], ...] = field(repr=False)  # [object][frame]
    order_source: str = ALPHABETICAL
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.packed) == len(self.names), (len(self.packed), self.names)
        assert self.order.shape == (len(self), len(self.names)), self.order.shape

    def __len__(self) -> int:
        return len(self.order)

    @property
    def sha256(self) -> str:
        """A hash of all masks with their names, in hexadecimal digits."""
        digest = hashlib.sha256(repr((self.names, self.size)).encode())
        for masks in self.packed:
            for data in masks:
                digest.update(zlib.decompress(data))  # how it is compressed depends on the library
        return digest.hexdigest()

    @classmethod
    def none(cls, frames: int, size: Size) -> Masks:
        """Masks of no object at all."""
        return cls((), size, np.zeros((frames, 0), np.int64), ())

    @classmethod
    def from_arrays(
        cls, masks: np.ndarray, names: Sequence[str], order: np.ndarray | None = None, **facts
    ) -> Masks:
        """Pack masks (N, T, H, W) bool; `order` (T, N) defaults to the order of `names`."""
        assert masks.ndim == 4 and masks.dtype == np.bool_, (masks.shape, masks.dtype)
        n, t, h, w = masks.shape
        if order is None:
            order = np.tile(np.arange(n), (t, 1))
        packed = tuple(tuple(pack_mask(m) for m in obj) for obj in masks)
        return cls(tuple(names), (h, w), order, packed, **facts)

    def at(self, obj: int, t: int) -> np.ndarray:
        """Mask of one object in one frame, (H, W) bool."""
        return unpack_mask(self.packed[obj][t], self.size)

    def frame(self, t: int) -> np.ndarray:
        """Masks of all objects in frame t, (N, H, W) bool."""
        masks = np.zeros((len(self.names), *self.size), bool)
        for i in range(len(self.names)):
            masks[i] = self.at(i, t)
        return masks

    def union(self, t: int) -> np.ndarray:
        """Where any object is in frame t, (H, W) bool."""
        return np.any(self.frame(t), axis=0)

    def part(self, first: int, stop: int) -> Masks:
        """The masks of frames `first` up to `stop`, without the objects that are not there."""
        empty = pack_mask(np.zeros(self.size, bool))
        kept = [i for i, p in enumerate(self.packed) if any(m != empty for m in p[first:stop])]
        place = {old: new for new, old in enumerate(kept)}
        rows = [[place[i] for i in row if i in place] for row in self.order[first:stop].tolist()]
        return Masks(
            tuple(self.names[i] for i in kept),
            self.size,
            np.array(rows, int).reshape(stop - first, len(kept)),
            tuple(self.packed[i][first:stop] for i in kept),
            self.order_source,
        )

    def resized(self, size: Size) -> np.ndarray:
        """All masks at another size, (N, T, h, w) bool: on where at least half a pixel is covered.

        A mask too small to cover half of any pixel keeps its densest pixel, so that no object that
        is there disappears.
        """
        import cv2

        h, w = size
        out = scratch_array((len(self.names), len(self), h, w), bool)
        for i in range(len(self.names)):
            for t in range(len(self)):
                if t % EVERY == 0:
                    release(out)
                mask = self.at(i, t)
                if not mask.any():
                    continue
                (rows, to_rows), (columns, to_columns) = (
                    _whole_cells(np.any(mask, axis=axis), old, new)
                    for axis, old, new in ((1, self.size[0], h), (0, self.size[1], w))
                )
                there = mask[rows, columns].astype(np.float32)
                part = out[i, t, to_rows, to_columns]
                share = cv2.resize(there, part.shape[::-1], interpolation=cv2.INTER_AREA)
                part[:] = share >= min(0.5, float(share.max()))
        return out


def _whole_cells(there: np.ndarray, old: int, new: int) -> tuple[slice, slice]:
    """The part of a line of `old` pixels that holds all that is there (old,) bool, and where that
    is in a line of `new` pixels: between places at which pixels of both begin."""
    common = math.gcd(old, new) if new <= old else 1
    step = old // common
    found = np.flatnonzero(there)
    first, stop = int(found[0]) // step, int(found[-1]) // step + 1
    return slice(first * step, stop * step), slice(first * new // common, stop * new // common)


def pack_mask(mask: np.ndarray) -> bytes:
    """(H, W) bool to compressed bits."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def unpack_mask(data: bytes, size: Size) -> np.ndarray:
    """Compressed bits to (H, W) bool."""
    bits = np.frombuffer(zlib.decompress(data), np.uint8)
    return np.unpackbits(bits, count=size[0] * size[1]).reshape(size).view(bool)


@dataclass(frozen=True)
class Plate:
    """The clean picture of every frame, in frame coordinates.

    image: (H, W, 3) uint8 or uint16 RGB; of a plate that changes over time, its first frame.
    valid: (H, W) bool, False where no frame shows the plate: it was filled in and is a guess.
    moving: None for a fixed plate; else opens a new stream of one plate per frame. reread: reads
    frame t's of these; None: nobody can.
    light: each frame's exposure against the plate's typical one, as camera.json holds it; empty
    where the light does not change.
    canvas: (h, w, 3) as deep, what a moving camera saw in the longest stretch that fits on one;
    None for a fixed camera. doubts: (T, h, w, 2) uint8, at working size, how many levels of 255 a
    frame may be darker, and brighter, than its plate before that means anything; None: unknown.
    """

    image: np.ndarray
    valid: np.ndarray
    moving: Callable[[], Iterator[np.ndarray]] | None = None
    light: tuple[dict[str, list[float]], ...] = ()
    canvas: np.ndarray | None = None
    doubts: np.ndarray | None = None
    reread: Callable[[int], np.ndarray] | None = None

    def __post_init__(self) -> None:
        assert self.image.dtype in (np.uint8, np.uint16), self.image.dtype
        assert self.image.ndim == 3, self.image.shape
        assert self.valid.shape == self.image.shape[:2], (self.valid.shape, self.image.shape)

    @property
    def unseen_share(self) -> float:
        """Share of the picture's pixels that no frame shows, in [0, 1]."""
        return float(1 - self.valid.mean())

    @property
    def at_hand(self) -> bool:
        """Whether any frame's plate can be had out of turn."""
        return self.moving is None or self.reread is not None

    def at(self, t: int) -> np.ndarray | None:
        """The plate of frame t, (H, W, 3); None where plates only come in turn."""
        if self.moving is None:
            return self.image
        return None if self.reread is None else self.reread(t)

    def stream(self) -> Iterator[np.ndarray]:
        """The plate of each frame in turn, (H, W, 3); endless for a fixed plate."""
        return itertools.repeat(self.image) if self.moving is None else self.moving()


def resize_frames(frames: Iterable[np.ndarray], size: Size) -> np.ndarray:
    """Frames (H, W, 3) uint8 or uint16 to one array (T, h, w, 3) uint8 by area averaging."""
    import cv2

    h, w = size
    found = Growing()
    for frame in frames:
        found.add(eight_bits(cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)))
    return found.array()

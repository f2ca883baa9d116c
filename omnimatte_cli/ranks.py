"""Medians and quartiles over few samples a pixel, by a sorting network: some ten times np.sort."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeVar

import cv2
import numpy as np

BLOCK = 1 << 13  # values of one sample counted at a time: all samples' blocks fit in a cache
LONG_BLOCK = 1 << 16  # the same, sorted by rows: shorter ones take as long to begin as to sort
NEAR = 1.3  # times a guess, up to which a quantile is looked for first

Whole = TypeVar("Whole", int, np.ndarray)


@lru_cache(maxsize=64)
def comparators(count: int) -> tuple[tuple[int, int], ...]:
    """Batcher's odd-even mergesort for `count` values: pairs (i, j) to be put in order."""
    pairs: list[tuple[int, int]] = []
    size = 1
    while size < count:
        step = size
        while step >= 1:
            for j in range(step % size, count - step, 2 * step):
                low = range(j, j + min(step, count - j - step))
                pairs += [(i, i + step) for i in low if i // (2 * size) == (i + step) // (2 * size)]
            step //= 2
        size *= 2
    return tuple(pairs)


def columns(images: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (K, h, w, 3) as samples (K, P) of each value, and how many of them count, (P,).

    shown: (K, h, w) bool, the pixels that count; the others become the type's largest value.
    """
    samples = np.full_like(images, np.iinfo(images.dtype).max)
    for image, there, out in zip(images, shown, samples, strict=True):
        cv2.copyTo(image, there.view(np.uint8), out)
    counts = shown.sum(0, dtype=np.int64).reshape(-1)
    return samples.reshape(len(images), -1), np.repeat(counts, images.shape[3])


def masked_ranks(samples: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median and half the interquartile range of the `counts` smallest of each column.

    samples: (K, P) uint8 or uint16, which is sorted in place; what does not count must be the
    type's largest value. counts: (P,) in [0, K]. Returns (P,) of the samples' type, of an even
    number the mean of the middle two rounded up, and (P,) float32 in levels. Where counts is 0 they
    mean nothing.
    """
    assert samples.shape[1:] == counts.shape, samples.shape
    median = np.empty(len(counts), samples.dtype)
    spread = np.empty(len(counts), np.float32)
    wide = np.uint16 if samples.dtype == np.uint8 else np.uint32
    for start in range(0, len(counts), LONG_BLOCK):
        part = slice(start, start + LONG_BLOCK)
        rows = [np.ascontiguousarray(s[part]) for s in samples]
        spare = np.empty_like(rows[0])
        for i, j in comparators(len(rows)):
            np.minimum(rows[i], rows[j], out=spare)
            np.maximum(rows[i], rows[j], out=rows[j])
            rows[i], spare = spare, rows[i]
        n = np.maximum(counts[part], 1)
        most = int(n.max())
        found = [rows[k] for k in _quarters(most)]
        fewer = np.flatnonzero(n != most)
        if len(fewer):
            block, found = np.concatenate(rows), [row.copy() for row in found]
            for row, k in zip(found, _quarters(n[fewer].astype(np.int64)), strict=True):
                row[fewer] = block.take(k * len(n) + fewer)
        first, low, high, third = found
        median[part] = (low.astype(wide) + high + wide(1)) >> 1
        np.multiply(third - first, np.float32(0.5), out=spread[part])
    return median, spread


def _quarters(n: Whole) -> tuple[Whole, Whole, Whole, Whole]:
    """Where the first quartile, the middle one or two and the third are among n sorted values."""
    return (n - 1) >> 2, (n - 1) >> 1, n >> 1, (3 * (n - 1) + 3) >> 2


def masked_median(samples: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Median of the `counts` smallest of each column: (T, P) uint8 or uint16, (P,) int to (P,).

    Exact, without sorting: the bits of the middle value are found from the top, each by counting
    the samples below. Where counts is 0 the result means nothing.
    """
    result = np.empty(samples.shape[1], samples.dtype)
    kind = _kind(samples)
    for start in range(0, samples.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        block, count = np.ascontiguousarray(samples[:, part]), counts[part].astype(kind)
        low = _ranked(block, (np.maximum(count, 1) - 1) // 2)
        high = low
        even = count % 2 == 0
        if even.any():
            # The next sample is the same value again if enough are no larger, else the next larger.
            # Less 1 and the middle value, what is no larger wraps around to the type's upper end.
            enough = _count(block <= low) > count // 2
            step = low + block.dtype.type(1)
            above = np.subtract(block, step).min(0) + step
            high = np.where(enough | ~even, low, above)
        result[part] = (low.astype(np.uint32) + high + 1) >> 1
    return result


def median_shown(images: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Median of the images (K, h, w, C) that show a pixel, (h, w, C), and how many do, (h, w).

    shown: (K, h, w) bool.
    """
    return masked_median(*columns(images, shown)).reshape(images.shape[1:]), shown.sum(0)


def ranked(samples: np.ndarray, rank: int | np.ndarray) -> np.ndarray:
    """Of each column of (T, P) uint8 or uint16, the value at place `rank` (from 0) if sorted.

    rank: one for all columns, or (P,).
    """
    result = np.empty(samples.shape[1], samples.dtype)
    ranks = np.broadcast_to(np.asarray(rank, _kind(samples)), result.shape)
    for start in range(0, samples.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        result[part] = _ranked(np.ascontiguousarray(samples[:, part]), ranks[part])
    return result


def quantile(x: np.ndarray, share: float, near: float | None = None) -> float:
    """`np.quantile(x, share)` of (N,), several times as fast for some thousand numbers.

    near: about what it is, if that is known: then what is much larger need not be looked at.
    """
    place = share * (len(x) - 1)
    low = int(place)
    high = min(low + 1, len(x) - 1)
    found = x[:0] if near is None else x.compress(x < NEAR * near)
    if len(found) > high:
        found.partition((low, high))
    else:
        found = np.partition(x, (low, high))
    part, step = place - low, found[high] - found[low]
    return float(found[low] + step * part if part < 0.5 else found[high] - step * (1 - part))


def _ranked(block: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Of each column of (T, P), the value at place `rank` (from 0) if it were sorted."""
    value = np.zeros(block.shape[1], block.dtype)
    for bit in reversed(range(8 * block.itemsize)):
        higher = value | block.dtype.type(1 << bit)
        # Where fewer samples are below than the rank asks for; np.where takes three times as long.
        value |= (_count(block < higher) <= rank).astype(block.dtype) << block.dtype.type(bit)
    return value


def _kind(samples: np.ndarray) -> type[np.unsignedinteger]:
    """The smallest type that counts the samples of (T, P): what is small is compared fast."""
    return np.uint8 if len(samples) < 256 else np.uint32


def _count(flags: np.ndarray) -> np.ndarray:
    """True values in each column of (T, P) bool, as (P,) of its `_kind`."""
    ones = flags.view(np.uint8)  # summed in bytes, 255 rows at a time, which is much faster
    if len(ones) < 256:
        return np.add.reduce(ones, axis=0, dtype=np.uint8)
    total = np.zeros(ones.shape[1], np.uint32)
    for start in range(0, len(ones), 255):
        total += np.add.reduce(ones[start : start + 255], axis=0, dtype=np.uint8)
    return total

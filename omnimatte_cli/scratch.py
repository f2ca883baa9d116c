"""Large arrays in files without a name: what a long clip takes is disk then, and not memory.

The system keeps as much of them in memory as it can spare. `release` takes what was used out of
this process's memory; a file without a name is gone when nobody uses it any more, crash or not.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import mmap
import os
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from typing import IO, Any

import numpy as np

from omnimatte_cli.errors import OutputError

LARGE = 64 << 20  # bytes from which an array is kept in a file
BLOCK = 4 << 20  # bytes in which small arrays are kept together, and the largest of them
ALIGN = 16  # bytes at multiples of which each of them begins
EVERY = 64  # frames after which loops over a clip release what they have used

log = logging.getLogger(__name__)


def scratch_array(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """An array of zeros: in a file if it is LARGE and there is room on the disk."""
    shape, dtype = tuple(shape), np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if size < LARGE or not hasattr(os, "posix_fallocate"):
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile() as file:
        try:
            # Without room that is taken beforehand, writing to the array would end the process.
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            log.info("%d MB of scratch are kept in memory: %s", size >> 20, error.strerror)
            return np.zeros(shape, dtype)
        return _mapped(file, shape, dtype)


def release(*arrays: np.ndarray) -> None:
    """Take arrays in files out of this process's memory; their content stays. Others are left."""
    for array in arrays:
        base: Any = array
        while base is not None and not isinstance(base, mmap.mmap):
            base = getattr(base, "_mmap", None) or getattr(base, "base", None)
        if base is not None and hasattr(mmap, "MADV_DONTNEED"):
            with contextlib.suppress(OSError, ValueError):
                base.madvise(mmap.MADV_DONTNEED)


def trim() -> None:
    """Give the system back what was freed between small things that stay (glibc keeps it)."""
    give_back = _malloc_trim()
    if give_back is not None:
        give_back(0)


@lru_cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):  # another C library
        return None


def _mapped(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.asarray(np.memmap(file, dtype, "r+", shape=shape))


class Growing:
    """Frames of one shape and type, one after the other, that become one array."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.size = 0
        self.count = 0
        self.file: IO[bytes] | None = None
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)

    def add(self, frame: np.ndarray) -> None:
        """Append a frame; it must not change later. Raises OutputError where the disk is full."""
        self.shape, self.dtype = frame.shape, frame.dtype
        self.count += 1
        self.size += frame.nbytes
        self.parts.append(frame)
        if self.size >= LARGE:
            self._spill()

    def _spill(self) -> None:
        if self.file is None:
            self.file = tempfile.TemporaryFile()  # noqa: SIM115 (kept open)
        try:
            for part in self.parts:
                self.file.write(np.ascontiguousarray(part).data)
        except OSError as error:
            raise OutputError(
                f"{tempfile.gettempdir()} has no room for the {self.size >> 20} MB that are kept "
                f"while working ({error.strerror}): set TMPDIR to a folder that has."
            ) from error
        self.parts = []

    def array(self) -> np.ndarray:
        """All frames, (T, ...)."""
        if self.file is None:
            return np.stack(self.parts)
        self._spill()
        with self.file as file:
            file.flush()
            return _mapped(file, (self.count, *self.shape), self.dtype)


class Store:
    """Small arrays that stay, kept together in blocks: from LARGE bytes on in files.

    Each by itself would lie between what is freed around it, which the C library then cannot give
    back: of points tracked in a frame, a few kB, some hundred kB of memory would stay.
    """

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []
        self.left = 0  # bytes free in the last block

    def keep(self, x: np.ndarray) -> np.ndarray:
        """A copy of x, of at most BLOCK bytes, that is not to be changed."""
        assert x.nbytes <= BLOCK, x.shape
        if x.nbytes > self.left:
            in_file = BLOCK * (len(self.blocks) + 1) >= LARGE
            self.left = max(BLOCK, LARGE) if in_file else BLOCK
            self.blocks.append(scratch_array((self.left,), np.uint8))
        start = self.blocks[-1].nbytes - self.left
        self.left -= min(self.left, -(-x.nbytes // ALIGN) * ALIGN)
        place = self.blocks[-1][start : start + x.nbytes].view(x.dtype).reshape(x.shape)
        place[...] = x
        return place

    def release(self) -> None:
        """Take the last block out of this process's memory, if it is in a file."""
        release(*self.blocks[-1:])

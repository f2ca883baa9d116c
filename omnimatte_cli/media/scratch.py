"""Frames decoded once and kept in a file: reading them again costs no decoding.

Several passes go over every frame (plate, layers, reports); raw frames are read from disk at memory
speed, while decoding 1080p with exact colour costs some 50 ms a frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np

LARGEST = 8 << 30  # bytes of scratch; a longer video is decoded again instead


class Scratch:
    """Opens a stream of frames; the first complete pass fills the file.

    frames: opens the original stream of arrays, all of one shape and dtype. Use as a context
    manager: the file goes when the block ends.
    """

    def __init__(
        self,
        frames: Callable[[], Iterator[np.ndarray]],
        folder: Path | None = None,
        largest: int = LARGEST,
    ) -> None:
        self._open, self._largest = frames, largest
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".frames-")  # noqa: SIM115
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.uint8)
        self._count = 0  # frames in the file, once it is complete

    def __enter__(self) -> Scratch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __call__(self) -> Iterator[np.ndarray]:
        """A new pass over all frames."""
        return self._again() if self._count else self._fill()

    def _fill(self) -> Iterator[np.ndarray]:
        self._file.seek(0)
        self._file.truncate()
        written, at, fits = 0, 0, True
        for frame in self._open():
            if fits and at + frame.nbytes <= self._largest:
                self._file.seek(at)  # another pass may have moved it
                self._file.write(np.ascontiguousarray(frame).data)
                written, at = written + 1, at + frame.nbytes
                self._shape, self._dtype = frame.shape, frame.dtype
            else:
                fits = False
            yield frame
        if fits:
            self._file.flush()
            self._count = written
        else:
            self._file.truncate(0)

    def _again(self) -> Iterator[np.ndarray]:
        assert self._shape is not None
        size = int(np.prod(self._shape)) * self._dtype.itemsize
        for t in range(self._count):
            frame = np.empty(self._shape, self._dtype)
            self._file.seek(t * size)
            self._file.readinto(frame.data.cast("B"))  # type: ignore[attr-defined]
            yield frame

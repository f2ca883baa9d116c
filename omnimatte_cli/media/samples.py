"""A clip's full-size frames that are looked at more than once, in a bounded file on disk.

They are kept while the video is decoded for the first time, so that it need not be decoded again: a
temporal median needs no more than some hundred well-spread frames, and a short clip is kept whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np

from omnimatte_cli.arrays import Size, at_most
from omnimatte_cli.errors import OutputError

MEDIAN_SAMPLES = 100  # frames that a temporal median is taken of at most
SCRATCH_BYTES = 3 << 29  # 1.5 GiB on disk at most
FEWEST_SAMPLES = 24  # frames that are kept whatever their size


class FrameSamples:
    """Evenly spread frames of a clip at full size: all of them, if they fit.

    Frames are offered in order, `add(t, frame)`; every one is kept until the file is full, then
    every second, and so on. The file has no name, so no crash can leave it behind, and it is read
    and written, not mapped: what it holds is no memory of this process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where the file is made; None: the system's folder for temporary files."""
        self.folder = folder
        self.stride = 1
        self.offered = 0
        self.kept: dict[int, int] = {}  # frame number: its place in the file
        self.capacity = 0
        self.shape: tuple[int, ...] = ()
        self.dtype = np.dtype(np.uint8)
        self.file: IO[bytes] | None = None

    @classmethod
    def of(cls, frames: np.ndarray | Iterable[np.ndarray]) -> FrameSamples:
        """Samples of frames (T, H, W, 3) that are at hand."""
        samples = cls()
        for t, frame in enumerate(frames):
            samples.add(t, frame)
        return samples

    def add(self, t: int, frame: np.ndarray) -> None:
        """Keep frame t, (H, W, 3) uint8 or uint16, if it falls on the grid of samples."""
        if self.file is None:
            self.shape, self.dtype = frame.shape, frame.dtype
            self.capacity = max(FEWEST_SAMPLES, SCRATCH_BYTES // frame.nbytes)
            self.file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (kept open)
        self.offered = t + 1
        if t % self.stride:
            return
        if len(self.kept) == self.capacity:
            self.stride *= 2
            self.kept = {k: place for k, place in self.kept.items() if k % self.stride == 0}
            if t % self.stride:
                return
        taken = set(self.kept.values())
        place = next(i for i in range(self.capacity) if i not in taken)
        self._write(place, frame)
        self.kept[t] = place

    def _write(self, place: int, frame: np.ndarray) -> None:
        assert self.file is not None
        try:
            self.file.seek(place * frame.nbytes)
            self.file.write(np.ascontiguousarray(frame).data)
        except OSError as error:
            where = self.folder or tempfile.gettempdir()
            raise OutputError(
                f"{where} has no room for the {(place + 1) * frame.nbytes >> 20} MB of frames that "
                f"are kept while working ({error.strerror}): set TMPDIR to a folder that has."
            ) from error

    @property
    def complete(self) -> bool:
        """Whether every frame was kept."""
        return self.stride == 1

    @property
    def size(self) -> Size:
        """(H, W) of the frames."""
        return self.shape[0], self.shape[1]

    @property
    def indices(self) -> list[int]:
        """Numbers of the frames that a median is taken of, ascending and evenly spread."""
        return at_most(sorted(self.kept), MEDIAN_SAMPLES)

    def frame(self, t: int, rows: slice | None = None) -> np.ndarray:
        """The kept frame t or some of its rows, (H or rows, W, 3)."""
        start, stop, _ = (rows or slice(None)).indices(self.shape[0])
        out = np.empty((stop - start, *self.shape[1:]), self.dtype)
        self._read(t, start, out)
        return out

    def _read(self, t: int, start: int, into: np.ndarray) -> None:
        """Fill `into` (rows, W, 3), contiguous, with the kept frame t from row `start` on."""
        assert self.file is not None
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        where = self.kept[t] * self.shape[0] * row + start * row
        self.file.flush()
        left = into.data.cast("B")
        while len(left):
            done = os.preadv(self.file.fileno(), [left], where)
            if not done:
                raise OutputError("The file of frames that are kept while working has ended early.")
            left, where = left[done:], where + done

    def rows(self, part: slice) -> np.ndarray:
        """Some rows of the frames in `indices`, in order of time: (S, rows, W, 3)."""
        start, stop, _ = part.indices(self.shape[0])
        out = np.empty((len(self.indices), stop - start, *self.shape[1:]), self.dtype)
        for place, t in enumerate(self.indices):
            self._read(t, start, out[place])
        return out

    def opener(
        self, again: Callable[[], Iterator[np.ndarray]]
    ) -> Callable[[], Iterator[np.ndarray]]:
        """How all frames are opened: from the file if it holds them, else `again`."""
        return lambda: self.stream() if self.complete else again()

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()

    def __del__(self) -> None:
        self.close()

    def stream(self) -> Iterator[np.ndarray]:
        """All frames of a clip that was kept whole, in order."""
        assert self.complete
        return (self.frame(t) for t in range(self.offered))

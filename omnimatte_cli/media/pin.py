"""A video that is read more than once must be the same each time: it is pinned, then checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.images import list_images

Stamp = tuple[str, int, int, int]  # name, bytes, time of the last change in ns, inode


@dataclass(frozen=True)
class Pin:
    """What a source looked like from outside when it was first opened."""

    source: Path
    stamps: tuple[Stamp, ...]

    @classmethod
    def of(cls, source: Path) -> Pin:
        """Pin a video file or a folder of images; one that is not there has no stamps."""
        return cls(source, _stamps(source))

    def check(self) -> None:
        """Raise VideoError if the source is another by now."""
        now = _stamps(self.source)
        if now == self.stamps:
            return
        if not now:
            raise VideoError(f"{self.source} has vanished while it was read.")
        before, after = {s[0]: s for s in self.stamps}, {s[0]: s for s in now}
        changed = sorted(n for n in before | after if before.get(n) != after.get(n))
        which = f" ({changed[0]})" if self.source.is_dir() and changed else ""
        raise VideoError(
            f"{self.source} was changed while it was read{which}: run it again when nothing "
            "writes there."
        )

    def whole(self, frames: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
        """All frames of one more pass, which must be `count`. Raises VideoError at its end.

        A pass that is closed before its end is checked as well.
        """
        read = 0
        try:
            for frame in frames:
                read += 1
                if read > count:
                    break
                yield frame
        except (VideoError, GeneratorExit):
            self.check()  # the change is the reason
            raise
        self.check()
        if read != count:
            more = "more" if read > count else str(read)
            raise VideoError(f"{self.source} gave {count} frames at first and {more} later.")


def _stamps(source: Path) -> tuple[Stamp, ...]:
    try:
        files = list_images(source) if source.is_dir() else [source]
        return tuple(
            (p.name, s.st_size, s.st_mtime_ns, s.st_ino) for p in files for s in [p.stat()]
        )
    except OSError:
        return ()

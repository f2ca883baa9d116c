"""A folder that one process at a time works in; the system frees it when that process dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from omnimatte_cli.errors import OutputError

LOCK = "lock"  # the file in the folder


class WorkFolder:
    """A hidden folder with a locked file in it. `found` says what an earlier owner left there.

    The lock belongs to the open file, so that no crash can leave it behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[str] = []
        self._file: int | None = None

    def claim(self) -> bool:
        """Make the folder and lock it; False where another process has it. Raises OSError."""
        while True:
            # Not mkdir's exist_ok: that looks again, and fails if the owner removes it in between.
            with contextlib.suppress(FileExistsError):
                self.path.mkdir()
            try:
                file = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            except FileNotFoundError:  # its owner has just removed the folder
                continue
            if not _lock(file):
                os.close(file)
                return False
            if _still_there(file, self.path / LOCK):
                break
            os.close(file)
        self._file = file
        self.found = sorted(p.name for p in self.path.iterdir() if p.name != LOCK)
        return True

    def remove(self) -> None:
        """Give the lock back and remove the folder, if nothing else is in it."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            (self.path / LOCK).unlink()
        os.close(self._file)
        self._file = None
        with contextlib.suppress(OSError):  # not empty
            self.path.rmdir()


@contextlib.contextmanager
def working_in(path: Path) -> Iterator[Path]:
    """A hidden folder for this process alone, removed with all in it when the block ends.

    What a killed run left there goes first. Raises OutputError where another process works in it,
    or none can.
    """
    work = WorkFolder(path)
    try:
        claimed = work.claim()
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be written to: {error.strerror}.") from error
    if not claimed:
        raise OutputError(f"Another run is writing to {path.parent}: wait for its end.")
    try:
        _empty(path)
        yield path
    finally:
        _empty(path)
        work.remove()


def _empty(folder: Path) -> None:
    if not folder.is_dir():  # somebody has removed it
        return
    for path in [p for p in folder.iterdir() if p.name != LOCK]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _still_there(file: int, path: Path) -> bool:
    """Whether the open file is the one of that name, not one that was removed meanwhile."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _lock(file: int) -> bool:
    """Lock an open file without waiting; False where another process has locked it."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

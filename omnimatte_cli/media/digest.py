"""SHA-256 of files, which may be larger than memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

BLOCK = 1 << 20  # bytes that are read at a time


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return sha256_of_files([path], named=False)


def sha256_of_path(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files right in a folder."""
    if not path.is_dir():
        return sha256_of(path)
    return sha256_of_files(sorted(p for p in path.iterdir() if p.is_file()))


def sha256_of_files(paths: Iterable[Path], named: bool = True) -> str:
    """SHA-256 of several files, one after the other; `named`: each one's name goes before it."""
    digest = hashlib.sha256()
    for path in paths:
        if named:
            digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()

"""Write, then rename: a file has its name only when it is whole.

A crash, a full disk or an interrupt leaves what was there before, and at most a hidden partial file
that the next write replaces.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnimatte_cli.errors import OutputError


def partial_path(path: Path, tag: str = "") -> Path:
    """The hidden name that `path` is written under; its suffix stays, as encoders go by it.

    tag: tells apart processes that may write the same file at the same time.
    """
    return path.with_name(f".{path.stem}{tag}.partial{path.suffix}")


@contextlib.contextmanager
def replacing(path: Path, tag: str = "") -> Iterator[Path]:
    """A name to write to, renamed to `path` when the block ends well and removed when it does not.

    Raises OutputError, which names `path`, where the system refuses.
    """
    path = Path(path)
    partial = partial_path(path, tag)
    try:
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):  # the folder itself may be gone
            partial.unlink()


def write_bytes(path: Path, data: bytes, tag: str = "") -> None:
    """Write a file whole or not at all. Raises OutputError."""
    with replacing(path, tag) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str, tag: str = "") -> None:
    """Write UTF-8 text whole or not at all. Raises OutputError."""
    write_bytes(path, text.encode("utf-8"), tag)


def write_json(path: Path, facts: Any, indent: int = 1, tag: str = "") -> None:
    """Write JSON, readable and without NaN, whole or not at all. Raises OutputError."""
    write_text(path, json.dumps(facts, indent=indent, allow_nan=False) + "\n", tag)

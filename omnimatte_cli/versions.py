"""Versions of this tool and of what it stands on."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from omnimatte_cli import __version__

LIBRARIES = ("torch", "numpy", "opencv-python", "av", "ffmpeg-python", "safetensors")


def library_version(name: str) -> str | None:
    """The version of an installed distribution; None where none of this name is installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def library_versions(names: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of the tool, Python and the libraries that a result depends on."""
    found = {"omnimatte": __version__, "python": platform.python_version()}
    return found | {name: library_version(name) or "unknown" for name in names}

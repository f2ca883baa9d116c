"""manifest.json: what was run, on what, and what came out."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omnimatte_cli import __version__
from omnimatte_cli.arrays import Background, Masks
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.settings import Settings

LIBRARIES = ("torch", "numpy", "opencv-python", "av", "ffmpeg-python", "safetensors")


def library_versions() -> dict[str, str]:
    """Versions of the tool, Python and the libraries that the result depends on."""
    found = {"omnimatte": __version__, "python": platform.python_version()}
    return found | {name: library_version(name) for name in LIBRARIES}


def library_version(name: str) -> str:
    """The version of an installed distribution, or "unknown"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"


def describe_input(info: VideoInfo) -> dict[str, Any]:
    """Facts about the input video."""
    return {
        "source": str(info.source),
        "kind": info.kind,
        "frames": info.frames,
        "height": info.size[0],
        "width": info.size[1],
        "fps": f"{info.fps.numerator}/{info.fps.denominator}",
        "duration": round(info.duration, 4),
        "times": [round(t, 6) for t in info.times],
        "codec": info.codec,
        "pixel_format": info.pixel_format,
        "sha256": info.sha256,
    }


def describe_masks(masks: Masks) -> dict[str, Any]:
    """Objects and their order, back to front: one list if it is the same in all frames."""
    orders = [[masks.names[i] for i in row] for row in masks.order.tolist()]
    fixed = all(row == orders[0] for row in orders)
    return {
        "names": list(masks.names),
        "order": orders[0] if fixed else orders,
        "order_from": masks.order_source,
        "notes": list(masks.notes),
    }


def describe_plate(plate: Background, given: Path | None) -> dict[str, Any]:
    """Where the plate came from and which share of it no frame shows."""
    facts: dict[str, Any] = {"from": str(given) if given else "masked median"}
    facts["unseen_share"] = round(plate.unseen_share, 6)
    facts["unseen_picture"] = None if plate.valid.all() else "background_unseen.png"
    return facts


def describe_options(settings: Settings) -> dict[str, Any]:
    """All options in force, defaults too."""
    options: dict[str, Any] = _plain(asdict(settings))
    if settings.size is not None:
        options["size"] = "{}x{}".format(*settings.size)
    return options


def _plain(value: Any) -> Any:
    """Paths as strings, also inside dicts."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value) if isinstance(value, Path) else value


def peak_memory_mb() -> float | None:
    """The largest resident memory of this process so far, in MB; None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


def write_manifest(path: Path, facts: dict[str, Any]) -> None:
    """Write the manifest, readable and without NaN."""
    text = json.dumps(facts, indent=2, allow_nan=False) + "\n"
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)

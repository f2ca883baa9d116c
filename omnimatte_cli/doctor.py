"""What `omnimatte doctor` looks at: the first thing to send with a report of a fault."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from omnimatte_cli import __version__
from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.versions import library_version

LIBRARIES = ("torch", "numpy", "opencv-python", "av", "safetensors", "typer", "rich")
EXTRAS = {  # what works only with them
    "segment-anything": "masks with --sam",
    "OpenEXR": "--format exr",
    "OpenImageIO": "EXR, DPX and TGA as input",
    "opentimelineio": "layers.otio",
    "ray": "batch --engine ray",
}
ENCODERS = {"libx264": "mp4", "prores_ks": "prores", "libvpx-vp9": "webm"}
LITTLE_ROOM = 5e9  # bytes of free disk below which a note is made
TEST_SIZE = (36, 64)  # height, width of the self-test's clip
TEST_FRAMES = 6


@dataclass(frozen=True)
class Finding:
    """good: True, False where the tool cannot work, None where it is only worth knowing."""

    what: str
    good: bool | None
    text: str


Check = Callable[[Path | None], Iterator[Finding]]


def examine(ffmpeg: Path | None = None, self_test: bool = True) -> Iterator[Finding]:
    """All findings, each as soon as it is there. What goes wrong in a check is a finding too."""
    checks: list[Check] = [_system, _libraries, _device, _programs, _weights, _disk]
    for check in [*checks, _self_test] if self_test else checks:
        yield from _guarded(check, ffmpeg)


def _guarded(check: Check, ffmpeg: Path | None) -> Iterator[Finding]:
    try:
        yield from check(ffmpeg)
    except (OmnimatteError, ImportError, OSError, RuntimeError) as error:
        yield Finding(check.__name__.strip("_").replace("_", "-"), False, str(error))


def _system(ffmpeg: Path | None) -> Iterator[Finding]:
    yield Finding("omnimatte", True, f"{__version__}, from {Path(__file__).parent}")
    python = f"{platform.python_version()}, {sys.executable}"
    yield Finding("python", sys.version_info >= (3, 10), python)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("system", None, f"{platform.platform()}, {cores} cores, {_memory()}")


def _memory() -> str:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, AttributeError, OSError):
        return "memory unknown"
    return f"{total / 2**30:.1f} GiB of memory"


def _libraries(ffmpeg: Path | None) -> Iterator[Finding]:
    yield from map(_needed, LIBRARIES)
    yield from (_wanted(name, use) for name, use in EXTRAS.items())


def _needed(name: str) -> Finding:
    try:
        importlib.import_module({"opencv-python": "cv2"}.get(name, name))
    except ImportError as error:
        return Finding(name, False, f"does not load: {error}")
    found = library_version(name)
    unnamed = "works, but is not installed as a package of this name"
    return Finding(name, True if found else None, found or unnamed)


def _wanted(name: str, use: str) -> Finding:
    return Finding(name, None, f"{library_version(name) or 'not installed'} ({use})")


def _device(ffmpeg: Path | None) -> Iterator[Finding]:
    import torch

    from omnimatte_cli import device as devices

    yield Finding("device", True, devices.describe(devices.choose("auto")))
    for i in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(i)
        text = f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        yield Finding(f"cuda:{i}", None, text)


def _programs(ffmpeg: Path | None) -> Iterator[Finding]:
    from omnimatte_cli.media.ffmpeg import ask, encoders_of, try_ffmpeg

    program = try_ffmpeg(ffmpeg, ())
    version = ask(program, "-version").partition("\n")[0]
    yield Finding("ffmpeg", True, f"{program}: {version}")
    listed = encoders_of(program, os.stat(program).st_mtime_ns)
    for encoder, form in ENCODERS.items():
        good = True if encoder in listed else False if encoder == "libx264" else None
        there = "there" if encoder in listed else "missing"
        yield Finding(encoder, good, f"{there} (--format {form})")


def _weights(ffmpeg: Path | None) -> Iterator[Finding]:
    from omnimatte_cli.methods import weights
    from omnimatte_cli.segment.checkpoints import cache_folder

    names = weights.shipped_names()
    if not names:
        yield Finding("weights", False, f"none in {weights.shipped_folder()}")
    for name in names:
        file = weights.find(name, network=None)
        weights.read_tensors(file.path)
        network = file.metadata.get("network", "unknown")
        yield Finding(f"weights {name}", True, f"{network} network, sha256 {file.sha256[:16]}")
    cache = cache_folder()
    found = sorted(p.name for p in cache.glob("*.pth")) if cache.is_dir() else []
    yield Finding("SAM checkpoints", None, f"{', '.join(found) or 'none'} in {cache}")


def _disk(ffmpeg: Path | None) -> Iterator[Finding]:
    for what, place in (("working folder", Path.cwd()), ("temporary", Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free
        writable = os.access(place, os.W_OK)
        note = "" if writable else ", not writable"
        low = ", little for full-size frames" if free < LITTLE_ROOM else ""
        good = None if writable else (False if what == "temporary" else None)
        yield Finding(what, good, f"{place}: {free / 1e9:.1f} GB free{low}{note}")


def _self_test(ffmpeg: Path | None) -> Iterator[Finding]:
    """Decompose a block that moves over a ramp, and look at what comes out."""
    from omnimatte_cli.media.encode import write_image
    from omnimatte_cli.pipeline import decompose
    from omnimatte_cli.settings import Settings

    h, w = TEST_SIZE
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="omnimatte-doctor-") as folder:
        place = Path(folder)
        for name in ("frames", "masks/block"):
            (place / name).mkdir(parents=True)
        for t in range(TEST_FRAMES):
            mask = np.zeros((h, w), bool)
            mask[h // 4 : 3 * h // 4, 4 + 8 * t : 16 + 8 * t] = True
            frame = np.repeat(np.linspace(60, 180, w)[None, :, None], h, 0).repeat(3, 2)
            frame[mask] = (220, 40, 30)
            write_image(place / "frames" / f"{t:05d}.png", frame.astype(np.uint8))
            write_image(place / "masks" / "block" / f"{t:05d}.png", mask.astype(np.uint8) * 255)
        settings = Settings(
            masks=place / "masks", method="ownership", size=(32, 48), camera="static", ffmpeg=ffmpeg
        )
        result = decompose(place / "frames", place / "out", settings)
        psnr = result.manifest["psnr"]["after_detail"]
    seconds = time.monotonic() - start
    text = f"a clip of {TEST_FRAMES} frames in {seconds:.1f} s, layers over plate {psnr:.1f} dB"
    yield Finding("self-test", bool(psnr and psnr > 35), text)

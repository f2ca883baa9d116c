"""Where the time goes: every stage of `decompose` as a multiple of merely reading the video.

usage: python examples/benchmark.py VIDEO MASKS [METHOD]

Ratios on one machine can be compared with those on another; seconds cannot.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from omnimatte_cli import decompose
from omnimatte_cli.media.read import iter_frames


def main(source: Path, masks: Path, method: str) -> None:
    start = time.perf_counter()
    frames = sum(1 for _ in iter_frames(source))
    reading = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = decompose(source, masks=masks, out=Path(folder) / "out", method=method)
        total = time.perf_counter() - start
    print(f"{frames} frames, {method}; decoding alone is 1")
    for name, seconds in result.manifest["seconds"].items():
        print(f"{name:12} {seconds / reading:8.1f} {seconds / total:6.1%}")
    print(f"{'all':12} {total / reading:8.1f}   {1000 * total / frames:.0f} ms a frame")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or ["ownership"])[0])

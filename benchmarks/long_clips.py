"""Memory and time of long and large clips: makes each clip, decomposes it, and prints a row.

    python -m benchmarks.long_clips FOLDER 1920x1080x250 3840x2160x30 -- --seed 1

A clip is WIDTHxHEIGHTxFRAMES: a disc with a soft shadow crosses textured, grainy ground before a
camera that stands still, a pass in four seconds, again and again. What follows `--` goes to
`omnimatte decompose`. Memory is that of the process, and of all that it has started, sampled twice
a second (Linux).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.media.encode import VideoWriter

FPS = 25
PASS = 100  # frames in which the disc crosses the picture once
GRAIN = 2.0  # levels, deviation
POLL = 0.5  # seconds between two looks at the memory


def make_clip(folder: Path, width: int, height: int, frames: int) -> None:
    """Write video.mp4 and masks/disc.mp4 below a folder."""
    (folder / "masks").mkdir(parents=True)
    random = np.random.default_rng(0)
    ground = np.zeros((height, width, 3), np.float32)
    for cells in (6, 24, 96):
        noise = random.normal(0, 18, (cells, cells * 2, 3)).astype(np.float32)
        ground += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    grains = random.normal(128, GRAIN, (8, height, width, 1)).astype(np.float32)
    grounds = [np.clip(ground + grain, 0, 255).astype(np.uint8) for grain in grains]
    size, radius = (height, width), height // 8
    with (
        VideoWriter(folder / "video.mp4", size, FPS, crf=24) as video,
        VideoWriter(folder / "masks" / "disc.mp4", size, FPS, crf=10) as masks,
    ):
        for t in range(frames):
            phase = (t % PASS) / PASS
            centre = int((1.3 * phase - 0.15) * width), int(height * (0.45 + 0.1 * (t // PASS % 3)))
            below = (centre[0] + radius, centre[1] + radius)
            shadow = np.full(size, 255, np.uint8)
            cv2.ellipse(shadow, below, (2 * radius, radius // 2), 15, 0, 360, 128, -1)
            shadow = cv2.cvtColor(cv2.blur(shadow, (radius // 4 | 1,) * 2), cv2.COLOR_GRAY2RGB)
            frame = cv2.multiply(grounds[t % len(grounds)], shadow, scale=1 / 255)
            mask = np.zeros((*size, 3), np.uint8)
            cv2.circle(frame, centre, radius, (200, 60, 40), -1)
            cv2.circle(mask, centre, radius, (255, 255, 255), -1)
            video.write(frame)
            masks.write(mask)


def memory_of(process: int) -> tuple[int, int]:
    """Bytes that a process, and all of its descendants with it, hold (shared pages once)."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1])
    family = [process]
    for child in sorted(parents):
        if parents[child] in family:
            family.append(child)
    held = [pss(number) for number in family]
    return held[0], sum(held)


def pss(process: int) -> int:
    """Bytes that a process holds, its share of shared pages."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = rollup.partition("\nPss:")[2].split()
    return 1024 * int(found[0]) if found else 0


def measure(folder: Path, options: list[str]) -> dict[str, float]:
    """Decompose the clip of a folder; its manifest's figures, seconds and bytes at the peak.

    CPU seconds are those of the process and of all that it has started.
    """
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "omnimatte_cli", "decompose", str(folder / "video.mp4"), "-o",
               str(out), "--masks", str(folder / "masks"), "--json", "-q", *options]  # fmt: skip
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "answer.json").open("wb") as answer:
        process = subprocess.Popen(command, stdout=answer)
        own = together = 0
        while process.poll() is None:
            now = memory_of(process.pid)
            own, together = max(own, now[0]), max(together, now[1])
            time.sleep(POLL)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    if process.returncode:
        raise SystemExit(f"decompose ended with {process.returncode}")
    facts = json.loads((folder / "answer.json").read_text())
    print("  stages, s:", facts["seconds"], flush=True)
    return {
        "seconds": seconds,
        "CPU seconds": cpu,
        "own GiB": own / 2**30,
        "with ffmpeg GiB": together / 2**30,
        "peak MB of manifest": facts["peak_memory_mb"],
        "PSNR dB": facts["psnr"]["after_detail"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("clips", nargs="+", metavar="WIDTHxHEIGHTxFRAMES")
    line, options = sys.argv[1:], []
    if "--" in line:
        line, options = line[: line.index("--")], line[line.index("--") + 1 :]
    asked = parser.parse_args(line)
    for clip in asked.clips:
        width, height, frames = map(int, clip.split("x"))
        place = asked.folder / clip
        if not (place / "masks" / "disc.mp4").exists():
            shutil.rmtree(place, ignore_errors=True)
            make_clip(place, width, height, frames)
        row = measure(place, options)
        print(f"{clip}: " + ", ".join(f"{k} {v:.2f}" for k, v in row.items()), flush=True)


if __name__ == "__main__":
    main()

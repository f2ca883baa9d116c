"""The whole command: `omnimatte decompose` on a made clip, beside merely decoding it.

usage: python -m benchmarks.pipeline [--size 640x360] [--frames 90] [--objects 2] [--moving]
       [--repeat 3] [--busy 0] [--against CHECKOUT] [--folder DIR]

With --against, another checkout runs in turn with this one: before and after on equal terms.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common import Spent, busy, decoding, make_clip, spent_by, table

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--frames", type=int, default=90)
    parser.add_argument("--objects", type=int, default=2)
    parser.add_argument("--moving", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--busy", type=int, default=0, help="other processes that use a core each")
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "omnimatte")
    asked = parser.parse_args()
    asked.folder = asked.folder.resolve()
    width, height = (int(x) for x in asked.size.split("x"))
    video, masks = make_clip(asked.folder, width, height, asked.frames, asked.objects, asked.moving)
    houses = {"here": HERE} | ({"against": asked.against.resolve()} if asked.against else {})
    runs: dict[str, list[Spent]] = {name: [] for name in houses}
    stages: dict[str, dict[str, float]] = {}
    with busy(asked.busy):
        floor = decoding(video)
        for _ in range(asked.repeat):
            for name, house in houses.items():
                out = asked.folder / f"out_{name}"
                shutil.rmtree(out, ignore_errors=True)
                command = [sys.executable, "-m", "omnimatte_cli", "decompose", video]
                command += ["--masks", masks, "-o", out, "-q"]
                runs[name].append(spent_by(command, house))
                stages[name] = json.loads((out / "manifest.json").read_text())["seconds"]
    rows = []
    for name, found in runs.items():
        wall = statistics.median(x.wall for x in found)
        cpu = statistics.median(x.cpu for x in found)
        peak = max(x.peak for x in found)
        rows.append((name, wall, cpu, peak, wall / floor.wall, 1000 * cpu / asked.frames))
    title = f"{asked.frames} frames of {asked.size}, {asked.objects} objects, "
    title += f"{'moving' if asked.moving else 'static'} camera, {asked.busy} busy processes"
    head = ("", "wall s", "CPU s", "peak GiB", "wall / decoding", "CPU ms a frame")
    table(title, head, rows)
    for name, seconds in stages.items():
        table(f"Stages of the last run, {name}", ("stage", "s"), list(seconds.items()))


if __name__ == "__main__":
    main()

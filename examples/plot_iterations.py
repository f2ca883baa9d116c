"""Plot IoU over finetuning iterations from the results of `omnimatte evaluate`.

usage: python examples/plot_iterations.py results.jsonl [results.jsonl ...] PLOT.png

Needs matplotlib: pip install 'omnimatte[plot]'. Only videos that every line has count, so that the
lines can be compared; one panel a plate. Variants of `--vary owner=layers` are drawn.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

Curves = dict[str, dict[int, dict[str, float]]]  # weights, iterations, video: IoU


def read(paths: Sequence[Path]) -> dict[str, Curves]:
    """The curves of each plate."""
    plates: dict[str, Curves] = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            result = json.loads(line)
            variant = result["variant"]
            options = dict(pair.split("=", 1) for pair in variant["assignments"])
            curves = plates[variant["plate"]]
            usual = options.get("detail", "resolve") == "resolve"
            usual = usual and options.get("bootstrap", "mask") == "mask"
            if variant["method"] == "masks":
                curves["masks"][0][result["video"]] = result["iou"]
            elif usual and options.get("owner") == "layers" and "iterations" in options:
                start = variant["weights"]
                name = "random start" if start == "none" else Path(start).stem
                curves[name][int(options["iterations"])][result["video"]] = result["iou"]
    return plates


def main(paths: Sequence[Path], out: Path) -> None:
    plates = read(paths)
    figure, axes = plt.subplots(
        1, len(plates), sharey=True, squeeze=False, figsize=(5 * len(plates), 4)
    )
    for axis, (plate, curves) in zip(axes[0], sorted(plates.items()), strict=True):
        sets = [set(scores) for points in curves.values() for scores in points.values()]
        videos = sorted(set.intersection(*sets))
        for name, points in sorted(curves.items()):
            steps = sorted(points)
            values = [float(np.mean([points[s][v] for v in videos])) for s in steps]
            if name == "masks":
                axis.axhline(values[0], color="grey", linestyle=":", label="masks as the answer")
            else:
                axis.plot(steps, values, marker="o", label=name)
        axis.set_title(f"{plate} plate, {len(videos)} video{'s' * (len(videos) != 1)}")
        axis.set_xlabel("finetuning iterations")
        axis.set_xscale("symlog", linthresh=50)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0][0].set_ylabel("IoU, mean over videos")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    *results, plot = map(Path, sys.argv[1:])
    main(results, plot)

"""Put the weights of a training run among those that ship, with what they score.

usage: python examples/ship_weights.py RUN/weights.safetensors NAME SUMMARY.json [SUMMARY.json ...]

Each summary.json is of `omnimatte evaluate`. The mean IoU over the videos of each set goes into the
file's metadata, a line for each variant of the summaries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from omnimatte_cli.methods import weights


def main(run: Path, name: str, summaries: list[Path]) -> None:
    file = weights.find(str(run), network=None)
    load = weights.load_owner if file.metadata["network"] == "ownership" else weights.load
    scores: dict[str, dict[str, float]] = {}
    for path in summaries:
        for line in json.loads(path.read_text(encoding="utf-8")):
            # The file's own path is of no use to others.
            variant = line["variant"].replace(str(run), name)
            scores.setdefault(variant, {})[line["set"]] = line["iou"]
    out = weights.shipped_folder() / f"{name}{weights.SUFFIX}"
    weights.save(load(file), out, {**file.metadata, "scores": json.dumps(scores)}, half=True)
    print(out)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], [Path(p) for p in sys.argv[3:]])

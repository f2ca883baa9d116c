"""Put the weights of a training run among those that ship, with what they score.

usage: python examples/ship_weights.py RUN/weights.safetensors NAME SUMMARY.json [SUMMARY.json ...]

Each summary.json is of `omnimatte evaluate`. The mean IoU over the videos of each set goes into the
file's metadata, a line for each row of the summaries.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from omnimatte_cli import weights


def main(run: Path, name: str, summaries: list[Path]) -> None:
    metadata = weights.find(str(run), network=None).metadata
    scores: dict[str, dict[str, float]] = {}
    for path in summaries:
        for line in json.loads(path.read_text(encoding="utf-8")):
            # The file's own path is of no use to others.
            row = line["row"].replace(str(run), name)
            scores.setdefault(row, {})[line["set"]] = line["iou"]
    with safe_open(run, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    out = weights.shipped_folder() / f"{name}{weights.SUFFIX}"
    partial = out.with_name(f".{out.name}.partial")
    save_file(tensors, partial, {**metadata, "scores": json.dumps(scores)})
    partial.chmod(0o644)
    partial.replace(out)
    print(out)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2], [Path(p) for p in sys.argv[3:]])

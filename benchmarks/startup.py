"""What a command costs before it works: --help, importing torch, and a very small clip.

usage: python -m benchmarks.startup [--repeat 5]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.common import Spent, spent_by, table

HERE = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    asked = parser.parse_args()
    walk = HERE / "examples" / "walk"
    out = Path(tempfile.mkdtemp()) / "out"
    python: list[str | Path] = [sys.executable]
    tool = [*python, "-m", "omnimatte_cli"]
    commands = {
        "python": [*python, "-c", "pass"],
        "omnimatte --help": [*tool, "--help"],
        "omnimatte decompose --help": [*tool, "decompose", "--help"],
        "import torch": [*python, "-c", "import torch"],
        "decompose, 24 frames of 224x128": [
            *tool, "decompose", walk / "video.mp4", "--masks", walk / "masks", "-o", out, "-q",
        ],
    }  # fmt: skip
    rows = []
    for name, command in commands.items():
        runs: list[Spent] = []
        for _ in range(asked.repeat):
            shutil.rmtree(out, ignore_errors=True)
            runs.append(spent_by(command, HERE))
        wall, cpu = (statistics.median(getattr(x, k) for x in runs) for k in ("wall", "cpu"))
        rows.append((name, wall, cpu, max(x.peak for x in runs)))
    table("Start", ("", "wall s", "CPU s", "peak GiB"), rows)
    shutil.rmtree(out.parent)


if __name__ == "__main__":
    main()

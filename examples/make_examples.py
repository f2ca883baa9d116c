"""Make the shipped example again: a rendered scene as a video and masks.

usage: python examples/make_examples.py OUT_DIR
"""

from __future__ import annotations

import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from omnimatte_cli.evaluation.truth import read_truth
from omnimatte_cli.media.encode import VideoWriter, write_image
from omnimatte_cli.synth.dataset import write_scene
from omnimatte_cli.synth.scenes import SceneOptions
from omnimatte_cli.synth.seeds import DATASET_SEEDS

SCENE = 201  # of `omnimatte synth --objects 2 --effect both --size 224x128`
NAMES = ("hiker", "walker")


def make(out: Path) -> None:
    options = SceneOptions(
        frames=24, gap=1, height=128, width=224, min_objects=2, max_objects=2,
        effect="both", supersample=2,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "set" / "scene"
        folder.parent.mkdir()
        write_scene(folder, DATASET_SEEDS + SCENE, options)
        truth = read_truth(folder)
    for i, name in enumerate(NAMES):
        (out / "masks" / name).mkdir(parents=True)
        for t, mask in enumerate(truth.masks[i]):
            write_image(out / "masks" / name / f"{t:05d}.png", mask.astype("uint8") * 255)
    rows = [" ".join(NAMES[i] for i in row) for row in truth.order]  # back to front
    (out / "masks" / "order.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    size = (truth.frames.shape[1], truth.frames.shape[2])
    with VideoWriter(out / "video.mp4", size, Fraction(12), crf=16) as video:
        for frame in truth.frames:
            video.write(frame)


if __name__ == "__main__":
    make(Path(sys.argv[1]))

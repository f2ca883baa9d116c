"""The systems of the papers on the same clips: what each needs, gives and takes, and its scores.

usage: python -m benchmarks.systems OUT [--dataset DIR] [--size 96] [--frames 24] [--steps 100,300]
       [--only "NAME;NAME"]

The clips are rendered here, one of each of four kinds, so that anybody can repeat it; --dataset
takes the first video of each set of a folder in the same layout instead. Every system is run by its
command, and what the command wrote is scored. `unmix` gets blends of the same clips: each with the
next one, which pans, since scenes that both stand still cannot be told apart. What OUT holds is not
run again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.common import spent_by, table
from omnimatte_cli.arrays import integers, to_float
from omnimatte_cli.evaluation.scores import score
from omnimatte_cli.evaluation.truth import GroundTruth, find_videos, read_truth
from omnimatte_cli.matte.compositing import layer_over
from omnimatte_cli.methods.centrifuge.losses import identity_loss, separation_loss, structure_loss

COMMAND = (sys.executable, "-m", "omnimatte_cli")
KINDS = (("shadow", 2), ("shadow", 4), ("reflection", 2), ("reflection", 4))
SEED = 7  # of the rendered clips
PAN = 1.0  # pixels a frame that the second clip of a panning blend moves by
ZOOM = 1.35  # how far it is enlarged, to have room for that
FIGURES = ("iou", "solo_psnr", "plate_psnr", "wall", "cpu")


@dataclass(frozen=True)
class System:
    """One row: arguments of its command, and what the table says of it. solos: whether it gets the
    true solo videos and plate, as a perfect removal model would make them."""

    needs: str
    gives: str
    command: tuple[str, ...] = ()
    solos: bool = False


@dataclass(frozen=True)
class Clip:
    """A clip as commands read it. solos: name to folder, empty where there are none."""

    name: str
    truth: GroundTruth
    frames: Path
    masks: Path
    plate: Path
    solos: dict[str, Path] = field(default_factory=dict)


def systems(steps: Sequence[int]) -> dict[str, System]:
    """The rows of the table, by name."""
    needs, gives = "masks", "a layer an object, plate"
    decompose = ("decompose", "--camera", "static", "--method")
    found = {
        "masks as they are": System(needs, "-"),
        "ownership": System(needs, gives, (*decompose, "ownership")),
        "coordination, `small`, 200 steps": System(
            needs,
            gives,
            (*decompose, "coordination", "--weights", "small", "--iterations", "200"),
        ),
    }
    for count in steps:
        command = (*decompose, "omnimatte2021", "--iterations", str(count))
        found[f"omnimatte2021, {count} steps"] = System(needs, gives, command)
    found["layers, solos by ownership"] = System(needs, gives, ("layers", "--solo", "auto"))
    true = "masks, solo videos, clean video"
    closed = ("layers", "--fit", "closed")
    found["layers, true solos"] = System(true, gives, closed, solos=True)
    base = ("layers", "--fit", "base")
    found["layers, true solos, --fit base"] = System(true, gives, base, solos=True)
    return found


def clips_of(asked: argparse.Namespace) -> list[Clip]:
    """The clips, rendered where they are not there yet, with files as the commands read them."""
    dataset = asked.dataset
    if dataset is None:
        dataset = asked.out / "rendered"
        for effect, objects in KINDS:
            folder = dataset / f"{effect}s-{objects}obj"
            if not folder.exists():
                command = [*COMMAND, "synth", "-o", folder, "--count", "1", "--objects", objects]
                command += ["--effect", effect, "--seed", SEED]
                command += ["--size", asked.size, "--frames", asked.frames, "-q"]
                subprocess.run([str(x) for x in command], check=True)
    return [written(folder, asked.out / "inputs") for folder in find_videos(dataset, 1)]


def written(folder: Path, out: Path) -> Clip:
    """A video of a dataset as folders of frames, masks and solos."""
    truth = read_truth(folder)
    here = out / folder.parent.name
    names = [f"object{i}" for i in range(len(truth.masks))]
    write_pictures(here / "frames", truth.frames)
    for i, name in enumerate(names):
        write_pictures(here / "masks" / name, truth.masks[i].astype(np.uint8) * 255)
    lines = [" ".join(names[i] for i in frame) for frame in truth.order]
    (here / "masks" / "order.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_pictures(here, truth.plates["true"][None], "plate")
    solos = {}
    if truth.solos is not None:
        solos = {name: here / "solos" / name for name in names}
        for path, pictures in zip(solos.values(), truth.solos, strict=True):
            write_pictures(path, pictures)
    plate = here / "plate00000.png"
    return Clip(folder.parent.name, truth, here / "frames", here / "masks", plate, solos)


def write_pictures(folder: Path, pictures: np.ndarray, stem: str = "") -> None:
    """Pictures (T, H, W) or (T, H, W, 3) uint8 as PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, picture in enumerate(pictures):
        bgr = picture[..., ::-1] if picture.ndim == 3 else picture
        cv2.imwrite(str(folder / f"{stem}{t:05d}.png"), np.ascontiguousarray(bgr))


def read_rgba(path: Path) -> np.ndarray:
    """A PNG as (H, W, 4) or (H, W, 3) float32 in [0, 1], RGB."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise FileNotFoundError(path)
    if picture.shape[2] == 4:
        return to_float(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA))
    return to_float(np.ascontiguousarray(picture[..., ::-1]))


def run_on(clip: Clip, system: System, out: Path) -> dict[str, float | None]:
    """The scores of one system on one clip, and its seconds."""
    truth = clip.truth
    if not system.command:
        plate = truth.plates["estimated"]
        solos = np.where(truth.masks[..., None], truth.frames, plate)
        return {**score(truth, solos, plate), "wall": 0.0, "cpu": 0.0}
    shutil.rmtree(out, ignore_errors=True)
    height, width = truth.frames.shape[1:3]
    command = [*COMMAND, system.command[0], clip.frames, *system.command[1:]]
    command += ["--masks", clip.masks, "-o", out, "--size", f"{width}x{height}"]
    command += ["--no-report", "--fps", "12", "-q"]
    if system.solos:
        command += ["--background", clip.plate]
        command += [x for name, path in clip.solos.items() for x in ("--solo", f"{name}={path}")]
    took = spent_by([str(x) for x in command])
    plate = read_rgba(out / "background.png")[..., :3]
    names = sorted(p.name for p in (out / "layers").iterdir())
    solos = np.stack(
        [
            [
                integers(layer_over(read_rgba(out / "layers" / name / f"{t:05d}.png"), plate))
                for t in range(len(truth.frames))
            ]
            for name in names
        ]
    )
    found = score(truth, solos, integers(plate))
    return {**found, "wall": took.wall, "cpu": took.cpu}


def panning(clip: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 enlarged, and seen through a window that moves across them."""
    height, width = clip.shape[1:3]
    size = (round(ZOOM * width), round(ZOOM * height))
    out = np.empty_like(clip)
    for k, frame in enumerate(clip):
        large = cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC)
        x = min(round(PAN * k), size[0] - width)
        y = (size[1] - height) // 2
        out[k] = large[y : y + height, x : x + width]
    return out


def unmix(first: np.ndarray, second: np.ndarray, steps: int, out: Path) -> dict[str, float]:
    """Loss of `unmix` on the blend of two clips (T, H, W, 3) uint8, over the blend's own loss; with
    and without mean colours."""
    shutil.rmtree(out, ignore_errors=True)
    truth = torch.from_numpy(np.stack([first, second])).float().div(255).permute(0, 1, 4, 2, 3)
    blend = truth.mean(0)
    pictures = (blend.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    write_pictures(out / "blend", pictures)
    height, width = first.shape[1:3]
    command = [*COMMAND, "unmix", out / "blend", "-o", out / "out", "--alpha", "0.5"]
    command += ["--iterations", str(steps), "--size", f"{width}x{height}", "--no-report", "-q"]
    took = spent_by([str(x) for x in command])
    found = torch.from_numpy(
        np.stack(
            [
                [
                    read_rgba(out / "out" / "layers" / name / f"{t:05d}.png")[..., :3]
                    for t in range(len(first))
                ]
                for name in ("layer1", "layer2")
            ]
        )
    ).permute(0, 1, 4, 2, 3)
    same = blend.expand_as(truth)[None]
    structure = structure_loss(truth[None], found[None], 0.0)
    return {
        "ratio": float(separation_loss(truth[None], found[None]))
        / float(identity_loss(truth[None], blend[None])),
        "structure": float(structure) / float(structure_loss(truth[None], same, 0.0)),
        "wall": took.wall,
        "cpu": took.cpu,
    }


class Log:
    """Results by clip and row, kept in a file as they come."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, {}
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            self.found = {(x["clip"], x["row"]): x for x in map(json.loads, lines)}

    def add(self, clip: str, row: str, scores: dict) -> None:
        self.found[clip, row] = {"clip": clip, "row": row, **scores}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(self.found[clip, row]) + "\n")


def mean(values: Sequence[float | None]) -> float | str:
    known = [v for v in values if v is not None]
    return statistics.mean(known) if known else "-"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for clips and results")
    parser.add_argument("--dataset", type=Path, help="folder of sets of videos with true layers")
    parser.add_argument("--size", default="96", help="of the rendered clips")
    parser.add_argument("--frames", default="24", help="of the rendered clips")
    parser.add_argument("--steps", default="100,300", help="of omnimatte2021, a row each")
    parser.add_argument("--unmix-steps", type=int, default=100, help="`--iterations` of unmix")
    parser.add_argument("--only", help="rows that begin with one of these, parted by ;")
    asked = parser.parse_args()
    asked.out = asked.out.resolve()
    clips = clips_of(asked)
    log = Log(asked.out / "results.jsonl")
    wanted = tuple(asked.only.split(";")) if asked.only else ("",)
    scratch = asked.out / "run"
    chosen = systems([int(x) for x in asked.steps.split(",")])
    chosen = {name: x for name, x in chosen.items() if name.startswith(wanted)}
    for clip in clips:
        for name, system in chosen.items():
            if (clip.name, name) not in log.found and (clip.solos or not system.solos):
                log.add(clip.name, name, run_on(clip, system, scratch))
    blends = {}
    if "unmix".startswith(wanted):
        for first, second in zip(clips, [*clips[1:], clips[0]], strict=True):
            pair = (first.truth.frames, panning(second.truth.frames))
            blends[f"{first.name} + {second.name}, panning"] = pair
    for title, pair in blends.items():
        for steps in (0, asked.unmix_steps):
            name = f"unmix, {steps} steps"
            if (title, name) not in log.found:
                log.add(title, name, unmix(*pair, steps, scratch))

    rows = []
    for name, system in chosen.items():
        each = [log.found.get((clip.name, name)) for clip in clips]
        found = [x for x in each if x is not None]
        figures = [mean([x[key] for x in found]) for key in FIGURES]
        ious = " ".join(f"{x['iou']:.3f}" if x else "-" for x in each)
        rows.append((name, system.needs, system.gives, *figures, ious))
    head = ("", "needs", "gives", "IoU", "solo dB", "plate dB", "seconds", "CPU s", "IoU each")
    table(f"Mean of {', '.join(c.name for c in clips)}", head, rows)
    parted = [
        (title, name, x["ratio"], x["structure"], x["wall"], x["cpu"])
        for (title, name), x in log.found.items()
        if name.startswith("unmix") and title in blends
    ]
    if parted:
        names = ("blend", "", "loss / the blend's", "without mean colours", "seconds", "CPU s")
        table("unmix: the blend alone; two scenes", names, parted)


if __name__ == "__main__":
    main()

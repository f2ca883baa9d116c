"""What the two ablation scripts share: train under each setting, score on held-out scenes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from omnimatte_cli.methods import weights
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.training.loop import pretrain
from omnimatte_cli.training.recipe import Recipe
from omnimatte_cli.training.validation import validate

SCORES = ("resolved", "effect_recall", "wrong")
EFFECTS = ("shadow", "reflection")


def arguments(what: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("out", type=Path, help="folder for the runs; finished ones are kept")
    parser.add_argument("--start", default="small", help="weights to begin with, or none")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def self_supervised(asked: argparse.Namespace) -> Recipe:
    """The paper's losses alone: nothing of the true layers, no curriculum, two objects."""
    width = Recipe.width
    if asked.start != "none":
        width = weights.find(asked.start).width
    return Recipe(
        network="coordination", width=width, height=asked.size, width_pixels=asked.size,
        steps=asked.steps, lr=5e-4, warmup=20, ema=0.98, objects=(2,), reuse=2.0,
        mask_drops=(0, 0), auxiliary_steps=0, whole_steps=0, squared_steps=0, layer_weight=0.0,
        validate_steps=10 * asked.steps, validation_objects=(2, 2, 2),
    )  # fmt: skip


def trained(
    name: str, recipe: Recipe, asked: argparse.Namespace
) -> Iterator[dict[str, dict[str, float]]]:
    """Train with every seed. Yields the scores on held-out scenes of each effect."""
    device = torch.device(asked.device)
    start = None if asked.start == "none" else weights.find(asked.start).path
    for seed in range(asked.seeds):
        run = replace(recipe, seed=seed)
        folder = asked.out / f"{name}-seed{seed}"
        result = folder / "scores.json"
        made = {"recipe": run.facts(), "start": asked.start}
        if result.is_file():
            found = json.loads(result.read_text(encoding="utf-8"))
            if found["made"] != made:
                raise SystemExit(f"{folder} holds a run with other options; give another OUT.")
        else:
            with terminal_progress() as progress:
                path = pretrain(run, folder, device, progress, start)
            grid = (run.height // 16, run.width_pixels // 16)
            net = weights.load(weights.find(str(path)), grid).to(device)
            scores = {e: validate(net, replace(run, effects=(e,)), device) for e in EFFECTS}
            found = {"made": made, "scores": scores}
            result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        yield found["scores"]


def ablate(title: str, settings: dict[str, Recipe], asked: argparse.Namespace) -> None:
    """Print a Markdown table, a line a setting: mean and standard deviation over the seeds."""
    columns = [f"{effect} {score}" for effect in EFFECTS for score in SCORES]
    print(f"| {title} | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, recipe in settings.items():
        runs = list(trained(name.replace(" ", "-"), recipe, asked))
        cells = []
        for effect in EFFECTS:
            for score in SCORES:
                values = [run[effect][score] for run in runs]
                spread = f" ± {np.std(values):.3f}" if len(values) > 1 else ""
                cells.append(f"{np.mean(values):.3f}{spread}")
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)

"""Tables 1 to 3 of the Visual Centrifuge at small scale, every network trained for equally long.

usage: python examples/ablation_centrifuge.py OUT_DIR [--seconds 90] [--size 64] [--batch 4]
       [--only "predictor, n = 4"]

Table 2: how many outputs, predictor against predictor-corrector. Table 3: trained on clips that
stand still, tested on pairs of which both, none or one moves. The loss is the paper's, of the best
pair of outputs and, in brackets, of the pair that is chosen without the truth. Time is processor
time of the training alone: the steps that a network gets follow from how long its first ones take.
All clips are procedural: tracing some would take longer than the training.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

from omnimatte_cli.methods import weights
from omnimatte_cli.methods.centrifuge.losses import identity_loss
from omnimatte_cli.methods.centrifuge.network import Centrifuge
from omnimatte_cli.progress import terminal_progress
from omnimatte_cli.synth.blends import BlendBatch, random_blends
from omnimatte_cli.training.blends import (
    blend_loss,
    blend_scores,
    shape_of,
    validation_blends,
)
from omnimatte_cli.training.loop import new_network, pretrain
from omnimatte_cli.training.recipe import BlendRecipe

CPU = torch.device("cpu")
TRIED = 3  # steps that a network's speed is measured over, after one that does not count
PAIRS = {"both frozen": (True, True), "both moving": (False, False), "one of each": (True, False)}


def runs(asked: argparse.Namespace) -> dict[str, BlendRecipe]:
    """The trainings, by the name of their table's row."""
    base = BlendRecipe(
        height=asked.size, width_pixels=asked.size, batch_size=asked.batch, loss="paper",
        warmup=20, ema=0.98, reuse=20.0, pool=40, rendered=0,
    )  # fmt: skip
    found = {
        f"{kind}, n = {n}": replace(base, outputs=n, corrector=kind == "corrector")
        for kind, n in (
            ("predictor", 2),
            ("predictor", 4),
            ("predictor", 8),
            ("corrector", 2),
            ("corrector", 4),
        )
    }
    still = replace(found["predictor, n = 4"], frozen=1.0)
    return {**found, "predictor, n = 4, trained on frozen clips": still}


def steps_within(recipe: BlendRecipe, seconds: float) -> int:
    """Steps that a training of so much processor time has."""
    net = new_network(recipe)
    optimiser = torch.optim.AdamW(net.parameters())
    generator = torch.Generator().manual_seed(0)
    shape = (recipe.batch_size, recipe.frames, 3, recipe.height, recipe.width_pixels)
    started = 0.0
    for step in range(1 + TRIED):
        if step == 1:
            started = time.process_time()
        pair = [torch.rand(shape, generator=generator) for _ in range(2)]
        loss = blend_loss(net, random_blends(*pair, generator), recipe, step, None)[0]
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return max(1, round(seconds * TRIED / (time.process_time() - started)))


def scores_of(net: Centrifuge, batches: dict[str, BlendBatch]) -> dict[str, dict[str, float]]:
    """Scores on held-out pairs of each of PAIRS."""
    return {name: blend_scores(net, batch, CPU)[0] for name, batch in batches.items()}


def trained(
    name: str, recipe: BlendRecipe, batches: dict[str, BlendBatch], asked: argparse.Namespace
) -> dict:
    """The scores and steps of a run, which is kept in a folder of its own."""
    folder = asked.out / name.replace(", ", "-").replace(" ", "")
    result = folder / "scores.json"
    made = {"recipe": recipe.facts(), "seconds": asked.seconds}
    if result.is_file():
        found = json.loads(result.read_text(encoding="utf-8"))
        if found["made"] != made:
            raise SystemExit(f"{folder} holds a run with other options; give another OUT.")
        return found
    steps = steps_within(recipe, asked.seconds)
    run = replace(recipe, steps=steps, validate_steps=steps)
    with terminal_progress() as progress:
        path = pretrain(run, folder, CPU, progress)
    net = weights.load_centrifuge(weights.find(str(path), weights.CENTRIFUGE))
    found = {"made": made, "steps": steps, "scores": scores_of(net, batches)}
    result.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def row(name: str, steps: int | str, scores: dict[str, dict[str, float]]) -> None:
    """Print a line: loss of the best pair and, in brackets, of the pair that is chosen."""
    cells = [f"{s['loss']:.3f} ({s['chosen']:.3f})" for s in scores.values()]
    print(f"| {name} | {steps} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and score the centrifuge's variants.")
    parser.add_argument("out", type=Path, help="folder for the runs; finished ones are kept")
    parser.add_argument("--seconds", type=float, default=90, help="processor time of each")
    parser.add_argument("--size", type=int, default=64, help="pixels a side")
    parser.add_argument("--batch", type=int, default=4, help="blends a step")
    parser.add_argument("--only", default="", help="rows whose names begin with this")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| network | steps | " + " | ".join(PAIRS) + " |")
    print("|---" * (len(PAIRS) + 2) + "|")
    recipes = runs(asked)
    first = next(iter(recipes.values()))
    batches = {name: validation_blends(first, frozen) for name, frozen in PAIRS.items()}
    same = {name: float(identity_loss(b.truth, b.blends).mean()) for name, b in batches.items()}
    row("identity", "-", {k: {"loss": v, "chosen": v} for k, v in same.items()})
    torch.manual_seed(0)
    row("untrained", 0, scores_of(Centrifuge(replace(shape_of(first), residual=False)), batches))
    for name, recipe in recipes.items():
        if not name.startswith(asked.only):
            continue
        found = trained(name, recipe, batches, asked)
        row(name, found["steps"], found["scores"])

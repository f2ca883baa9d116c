"""Scores of one answer against the true layers, and their means."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnimatte_cli.arrays import to_float
from omnimatte_cli.evaluation.truth import GroundTruth
from omnimatte_cli.matte.metrics import PSNR, effect_region, iou, ssim
from omnimatte_cli.media.atomic import write_bytes, write_json

SUMMARIES = ("summary.json", "summary.csv")
SCORES = (
    "iou",
    "effect_recall",
    "precision",
    "wrong_owner",
    "plate_psnr",
    "plate_ssim",
    "solo_psnr",
)


def score(truth: GroundTruth, solos: np.ndarray, plate: np.ndarray) -> dict[str, float | None]:
    """The scores of one answer; see SCORES. Means over objects of figures over the whole clip.

    effect_recall: found share of an object's true region outside all masks. wrong_owner: share of
    the other objects' effects (outside all masks, not the object's own) that its layer takes.
    """
    regions = np.stack([effect_region(s, plate) for s in solos])
    bodies = truth.masks.any(0)
    found: dict[str, list[float]] = {
        "iou": [],
        "effect_recall": [],
        "precision": [],
        "wrong_owner": [],
    }
    for i, region in enumerate(regions):
        true = truth.regions[i]
        others = np.delete(truth.regions, i, 0).any(0) & ~true & ~bodies
        found["iou"].append(iou(region, true))
        for name, part, whole in (
            ("effect_recall", region & true & ~bodies, true & ~bodies),
            ("precision", region & true, region),
            ("wrong_owner", region & others, others),
        ):
            if whole.any():
                found[name].append(np.count_nonzero(part) / np.count_nonzero(whole))
    scores: dict[str, float | None] = {
        name: float(np.mean(values)) if values else None for name, values in found.items()
    }
    plate_psnr, solo_psnr = PSNR(), PSNR()
    plate_psnr.add(to_float(plate), to_float(truth.plates["true"]))
    scores["plate_psnr"] = plate_psnr.value
    scores["plate_ssim"] = ssim(plate, truth.plates["true"])
    if truth.solos is not None:
        for mine, true in zip(solos, truth.solos, strict=True):
            for picture, right in zip(mine, true, strict=True):
                solo_psnr.add(to_float(picture), to_float(right))
    scores["solo_psnr"] = solo_psnr.value
    return scores


def summarise(results: Sequence[dict]) -> list[dict]:
    """Means over videos for every variant and set, variants in the order they came."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for result in results:
        group = (result["name"], result["video"].split("/")[0])
        groups.setdefault(group, []).append(result)
    table = []
    for (title, name), members in groups.items():
        line: dict = {"variant": title, "set": name, "videos": len(members)}
        for key in SCORES:
            values = [m[key] for m in members if m[key] is not None]
            line[key] = round(float(np.mean(values)), 4) if values else None
        table.append(line)
    return table


def write_summary(out: Path, table: list[dict]) -> None:
    """summary.json and summary.csv."""
    figures, sheet = SUMMARIES
    write_json(out / figures, table)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["variant", "set", "videos", *SCORES])
    writer.writeheader()
    writer.writerows(table)
    write_bytes(out / sheet, text.getvalue().encode())

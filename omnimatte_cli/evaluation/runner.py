"""Score decompositions of a folder of videos whose true layers are known (see `truth`)."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Background, Masks, Size, resize_frames, to_float, to_uint8
from omnimatte_cli.evaluation.truth import Truth, read_truth
from omnimatte_cli.matte.metrics import PSNR, effect_region, iou, ssim
from omnimatte_cli.matte.ownership import Ownership, shares
from omnimatte_cli.matte.predict import frame_gap, own, second_plate
from omnimatte_cli.matte.resolve import residual_noise, resolve_frame
from omnimatte_cli.matte.steady import steady
from omnimatte_cli.matte.transfer import transfer_frame, upsample_layer
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.finetune import ClipTensors
from omnimatte_cli.methods.coordination.method import (
    Association,
    choose_owner,
    coordinate,
    find_weights,
    owner_network,
)
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.settings import (
    OWNER_WEIGHTS,
    Bootstrap,
    Owner,
    Settings,
    check,
    working_size,
)

BENCHMARK_FPS = Fraction(12)
METHODS = ("ownership", "coordination")  # that have weights
COORDINATION_GAP = 3  # frames between a window's frames on 12 fps renderings (paper, section 5.1)
SCORES = (
    "iou",
    "effect_recall",
    "precision",
    "wrong_owner",
    "plate_psnr",
    "plate_ssim",
    "solo_psnr",
)


@dataclass(frozen=True)
class Row:
    """One way to answer. method: masks, ownership, coordination, or bound (the true ownership,
    shared evenly where objects' regions overlap: about the most that there is). iterations:
    finetuning steps. plate: estimated (the given one), true or own (two passes of ours). detail:
    none, transfer or resolve. weights, owner, bootstrap: as in `decompose`."""

    method: str
    plate: str = "estimated"
    iterations: int = 0
    detail: str = "resolve"
    weights: str = "auto"
    owner: Owner = "layers"
    bootstrap: Bootstrap = "mask"

    @property
    def name(self) -> str:
        steps = f" {self.iterations} it" if self.method == "coordination" else ""
        name = f" {self.weights}" if self.weights != "auto" else ""
        if self.method != "coordination":
            return f"{self.method}{name}, {self.plate} plate"
        start = " from ownership" if self.bootstrap == "ownership" else ""
        owner = f" by {self.owner}" if self.detail == "resolve" else ""
        return f"coordination{name}{steps}{start} {self.detail}{owner}, {self.plate} plate"

    @property
    def training(self) -> tuple:
        """What the finetuned network depends on: rows that share it share the finetuning."""
        return self.method, self.plate, self.iterations, self.weights, self.bootstrap


@dataclass(frozen=True)
class Found:
    """What a row's method found on a video. known: the ownership network's answer beside it.

    At working size: frames (T, h, w, 3) uint8, the plate below (1, h, w, 3) uint8, and the masks
    (N, T, h, w) bool.
    """

    plate: np.ndarray
    noise: np.ndarray
    association: Association
    known: Ownership | None
    frames: np.ndarray
    below: np.ndarray
    masks: np.ndarray


class Solver:
    """Answers rows for one video after another; finetunes once for rows that share it."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self.settings, self.device = settings, device
        self.key: tuple = ()
        self.found: Found | None = None

    def answer(self, truth: Truth, row: Row) -> tuple[np.ndarray, np.ndarray]:
        """Every object alone over the row's plate (N, T, H, W, 3) uint8, and that plate."""
        if row.method == "masks":
            plate = truth.plates["true" if row.plate == "true" else "estimated"]
            return np.where(truth.masks[..., None], truth.frames, plate), plate
        if row.method == "bound":
            plate = truth.plates["true" if row.plate == "true" else "estimated"]
            size = (plate.shape[0], plate.shape[1])
            small = np.any(truth.masks, axis=0)[None]
            noise = residual_noise(truth.frames, plate[None], small)
            owned = true_ownership(truth, size)
            return solos(truth, plate, owned, None, row.detail, noise), plate
        key = (truth.name, *row.training)
        if self.found is None or self.key != key:
            self.key, self.found = key, self._find(truth, row)
        found = self.found
        owned = found.association.ownership
        if row.method == "coordination":
            owned = choose_owner(owned, replace(self.settings, owner=row.owner), found.known)
        fps = float(BENCHMARK_FPS)
        owned = steady(owned, found.frames, found.below, found.masks, fps, Silent())
        layers = found.association.layers
        return solos(truth, found.plate, owned, layers, row.detail, found.noise), found.plate

    def _find(self, truth: Truth, row: Row) -> Found:
        height, width = truth.masks.shape[2:]
        exact = height % 16 == 0 and width % 16 == 0 and height * width <= 2 * 128 * 224
        size = (height, width) if exact else working_size((height, width))
        names = [str(i) for i in range(len(truth.masks))]
        masks = Masks.from_arrays(truth.masks, names, truth.order)
        frames, small = _resized(truth.frames, size), masks.resized(size)
        plate = truth.plates["true" if row.plate == "true" else "estimated"]
        settings = replace(
            self.settings,
            weights=row.weights,
            iterations=row.iterations,
            detail="transfer" if row.method == "coordination" else "resolve",
            bootstrap=row.bootstrap,
            owner="layers",  # rows that share the finetuning choose their owner afterwards
            gap=COORDINATION_GAP,
        )
        owner = owner_network(settings, row.method, self.device)
        gap = frame_gap(BENCHMARK_FPS, len(frames))

        def tensors() -> ClipTensors:
            plates = _resized(plate[None], size)
            return ClipTensors.from_arrays(frames, small, plates, truth.order, self.device)

        if row.plate == "own":
            assert owner is not None
            for _ in range(settings.passes - 1):
                back = Background(plate, np.ones(masks.size, bool))
                owned = own(owner, tensors(), gap, Silent())
                plate = second_plate(lambda: iter(truth.frames), back, owned, masks, Silent()).plate
        below = _resized(plate[None], size)
        noise = residual_noise(frames, below, small)
        known = None if owner is None else own(owner, tensors(), gap, Silent())
        if row.method == "ownership":
            assert known is not None
            association, known = Association(known, {}), None
        else:
            file = find_weights(settings, self.device)
            association = coordinate(tensors(), settings, file, Silent(), known=known)
        return Found(plate, noise, association, known, frames, below, small)


def true_ownership(truth: Truth, size: Size) -> Ownership:
    """The ownership that the true regions give: the most that resolving can reach with a plate."""
    claims = np.empty((*truth.regions.shape[:2], *size), np.float16)
    for i, t in np.ndindex(claims.shape[:2]):
        claims[i, t] = truth.regions[i, t]
    return Ownership(claims, np.full((1, 1, 1), 1e-3, np.float16))


def solos(
    truth: Truth,
    plate: np.ndarray,
    owned: Ownership,
    layers: np.ndarray | None,
    detail: str,
    noise: np.ndarray,
) -> np.ndarray:
    """Every object alone over a plate, (N, T, H, W, 3) uint8, from ownership or from layers."""
    n, t = truth.masks.shape[:2]
    below = to_float(plate)
    noise = cv2.resize(noise, (plate.shape[1], plate.shape[0]))
    out = np.empty((n, *truth.frames.shape), np.uint8)
    for k in range(t):
        frame, order = truth.frames[k], truth.order[k]
        if layers is not None and detail == "transfer":
            rgba = transfer_frame(frame, plate, layers[:, k], order).rgba / np.float32(255)
        elif layers is not None and detail == "none":
            size = (frame.shape[0], frame.shape[1])
            rgba = np.stack([upsample_layer(x.astype(np.float32), size) for x in layers[:, k]])
        else:
            share = shares(owned, k, truth.masks[:, k], order)
            rgba = resolve_frame(frame, plate, share, order, noise).rgba / np.float32(255)
        for i in range(n):
            alpha = rgba[i, ..., 3:]
            out[i, k] = to_uint8(alpha * rgba[i, ..., :3] + (1 - alpha) * below)
    return out


def _resized(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return frames if frames.shape[1:3] == size else resize_frames(frames, size)


def score(truth: Truth, alone: np.ndarray, plate: np.ndarray) -> dict[str, float | None]:
    """The scores of one answer; see SCORES. Means over objects of figures over the whole clip.

    effect_recall: found share of an object's true region outside all masks. wrong_owner: share of
    the other objects' effects (outside all masks, not the object's own) that its layer claims.
    """
    regions = np.stack([effect_region(s, plate) for s in alone])
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
        for mine, true in zip(alone, truth.solos, strict=True):
            for picture, right in zip(mine, true, strict=True):
                solo_psnr.add(to_float(picture), to_float(right))
    scores["solo_psnr"] = solo_psnr.value
    return scores


def make_rows(
    methods: Sequence[str],
    plates: Sequence[str],
    iterations: Sequence[int],
    details: Sequence[str],
    files: Sequence[str],
    owners: Sequence[Owner] = ("layers",),
    bootstraps: Sequence[Bootstrap] = ("mask",),
) -> list[Row]:
    """All combinations that make sense, the masks as their own answer first.

    Every weights file goes to the method that its network is for. Raises OptionError where a method
    asked for alone has none, WeightsError where there is no such file.
    """
    suited = {method: [w for w in files if _suits(w, method)] for method in METHODS}
    for method in set(methods) & set(METHODS):
        check(bool(suited[method]) or len(methods) > 1, f"--weights names none for {method}")
        suited[method] = suited[method] or ["auto"]
    rows = [Row("masks", p) for p in plates if p != "own"]
    if "bound" in methods:
        rows += [Row("bound", p) for p in plates if p != "own"]
    if "ownership" in methods:
        rows += [Row("ownership", p, weights=w) for w in suited["ownership"] for p in plates]
    if "coordination" in methods:
        # Rows that share their finetuning stand together.
        trainings = itertools.product(suited["coordination"], iterations, plates, bootstraps)
        for (w, i, p, start), d in itertools.product(trainings, details):
            # The owner decides what is resolved and nothing else.
            who = owners if d == "resolve" else (Row.owner,)
            rows += [Row("coordination", p, i, d, w, o, start) for o in who]
    return rows


def _suits(name: str, method: str) -> bool:
    if name in ("auto", "none"):
        return name == "auto" or method == "coordination"
    return weights.find(name, network=None).metadata.get("network") == method


def evaluate(
    videos: Sequence[Path],
    rows: Sequence[Row],
    out: Path,
    settings: Settings,
    device: torch.device,
    progress: Progress | None = None,
) -> list[dict]:
    """Score every row on every video; results are appended to `out`/results.jsonl as they come.

    What is there already is not computed again, unless the weights' files, the dataset's place, the
    batch size or the kind of device are others by now. Returns one dict a video and row. Also
    writes summary.json and summary.csv: means over the videos of each set.
    """
    progress = progress or Silent()
    out.mkdir(parents=True, exist_ok=True)
    log = out / "results.jsonl"
    done = {_key(r): r for r in _read_lines(log)}
    hashes = {w: weights_hashes(w, settings, device) for w in {row.weights for row in rows}}
    results = []
    solver = Solver(settings, device)
    progress.stage("evaluating", len(videos) * len(rows))
    for number, (folder, row) in enumerate(itertools.product(videos, rows)):
        name = f"{folder.parent.name}/{folder.name}"
        facts = {
            "video": name,
            "row": asdict(row),
            "seed": settings.seed,
            "batch_size": settings.batch_size,
            "device": device.type,
            "folder": str(folder.resolve()),
            "weights": hashes[row.weights],
        }
        result = done.get(_key(facts))
        if result is None:
            truth = read_truth(folder)
            alone, plate = solver.answer(truth, row)
            result = {**facts, **score(truth, alone, plate)}
            with log.open("a", encoding="utf-8") as f:
                f.write(json.dumps(result) + "\n")
        results.append(result)
        progress.step(number + 1, f"{name}: {row.name}: {result['iou']:.3f}")
    write_summary(out, summarise(results))
    return results


def _key(result: dict) -> str:
    facts = {k: v for k, v in result.items() if k not in SCORES}
    return json.dumps(facts, sort_keys=True)


def weights_hashes(name: str, settings: Settings, device: torch.device) -> list[str]:
    """Hashes of the files that rows with these weights may read."""
    if name == "auto":
        files = [find_weights(settings, device)]
    else:
        files = [None if name == "none" else weights.find(name, network=None)]
    if OWNER_WEIGHTS in weights.shipped_names():
        files.append(weights.find(OWNER_WEIGHTS, "ownership"))
    return [f.sha256 for f in files if f is not None]


def _read_lines(path: Path) -> Iterator[dict]:
    """The results so far. An interrupted run may have cut its last line: that is taken off."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return (json.loads(line) for line in whole.splitlines())


def summarise(results: Sequence[dict]) -> list[dict]:
    """Means over videos for every row and set, rows in the order they came."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for result in results:
        group = (Row(**result["row"]).name, result["video"].split("/")[0])
        groups.setdefault(group, []).append(result)
    table = []
    for (title, name), members in groups.items():
        line: dict = {"row": title, "set": name, "videos": len(members)}
        for key in SCORES:
            values = [m[key] for m in members if m[key] is not None]
            line[key] = round(float(np.mean(values)), 4) if values else None
        table.append(line)
    return table


def write_summary(out: Path, table: list[dict]) -> None:
    """summary.json and summary.csv."""
    (out / "summary.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    with (out / "summary.csv").open("w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, ["row", "set", "videos", *SCORES])
        writer.writeheader()
        writer.writerows(table)

"""Score decompositions of a folder of videos whose true layers are known (see `truth`)."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Masks, Plate, integers, resize_frames, to_float
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.errors import OutputError
from omnimatte_cli.evaluation.scores import SCORES, SUMMARIES, score, summarise, write_summary
from omnimatte_cli.evaluation.truth import GroundTruth, read_truth
from omnimatte_cli.evaluation.variants import BOUND, MASKS, Variant
from omnimatte_cli.matte.bodies import by_masks
from omnimatte_cli.matte.compositing import layer_over
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.ownership import Ownership, working_plates
from omnimatte_cli.matte.quantise import quantise_layers
from omnimatte_cli.media.atomic import write_text
from omnimatte_cli.media.lock import working_in
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.methods import registry, weights
from omnimatte_cli.methods.base import LayersAt, Run
from omnimatte_cli.methods.networks import body_matting, ownership_network
from omnimatte_cli.pipeline import find_owners
from omnimatte_cli.plate.estimate import clean_plate
from omnimatte_cli.plate.strangers import with_strangers
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.settings import SolveSettings, working_size
from omnimatte_cli.shot import Shot

BENCHMARK_FPS = Fraction(12)


def shot_of(truth: GroundTruth) -> Shot:
    """A video with true layers as the pipeline sees a shot."""
    full = truth.masks.shape[2:]
    size = working_size(full)
    names = [str(i) for i in range(len(truth.masks))]
    masks = Masks.from_arrays(truth.masks, names, truth.order, order_source="order.txt")
    return Shot(
        BENCHMARK_FPS,
        truth.frames if size == full else resize_frames(truth.frames, size),
        masks,
        masks.resized(size),
        FrameSamples.of(truth.frames),
        lambda: iter(truth.frames),
        Camera.static(len(truth.frames), full),
    )


class Runner:
    """Answers variants for one video after another, by the methods that `decompose` uses.

    What variants of one video share, its shot, plates and training, is computed once.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.seed, self.run = seed, Run(device, seed)
        self.video = ""
        self.shot: Shot | None = None
        self.plates: dict[tuple, Plate] = {}
        self.strangers: dict[str | None, Shot] = {}

    def answer(self, truth: GroundTruth, variant: Variant) -> tuple[np.ndarray, np.ndarray]:
        """Every object alone over the variant's plate (N, T, H, W, 3) uint8, and that plate."""
        if truth.name != self.video or self.shot is None:
            self.video, self.shot, self.plates, self.strangers = truth.name, shot_of(truth), {}, {}
        shot = self.shot
        if variant.method == MASKS:
            image = truth.plates[variant.plate]
            return np.where(truth.masks[..., None], truth.frames, image), image
        if variant.method == BOUND:
            plate = given_plate(truth, variant.plate)
            noise = shot.noise(working_plates(plate, shot.size, len(shot)))
            exact = SolveSettings(exact_layers=True)
            layers_at: LayersAt = resolver(
                true_ownership(truth), shot.masks, noise, exact, cut_out=by_masks
            )
            return solo_composites(shot, plate, layers_at), plate.image
        choice = registry.choose(variant.settings(self.seed), devices.kind(self.run.device))
        network = ownership_network(choice.options.network, variant.weights, self.run.device)
        run = replace(
            self.run,
            weights=variant.weights,
            ownership=network,
            solve=choice.solve,
            cut_out=body_matting(),
        )
        shot = self._with_strangers(variant, run)
        plate = self._plate(shot, truth, variant, choice.solve, run)
        separation = registry.make(choice, run).separate(shot, plate, Silent())
        return solo_composites(shot, plate, separation.layers_at), plate.image

    def _with_strangers(self, variant: Variant, run: Run) -> Shot:
        """The shot with strangers as `decompose` finds them; in these videos there are none."""
        if variant.weights not in self.strangers:
            assert self.shot is not None
            owners = find_owners(self.shot, run, Silent())
            self.strangers[variant.weights] = with_strangers(self.shot, owners, Silent())
        return self.strangers[variant.weights]

    def _plate(
        self, shot: Shot, truth: GroundTruth, variant: Variant, solve: SolveSettings, run: Run
    ) -> Plate:
        if variant.plate != "own":
            return given_plate(truth, variant.plate)
        key = (variant.weights, solve)
        if key not in self.plates:
            owners = find_owners(shot, run, Silent())
            self.plates[key] = clean_plate(shot, solve.plate_passes, owners, None, (), Silent())
        return self.plates[key]


def given_plate(truth: GroundTruth, name: str) -> Plate:
    """A plate that lies beside a video: "true" or "estimated"."""
    image = truth.plates[name]
    return Plate(image, np.ones(image.shape[:2], bool))


def true_ownership(truth: GroundTruth) -> Ownership:
    """The ownership that the true regions give: the most that resolving can reach with a plate."""
    return Ownership(truth.regions.astype(np.float16), np.full((1, 1, 1), 1e-3, np.float16))


def solo_composites(shot: Shot, plate: Plate, layers_at: LayersAt) -> np.ndarray:
    """Every object alone over the plate, (N, T, H, W, 3) uint8."""
    n, t = len(shot.masks.names), len(shot)
    out = np.empty((n, t, *shot.full_size, 3), np.uint8)
    for k, (frame, image) in enumerate(zip(shot.open_frames(), plate.stream(), strict=False)):
        below = to_float(image)
        layers = layers_at(k, frame, image)
        written = quantise_layers(layers.rgba, below, shot.masks.order[k]).rgba
        for i, layer in enumerate(written):
            out[i, k] = integers(layer_over(to_float(layer), below))
    return out


def evaluate(
    videos: Sequence[Path],
    variants: Sequence[Variant],
    out: Path,
    seed: int,
    device: torch.device,
    progress: Progress | None = None,
) -> list[dict]:
    """Score every variant on every video; results are appended to `out`/results.jsonl as they come.

    What is there already is not computed again, unless the tool's code, the weights' files, the
    video's files or place, or the kind of device are others by now. Returns one dict a video and
    variant. Also writes summary.json and summary.csv: means over the videos of each set. Raises
    OutputError where another run works in `out`, or it holds others' files of these names.
    """
    out.mkdir(parents=True, exist_ok=True)
    with working_in(out / ".evaluate"):
        return _evaluated(videos, variants, out, seed, device, progress or Silent())


def _evaluated(
    videos: Sequence[Path],
    variants: Sequence[Variant],
    out: Path,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> list[dict]:
    """As `evaluate` says."""
    log = out / "results.jsonl"
    done = {_key(r): r for r in _read_lines(log)}
    hashes = {w: weights_hashes(w) for w in {v.weights for v in variants}}
    results = []
    runner = Runner(seed, device)
    progress.stage("evaluating", len(videos) * len(variants))
    for number, (folder, variant) in enumerate(itertools.product(videos, variants)):
        video = f"{folder.parent.name}/{folder.name}"
        facts = {
            "video": video,
            "variant": {**asdict(variant), "assignments": list(variant.assignments)},
            "name": variant.name,
            "seed": seed,
            "device": device.type,
            "folder": str(folder.resolve()),
            "files": files_hash(folder),
            "weights": hashes[variant.weights],
            "code": code_hash(),
        }
        result = done.get(_key(facts))
        if result is None:
            truth = read_truth(folder)
            solos, plate = runner.answer(truth, variant)
            result = {**facts, **score(truth, solos, plate)}
            with log.open("a", encoding="utf-8") as f:
                f.write(json.dumps(result) + "\n")
        results.append(result)
        progress.step(number + 1, f"{video}: {variant.name}: {result['iou']:.3f}")
    write_summary(out, summarise(results))
    return results


def _key(result: dict) -> str:
    facts = {k: v for k, v in result.items() if k not in SCORES}
    return json.dumps(facts, sort_keys=True)


@functools.cache
def code_hash() -> str:
    """A hash of the package's modules: scores of another code are others."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def files_hash(folder: Path) -> str:
    """A hash of the names and contents of all files of a video."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def weights_hashes(name: str) -> list[str]:
    """Hashes of the files that variants with these weights may read."""
    shipped = weights.shipped_names()
    names = shipped if name == "auto" else [*({name} - {"none"}), weights.OWNERSHIP]
    found = [n for n in names if n in shipped or n == name]
    return [weights.find(n, network=None).sha256 for n in found]


def _read_lines(path: Path) -> list[dict]:
    """The results so far. An interrupted run may have cut its last line: that is taken off.

    Raises OutputError where there are files of others.
    """
    if not path.is_file():
        for name in SUMMARIES:
            if (path.parent / name).exists():
                raise _not_ours(path.parent / name)
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    lines = []
    for line in whole.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            raise _not_ours(path) from None
        if not isinstance(lines[-1], dict) or not {"video", "variant", "code"} <= lines[-1].keys():
            raise _not_ours(path)
    if whole != text:
        if not text[len(whole) :].startswith('{"video"'[: len(text) - len(whole)]):
            raise _not_ours(path)
        write_text(path, whole)
    return lines


def _not_ours(path: Path) -> OutputError:
    return OutputError(
        f"{path} was not written by `omnimatte evaluate`: give another --out, or move it away."
    )

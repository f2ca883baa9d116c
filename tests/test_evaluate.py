"""Scores against plain computations, and evaluation of a rendered dataset from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.errors import InputError
from omnimatte_cli.evaluation import runner as running
from omnimatte_cli.evaluation.runner import Runner
from omnimatte_cli.evaluation.scores import score, summarise
from omnimatte_cli.evaluation.truth import GroundTruth, find_videos, read_truth
from omnimatte_cli.evaluation.variants import Variant, make_variants
from omnimatte_cli.matte.metrics import PSNR, effect_region, iou, ssim
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.lock import working_in
from omnimatte_cli.methods import weights

pytestmark = pytest.mark.slow


def test_psnr_region_and_iou_by_hand() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 6, 7, 3))
    score = PSNR()
    score.add(a[:3], b[:3])
    rest = PSNR()
    rest.add(a[3:], b[3:])
    score.merge(rest)
    assert score.value == pytest.approx(-10 * np.log10(np.mean((a - b) ** 2)))
    assert PSNR().value is None
    solo = np.zeros((1, 3, 3), np.uint8)
    solo[0, 1] = (7, 3, 2)  # 49 + 9 + 4 = 62, below 63.75
    solo[0, 2] = (7, 3, 3)  # 67
    assert effect_region(solo, np.zeros_like(solo)).tolist() == [[False, False, True]]
    x, y = np.array([1, 1, 0, 0], bool), np.array([0, 1, 1, 0], bool)
    assert iou(x, y) == pytest.approx(1 / 3) and iou(x & False, y & False) == 1


def test_ssim_is_that_of_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    a = cv2.GaussianBlur(rng.integers(0, 256, (48, 64, 3)).astype(np.uint8), (0, 0), 2)
    b = np.clip(a + rng.normal(0, 6, a.shape), 0, 255).astype(np.uint8)
    pair = (torch.from_numpy(x).permute(2, 0, 1)[None].double() / 255 for x in (a, b))
    expected = structural_similarity_index_measure(*pair, data_range=1.0, sigma=1.5, kernel_size=11)
    assert ssim(a, b) == pytest.approx(float(expected), abs=2e-3)
    assert ssim(a, a) == pytest.approx(1)


def small_truth() -> GroundTruth:
    """Two objects on a grey plate, each with a darker effect beside it."""
    plate = np.full((16, 24, 3), 100, np.uint8)
    solos = np.repeat(plate[None, None], 2, 0).copy()
    masks = np.zeros((2, 1, 16, 24), bool)
    for i, left in enumerate((2, 14)):
        masks[i, 0, 2:8, left : left + 4] = True
        solos[i, 0, 2:8, left : left + 4] = 200
        solos[i, 0, 8:12, left : left + 4] = 60
    frames = np.where((solos[0] != plate), solos[0], solos[1])
    regions = np.stack([effect_region(s, plate) for s in solos])
    plates = {"true": plate, "estimated": plate}
    order = np.array([[0, 1]])
    return GroundTruth("set/0", frames, masks, regions, plates, order, solos)


def test_scores_of_the_truth_of_masks_and_of_swapped_effects() -> None:
    truth = small_truth()
    plate = truth.plates["true"]
    assert truth.solos is not None
    best = score(truth, truth.solos, plate)
    assert (best["iou"], best["effect_recall"], best["precision"]) == (1, 1, 1)
    assert (best["wrong_owner"], best["solo_psnr"], best["plate_psnr"]) == (0, 100, 100)
    masks = score(truth, np.where(truth.masks[..., None], truth.frames, plate), plate)
    assert masks["iou"] == pytest.approx(24 / 40)
    assert (masks["effect_recall"], masks["precision"], masks["wrong_owner"]) == (0, 1, 0)
    swapped = truth.solos.copy()
    swapped[:, 0, 8:12] = truth.solos[::-1, 0, 8:12]
    wrong = score(truth, swapped, plate)
    assert wrong["wrong_owner"] == 1 and wrong["effect_recall"] == 0
    assert wrong["iou"] == pytest.approx(24 / 56)


def test_variants() -> None:
    variants = make_variants(
        ["ownership", "coordination"],
        ["estimated", "own"],
        varied=["iterations=0,5", "detail=none,resolve", "plate_passes=1,2"],
    )
    # The masks; ownership takes the passes alone; coordination all three.
    assert variants[0] == Variant("masks", "estimated") and len(variants) == 1 + 2 * 2 + 2 * 8
    assert len({v.name for v in variants}) == len(variants)
    ownership = [v for v in variants if v.method == "ownership"]
    assert {v.assignments[0] for v in ownership} == {"plate_passes=1", "plate_passes=2"}
    # Those that share their plate and their training stand together.
    trainings = [(v.plate, v.assignments[0]) for v in variants if v.method == "coordination"]
    assert [t for i, t in enumerate(trainings) if i == 0 or trainings[i - 1] != t] == list(
        dict.fromkeys(trainings)
    )
    with pytest.raises(InputError, match="--vary magic: no method has it"):
        make_variants(["ownership"], ["true"], varied=["magic=1,2"])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "set"
    args = ["synth", "-o", folder, "--count", 2, "--size", "64x48", "--frames", 6, "-q"]
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.stderr
    return folder


def test_the_true_ownership_is_an_upper_bound() -> None:
    truth = small_truth()
    runner = Runner(0, torch.device("cpu"))
    solos, plate = runner.answer(truth, Variant("bound", "true"))
    found = score(truth, solos, plate)
    assert found["iou"] is not None and found["iou"] > 0.9
    solos, plate = runner.answer(truth, Variant("masks", "true"))
    assert score(truth, solos, plate)["iou"] == pytest.approx(24 / 40)


def test_find_and_read(dataset: Path, tmp_path: Path) -> None:
    names = [v.name for v in find_videos(dataset)]
    assert names == ["0000", "0001"]
    assert [v.name for v in find_videos(dataset.parent, subset=1)] == ["0000"]
    truth = read_truth(dataset / "0000")
    assert truth.frames.shape == (6, 48, 64, 3) and truth.masks.shape == (2, 6, 48, 64)
    assert truth.solos is not None and truth.solos.shape == (2, 6, 48, 64, 3)
    with pytest.raises(InputError, match="no videos"):
        find_videos(tmp_path)
    with pytest.raises(InputError, match="No dataset"):
        find_videos(tmp_path / "nothing")


def test_evaluate_from_the_command_line_and_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shipped = tmp_path / "shipped"
    weights.save(OwnerNet(), shipped / "ownership.safetensors")
    monkeypatch.setattr(weights, "shipped_folder", lambda: shipped)
    out = tmp_path / "scores"
    args = [
        "evaluate", dataset, "-o", out, "--method", "ownership", "--method", "coordination",
        "--plate", "true", "--plate", "own", "--vary", "iterations=0,2",
        "--vary", "detail=none,resolve", "--vary", "owner=layers,product",
        "--weights", "none", "--weights", "auto", "--subset", "1", "--device", "cpu",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.stderr
    lines = (out / "results.jsonl").read_text().splitlines()
    assert len(lines) == 1 + 2 + 2 * 2 * 2 * 4  # two weights, plates, steps; four of the rest
    summary = json.loads((out / "summary.json").read_text())
    with (out / "summary.csv").open() as f:
        assert len(list(csv.DictReader(f))) == len(summary) == len(lines)
    assert summary == summarise([json.loads(line) for line in lines])
    assert all(0 <= line["iou"] <= 1 for line in summary)
    assert "masks, true plate" in done.stdout
    trained = [x for x in summary if "iterations=2 detail=resolve" in x["variant"]]
    layers, product = trained[0], trained[1]
    assert "owner=product" in product["variant"] and layers["precision"] != product["precision"]
    # Run again: nothing is computed anew, and a cut last line is.
    (out / "results.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    again = CliRunner().invoke(app, [str(a) for a in args])
    assert again.exit_code == 0
    assert (out / "results.jsonl").read_text().splitlines() == lines
    # Other code: nothing is taken over.
    with monkeypatch.context() as patch:
        patch.setattr(running, "code_hash", lambda: "other")
        short = ["evaluate", dataset, "-o", out, "--subset", 1, "-q"]
        assert CliRunner().invoke(app, [str(a) for a in short]).exit_code == 0
    lines = (out / "results.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["code"] == "other"
    # Other ownership weights, by file or in the shipped place: scores of their own.
    torch.manual_seed(1)
    other = tmp_path / "other.safetensors"
    weights.save(OwnerNet(), other)
    args = ["evaluate", dataset, "-o", out, "--method", "ownership", "--subset", 1, "-q"]
    for extra in ([], ["--weights", other]):
        done = CliRunner().invoke(app, [str(a) for a in [*args, *extra]])
        assert done.exit_code == 0, done.stderr
    added = [json.loads(x) for x in (out / "results.jsonl").read_text().splitlines()[len(lines) :]]
    first, second = (x["iou"] for x in added if x["variant"]["method"] == "ownership")
    assert first != second
    with working_in(out / ".evaluate"):
        beside = CliRunner().invoke(app, [str(a) for a in args])
    assert beside.exit_code == 2 and "Another run is writing to" in beside.stderr
    none = CliRunner().invoke(app, [str(a) for a in [*args, "--weights", "none"]])
    assert none.exit_code == 2 and "--weights" in none.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--method", "magic"], "--method"),
        (["--plate", "green"], "--plate"),
        (["--method", "coordination", "--vary", "iterations=many"], "iterations"),
        (["--vary", "magic=1"], "--vary"),
        (["--subset", "0"], "--subset"),
        (["--device", "gpu"], "--device"),
        (["--weights", "nowhere.safetensors"], "nowhere"),
    ],
)
def test_bad_options(dataset: Path, tmp_path: Path, args: list[str], words: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(dataset), "-o", str(tmp_path / "s"), *args])
    assert done.exit_code == 2 and words in done.stderr and not (tmp_path / "s").exists()


def test_damaged_datasets(dataset: Path, tmp_path: Path) -> None:
    import shutil

    def damaged(change: Callable[[Path], object]) -> str:
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        shutil.copytree(dataset, tmp_path / "set")
        change(tmp_path / "set" / "0000")
        with pytest.raises(InputError) as caught:
            read_truth(tmp_path / "set" / "0000")
        return str(caught.value)

    assert "5 of 48x64" in damaged(lambda v: (v / "mask1_00003.png").unlink())
    assert "gt" in damaged(lambda v: (v / "gt" / "mask0_00000.png").unlink())
    assert "order.txt" in damaged(lambda v: (v / "order.txt").write_text("0 x\n" * 6))
    assert "order.txt" in damaged(lambda v: (v / "order.txt").write_text("0 0\n" * 6))
    assert "bg" in damaged(lambda v: cv2.imwrite(str(v / "bg.png"), np.zeros((8, 8, 3), np.uint8)))


@pytest.mark.parametrize(
    "args", [["--objects", "9"], ["--size", "8"], ["--effect", "rain"], ["--textures", "/no"]]
)
def test_bad_synth_options(tmp_path: Path, args: list[str]) -> None:
    done = CliRunner().invoke(app, ["synth", "-o", str(tmp_path / "s"), *args])
    assert done.exit_code == 2 and "Error: --" in done.stderr and not (tmp_path / "s").exists()

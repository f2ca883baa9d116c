"""What ships works: the weights, the example, and layers without any options."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli import decompose
from omnimatte_cli.evaluation.runner import Runner
from omnimatte_cli.evaluation.scores import score
from omnimatte_cli.evaluation.truth import read_truth
from omnimatte_cli.evaluation.variants import Variant
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.network import PAPER_WIDTH
from omnimatte_cli.methods.coordination.options import CPU_WIDTH
from omnimatte_cli.synth.dataset import write_scene
from omnimatte_cli.synth.scenes import SceneOptions
from omnimatte_cli.synth.seeds import DATASET_SEEDS

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parent.parent / "examples" / "walk"


def test_shipped_weights_load_and_are_small() -> None:
    names = weights.shipped_names()
    assert names == ["base", "centrifuge", "matting", "ownership", "small"]
    files = [weights.shipped_folder() / f"{n}.safetensors" for n in names]
    assert sum(f.stat().st_size for f in files) < 38e6
    for name in names:
        network = weights.read_metadata(weights.shipped_folder() / f"{name}.safetensors")["network"]
        file = weights.find(name, network)
        assert int(file.metadata["samples"]) > 0 and file.metadata["licence"] == "Apache-2.0"
        assert {"date", "size", "scenes", "validation"} <= file.metadata.keys()
        validation = json.loads(file.metadata["validation"])
        if network == "centrifuge":  # no masks, hence no objects' IoU
            assert 0 < validation["ratio"] < 1
        elif network == "matting":
            assert 0 < validation["off"] < validation["mask"]
        else:
            assert all(0 < iou < 1 for row in json.loads(file.metadata["scores"]).values()
                       for iou in row.values())  # fmt: skip
        load = {
            "ownership": weights.load_owner,
            "centrifuge": weights.load_centrifuge,
            "matting": weights.load_matting,
        }
        net = load.get(network, weights.load)(file)
        assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    assert (weights.shipped_folder() / "ownership.safetensors").stat().st_size < 8e6
    assert weights.find("base").width == PAPER_WIDTH and weights.find("small").width == CPU_WIDTH


def test_shipped_networks_on_rendered_scenes(tmp_path: Path) -> None:
    """Mean scores over rendered scenes that no training saw; bounds a little below what was
    measured."""
    options = SceneOptions(
        frames=12, gap=2, height=96, width=128, min_objects=2, max_objects=2, effect="both"
    )
    torch.set_num_threads(1)  # rendering is faster so
    runner = Runner(0, torch.device("cpu"))
    variants = {method: Variant(method, "true") for method in ("masks", "ownership", "bound")}
    layers = ("iterations=0", "owner=layers", "frame_stride=3")
    variants |= {name: Variant("coordination", "true", name, layers) for name in ("small", "base")}
    found: dict[str, list[dict]] = {name: [] for name in variants}
    for seed in range(300, 308):
        write_scene(tmp_path / "set" / str(seed), DATASET_SEEDS + seed, options)
        truth = read_truth(tmp_path / "set" / str(seed))
        for name, variant in variants.items():
            found[name].append(score(truth, *runner.answer(truth, variant)))
    iou = {name: np.mean([s["iou"] for s in scores]) for name, scores in found.items()}
    # Exact layers of a network that had met right plates alone reached 0.80 here; smooth effects
    # take 0.01, and the distrust of residue that real plates need another 0.01.
    assert iou["ownership"] > 0.77 and iou["ownership"] > iou["masks"] + 0.25, iou
    assert iou["bound"] > 0.78, iou
    assert np.mean([s["wrong_owner"] for s in found["ownership"]]) < 0.2
    # The layer networks without any finetuning.
    assert min(iou["small"], iou["base"]) > iou["masks"] + 0.12, iou
    four = {name: np.mean([s["iou"] for s in scores[:4]]) for name, scores in found.items()}
    assert four["ownership"] > 0.77, four
    assert min(four["small"], four["base"]) > four["masks"] + 0.18, four


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("walk") / "out"
    said: list[str] = []

    class Listener:
        def stage(self, name: str, total: int | None = None) -> None: ...

        def step(self, done: int, note: str = "") -> None: ...

        def say(self, message: str) -> None:
            said.append(message)

    result = decompose(
        EXAMPLE / "video.mp4", masks=EXAMPLE / "masks", out=out, device="cpu", exact=True,
        progress=Listener(),
    )  # fmt: skip
    return result, said


def test_the_example_takes_the_fast_method_and_says_why(walk) -> None:
    result, said = walk
    assert result.manifest["method"] == "ownership"
    assert "ownership" in said[0] and "no GPU" in said[0]
    assert result.manifest["psnr"]["plate_outside_layers"] > 44
    assert result.manifest["psnr"]["after_detail_in_layers"] > 32
    assert result.manifest["psnr"]["exact"] > 52


def alpha(folder: Path, t: int) -> np.ndarray:
    return cv2.imread(str(folder / f"{t:05d}.png"), cv2.IMREAD_UNCHANGED)[..., 3] / 255


HIKER_SHADOW = (slice(100, 114), slice(125, 160))  # in frame 4
WALKER_SHADOW = (slice(92, 98), slice(8, 28))


def test_each_walkers_layer_holds_its_own_shadow(walk) -> None:
    result, _ = walk
    for place, own, other in (
        (HIKER_SHADOW, "hiker", "walker"),
        (WALKER_SHADOW, "walker", "hiker"),
    ):
        mine, wrong = (alpha(result.layers[n], 4)[place].mean() for n in (own, other))
        assert mine > 0.08 and mine > 4 * wrong, (own, mine, wrong)


def test_masks_are_made_where_none_are_given(tmp_path: Path) -> None:
    result = decompose(EXAMPLE / "video.mp4", out=tmp_path / "out", device="cpu")
    names = list(result.layers)
    assert names and names == result.manifest["objects"]["names"]
    facts = json.loads((result.out / "masks" / "masks.json").read_text())
    assert sorted(facts["objects"]) == sorted(names)
    assert (result.out / "masks" / "preview.mp4").is_file()
    assert result.manifest["psnr"]["after_detail_in_layers"] > 32

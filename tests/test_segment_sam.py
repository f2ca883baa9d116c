"""SAM: a tiny real model, its checkpoint, and what it does on other frames."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from omnimatte_cli.arrays import pack_mask, unpack_mask
from omnimatte_cli.errors import MaskError, OptionError, WeightsError
from omnimatte_cli.segment import methods
from omnimatte_cli.segment.prompts import Box, Point, Prompt
from omnimatte_cli.segment.propagate import propagate
from omnimatte_cli.segment.sam import (
    Sam,
    _resize,
    import_segment_anything,
    interior_points,
    load_sam,
)
from tests.segment_clips import BLUE, RED, TWO, Actor, iou, render, walk

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Sam with random weights, image 128, depth 2, width 32, saved as the authors do."""
    package = import_segment_anything()
    parts = package.modeling
    torch.manual_seed(0)
    model = parts.Sam(
        image_encoder=parts.ImageEncoderViT(
            img_size=128,
            embed_dim=32,
            depth=2,
            num_heads=2,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=4,
            global_attn_indexes=(1,),
            out_chans=32,
        ),
        prompt_encoder=parts.PromptEncoder(32, (8, 8), (128, 128), 4),
        mask_decoder=parts.MaskDecoder(
            transformer_dim=32,
            transformer=parts.TwoWayTransformer(2, 32, 8, 64),
            iou_head_hidden_dim=32,
        ),
    )
    path = tmp_path_factory.mktemp("sam") / "tiny.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads only wait for each other in so small a network."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Oracle:
    """Answers like SAM, from the truth; its quality is how well the prompt was meant for it."""

    def __init__(self, truth: dict[str, np.ndarray]) -> None:
        self.truth = truth
        self.asked: list[int] = []

    def prompt(self, t: int, prompt: Prompt) -> tuple[np.ndarray, float]:
        return self.truth[prompt.name][t], 0.95

    def again(self, t: int, mask: np.ndarray) -> tuple[np.ndarray, float]:
        self.asked.append(t)
        best = max((m[t] for m in self.truth.values()), key=lambda m: iou(m, mask))
        return best, 0.95


def test_a_checkpoint_says_its_own_architecture(checkpoint: Path) -> None:
    model = load_sam(checkpoint)
    assert model.image_encoder.img_size == 128 and len(model.image_encoder.blocks) == 2
    assert [b.window_size for b in model.image_encoder.blocks] == [4, 0]
    saved = torch.load(checkpoint, weights_only=True)
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())


def test_the_published_architectures_are_told_from_their_tensors() -> None:
    from omnimatte_cli.segment.sam import read_shape

    package = import_segment_anything()
    with torch.device("meta"):
        state = package.sam_model_registry["vit_b"]().state_dict()
    shape = read_shape(state)
    assert (shape.width, shape.depth, shape.heads, shape.grid) == (768, 12, 12, 64)
    assert shape.window == 14 and shape.global_blocks == (2, 5, 8, 11)
    assert (shape.channels, shape.decoder_width, shape.masks) == (256, 2048, 3)


def test_sam_answers_points_and_boxes_repeatably(checkpoint: Path) -> None:
    frames, truth = render(TWO, 3)
    sam = Sam(load_sam(checkpoint), frames, CPU)
    prompts = [
        Prompt("a", 1, (Point(47, 60),)),
        Prompt("a", 1, (Point(47, 60), Point(5, 5, False)), Box(30, 30, 70, 90)),
    ]
    for prompt in prompts:
        mask, quality = sam.prompt(1, prompt)
        assert mask.shape == frames.shape[1:3] and mask.dtype == bool and 0 <= quality <= 1
        sam.prompt(2, prompt)  # another frame in between
        again, same = sam.prompt(1, prompt)
        assert (again == mask).all() and same == quality
    mask, _ = sam.again(0, truth["near"][0])
    assert mask.shape == frames.shape[1:3]


def test_torchvision_is_left_as_it_was(tmp_path: Path) -> None:
    code = (
        "import sys, omnimatte_cli.segment.sam as s\n"
        "s.import_segment_anything()\n"
        "gone = [n for n in sys.modules if n.split('.')[0] == 'torchvision']\n"
        "import importlib.util\n"
        "real = importlib.util.find_spec('torchvision') is not None\n"
        "sys.exit(0 if real or not gone else f'left behind: {gone}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_without_the_extra_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [n for n in sys.modules if n.split(".")[0] == "segment_anything"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "segment_anything", None)
    monkeypatch.delitem(sys.modules, "segment_anything")
    monkeypatch.setattr(sys, "meta_path", [_Hide(), *sys.meta_path])
    with pytest.raises(OptionError, match=r"pip install 'omnimatte\[sam\]'"):
        import_segment_anything()


class _Hide:
    """An import hook under which segment_anything is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.split(".")[0] == "segment_anything":
            raise ModuleNotFoundError(name=name)


def test_resizing_keeps_a_gradient() -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (32, 1, 3))
    wide = _resize(ramp, (64, 128))
    assert wide.shape == (64, 128, 3) and wide.dtype == np.uint8
    assert np.abs(wide[::2, ::2].astype(int) - ramp).max() <= 3


@pytest.mark.parametrize("kind", ["text", "cut", "list", "other", "extra", "pickle"])
def test_wrong_checkpoints_are_refused(checkpoint: Path, tmp_path: Path, kind: str) -> None:
    path, says = tmp_path / "wrong.pth", "not a checkpoint of segment-anything"
    state = torch.load(checkpoint, weights_only=True)
    if kind == "text":
        path.write_text("hello")
        says = "cannot be read"
    elif kind == "cut":
        path.write_bytes(checkpoint.read_bytes()[:5000])
        says = "cannot be read"
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "other":
        torch.save({"conv.weight": torch.zeros(3)}, path)
        says += ".*patch_embed.*is missing"
    elif kind == "extra":
        torch.save({**state, "surprise": torch.zeros(1)}, path)
        says += ".*surprise"
    else:
        torch.save({"a": _Evil()}, path)
        says = "cannot be read"
    with pytest.raises(WeightsError, match=f"(?s){says}"):
        load_sam(path)
    assert not _Evil.ran


class _Evil:
    """Would tell if a checkpoint's pickle were executed."""

    ran = False

    def __reduce__(self) -> tuple:
        return (_run, ())


def _run() -> int:
    _Evil.ran = True
    return 0


def test_interior_points_are_inside_and_apart() -> None:
    mask = np.zeros((80, 120), bool)
    mask[20:60, 10:100] = True
    points = interior_points(mask, 3)
    assert len(points) >= 2
    assert all(mask[int(y), int(x)] for x, y in points)
    assert np.linalg.norm(points[0] - points[1]) > 15
    assert interior_points(np.zeros((5, 5), bool), 3).shape == (0, 2)


# ------------------------------------------------------------------------------- across frames


def masks_of(rough: methods.Rough) -> dict[str, np.ndarray]:
    return {n: np.stack([unpack_mask(m, rough.size) for m in v]) for n, v in rough.masks.items()}


def test_flow_alone_carries_masks_both_ways() -> None:
    frames, truth = render(TWO, 15, pan=1)
    keys = {n: {7: m[7]} for n, m in truth.items()}
    found = propagate(frames, keys)
    for name, carried in found.items():
        masks = np.stack([unpack_mask(c.mask, frames.shape[1:3]) for c in carried])
        assert iou(masks, truth[name]) >= 0.8, name
        assert carried[7].confidence == 1
        assert carried[0].confidence < carried[6].confidence < 1


def test_a_second_opinion_keeps_masks_from_drifting() -> None:
    frames, truth = render(TWO, 16, pan=1)
    oracle = Oracle(truth)
    prompts = [Prompt("far", 3, (Point(61, 60),)), Prompt("near", 12, box=Box(178, 84, 214, 156))]
    rough = methods.by_sam(frames, prompts, oracle, 1, 4)
    for name, masks in masks_of(rough).items():
        assert iou(masks, truth[name]) >= 0.95, name
    assert min(rough.confidence["far"]) > 0.5
    asked = len(oracle.asked)
    oracle.asked.clear()
    rough = methods.by_sam(frames, prompts, oracle, 4, 4)
    assert len(oracle.asked) < asked / 3
    for name, masks in masks_of(rough).items():
        assert iou(masks, truth[name]) >= 0.85, name


def test_without_prompts_what_moves_prompts_sam() -> None:
    frames, truth = render(TWO, 24)
    rough = methods.by_sam(frames, [], Oracle(truth), 1, 4)
    found = masks_of(rough)
    assert list(found) == ["object1", "object2"]
    assert iou(found["object1"], truth["near"]) > 0.95


def test_an_object_that_leaves_may_come_back() -> None:
    def way(t: int) -> tuple[float, float]:  # out at the right and in again
        return (230 + 12 * min(t, 30 - t), 90)

    actors = [Actor("dog", RED, way, (20, 30), 21)]
    frames, truth = render(actors, 31)
    assert not truth["dog"][13:17].any()
    rough = methods.by_sam(frames, [Prompt("dog", 0, (Point(230, 90),))], Oracle(truth), 1, 4)
    found = masks_of(rough)["dog"]
    assert not found[14:16].any()
    assert all(rough.confidence["dog"][t] == 0 for t in (14, 15))
    assert iou(found, truth["dog"]) >= 0.9


def test_a_jumping_answer_lowers_the_confidence_and_is_not_taken() -> None:
    frames, truth = render(TWO, 10)

    def whole(t: int, name: str, carried: np.ndarray) -> tuple[np.ndarray, float]:
        return np.ones_like(carried), 0.99

    found = propagate(frames, {"near": {0: truth["near"][0]}}, whole)["near"]
    masks = np.stack([unpack_mask(c.mask, frames.shape[1:3]) for c in found])
    assert iou(masks, truth["near"]) > 0.7
    assert found[-1].confidence < 0.3


def test_a_correction_does_not_take_a_neighbours_pixels() -> None:
    actors = [
        Actor("left", BLUE, walk(100, 90, 2), (20, 34), 22),
        Actor("right", RED, walk(138, 90, 2), (20, 34), 23),
    ]
    frames, truth = render(actors, 8)

    def both(t: int, name: str, carried: np.ndarray) -> tuple[np.ndarray, float]:
        return truth["left"][t] | truth["right"][t] & (np.arange(320) < 140 + 2 * t), 0.9

    found = propagate(frames, {n: {0: m[0]} for n, m in truth.items()}, both)["left"]
    last = unpack_mask(found[-1].mask, frames.shape[1:3])
    assert (last & truth["right"][-1]).sum() < 0.15 * truth["right"][-1].sum()


def test_known_masks_stay_as_they_are_and_between_them_the_better_counts() -> None:
    frames, truth = render(TWO, 20)
    known = {"near": {0: truth["near"][0], 19: truth["near"][19]}}
    found = propagate(frames, known)["near"]
    assert found[0].mask == pack_mask(truth["near"][0])
    assert found[19].mask == pack_mask(truth["near"][19])
    masks = np.stack([unpack_mask(c.mask, frames.shape[1:3]) for c in found])
    assert iou(masks, truth["near"]) >= 0.85
    assert found[2].confidence > found[9].confidence


def test_a_prompt_at_which_sam_finds_nothing_is_an_error() -> None:
    frames, truth = render(TWO, 5)
    nothing = {n: np.zeros_like(m) for n, m in truth.items()}
    with pytest.raises(MaskError, match="'far' in frame 2: move the point"):
        methods.by_sam(frames, [Prompt("far", 2, (Point(1, 1),))], Oracle(nothing), 1, 4)

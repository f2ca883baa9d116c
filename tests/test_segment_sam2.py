"""SAM 2 behind the same prompts: a stand-in of its package, with the interface of sam2 1.1.

Where the package is installed, it is tried with random weights on a CPU, and the stand-in is held
to its parameters.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from omnimatte_cli.arrays import unpack_mask
from omnimatte_cli.errors import OptionError, WeightsError
from omnimatte_cli.progress import Silent
from omnimatte_cli.segment.make import make_masks
from omnimatte_cli.segment.prompts import Box, Point, Prompt
from omnimatte_cli.segment.sam2 import TRUNK, Sam2, config_of, is_sam2
from omnimatte_cli.settings import MaskSettings
from tests.segment_clips import TWO, iou, render, save

COUNT = 11
HUES = ((200, 40, 40), (40, 40, 200))  # RGB of the two squares


def clip() -> tuple[np.ndarray, np.ndarray]:
    """Two squares cross a grey ground: (T, h, w, 3) uint8, masks (2, T, h, w) bool."""
    frames = np.full((COUNT, 48, 80, 3), 128, np.uint8)
    masks = np.zeros((2, *frames.shape[:3]), bool)
    for t in range(COUNT):
        masks[0, t, 6:18, 4 + 5 * t : 16 + 5 * t] = True
        masks[1, t, 28:40, 60 - 5 * t : 72 - 5 * t] = True
    for mask, hue in zip(masks, HUES, strict=True):
        frames[mask] = hue
    return frames, masks


class Predictor:
    """Follows colours: a prompt says which one; a mask prompt, that of most of its pixels.

    Methods have the parameters of SAM2VideoPredictor in sam2 1.1, and refuse, scale, order and
    leave out what that does: it works in inference mode, keeps its memory in bfloat16 (without
    autocast it fails in the second frame), and tracks nothing backwards from frame 0.
    """

    device = torch.device("cpu")
    image_size = 64

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.told: list[tuple[int, int, str]] = []
        self.fill_hole_area = 8

    @torch.inference_mode()
    def init_state(
        self, video_path, offload_video_to_cpu=False, offload_state_to_cpu=False,
        async_loading_frames=False,
    ):  # fmt: skip
        names = [p for p in os.listdir(video_path) if os.path.splitext(p)[-1] in (".jpg", ".jpeg")]
        names.sort(key=lambda p: int(os.path.splitext(p)[0]))
        self.lengths.append(len(names))
        images = [cv2.imread(os.path.join(video_path, n))[..., ::-1] for n in names]
        return {"images": images, "obj_ids": [], "hues": {}, "prompted": {}}

    @torch.inference_mode()
    def add_new_points_or_box(
        self, inference_state, frame_idx, obj_id, points=None, labels=None, clear_old_points=True,
        normalize_coords=True, box=None,
    ):  # fmt: skip
        if (points is not None) != (labels is not None):
            raise ValueError("points and labels must be provided together")
        if points is None and box is None:
            raise ValueError("at least one of points or box must be provided as input")
        places = torch.zeros(0, 2) if points is None else torch.tensor(points, dtype=torch.float32)
        kinds = torch.zeros(0, dtype=torch.int32) if labels is None else torch.tensor(labels)
        if box is not None:
            corners = torch.tensor(box, dtype=torch.float32).reshape(2, 2)
            places = torch.cat([corners, places])
            kinds = torch.cat([torch.tensor([2, 3]), kinds])
        image = inference_state["images"][frame_idx]
        extent = torch.tensor([image.shape[1], image.shape[0]])
        if normalize_coords:
            places = places / extent
        places = (places * self.image_size).numpy() / self.image_size * extent.numpy()
        inner = places[kinds.numpy() == 1] if (kinds == 1).any() else places[:2].mean(0)[None]
        x, y = inner[0]
        self.told.append((frame_idx, obj_id, "prompt"))
        return self._know(inference_state, frame_idx, obj_id, image[int(y), int(x)])

    @torch.inference_mode()
    def add_new_mask(self, inference_state, frame_idx, obj_id, mask):
        assert isinstance(mask, torch.Tensor) and mask.dim() == 2
        image = inference_state["images"][frame_idx]
        self.told.append((frame_idx, obj_id, "mask"))
        hue = np.median(image[mask.numpy()], axis=0) if mask.any() else np.full(3, -999)
        return self._know(inference_state, frame_idx, obj_id, hue)

    def _know(self, state, t, number, hue):
        if number not in state["obj_ids"]:
            state["obj_ids"].append(number)
        state["hues"][number] = np.asarray(hue, int)
        state["prompted"].setdefault(number, []).append(t)
        return t, state["obj_ids"], None

    @torch.inference_mode()
    def propagate_in_video(
        self, inference_state, start_frame_idx=None, max_frame_num_to_track=None, reverse=False
    ):
        prompted, count = inference_state["prompted"], len(inference_state["images"])
        if not prompted:
            raise RuntimeError("No input points or masks are provided for any object")
        if start_frame_idx is None:
            start_frame_idx = min(min(times) for times in prompted.values())
        most = count if max_frame_num_to_track is None else max_frame_num_to_track
        if reverse:
            stop = max(start_frame_idx - most, 0) - 1
            order = range(start_frame_idx, stop, -1) if start_frame_idx > 0 else range(0)
        else:
            order = range(start_frame_idx, min(start_frame_idx + most, count - 1) + 1)
        for t in order:
            print("a progress bar", file=sys.stderr)
            if t != start_frame_idx and not torch.is_autocast_enabled(self.device.type):
                raise RuntimeError("mat1 and mat2 must have the same dtype")
            image = inference_state["images"][t].astype(int)
            planes = [
                10.0 - np.abs(image - hue).max(2) / 4 for hue in inference_state["hues"].values()
            ]
            logits = torch.from_numpy(np.stack(planes)).to(torch.bfloat16)[:, None]
            yield t, inference_state["obj_ids"], logits


@pytest.mark.parametrize("stretch", [100, 5, 2])
def test_objects_are_followed_both_ways_across_stretches(stretch: int, capsys) -> None:
    frames, masks = clip()
    predictor = Predictor()
    known = {
        "red": {7: Prompt("red", 7, (Point(45, 12), Point(2, 2, False)))},
        "blue": {2: Prompt("blue", 2, (), Box(48, 26, 64, 42))},
    }
    found = Sam2(predictor, frames, stretch).follow(known, Silent())
    for name, right in zip(("red", "blue"), masks, strict=True):
        got = np.stack([unpack_mask(c.mask, right.shape[1:]) for c in found[name]])
        assert iou(got, right) > 0.85
        assert all(0.8 < c.confidence <= 1 for c in found[name])
    assert found["red"][7].distance == 0 and found["red"][0].distance == 7
    assert max(predictor.lengths) <= max(stretch, 2)
    assert capsys.readouterr().err == ""


def test_a_point_within_a_box_and_one_that_is_none_of_it() -> None:
    frames, masks = clip()
    both = Prompt("red", 0, (Point(10, 12), Point(60, 34, False)), Box(2, 4, 18, 20))
    predictor = Predictor()
    found = Sam2(predictor, frames).follow({"red": {0: both, 5: masks[0, 5]}}, Silent())["red"]
    assert predictor.told == [(0, 0, "prompt"), (5, 0, "mask")]  # nothing lies before frame 0
    assert iou(np.stack([unpack_mask(c.mask, (48, 80)) for c in found]), masks[0]) > 0.85


def test_masks_that_are_kept_stay() -> None:
    frames, masks = clip()
    odd = masks[0, 4].copy()
    odd[:3, :3] = True
    found = Sam2(Predictor(), frames).follow({"red": {4: odd}}, Silent())["red"]
    np.testing.assert_array_equal(unpack_mask(found[4].mask, odd.shape), odd)
    assert found[4].confidence == 1
    assert iou(np.stack([unpack_mask(c.mask, odd.shape) for c in found]), masks[0]) > 0.85


def state(width: int, depth: int, new: bool = True) -> dict[str, Any]:
    tensors = {f"{TRUNK}blocks.{i}.norm1.weight": torch.zeros(1) for i in range(depth)}
    tensors[TRUNK + "patch_embed.proj.weight"] = torch.zeros(width, 3, 7, 7)
    if new:
        tensors["no_obj_embed_spatial"] = torch.zeros(1, 64)
    return {"model": tensors}


def test_checkpoints_are_told_apart_by_their_tensors(tmp_path: Path) -> None:
    assert is_sam2(state(96, 12))
    assert not is_sam2({"image_encoder.pos_embed": torch.zeros(1)}) and not is_sam2([])
    sizes = {(96, 12): "t", (96, 16): "s", (112, 24): "b+", (144, 48): "l"}
    for (width, depth), size in sizes.items():
        new, old = (config_of(state(width, depth, n), tmp_path) for n in (True, False))
        assert new == f"configs/sam2.1/sam2.1_hiera_{size}.yaml"
        assert old == f"configs/sam2/sam2_hiera_{size}.yaml"
    with pytest.raises(WeightsError, match="5 blocks, 96 wide"):
        config_of(state(96, 5), tmp_path)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple]]:
    """A package sam2 whose builder notes what it is asked for."""
    asked: list[tuple] = []

    def build_sam2_video_predictor(
        config_file, ckpt_path=None, device="cuda", mode="eval", hydra_overrides_extra=(),
        apply_postprocessing=True, vos_optimized=False, **kwargs,
    ):  # fmt: skip
        asked.append((config_file, ckpt_path, device))
        return Predictor()

    outer, inner = ModuleType("sam2"), ModuleType("sam2.build_sam")
    inner.build_sam2_video_predictor = build_sam2_video_predictor  # type: ignore[attr-defined]
    outer.build_sam = inner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sam2", outer)
    monkeypatch.setitem(sys.modules, "sam2.build_sam", inner)
    yield asked


def test_the_command_uses_it_for_such_a_checkpoint(package: list[tuple], tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    torch.save(state(96, 12), checkpoint)
    frames, masks = clip()
    video = save(tmp_path / "v.mp4", frames)
    chosen = MaskSettings(sam=str(checkpoint), points=("red:7:45,12",), device="cpu")
    result = make_masks(video, tmp_path / "out", chosen)
    assert package == [("configs/sam2.1/sam2.1_hiera_t.yaml", str(checkpoint), "cpu")]
    files = sorted((tmp_path / "out" / "red").glob("*.png"))
    got = np.stack([cv2.imread(str(f), 0) > 127 for f in files])
    assert iou(got, masks[0]) > 0.75 and result.facts["method"] == "sam2"


def test_what_moves_is_the_prompt_where_none_is_given(package: list, tmp_path: Path) -> None:
    checkpoint = tmp_path / "tiny.pt"
    torch.save(state(144, 48), checkpoint)
    frames, _ = render(TWO, 12)
    video = save(tmp_path / "v.mp4", frames)
    result = make_masks(video, tmp_path / "out", MaskSettings(sam=str(checkpoint), device="cpu"))
    assert result.names == ("object1", "object2")


def test_without_the_package_the_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sam2", None)
    checkpoint = tmp_path / "tiny.pt"
    torch.save(state(96, 12), checkpoint)
    video = save(tmp_path / "v.mp4", clip()[0])
    with pytest.raises(OptionError, match=r"pip install 'omnimatte\[sam2\]'"):
        make_masks(video, tmp_path / "out", MaskSettings(sam=str(checkpoint), device="cpu"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of hydra and torch, which the package calls in old ways
def test_the_package_itself_with_random_weights(capsys) -> None:
    """It keeps its memory in bfloat16: a clip of several frames needs autocast on a CPU, too."""
    build = pytest.importorskip("sam2.build_sam", reason="the package sam2 is not installed")
    torch.manual_seed(0)
    # A quarter of the size that the published models look at, for time.
    predictor = build.build_sam2_video_predictor(
        "configs/sam2.1/sam2.1_hiera_t.yaml",
        None,
        device="cpu",
        hydra_overrides_extra=["++model.image_size=256"],
    )
    assert config_of({"model": predictor.state_dict()}, Path("x")).endswith("2.1_hiera_t.yaml")
    for name in ("init_state", "add_new_points_or_box", "add_new_mask", "propagate_in_video"):
        told, stood_in = (inspect.signature(getattr(x, name)) for x in (predictor, Predictor()))
        assert [*told.parameters] == [*stood_in.parameters], name
    predictor.fill_hole_area = 0  # as load_sam2 does
    frames, masks = clip()
    known = {"red": {0: Prompt("red", 0, (Point(9.0, 11.0),))}, "blue": {2: masks[1, 2]}}
    found = Sam2(predictor, frames[:5], stretch=3).follow(known, Silent())
    assert {len(f) for f in found.values()} == {5}
    kept = found["blue"][2]
    assert kept.confidence == 1 and (unpack_mask(kept.mask, (48, 80)) == masks[1, 2]).all()
    assert all(c.confidence > 0 for c in found["red"])
    assert capsys.readouterr().err == ""

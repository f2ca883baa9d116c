"""Movers without a mask: found, and kept out of the layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.predict import predict_ownership
from omnimatte_cli.progress import Silent
from omnimatte_cli.segment.strangers import find_strangers
from omnimatte_cli.tensors import ClipTensors

SIZE = (96, 160)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two blocks cross a textured ground: frames, and the masks of either, (T, h, w) bool."""
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(70, 190, (24, 40, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    frames = np.repeat(ground[None], 24, 0)
    masks = np.zeros((2, 24, *SIZE), bool)
    for t in range(24):
        masks[0, t, 20:40, 4 + 5 * t : 22 + 5 * t] = True
        masks[1, t, 60:78, 130 - 5 * t : 148 - 5 * t] = True
    frames[masks[0]] = (230, 40, 30)
    frames[masks[1]] = (30, 60, 220)
    noise = rng.normal(0, 2, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8), masks[0], masks[1]


@pytest.mark.parametrize(("fps", "least"), [(12.0, 0.7), (25.0, 0.55)])
def test_the_mover_without_a_mask_is_found(clip, fps: float, least: float) -> None:
    frames, first, second = clip
    found = find_strangers(frames, first[None], fps)
    assert len(found) == 1 and found.shape[1] == len(frames)
    overlap = np.count_nonzero(found[0] & second) / np.count_nonzero(found[0] | second)
    assert overlap > least
    assert not (found[0] & first).any()


def test_none_where_all_movers_have_masks(clip) -> None:
    frames, first, second = clip
    assert len(find_strangers(frames, np.stack([first, second]))) == 0


def test_what_strangers_own_is_unowned(clip) -> None:
    """With them as hidden objects the network's answer is that for all, theirs given to nobody."""
    frames, first, second = clip
    torch.manual_seed(0)
    net = OwnerNet().eval()
    order = np.zeros((24, 1), np.int64)
    plate = np.median(frames, axis=0).astype(np.uint8)[None]
    alone = ClipTensors.from_arrays(frames, first[None], plate, order, torch.device("cpu"))
    both = ClipTensors.from_arrays(
        frames, np.stack([first, second]), plate, order, torch.device("cpu")
    )
    known = predict_ownership(net, both, 3, 12.0, Silent(), final=False)
    found = predict_ownership(net, alone, 3, 12.0, Silent(), second[None], final=False)
    assert found.weights.shape[0] == 1
    np.testing.assert_allclose(found.weights[0], known.weights[0], atol=2e-3)
    rest = known.unowned.astype(np.float32) + known.weights[1]
    here = known.weights[1] > 0  # an object long out of sight owns nothing
    np.testing.assert_allclose(found.unowned.astype(np.float32)[here], rest[here], atol=5e-3)

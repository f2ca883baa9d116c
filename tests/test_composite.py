"""Compositing and detail transfer against slow per-pixel loops."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from omnimatte_cli.matte.over import alpha_over, in_order, over, transfer_detail, transmittance


def random_layers(seed: int, n: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    rgba = torch.rand(2, n, 2, 4, 3, 4, generator=g, dtype=torch.float64)
    plate = torch.rand(2, 2, 3, 3, 4, generator=g, dtype=torch.float64)
    frame = torch.rand(2, 2, 3, 3, 4, generator=g, dtype=torch.float64)
    return rgba, plate, frame


def pixels(x: Tensor):
    return itertools.product(range(2), range(2), range(3), range(4))


def test_over_is_porter_duff_pixel_by_pixel() -> None:
    rgba, plate, _ = random_layers(0)
    result = over(rgba, plate)
    for b, t, y, x in pixels(rgba):
        for c in range(3):
            value = float(plate[b, t, c, y, x])
            for i in range(3):
                alpha = float(rgba[b, i, t, 3, y, x])
                value = alpha * float(rgba[b, i, t, c, y, x]) + (1 - alpha) * value
            assert abs(value - float(result[b, t, c, y, x])) < 1e-12


def test_alpha_over_and_transmittance() -> None:
    rgba, _, _ = random_layers(1)
    alpha = rgba[:, :, :, 3:]
    coverage, seen = alpha_over(alpha), transmittance(alpha)
    for b, t, y, x in pixels(rgba):
        value, a = 0.0, [float(alpha[b, i, t, 0, y, x]) for i in range(3)]
        for i in range(3):
            value = a[i] * a[i] + (1 - a[i]) * value
        assert abs(value - float(coverage[b, t, 0, y, x])) < 1e-12
        expected = [(1 - a[1]) * (1 - a[2]), 1 - a[2], 1]
        assert all(abs(expected[i] - float(seen[b, i, t, 0, y, x])) < 1e-12 for i in range(3))


def test_in_order_sorts_each_frame_by_itself() -> None:
    rgba, _, _ = random_layers(2)
    order = torch.tensor([[[0, 1, 2], [2, 0, 1]], [[1, 0, 2], [0, 2, 1]]])
    result = in_order(rgba, order)
    for b, t in itertools.product(range(2), range(2)):
        for place in range(3):
            expected = rgba[b, order[b, t, place], t]
            assert torch.equal(result[b, place, t], expected)


def test_detail_transfer_makes_opaque_layers_exact_and_leaves_alpha_alone() -> None:
    rgba, plate, frame = random_layers(3)
    rgba[:, :, :, 3] = 1
    result = transfer_detail(rgba, plate, frame)
    assert torch.equal(result[:, :, :, 3], rgba[:, :, :, 3])
    assert torch.allclose(over(result, plate), frame, atol=1e-12)
    assert torch.equal(result[:, :2], rgba[:, :2])  # nothing of the back layers is seen


def test_detail_transfer_never_makes_the_composite_worse() -> None:
    rgba, plate, frame = random_layers(4)
    before = (over(rgba, plate) - frame).abs()
    after = (over(transfer_detail(rgba, plate, frame), plate) - frame).abs()
    assert bool((after <= before + 1e-12).all())
    assert float(after.mean()) < 0.8 * float(before.mean())

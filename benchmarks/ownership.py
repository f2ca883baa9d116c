"""The ownership network and what follows it, against the machine's own convolution rate.

usage: python -m benchmarks.ownership [--threads 2] [--objects 2] [--frames 48] [--device cpu]
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.common import convolution_ceiling, gflop, peak_memory, spent, table
from omnimatte_cli.device import autocast, choose, describe, has_bfloat16
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.pool import pool_over_time
from omnimatte_cli.matte.predict import predict_ownership
from omnimatte_cli.matte.still import average_static
from omnimatte_cli.methods import weights
from omnimatte_cli.progress import Silent
from omnimatte_cli.tensors import ClipTensors

HEIGHT, WIDTH = 128, 224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--objects", type=int, default=2)
    parser.add_argument("--frames", type=int, default=48)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    n, t = asked.objects, asked.frames
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (t, HEIGHT, WIDTH, 3), np.uint8)
    masks = np.zeros((n, t, HEIGHT, WIDTH), bool)
    for i in range(n):
        for k in range(t):
            masks[i, k, 30 : 60 + 10 * i, 20 + 2 * k : 60 + 2 * k] = True
    order = np.tile(np.arange(n), (t, 1))
    device = choose(asked.device)
    clip = ClipTensors.from_arrays(frames, masks, frames[:1], order, device)
    net = weights.load_owner(weights.find(weights.OWNERSHIP, "ownership")).to(device)

    index = torch.arange(0, min(t, 32), device=device)[None]
    pictures, visible, plates, _ = clip.windows(index)
    work = gflop(lambda: net(pictures, plates, visible)) / index.shape[1]
    rows = []
    kinds = ["float32"] + (["bfloat16"] if has_bfloat16(device) else [])
    for kind in kinds:
        context = autocast(device) if kind == "bfloat16" else nullcontext()
        with torch.inference_mode(), context:
            took = spent(lambda: net(pictures, plates, visible), 5, device)
        rate = work * index.shape[1] / took.wall
        ceiling = convolution_ceiling(kind, device)
        rows.append((kind, 1000 * took.wall / index.shape[1], work, rate, ceiling, rate / ceiling))
    head = ("dtype", "ms a frame", "GFLOP a frame", "GFLOP/s", "convolution GFLOP/s", "share")
    table(f"Network, {n} objects, {WIDTH}x{HEIGHT}, {describe(device)}", head, rows)

    q = torch.rand(t * n, 4, 112, 32, device=device)
    k = torch.rand(t * n, 4, 560, 32, device=device)
    bias = torch.rand(t * n, 4, 1, 560, device=device).expand(-1, -1, 112, -1)

    def plain() -> torch.Tensor:
        return ((q @ k.transpose(-1, -2)) / 32**0.5 + bias).softmax(-1) @ k

    def fused() -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, k, attn_mask=bias)

    apart = float((plain() - fused()).abs().max())
    slow, fast = spent(plain, device=device), spent(fused, device=device)
    table(
        f"Attention over {t} frames, float32; largest difference {apart:.1e}",
        ("", "ms", "of plain"),
        [("plain", 1000 * slow.wall, 1.0), ("fused", 1000 * fast.wall, fast.wall / slow.wall)],
    )

    found = predict_ownership(net, clip, 6, 25.0, Silent())
    steps = {
        "network, all frames": lambda: predict_ownership(net, clip, 6, 25.0, Silent()),
        "network, one frame in 3": lambda: predict_ownership(net, clip, 6, 25.0, Silent(), every=3),
        "of which averaging": lambda: average_static(found, frames, 25.0),
        "pooling": lambda: pool_over_time(
            Ownership(found.weights, found.unowned), frames, frames[:1], 25.0, Silent()
        ),
    }
    rows = []
    for name, step in steps.items():
        took = spent(step, 1, device)
        rows.append((name, 1000 * took.wall / t, 1000 * took.cpu / t))
    table("Stages", ("", "wall ms a frame", "CPU ms a frame"), rows)
    print(f"\nPeak memory {peak_memory():.2f} GiB")


if __name__ == "__main__":
    main()

"""Sliding-window inference of the coordination network, against the machine's convolution rate.

usage: python -m benchmarks.inference [--widths 16,64] [--threads 2] [--device cpu]
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.common import convolution_ceiling, gflop, noise_clip, peak_memory, spent, table
from omnimatte_cli.device import choose, describe, has_bfloat16
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.methods.coordination.predict import predict_layers
from omnimatte_cli.progress import Silent

HEIGHT, WIDTH, FRAMES, OBJECTS = 128, 224, 16, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = choose(asked.device)
    clip = noise_clip(HEIGHT, WIDTH, FRAMES, OBJECTS, device)
    kind = "bfloat16" if has_bfloat16(device) else "float32"
    ceiling = convolution_ceiling(kind, device)
    rows = []
    for width in (int(x) for x in asked.widths.split(",")):
        net = LayerNet(width).to(device).eval()

        def predict() -> None:
            for _ in predict_layers(net, clip, 3, Silent()):  # noqa: B023
                pass

        work, took = gflop(predict), spent(predict, 1, device)
        rate = work / took.wall
        rows.append(
            (width, 1000 * took.wall / FRAMES, work / FRAMES, rate, ceiling, rate / ceiling)
        )
    head = ("width", "ms a frame", "GFLOP a frame", "GFLOP/s", "convolution GFLOP/s", "share")
    table(f"{OBJECTS} objects, {WIDTH}x{HEIGHT}, {describe(device)}", head, rows)
    print(f"\nPeak memory {peak_memory():.2f} GiB")


if __name__ == "__main__":
    main()

"""One step of finetuning, against the machine's own convolution rate, quiet and beside others.

usage: python -m benchmarks.finetune [--widths 16,64] [--threads 2] [--busy 0] [--steps 5]
                                      [--device cpu]
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.common import (
    busy,
    convolution_ceiling,
    gflop,
    noise_clip,
    peak_memory,
    spent,
    table,
)
from omnimatte_cli.device import choose, describe, has_bfloat16
from omnimatte_cli.methods.coordination.finetune import make_optimiser, step
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.methods.coordination.options import Options

HEIGHT, WIDTH, FRAMES, OBJECTS, BATCH = 128, 224, 24, 2, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", default="16,64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--busy", type=int, default=0, help="other processes that use a core each")
    parser.add_argument("--steps", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = choose(asked.device)
    clip = noise_clip(HEIGHT, WIDTH, FRAMES, OBJECTS, device)
    kind = "bfloat16" if has_bfloat16(device) else "float32"
    rows = []
    with busy(asked.busy):
        ceiling = convolution_ceiling(kind, device)
        for width in (int(x) for x in asked.widths.split(",")):
            options = Options(iterations=1000, batch_size=BATCH)
            net = LayerNet(width).to(device).train()
            optimiser = make_optimiser(net, options)
            work = gflop(lambda: step(net, optimiser, clip, options, 0, 0))  # noqa: B023
            took = spent(lambda: step(net, optimiser, clip, options, 0, 0), asked.steps, device)  # noqa: B023
            rate = work / took.wall
            rows.append((width, took.wall, took.cpu, work, rate, ceiling, rate / ceiling))
    head = ("width", "wall s", "CPU s", "GFLOP", "GFLOP/s", "convolution GFLOP/s", "share")
    title = f"A step of {BATCH} windows, {OBJECTS} objects, {WIDTH}x{HEIGHT}, "
    table(title + f"{describe(device)}, {asked.busy} busy processes", head, rows)
    print(f"\nPeak memory {peak_memory():.2f} GiB")


if __name__ == "__main__":
    main()

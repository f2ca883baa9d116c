"""Resolving and writing full-size frames, beside what cannot be avoided.

usage: python -m benchmarks.writing [--size 1920x1080] [--frames 8] [--objects 1]

The ceilings: a copy of the frame in memory, and PNG at zlib's level 1 of the very same layers.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import make_clip, peak_memory, spent, table
from omnimatte_cli.arrays import to_float
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.quantise import quantise_layers
from omnimatte_cli.media.encode import encode_image
from omnimatte_cli.media.read import iter_frames
from omnimatte_cli.methods.networks import body_matting
from omnimatte_cli.progress import Silent

PNG = Path("layer.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "omnimatte")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    width, height = (int(x) for x in asked.size.split("x"))
    video, folder = make_clip(asked.folder, width, height, asked.frames, asked.objects)
    frames = list(iter_frames(video))
    plate = np.median(np.stack(frames), 0).astype(np.uint8)
    masks = load_masks(folder, len(frames), (height, width), None, Silent())
    small = np.stack([cv2.resize(f, (224, 128), interpolation=cv2.INTER_AREA) for f in frames])
    below = cv2.resize(plate, (224, 128), interpolation=cv2.INTER_AREA)
    change = np.abs(small.astype(np.float32) - below).sum(-1) / 255
    share = np.repeat((change > 0.05)[None], len(masks.names), 0).astype(np.float16)
    ownership = Ownership(share, np.full((1, 1, 1), 0.2, np.float16))
    noise = np.full((height, width), 2 / 255, np.float32)
    layers_at = resolver(ownership, masks, noise, cut_out=body_matting())
    floats = to_float(plate)
    count = len(frames)
    layers = [layers_at(t, f, plate) for t, f in enumerate(frames)]
    written = [quantise_layers(x.rgba, floats, masks.order[0]).rgba for x in layers]

    def all_of(what) -> float:
        return 1000 * spent(what, 2).cpu / count

    copy = all_of(lambda: [f.copy() for f in frames])
    libpng = all_of(lambda: [encode_image(PNG, x, 1) for w in written for x in w])
    rows = [
        ("copy of the frame", copy, 1.0),
        ("PNG, zlib level 1", libpng, libpng / copy),
    ]
    resolve = all_of(lambda: [layers_at(t, f, plate) for t, f in enumerate(frames)])
    quantise = all_of(lambda: [quantise_layers(x.rgba, floats, masks.order[0]) for x in layers])
    png = all_of(lambda: [encode_image(PNG, x) for w in written for x in w])
    for name, took in (("resolve", resolve), ("quantise", quantise), ("PNG", png)):
        rows.append((name, took, took / copy))
    rows.append(
        ("resolve, quantise and PNG", resolve + quantise + png, (resolve + quantise + png) / copy)
    )
    table(
        f"{count} frames of {asked.size}, {asked.objects} objects",
        ("", "CPU ms a frame", "of a copy"),
        rows,
    )
    sizes = [[len(encode_image(PNG, x, level)) for w in written for x in w] for level in (None, 1)]
    print(f"\nPNG bytes: {sum(sizes[0]) / sum(sizes[1]):.2f} of zlib's level 1")
    print(f"Peak memory {peak_memory():.2f} GiB")


if __name__ == "__main__":
    main()

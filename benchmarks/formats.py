"""Measure the formats of layers: bytes a frame, and how exactly independent readers get them back.

usage: python -m benchmarks.formats [--size 1920x1080] [--frames 4] [--out docs/formats.md]

The scene is made here: a plate with texture and grain, one layer with a textured body, soft edges
and a smooth shadow, which fills about a tenth of the frame, and one layer that is empty. Needs the
library OpenEXR.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import OpenEXR

from omnimatte_cli.arrays import Size
from omnimatte_cli.deliver.formats import LAYER_FOLDERS, open_writers
from omnimatte_cli.deliver.linear import linear_layers, to_linear
from omnimatte_cli.deliver.writer import Delivery, FrameOutput
from omnimatte_cli.matte.compositing import lay_over
from omnimatte_cli.media.codecs import Timing
from omnimatte_cli.media.ffmpeg import find_ffmpeg
from omnimatte_cli.settings import FORMATS

NAMES = ("object", "empty")
EXACT = "scale=in_range=limited:out_range=full:flags=bicubic+accurate_rnd+full_chroma_int"
SUFFIX = {"prores": ".mov", "webm": ".webm", "mp4": ".mp4"}
PREMULTIPLIED = ("exr", "mp4")
Reader = Callable[[Path, int, Size], tuple[np.ndarray, np.ndarray]]  # layer (H, W, 4), plate


def scene(size: Size, frames: int) -> Iterator[FrameOutput]:
    """Frames of a body with a shadow that moves before a textured plate."""
    height, width = size
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)

    def texture(cell: int, strength: float) -> np.ndarray:
        small = rng.random((height // cell + 1, width // cell + 1, 3), np.float32) - 0.5
        return strength * cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)

    ramp = np.stack([0.45 + 0.2 * x / width, 0.4 + 0.2 * y / height, 0.5 - 0.2 * x / width], -1)
    still = ramp + texture(40, 0.2) + texture(4, 0.08)
    cloth = 0.5 + texture(16, 0.5) + texture(3, 0.1)
    for t in range(frames):
        plate = np.clip(still + 0.008 * rng.standard_normal(still.shape), 0, 1).astype(np.float32)
        across = (x - width * 0.45 - 6 * t) / (height * 0.12)
        body = np.clip((1 - np.hypot(across, (y - height * 0.45) / (height * 0.3))) * 40, 0, 1)
        away = np.hypot(across / 2.5 - 0.4, (y - height * 0.78) / (height * 0.07))
        shadow = 0.5 * np.clip(1.4 - away, 0, 1) ** 2 * (1 - body)
        alpha = np.clip(body + shadow, 0, 1)
        share = body / np.maximum(alpha, 1e-6)
        colour = np.clip(cloth * share[..., None], 0, 1)
        layers = np.zeros((2, height, width, 4), np.float32)
        layers[0] = np.dstack([colour * (alpha > 0)[..., None], alpha])
        yield FrameOutput(t, layers, plate, lay_over(layers, plate), NAMES, (1, 0))


# ----------------------------------------------------------------------------------------- readers


def by_opencv(folder: Path, t: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    layer = cv2.imread(str(folder / f"object/{t:05d}.png"), cv2.IMREAD_UNCHANGED)
    plate = cv2.imread(str(folder / f"plate/{t:05d}.png"), cv2.IMREAD_UNCHANGED)
    full = np.iinfo(layer.dtype).max
    return (
        cv2.cvtColor(layer, cv2.COLOR_BGRA2RGBA) / full,
        cv2.cvtColor(plate, cv2.COLOR_BGR2RGB) / full,
    )


def by_ffmpeg(path: Path, pixels: str, channels: int, t: int, size: Size) -> np.ndarray:
    """Frame t of a video by the ffmpeg program, (H, W, channels) in [0, 1]."""
    decoder = ["-c:v", "libvpx-vp9"] if path.suffix == ".webm" else []
    command = [find_ffmpeg(), "-v", "error", *decoder, "-i", str(path), "-vf", EXACT]
    command += ["-f", "rawvideo", "-pix_fmt", pixels, "pipe:"]
    data = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<u2")
    height, width = (side + side % 2 for side in size) if path.suffix == ".mp4" else size
    return data.reshape(-1, height, width, channels)[t, : size[0], : size[1]] / 65535


def video(folder: Path, t: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    suffix = SUFFIX[folder.name]
    plate = by_ffmpeg(folder / f"plate{suffix}", "rgb48le", 3, t, size)
    if suffix != ".mp4":
        return by_ffmpeg(folder / f"object{suffix}", "rgba64le", 4, t, size), plate
    alpha = by_ffmpeg(folder / "object_matte.mp4", "gray16le", 1, t, size)
    colour = by_ffmpeg(folder / "object.mp4", "rgb48le", 3, t, size)  # over black
    return np.dstack([colour, alpha]), plate


def by_openexr(folder: Path, t: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
    with OpenEXR.File(str(folder / f"shot.{t:04d}.exr"), separate_channels=True) as file:
        channels = {k: c.pixels.astype(np.float64) for k, c in file.channels().items()}
    layer = np.stack([channels[f"object.{c}"] for c in "RGBA"], -1)
    return layer, np.stack([channels[f"plate.{c}"] for c in "RGB"], -1)


def alpha_by_pyav(path: Path, t: int) -> np.ndarray:
    """The alpha plane of a ProRes file by PyAV, (H, W) in [0, 1]."""
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i == t:
                plane = frame.planes[3]
                rows = np.frombuffer(memoryview(plane), "<u2").reshape(frame.height, -1)
                return rows[:, : frame.width] / 4095
    raise ValueError(t)


def alpha_by_ffmpeg(path: Path, size: Size) -> np.ndarray:
    """The alpha of an EXR file's layer by ffmpeg's own decoder, (H, W)."""
    command = [find_ffmpeg(), "-v", "error", "-layer", "object", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", "gbrapf32le", "pipe:"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(data, "<f4").reshape(4, *size)[3]


READERS: dict[str, tuple[str, Reader]] = {
    "png": ("OpenCV", by_opencv),
    "png16": ("OpenCV", by_opencv),
    "prores": ("ffmpeg; alpha by PyAV, too", video),
    "webm": ("ffmpeg with libvpx", video),
    "exr": ("OpenEXR; alpha by ffmpeg, too", by_openexr),
    "mp4": ("ffmpeg", video),
}


# ------------------------------------------------------------------------------------- measurement


def row(form: str, folder: Path, frames: list[FrameOutput], size: Size) -> str:
    """A line of the table: bytes a frame and errors, in levels of 255."""
    reader, read = READERS[form]
    errors: dict[str, list[float]] = {"alpha": [], "mean": [], "picture": [], "worst": []}
    for t, frame in enumerate(frames):
        layer, plate = read(folder, t, size)
        meant, ground, whole = frame.layers[0], frame.plate, frame.composite
        if form == "exr":
            meant = linear_layers(frame.layers, frame.order, ground, "bt709")[0]
            whole = to_linear(whole, "bt709")
        weight = 1 if form in PREMULTIPLIED else layer[..., 3:]
        got = weight * layer[..., :3] + (1 - layer[..., 3:]) * plate
        alpha = np.abs(layer[..., 3] - meant[..., 3])
        second = None
        if form == "prores":
            second = alpha_by_pyav(folder / "object.mov", t)
        elif form == "exr":
            second = alpha_by_ffmpeg(folder / f"shot.{t:04d}.exr", size)
        if second is not None:
            alpha = np.maximum(alpha, np.abs(second - meant[..., 3]))
        errors["alpha"].append(alpha.max())
        errors["mean"].append(alpha.mean())
        errors["picture"].append(np.abs(got - whole).mean())
        errors["worst"].append(np.abs(got - whole).max())
    alpha, mean, picture = (255 * np.mean(errors[k]) for k in ("alpha", "mean", "picture"))
    worst = 255 * max(errors["worst"])

    def bytes_of(*names: str) -> str:
        files = [f for n in names for f in sorted(folder.glob(n)) if f.is_file()]
        return f"{sum(f.stat().st_size for f in files) / len(frames) / 1000:,.0f}"

    if form == "exr":
        sizes = [bytes_of("*.exr"), "in it", "in it"]
    elif form in ("png", "png16"):
        sizes = [bytes_of(f"{n}/*") for n in ("object", "empty", "plate")]
    else:
        sizes = [bytes_of(f"{n}.*", f"{n}_matte.*") for n in ("object", "empty", "plate")]
    numbers = f"{alpha:.2f} ({mean:.3f}) | {picture:.3f} ({worst:.1f})"
    return f"| `{form}` | {' | '.join(sizes)} | {numbers} | {reader} |"


def table(size: Size, count: int) -> str:
    """The whole table as Markdown."""
    frames = list(scene(size, count))
    lines = [
        "| format | object, kB | empty layer, kB | plate, kB | alpha: worst (mean) | "
        "layers over the plate: mean (worst) | read back by |",
        "|---|---|---|---|---|---|---|",
    ]
    for form in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            info = Delivery(size, count, Timing(Fraction(24)), png_plate=True)
            with open_writers([form], Path(folder), NAMES, info) as writers:
                for t, frame in enumerate(frames):
                    frame.cache.clear()
                    writers.write(t, frame)
            lines.append(row(form, Path(folder) / LAYER_FOLDERS[form], frames, size))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="1920x1080", help="WIDTHxHEIGHT")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--out", type=Path, help="a Markdown file whose table is replaced")
    args = parser.parse_args()
    width, height = map(int, args.size.split("x"))
    made = table((height, width), args.frames)
    print(made)
    if args.out:
        text = args.out.read_text(encoding="utf-8")
        head, tail = text.split("| format |", 1)
        rest = tail.split("\n\n", 1)[1]
        args.out.write_text(f"{head}{made}\n\n{rest}", encoding="utf-8")


if __name__ == "__main__":
    main()

"""What every benchmark measures against: the machine's own ceilings, and a clip anyone can make.

Times are medians of a few runs. On a busy machine wall time says little: CPU seconds are given too.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av
import cv2
import numpy as np

if TYPE_CHECKING:
    import torch

    from omnimatte_cli.tensors import ClipTensors


@dataclass(frozen=True)
class Spent:
    """wall, cpu: seconds. peak: GiB of memory at most, of a command."""

    wall: float
    cpu: float
    peak: float = 0.0


def spent(work: Callable[[], object], times: int = 3, device: torch.device | None = None) -> Spent:
    """Medians over `times` calls in this process, after one call that does not count.

    device: is waited for, where it computes on after a call has returned.
    """
    import torch

    def finish() -> None:
        work()
        if device is not None and device.type == "cuda":
            torch.cuda.synchronize(device)

    finish()
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        finish()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Spent(statistics.median(walls), statistics.median(cpus))


def spent_by(command: Sequence[str | Path], folder: Path | None = None) -> Spent:
    """One run of a command, with its children. Raises CalledProcessError.

    folder: of a checkout whose package is run: Python looks there before anywhere else. Modules
    are compiled once, as an installation has them.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    wall = time.perf_counter()
    with open(os.devnull, "w") as nowhere:
        process = subprocess.Popen(
            [str(x) for x in command],
            stdout=nowhere,
            stderr=nowhere,
            cwd=folder,
            env=environment,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - wall
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    scale = 2**30 if sys.platform == "darwin" else 2**20
    return Spent(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / scale)


def peak_memory() -> float:
    """GiB that this process held at most."""
    scale = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many other processes that use a core each, as on a machine that others work on too."""
    spin = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def convolution_ceiling(name: str, device: torch.device) -> float:
    """GFLOP/s of a plain large convolution, in "float32" or "bfloat16": what the machine gives.

    A GPU is given 16 times the pictures and 4 times the channels, or it would not be filled.
    """
    import torch

    dtype = getattr(torch, name)
    pictures, channels = (256, 256) if device.type == "cuda" else (16, 64)
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(device, dtype)
    x = torch.rand(pictures, channels, 64, 112, dtype=dtype, device=device)
    with torch.inference_mode():
        seconds = spent(lambda: layer(x), 5, device).wall
    return 2 * pictures * 64 * 112 * channels**2 * 9 / seconds / 1e9


def gflop(work: Callable[[], object]) -> float:
    """Operations of a call, in 10^9, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows as Markdown."""

    def cell(x: object) -> str:
        if not isinstance(x, float):
            return str(x)
        return f"{x:.3g}" if abs(x) < 100 else f"{x:.0f}"

    print(f"\n{title}\n")
    for line in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(cell(x) for x in line) + " |")


def noise_clip(
    height: int, width: int, frames: int, objects: int, device: torch.device
) -> ClipTensors:
    """A clip of noise at working size: networks take the same time for any picture."""
    from omnimatte_cli.tensors import ClipTensors

    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (frames, height, width, 3), np.uint8)
    masks = rng.random((objects, frames, height, width)) > 0.95
    order = np.tile(np.arange(objects), (frames, 1))
    return ClipTensors.from_arrays(pictures, masks, pictures[:1], order, device)


def make_clip(
    folder: Path, width: int, height: int, frames: int, objects: int, moving: bool = False
) -> tuple[Path, Path]:
    """A clip and its masks: discs with soft shadows that cross a textured, noisy ground.

    moving: the camera pans and shakes. The same arguments make the same pictures. Returns the video
    and the folder of masks; what is there already stays.
    """
    name = f"{width}x{height}x{frames}x{objects}{'m' if moving else ''}"
    video, masks = folder / f"{name}.mp4", folder / f"{name}_masks"
    if video.exists():
        return video, masks
    rng = np.random.default_rng(0)
    margin = height // 6
    coarse = rng.uniform(50, 200, (height // 24 + 2, width // 24 + 2, 3)).astype(np.float32)
    size = (width + 2 * margin, height + 2 * margin)
    ground = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    ground += cv2.GaussianBlur(rng.normal(0, 40, ground.shape).astype(np.float32), (0, 0), 1)
    grain = [rng.normal(0, 2, (height, width, 1)).astype(np.float32) for _ in range(5)]
    shake = (
        np.cumsum(rng.normal(0, height / 400, (frames, 2)), 0) if moving else np.zeros((frames, 2))
    )
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(objects):
        (masks / f"disc{i}").mkdir(parents=True, exist_ok=True)
    half = video.with_suffix(".part.mp4")
    with av.open(str(half), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16", "preset": "veryfast"}
        for t in range(frames):
            pan = margin * 0.8 * np.sin(2 * t / frames) if moving else 0.0
            matrix = np.float32([[1, 0, margin + pan + shake[t, 0]], [0, 1, margin + shake[t, 1]]])
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            picture = cv2.warpAffine(ground, matrix, (width, height), flags=flags)
            for i in range(objects):
                phase = t / max(frames, 2) + i / max(objects, 1)
                x = width * (0.15 + 0.7 * abs((phase % 2) - 1))
                y, radius = height * (0.35 + 0.1 * i), height / 9
                shadow = ((columns - x - radius) / 1.6) ** 2 + (rows - y - 1.6 * radius) ** 2 * 4
                picture *= 1 - 0.45 * np.clip(1.4 - shadow / radius**2, 0, 1)[..., None]
                body = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
                picture[body] = (200, 60 + 90 * i, 40)
                cv2.imwrite(str(masks / f"disc{i}" / f"{t:05d}.png"), body.astype(np.uint8) * 255)
            picture = np.clip(picture + grain[t % 5] + 0.5, 0, 255).astype(np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                out.mux(packet)
        for packet in stream.encode():
            out.mux(packet)
    half.rename(video)
    return video, masks


def decoding(video: Path) -> Spent:
    """Merely decoding the video to RGB."""

    def decode() -> None:
        with av.open(str(video)) as file:
            for frame in file.decode(video=0):
                frame.to_ndarray(format="rgb24")

    return spent(decode, 1)

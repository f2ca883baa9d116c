"""Tiny videos and masks for the tests, made on the spot."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from pathlib import Path

# As the command line has it: threads that wait do not spin. Read when NumPy and torch load.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from omnimatte_cli.allocator import COLLECT
from omnimatte_cli.progress import Silent

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


class Said(Silent):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


def scene(frames: int = 6, size: tuple[int, int] = (36, 64)) -> tuple[np.ndarray, np.ndarray]:
    """A red block crosses a smooth backdrop: video (T, H, W, 3) uint8, masks (T, H, W) bool."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w]
    plate = np.stack([60 + 120 * x / w, 80 + 100 * y / h, 150 - 60 * x / w], -1).astype(np.uint8)
    video = np.repeat(plate[None], frames, 0)
    masks = np.zeros((frames, h, w), bool)
    for t in range(frames):
        left = round(2 + t * (w - 4 - w // 4) / max(1, frames - 1))
        masks[t, h // 4 : h // 4 + h // 3, left : left + w // 4] = True
    video[masks] = (220, 40, 30)
    return video, masks


def encode(path: Path, video: np.ndarray, *args: str, before: tuple[str, ...] = ()) -> Path:
    """Write RGB frames (T, H, W, 3) with the ffmpeg program: `args` choose codec and filters."""
    h, w = video.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-r", "10", "-i", "pipe:"]
    ffmpeg(*raw, *before, *args, str(path), data=video.tobytes())
    return path


def ffmpeg(*args: str, data: bytes = b"") -> bytes:
    """Run the ffmpeg program on `data`; what it writes to stdout."""
    command = [FFMPEG, "-hide_banner", "-v", "error", "-y", *args]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def write_masks(folder: Path, masks: np.ndarray, first: int = 0, name: str = "{:05d}.png") -> Path:
    """One image a frame from (T, H, W[, C]) bool, uint8 or uint16 (channels in OpenCV's order)."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(masks):
        image = mask.astype(np.uint8) * 255 if mask.dtype == np.bool_ else mask
        assert cv2.imwrite(str(folder / name.format(t + first)), image)
    return folder


def write_indexed(path: Path, indices: np.ndarray, palette: np.ndarray) -> None:
    """An indexed PNG from (H, W) uint8 and a palette (256, 3) uint8 RGB."""
    import av

    argb = np.dstack([np.full((256, 1), 255, np.uint8), palette[:, None]])[:, 0]
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = indices.shape
    encoder.pix_fmt, encoder.time_base = "pal8", 1
    frame = av.VideoFrame.from_ndarray((indices, np.ascontiguousarray(argb)), format="pal8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes(p) for p in [*encoder.encode(frame), *encoder.encode(None)]))


@pytest.fixture(scope="session")
def clip() -> tuple[np.ndarray, np.ndarray]:
    """The scene of 6 frames of 64x36 with its masks; do not change it."""
    video, masks = scene()
    video.flags.writeable = masks.flags.writeable = False
    return video, masks


def pytest_collection_finish() -> None:
    """What all tests have imported stays: Python need not look through it for cycles each time."""
    gc.set_threshold(*COLLECT)
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # some bindings complain of what is left at the exit


def interrupt_twice(patch: pytest.MonkeyPatch, optimiser: type, state: Path, done: int) -> None:
    """Ctrl-C, and again, in the middle of the step after the one that was saved as `done`."""
    import torch

    step = optimiser.step

    def interrupted(self, *args):
        step(self, *args)
        if state.is_file() and torch.load(state, weights_only=True)["done"] == done:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(optimiser, "step", interrupted)

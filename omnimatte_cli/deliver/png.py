"""PNG layers, `<folder>/<object>/00000.png`: straight alpha, 8 or 16 bits.

PNG is lossless, so a layer that is empty in a frame is one fixed file, compressed once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from omnimatte_cli.deliver.writer import (
    PLATE,
    Delivery,
    FrameOutput,
    frame_layers,
    free_name,
)
from omnimatte_cli.matte.quantise import integers
from omnimatte_cli.media.atomic import write_bytes

WRITERS = 2  # threads that compress
WAITING = 8  # images that may wait for a thread: bounds memory
SMALLEST = 9  # zlib's level for files that are written many times


class PngWriter:
    """Writes each layer of a frame as a PNG of `bits` (8 or 16) bits a component.

    With 16 bits, or where it is asked for, the plate too: `<folder>/plate/00000.png`.
    """

    def __init__(self, folder: Path, names: Sequence[str], info: Delivery, bits: int = 8) -> None:
        assert bits in (8, 16), bits
        self.folder, self.names, self.info, self.bits = Path(folder), tuple(names), info, bits
        self.waiting: deque[Future[None]] = deque()
        self.empty = b""
        self.plate = free_name(PLATE, self.names) if bits == 16 or info.png_plate else None

    def open(self) -> None:
        for name in (*self.names, *([self.plate] if self.plate else [])):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        nothing = np.zeros((*self.info.size, 4), np.uint8 if self.bits == 8 else np.uint16)
        self.empty = encode_png(nothing, SMALLEST)
        self.pool = ThreadPoolExecutor(WRITERS, thread_name_prefix="png")

    def write(self, t: int, frame: FrameOutput) -> None:
        written = frame.quantised(self.bits).rgba
        images = dict(zip(frame.names, written, strict=True))
        for name, image in frame_layers(frame).items():
            if name in self.names and name not in images:  # a pass
                images[name] = integers(image, self.bits)
        if self.plate:
            images[self.plate] = integers(frame.plate, self.bits)
        for name, image in images.items():
            while len(self.waiting) >= WAITING:
                self.waiting.popleft().result()
            path = self.folder / name / f"{frame.number:05d}.png"
            self.waiting.append(self.pool.submit(self._write, path, image))

    def close(self, failed: bool = False) -> None:
        self.pool.shutdown(wait=True, cancel_futures=failed)
        while self.waiting and not failed:
            self.waiting.popleft().result()

    def __enter__(self) -> PngWriter:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(failed=kind is not None)

    def _write(self, path: Path, pixels: np.ndarray) -> None:
        empty = pixels.shape[2] == 4 and not pixels[..., 3].any()
        write_bytes(path, self.empty if empty else encode_png(pixels))


def encode_png(image: np.ndarray, level: int | None = None) -> bytes:
    """(H, W), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16, as a PNG file.

    Without a level, OpenCV's own choice (level 1, run lengths): the fastest and near the smallest
    of twelve that were measured (5 ms and 176 kB for 640x344 RGBA; level 6 takes 35 ms for 144 kB).
    """
    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, order[image.shape[2]])
    options = [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level]
    done, data = cv2.imencode(".png", bgr, options)
    assert done, image.shape
    return data.tobytes()

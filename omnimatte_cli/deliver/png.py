"""PNG layers, `<folder>/<object>/00000.png`: straight alpha, 8 or 16 bits.

PNG is lossless, so a layer that is empty in a frame is one fixed file, compressed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from omnimatte_cli.deliver.writer import (
    PLATE,
    Delivery,
    FrameOutput,
    LayerWriter,
    frame_layers,
    free_name,
)
from omnimatte_cli.matte.quantise import integers
from omnimatte_cli.media.atomic import write_bytes
from omnimatte_cli.media.encode import PooledWriter, encode_image

SMALLEST = 9  # zlib's level for files that are written many times


class PngWriter(PooledWriter, LayerWriter):
    """Writes each layer of a frame as a PNG of `bits` (8 or 16) bits a component.

    With 16 bits, or where it is asked for, the plate too: `<folder>/plate/00000.png`.
    """

    def __init__(self, folder: Path, names: Sequence[str], info: Delivery, bits: int = 8) -> None:
        super().__init__()
        assert bits in (8, 16), bits
        self.folder, self.names, self.info, self.bits = Path(folder), tuple(names), info, bits
        self.empty = b""
        self.plate = free_name(PLATE, self.names) if bits == 16 or info.png_plate else None

    def open(self) -> None:
        for name in (*self.names, *([self.plate] if self.plate else [])):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        nothing = np.zeros((*self.info.size, 4), np.uint8 if self.bits == 8 else np.uint16)
        self.empty = encode_image(Path("empty.png"), nothing, SMALLEST)

    def write(self, t: int, frame: FrameOutput) -> None:
        written = frame.quantised(self.bits).rgba
        images = dict(zip(frame.names, written, strict=True))
        for name, image in frame_layers(frame).items():
            if name in self.names and name not in images:  # a pass
                images[name] = integers(image, self.bits)
        if self.plate:
            images[self.plate] = integers(frame.plate, self.bits)
        self.put(frame.number, images)

    def put(self, number: int, images: Mapping[str, np.ndarray]) -> None:
        """Write integer images of the frame with this number, by the names of their layers."""
        for name, image in images.items():
            path = self.folder / name / f"{number:05d}.png"
            self.submit(self._write, path, image, size=image.nbytes)

    def _write(self, path: Path, pixels: np.ndarray) -> None:
        empty = pixels.shape[2] == 4 and not pixels[..., 3].any()
        write_bytes(path, self.empty if empty else encode_image(path, pixels))

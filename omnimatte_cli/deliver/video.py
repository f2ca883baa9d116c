"""Layers as video files: ProRes 4444 and VP9 with alpha, H.264 with a grey matte beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from omnimatte_cli.deliver.extend import SEEN, pull_push
from omnimatte_cli.deliver.writer import (
    PLATE,
    Delivery,
    FrameOutput,
    LayerWriter,
    frame_layers,
    free_name,
)
from omnimatte_cli.matte.quantise import integers
from omnimatte_cli.media.codecs import CODECS
from omnimatte_cli.media.encode import VideoWriter

ALPHA_LEVELS = 1023  # the encoder takes 10 bits of alpha
ALPHA_STEP = 64  # 16-bit values of these multiples survive swscale's rounding to 10 bits exactly
MATTE_CRF = 4  # mattes are smooth: finer than colour costs little
OPAQUE = {"prores": "prores_opaque", "webm": "webm_opaque", "mp4": "mp4"}


class VideoLayerWriter(LayerWriter):
    """Writes `<folder>/<object>.mov` (or .webm, .mp4 and <object>_matte.mp4) and the plate's."""

    def __init__(self, folder: Path, names: Sequence[str], info: Delivery, profile: str) -> None:
        self.folder, self.names, self.info, self.profile = Path(folder), tuple(names), info, profile
        self.videos: dict[str, VideoWriter] = {}
        self.plate = free_name(PLATE, self.names)

    def open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open(self.plate, OPAQUE[self.profile], 3)
        for name in self.names:
            if CODECS[self.profile].alpha:
                self._open(name, self.profile, 4)
            else:
                self._open(name, self.profile, 3)
                self._open(f"{name}_matte", self.profile, 1, MATTE_CRF)

    def write(self, t: int, frame: FrameOutput) -> None:
        self.videos[self.plate].write(integers(frame.plate, 16))
        for name, rgba in frame_layers(frame).items():
            if CODECS[self.profile].alpha:
                self.videos[name].write(for_alpha_codec(rgba, self.profile))
            else:
                alpha = rgba[..., 3:]
                ground = np.array(self.info.matte_color, np.float32)
                self.videos[name].write(integers(ground + alpha * (rgba[..., :3] - ground), 16))
                self.videos[f"{name}_matte"].write(integers(alpha[..., 0], 16))

    def close(self, failed: bool = False) -> None:
        videos = list(self.videos.values())
        try:
            while videos and not failed:
                videos.pop(0).close()
        finally:
            for video in videos:
                video.close(failed=True)

    def _open(self, name: str, profile: str, channels: int, crf: int | None = None) -> None:
        path = self.folder / f"{name}{CODECS[profile].suffix}"
        info = self.info
        self.videos[name] = VideoWriter(
            path,
            info.size,
            info.timing,
            info.ffmpeg,
            crf,
            profile=profile,
            channels=channels,
            dtype=np.uint16,
            tags=info.tags,
        )


def for_alpha_codec(rgba: np.ndarray, profile: str) -> np.ndarray:
    """A layer (H, W, 4) float32 as the uint16 RGBA that a lossy codec with alpha is given.

    Colours go on under alpha 0, so that blocks across an edge do not mix black into it.
    """
    if not (rgba[..., 3] >= SEEN).any():
        return np.zeros(rgba.shape, np.uint16)
    pixels = integers(pull_push(rgba), 16)
    if profile == "prores":
        levels = (np.clip(rgba[..., 3], 0, 1) * ALPHA_LEVELS + np.float32(0.5)).astype(np.uint16)
        pixels[..., 3] = levels * ALPHA_STEP
    return pixels

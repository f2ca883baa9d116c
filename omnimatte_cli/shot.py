"""One shot as the pipeline works on it: the video's facts, its clip at working size, its masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Background, Clip, Masks, Size
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.matte.ownership import Ownership, working_plates
from omnimatte_cli.matte.predict import frame_gap
from omnimatte_cli.matte.resolve import residual_noise
from omnimatte_cli.matte.steady import steady
from omnimatte_cli.media import read as video
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.methods.coordination.finetune import ClipTensors
from omnimatte_cli.progress import Progress
from omnimatte_cli.segment import make_masks
from omnimatte_cli.settings import Settings, working_size


@dataclass(frozen=True)
class Shot:
    """A video with its masks. small: the masks at working size, (N, T, h, w) bool."""

    info: VideoInfo
    clip: Clip
    masks: Masks
    small: np.ndarray

    @property
    def size(self) -> Size:
        """Working (height, width)."""
        return self.clip.frames.shape[1], self.clip.frames.shape[2]

    def owner_gap(self, settings: Settings) -> int:
        """Frames between neighbours for the ownership network."""
        return settings.gap or frame_gap(self.info.fps, self.info.frames)

    def plates(self, plate: Background) -> np.ndarray:
        """A plate at working size, (1 or T, h, w, 3) uint8."""
        return working_plates(plate, self.size, len(self.clip))

    def tensors(self, plates: np.ndarray, device: torch.device) -> ClipTensors:
        """The clip at working size before its `plates`, on a device."""
        return ClipTensors.from_arrays(
            self.clip.frames, self.small, plates, self.masks.order, device
        )

    def noise(self, plates: np.ndarray) -> np.ndarray:
        """How much the residual varies where nothing happens, at full size, (H, W) float32."""
        noise = residual_noise(self.clip.frames, plates, self.small)
        height, width = self.info.size
        return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)

    def steadied(self, owned: Ownership, plates: np.ndarray, progress: Progress) -> Ownership:
        """The ownership with its split between the objects pooled over time."""
        fps = float(self.info.fps)
        return steady(owned, self.clip.frames, plates, self.small, fps, progress)


def read_shot(source: Path, made: Path | None, settings: Settings, progress: Progress) -> Shot:
    """Read a video and its masks; without masks they are made first and kept in `made`."""
    progress.stage("reading")
    info, clip = video.read_clip(source, lambda size: settings.size or working_size(size))
    progress.stage("masks")
    folder = settings.masks
    if folder is None:
        assert made is not None
        result = make_masks(source, made, settings.making, progress, settings.ffmpeg)
        progress.say(f"Masks made for {', '.join(result.names)}: look at masks/preview.mp4.")
        progress.stage("masks")
        folder = made
    masks = load_masks(folder, info.frames, info.size, settings.order)
    for note in masks.notes:
        progress.say(note)
    return Shot(info, clip, masks, masks.resized((clip.frames.shape[1], clip.frames.shape[2])))

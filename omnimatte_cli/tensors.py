"""A clip at working size on a device: the torch twin of the host arrays."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.scratch import release


@dataclass(frozen=True)
class ClipTensors:
    """A clip at working size.

    frames: (T, 3, H, W) uint8.
    masks: (N, T, H, W) bool.
    plates: (1 or T, 3, H, W) uint8.
    order: (T, N) int64, back to front.
    bootstrap: (N, T, H, W) uint8, the alpha that the mask loss starts from, or None: the masks.
    held: the host arrays that the tensors are views of, on a CPU, frames and masks first.
    """

    frames: Tensor
    masks: Tensor
    plates: Tensor
    order: Tensor
    bootstrap: Tensor | None = None
    held: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def from_arrays(
        cls,
        frames: np.ndarray,
        masks: np.ndarray,
        plates: np.ndarray,
        order: np.ndarray,
        device: torch.device,
    ) -> ClipTensors:
        """Host arrays, channels last: (T, H, W, 3), (N, T, H, W), (1 or T, H, W, 3), (T, N)."""

        def picture(x: np.ndarray) -> Tensor:
            return torch.from_numpy(x).permute(0, 3, 1, 2).to(device)  # no copy on a CPU

        return cls(
            picture(frames),
            torch.from_numpy(masks).to(device),
            picture(plates),
            torch.from_numpy(np.ascontiguousarray(order, np.int64)).to(device),
            held=(frames, masks, plates) if device.type == "cpu" else (),
        )

    def __len__(self) -> int:
        return len(self.frames)

    def release(self) -> None:
        """Take what is kept in files out of this process's memory; its content stays."""
        release(*self.held)

    def windows(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows of frames `index` (B, T) int64, as floats in [0, 1].

        Returns frames (B, T, 3, H, W), masks (B, N, T, 1, H, W), plates (B, T, 3, H, W) and order
        (B, T, N).
        """
        frames = self.frames[index].contiguous().float() / 255
        masks = self.masks[:, index].transpose(0, 1)[:, :, :, None].float()
        fixed = len(self.plates) == 1
        plates = self.plates[torch.zeros_like(index) if fixed else index].contiguous().float() / 255
        return frames, masks, plates, self.order[index]

    def starts(self, index: Tensor) -> Tensor:
        """The mask loss's targets in windows of frames `index` (B, T): (B, N, T, 1, H, W)."""
        assert self.bootstrap is not None
        return self.bootstrap[:, index].transpose(0, 1)[:, :, :, None].float() / 255


def clip_key(clip: ClipTensors, facts: object) -> str:
    """A hash of a clip and of further JSON facts: all that a training on it depends on."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for tensor in (clip.frames, clip.masks, clip.plates, clip.order, clip.bootstrap):
        for part in () if tensor is None else tensor:  # a frame or an object at a time
            digest.update(part.cpu().numpy().tobytes())
    return digest.hexdigest()

"""Sliding-window inference: the clip's layers at working size (paper, section 5.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.device import BatchSize, autocast, sent
from omnimatte_cli.methods.coordination.network import LayerNet
from omnimatte_cli.methods.coordination.windows import FRAMES, HIDDEN, Window, inference_windows
from omnimatte_cli.progress import Progress
from omnimatte_cli.tensors import ClipTensors


def predict_layers(
    net: LayerNet, clip: ClipTensors, stride: int, progress: Progress, batch_size: int = 4
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Predict every object's layer in every frame, a few frames at a time.

    Each window hides its last three frames; only the first hidden one is kept, so only it is
    decoded. Yields frame indices (K of them) and their layers (N, K, h, w, 4) float32, straight
    alpha in [0, 1]; in all, every frame of the clip exactly once, in order.
    """
    net.eval()
    device = clip.frames.device
    windows = list(inference_windows(len(clip), stride))

    def layers_of(batch: Sequence[Window]) -> Tensor:
        index = sent(torch.tensor([window.frames for window in batch]), device)
        frames, masks, _, _ = clip.windows(index)
        hidden = torch.zeros(index.shape, dtype=torch.bool)
        hidden[:, -HIDDEN:] = True
        kept = torch.full((len(batch), 1), FRAMES - HIDDEN, device=device)
        with torch.inference_mode(), autocast(device):
            return net(frames, masks, hidden, kept).float()

    size, done = BatchSize(batch_size, "windows", progress), 0
    while done < len(windows):
        rgba = size.fit(lambda n, start=done: layers_of(windows[start : start + n]))  # type: ignore[misc]
        targets = [window.target for window in windows[done : done + len(rgba)]]
        done += len(rgba)
        progress.step(done)
        yield targets, rgba[:, :, 0].permute(1, 0, 3, 4, 2).cpu().numpy()

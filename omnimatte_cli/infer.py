"""Sliding-window inference: the clip's layers at working size (paper, section 5.2)."""

from __future__ import annotations

import numpy as np
import torch

from omnimatte_cli.device import autocast
from omnimatte_cli.finetune import ClipTensors
from omnimatte_cli.model import LayerNet
from omnimatte_cli.progress import Progress
from omnimatte_cli.windows import FRAMES, HIDDEN, covering


@torch.inference_mode()
def predict_layers(
    net: LayerNet, clip: ClipTensors, gap: int, progress: Progress, batch_size: int = 4
) -> np.ndarray:
    """Every object's layer in every frame, (N, T, H, W, 4) float32 straight alpha in [0, 1].

    Each window hides its last three frames; only the first hidden one is kept, so only it is
    decoded.
    """
    net.eval()
    length = len(clip)
    n, (h, w) = len(clip.masks), clip.frames.shape[2:]
    device = clip.frames.device
    windows = list(covering(length, gap))
    out = np.zeros((n, length, h, w, 4), np.float32)
    seen = np.zeros(length, bool)
    for start in range(0, length, batch_size):
        batch = windows[start : start + batch_size]
        index = torch.tensor([window.frames for window in batch], device=device)
        frames, masks, _, _ = clip.windows(index)
        hidden = torch.zeros(index.shape, dtype=torch.bool, device=device)
        hidden[:, -HIDDEN:] = True
        kept = torch.full((len(batch), 1), FRAMES - HIDDEN, device=device)
        with autocast(device):
            rgba = net(frames, masks, hidden, kept).float()
        targets = [window.target for window in batch]
        out[:, targets] = rgba[:, :, 0].permute(1, 0, 3, 4, 2).cpu().numpy()
        seen[targets] = True
        progress.step(start + len(batch))
    assert seen.all(), np.flatnonzero(~seen)
    return out

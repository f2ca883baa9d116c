"""Layers at full size the paper's way: predicted layers upsampled, the residual added to them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Size, to_float
from omnimatte_cli.matte.over import transfer_detail
from omnimatte_cli.matte.resolve import Layers


def upsample_layer(layer: np.ndarray, size: Size) -> np.ndarray:
    """(h, w, 4) float32 straight alpha to (H, W, 4); colours are weighted by alpha."""
    height, width = size
    alpha = layer[..., 3:]
    premultiplied = np.concatenate([layer[..., :3] * alpha, alpha], 2)
    large = cv2.resize(premultiplied, (width, height), interpolation=cv2.INTER_LINEAR)
    colour = large[..., :3] / np.maximum(large[..., 3:], 1e-4)
    return np.concatenate([np.clip(colour, 0, 1), large[..., 3:]], 2)


def transferrer(
    layers: np.ndarray, order: np.ndarray, sharpen: bool = True
) -> Callable[[int, np.ndarray, np.ndarray], Layers]:
    """How frame t's layers are made of predicted ones, its frame and its plate (H, W, 3).

    layers: (N, T, h, w, 4) predicted. order: (T, N) back to front. sharpen: whether the detail that
    the prediction lacks is transferred.
    """

    def layers_at(t: int, frame: np.ndarray, plate: np.ndarray) -> Layers:
        return transfer_frame(frame, plate, layers[:, t], order[t], sharpen)

    return layers_at


def transfer_frame(
    frame: np.ndarray,
    plate: np.ndarray,
    layers: np.ndarray,
    order: np.ndarray,
    sharpen: bool = True,
) -> Layers:
    """One frame's layers by detail transfer.

    frame, plate: (H, W, 3) uint8 or uint16. layers: (N, h, w, 4) predicted, straight alpha, float
    in [0, 1]. order: (N,) back to front. sharpen: False leaves the layers as they were predicted.
    """

    def tensor(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, -3)))

    large = [upsample_layer(layers[i].astype(np.float32), frame.shape[:2]) for i in order]
    rgba = tensor(np.stack(large))[None, :, None]
    below, picture = (tensor(to_float(x))[None, None] for x in (plate, frame))
    sharp = transfer_detail(rgba, below, picture) if sharpen else rgba
    out = np.empty((len(order), *frame.shape[:2], 4), np.float32)
    out[order] = np.moveaxis(sharp[0, :, 0].numpy(), 1, -1)
    return Layers(out)

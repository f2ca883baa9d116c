"""Compositing of straight-alpha layers: pure functions on tensors or arrays in [0, 1].

Porter and Duff, "Compositing Digital Images", SIGGRAPH 1984: the `over` operator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def in_order(x: Tensor, order: Tensor) -> Tensor:
    """Sort layers back to front. x (B, N, T, ...), order (B, T, N) int64 -> (B, N, T, ...)."""
    index = order.transpose(1, 2)
    index = index.reshape(*index.shape, *[1] * (x.ndim - 3)).expand_as(x)
    return x.gather(1, index)


def layer_over(rgba: Tensor, below: Tensor) -> Tensor:
    """One straight-alpha layer (..., 4, H, W) over a picture (..., 3, H, W); both may broadcast."""
    colour, alpha = rgba[..., :3, :, :], rgba[..., 3:, :, :]
    return alpha * colour + (1 - alpha) * below


def over(rgba: Tensor, background: Tensor) -> Tensor:
    """Composite layers over a background, back to front along dimension 1.

    rgba: (B, N, T, 4, H, W) straight alpha, in compositing order (see `in_order`).
    background: (B, T, 3, H, W). Returns (B, T, 3, H, W).
    """
    out = background
    for layer in rgba.unbind(1):
        out = layer_over(layer, out)
    return out


def alpha_over(alpha: Tensor) -> Tensor:
    """Each alpha composited as its own colour over 0 (the sparsity loss's picture of coverage).

    alpha: (B, N, T, 1, H, W) in compositing order. Returns (B, T, 1, H, W) in [0, 1].
    """
    out = torch.zeros_like(alpha[:, 0])
    for a in alpha.unbind(1):
        out = a * a + (1 - a) * out
    return out


def transmittance(alpha: Tensor) -> Tensor:
    """How much of each layer the camera sees through the layers in front: product of (1 - alpha).

    alpha: (B, N, T, 1, H, W) in compositing order. Returns the same shape; 1 for the front layer.
    """
    clear = 1 - alpha
    behind = torch.ones_like(clear)
    for i in range(alpha.shape[1] - 2, -1, -1):
        behind[:, i] = behind[:, i + 1] * clear[:, i + 1]
    return behind


def transfer_detail(rgba: Tensor, background: Tensor, frame: Tensor) -> Tensor:
    """Add what the composite lacks to the layers' colours, weighted by transmittance.

    Detail transfer of "Omnimatte" (Lu et al., CVPR 2021), section 3.4: the residual between frame
    and composite is given to the layers front to back, each as far as the camera sees it; what one
    layer cannot take (colours stay in [0, 1]) is left to those behind it.
    rgba: (B, N, T, 4, H, W) in compositing order. background, frame: (B, T, 3, H, W).
    """
    seen = transmittance(rgba[:, :, :, 3:])
    out = rgba.clone()
    residual = frame - over(rgba, background)
    for i in range(rgba.shape[1] - 1, -1, -1):
        colour, alpha = out[:, i, :, :3], out[:, i, :, 3:]
        new = (colour + seen[:, i] * residual).clamp(0, 1)
        residual = residual - seen[:, i] * alpha * (new - colour)
        out[:, i, :, :3] = new
    return out

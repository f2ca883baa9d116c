"""The layer network of Omnimatte 2021: one U-Net for all layers, and the renderer after it.

An object's input is its mask, the flow inside it and noise that is fixed to the background; the
network never sees the frames, so what it can predict well is what goes with the input. The
background's input is the noise canvas itself, the same for every frame, so its output is a canvas
too, from which each frame's plate is sampled by its homography. Tensors and numbers only.

Letters: B pairs of frames, 2 the frames t and t + 1 of a pair, N objects, C, H, W. Colours and
alpha are in [-1, 1] here, as the network puts them out; flow is in pixels.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from omnimatte_cli.methods.omnimatte2021.options import Norm

NOISE_CHANNELS = 13
CHANNELS = 3 + NOISE_CHANNELS  # mask, flow x, flow y, noise
SLOPE = 0.2  # of the leaky ReLU
GRID = (4, 7)  # rows and columns of the camera adjustment's grids
FRAMES_A_CELL = 10  # frames that one cell of the grids stands for


class Block(nn.Module):
    """A convolution with the norm that follows it; the activation is the caller's."""

    def __init__(self, conv: nn.Module, channels: int, norm: Norm | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm: nn.Module = nn.Identity()
        if norm == "batch":
            self.norm = nn.BatchNorm2d(channels)
        elif norm == "instance":
            self.norm = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class LayerUNet(nn.Module):
    """Input channels of one layer to its colours, alpha and flow.

    width: channels of the first convolution; 64 gives the published 10.5 M parameters (with
    norms; the paper's instance norm or the published code's batch norm).
    """

    def __init__(self, width: int = 64, norm: Norm = "batch") -> None:
        super().__init__()
        self.norm = norm
        w = width
        down = [CHANNELS, w, 2 * w, 4 * w, 4 * w, 4 * w]
        self.encoder = nn.ModuleList(
            Block(nn.Conv2d(a, b, 4, stride=2, padding=1), b, norm if i else None)
            for i, (a, b) in enumerate(itertools.pairwise(down))
        )
        self.encoder.extend(
            Block(nn.Conv2d(4 * w, 4 * w, 4, padding=3, dilation=2), 4 * w, norm) for _ in range(2)
        )
        up = [(8 * w, 4 * w), (8 * w, 4 * w), (8 * w, 2 * w), (4 * w, w), (2 * w, w)]
        self.decoder = nn.ModuleList(
            Block(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1), b, norm) for a, b in up
        )
        self.final_rgba = Block(nn.Conv2d(w, 4, 4), 4, None)
        self.final_flow = Block(nn.Conv2d(w, 2, 4), 2, None)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(M, 16, H, W) to RGBA (M, 4, H, W) in [-1, 1] and flow (M, 2, H, W) in pixels."""
        assert x.shape[1] == CHANNELS and x.shape[2] % 32 == 0 == x.shape[3] % 32, x.shape
        skips = []
        for i, block in enumerate(self.encoder):
            x = block(x)
            x = F.leaky_relu(x, SLOPE) if i else F.relu(x)
            if i < 5:
                skips.append(x)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = F.relu(block(torch.cat([x, skip], 1)))
        x = F.pad(x, (1, 2, 1, 2))
        # In full precision from here on: half precision would band the canvas.
        return torch.tanh(self.final_rgba(x).float()), self.final_flow(x).float()


class CameraAdjustment(nn.Module):
    """Two coarse grids over the clip: an offset of the background in pixels, and a brightness.

    They take up what homographies and a fixed canvas cannot explain.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames
        cells = max(1, frames // FRAMES_A_CELL)
        self.bg_offset = nn.Parameter(torch.zeros(1, 2, cells, *GRID))
        self.brightness_scale = nn.Parameter(torch.ones(1, 1, cells, *GRID))

    def forward(self, index: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Offset (M, 2, H, W) in pixels and brightness (M, 1, H, W).

        index: (M,) int64 frame numbers. places: (M, 2, H, W) x, y in [-1, 1] of the frame.
        """
        cells = self.bg_offset.shape[2]
        position = index * ((cells - 1) / max(self.frames - 1, 1))
        before = position.long().clamp(max=max(cells - 2, 0))
        part = (position - before).to(self.bg_offset.dtype)[:, None, None, None]
        after = (before + 1).clamp(max=cells - 1)
        grids = torch.cat([self.bg_offset, self.brightness_scale], 1)[0].transpose(0, 1)
        grid = torch.lerp(grids[before], grids[after], part)
        sampled = sample(grid, places)
        return sampled[:, :2], sampled[:, 2:]


@dataclass(frozen=True)
class Pairs:
    """What the network gets of B pairs of frames.

    objects: (B, 2, N, 16, H, W). background: (1, 16, H, W), one for all frames. canvas_places,
    frame_places: (B, 2, 2, H, W), x, y in [-1, 1] of the canvas and of the frame. camera_flow:
    (B, 2, 2, H, W) pixels. index: (B, 2) int64 frame numbers. order: (B, 2, N) int64, back to
    front.
    """

    objects: Tensor
    background: Tensor
    canvas_places: Tensor
    frame_places: Tensor
    camera_flow: Tensor
    index: Tensor
    order: Tensor


@dataclass(frozen=True)
class Rendered:
    """What the network makes of B pairs; colours and alpha in [-1, 1], flow in pixels.

    composite: (B, 2, 4, H, W), its fourth channel the alphas composited as if they were colours.
    flow: (B, 2, 2, H, W). layers: (B, 2, N, 4, H, W); layer_flow: (B, 2, N, 2, H, W), in the
    objects' own order. plate: (B, 2, 4, H, W) before the brightness. warped: (B, N, 4, H, W), the
    layers of t + 1 seen along each layer's flow from t; warped_composite: (B, 3, H, W) of them,
    without the brightness (as published).
    offset: (B, 2, 2, H, W) and brightness: (B, 2, 1, H, W), or None without adjustment.
    """

    composite: Tensor
    flow: Tensor
    layers: Tensor
    layer_flow: Tensor
    plate: Tensor
    warped: Tensor
    warped_composite: Tensor
    offset: Tensor | None
    brightness: Tensor | None


class Omnimatte(nn.Module):
    """U-Net, camera adjustment and renderer. adjustment None: homographies alone."""

    def __init__(self, unet: LayerUNet, adjustment: CameraAdjustment | None) -> None:
        super().__init__()
        self.unet, self.adjustment = unet, adjustment

    def forward(self, pairs: Pairs) -> Rendered:
        b, _, n = pairs.objects.shape[:3]
        layers, layer_flow = self.predict(pairs.objects)
        canvas, _ = self.unet(pairs.background)

        canvas = canvas.expand(2 * b, -1, -1, -1)
        plate = sample(canvas, pairs.canvas_places.flatten(0, 1))
        offset = brightness = None
        if self.adjustment is not None:
            offset, brightness = self.adjustment(
                pairs.index.flatten(), pairs.frame_places.flatten(0, 1)
            )
            plate = warp(plate, offset)
            offset, brightness = (x.unflatten(0, (b, 2)) for x in (offset, brightness))
        plate = plate.unflatten(0, (b, 2))

        # What a layer looks like in t if it is fetched from t + 1 along the layer's own flow.
        warped = warp(layers[:, 1].flatten(0, 1), layer_flow[:, 0].flatten(0, 1))
        warped = warped.unflatten(0, (b, n))
        composite = over(_sorted(layers, pairs.order), plate)
        sorted_flow = torch.cat([layer_flow, layers[:, :, :, 3:]], 3)
        flow = over(_sorted(sorted_flow, pairs.order), pairs.camera_flow)
        front = _sorted(warped[:, None], pairs.order[:, :1])
        warped_composite = over(front, plate[:, :1])[:, 0]
        if brightness is not None:
            composite = brighten(composite, brightness)
        return Rendered(
            composite,
            flow,
            layers,
            layer_flow,
            plate,
            warped,
            warped_composite[:, :3],
            offset,
            brightness,
        )

    def predict(self, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Layers (B, 2, N, 4, H, W) and their flows (B, 2, N, 2, H, W)."""
        b, _, n = objects.shape[:3]
        if self.unet.norm == "instance":
            rgba, flow = self.unet(objects.flatten(0, 2))
            return rgba.unflatten(0, (b, 2, n)), flow.unflatten(0, (b, 2, n))
        # Batch statistics are those of one layer's frames.
        found = [self.unet(objects[:, :, i].flatten(0, 1)) for i in range(n)]
        rgba, flow = (torch.stack(x, 1).unflatten(0, (b, 2)) for x in zip(*found, strict=True))
        return rgba, flow


def over(layers: Tensor, below: Tensor) -> Tensor:
    """Composite layers back to front in [-1, 1] units.

    layers: (..., N, C, H, W), the last channel alpha in [-1, 1]. below: (..., C or C - 1, H, W):
    with C channels the alphas are composited as if they were colours.
    """
    out = below
    for layer in layers.unbind(-4):
        alpha = (layer[..., -1:, :, :] + 1) / 2
        out = alpha * layer[..., : below.shape[-3], :, :] + (1 - alpha) * out
    return out


def brighten(x: Tensor, brightness: Tensor) -> Tensor:
    """Multiply a picture in [-1, 1] by a brightness as if it were in [0, 1], clamped there."""
    return ((x + 1) / 2 * brightness).clamp(0, 1) * 2 - 1


def sample(x: Tensor, places: Tensor) -> Tensor:
    """x (M, C, h, w) at `places` (M, 2, H, W), x and y in [-1, 1] from corner to corner pixel.

    Bilinear; 0 outside.
    """
    return F.grid_sample(x, places.movedim(1, -1), "bilinear", "zeros", align_corners=True)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """x (M, C, H, W) at each pixel plus `flow` (M, 2, H, W) in pixels; bilinear, 0 outside."""
    height, width = x.shape[-2:]
    columns = torch.arange(width, dtype=x.dtype, device=x.device) + flow[:, 0]
    rows = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] + flow[:, 1]
    places = torch.stack([columns / max(width - 1, 1), rows / max(height - 1, 1)], 1) * 2 - 1
    return sample(x, places)


def _sorted(x: Tensor, order: Tensor) -> Tensor:
    """Objects back to front: x (B, F, N, C, H, W), order (B, F, N) int64."""
    return x.gather(2, order[..., None, None, None].expand_as(x))

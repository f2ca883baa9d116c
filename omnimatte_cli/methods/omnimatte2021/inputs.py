"""What Omnimatte 2021 sees of a clip: masks, trimaps, flow, and noise that is fixed to the canvas.

The canvas is the background of the whole clip in the coordinates of its first frame, stretched to
the frames' size. A homography H_t leads from frame 0 to frame t, so a point of frame t lies at
H_t^-1 of it on the canvas. Host arrays are channels last; tensors channels first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.camera import flow as camera_flow
from omnimatte_cli.errors import InputError
from omnimatte_cli.methods.omnimatte2021.losses import Targets
from omnimatte_cli.methods.omnimatte2021.network import NOISE_CHANNELS, Pairs, warp
from omnimatte_cli.methods.omnimatte2021.options import PUBLISHED_HEIGHT

NOISE_STRIDE = 16  # pixels a cell of the noise canvas
MATCH = 20.0  # grey levels, over RGB, that a pixel may differ from where the flow leads and back
MAX_SPREAD = 8.0  # canvas sides in frame sides; beyond it a homography has gone wrong

# Two frames (H, W, 3) uint8 RGB to where each pixel of the first is found in the second: (H, W, 2)
# float32 offsets x, y in pixels.
DenseFlow = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Zoom:
    """A pair of frames enlarged to (height, width) and cut at (top, left), all in pixels."""

    height: int
    width: int
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class ClipInputs:
    """A clip as the optimisation draws from it; all tensors on one device.

    frames (T, 3, H, W) uint8. masks (N, T, H, W) bool. trimaps (N, T, H, W) int8 in {-1, 0, 1}.
    flow (T, 2, H, W) float32 pixels from t to t + 1. confidence (T, H, W) float32 in [0, 1].
    homographies (T + 1, 3, 3) float64, frame 0 to frame t, in units of `extent`. extent: (height,
    width) in these units that a frame spans. bounds: x0, x1, y0, y1 of the canvas in the same.
    noise (1, 13, h, w) float32. order (T, N) int64, back to front.
    """

    frames: Tensor
    masks: Tensor
    trimaps: Tensor
    flow: Tensor
    confidence: Tensor
    homographies: np.ndarray
    extent: tuple[float, float]
    bounds: np.ndarray
    noise: Tensor
    order: Tensor

    def __post_init__(self) -> None:
        t, _, height, width = self.frames.shape
        n = len(self.masks)
        assert self.masks.shape == self.trimaps.shape == (n, t, height, width), self.masks.shape
        assert self.flow.shape == (t, 2, height, width), self.flow.shape
        assert self.confidence.shape == (t, height, width), self.confidence.shape
        assert self.homographies.shape == (t + 1, 3, 3), self.homographies.shape
        assert self.order.shape == (t, n), self.order.shape

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.frames.shape[2], self.frames.shape[3]

    @property
    def background(self) -> Tensor:
        """The background's input, (1, 16, H, W): the whole noise canvas, no mask, no flow."""
        noise = F.interpolate(self.noise, self.size, mode="bilinear", align_corners=False)
        return torch.cat([noise.new_zeros(1, 3, *self.size), noise], 1)

    def pairs(self, first: list[int], zooms: list[Zoom | None]) -> tuple[Pairs, Targets]:
        """Frames t and t + 1 for each t of `first`, each pair zoomed as told (None: as it is).

        The background's input is never zoomed: its output is the canvas, which is sampled at the
        zoomed frame's places on it. (The published code zooms both, and so the canvas twice.)
        """
        index = torch.tensor([[t, t + 1] for t in first])
        made = [self._pair(row.tolist(), zoom) for row, zoom in zip(index, zooms, strict=True)]
        objects, frames, trimaps, flow, camera, confidence, canvas, places = (
            torch.stack(x) for x in zip(*made, strict=True)
        )
        index = index.to(self.frames.device)
        pairs = Pairs(objects, self.background, canvas, places, camera, index, self.order[index])
        return pairs, Targets(frames, trimaps, flow, confidence)

    def _pair(self, index: list[int], zoom: Zoom | None) -> tuple[Tensor, ...]:
        """Two frames' tensors, each (2, ..., H, W); see `pairs`."""
        device, n = self.frames.device, len(self.masks)
        masks = self.masks[:, index].transpose(0, 1)[:, :, None].float()  # (2, N, 1, H, W)
        flow = self.flow[index]
        canvas, camera = (
            torch.from_numpy(np.stack([f(t) for t in index])).to(device)
            for f in (self.canvas_places, self.camera_flow)
        )
        noise = F.grid_sample(
            self.noise.expand(2, -1, -1, -1), canvas.movedim(1, -1), align_corners=False
        )
        number = torch.arange(1, n + 1, device=device, dtype=torch.float32)[:, None, None, None]
        objects = torch.cat(
            [number * masks, flow[:, None] * masks, noise[:, None].expand(-1, n, -1, -1, -1)], 2
        )
        frames = self.frames[index].float() * (2 / 255) - 1
        trimaps = self.trimaps[:, index].transpose(0, 1)[:, :, None].float()
        tensors = [objects, frames, trimaps, flow, camera, self.confidence[index][:, None], canvas]
        tensors.append(frame_places(self.size, device).expand(2, -1, -1, -1))
        if zoom is None:
            return tuple(tensors)
        height, width = self.size
        scale = torch.tensor([zoom.width / width, zoom.height / height], device=device)
        scale = scale[:, None, None]
        objects, frames, trimaps, flow, camera, *others = (zoomed(x, zoom) for x in tensors)
        motion = objects[:, :, 1:3] * scale
        objects = torch.cat([objects[:, :, :1], motion, objects[:, :, 3:]], 2)
        return (objects, frames, trimaps, flow * scale, camera * scale, *others)

    def canvas_places(self, t: int) -> np.ndarray:
        """Where frame t's pixels lie on the canvas, (2, H, W) float32, x and y in [-1, 1]."""
        points = project(np.linalg.inv(self.homographies[t]), frame_grid(self.size, self.extent))
        x0, x1, y0, y1 = self.bounds
        x, y = (points[0] - x0) / (x1 - x0), (points[1] - y0) / (y1 - y0)
        return (np.stack([x, y]) * 2 - 1).astype(np.float32)

    def camera_flow(self, t: int) -> np.ndarray:
        """How the background moves from frame t to t + 1, (2, H, W) float32 in pixels."""
        grid = frame_grid(self.size, self.extent)
        step = self.homographies[t + 1] @ np.linalg.inv(self.homographies[t])
        pixels = np.array([self.size[1] / self.extent[1], self.size[0] / self.extent[0]])
        return ((project(step, grid) - grid) * pixels[:, None, None]).astype(np.float32)


def clip_inputs(
    frames: np.ndarray,
    masks: np.ndarray,
    homographies: np.ndarray | None,
    order: np.ndarray | None,
    seed: int,
    trimap_width: float,
    device: torch.device,
    dense_flow: DenseFlow | None = None,
) -> ClipInputs:
    """Everything the network needs, from what the user has.

    frames: (T, H, W, 3) uint8 RGB, sides multiples of 32, T at least 2. masks: (N, T, H, W) bool.
    homographies: (T, 3, 3) in pixels of these frames, frame 0 to frame t; None: the camera stands.
    order: (T, N), back to front; None: as the masks come. trimap_width: pixels at 256 rows.
    dense_flow: another estimator in place of OpenCV's dense inverse search. Raises InputError for a
    homography that has gone wrong.
    """
    t, height, width, _ = frames.shape
    n = len(masks)
    if homographies is None:
        homographies = np.tile(np.eye(3), (t, 1, 1))
    extent = (float(height), float(width))
    # Frames span 0 to their size here, as `frame_grid` does, so that the canvas holds their edges.
    bounds = canvas_bounds(homographies, extent, extent)
    # The last frame's own motion is not known: it goes on as before.
    onward = homographies[-1] @ np.linalg.inv(homographies[-2]) @ homographies[-1]
    homographies = np.concatenate([homographies, onward[None]]).astype(np.float64)
    flow, confidence = clip_flow(frames, np.any(masks, axis=0), dense_flow or inverse_search)
    band = max(1, round(trimap_width * height / PUBLISHED_HEIGHT)) if trimap_width else 0
    trimaps = np.stack([np.stack([trimap(m, band) for m in obj]) for obj in masks])
    if order is None:
        order = np.tile(np.arange(n), (t, 1))
    return ClipInputs(
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, 1))).to(device),
        torch.from_numpy(masks).to(device),
        torch.from_numpy(trimaps).to(device),
        torch.from_numpy(flow).to(device),
        torch.from_numpy(confidence).to(device),
        homographies,
        extent,
        bounds,
        noise_canvas((height, width), seed).to(device),
        torch.from_numpy(np.ascontiguousarray(order, np.int64)).to(device),
    )


def noise_canvas(size: tuple[int, int], seed: int) -> Tensor:
    """Standard normal noise, (1, 13, H / 16, W / 16) float32."""
    shape = (1, NOISE_CHANNELS, size[0] // NOISE_STRIDE, size[1] // NOISE_STRIDE)
    rng = np.random.default_rng((seed, 0xCA))
    return torch.from_numpy(rng.standard_normal(shape, np.float32))


def frame_grid(size: tuple[int, int], extent: tuple[float, float]) -> np.ndarray:
    """Coordinates of a frame's pixels, (2, H, W) float64 x and y, from 0 to the extent."""
    x = np.linspace(0, extent[1], size[1])
    y = np.linspace(0, extent[0], size[0])
    return np.stack(np.meshgrid(x, y))


def frame_places(size: tuple[int, int], device: torch.device) -> Tensor:
    """A frame's pixels in its own [-1, 1], corner to corner, (1, 2, H, W) float32."""
    grid = frame_grid(size, (2.0, 2.0)) - 1
    return torch.from_numpy(grid.astype(np.float32))[None].to(device)


def project(homography: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (2, ...) through a homography (3, 3)."""
    flat = np.concatenate([points.reshape(2, -1), np.ones((1, points[0].size))])
    x, y, w = homography @ flat
    return np.stack([x / w, y / w]).reshape(points.shape)


def canvas_bounds(
    homographies: np.ndarray, corners: tuple[float, float], extent: tuple[float, float]
) -> np.ndarray:
    """x0, x1, y0, y1 of what all frames cover on the canvas, (4,) float64.

    corners: (y, x) of a frame's last corner; the first is (0, 0). extent: (height, width) of a
    frame. Raises InputError where a frame lands behind the camera or the canvas grows too large.
    """
    y, x = corners
    points = np.array([[0.0, x, 0.0, x], [0.0, 0.0, y, y], [1.0, 1.0, 1.0, 1.0]])
    low, high = np.array([0.0, 0.0]), np.array([x, y])
    for t, homography in enumerate(homographies):
        a, b, w = _inverse(homography) @ points
        if not (w * w[0] > 0).all():
            raise InputError(
                f"The homography of frame {t} turns the image inside out or is no homography: "
                "register the clip anew, or leave the homographies out if the camera stands still."
            )
        landed = np.stack([a / w, b / w])
        low, high = np.minimum(low, landed.min(1)), np.maximum(high, landed.max(1))
        spread = (high - low) / np.array([extent[1], extent[0]])
        if spread.max() > MAX_SPREAD:
            raise InputError(
                f"By the homography of frame {t} the background is {spread.max():.0f} frames wide: "
                "the registration has failed there, or the camera turns too far for this method."
            )
    return np.array([low[0], high[0], low[1], high[1]])


def _inverse(homography: np.ndarray) -> np.ndarray:
    """The inverse, or zeros where there is none."""
    if not np.isfinite(homography).all() or np.linalg.matrix_rank(homography) < 3:
        return np.zeros((3, 3))
    return np.linalg.inv(homography)


def trimap(mask: np.ndarray, width: int) -> np.ndarray:
    """Mask (H, W) bool to int8: 1 inside, -1 further than about `width` / 2 pixels, else 0."""
    kernel = np.ones((max(width, 1), max(width, 1)), np.uint8)
    outside = cv2.erode((~mask).astype(np.uint8), kernel)
    return mask.astype(np.int8) - outside.astype(np.int8)


def clip_flow(
    frames: np.ndarray, union: np.ndarray, dense_flow: DenseFlow
) -> tuple[np.ndarray, np.ndarray]:
    """Flow from each frame to the next and its confidence within the masks.

    frames: (T, H, W, 3) uint8; union: (T, H, W) bool. Returns (T, 2, H, W) float32 in pixels and
    (T, H, W) float32 in [0, 1]. The last frame has no next one: its flow goes on as it came, and
    nothing is compared with it (confidence 0).
    """
    t, height, width, _ = frames.shape
    flow = np.zeros((t, 2, height, width), np.float32)
    confidence = np.zeros((t, height, width), np.float32)
    backward = np.zeros((height, width, 2), np.float32)
    for k, (here, there) in enumerate(itertools.pairwise(frames)):
        forward, backward = dense_flow(here, there), dense_flow(there, here)
        assert forward.shape == backward.shape == (height, width, 2), forward.shape
        flow[k] = np.moveaxis(forward, -1, 0)
        confidence[k] = flow_confidence(forward, backward, here) * union[k]
    flow[-1] = -np.moveaxis(backward, -1, 0)
    return flow, confidence


def inverse_search(frame: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Flow from a frame to another by OpenCV's dense inverse search; see `DenseFlow`."""
    assert min(frame.shape[:2]) >= camera_flow.SMALLEST, frame.shape
    here, there = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (frame, other))
    return camera_flow.dense_flow(here, there, small=True)


def flow_confidence(forward: np.ndarray, backward: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """How far a flow is to be trusted, (H, W) float32 in [0, 1].

    1 minus the pixels by which there and back misses the start, and 0 where the frame, carried
    there and back, looks different from itself. forward: (H, W, 2) from `frame` (H, W, 3) uint8;
    backward: (H, W, 2) from the next frame to it.
    """
    there, back = (
        torch.from_numpy(np.moveaxis(f, -1, 0)[None].astype(np.float64))
        for f in (forward, backward)
    )
    height, width = frame.shape[:2]
    grid = torch.from_numpy(frame_grid((height, width), (height - 1.0, width - 1.0)))[None]
    colours = torch.from_numpy(np.moveaxis(frame, -1, 0)[None].astype(np.float64))
    returned = warp(warp(torch.cat([grid, colours], 1), back), there)
    miss = torch.linalg.vector_norm(returned[:, :2] - grid, dim=1)[0]
    differs = torch.linalg.vector_norm(returned[:, 2:] - colours, dim=1)[0]
    return ((1 - miss).clamp(min=0) * (differs < MATCH)).float().numpy()


def zoomed(x: Tensor, zoom: Zoom) -> Tensor:
    """x (2, ..., C, H, W) enlarged and cut back to its size, bilinear without antialiasing."""
    height, width = x.shape[-2:]
    flat = x.reshape(1, -1, height, width)
    large = F.interpolate(flat, (zoom.height, zoom.width), mode="bilinear", align_corners=False)
    rows, columns = slice(zoom.top, zoom.top + height), slice(zoom.left, zoom.left + width)
    return large[..., rows, columns].reshape(x.shape)

"""The two main motions of a clip, and what the clip looks like along each of them.

Two scenes that move past each other make two peaks in the correlation of a frame with a later one.
The mean of the clip along one of the motions keeps that scene sharp and smears the other, so that
the difference of the two means already tells whose an edge is. (Averaging along motions is how
transparent layers were told apart before networks: Szeliski, Avidan, Anandan, CVPR 2000.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LAG = 4  # frames between the two that are correlated
MAX_SPEED = 6.0  # pixels a frame, along each axis
APART = 3.5  # pixels, over LAG frames, by which the two motions must differ
SHARPNESS = 0.25  # cycles a pixel up to which frequencies count
WHITENING = 0.8  # exponent: 1 is phase correlation, 0 plain correlation
FLOOR = 1e-6  # of a spectrum's magnitude
SOURCE_STEP = 2  # every second frame goes into a mean: half the work, hardly another picture


def main_motions(clips: Tensor) -> Tensor:
    """Speeds (y, x) in pixels a frame of clips (B, C, T, H, W): (B, 2, 2), the slower one first."""
    speeds = likely_motions(clips, 2)
    slower = speeds.square().sum(2).argsort(1)
    return speeds.gather(1, slower[..., None].expand(-1, -1, 2))


@torch.no_grad()
def likely_motions(clips: Tensor, count: int) -> Tensor:
    """The speeds of the `count` highest peaks, (B, count, 2) y and x in pixels a frame."""
    b, _, t, h, w = clips.shape
    lag = min(LAG, t - 1)
    if lag == 0:
        return torch.zeros(b, count, 2, device=clips.device)
    grey = clips.float().mean(1)
    grey = grey - grey.mean((2, 3), keepdim=True)
    taper = [torch.hann_window(n, periodic=False, device=clips.device) for n in (h, w)]
    spectrum = torch.fft.rfft2(grey * taper[0][:, None] * taper[1])
    cross = spectrum[:, lag:] * spectrum[:, :-lag].conj()
    fy = torch.fft.fftfreq(h, device=clips.device)[:, None]
    fx = torch.fft.rfftfreq(w, device=clips.device)
    low = torch.exp(-0.5 * (fy * fy + fx * fx) / SHARPNESS**2)
    cross = low * cross / (cross.abs() + FLOOR) ** WHITENING
    surface = torch.fft.irfft2(cross.mean(1), s=(h, w))
    y, x = (torch.fft.fftfreq(n, 1 / n, device=clips.device) for n in (h, w))
    reach = [min(MAX_SPEED * lag, n / 3) for n in (h, w)]
    near = (y.abs()[:, None] <= reach[0]) & (x.abs() <= reach[1])
    surface = surface.masked_fill(~near, -torch.inf)
    found = []
    for _ in range(count):
        index = surface.flatten(1).argmax(1)
        peak = torch.stack([y[index // w], x[index % w]], 1)
        found.append(peak)
        dy, dx = y[:, None] - peak[:, 0, None, None], x - peak[:, 1, None, None]
        surface = surface.masked_fill(dy * dy + dx * dx < APART**2, -torch.inf)
    return torch.stack(found, 1) / lag


@torch.no_grad()
def mean_along(clips: Tensor, speeds: Tensor) -> Tensor:
    """Every frame as the mean of the others brought to its time, (B, C, T, H, W) like the clips.

    speeds: (B, 2), y and x in pixels a frame. Only what a frame shows counts.
    """
    b, c, t, h, w = clips.shape
    y = torch.linspace(-1 + 1 / h, 1 - 1 / h, h, device=clips.device)
    x = torch.linspace(-1 + 1 / w, 1 - 1 / w, w, device=clips.device)
    scale = torch.tensor([2 / h, 2 / w], device=clips.device)
    every = torch.arange(0, t, SOURCE_STEP, device=clips.device)
    sources = clips.float().transpose(1, 2)[:, every]
    sources = F.pad(sources, (0, 0, 0, 0, 0, 1), value=1.0)  # the count
    out = []
    for now in range(t):
        away = every - now
        shift = away[:, None] * (speeds * scale)[:, None]  # (B, sources, 2)
        grid = torch.empty(b, len(every), h, w, 2, device=clips.device)
        grid[..., 0] = x + shift[..., 1, None, None]
        grid[..., 1] = y[:, None] + shift[..., 0, None, None]
        moved = F.grid_sample(
            sources.flatten(0, 1), grid.flatten(0, 1), padding_mode="zeros", align_corners=False
        )
        total = moved.unflatten(0, (b, len(every))).sum(1)
        out.append(total[:, :c] / total[:, c:].clamp(min=0.5))
    return torch.stack(out, 2)


def along_main_motions(clips: Tensor) -> Tensor:
    """The means of clips (B, C, T, H, W) along their slower and their faster motion,
    (B, 2 C, T, H, W)."""
    speeds = main_motions(clips)
    return torch.cat([mean_along(clips, speeds[:, i]) for i in range(2)], 1)


def moved(frames: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Frames (T, C, H, W) read `shifts` (T, 2) pixels (y, x) further, and (T, 1, H, W) where they
    show it."""
    t, _, h, w = frames.shape
    y = torch.linspace(-1 + 1 / h, 1 - 1 / h, h, device=frames.device)
    x = torch.linspace(-1 + 1 / w, 1 - 1 / w, w, device=frames.device)
    grid = torch.empty(t, h, w, 2, device=frames.device)
    grid[..., 0] = x + (shifts[:, 1] * 2 / w)[:, None, None]
    grid[..., 1] = y[:, None] + (shifts[:, 0] * 2 / h)[:, None, None]
    inside = (grid.abs() <= 1).all(-1)[:, None]
    return F.grid_sample(frames, grid, padding_mode="border", align_corners=False), inside

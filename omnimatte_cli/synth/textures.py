"""Tiling textures: a small fixed collection of procedural patterns, and the user's own pictures.

A tile has three channels in display space. Of a procedural tile they are pattern, large-scale noise
and grain, which a material turns into colour by a matrix; of a user's picture they are its colours.
Tiles are kept with their reduced copies (as mip levels), so that distant texture does not alias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIDE = 256  # pixels of a tile's side, a power of two
LEVELS = 6  # 256, 128, ... 8 pixels
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True)
class Atlas:
    """texels: (P, 4) uint8, all levels of all tiles, the fourth channel unused (for alignment).
    offsets: (LEVELS,) int64, where a level starts. procedural: number of procedural tiles, which
    come first. count: number of all tiles."""

    texels: Tensor
    offsets: Tensor
    procedural: int
    count: int

    def to(self, device: torch.device | str) -> Atlas:
        """The same atlas on another device."""
        return Atlas(self.texels.to(device), self.offsets.to(device), self.procedural, self.count)

    def sample(self, tile: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
        """Bilinear samples, (3, M) float in [0, 1].

        tile: (M,) int64. u, v: (M,) in tiles, any range. footprint: (M,) pixel size in tiles.
        """
        level = torch.log2(footprint.clamp_min(1e-6) * SIDE).round().clamp(0, LEVELS - 1).long()
        side = SIDE >> level
        base = self.offsets[level] + tile * side * side
        x, y = (u - u.floor()) * side - 0.5, (v - v.floor()) * side - 0.5
        x0, y0 = x.floor(), y.floor()
        fx, fy = x - x0, y - y0
        last = side - 1
        ix, iy = x0.long(), y0.long()
        left, right = ix & last, (ix + 1) & last
        top, bottom = base + (iy & last) * side, base + ((iy + 1) & last) * side
        out = torch.zeros(3, len(tile), device=tile.device)
        for index, weight in (
            (top + left, (1 - fy) * (1 - fx)),
            (top + right, (1 - fy) * fx),
            (bottom + left, fy * (1 - fx)),
            (bottom + right, fy * fx),
        ):
            part = self.texels.index_select(0, index)[:, :3].t() * (weight * (1 / 255))
            out += part
        return out


def _noise(rng: np.random.Generator, slope: float, stretch: float = 1.0) -> np.ndarray:
    """Periodic noise with a power-law spectrum, (SIDE, SIDE) float, mean 0.5, mostly in [0, 1]."""
    fy = np.fft.fftfreq(SIDE)[:, None] * SIDE * stretch
    fx = np.fft.rfftfreq(SIDE)[None] * SIDE
    radius = np.sqrt(fx * fx + fy * fy)
    radius[0, 0] = 1
    spectrum = np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) * radius ** (-slope)
    spectrum[0, 0] = 0
    picture = np.fft.irfft2(spectrum, (SIDE, SIDE))
    return 0.5 + 0.2 * picture / picture.std()


def _edge(x: np.ndarray, sharpness: float) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x * sharpness, -30, 30)))


def _cells(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the border between a periodic picture's nearest two of `count` points, and a
    random grey per cell."""
    points = rng.random((count, 2))
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    dx = np.abs(x[..., None] - points[:, 0])
    dy = np.abs(y[..., None] - points[:, 1])
    d = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
    nearest = np.argpartition(d, 1, -1)[..., :2]
    two = np.take_along_axis(d, nearest, -1)
    grey = rng.random(count)[nearest[..., 0]]
    swap = two[..., 0] > two[..., 1]
    grey[swap] = rng.random(count)[0]
    return np.abs(two[..., 1] - two[..., 0]), grey


def _patterns() -> list[np.ndarray]:
    """The first channel of every procedural tile."""
    rng = np.random.default_rng(20240229)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    tau = 2 * math.pi
    out = [_noise(rng, slope) for slope in (0.6, 1.0, 1.3, 1.6, 2.0, 2.6)]
    out += [_edge(_noise(rng, s) - 0.5, k) for s, k in ((1.6, 20), (2.0, 30), (2.4, 12), (3.0, 40))]
    out += [_noise(rng, 1.4, 0.08), _noise(rng, 1.2, 0.04), _noise(rng, 1.8, 0.15)]
    for cycles in (2, 4, 8, 16):
        wave = np.sin(tau * cycles * x)
        out.append(_edge(wave, 8) if cycles != 8 else 0.5 + 0.5 * wave)
    for cycles in (1, 2, 4, 8):
        out.append(_edge(np.sin(tau * cycles * x) * np.sin(tau * cycles * y), 25))
    for cycles, joint in ((2, 0.02), (4, 0.04), (8, 0.07)):
        line = np.minimum(np.abs((x * cycles) % 1 - 0.5), np.abs((y * cycles) % 1 - 0.5))
        grey = rng.random((cycles, cycles))[(y * cycles).astype(int), (x * cycles).astype(int)]
        out.append(_edge(line - joint, 120) * (0.6 + 0.4 * grey))
    for rows in (4, 8):
        row = (y * rows).astype(int)
        shifted = (x * rows / 2 + 0.5 * (row % 2)) % (rows / 2)
        line = np.minimum(np.abs(shifted % 1 - 0.5) * 2, np.abs((y * rows) % 1 - 0.5))
        grey = rng.random((rows, rows))[row, shifted.astype(int)]
        out.append(_edge(0.45 - np.maximum(0.5 - line, 0), 60) * (0.5 + 0.5 * grey))
    for count in (12, 40, 120):
        border, grey = _cells(rng, count)
        out.append(_edge(border - 0.25 / math.sqrt(count) * 0.3, 90) * (0.4 + 0.6 * grey))
    marble = _noise(rng, 1.8)
    out.append(0.5 + 0.5 * np.sin(tau * (3 * x + 2.0 * marble)))
    out.append(np.abs(np.sin(tau * (x + 2 * y + 1.5 * _noise(rng, 2.0)))))
    dots = np.hypot((x * 6) % 1 - 0.5, (y * 6) % 1 - 0.5)
    out.append(_edge(0.28 - dots, 50))
    out.append(np.full((SIDE, SIDE), 0.5))
    return out


def _user_tiles(folder: Path) -> list[np.ndarray]:
    """The pictures of a folder, mirrored so that they tile, (SIDE, SIDE, 3) float in [0, 1]."""
    import cv2

    from omnimatte_cli.media.images import read_image

    out = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES):
        picture = read_image(path)
        if picture is None:
            continue
        half = cv2.resize(picture[..., ::-1], (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA)
        wide = np.concatenate([half, half[:, ::-1]], 1)
        out.append(np.concatenate([wide, wide[::-1]], 0) / 255.0)
    return out


@lru_cache(maxsize=4)
def load_atlas(textures: Path | None = None, device: torch.device | str = "cpu") -> Atlas:
    """The procedural tiles and, after them, the pictures of the folder `textures`."""
    if torch.device(device).type != "cpu":
        return load_atlas(textures).to(device)
    rng = np.random.default_rng(7)
    tiles = [np.stack([p, _noise(rng, 1.9), _noise(rng, 0.5)], -1) for p in _patterns()]
    procedural = len(tiles)
    if textures is not None:
        tiles += _user_tiles(Path(textures))
    level = torch.from_numpy(np.stack(tiles)).float().clamp(0, 1).permute(0, 3, 1, 2)
    parts, offsets, start = [], [], 0
    for _ in range(LEVELS):
        flat = level.permute(0, 2, 3, 1).reshape(-1, 3)
        flat = torch.nn.functional.pad(flat, (0, 1))
        parts.append((flat * 255 + 0.5).to(torch.uint8))
        offsets.append(start)
        start += len(flat)
        level = torch.nn.functional.avg_pool2d(level, 2)
    return Atlas(torch.cat(parts), torch.tensor(offsets), procedural, len(tiles))

"""Clips with known masks for the tests of `omnimatte_cli.segment`, drawn with OpenCV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.media.encode import VideoWriter

SIZE = (180, 320)
Position = Callable[[int], tuple[float, float] | None]  # frame -> centre (x, y), None: away


@dataclass(frozen=True)
class Actor:
    """A textured shape with a soft cast shadow; `radii` in pixels."""

    name: str
    colour: tuple[int, int, int]
    at: Position
    radii: tuple[int, int] = (16, 34)
    seed: int = 1


def texture(size: tuple[int, int], seed: int, contrast: float) -> np.ndarray:
    """(H, W, 3) float32 noise at several scales, mean 0."""
    rng = np.random.default_rng(seed)
    total = np.zeros((*size, 3), np.float32)
    for scale in (1, 2, 4, 16):
        small = rng.standard_normal((size[0] // scale + 2, size[1] // scale + 2, 3))
        layer = cv2.resize(small.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
        total += layer * contrast / 4
    return total


def render(
    actors: list[Actor],
    count: int,
    *,
    pan: float = 0.0,
    drift: float = 0.06,
    noise: float = 2.0,
    shadow: float = 0.45,
    seed: int = 0,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Frames (T, H, W, 3) uint8 and each actor's visible mask (T, H, W) bool.

    Later actors stand in front. pan: pixels a frame by which the camera moves. drift: share by
    which the exposure swings. shadow: share of the light that a shadow takes.
    """
    h, w = SIZE
    wide = texture((h, w + 400), seed, 28) + np.array([150, 160, 140], np.float32)
    rng = np.random.default_rng(seed + 1)
    frames = []
    masks = {a.name: np.zeros((count, h, w), bool) for a in actors}
    for t in range(count):
        x0 = round(pan * t)
        picture = wide[:, x0 : x0 + w].copy()
        for actor in actors:
            centre = actor.at(t)
            if centre is None:
                continue
            dark = np.zeros((h, w), np.float32)
            foot = (round(centre[0] + 22), round(centre[1] + actor.radii[1]))
            cv2.ellipse(dark, foot, (30, 9), 12, 0, 360, 1.0, -1)
            picture *= 1 - shadow * cv2.GaussianBlur(dark, (0, 0), 4)[..., None]
        for actor in actors:
            centre = actor.at(t)
            if centre is None:
                continue
            disc = np.zeros((h, w), np.uint8)
            at = (round(centre[0]), round(centre[1]))
            cv2.ellipse(disc, at, actor.radii, 0, 0, 360, 1, -1)
            skin = texture((h, w), actor.seed, 40) + np.array(actor.colour, np.float32)
            # The texture moves with the actor.
            skin = np.roll(skin, at[::-1], (0, 1))
            picture = np.where(disc[..., None] > 0, skin, picture)
            for other in masks.values():
                other[t] &= disc == 0
            masks[actor.name][t] = disc > 0
        picture = picture * (1 + drift * np.sin(t / 5)) + rng.normal(0, noise, picture.shape)
        frames.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(frames), masks


def save(path: Path, frames: np.ndarray, fps: int = 12) -> Path:
    """Encode frames (T, H, W, 3) uint8."""
    h, w = frames.shape[1:3]
    with VideoWriter(path, (h, w), Fraction(fps)) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean arrays."""
    return float((a & b).sum()) / max(float((a | b).sum()), 1)


def read(folder: Path) -> np.ndarray:
    """The masks of one object as written, (T, H, W) bool."""
    files = sorted(folder.glob("*.png"))
    pictures = [cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in files]
    assert all(p.ndim == 2 and set(np.unique(p)) <= {0, 255} for p in pictures)
    return np.stack([p > 127 for p in pictures])


def walk(x: float, y: float, dx: float, dy: float = 0.0) -> Position:
    """A straight way from (x, y), dx and dy pixels a frame."""
    return lambda t: (x + dx * t, y + dy * t)


RED, BLUE, GREEN = (190, 60, 50), (50, 70, 190), (40, 150, 60)
TWO = [
    Actor("far", BLUE, walk(40, 60, 7), (14, 28), 3),
    Actor("near", RED, walk(280, 120, -7), (18, 36), 4),
]

"""Procedural clips: leaves, noise and patterns that a camera passes over, with things that move.

They cost some milliseconds each, where a traced scene costs seconds. They teach what tells two
blended clips apart: edges that move together belong together. Pictures are of the dead-leaves kind
(opaque shapes over each other, sizes by a power law), whose edges and contrasts are distributed
much as those of photographs are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.synth.render import render_scenes
from omnimatte_cli.synth.scenes import SceneOptions
from omnimatte_cli.synth.textures import SIDE, load_atlas

PICTURE = 192  # pixels a side of the pictures that clips are cut from
SPRITE = 96  # pixels a side of the picture of a thing that moves
STILL_CAMERA = 0.45  # share of the clips whose camera rests
FROZEN = 0.06  # share of the clips in which nothing moves at all
PAN = 3.0  # pixels a frame, the spread of the camera's speed
SPEED = 2.5  # pixels a frame, the spread of a thing's speed
SHAKE = 0.35  # pixels, the spread of a hand's trembling
LENS_BLUR = 0.6  # pixels, the least there is
MAX_SPRITES = 4


@dataclass(frozen=True)
class ClipOptions:
    """What to make: frames, and pixels of the sides."""

    frames: int = 12
    height: int = 96
    width: int = 96


def palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours (count, 3) in [0, 1] that go together: near one hue, with some strangers."""
    base = rng.uniform(0, 1, 3)
    spread = rng.choice([0.08, 0.2, 0.4])
    grey = rng.uniform(0, 1, (count, 1)) ** rng.uniform(0.6, 1.6)
    colours = grey + (base - base.mean()) * rng.uniform(0, 1, (count, 1)) * 0.8
    return np.clip(colours + rng.normal(0, spread * 0.5, (count, 3)), 0, 1)


def noise_field(rng: np.random.Generator, side: int, slope: float) -> np.ndarray:
    """Noise with a power-law spectrum, (side, side) float32, mean 0, standard deviation 1."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((side, side))) * radius ** (-slope)
    field = np.fft.irfft2(spectrum, (side, side))
    return (field / field.std()).astype(np.float32)


def outline(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Corners (P, 2) of a random shape: polygon, blob or bar."""
    kind = rng.integers(3)
    if kind == 0:
        corners = int(rng.integers(3, 7))
        angles = np.sort(rng.uniform(0, 2 * math.pi, corners))
        reach = radius * rng.uniform(0.6, 1.2, corners)
    else:
        angles = np.linspace(0, 2 * math.pi, 24, endpoint=False)
        waves = rng.normal(0, 0.22, 3) @ np.cos(
            np.arange(1, 4)[:, None] * angles + rng.uniform(0, 6.3, (3, 1))
        )
        reach = radius * np.exp(waves)
    points = reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    points[:, 0] *= rng.uniform(0.3, 1) if kind < 2 else rng.uniform(0.08, 0.3)
    turn = rng.uniform(0, 2 * math.pi)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    return centre + points @ rotation.T


def fill(picture: np.ndarray, corners: np.ndarray, colour: float | list[float]) -> None:
    """Paint a polygon, in place, to a sixteenth of a pixel. corners: (P, 2) x and y in pixels."""
    points = np.round(corners * 16).astype(np.int32)
    cv2.fillPoly(picture, [points], colour, cv2.LINE_8, 4)


def leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """A dead-leaves picture, (side, side, 3) float32 in [0, 1]."""
    colours = palette(rng, 24).astype(np.float32)
    image = np.empty((side, side, 3), np.float32)
    image[:] = colours[0]
    count = int(rng.integers(30, 260))
    least, most = rng.uniform(1.5, 6), side * rng.uniform(0.12, 0.4)
    # Radii with density r^-3, of which dead leaves have the statistics of photographs.
    u = rng.uniform(0, 1, count)
    radii = 1 / np.sqrt(u / most**2 + (1 - u) / least**2)
    for radius in rng.permutation(radii):
        corners = outline(rng, rng.uniform(0, side, 2), radius)
        colour = colours[int(rng.integers(len(colours)))]
        fill(image, corners, colour.tolist())
    if rng.random() < 0.6:
        grain = noise_field(rng, side, rng.uniform(0.4, 1.6))
        image *= np.exp(rng.uniform(0.03, 0.25) * grain)[..., None]
    return image


def clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Coloured noise, (side, side, 3) float32 about [0, 1]."""
    fields = np.stack([noise_field(rng, side, rng.uniform(0.9, 2.2)) for _ in range(3)], -1)
    mix = np.eye(3) * rng.uniform(0.1, 1) + np.ones((3, 3)) * rng.uniform(0, 1)
    fields = fields @ (mix / np.linalg.norm(mix, axis=0)).astype(np.float32)
    return (rng.uniform(0.25, 0.75) + rng.uniform(0.1, 0.3) * fields).astype(np.float32)


def pattern(rng: np.random.Generator, side: int) -> np.ndarray:
    """A tile of the scenes' textures in two colours, (side, side, 3) float32 about [0, 1]."""
    atlas = load_atlas(None)
    tile = int(rng.integers(atlas.procedural))
    texels = atlas.texels[tile * SIDE * SIDE : (tile + 1) * SIDE * SIDE, :3].numpy()
    tiled = texels.reshape(SIDE, SIDE, 3).astype(np.float32) / 255
    levels = np.asarray(cv2.resize(tiled, (side, side), interpolation=cv2.INTER_AREA))
    first, second = palette(rng, 2).astype(np.float32)
    image = first + (second - first) * levels[..., :1]
    return image * (1 + rng.uniform(0, 0.8) * (levels[..., 1:2] - 0.5))


def picture(rng: np.random.Generator, side: int) -> np.ndarray:
    """One of the pictures, with a slow change of light over it."""
    make = (leaves, clouds, pattern)[int(rng.choice(3, p=(0.62, 0.18, 0.2)))]
    image = make(rng, side)
    if rng.random() < 0.5:  # a horizon: the upper part is another picture
        edge = side * rng.uniform(0.2, 0.6) + side * rng.uniform(0, 0.06) * noise_field(
            rng, side, 2.0
        )[0].clip(-2, 2)
        upper = (clouds if rng.random() < 0.6 else leaves)(rng, side)
        upper *= np.float32(np.exp(rng.normal(0, 0.4)))
        image = np.where((np.arange(side)[:, None] < edge)[..., None], upper, image)
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    light = rng.normal(0, 0.25) * ramp[:, None] + rng.normal(0, 0.25) * ramp
    return image * np.exp(light)[..., None].astype(np.float32)


def path(rng: np.random.Generator, frames: int, spread: float) -> np.ndarray:
    """Smooth positions (T, 2) about 0 in pixels; `spread` of the speed in pixels a frame."""
    velocity = rng.normal(0, spread, 2)
    change = rng.normal(0, 0.08 * spread, (frames, 2)).cumsum(0)
    steps = (velocity + change).cumsum(0)
    return steps - steps[frames // 2]


def affine(
    rng: np.random.Generator, shift: np.ndarray, still: bool, scales: tuple[float, float]
) -> np.ndarray:
    """(T, 2, 3) maps from places relative to the middle of one picture to those of another."""
    frames = len(shift)
    middle = np.arange(frames) - frames // 2
    zoom = 0.0 if still else rng.normal(0, 0.012)
    spin = 0.0 if still else rng.normal(0, 0.012)
    scale = rng.uniform(*scales) * np.exp(zoom * middle)
    angle = rng.normal(0, 0.2) + spin * middle
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.stack(
        [np.stack([cos, -sin, shift[:, 0]], -1), np.stack([sin, cos, shift[:, 1]], -1)], 1
    )


def warped(image: np.ndarray, matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """The picture seen through a map from output places to its own, both about the middles."""
    m = matrix.astype(np.float64).copy()
    side_y, side_x = image.shape[:2]
    m[:, 2] += np.array([side_x, side_y]) / 2 - m[:, :2] @ np.array([width, height]) / 2
    border = cv2.BORDER_CONSTANT if image.shape[2] == 4 else cv2.BORDER_REFLECT_101
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, m, (width, height), flags=flags, borderMode=border)


def sprite(rng: np.random.Generator) -> np.ndarray:
    """A thing to be moved: premultiplied RGBA (SPRITE, SPRITE, 4) float32."""
    mask = np.zeros((SPRITE, SPRITE), np.float32)
    centre = np.full(2, SPRITE / 2)
    corners = outline(rng, centre, SPRITE * rng.uniform(0.2, 0.36))
    fill(mask, corners, 1.0)
    cover = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.6, 1.6)))[..., None]
    return np.concatenate([picture(rng, SPRITE).clip(0, 1) * cover, cover], 2)


def procedural_clip(seed: int, options: ClipOptions) -> np.ndarray:
    """The clip of a seed, (T, H, W, 3) uint8."""
    rng = np.random.default_rng([seed, 0xC11B])
    t, height, width = options.frames, options.height, options.width
    frozen = rng.random() < FROZEN
    still = frozen or rng.random() < STILL_CAMERA
    pan = path(rng, t, PAN * rng.uniform(0.2, 1) * (not still))
    shake = rng.normal(0, SHAKE * (rng.random() < 0.4) * (not still), (t, 2))
    scales = (0.5, 1.1)
    views = affine(rng, pan + shake, still, scales)
    backdrop = picture(rng, PICTURE)
    blur = rng.uniform(0.5, 2.5) if rng.random() < 0.25 else LENS_BLUR
    backdrop = cv2.GaussianBlur(backdrop, (0, 0), blur)
    frames = np.stack([warped(backdrop, m, height, width) for m in views])
    things = 0 if frozen else int(rng.integers(0 if not still else 1, MAX_SPRITES + 1))
    for _ in range(things):
        image = sprite(rng)
        place = rng.uniform(-0.5, 0.5, 2) * (width, height)
        moves = path(rng, t, SPEED * rng.random()) + place + pan * rng.uniform(-1.2, -0.8)
        size = rng.uniform(0.5, 2.0)
        views = affine(rng, np.zeros((t, 2)), False, (size, size * 1.5))
        wobble = rng.uniform(0, 0.15) * np.sin(np.arange(t) * rng.uniform(0.2, 1.2))
        for i in range(t):
            m = views[i].copy()
            m[0] *= 1 + wobble[i]
            m[:, 2] = -m[:, :2] @ moves[i]
            layer = warped(image, m, height, width)
            frames[i] = frames[i] * (1 - layer[..., 3:]) + layer[..., :3]
    return graded(rng, frames)


def rendered_clips(
    seeds: Sequence[int], options: ClipOptions, textures: Path | None = None
) -> Iterator[np.ndarray]:
    """Traced scenes, (T, H, W, 3) uint8 each, some seen through a panning and trembling camera."""
    t, height, width = options.frames, options.height, options.width
    scene = SceneOptions(frames=t, gap=1, height=height, width=width, textures=textures)
    for seed in seeds:
        rng = np.random.default_rng([seed, 0xF117])
        traced = render_scenes([seed], scene, solos=False).frames[0]
        frames = np.ascontiguousarray(traced.permute(0, 2, 3, 1).numpy())
        if rng.random() >= STILL_CAMERA:
            pan = path(rng, t, 0.5 * PAN * rng.random()) + rng.normal(0, SHAKE, (t, 2))
            views = affine(rng, pan, False, (0.6, 0.9))
            pairs = zip(frames, views, strict=True)
            frames = np.stack([warped(f, m, height, width) for f, m in pairs])
        yield graded(rng, frames)


def graded(rng: np.random.Generator, frames: np.ndarray) -> np.ndarray:
    """Exposure, contrast, gamma, tint and grain; (T, H, W, 3) float32 about [0, 1] to uint8."""
    frames = frames.clip(0, 1.2)
    grey = frames.mean(-1, keepdims=True)
    frames = grey + np.float32(rng.uniform(0.25, 1)) * (frames - grey)
    low, high = np.quantile(frames[:: max(1, len(frames) // 3), ::4, ::4], (0.01, 0.99))
    bottom, top = rng.uniform(0, 0.2), rng.uniform(0.6, 1.05)
    gain = (top - bottom) / max(high - low, 0.1)
    frames = np.float32(bottom) + (frames - np.float32(low)) * np.float32(gain)
    frames = frames.clip(0, 1) ** np.float32(rng.uniform(0.7, 1.4))
    if rng.random() < 0.3:
        flicker = rng.normal(0, 0.02, (len(frames), 1, 1, 1)).cumsum(0)
        frames = frames * np.exp(flicker).astype(np.float32)
    if rng.random() < 0.5:
        grain = rng.standard_normal(frames.shape, np.float32)
        frames = frames + np.float32(rng.uniform(0, 0.02)) * grain
    return (255 * frames.clip(0, 1) + 0.5).astype(np.uint8)

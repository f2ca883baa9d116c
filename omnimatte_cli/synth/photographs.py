"""A folder of photographs as squares that clips are filmed from, and things that move in them.

Pictures without transparency are scenes: each gives squares of two sizes, the whole of it small and
parts of it large, so that a camera never has to shrink one by much. Pictures with transparency are
things; as many again are cut out of the scenes by random outlines. Some procedural pictures are
added to the scenes, whose edges are sharper than any lens makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from omnimatte_cli.errors import OptionError
from omnimatte_cli.media.images import IMAGE_SUFFIXES, read_image
from omnimatte_cli.synth.clips import fill, outline, picture

SCENE = 256  # pixels a side of a square of a scene
THING = 128  # pixels a side of a thing's picture
WHOLE, PARTS = 1, 3  # squares that a photograph gives: of all its height, and of its own resolution
LARGEST = 1.7  # sides of a square at most that a photograph is shrunk to before parts are taken
PROCEDURAL = 0.12  # procedural pictures, for each square of a photograph
HELD_OUT = 8  # every so many photographs, and things, are for validation alone
CUT_OUTS = 1.0  # things cut out of scenes, for each thing of the folder
LEAST_CUT_OUTS = 16
SOFT = (0.6, 1.4)  # pixels, the softness of their outlines


@dataclass(frozen=True)
class Bank:
    """scenes: (N, 3, SCENE, SCENE) uint8. things: (M, 4, THING, THING) uint8, premultiplied."""

    scenes: Tensor
    things: Tensor

    def to(self, device: torch.device) -> Bank:
        return Bank(self.scenes.to(device), self.things.to(device))


def load_bank(folder: Path, seed: int = 0, held_out: bool = False) -> Bank:
    """The bank of a folder and those below it, the same for the same seed.

    held_out: of the photographs kept for validation, without procedural pictures. Raises
    OptionError where there are too few.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    rng = np.random.default_rng([seed, 0xF070, held_out])
    scenes: list[np.ndarray] = []
    things: list[np.ndarray] = []
    counts = [0, 0]  # of photographs and of things that could be read
    for path in files:
        image = read_image(path, cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8 or image.ndim != 3:
            continue
        transparent = image.shape[2] == 4 and int(image[..., 3].min()) < 255
        number = counts[transparent]
        counts[transparent] += 1
        if (number % HELD_OUT == HELD_OUT - 1) != held_out:
            continue
        if transparent:
            things.append(thing(image))
        else:
            scenes += squares(image[..., 2::-1], rng)
    if not scenes:
        raise OptionError(
            f"--photos: {folder} holds {counts[0]} photographs (PNG, JPEG, WebP, without "
            f"transparency); at least {HELD_OUT} are needed."
        )
    wanted = max(LEAST_CUT_OUTS, round(CUT_OUTS * len(things)))
    things += [cut_out(scenes[int(rng.integers(len(scenes)))], rng) for _ in range(wanted)]
    if not held_out:
        count = round(PROCEDURAL * len(scenes))
        scenes += [as_bytes(picture(rng, SCENE)) for _ in range(count)]
    return Bank(channels_first(scenes), channels_first(things))


def channels_first(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def as_bytes(image: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] as uint8."""
    return (255 * image.clip(0, 1) + 0.5).astype(np.uint8)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = tuple(max(1, round(scale * n)) for n in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def squares(image: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Squares (SCENE, SCENE, 3) of a photograph (H, W, 3) uint8: first the whole, then parts."""
    short = min(image.shape[:2])
    found = []
    for side, count in ((SCENE, WHOLE), (max(SCENE, min(short, round(LARGEST * SCENE))), PARTS)):
        sized = resized(image, side / short)
        for _ in range(count):
            top, left = (int(rng.integers(n - SCENE + 1)) for n in sized.shape[:2])
            found.append(np.ascontiguousarray(sized[top : top + SCENE, left : left + SCENE]))
    return found


def thing(image: np.ndarray) -> np.ndarray:
    """A picture with transparency (H, W, 4) BGRA in the middle of a square, premultiplied RGBA."""
    cover = image[..., 3:].astype(np.float32) / 255
    whole = np.concatenate([image[..., 2::-1] * cover, 255 * cover], 2)
    whole = resized(whole, (THING - 4) / max(image.shape[:2]))
    square = np.zeros((THING, THING, 4), np.float32)
    top, left = ((THING - n) // 2 for n in whole.shape[:2])
    square[top : top + whole.shape[0], left : left + whole.shape[1]] = whole
    return (square.clip(0, 255) + 0.5).astype(np.uint8)


def cut_out(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A part of a scene (SCENE, SCENE, 3) inside a random outline, as `thing`."""
    mask = np.zeros((THING, THING), np.float32)
    corners = outline(rng, np.full(2, THING / 2), THING * rng.uniform(0.2, 0.36))
    fill(mask, corners, 1.0)
    cover = np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(*SOFT)))[..., None]
    top, left = (int(n) for n in rng.integers(SCENE - THING + 1, size=2))
    part = scene[top : top + THING, left : left + THING]
    return np.concatenate([part * cover, 255 * cover], 2).round().astype(np.uint8)

"""Clips of a textured plane under a virtual camera, with an object that walks in front of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import Size

FINER = 3  # samples a pixel and side: a frame is an area average, as a sensor's


@dataclass(frozen=True)
class Shoot:
    """frames (T, H, W, 3) uint8 with grain; plates, the same without object and grain; masks (T, H,
    W) bool, of the object; homographies (T, 3, 3), frame pixels to pixels of the first frame's view
    of the plane.
    """

    frames: np.ndarray
    plates: np.ndarray
    masks: np.ndarray
    homographies: np.ndarray


def plane(seed: int, height: int = 900, width: int = 2400) -> np.ndarray:
    """A textured wall, (height, width, 3) uint8: colours, boards, spots, some of it nearly flat."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 120, np.float32)
    for cells, strength in ((8, 40), (40, 30), (160, 25), (500, 14)):
        shape = (max(2, height * cells // width), cells, 3)
        noise = rng.normal(0, strength, shape).astype(np.float32)
        image += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(500):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        colour = tuple(float(c) for c in rng.uniform(20, 235, 3))
        size = (int(rng.integers(4, 30)), int(rng.integers(4, 30)))
        cv2.rectangle(image, (x, y), (x + size[0], y + size[1]), colour, -1)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.2), 0, 255).astype(np.uint8)


def cameras(count: int, size: Size, seed: int) -> np.ndarray:
    """Pan, zoom, roll, tilt of the plane and jitter: (T, 3, 3), the first is the identity."""
    rng = np.random.default_rng(seed)
    h, w = size
    t = np.linspace(0, 1, count)
    jitter = rng.normal(0, 1, (count, 4)) * (0.7, 0.7, 0.002, 0.002)
    x = 0.5 * w * t + jitter[:, 0]
    y = 0.08 * h * np.sin(5 * t) + jitter[:, 1]
    roll = 0.06 * np.sin(4 * t) + jitter[:, 2]
    zoom = 1 - 0.2 * t + jitter[:, 3]
    middle = np.array([[1, 0, -w / 2], [0, 1, -h / 2], [0, 0, 1.0]])
    found = []
    for i in range(count):
        c, s = np.cos(roll[i]) * zoom[i], np.sin(roll[i]) * zoom[i]
        turn = np.array([[c, -s, x[i]], [s, c, y[i]], [0, 0, 1]])
        tilt = np.eye(3)
        tilt[2, 0] = 2e-4 * np.sin(3 * t[i])
        found.append(np.linalg.inv(middle) @ turn @ tilt @ middle)
    all_ = np.stack(found)
    all_ = np.linalg.solve(all_[0], all_)
    return all_ / all_[:, 2:, 2:]


def shoot(
    count: int, size: Size, seed: int, homographies: np.ndarray | None = None, grain: float = 2.0
) -> Shoot:
    """Film the plane. homographies: (T, 3, 3) of the camera, else `cameras`."""
    rng = np.random.default_rng(seed)
    h, w = size
    truth = cameras(count, size, seed) if homographies is None else homographies
    wall = plane(seed)
    # The first frame looks at this part of the wall, pixel by pixel.
    place = np.array([[1, 0, 300.0], [0, 1, 300.0], [0, 0, 1]])
    half = 0.5 / FINER - 0.5
    finer = np.array([[1 / FINER, 0, half], [0, 1 / FINER, half], [0, 0, 1]])
    frames, plates, masks = [], [], []
    for t in range(count):
        view = cv2.warpPerspective(
            wall,
            place @ truth[t] @ finer,
            (w * FINER, h * FINER),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        plate = cv2.resize(view, (w, h), interpolation=cv2.INTER_AREA)
        mask = np.zeros((h, w), np.uint8)
        x = w * (0.15 + 0.7 * (t / max(count - 1, 1)))
        centre = (round(x), round(h * (0.55 + 0.03 * np.sin(t))))
        cv2.ellipse(mask, centre, (round(0.07 * w), round(0.25 * h)), 0, 0, 360, 1, -1)
        frame = np.where(mask[..., None] > 0, (200, 60, 40), plate).astype(np.float32)
        frame += rng.normal(0, grain, frame.shape)
        frames.append(np.clip(frame, 0, 255).round().astype(np.uint8))
        plates.append(plate)
        masks.append(mask > 0)
    return Shoot(np.stack(frames), np.stack(plates), np.stack(masks), truth)

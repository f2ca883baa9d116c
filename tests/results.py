"""A small finished result on disk, made without any network, for tests of what reads results."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.deliver.source import describe_input
from omnimatte_cli.media.read import probe
from tests.conftest import encode

SIZE = (40, 72)
FRAMES = 8
NAMES = ("ball", "box")


def layers_at(t: int) -> np.ndarray:
    """A ball that rolls right with a soft shadow, before it a box that stands, (2, H, W, 4)."""
    h, w = SIZE
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    out = np.zeros((2, h, w, 4), np.float32)
    ball = (np.hypot(x - 12 - 5 * t, y - 16) < 7).astype(np.float32)
    shadow = 0.5 * ((np.abs(y - 26) < 3) & (np.abs(x - 12 - 5 * t) < 9)) * (1 - ball)
    out[0, ..., :3] = np.array([0.9, 0.3, 0.1]) * ball[..., None]
    out[0, ..., 3] = ball + shadow
    box = (np.abs(x - 40) < 6) & (np.abs(y - 25) < 8)
    out[1][box] = (0.1, 0.6, 0.3, 1)
    return np.round(out * 255) / np.float32(255)


def masks_at(t: int) -> np.ndarray:
    """Of the bodies alone, (2, H, W) bool."""
    return layers_at(t)[..., 3] > 0.9


def plate_at(t: int, drift: float = 0.0) -> np.ndarray:
    """A ramp with stripes, moved left by `drift` pixels a frame, (H, W, 3) float32."""
    h, w = SIZE
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    x = x + drift * t
    stripes = 0.1 * (np.sin(x / 3) > 0)
    image = np.stack([0.3 + 0.004 * x + stripes, 0.5 + 0.005 * y, 0.6 - stripes], -1)
    return (np.round(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def clean_at(t: int, drift: float = 0.0) -> np.ndarray:
    """The plate without a stranger, who is bright at the right, where no layer ever is."""
    out = plate_at(t, drift)
    out[:, 58:] = np.round(out[:, 58:] * 0.7 * 255) / np.float32(255)
    return out


def composite_at(t: int, drift: float = 0.0) -> np.ndarray:
    out = plate_at(t, drift)
    for rgba in layers_at(t):
        out = out + rgba[..., 3:] * (rgba[..., :3] - out)
    return out


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    code = cv2.COLOR_RGBA2BGRA if image.shape[-1] == 4 else cv2.COLOR_RGB2BGR
    pixels = np.round(image * 255).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.cvtColor(pixels, code) if image.ndim == 3 else pixels)


def make_result(
    folder: Path, drift: float = 0.0, residual: bool = True, sound: bool = False
) -> Path:
    """Write a result to `folder`/out, and its lossless input and masks beside it."""
    out, source = folder / "out", folder / "input.mkv"
    frames = np.stack([composite_at(t, drift) for t in range(FRAMES)])
    pixels = np.round(frames * 255).astype(np.uint8)
    tone = ("-f", "lavfi", "-i", "sine=frequency=400:duration=0.8", "-c:a", "aac") if sound else ()
    encode(source, pixels, "-c:v", "ffv1", "-pix_fmt", "bgr0", before=tone)
    for t in range(FRAMES):
        for name, rgba, mask in zip(NAMES, layers_at(t), masks_at(t), strict=True):
            write_png(out / "layers" / name / f"{t:05d}.png", rgba)
            write_png(folder / "masks" / name / f"{t:05d}.png", mask.astype(np.float32))
        if residual:
            write_png(out / "background" / f"{t:05d}.png", plate_at(t, drift))
        if drift:
            write_png(out / "plate" / f"{t:05d}.png", clean_at(t, drift))
    write_png(out / "background.png", clean_at(0, drift))
    if drift:
        shifts = [[[1, 0, drift * t], [0, 1, 0], [0, 0, 1]] for t in range(FRAMES)]
        (out / "camera.json").write_text(
            json.dumps({"homographies": shifts, "rms_px": [0.2] * 7 + [2], "cuts": [4]})
        )
    facts = {
        "input": describe_input(probe(source)),
        "objects": {
            "names": list(NAMES),
            "order": list(NAMES),
            "masks": str(folder / "masks"),
            "notes": ["A note <of> masks."],
        },
        "background": {"unseen_share": 0.02},
        "options": {"exact": residual},
        "method": "ownership",
        "psnr": {"after_detail": 41.0},
        "seconds": {"reading": 1.5},
    }
    (out / "manifest.json").write_text(json.dumps(facts))
    return out

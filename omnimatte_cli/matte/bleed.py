"""Colour that bled over an outline.

Videos and JPEGs keep colour at half the resolution of brightness (4:2:0), so beside an outline the
ground takes on colour of what is on its other side, as far as two pixels out. It is no change of
the scene: a layer that made it would have a rim over any new ground. There brightness stays as it
is, and the colour is what the changed pixels beside it bleed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.matte.box import boxes_around, cropped
from omnimatte_cli.matte.compositing import grey, repeated
from omnimatte_cli.matte.ownership import smoothstep

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG
COLOUR = np.eye(3, dtype=np.float32)[[0, 2]] - LUMA  # red and blue less brightness
BACK = np.array([[1, 0], [-LUMA[0] / LUMA[1], -LUMA[2] / LUMA[1]], [0, 1]], np.float32)  # to RGB
SIGMA = 1.6  # pixels, over which halving and enlarging spread colour, compression included
NOISY = 2.0  # noise deviations up to which brightness has not changed
RINGING = 0.05  # the same, share of the largest change within two pixels
CHANGED = 0.5  # times that by which it must be larger to have changed for sure
INSIDE = (0.45, 0.7)  # changed share of a place's neighbourhood: beside an outline .. within it
HALVED = (0.3, 0.55)  # met share of the bleeding that halved colour gives: not halved .. halved
BODY = (0.5, 0.9)  # alpha: its colour may have bled here .. is its own
NEAR_BODY = 0.02  # alpha from which there may be a body
AROUND = 8  # pixels around it in which its colour may have bled, and what tells so


def without_bleed(
    frame: np.ndarray, plate: np.ndarray, masks: np.ndarray, noise: np.ndarray | float
) -> np.ndarray:
    """The frame without the colour that bled from bodies onto unchanged pixels.

    frame, plate: (H, W, 3) float32 in [0, 1]. masks: (H, W) in [0, 1], bodies with soft edges.
    noise: (H, W) or a number, deviation of frame - plate where nothing happens. Returns (H, W, 3)
    float32, the frame itself far from bodies; near them, where brightness is the plate's and
    changed pixels are beside it, the colour is the plate's as far as their colour, blurred,
    explains what there is. A change of colour alone, which has no such neighbours, stays, and so
    does a frame whose colour ends where its brightness does.
    """
    boxes = boxes_around(masks > NEAR_BODY, AROUND)
    found = [bled(frame[b.slices] - plate[b.slices], cropped(noise, b)) for b in boxes]
    expected, met = sum(f.expected for f in found), sum(f.met for f in found)
    least, most = HALVED
    halved = (met / expected - least) / (most - least) if expected else 0.0
    halved = min(max(halved, 0.0), 1.0)
    if halved == 0:
        return frame
    out = frame.copy()
    for box, f in zip(boxes, found, strict=True):
        outside = np.float32(halved) * (1 - smoothstep(masks[box.slices], *BODY))
        out[box.slices] -= grey(outside) * f.colour
    return out


@dataclass(frozen=True)
class Bled:
    """Colour that may have bled. colour: (H, W, 3) float32, what of the change it is.

    expected: sum of squares of the bleeding that halved colour gives. met: how much of it there is.
    """

    colour: np.ndarray
    expected: float
    met: float


def bled(change: np.ndarray, noise: np.ndarray | float) -> Bled:
    """What of a change (H, W, 3) is colour that bled over an outline."""
    size = np.abs(cv2.transform(change, LUMA[None]))
    colour = cv2.transform(change, COLOUR)
    least = np.maximum(NOISY * noise, RINGING * cv2.dilate(size, np.ones((5, 5), np.uint8)))
    changed = np.clip((size / least - 1) / CHANGED, 0, 1)
    around = cv2.GaussianBlur(changed, (0, 0), SIGMA)
    own = cv2.GaussianBlur(colour * repeated(changed, 2), (0, 0), SIGMA)
    spread = cv2.GaussianBlur(own * repeated(changed / np.maximum(around, 1e-3), 2), (0, 0), SIGMA)
    both, square, expected = (
        dot(a, b) for a, b in ((colour, spread), (colour, colour), (spread,) * 2)
    )
    beside = (1 - changed) * (1 - smoothstep(around, *INSIDE))
    share = beside * np.clip(both / np.maximum(square, 1e-8), 0, 1)
    removed = cv2.transform(colour * repeated(share, 2), BACK)
    return Bled(removed, float(np.vdot(beside, expected)), float(np.vdot(beside, both)))


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sum over the two channels of a product, (H, W)."""
    return cv2.transform(a * b, np.ones((1, 2), np.float32))

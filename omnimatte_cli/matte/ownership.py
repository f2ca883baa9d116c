"""Who owns each pixel's difference from the plate.

Given the plate, everything that an object adds to the picture is in the residual D = frame - plate.
What is left to say is whose each pixel of D is. An `Ownership` says it at working size, where it is
smooth; `shares` turns it into weights at full size with the help of the masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import Background, Size, at_frame

BLUR = 1.0  # sigma in working pixels of the claims' blur: layers are predicted a little off
NOBODY = 0.03  # claim of 'nobody', on the scale of a change summed over 3 channels (0 .. 3)
SILENT = 0.01  # added to every layer's claim, on that scale: where all are silent, none is right
OWNED = (0.47, 0.53)  # share of all claims that the objects need: none below, everything above
SHARPNESS = 2  # power of the claims in the split between objects: the larger one takes more
GRID_BLUR = 0.8  # sigma in working pixels of a blur after upsampling, against stairs
EDGE = 0.006  # sigma of a mask's soft edge, share of the picture's mean side: rough masks' error
BODY_CLAIM = 2.0  # claim of an object in its own body and just around it


@dataclass(frozen=True)
class Ownership:
    """Claims on the residual at working size.

    claims: (N, T, h, w) float16, 0 or more, any common scale.
    nobody: (T, h, w) or (1, 1, 1) float16, the claim of no object: noise, plate errors, strangers.
    """

    claims: np.ndarray
    nobody: np.ndarray

    def __post_init__(self) -> None:
        assert self.claims.ndim == 4 and self.nobody.ndim == 3, (
            self.claims.shape,
            self.nobody.shape,
        )


def claims_of(layer: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """A predicted layer's claim: how much it alone changes the plate, blurred.

    layer: (h, w, 4) float32 straight alpha; plate: (h, w, 3) float32; both in [0, 1].
    Returns (h, w) float32 on a scale of 0 .. 3.
    """
    change = layer[..., 3:] * (layer[..., :3] - plate)
    return cv2.GaussianBlur(np.abs(change).sum(2), (0, 0), BLUR)


def product(layers: Ownership, network: Ownership) -> Ownership:
    """Both opinions: the predicted layers and the ownership network say together who owns a change.

    Whether anyone does, the network says alone: after a few hundred steps of finetuning the layers
    miss faint effects, but know whose the others are.
    """
    say = (layers.claims.astype(np.float32) + SILENT) * network.claims
    owned = network.claims.sum(0, dtype=np.float32)
    claims = say * (owned / np.maximum(say.sum(0), 1e-9))
    return Ownership(claims.astype(np.float16), network.nobody)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below `low`, 1 above `high`, a cubic between."""
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True)
class FrameShares:
    """Who owns one full-size frame.

    weights: (N, H, W) float32 in [0, 1]; they sum to at most 1, the rest is nobody's.
    body: (N, H, W) float32 in [0, 1]: how surely a pixel is the object itself, 1 well inside its
    visible mask, falling to 0 at the mask's edge.
    edge: (N, H, W) float32 in [0, 1]: the mask with a soft edge, 0.5 on its outline.
    """

    weights: np.ndarray
    body: np.ndarray
    edge: np.ndarray


def shares(ownership: Ownership, t: int, masks: np.ndarray, order: np.ndarray) -> FrameShares:
    """Ownership weights of frame t at the size of its masks.

    masks: (N, H, W) bool; order: (N,) indices back to front. Where masks overlap the front object's
    counts. An object owns its own body and a narrow edge around it; nobody else does.
    """
    height, width = masks.shape[1:]
    size = (height, width)
    visible = masks.copy()
    for place, i in enumerate(order):
        for front in order[place + 1 :]:
            visible[i] &= ~masks[front]
    sigma = EDGE * (height * width) ** 0.5
    edge = np.stack([soft_edge(m, sigma) for m in visible])

    claims = np.stack([upsample(c, size) for c in ownership.claims[:, t]])
    nobody = at_frame(ownership.nobody, t)
    nobody = upsample(nobody, size) if nobody.size > 1 else nobody.astype(np.float32)
    # An object's claim is as large as its change; in and around its body it is certain.
    claims += BODY_CLAIM * smoothstep(edge, 0.1, 0.5)
    claims = np.where(visible.any(0), visible.astype(np.float32), claims)
    total = claims.sum(0)
    owned = smoothstep(total / np.maximum(total + nobody, 1e-6), *OWNED)
    split = claims**SHARPNESS
    weights = split * (owned / np.maximum(split.sum(0), 1e-6))
    return FrameShares(weights, smoothstep(edge, 0.5, 0.95), edge)


def soft_edge(mask: np.ndarray, sigma: float) -> np.ndarray:
    """A mask (H, W) bool blurred over its outline only, float32 in [0, 1]."""
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(sigma, 0.5))


def upsample(x: np.ndarray, size: Size) -> np.ndarray:
    """(h, w) float32 to (H, W), smooth enough to leave no trace of the working pixel grid."""
    height, width = size
    out = cv2.resize(x.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    sigma = GRID_BLUR * height / x.shape[0]
    if sigma > GRID_BLUR:
        out = cv2.GaussianBlur(out, (0, 0), sigma)
    return np.maximum(out, 0)


def working_plates(background: Background, size: Size, frames: int) -> np.ndarray:
    """The plate at working size, (1 or T, h, w, 3) uint8."""
    h, w = size
    count = 1 if background.moving is None else frames
    stream = background.stream()
    small = [cv2.resize(next(stream), (w, h), interpolation=cv2.INTER_AREA) for _ in range(count)]
    return np.stack(small)

"""From the video's encoded signal to scene-linear light, colours and layers.

A layer's alpha holds in the signal that it was estimated in: over the plate, the encoded colours
give the frame back. In linear light the same alpha would not, since a shadow that halves the signal
leaves about a fifth of the light. So alpha is converted as well, per pixel, by what the layer does
to the image below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from omnimatte_cli.errors import OptionError
from omnimatte_cli.matte.box import bounding_box

SIGNALS = 1 << 16  # signals told apart
DARKEST = np.float32(1e-5)  # linear light that counts as none
HLG_A, HLG_B, HLG_C = 0.17883277, 0.28466892, 0.55991073
PQ_M1, PQ_M2, PQ_C1, PQ_C2, PQ_C3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
PQ_WHITE = 100.0  # cd/m2 that become 1.0
PQ_PEAK = 10_000.0  # cd/m2 at signal 1


def _bt709(v: np.ndarray) -> np.ndarray:
    """Inverse of the camera's curve in ITU-R BT.709, item 1.2."""
    return np.where(v < 0.081, v / 4.5, ((np.maximum(v, 0) + 0.099) / 1.099) ** (1 / 0.45))


def _smpte240m(v: np.ndarray) -> np.ndarray:
    """Inverse of the camera's curve in SMPTE 240M."""
    return np.where(v < 0.0913, v / 4, ((np.maximum(v, 0) + 0.1115) / 1.1115) ** (1 / 0.45))


def _srgb(v: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1."""
    return np.where(v <= 0.04045, v / 12.92, ((np.maximum(v, 0) + 0.055) / 1.055) ** 2.4)


def _hlg(v: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, table 5: scene light in [0, 1]."""
    return np.where(v <= 0.5, v * v / 3, (np.exp((v - HLG_C) / HLG_A) + HLG_B) / 12)


def _pq(v: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100, table 4: display light, 1.0 for PQ_WHITE."""
    p = np.maximum(v, 0) ** (1 / PQ_M2)
    light = (np.maximum(p - PQ_C1, 0) / (PQ_C2 - PQ_C3 * p)) ** (1 / PQ_M1)
    return light * (PQ_PEAK / PQ_WHITE)


CURVES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "bt709": _bt709,
    "smpte170m": _bt709,
    "iec61966-2-4": _bt709,
    "smpte240m": _smpte240m,
    "bt2020-10": _bt709,
    "bt2020-12": _bt709,
    "iec61966-2-1": _srgb,
    "gamma22": lambda v: np.maximum(v, 0) ** 2.2,
    "gamma28": lambda v: np.maximum(v, 0) ** 2.8,
    "linear": lambda v: v,
    "arib-std-b67": _hlg,
    "smpte2084": _pq,
}


@functools.cache
def _table(transfer: str) -> np.ndarray:
    """Linear light of every 16-bit signal: a power a pixel would cost more than the file."""
    if transfer not in CURVES:
        raise OptionError(f"Colours with the transfer {transfer} cannot be made linear for EXR.")
    table = CURVES[transfer](np.arange(SIGNALS) / (SIGNALS - 1)).astype(np.float32)
    table.flags.writeable = False
    return table


def to_linear(signal: np.ndarray, transfer: str) -> np.ndarray:
    """Encoded colours, float in [0, 1] (clipped), to scene-linear float32, any shape.

    The signal is rounded to 16 bits. Raises OptionError for a transfer function without a known
    inverse.
    """
    steps = np.clip(signal, 0, 1) * np.float32(SIGNALS - 1) + np.float32(0.5)
    return np.take(_table(transfer), steps.astype(np.uint16))


def linear_layers(
    layers: np.ndarray, order: Sequence[int], plate: np.ndarray, transfer: str
) -> np.ndarray:
    """Premultiplied scene-linear layers whose `over` on the linear plate is the linear composite.

    layers: (N, H, W, 4) straight alpha, encoded. order: back to front. plate: (H, W, 3), encoded.
    Returns (N, H, W, 4) float32, colours multiplied by alpha. With B the linear image below a layer
    and F the one with it, F = colour + (1 - alpha) B. Alpha is the layer's own, raised where that
    is needed for a colour that is not negative: for a black layer it becomes the share of light
    that it takes away, 1 - F / B.
    """
    out = np.zeros(layers.shape, np.float32)
    image = np.array(plate, np.float32)
    for i in order:
        box = bounding_box(layers[i][..., 3] > 0)
        if box is None:
            continue
        layer, below = layers[i][box.slices], image[box.slices]
        alpha = layer[..., 3:]
        above = below + alpha * (layer[..., :3] - below)
        light, light_below = to_linear(above, transfer), to_linear(below, transfer)
        taken = 1 - np.min(light / np.maximum(light_below, DARKEST), axis=-1, keepdims=True)
        raised = np.where(alpha > 0, np.clip(np.maximum(alpha, taken), 0, 1), 0)
        # Rounding leaves traces of colour where there is no alpha, and of negative colour.
        colour = np.maximum(light - (1 - raised) * light_below, 0) * (alpha > 0)
        out[i][box.slices] = np.concatenate([colour, raised], axis=-1)
        image[box.slices] = above
    return out

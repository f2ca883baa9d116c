"""Extend a layer's colours under alpha 0, for codecs and scalers that mix neighbouring pixels."""

from __future__ import annotations

import cv2
import numpy as np

SEEN = np.float32(1 / 510)  # below half an 8-bit step of alpha the colour is free
COARSE = 4  # pixels of the layer to one of the first level: edges need no finer colours
REACH = 64  # pixels beyond what is seen: the largest block of the codecs
SOLID = np.float32(1e-3)  # weight from which a cell has a colour of its own


def pull_push(rgba: np.ndarray) -> np.ndarray:
    """A straight-alpha layer with smooth colours where alpha is under SEEN; alpha as it was.

    rgba: (H, W, 4) float32. Colours reach REACH pixels beyond the box of what is seen; where
    nothing is, the layer is returned as it is.
    Pull-push interpolation: Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.
    """
    seen = rgba[..., 3] >= SEEN
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not rows.size:
        return rgba
    box = (
        slice(max(0, rows[0] - REACH), rows[-1] + 1 + REACH),
        slice(max(0, columns[0] - REACH), columns[-1] + 1 + REACH),
    )
    out = rgba.copy()
    layer, seen = out[box], seen[box][..., None]
    height, width = layer.shape[:2]
    weighted = layer * (layer[..., 3:] * seen)
    weighted[..., 3:] = layer[..., 3:] * seen
    coarse = (max(1, width // COARSE), max(1, height // COARSE))
    filled = _fill(cv2.resize(weighted, coarse, interpolation=cv2.INTER_AREA))
    colours = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    np.copyto(layer[..., :3], colours, where=~seen)
    return out


def _fill(weighted: np.ndarray) -> np.ndarray:
    """Colours (h, w, 3) of premultiplied (h, w, 4); where there are none, of coarser levels."""
    height, width = weighted.shape[:2]
    alpha = weighted[..., 3:]
    own = weighted[..., :3] / np.maximum(alpha, SOLID)
    if min(height, width) == 1 and max(height, width) == 1:
        return own
    half = ((width + 1) // 2, (height + 1) // 2)
    coarser = _fill(cv2.resize(weighted, half, interpolation=cv2.INTER_AREA))
    below = cv2.resize(coarser, (width, height), interpolation=cv2.INTER_LINEAR)
    trust = np.minimum(alpha / SOLID, 1)
    return below + trust * (own - below)

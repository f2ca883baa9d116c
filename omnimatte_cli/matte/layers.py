"""From the ownership of a clip to the layers of any of its frames at full size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from omnimatte_cli.arrays import Masks, to_float
from omnimatte_cli.matte.ownership import Ownership, frame_weights
from omnimatte_cli.matte.resolve import Layers, resolve_frame

MasksAt = Callable[[int], np.ndarray]  # (N, H, W) float32 in [0, 1]


def resolver(
    ownership: Ownership,
    masks: Masks,
    noise: np.ndarray,
    exact_layers: bool = False,
    agreed: MasksAt | None = None,
) -> Callable[[int, np.ndarray, np.ndarray], Layers]:
    """How frame t's layers are made of its frame and its plate, both (H, W, 3) uint8.

    ownership: of the whole clip at working size. noise: (H, W) float32, the residual's deviation
    where nothing happens, in [0, 1]. exact_layers: explain every pixel by itself. agreed: what the
    masks of neighbouring frames say together; None: each frame's own.
    """

    def layers_at(t: int, frame: np.ndarray, plate: np.ndarray) -> Layers:
        own = masks.frame(t)
        weights = frame_weights(ownership, t, own, masks.order[t])
        bodies = own if agreed is None else agreed(t)
        order = masks.order[t]
        return resolve_frame(
            to_float(frame), to_float(plate), weights, order, noise, exact_layers, bodies
        )

    return layers_at

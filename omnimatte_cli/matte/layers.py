"""From the ownership of a clip to the layers of any of its frames at full size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from omnimatte_cli.arrays import Masks
from omnimatte_cli.matte.ownership import Ownership, frame_weights
from omnimatte_cli.matte.resolve import FrameLayers, resolve_frame


def resolver(
    ownership: Ownership, masks: Masks, noise: np.ndarray
) -> Callable[[int, np.ndarray, np.ndarray], FrameLayers]:
    """How frame t's layers are made of its frame and its plate, both (H, W, 3) uint8.

    ownership: of the whole clip at working size. noise: (H, W) float32, the residual's deviation
    where nothing happens, in [0, 1].
    """

    def layers_at(t: int, frame: np.ndarray, plate: np.ndarray) -> FrameLayers:
        weights = frame_weights(ownership, t, masks.frame(t), masks.order[t])
        return resolve_frame(frame, plate, weights, masks.order[t], noise)

    return layers_at

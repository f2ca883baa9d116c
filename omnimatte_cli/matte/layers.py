"""From the ownership of a clip to the layers of any of its frames at full size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from omnimatte_cli.arrays import ALPHABETICAL, Masks, Size, to_float
from omnimatte_cli.matte.blur import enlarged
from omnimatte_cli.matte.box import Box
from omnimatte_cli.matte.ownership import Ownership, frame_weights, owned_part
from omnimatte_cli.matte.passes import PASSES
from omnimatte_cli.matte.resolve import REACH_PIXELS, Layers, resolve_frame
from omnimatte_cli.scratch import EVERY, release
from omnimatte_cli.settings import SolveSettings

AROUND = 0.05  # of the picture's mean side: what is computed around what may be owned


def resolver(
    ownership: Ownership,
    masks: Masks,
    noise: np.ndarray,
    solve: SolveSettings | None = None,
    doubts: np.ndarray | None = None,
) -> Callable[[int, np.ndarray, np.ndarray], Layers]:
    """How frame t's layers are made of its frame and its plate, both (H, W, 3).

    ownership: of the whole clip at working size. noise: (H, W) float32, the residual's deviation
    where nothing happens, in [0, 1]. solve: how layers are made; None: as usual. doubts:
    (T, h, w, 2) uint8, those of the plates.
    """

    solve = solve or SolveSettings()
    # Who is before whom must be known: alphabets guess.
    go_on = solve.continue_hidden and masks.order_source != ALPHABETICAL
    height, width = masks.size
    side = float(np.sqrt(height * width))
    margin = round(AROUND * side) + REACH_PIXELS

    def layers_at(t: int, frame: np.ndarray, plate: np.ndarray) -> Layers:
        own, order = masks.frame(t), masks.order[t]
        if t % EVERY == 0:
            release(ownership.weights, ownership.unowned, *([] if doubts is None else [doubts]))
        rgba = np.zeros((len(own), height, width, 4), np.float32)
        box = owned_part(ownership, t, own, margin)
        if box is None:
            return Layers(
                rgba, lambda: np.zeros((len(own), len(PASSES), height, width, 4), np.float32)
            )
        part = box.slices
        weights = frame_weights(ownership, t, own, order, box)
        bodies = own[:, box.rows, box.columns]
        doubt = None if doubts is None else to_float(enlarged(doubts[t], masks.size)[part])
        found = resolve_frame(
            to_float(frame[part]),
            to_float(plate[part]),
            weights,
            order,
            noise[part],
            solve.exact_layers,
            bodies,
            side,
            doubt,
            go_on,
        )
        rgba[:, box.rows, box.columns] = found.rgba
        return Layers(rgba, lambda: placed(found, box, masks.size), box)

    return layers_at


def placed(part: Layers, box: Box, size: Size) -> np.ndarray:
    """The passes of a part of a picture in the whole, (N, 3, H, W, 4)."""
    assert part.passes is not None
    passes = np.zeros((*part.passes.shape[:2], *size, 4), np.float32)
    passes[:, :, box.rows, box.columns] = part.passes
    return passes

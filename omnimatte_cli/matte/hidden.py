"""What bodies in front hide of the layers behind them.

An object does not end where another passes before it, nor does its shadow where somebody stands in
it: whoever takes the other away wants to see it go on, and not a hole of that shape. What is there
is not known, so it is continued smoothly from around. Only what is covered is changed, so that the
layers over the plate make the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from omnimatte_cli.matte.blur import carried, enlarged, reduced
from omnimatte_cli.matte.compositing import repeated
from omnimatte_cli.matte.ownership import smoothstep

COVERED = (0.8, 0.98)  # alpha in front: a layer stays as it is .. is continued
SEEN = (0.02, 0.3)  # alpha in front: what is behind is known .. is not
THERE = (0.01, 0.03)  # alpha: nothing .. something
# Share of the surroundings that have something: nothing behind .. all.
EFFECT_WITHIN = (0.4, 0.7)
BODY_WITHIN = (0.7, 0.95)  # a smear on one side of what covers it looks worse than its edge
KNOWN = 4.0  # times its weight that a cell is believed against coarser ones
GRID = 320  # pixels of a side, of a grid that is fine enough for what is filled


def continued(
    planes: Sequence[np.ndarray], known: np.ndarray, front: np.ndarray, around: tuple[float, float]
) -> list[np.ndarray]:
    """A premultiplied layer that goes on behind what covers it, in a part of a picture.

    planes: alpha (H, W) float32 first, then what goes with it, (H, W) or (H, W, 3). known: (H, W)
    in [0, 1], where it was seen. front: (H, W) in [0, 1], alpha of the bodies before it. around:
    share of the surroundings, as above. Returns the planes: nothing changes but where `front` is
    nearly 1.
    """
    covered = smoothstep(front, *COVERED)
    shape, less = covered.shape, max(1, min(covered.shape) // GRID)
    free = known * (1 - smoothstep(front, *SEEN))
    seen = reduced(free, less)

    def mean_seen(plane: np.ndarray) -> np.ndarray:
        """What a cell shows of a plane where it is seen: the rest is no part of it."""
        channels = 1 if plane.ndim == 2 else plane.shape[2]
        sums = reduced(plane * repeated(free, channels), less)
        return sums / repeated(np.maximum(seen, 1e-6), channels)

    small = [mean_seen(plane) for plane in planes]
    there = smoothstep(small[0], *THERE)
    within = smoothstep(carried(there, seen, KNOWN), *around)
    if not (within * reduced(covered, less)).any():
        return list(planes)
    out = []
    for plane, few in zip(planes, small, strict=True):
        channels = 1 if few.ndim == 2 else few.shape[2]
        behind = carried(few, seen * there, KNOWN) * repeated(within, channels)
        out.append(plane + repeated(covered, channels) * (enlarged(behind, shape) - plane))
    return out

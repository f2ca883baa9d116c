"""What bodies in front hide of the layers behind them.

An object does not end where another passes before it, nor does its shadow where somebody stands in
it: whoever takes the other away wants to see it go on, and not a hole of that shape. What is there
is taken from frames in which it was seen, moved as the object did, as far as what is seen now
agrees with it; else it is continued smoothly from around. Only what is covered is changed, so that
the layers over the plate make the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
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
SMALL = 170  # cells of a picture's mean side, by which frames are compared
OFF = 0.8  # sigma in such cells of a blur before, as motions and outlines are a little off
DIFFERS = (0.2, 0.3)  # colour and alpha, of a body that was moved: believed .. not
EFFECT_DIFFERS = (0.3, 0.7)  # the same of an effect, as shares of its alpha
FAINT = 0.03  # alpha: to a fainter effect differences are compared as if it were this strong
FREE = (0.7, 0.98)  # share of a moved pixel that was seen: nothing is known of it .. all
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


@dataclass(frozen=True)
class Moved:
    """An object of another frame, moved to where it is now, in a part of a picture; float32.

    body: (H, W, 4), effect: (H, W, 4), premultiplied colour and alpha. mirror: (H, W). free: (H, W)
    in [0, 1], where nothing was before it there. ground: (H, W), where besides no body was at all.
    belief: in [0, 1], how sure the motion is.
    """

    body: np.ndarray
    effect: np.ndarray
    mirror: np.ndarray
    free: np.ndarray
    ground: np.ndarray
    belief: float


def difference(
    here: np.ndarray, there: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How far two layers (h, w, 4) differ, premultiplied, where they are known, and how much tells.

    known: (h, w) in [0, 1]. Returns (h, w) in [0, 1] twice; only where there is something in one of
    them, anything is told.
    """
    off = cv2.GaussianBlur((here - there) * repeated(known, 4), (0, 0), OFF)
    off = off / repeated(np.maximum(cv2.GaussianBlur(known, (0, 0), OFF), 0.05), 4)
    size = np.sqrt(np.square(off).sum(2))
    return np.minimum(size, 1), known * np.maximum(here[..., 3], there[..., 3])


def believed_body(here: np.ndarray, there: Moved, seen: np.ndarray, less: int) -> np.ndarray:
    """How far a moved body is believed where it is hidden now, (H, W) in [0, 1].

    here: (H, W, 4), the body as it is seen, premultiplied colour and alpha. seen: (H, W) in [0, 1],
    where it is. less: pixels of a cell's side, in which both are compared.
    """
    free = smoothstep(there.free, *FREE)
    known = seen * free
    some = reduced(known, less)
    whole = repeated(np.maximum(some, 0.05), 4)
    a, b = (reduced(x * repeated(known, 4), less) / whole for x in (here, there.body))
    differ, told = difference(a, b, some)
    trust = 1 - smoothstep(carried(differ, np.minimum(told, 1), KNOWN), *DIFFERS)
    return there.belief * free * enlarged(trust, seen.shape)


def believed_effect(here: np.ndarray, there: Moved, seen: np.ndarray, less: int) -> np.ndarray:
    """The same for the effect: seen is where no body is."""
    free = smoothstep(there.ground, *FREE)
    known = seen * free
    some = np.maximum(reduced(known, less), 1e-3)
    a, b = (reduced(x * repeated(known, 4), less) / repeated(some, 4) for x in (here, there.effect))
    off, size = np.abs(a - b), np.maximum(a[..., 3], b[..., 3])
    differ = off[..., 3] + off[..., :3].mean(2)
    told = reduced(known, less) * smoothstep(size, *THERE)
    both = carried(cv2.merge([differ, size]), told, KNOWN)
    share = both[..., 0] / np.maximum(both[..., 1], FAINT)
    return there.belief * free * enlarged(1 - smoothstep(share, *EFFECT_DIFFERS), seen.shape)


def put_behind(
    planes: Sequence[np.ndarray],
    layers: Sequence[tuple[Sequence[np.ndarray], np.ndarray]],
    front: np.ndarray,
) -> list[np.ndarray]:
    """Planes (H, W) or (H, W, 3) with what was moved to where a front (H, W) in [0, 1] covers them.

    layers: moved planes like these, and how far they are believed (H, W), best first.
    """
    covered = smoothstep(front, *COVERED)
    out, left = list(planes), covered
    for moved, trust in layers:
        share = left * trust
        for k, plane in enumerate(moved):
            channels = 1 if plane.ndim == 2 else plane.shape[2]
            out[k] = out[k] + repeated(share, channels) * (plane - planes[k])
        left = left - share
    return out

"""From the ownership of a clip to the layers of any of its frames at full size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from omnimatte_cli.arrays import ALPHABETICAL, Masks, Size, to_float
from omnimatte_cli.matte.blur import enlarged, enlarged_mask
from omnimatte_cli.matte.bodies import CutOut, margin_of
from omnimatte_cli.matte.box import Box, bounding_box
from omnimatte_cli.matte.elsewhere import Clip, references
from omnimatte_cli.matte.hidden import Moved
from omnimatte_cli.matte.kept import kept_within
from omnimatte_cli.matte.missed import REACH as MISSED_REACH
from omnimatte_cli.matte.missed import missed_parts
from omnimatte_cli.matte.ownership import FrameWeights, Ownership, frame_weights, owned_part
from omnimatte_cli.matte.parts import Solved
from omnimatte_cli.matte.passes import PASSES
from omnimatte_cli.matte.resolve import REACH_PIXELS, Layers, resolve_frame, solve_parts
from omnimatte_cli.scratch import EVERY, release
from omnimatte_cli.settings import SolveSettings

HELD = 3  # surroundings of objects that are kept, to show what is hidden in other frames,
HELD_BYTES = 192 << 20  # and more of them where they are small
AROUND = 0.05  # of the picture's mean side: what is computed around what may be owned


def resolver(
    ownership: Ownership,
    masks: Masks,
    noise: np.ndarray,
    solve: SolveSettings | None = None,
    doubts: np.ndarray | None = None,
    clip: Clip | None = None,
    again: Callable[[int], tuple[np.ndarray, np.ndarray]] | None = None,
    strangers: np.ndarray | None = None,
    *,
    cut_out: CutOut,
) -> Callable[[int, np.ndarray, np.ndarray], Layers]:
    """How frame t's layers are made of its frame and its plate, both (H, W, 3).

    ownership: of the whole clip at working size. noise: (H, W) float32, the residual's deviation
    where nothing happens, in [0, 1]. solve: how layers are made; None: as usual. doubts:
    (T, h, w, 2) uint8, those of the plates. clip: where frames are looked for that show what is
    hidden in others; None: nowhere. again: the picture and the plate of a frame that it keeps.
    strangers: (S, T, h, w) bool, movers without a mask; None: nobody looked for any, and what masks
    leave out of their bodies is not looked for either. cut_out: finds bodies in masks.
    """
    solve = solve or SolveSettings()
    # Who is before whom must be known: alphabets guess.
    go_on = solve.continue_hidden and masks.order_source != ALPHABETICAL
    height, width = masks.size
    side = float(np.sqrt(height * width))
    margin = max(round(AROUND * side) + REACH_PIXELS, margin_of(side))

    search = references(clip) if go_on and clip is not None and not solve.exact_layers else None

    def grown(
        t: int, frame: np.ndarray, plate: np.ndarray, box: Box, owners: FrameWeights, beyond: float
    ) -> np.ndarray | None:
        """Masks of frame t, (N, H, W) bool, with what they leave out; None where that is nothing.

        beyond: what is owned outside of the box, 0 or 1.
        """
        if strangers is None:
            return None
        wide = box.grown(round(MISSED_REACH * side), masks.size)
        owned = np.full(frame[wide.slices].shape[:2], beyond, np.float32)
        owned[box.seen_from(wide).slices] = owners.weights.sum(0)
        own, part, somebody = masks.frame(t), wide.slices, None
        if strangers[:, t].any():
            somebody = enlarged_mask(np.asarray(strangers[:, t].any(0)), masks.size)[part]
        pictures = to_float(frame[part]), to_float(plate[part])
        inside = own[:, wide.rows, wide.columns]
        missed = missed_parts(*pictures, owned, inside, noise[part], side, somebody)
        if not missed.any():
            return None
        own = own.copy()
        own[:, wide.rows, wide.columns] |= missed
        return own

    def inputs(
        t: int, frame: np.ndarray, plate: np.ndarray, box: Box, beyond: float
    ) -> tuple[Box, dict[str, Any]]:
        """What is solved of a part of frame t, and that part, which grows as masks do."""
        own, order = masks.frame(t), masks.order[t]
        owners = frame_weights(ownership, t, own, order, box)
        more = grown(t, frame, plate, box, owners, beyond)
        if more is not None:
            own = more
            box = box.around(bounding_box(np.asarray(own.any(0)), margin) or box)
            owners = frame_weights(ownership, t, own, order, box)
        part = box.slices
        return box, {
            "frame": to_float(frame[part]),
            "plate": to_float(plate[part]),
            "owners": owners,
            "order": order,
            "noise": noise[part],
            "masks": own[:, box.rows, box.columns],
            "side": side,
            "doubt": None if doubts is None else to_float(enlarged(doubts[t], masks.size)[part]),
        }

    def solve_around(i: int, s: int) -> tuple[Box, Solved] | None:
        """What frame s shows around object i, and in which part of the picture."""
        box = None if clip is None else clip.place(i, s, margin)
        if box is None or again is None:
            return None
        box, given = inputs(s, *again(s), box, 1)
        return box, solve_parts(**given, cut_out=cut_out)[1]

    solved = kept_within(HELD_BYTES, HELD, solve_around)

    def layers_at(t: int, frame: np.ndarray, plate: np.ndarray) -> Layers:
        own = masks.frame(t)
        if t % EVERY == 0:
            release(ownership.weights, ownership.unowned, *([] if doubts is None else [doubts]))
            release(*([] if clip is None else [clip.frames, clip.masks]))
        rgba = np.zeros((len(own), height, width, 4), np.float32)
        box = owned_part(ownership, t, own, margin)
        if box is None:
            return Layers(
                rgba, lambda: np.zeros((len(own), len(PASSES), height, width, 4), np.float32)
            )

        box, given = inputs(t, frame, plate, box, 0)

        def elsewhere(i: int, part: Box) -> list[Moved]:
            """What other frames show of object i in this part of the picture's part."""
            found = []
            for reference in search(i, t) if search is not None else ():
                there = solved(i, reference.frame)
                if there is not None:
                    place, objects = there
                    target = part.within(box)
                    found.append(objects.moved(i, place, reference, target, masks.size))
            return [x for x in found if x is not None]

        found = resolve_frame(
            **given,
            exact_layers=solve.exact_layers,
            continue_hidden=go_on,
            elsewhere=elsewhere,
            cut_out=cut_out,
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

"""An object of a frame in parts, body and effect, which go on behind the bodies before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.matte.box import Box
from omnimatte_cli.matte.compositing import grey, straight
from omnimatte_cli.matte.effects import Effect
from omnimatte_cli.matte.elsewhere import Reference
from omnimatte_cli.matte.hidden import (
    BODY_WITHIN,
    COVERED,
    EFFECT_WITHIN,
    SEEN,
    SMALL,
    Moved,
    believed_body,
    believed_effect,
    continued,
    put_behind,
)
from omnimatte_cli.matte.ownership import smoothstep


@dataclass(frozen=True)
class Body:
    """A body in the part of a picture outside of which there is nothing of it.

    light: (h, w, 3), premultiplied colour. alpha: (h, w). Both float32, in `box`.
    """

    box: Box
    light: np.ndarray
    alpha: np.ndarray


Part = tuple[Box, Effect, Body | None]  # of a picture, and an object in it

Elsewhere = Callable[[int, Box], Sequence[Moved]]  # an object's, in a part of a picture, best first


@dataclass(frozen=True)
class Solved:
    """What is seen of the objects in a picture, or in a part of it.

    order: (N,) back to front. ground: (H, W) in [0, 1], where no body is.
    """

    parts: dict[int, Part]
    order: np.ndarray
    ground: np.ndarray

    def fronts(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every object that is there, front to back, and the largest alpha of the bodies before it.

        That is (H, W) float32, and changes with the next one.
        """
        front = np.zeros(self.ground.shape, np.float32)
        for i in (i for i in self.order[::-1].tolist() if i in self.parts):
            yield i, front
            box, _, body = self.parts[i]
            if body is not None:
                there = front[box.slices][body.box.slices]
                np.maximum(there, body.alpha, out=there)

    def moved(
        self, i: int, place: Box, reference: Reference, target: Box, size: Size
    ) -> Moved | None:
        """Object i as a motion moves it to a part of another frame; None where it is not there.

        place: of what is solved, in a picture of this size. reference: from the other frame to this
        one. target: the part of the other frame.
        """
        motion = reference.motion
        if i not in self.parts:
            return None
        h, w = (x.stop - x.start for x in target.slices)
        corners = np.array([[0, 0, 1], [w, 0, 1], [0, h, 1], [w, h, 1]], float)
        corners[:, :2] += target.columns.start, target.rows.start
        ends = corners @ motion.T
        (left, top), (right, bottom) = np.floor(ends.min(0)) - 2, np.ceil(ends.max(0)) + 3
        source = Box(
            slice(*np.clip([top, bottom], 0, size[0]).astype(int)),
            slice(*np.clip([left, right], 0, size[1]).astype(int)),
        )
        around = source.rows.stop - source.rows.start, source.columns.stop - source.columns.start
        if min(around) < 1:
            return None
        offset = motion[:, :2] @ (target.columns.start, target.rows.start) + motion[:, 2]
        near = np.column_stack([motion[:, :2], offset - (source.columns.start, source.rows.start)])
        box, effect, body = self.parts[i]

        def warped(x: np.ndarray, at: Box) -> np.ndarray:
            """What a part of the picture shows in the target; 0 where nobody looked."""
            whole = np.zeros((*around, *x.shape[2:]), np.float32)
            shared = at.shared(source)
            whole[shared.seen_from(source).slices] = x[shared.seen_from(at).slices]
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            return cv2.warpAffine(whole, near, (w, h), flags=how)

        spot = box.within(place)
        free = next(warped(1 - front, place) for k, front in self.fronts() if k == i)
        seen = Moved(
            np.zeros((h, w, 4), np.float32),
            warped(cv2.merge([effect.light, effect.alpha]), spot),
            warped(effect.mirror, spot),
            free,
            warped(self.ground, place),
            reference.belief,
        )
        if body is not None:
            layer = cv2.merge([body.light, body.alpha])
            seen.body[:] = warped(layer, body.box.within(spot))
        return seen


def lay_down(layer: np.ndarray, effect: Effect, body: Body | None) -> None:
    """Write a body over its effect into a layer (H, W, 4), straight alpha, both parts of it."""
    if effect.box is not None:
        lit = effect.box.slices
        layer[lit] = straight(effect.light[lit], effect.alpha[lit])
    if body is not None:
        solid = body.box.slices
        through = 1 - body.alpha
        layer[solid] = straight(
            body.light + grey(through) * effect.light[solid],
            body.alpha + through * effect.alpha[solid],
        )


def behind_others(
    found: Solved, side: float, elsewhere: Elsewhere | None = None
) -> dict[int, Part]:
    """The objects that bodies before them hide in part, and go on behind them.

    side: mean side of the picture that these are part of, in pixels. elsewhere: what other frames
    show of an object in a part of this picture.
    """
    out: dict[int, Part] = {}
    less = max(1, round(side / SMALL))
    for i, front in found.fronts():
        box, effect, body = found.parts[i]
        before = front[box.slices]
        if before.max() > COVERED[0]:
            more = elsewhere(i, box) if elsewhere is not None else ()
            out[i] = box, *behind(effect, body, found.ground[box.slices], before, more, less)
    return out


def behind(
    effect: Effect,
    body: Body | None,
    ground: np.ndarray,
    front: np.ndarray,
    more: Sequence[Moved],
    less: int,
) -> tuple[Effect, Body | None]:
    """An object that goes on behind bodies with this alpha (H, W), in a part of a picture.

    An effect is known on the ground alone, a body wherever nothing is before it. more: what other
    frames show. less: pixels of a cell's side, in which they are compared.
    """
    shape = front.shape
    everywhere = Box.whole(shape)
    seen = 1 - smoothstep(front, *SEEN)
    if effect.box is not None or any(x.effect[..., 3].any() for x in more):
        planes = effect.alpha, effect.light, effect.mirror
        here = cv2.merge([effect.light, effect.alpha])
        layers = [
            (
                (x.effect[..., 3], x.effect[..., :3], x.mirror),
                believed_effect(here, x, ground * seen, less),
            )
            for x in more
        ]
        smooth = continued(planes, ground, front, EFFECT_WITHIN)
        dark, glow, mirror = put_behind(smooth, layers, front)
        effect = Effect(dark, glow, mirror, everywhere)
    if body is not None:
        alpha, light = np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32)
        alpha[body.box.slices], light[body.box.slices] = body.alpha, body.light
        here = cv2.merge([light, alpha])
        bodies = [
            ((x.body[..., 3], x.body[..., :3]), believed_body(here, x, seen, less)) for x in more
        ]
        smooth = continued((alpha, light), np.ones(shape, np.float32), front, BODY_WITHIN)
        alpha, light = put_behind(smooth, bodies, front)
        body = Body(everywhere, light, alpha)
    return effect, body

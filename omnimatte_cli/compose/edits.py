"""What may be changed in a composition, as pure functions on options, time, geometry and layers.

An edit names an object; together they become a list of appearances, which is all that rendering
knows: which object, at which of its frames, where, how large, how visible, in which colours.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from omnimatte_cli.errors import OptionError
from omnimatte_cli.settings import parse_colour

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
EMPTY = 2 / 255  # alpha below which a layer holds nothing that stands anywhere
SAME_PLACE = 1e-3  # pixels: a smaller shift is none


@dataclass(frozen=True)
class Edits:
    """The user's wishes by object name; see `omnimatte compose --help` for their meaning."""

    remove: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    offset: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    delay: Mapping[str, int] = field(default_factory=dict)
    speed: Mapping[str, float] = field(default_factory=dict)
    freeze: Mapping[str, int] = field(default_factory=dict)
    strobe: Mapping[str, int] = field(default_factory=dict)
    opacity: Mapping[str, float] = field(default_factory=dict)
    shadow: Mapping[str, float] = field(default_factory=dict)
    color: Mapping[str, str] = field(default_factory=dict)
    duplicate: tuple[tuple[str, float, float, int], ...] = ()

    @property
    def any(self) -> bool:
        """Whether anything is changed at all."""
        return self != Edits()

    def named(self) -> list[tuple[str, str]]:
        """(option, object name) of every edit."""
        pairs = [("remove", n) for n in self.remove] + [("only", n) for n in self.only]
        for option in MAPPINGS:
            pairs += [(option, n) for n in getattr(self, option)]
        return pairs + [("duplicate", d[0]) for d in self.duplicate]


MAPPINGS = ("offset", "scale", "delay", "speed", "freeze", "strobe", "opacity", "shadow", "color")


@dataclass(frozen=True)
class Appearance:
    """One showing of an object.

    shift: canvas pixels right and down. scale: about the feet. delay: frames later. speed: frames
    of the object a frame of the result. freeze: the one frame shown. strobe: every so many frames
    the object leaves a still image of itself. shadow: factor of its effects' alpha.
    """

    name: str
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    delay: int = 0
    speed: float = 1.0
    freeze: int | None = None
    strobe: int | None = None
    opacity: float = 1.0
    shadow: float = 1.0
    color: str | None = None

    def sources(self, t: int, frames: int) -> tuple[int, ...]:
        """The object's frames that are shown in frame t of the result, the oldest first."""
        moments = list(range(0, t, self.strobe)) if self.strobe else []
        found = []
        for moment in [*moments, t]:
            if moment < self.delay:
                continue
            at = (moment - self.delay) * self.speed if self.freeze is None else self.freeze
            source = math.floor(at + 1e-9)
            if 0 <= source < frames and source not in found:
                found.append(source)
        return tuple(found)


def plan(edits: Edits, names: Sequence[str], frames: int) -> tuple[Appearance, ...]:
    """Appearances in the order of `names`, copies just before (so: behind) their originals.

    Raises OptionError for a name that no object has, a frame that the clip has not, and an edit
    that cannot act.
    """
    for option, name in edits.named():
        check_name(option, name, names)
    for name, frame in edits.freeze.items():
        if not 0 <= frame < frames:
            raise OptionError(f"--freeze {name}:{frame}: the frames are 0 to {frames - 1}.")
    both = sorted(set(edits.remove) & set(edits.only))
    if both:
        raise OptionError(f"--remove {both[0]} contradicts --only {both[0]}.")
    check_acts(edits)
    found = []
    for name in names:
        if name in edits.remove or (edits.only and name not in edits.only):
            continue
        appearance = Appearance(
            name,
            edits.offset.get(name, (0.0, 0.0)),
            edits.scale.get(name, 1.0),
            edits.delay.get(name, 0),
            edits.speed.get(name, 1.0),
            edits.freeze.get(name),
            edits.strobe.get(name),
            edits.opacity.get(name, 1.0),
            edits.shadow.get(name, 1.0),
            edits.color.get(name),
        )
        for other, dx, dy, delay in edits.duplicate:
            if other == name:
                x, y = appearance.shift
                shift = (x + dx, y + dy)
                found.append(replace(appearance, shift=shift, delay=appearance.delay + delay))
        found.append(appearance)
    return tuple(found)


def check_acts(edits: Edits) -> None:
    """Raise OptionError for an edit of what is not shown, and for edits that exclude each other."""
    shown = set(edits.only)
    for option, name in edits.named():
        if option in ("remove", "only"):
            continue
        if name in edits.remove or (shown and name not in shown):
            why = "--remove takes it away" if name in edits.remove else "--only leaves it out"
            raise OptionError(f"--{option} {name} has nothing to act on: {why}.")
    both = sorted(set(edits.freeze) & set(edits.speed))
    if both:
        raise OptionError(f"--freeze {both[0]} contradicts --speed {both[0]}.")


def check_name(option: str, name: str, names: Sequence[str]) -> None:
    """Raise OptionError, with the names that there are, if no object is called `name`."""
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise OptionError(
        f"--{option}: there is no object {name!r} in this result; it has {', '.join(names)}.{hint}"
    )


# ------------------------------------------------------------------------------------ on layers


def placement(
    appearance: Appearance,
    source: int,
    t: int,
    homographies: np.ndarray | None,
    feet: tuple[float, float] | None,
) -> np.ndarray:
    """Where a layer of frame `source` stands in frame t: (3, 3), pixels to pixels.

    The layer is taken to the canvas, scaled about its feet and moved there, and taken to frame t:
    so a copy stays on the ground before a moving camera. feet: (x, y) in frame `source`.
    """
    to_canvas = np.eye(3) if homographies is None else homographies[source]
    from_canvas = np.eye(3) if homographies is None else np.linalg.inv(homographies[t])
    edit = np.eye(3)
    if appearance.scale != 1.0 and feet is not None:
        x, y, w = to_canvas @ np.array([*feet, 1.0])
        edit[0, 0] = edit[1, 1] = appearance.scale
        edit[:2, 2] = np.array([x / w, y / w]) * (1 - appearance.scale)
    edit[:2, 2] += appearance.shift
    matrix = from_canvas @ edit @ to_canvas
    return matrix / matrix[2, 2]


def place(rgba: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """A straight-alpha layer (H, W, 4) moved by a homography; what leaves the frame is cut off."""
    height, width = rgba.shape[:2]
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float64)
    shift = cv2.perspectiveTransform(corners, matrix) - corners
    if np.abs(shift).max() < SAME_PLACE:
        return rgba
    if np.abs(shift - np.round(shift[0, 0])).max() < SAME_PLACE:
        dx, dy = (int(v) for v in np.round(shift[0, 0]))
        return moved(rgba, dx, dy)
    premultiplied = rgba.copy()
    premultiplied[..., :3] *= rgba[..., 3:]
    out = cv2.warpPerspective(premultiplied, matrix, (width, height), flags=cv2.INTER_LINEAR)
    alpha = out[..., 3:]
    out[..., :3] = np.clip(out[..., :3] / np.maximum(alpha, 1e-6), 0, 1) * (alpha > 0)
    return out


def moved(rgba: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """A layer moved by whole pixels, exactly."""
    height, width = rgba.shape[:2]
    out = np.zeros_like(rgba)
    rows, columns = _overlap(dy, height), _overlap(dx, width)
    out[rows[1], columns[1]] = rgba[rows[0], columns[0]]
    return out


def _overlap(shift: int, length: int) -> tuple[slice, slice]:
    """The part of a line that stays inside when it is shifted: where it was, and where it is."""
    shift = max(-length, min(length, shift))
    return (
        slice(max(0, -shift), length - max(0, shift)),
        slice(max(0, shift), length + min(0, shift)),
    )


def recolored(rgba: np.ndarray, color: str | None) -> np.ndarray:
    """A layer in grey ("gray"), or in shades of one colour ("#RRGGBB"), of the same luma."""
    if color is None:
        return rgba
    tint = np.ones(3, np.float32)
    if color != "gray":
        tint = np.array(parse_colour("color", color), np.float32)
    out = rgba.copy()
    out[..., :3] = np.clip((rgba[..., :3] @ LUMA)[..., None] * tint, 0, 1)
    return out


def weakened_effects(rgba: np.ndarray, body: np.ndarray, factor: float) -> np.ndarray:
    """A layer whose alpha outside the body is multiplied by `factor`.

    body: (H, W) in [0, 1], how much of a pixel's alpha is the object itself.
    """
    out = rgba.copy()
    out[..., 3] = np.clip(rgba[..., 3] * (body + factor * (1 - body)), 0, 1)
    return out


def feet_of(rgba: np.ndarray) -> tuple[float, float] | None:
    """The point (x, y) where a layer stands: mid of its pixels of at least half of its highest
    alpha, at their bottom; None where it is empty."""
    alpha = rgba[..., 3]
    highest = float(alpha.max())
    if highest < EMPTY:
        return None
    rows, columns = np.nonzero(alpha > highest / 2)
    return float(columns.mean()), float(np.quantile(rows, 0.98))

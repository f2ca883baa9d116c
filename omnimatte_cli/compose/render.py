"""Render a composition of a finished result, frame by frame."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, to_float
from omnimatte_cli.compose import edits as ed
from omnimatte_cli.compose.edits import Appearance
from omnimatte_cli.deliver.picture import PictureWriter
from omnimatte_cli.deliver.read import BODY, FinishedResult
from omnimatte_cli.errors import OptionError, VideoError
from omnimatte_cli.matte.box import disc
from omnimatte_cli.matte.compositing import lay_over, merge
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.matte.passes import PASSES
from omnimatte_cli.media.images import IMAGE_SUFFIXES
from omnimatte_cli.media.read import iter_frames, read_still
from omnimatte_cli.progress import Progress

CACHED = 8  # layers kept for copies, delays and stills: bounds memory
FEET_WINDOW = 9  # frames over which the point that a scaled object stands on is averaged
SOFT_EDGE = 2.0  # pixels, sigma: how a mask fades where it stands in for the body's pass
GROWN = 5  # pixels by which a mask is grown there, as masks are rough

# (name, t, its layer, factor) -> the layer with its effects' alpha multiplied by the factor
Weaken = Callable[[str, int, np.ndarray, float], np.ndarray]


@dataclass(frozen=True)
class Composition:
    """A result with what is shown of it, in which order and over what.

    ground: opens a stream of what goes in the plate's place, (H, W, 3) float32 a frame; None for
    the plate itself. transparent: nothing goes there. clean: the clean plate, not the residual one.
    weaken: how effects are weakened, needed where an appearance asks for it.
    """

    result: FinishedResult
    appearances: tuple[Appearance, ...]
    ground: Callable[[], Iterator[np.ndarray]] | None = None
    transparent: bool = False
    clean: bool = False
    weaken: Weaken | None = None
    _feet: dict[str, list[tuple[float, float] | None]] = field(default_factory=dict)

    def frames(self) -> Iterator[np.ndarray]:
        """Every frame, (H, W, 3) float32, or (H, W, 4) straight alpha over nothing."""
        for appearance in self.appearances:
            if appearance.scale != 1.0 and appearance.name not in self._feet:
                self._feet[appearance.name] = steady_feet(self.result, appearance.name)
        layer = lru_cache(CACHED)(self._prepared)
        grounds = self.ground() if self.ground else None
        for t in range(self.result.frames):
            placed = self._placed(t, layer)
            if self.transparent:
                yield merge(placed, self.result.size)
            elif grounds:
                yield lay_over(placed, next(grounds))
            else:
                layers = list(placed)
                yield lay_over(layers, self.result.plate_below(t, layers, self.clean))

    def _placed(self, t: int, layer: Callable) -> Iterator[np.ndarray]:
        """The layers of frame t, back to front, where they stand."""
        result = self.result
        rank = {result.names[i]: place for place, i in enumerate(result.order[t])}
        for one in sorted(self.appearances, key=lambda a: rank[a.name]):  # stable: copies behind
            for source in one.sources(t, result.frames):
                feet = self._feet[one.name][source] if one.scale != 1.0 else None
                matrix = ed.placement(one, source, t, result.homographies, feet)
                rgba = ed.place(layer(one.name, source, one.color, one.shadow), matrix)
                if one.opacity != 1.0:
                    rgba = rgba * np.array([1, 1, 1, one.opacity], np.float32)
                yield rgba

    def _prepared(self, name: str, source: int, color: str | None, shadow: float) -> np.ndarray:
        rgba = self.result.layer(name, source)
        if shadow != 1.0:
            assert self.weaken is not None
            rgba = self.weaken(name, source, rgba, shadow)
        return ed.recolored(rgba, color)


def steady_feet(result: FinishedResult, name: str) -> list[tuple[float, float] | None]:
    """Where an object stands in each of its frames, averaged over time; reads all its layers."""
    feet = [ed.feet_of(result.layer(name, t)) for t in range(result.frames)]
    half = FEET_WINDOW // 2
    out: list[tuple[float, float] | None] = []
    for t, here in enumerate(feet):
        # As many frames before as after, so that a walk is not drawn back at its ends.
        reach = min(half, t, result.frames - 1 - t)
        near = [f for f in feet[t - reach : t + reach + 1] if f is not None]
        if here is None or len(near) < 2 * reach + 1:
            out.append(here)
        else:
            out.append((sum(x for x, _ in near) / len(near), sum(y for _, y in near) / len(near)))
    return out


def render(
    composition: Composition, writer: PictureWriter, progress: Progress, measure: bool = False
) -> float | None:
    """Write all frames. With `measure`, returns the PSNR in dB of the frames against the input.

    None where that is not asked for, or the input is gone.
    """
    score = PSNR()
    truth = composition.result.source_frames() if measure else None
    progress.stage("compositing", composition.result.frames)
    with writer:
        for t, image in enumerate(composition.frames()):
            writer.write(t, image)
            if truth is not None:
                score.add(image, to_float(next(truth)))
            progress.step(t + 1)
    return score.value if truth is not None else None


# ----------------------------------------------------------------------------------- what is below


def solid(color: tuple[float, float, float], size: Size) -> Callable[[], Iterator[np.ndarray]]:
    """One colour, RGB in [0, 1], for all frames."""

    def stream() -> Iterator[np.ndarray]:
        image = np.broadcast_to(np.array(color, np.float32), (*size, 3))
        while True:
            yield image

    return stream


def footage(path: Path, size: Size, shown: Size) -> Callable[[], Iterator[np.ndarray]]:
    """An image, or a video or folder of images that starts anew when it ends.

    Scaled to cover the frame as it is shown, (height, width) `shown`, cut at its sides, and brought
    to the stored `size`. Raises OptionError if it cannot be read.
    """

    def fitted(image: np.ndarray) -> np.ndarray:
        whole = covering(image, shown)
        if shown != size:
            whole = cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
        return to_float(whole)

    if not path.exists():
        raise OptionError(f"--background {path} does not exist.")
    if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
        image = read_still(path)
        if image is None:
            raise OptionError(f"--background {path} cannot be read as an image.")
        still = fitted(image)
        return lambda: itertools.repeat(still)
    try:
        next(iter_frames(path, 1))
    except (VideoError, StopIteration) as error:
        raise OptionError(f"--background {path} cannot be read: {error}") from error

    def stream() -> Iterator[np.ndarray]:
        while True:
            for frame in iter_frames(path, deep=None):
                yield fitted(frame)

    return stream


def covering(image: np.ndarray, size: Size) -> np.ndarray:
    """An image (h, w, 3) scaled to cover `size` and cut to it, centred."""
    height, width = size
    scale = max(height / image.shape[0], width / image.shape[1])
    if scale != 1:
        to = (max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale)))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        image = cv2.resize(image, to, interpolation=method)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


# ----------------------------------------------------------------------------------------- effects


def weakening(result: FinishedResult, names: tuple[str, ...]) -> tuple[Weaken, str | None]:
    """How the effects of `names` are told from their bodies, and a note for the user about it.

    By the passes where the result has them, else by the masks, grown and softened. Raises
    OptionError where there are neither.
    """
    if all(set(PASSES) <= set(result.passes(name)) for name in names):
        return lambda name, t, rgba, factor: body_over_effects(result, name, t, factor), None
    masks = result.masks
    if masks is None:
        raise OptionError(
            "--shadow needs to know what is body and what is effect: decompose again with "
            "--passes body,shadow,reflection."
        )
    strange = [name for name in names if name not in masks.names]
    if strange:
        raise OptionError(f"--shadow {strange[0]}: there is no mask of it any more.")
    kernel = disc(GROWN)

    def weaken(name: str, t: int, rgba: np.ndarray, factor: float) -> np.ndarray:
        mask = masks.at(masks.names.index(name), t).astype(np.float32)
        body = cv2.GaussianBlur(cv2.dilate(mask, kernel), (0, 0), SOFT_EDGE)
        return ed.weakened_effects(rgba, body, factor)

    note = "This result has no passes: the masks, grown a little, tell bodies from effects."
    return weaken, note


def body_over_effects(result: FinishedResult, name: str, t: int, factor: float) -> np.ndarray:
    """A layer put together from its passes, those of effects weakened."""
    layers = []
    for part in result.passes(name):
        strength = np.float32(1 if part == BODY else factor)
        layers.append(result.one_pass(name, part, t) * np.array([1, 1, 1, strength], np.float32))
    return merge(layers, result.size)

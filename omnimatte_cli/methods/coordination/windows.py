"""Which frames a window shows, hides and predicts. Pure; shared by training and inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from omnimatte_cli.methods.coordination.options import Hiding

FRAMES = 5  # frames a window
HIDDEN = 3  # of which hidden


@dataclass(frozen=True)
class Window:
    """Frame indices of one window at inference and the one frame that is kept from it.

    frames: indices into the clip, in the window's own direction of time.
    target: the clip's frame that this window's first hidden position predicts.
    """

    frames: tuple[int, ...]
    target: int


def reflect(index: int, length: int) -> int:
    """An index outside 0 .. length-1 mirrored back into it without repeating the ends."""
    if length == 1:
        return 0
    period = 2 * (length - 1)
    index %= period
    return min(index, period - index)


def inference_windows(
    length: int, stride: int, frames: int = FRAMES, hidden: int = HIDDEN
) -> Iterator[Window]:
    """One window for every frame of a clip, in order of their targets.

    The last `hidden` frames of a window are hidden and the first hidden one is kept, so frame t is
    predicted from the frames t - stride * (frames - hidden) ... t - stride. The first frames have
    no such past: their windows run backwards in time. What neither direction has is reflected in
    time.
    """
    past = frames - hidden
    for target in range(length):
        step = stride if target >= past * stride else -stride
        yield Window(
            tuple(reflect(target + (i - past) * step, length) for i in range(frames)), target
        )


def training_starts(length: int, stride: int, frames: int = FRAMES) -> int:
    """How many starts `training_window` may choose from: at least one, whatever the length."""
    return max(1, length - stride * (frames - 1))


def training_window(start: int, length: int, stride: int, frames: int = FRAMES) -> tuple[int, ...]:
    """Frames of the training window that starts at `start`; short clips are reflected in time."""
    return tuple(reflect(start + i * stride, length) for i in range(frames))


def draw_hidden(
    scheme: Hiding, rng: np.random.Generator, frames: int = FRAMES, hidden: int = HIDDEN
) -> np.ndarray:
    """Which frames of a training window are hidden, (T,) bool.

    "prediction": the last, or mirrored the first; "inpainting": the middle ones; "random": any.
    """
    out = np.zeros(frames, bool)
    if scheme == "random":
        out[rng.choice(frames, hidden, replace=False)] = True
    elif scheme == "inpainting":
        first = (frames - hidden) // 2
        out[first : first + hidden] = True
    elif scheme != "prediction":
        raise ValueError(f"no hiding scheme {scheme!r}")
    elif rng.random() < 0.5:
        out[:hidden] = True
    else:
        out[frames - hidden :] = True
    return out

"""Two canvases of a whole clip: begun where its two motions show best, and followed from there.

No camera moves steadily for seconds. Likely pairs of steady speeds are looked for in short windows;
from the best of them canvases and their motions grow to both ends of the clip, at a quarter of the
size, and the pair is taken that explains most; then all of it is fitted together at half the size.
What rests for a while is known from when it moved, and a picture that a camera passed over for long
is known in its large parts too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from omnimatte_cli.methods.centrifuge.canvases import (
    FARTHEST,
    FLAT,
    PARAMETERS,
    Look,
    Scene,
    blank,
    fit,
    look_at,
    means,
    move,
    resized,
    weights_of,
)
from omnimatte_cli.methods.centrifuge.predict import spans
from omnimatte_cli.methods.centrifuge.spectra import likely_pairs

SEED = 24  # frames of the windows in which steady motions are looked for
CANDIDATES, LEAST_CANDIDATES = 12, 4  # pairs of motions tried in all of them, and in each
CONTENDERS = 3  # of all, that are followed through the clip and compared
TRIED_ROUNDS = 2  # of canvases and motions of a candidate
LEAST_UNEXPLAINED = 0.002  # by one motion, at which two are not compared
SMALL, LARGER = 4, 2  # reductions of the sides
ROUNDS = {SMALL: 4, LARGER: 3}  # of canvases and motions in turn
STEPS = {SMALL: 40, LARGER: 25}  # of conjugate gradients in a round
OUTLIER = {SMALL: 0.12, LARGER: 0.08}  # residual at which a pixel counts a quarter
MOVES = 3  # Gauss-Newton steps in a round
START_NOISE = 0.01  # before any residual is known
GROWTH = 6  # frames by which canvases grow at once
GROWN_STEPS = 12  # of conjugate gradients after each
GROWN_MOVES = 4  # Gauss-Newton steps of a new frame
LAST_ROUNDS = 2  # at the small size, when all frames are there
MOST_FRAMES = 48  # that the canvases of the larger size are made from, evenly spread


@dataclass(frozen=True)
class Start:
    """Where two canvases begin. speeds: (2, 2), steady ones in the frames `seed`, pixels (y, x) a
    frame; single: (2,), the best alone there. left: what two leave there over what one does."""

    speeds: Tensor
    single: Tensor
    seed: slice
    left: float

    @property
    def middle(self) -> int:
        """The frame whose motions are none."""
        return (self.seed.start + self.seed.stop) // 2

    def alone(self) -> Start:
        """The same with the single motion, twice."""
        return replace(self, speeds=self.single.expand(2, 2))


def at_size(clip: Tensor, reduction: int) -> tuple[Tensor, tuple[int, int]]:
    """A clip with its sides reduced, and (h, w)."""
    size = (max(8, round(clip.shape[2] / reduction)), max(8, round(clip.shape[3] / reduction)))
    return F.interpolate(clip, size=size, mode="area"), size


@torch.no_grad()
def best_followed(clip: Tensor, alpha: Tensor) -> tuple[Start, Scene]:
    """Two canvases of a clip (T, 3, h, w) at half its size, and where they began; alpha: (T,).

    Spectra tell likely pairs of motions, canvases which of them are right: first in the window that
    each comes from, then, followed through the clip, in all of it.
    """
    contenders = starts(clip, alpha)[:CONTENDERS]
    small, _ = at_size(clip, SMALL)
    scenes = [spread(small, clip, start, alpha) for start in contenders]
    best = min(range(len(scenes)), key=lambda i: left_by(scenes[i], small))
    return contenders[best], at_half(scenes[best], clip, contenders[best])


@torch.no_grad()
def followed(clip: Tensor, start: Start, alpha: Tensor, tied: bool = False) -> Scene:
    """Two canvases behind all frames of a clip, at half its size, from a given start.

    tied: both move alike, which says how much a single motion explains.
    """
    scene = spread(at_size(clip, SMALL)[0], clip, start, alpha, tied)
    return at_half(scene, clip, start, tied)


def starts(clip: Tensor, alpha: Tensor) -> list[Start]:
    """Likely pairs of motions of a clip's windows, those whose canvases explain most first."""
    small, _ = at_size(clip, SMALL)
    windows = [slice(span.start, span.stop) for span in spans(len(clip), SEED)]
    count = max(LEAST_CANDIDATES, CANDIDATES // len(windows))
    found = []
    for seed in windows:
        pairs = likely_pairs(clip[seed], count)
        tries = [Start(pair.speeds, pair.single, seed, 1.0) for pair in pairs]
        one = max(tried(small, clip, tries[0].alone(), alpha, True), LEAST_UNEXPLAINED)
        found += [replace(x, left=tried(small, clip, x, alpha) / one) for x in tries]
    return sorted(found, key=lambda start: start.left)


def tried(small: Tensor, clip: Tensor, start: Start, alpha: Tensor, tied: bool = False) -> float:
    """What canvases from a start leave unexplained of its own frames."""
    scene = begun(small, clip, start, alpha)
    refit(scene, small, start.seed, start.middle, SMALL, TRIED_ROUNDS, tied, fresh=True)
    return left_by(scene.at(start.seed), small[start.seed])


def left_by(scene: Scene, small: Tensor) -> float:
    """Mean residual at the small size, where none counts more than OUTLIER."""
    return float(scene.residual(small).abs().mean(1).clamp(max=OUTLIER[SMALL]).mean())


def begun(small: Tensor, clip: Tensor, start: Start, alpha: Tensor) -> Scene:
    """Canvases at the small size that are the means along a start's speeds."""
    size = (small.shape[2], small.shape[3])
    time = torch.arange(len(clip), device=clip.device, dtype=clip.dtype) - start.middle
    motion = torch.zeros(len(clip), 2, PARAMETERS, device=clip.device)
    shifts = time[:, None, None] * start.speeds
    motion[..., :2] = -resized(shifts, (clip.shape[2], clip.shape[3]), size)
    scene = blank(motion, torch.stack([1 - alpha, alpha], 1), size, FARTHEST)
    scene.canvases = means(scene.at(start.seed), small[start.seed])
    return scene


def spread(small: Tensor, clip: Tensor, start: Start, alpha: Tensor, tied: bool = False) -> Scene:
    """Canvases at the small size, fitted where they start and grown from there to both ends."""
    scene, seed = begun(small, clip, start, alpha), start.seed
    refit(scene, small, seed, start.middle, SMALL, ROUNDS[SMALL], tied, fresh=True)
    covered = seed
    while covered.start > 0 or covered.stop < len(small):
        covered = grow(scene, small, covered, tied)
        look = look_at(scene.at(covered), small[covered], OUTLIER[SMALL])
        part = scene.at(covered)
        fit(part, small[covered], look, GROWN_STEPS)
        scene.canvases = part.canvases
    if covered != seed:
        refit(scene, small, covered, start.middle, SMALL, LAST_ROUNDS, tied)
    return scene


def at_half(scene: Scene, clip: Tensor, start: Start, tied: bool = False) -> Scene:
    """A scene of the small size fitted at half of the clip's."""
    larger, size = at_size(clip, LARGER)
    scene = scene.enlarged(size)
    every = slice(0, len(clip))
    refit(scene, larger, every, start.middle, LARGER, ROUNDS[LARGER], tied)
    return scene


def refit(
    scene: Scene,
    clip: Tensor,
    frames: slice,
    middle: int,
    reduction: int,
    rounds: int,
    tied: bool,
    fresh: bool = False,
) -> None:
    """Canvases and motions of a scene in turn, from some frames of a clip at its size.

    middle: the frame whose motions stay. fresh: nothing is known of what counts as an edge.
    """
    part, here = scene.at(frames), clip[frames]
    some = torch.arange(0, len(here), -(-len(here) // MOST_FRAMES), device=clip.device)
    look = look_at(part, here, OUTLIER[reduction])
    if fresh:
        look = Look(torch.ones_like(look.weight), START_NOISE, FLAT[0])
    for _ in range(rounds):
        few = part.at(some)
        fit(few, here[some], Look(look.weight[some], look.noise, look.flat), STEPS[reduction])
        part.canvases = few.canvases
        for _ in range(MOVES):
            move(part, here, OUTLIER[reduction], middle - frames.start, tied)
        look = look_at(part, here, OUTLIER[reduction])
    scene.canvases = part.canvases
    scene.motion[frames] = part.motion


def grow(scene: Scene, clip: Tensor, covered: slice, tied: bool) -> slice:
    """Motions of up to GROWTH frames before and behind those that are covered. Returns what is."""
    first = max(0, covered.start - GROWTH)
    last = min(len(clip), covered.stop + GROWTH)
    for frame in range(covered.start - 1, first - 1, -1):
        scene.motion[frame] = reached(scene, clip, frame, 1, tied)
    for frame in range(covered.stop, last):
        scene.motion[frame] = reached(scene, clip, frame, -1, tied)
    return slice(first, last)


def reached(scene: Scene, clip: Tensor, frame: int, towards: int, tied: bool) -> Tensor:
    """Motions (2, PARAMETERS) of a frame whose neighbours `towards` (1 or -1) are known.

    The canvases have gone on as they did, or they rest: what explains more of the frame.
    """
    known, before = scene.motion[frame + towards], scene.motion[frame + 4 * towards]
    found = []
    for start in (known + (known - before) / 3, known):
        alone = Scene(scene.canvases, start[None], scene.share[frame : frame + 1], scene.size)
        for _ in range(GROWN_MOVES):
            move(alone, clip[frame : frame + 1], OUTLIER[SMALL], tied=tied)
        rest = alone.residual(clip[frame : frame + 1])
        found.append((float(weights_of(rest, OUTLIER[SMALL]).mean()), alone.motion[0]))
    return max(found, key=lambda explained: explained[0])[1]

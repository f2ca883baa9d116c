"""Two canvases of a whole clip: begun where its two motions show best, and followed from there.

No camera moves steadily for seconds. Steady speeds are looked for in short windows; from the one
that they explain best the canvases and their motions grow to both ends of the clip, at a quarter of
the size; then all of it is fitted together at half the size. What rests for a while is known from
when it moved, and a picture that a camera passed over for long is known in its large parts too.
"""

from __future__ import annotations

from dataclasses import dataclass

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
CANDIDATES = 4  # pairs of motions that are tried in each
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
    """A pair of steady speeds (2, 2), pixels (y, x) a frame, in the frames `seed`; `single`: the
    best alone there, (2,). left: what two leave unexplained over what one does."""

    speeds: Tensor
    single: Tensor
    seed: slice
    left: float


def starts(clip: Tensor, alpha: Tensor) -> list[Start]:
    """Pairs of motions of a clip's windows, those whose canvases explain most first."""
    small, size = at_size(clip, SMALL)
    found = []
    for span in spans(len(clip), SEED):
        here = slice(span.start, span.stop)
        pairs = likely_pairs(clip[here], CANDIDATES)
        if not pairs:
            continue
        single = pairs[0].single
        one = tried(small, clip, single.expand(2, 2), here, alpha, tied=True)
        for pair in pairs:
            two = tried(small, clip, pair.speeds, here, alpha)
            found.append(Start(pair.speeds, single, here, two / max(one, LEAST_UNEXPLAINED)))
    return sorted(found, key=lambda start: start.left)


def tried(
    small: Tensor, clip: Tensor, speeds: Tensor, seed: slice, alpha: Tensor, tied: bool = False
) -> float:
    """What canvases along two speeds leave unexplained of some frames."""
    scene = begun(small, clip, speeds, seed, alpha)
    middle = (seed.start + seed.stop) // 2
    refit(scene, small, seed, middle, SMALL, TRIED_ROUNDS, tied, fresh=True)
    return unexplained(scene.at(seed), small[seed])


def unexplained(scene: Scene, clip: Tensor) -> float:
    """Mean residual of a clip at the small size, where none counts more than OUTLIER."""
    return float(scene.residual(clip).abs().mean(1).clamp(max=OUTLIER[SMALL]).mean())


@torch.no_grad()
def best_start(clip: Tensor, alpha: Tensor) -> Start:
    """The pair of motions that explains the whole clip best when it is followed through it."""
    small, _ = at_size(clip, SMALL)
    found = starts(clip, alpha)
    contenders: list[Start] = []
    for start in found:
        if len(contenders) < CONTENDERS:
            contenders.append(start)
    scored = []
    for start in contenders:
        scene = begun(small, clip, start.speeds, start.seed, alpha)
        spread(scene, small, start.seed, False)
        scored.append(unexplained(scene, small))
    return contenders[min(range(len(scored)), key=lambda i: scored[i])]


def at_size(clip: Tensor, reduction: int) -> tuple[Tensor, tuple[int, int]]:
    """A clip with its sides reduced, and (h, w)."""
    size = (max(8, round(clip.shape[2] / reduction)), max(8, round(clip.shape[3] / reduction)))
    return F.interpolate(clip, size=size, mode="area"), size


def begun(small: Tensor, clip: Tensor, speeds: Tensor, seed: slice, alpha: Tensor) -> Scene:
    """Canvases at the small size that are means along speeds (2, 2) of the frames `seed`."""
    size = (small.shape[2], small.shape[3])
    middle = (seed.start + seed.stop) // 2
    time = torch.arange(len(clip), device=clip.device, dtype=clip.dtype)[:, None, None] - middle
    motion = torch.zeros(len(clip), 2, PARAMETERS, device=clip.device)
    motion[..., :2] = -resized(time * speeds, (clip.shape[2], clip.shape[3]), size)
    scene = blank(motion, torch.stack([1 - alpha, alpha], 1), size, FARTHEST)
    scene.canvases = means(scene.at(seed), small[seed])
    return scene


def spread(scene: Scene, small: Tensor, seed: slice, tied: bool) -> None:
    """A scene fitted to the frames `seed` and grown from there to both ends of a clip."""
    middle = (seed.start + seed.stop) // 2
    refit(scene, small, seed, middle, SMALL, ROUNDS[SMALL], tied, fresh=True)
    covered = seed
    while covered.start > 0 or covered.stop < len(small):
        covered = grow(scene, small, covered, tied)
        look = look_at(scene.at(covered), small[covered], OUTLIER[SMALL])
        part = scene.at(covered)
        fit(part, small[covered], look, GROWN_STEPS)
        scene.canvases = part.canvases
    if covered != seed:
        refit(scene, small, covered, middle, SMALL, LAST_ROUNDS, tied)


@torch.no_grad()
def followed(clip: Tensor, speeds: Tensor, seed: slice, alpha: Tensor, tied: bool = False) -> Scene:
    """Two canvases behind all frames of a clip (T, 3, h, w), at half its size.

    speeds: (2, 2), pixels (y, x) a frame in the frames `seed`. alpha: (T,). tied: both move alike,
    which says how much a single motion explains.
    """
    small, _ = at_size(clip, SMALL)
    scene = begun(small, clip, speeds, seed, alpha)
    spread(scene, small, seed, tied)
    larger, size = at_size(clip, LARGER)
    scene = scene.enlarged(size)
    middle = (seed.start + seed.stop) // 2
    refit(scene, larger, slice(0, len(clip)), middle, LARGER, ROUNDS[LARGER], tied)
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

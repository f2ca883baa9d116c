"""Ground on which there always is some effect: what its texture is, the shaded frames say.

A shadow takes light away and a mirror image adds some, but the edges of tiles and boards stay where
they are. The median over time of the differences between neighbouring pixels has them without the
effects' own edges, which move (Weiss, "Deriving intrinsic images from image sequences", ICCV 2001);
the picture with those differences that meets what is around a hole is what lies under the effect.
Differences are of logarithms where effects scale the ground, of levels where they add to it. Which
of the two is right, and whether any is, shows around the hole, where the ground was seen, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, full_scale
from omnimatte_cli.matte.blur import wide_blur
from omnimatte_cli.matte.box import Box, bounding_box
from omnimatte_cli.matte.ownership import smoothstep
from omnimatte_cli.plate.seams import Pairs, with_differences

LOOKS = 32  # frames that are looked at, at most
FEWEST = 5  # of them that must show a difference
FINE = 256  # pixels of the mean side up to which neighbouring pixels are compared; beyond, farther
AROUND = 0.06  # of the mean side: sigma over which is judged whether differences are right
REACH = 2.0  # such sigmas around a hole that are looked at
LARGE = 40.0  # levels; a larger difference, or error of one, counts as this
WRONG = (0.5, 0.8)  # error, share of the ground's own differences: believed .. not believed
TEXTURE = 1.5  # levels: mean differences below which the ground is plain, and patches serve better
VARIES = (2.0, 5.0)  # levels by which what rests there differs over time: not believed .. believed
# An effect that rests has edges that rest.
BLACK = 8.0  # levels added before logarithms: the dark has more noise than contrast
UNKNOWN = 0.02  # weight of no difference where none is known, against a known one
PAIRS = 1 << 18  # of pixels, whose values are held at a time: 100 MB
HELD = 128 << 20  # bytes of looks that are held, and not made again each time


@dataclass(frozen=True)
class Look:
    """A frame in the plate's coordinates.

    image: (h, w, 3) uint8 or uint16. body: (h, w) bool, where no ground is to be seen: grown masks,
    and what lies beyond the frame. taken: (h, w) bool, that and what anyone owns.
    """

    image: np.ndarray
    body: np.ndarray
    taken: np.ndarray


Looks = Callable[[Box], Iterator[Look]]  # the same frames each time, LOOKS at most


def relit(image: np.ndarray, hole: np.ndarray, looks: Looks) -> tuple[np.ndarray, np.ndarray]:
    """A plate (H, W, 3) uint8 or uint16 with the texture that its hole (H, W) bool has in shade.

    looks: makes the frames' parts in a box. Returns the plate, and where in the hole it was told,
    (H, W) bool; what is left of the hole is as it was.
    """
    side = float(np.sqrt(hole.size))
    box = bounding_box(hole, round(REACH * AROUND * side))
    told = np.zeros_like(hole)
    if box is None or hole.all():
        return image, told
    part = box.slices
    step = max(1, round(side / FINE))
    here, inside = image[part], hole[part]

    def shades() -> Iterator[_Shade]:
        return (_Shade.of(look, step) for look in looks(box))

    again: Callable[[], Iterator[_Shade]] = shades
    if LOOKS * (here.nbytes + 2 * inside.nbytes) <= HELD:
        again = list(shades()).__iter__
    judged = _judged(here, inside, step, again, AROUND * side)
    if judged is None:
        return image, told
    trust, logarithms = judged
    found = _solved(here, inside, trust, logarithms, again)
    if found is None:
        return image, told
    result = image.copy()
    told[part] = found[1]
    result[told] = found[0][found[1]]
    return result, told


@dataclass(frozen=True)
class _Shade:
    """A frame (h, w, 3), where it is inside of an effect, and where clear of all, (h, w) bool.

    Beside bodies it is neither: rough masks miss some of their edges, which would be drawn.
    """

    image: np.ndarray
    inside: np.ndarray
    clear: np.ndarray

    @classmethod
    def of(cls, look: Look, step: int) -> _Shade:
        disc = np.ones((2 * step + 1, 2 * step + 1), np.uint8)
        taken, body = look.taken.view(np.uint8), look.body.view(np.uint8)
        inside = (cv2.erode(taken, disc) > 0) & (cv2.dilate(body, disc) == 0)
        return cls(look.image, inside, cv2.dilate(taken, disc) == 0)


def _levels(image: np.ndarray) -> np.ndarray:
    return image.astype(np.float32) * np.float32(255 / full_scale(image.dtype))


def _differences(
    pairs: Pairs, shades: Iterator[_Shade], shaded: bool, logarithms: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Medians over the frames of what q has more than p, (P, 3), and of how many frames, (P,).

    Both pixels must be inside an effect, or, unless only what is `shaded` counts, both clear of
    all.
    """
    stack = np.full((LOOKS, len(pairs), 3), np.inf, np.float32)
    count = np.zeros(len(pairs), np.int64)
    for values, shade in zip(stack, shades, strict=False):
        flat = _levels(shade.image).reshape(-1, 3)
        if logarithms:
            flat = np.log(flat + BLACK)
        good = shade.inside.flat[pairs.p] & shade.inside.flat[pairs.q]
        if not shaded:
            good |= shade.clear.flat[pairs.p] & shade.clear.flat[pairs.q]
        np.subtract(flat[pairs.q], flat[pairs.p], out=values, where=good[:, None])
        count += good
    stack.sort(axis=0)
    middle = np.maximum(count, 1)[None, :, None]
    low, high = (np.take_along_axis(stack, k, 0)[0] for k in ((middle - 1) // 2, middle // 2))
    return np.where(count[:, None] > 0, low + high, 0) / 2, count


def _judged(
    image: np.ndarray,
    hole: np.ndarray,
    step: int,
    shades: Callable[[], Iterator[_Shade]],
    sigma: float,
) -> tuple[np.ndarray, bool] | None:
    """How far differences are to be believed in and around a hole, (h, w) in [0, 1], and whether
    those of logarithms. None: nowhere in the hole."""
    shape = hole.shape
    shaded = np.zeros(shape, np.int64)
    sums, squares = (np.zeros((*shape, 3), np.float32) for _ in range(2))
    for shade in shades():
        shaded += shade.inside
        levels = _levels(shade.image) * shade.inside[..., None]
        sums += levels
        squares += levels * levels
    enough = shaded >= FEWEST
    if not (enough & hole).any():
        return None
    often = np.maximum(shaded, 1)[..., None]
    spread = channel_max(np.sqrt(np.maximum(squares / often - np.square(sums / often), 0)))
    spread = cv2.GaussianBlur(spread * enough, (0, 0), 2 * step)

    known = enough & ~hole
    lattice = np.zeros(shape, bool)
    lattice[::step, ::step] = True
    pairs = Pairs.where(lambda a, b: known[a] & known[b] & lattice[a], step, shape)
    if not len(pairs):
        return None
    flat = _levels(image).reshape(-1, 3)
    true = flat[pairs.q] - flat[pairs.p]
    light = (flat[pairs.q] + flat[pairs.p]) / 2 + BLACK
    found = []
    for logarithms, scale in ((False, 1), (True, light)):
        differences, count = _differences(pairs, shades(), True, logarithms)
        found.append(np.minimum(np.abs(differences * scale - true), LARGE).mean(1))
    seen = count >= FEWEST
    errors = [float((x * seen).sum()) for x in found]
    logarithms = errors[1] <= errors[0]
    maps = [np.zeros(shape, np.float32) for _ in range(3)]
    own = np.minimum(np.abs(true), LARGE).mean(1)
    for out, x in zip(maps, (found[logarithms], own, np.float32(1)), strict=True):
        np.add.at(out.reshape(-1), pairs.p, x * seen)
    error, own, many = (wide_blur(x, sigma) for x in maps)
    many *= step * step
    trust = 1 - smoothstep(error / np.maximum(own, 1e-6), *WRONG)
    trust *= (many > 0.01) & (own * step * step > TEXTURE * many)
    trust *= smoothstep(spread, *VARIES)
    return (trust, logarithms) if (trust[hole] > 0.5).any() else None


def _solved(
    image: np.ndarray,
    hole: np.ndarray,
    trust: np.ndarray,
    logarithms: bool,
    shades: Callable[[], Iterator[_Shade]],
) -> tuple[np.ndarray, np.ndarray] | None:
    """A part of a plate with its hole (h, w) bool as differences have it, and where these are
    known, (h, w) bool; None where they are nowhere."""
    pairs = Pairs.where(lambda a, b: hole[a] | hole[b], 1, hole.shape)
    parts = [pairs.part(start, PAIRS) for start in range(0, len(pairs), PAIRS)]
    said = [_differences(part, shades(), False, logarithms) for part in parts]
    change, count = (np.concatenate(x) for x in zip(*said, strict=True))
    sure = np.minimum(trust.reshape(-1)[pairs.p], trust.reshape(-1)[pairs.q])
    sure = np.where(count >= FEWEST, sure, 0)
    known = np.zeros(hole.size, np.int64)
    for ends in (pairs.p, pairs.q):
        np.add.at(known, ends, sure > 0.5)
    told = (known.reshape(hole.shape) >= 3) & hole
    # Of an island that nothing ties to the known ground only the texture would be right.
    _, labels = cv2.connectedComponents((told | ~hole).astype(np.uint8), connectivity=4)
    told &= np.isin(labels, np.unique(labels[~hole]))
    if not told.any():
        return None
    levels = _levels(image)
    values = np.log(levels + BLACK) if logarithms else levels
    change = np.where(sure[:, None] > 0, change, 0)
    weight = np.maximum(sure, UNKNOWN)
    values = with_differences(values, hole, pairs.p, pairs.q, change, weight)
    levels = np.exp(values) - BLACK if logarithms else values
    top = full_scale(image.dtype)
    return np.clip(np.rint(levels * (top / 255)), 0, top).astype(image.dtype), told

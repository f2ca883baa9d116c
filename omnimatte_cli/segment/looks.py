"""What an object looks like against the ground around it, and how likely each pixel is its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.segment.colours import COLOURS, colour_histogram
from omnimatte_cli.segment.evidence import CHANGES, MOTIONS, Seen, histogram
from omnimatte_cli.segment.propagate import at_edge

ANCHOR = 0.5  # weight of the known mask's looks against those of the frames on the way
LEARN = 0.1  # share of a frame's looks in the object's
FORGET = 0.4  # ... in the ground's, which changes as the object goes on
STRANGE = (0.06, 0.03)  # share of all colours that object and ground may have without showing them
LIMITS = (2.5, 4.0, 2.5)  # of the logarithm of a likelihood ratio: one cue alone is no proof
RIVAL = 5.0  # ... of another object against this one
WEIGHTS = (0.7, 0.8, 0.35)  # colour, change, motion: they are not independent
LEAST = 30  # pixels from which looks are learned

Cues = tuple[np.ndarray, np.ndarray, np.ndarray]  # histograms of colour, change and motion


@dataclass
class Looks:
    """Histograms of an object and of the ground around it.

    anchor: of the known masks; own: of the frames on the way; ground: around it. sure: mean
    likelihood ratio on its known mask. area: of that mask, in pixels; cut_off: whether it touches
    the picture's edge. hold: weight of the anchor.
    """

    anchor: Cues
    own: Cues
    ground: Cues
    sure: float = 0.0
    area: int = 0
    cut_off: bool = False
    hold: float = ANCHOR

    @classmethod
    def of(cls, seen: Seen, motion: np.ndarray, mask: np.ndarray, around: np.ndarray) -> Looks:
        """From one known mask (h, w) bool and the ground around it (h, w) bool."""
        own, ground = cues_of(seen, motion, mask), cues_of(seen, motion, around)
        looks = cls(own, own, ground)
        looks.sure = float(looks.ratio(seen, motion)[mask].mean()) if mask.any() else 0.0
        looks.area, looks.cut_off = int(np.count_nonzero(mask)), at_edge(mask)
        return looks

    def ratio(
        self,
        seen: Seen,
        motion: np.ndarray,
        window: tuple = np.s_[:, :],
        rivals: Sequence[Looks] = (),
    ) -> np.ndarray:
        """Logarithm of how much likelier each pixel is the object's than the ground's, float32.

        motion: bins of the window. rivals: other objects that may be here; their colours speak
        against this one.
        """
        total = np.zeros(seen.colour[window].shape, np.float32)
        bins = (seen.colour[window], seen.change[window], motion)
        tables = self.tables()
        for rival in rivals:
            better = np.log((rival.colours + 1e-5) / (self.colours + 1e-5))
            tables[0] = tables[0] - np.clip(better, 0, RIVAL).astype(np.float32)
        for weight, table, which in zip(WEIGHTS, tables, bins, strict=True):
            total += weight * table[which]
        return total

    @property
    def colours(self) -> np.ndarray:
        """The object's colours, (COLOURS,) with sum 1."""
        mixed: np.ndarray = self.hold * self.anchor[0] + (1 - self.hold) * self.own[0]
        return mixed

    def tables(self) -> list[np.ndarray]:
        """For each cue the logarithm of the likelihood ratio by bin."""
        result = []
        for k, (anchor, own, ground) in enumerate(
            zip(self.anchor, self.own, self.ground, strict=True)
        ):
            mixed = self.hold * anchor + (1 - self.hold) * own
            if k == 0:
                mixed = (1 - STRANGE[0]) * mixed + STRANGE[0] / COLOURS
                ground = (1 - STRANGE[1]) * ground + STRANGE[1] / COLOURS
            table = np.clip(np.log(mixed / ground), -LIMITS[k], LIMITS[k])
            result.append(table.astype(np.float32))
        return result

    def learn(
        self, seen: Seen, motion: np.ndarray, mask: np.ndarray | None, around: np.ndarray
    ) -> None:
        """Follow the slow change of the looks. mask: None where the object's are in doubt."""
        if mask is not None and np.count_nonzero(mask) >= LEAST:
            self.hold = min(self.hold, ANCHOR * min(1.0, self.area / np.count_nonzero(mask)))
            self.own = _mixed(self.own, cues_of(seen, motion, mask), LEARN)
        if np.count_nonzero(around) >= LEAST:
            self.ground = _mixed(self.ground, cues_of(seen, motion, around), FORGET)


def cues_of(seen: Seen, motion: np.ndarray, mask: np.ndarray) -> Cues:
    """The three histograms under a mask (h, w) bool."""
    return (
        colour_histogram(seen.colour[mask]),
        histogram(seen.change[mask], CHANGES),
        histogram(motion[mask], MOTIONS),
    )


def ring(mask: np.ndarray, others: np.ndarray, near: int, far: int) -> np.ndarray:
    """The ground between `near` and `far` pixels around a mask (h, w) bool, without others."""
    inside = grown(mask, near) | others
    return grown(mask, far) & ~inside


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """A mask (h, w) bool, `radius` pixels wider."""
    if radius <= 0 or not mask.any():
        return mask
    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    top, left = max(y - radius, 0), max(x - radius, 0)
    window = np.s_[top : y + h + radius, left : x + w + radius]
    away = cv2.distanceTransform((~mask[window]).astype(np.uint8), cv2.DIST_L2, 3)
    result = np.zeros_like(mask)
    result[window] = away <= radius
    return result


def _mixed(old: Cues, new: Cues, share: float) -> Cues:
    a, b, c = ((1 - share) * x + share * y for x, y in zip(old, new, strict=True))
    return a, b, c

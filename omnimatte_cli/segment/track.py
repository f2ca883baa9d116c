"""One object on its way through the clip, and the colours by which it is known again."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np

from omnimatte_cli.arrays import pack_mask, unpack_mask
from omnimatte_cli.camera.model import Camera, project

STEADY = 3  # frames from which a speed is taken
GOES_ON = 5  # frames for which an object that is not seen is taken to go on as it did


@dataclass
class Track:
    """One object on its way through the clip.

    masks: packed (h, w) bool by frame. doubt: by frame, 0 to 1. histogram: of its colours
    (colours.py).
    """

    number: int
    size: tuple[int, int]
    masks: dict[int, bytes] = field(default_factory=dict)
    doubt: dict[int, float] = field(default_factory=dict)
    centres: dict[int, tuple[float, float]] = field(default_factory=dict)  # of the box, (x, y)
    areas: dict[int, int] = field(default_factory=dict)
    histogram: np.ndarray | None = None
    together: dict[int, int] = field(default_factory=dict)  # frames within one component, by other

    @property
    def last(self) -> int:
        """The last frame in which it was seen."""
        return max(self.masks)

    @property
    def weight(self) -> int:
        """Pixels over all frames: how much of the clip the object is."""
        return sum(self.areas.values())

    def at(self, t: int) -> np.ndarray:
        """Mask in frame t, (h, w) bool, empty where it was not seen."""
        data = self.masks.get(t)
        return np.zeros(self.size, bool) if data is None else unpack_mask(data, self.size)

    def put(self, t: int, mask: np.ndarray, doubt: float) -> None:
        """Set the mask of frame t."""
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        self.masks[t], self.doubt[t] = pack_mask(mask), doubt
        self.centres[t], self.areas[t] = (x + w / 2, y + h / 2), int(np.count_nonzero(mask))

    def learn(self, histogram: np.ndarray) -> None:
        """Follow the object's slowly changing colours."""
        old = self.histogram
        self.histogram = histogram if old is None else 0.9 * old + 0.1 * histogram

    def run(self) -> list[int]:
        """The frames since it last appeared, latest first."""
        frames = []
        t = self.last
        while t in self.masks:
            frames.append(t)
            t -= 1
        return frames

    def take(self, other: Track) -> None:
        """Swallow what another track was since it last appeared: it was a piece of this one."""
        for t in other.run():
            self.put(t, self.at(t) | other.at(t), max(self.doubt.get(t, 0), other.doubt[t]))
            for table in (other.masks, other.doubt, other.centres, other.areas):
                del table[t]  # type: ignore[attr-defined]

    def place(self, t: int) -> np.ndarray:
        """Where its box's centre, (x, y), is expected in frame t, after it was seen last."""
        last = self.last
        steps = [k for k in range(last - STEADY, last) if k in self.centres]
        centre = np.array(self.centres[last])
        if not steps:
            return centre
        speed = (centre - self.centres[steps[0]]) / (last - steps[0])
        return centre + speed * min(t - last, GOES_ON)

    def travel(self, camera: Camera | None = None) -> float:
        """Diagonal of the region of the scene in which the centre moves, in pixels."""
        places = np.array(list(self.centres.values()))
        if camera is not None and camera.moving:
            middle = sorted(self.centres)[len(self.centres) // 2]
            places = np.stack(
                [project(camera.between(t, middle), np.array(c)) for t, c in self.centres.items()]
            )
        return float(np.hypot(*np.ptp(places, axis=0)))

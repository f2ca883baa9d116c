"""Frame rate and times of a video, from the times of its frames and what the file announces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

from omnimatte_cli.media.container import Picture
from omnimatte_cli.media.sequence import IMAGE_FPS

STEADY = 0.75  # share of the intervals that must be alike before they tell the frame rate
SAME_RATE = Fraction(1, 500)  # by which two frame rates may differ to mean the same
STANDARD_RATES = tuple(
    [Fraction(n) for n in (12, 15, 24, 25, 30, 48, 50, 60, 100, 120)]
    + [Fraction(n * 1000, 1001) for n in (12, 15, 24, 30, 48, 60, 120)]
)


def timing_of(
    pictures: Sequence[Picture],
    rates: tuple[Fraction, ...],
    tick: Fraction | None,
    fps: Fraction | None,
) -> tuple[Fraction, tuple[float, ...], float, bool]:
    """Frame rate, seconds of each frame since the first, duration, and whether it is uneven.

    rates: frames per second that the file announces, the best first. tick: seconds of its clock.
    fps: what the user says; it counts where the frames' times do not tell.
    """
    starts = [p.start for p in pictures]
    known = [s for s in starts if s is not None]
    if not rising(pictures):
        rate = fps or (rates[0] if rates else IMAGE_FPS)
        times = tuple(float(i / rate) for i in range(len(starts)))
        return rate, times, float(len(starts) / rate), False
    steps = [b - a for a, b in itertools.pairwise(known)]
    usual = sorted(steps)[len(steps) // 2]
    slack = max(usual / 10, 2 * (tick or Fraction(0)) if tick and tick > usual / 100 else 0)
    even = [s for s in steps if abs(s - usual) <= slack]
    mean = (len(known) - 1) / (known[-1] - known[0])
    if len(even) >= STEADY * len(steps):
        mean = 1 / (sum(even, Fraction(0)) / len(even))
    rate = _named_rate(mean, rates, known if len(even) == len(steps) else [])
    times = tuple(float(s - known[0]) for s in known)
    return rate, times, times[-1] + float(pictures[-1].length or 1 / rate), len(even) < len(steps)


def rising(pictures: Sequence[Picture]) -> bool:
    """Whether each frame has a time, later than that of the one before."""
    known = [p.start for p in pictures if p.start is not None]
    return len(known) == len(pictures) and all(b > a for a, b in itertools.pairwise(known))


def _named_rate(
    rate: Fraction, announced: tuple[Fraction, ...], starts: list[Fraction]
) -> Fraction:
    """The announced or usual rate that is meant: clocks of 1 ms (Matroska) blur 29.97.

    starts: where frames follow each other evenly, of which the rate has to be right for each.
    """

    def miss(name: Fraction) -> Fraction:
        late = [abs(s - starts[0] - i / name) for i, s in enumerate(starts)]
        return max(late, default=abs(rate - name))

    for names in (announced, STANDARD_RATES):
        near = [n for n in names if abs(rate / n - 1) < SAME_RATE]
        if near:
            return min(near, key=miss)
    return rate.limit_denominator(10_000)

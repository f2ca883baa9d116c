"""Which pair of steady motions explains a clip best, from its spectrum alone.

A scene that moves by s pixels a frame turns the phase of its frequency k by k.s a frame and leaves
the rest. So what any two motions leave of a clip unexplained is known in closed form, frequency by
frequency, and thousands of pairs are compared in the time that canvases along one pair take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

AREA = 56 * 56  # pixels of the frames that are compared
SHARPNESS = 0.14  # cycles a pixel, deviation of the weight of frequencies
LEAST_WEIGHT = 0.02  # of a frequency that is looked at
WHITENING = 0.8  # exponent of a frequency's energy that its weight is divided by
FASTEST, STEP = 3.0, 0.15  # small pixels a frame: how far and how densely speeds are looked for
CLIMBS = (0.08, 0.04, 0.02)  # small pixels a frame: steps by which a pair is improved
ALONE = 10  # of the best single motions for each of which a partner is looked for
PARTNERS = 6  # that are looked for beside each
APART = 0.35  # small pixels a frame, between two of these
LEAST_LEFT = 1e-3  # share of the energy that is always left: rounding, and pictures without any
UNCERTAIN = 0.04  # share that a second motion's own part of a frequency must have to count


@dataclass(frozen=True)
class Pair:
    """speeds: (2, 2), pixels (y, x) a frame of the clip's own size, the slower first. single: (2,),
    the best alone. left: share of the clip's energy that two leave of what one does."""

    speeds: Tensor
    single: Tensor
    left: float


class Spectrum:
    """A clip (T, 3, h, w) by its frequencies."""

    def __init__(self, clip: Tensor) -> None:
        t, _, h, w = clip.shape
        shrink = max(1.0, math.sqrt(h * w / AREA))
        size = [max(8, round(n / shrink)) for n in (h, w)]
        self.scale = clip.new_tensor([h / size[0], w / size[1]])
        small = F.interpolate(clip, size=size, mode="area").mean(1)
        small = small - small.mean((1, 2), keepdim=True)
        taper = [torch.hann_window(n, periodic=False, device=clip.device) for n in size]
        found = torch.fft.rfft2(small * taper[0][:, None] * taper[1])
        fy = torch.fft.fftfreq(size[0], device=clip.device)[:, None].expand(-1, found.shape[2])
        fx = torch.fft.rfftfreq(size[1], device=clip.device)[None].expand(size[0], -1)
        weight = torch.exp(-0.5 * (fy * fy + fx * fx) / SHARPNESS**2)
        energy = found.abs().square().mean(0)
        kept = (weight > LEAST_WEIGHT) & (fy.abs() + fx > 0)
        self.turn = 2 * math.pi * torch.stack([fy[kept], fx[kept]])  # (2, K)
        self.values = found[:, kept]  # (T, K)
        energy = energy[kept]
        self.weight = weight[kept] / (energy + 1e-3 * energy.mean()).pow(WHITENING)
        self.time = torch.arange(t, device=clip.device, dtype=clip.dtype) - (t - 1) / 2
        self.total = float((self.weight * energy).sum())

    def along(self, speeds: Tensor) -> Tensor:
        """Means of the clip along speeds (n, 2) in small pixels a frame: (n, K) complex."""
        phase = (speeds @ self.turn)[:, None] * self.time[:, None]  # (n, T, K)
        return (torch.polar(torch.ones_like(phase), phase) * self.values).mean(1)

    def grid(self, line: Tensor) -> Tensor:
        """Means along all pairs of speeds (y, x) of a line (m,): (m m, K)."""

        def phases(turn: Tensor) -> Tensor:
            phase = line[:, None, None] * turn * self.time[:, None]
            return torch.polar(torch.ones_like(phase), phase)  # (m, T, K)

        y, x = phases(self.turn[0]) * self.values, phases(self.turn[1])
        found = torch.bmm(y.permute(2, 0, 1), x.permute(2, 1, 0)) / len(self.time)  # (K, m, m)
        return found.flatten(1).t()

    def alone(self, means: Tensor) -> Tensor:
        """Energy that single motions with these means (n, K) explain: (n,)."""
        return (self.weight * means.abs().square()).sum(1)

    def both(self, speed: Tensor, others: Tensor, mean: Tensor, means: Tensor) -> Tensor:
        """Energy that a speed (2,) with its mean (K,) explains with each of others (n, 2): (n,)."""
        t = len(self.time)
        phase = (others - speed) @ self.turn  # (n, K)
        # Mean of exp(i phase time): real, since time is centred.
        half = phase / 2
        sine = half.sin()
        overlap = torch.where(
            sine.abs() < 1e-4, torch.ones_like(sine), (t * half).sin() / (t * sine)
        )
        own = means - overlap * mean
        rest = own.abs().square() / (1 - overlap.square() + UNCERTAIN)
        rest = rest.masked_fill(phase.abs() > math.pi, 0)  # less than two frames a wave: ambiguous
        return float(self.alone(mean[None])) + (self.weight * rest).sum(1)


@torch.no_grad()
def likely_pairs(clip: Tensor, count: int) -> list[Pair]:
    """Up to `count` different pairs of steady motions that explain a clip (T, 3, h, w), the best
    first."""
    spectrum = Spectrum(clip)
    reach = round(FASTEST / STEP)
    line = STEP * torch.arange(-reach, reach + 1, device=clip.device, dtype=clip.dtype)
    speeds = torch.cartesian_prod(line, line)
    means = spectrum.grid(line)
    alone = spectrum.alone(means)
    rest, peaks = alone.clone(), [int((speeds.square().sum(1)).argmin())]
    while len(peaks) <= ALONE:
        best = int(rest.argmax())
        peaks.append(best)
        near = (speeds - speeds[best]).square().sum(1) < APART**2
        rest = rest.masked_fill(near, -math.inf)
    tried: list[tuple[float, Tensor]] = []
    for peak in peaks:
        energy = spectrum.both(speeds[peak], speeds, means[peak], means)
        for _ in range(PARTNERS):
            best = int(energy.argmax())
            tried.append((float(energy[best]), speeds[[peak, best]]))
            near = (speeds - speeds[best]).square().sum(1) < (2 * APART) ** 2
            energy = energy.masked_fill(near, -math.inf)
    kept: list[Tensor] = []
    for _, pair in sorted(tried, key=lambda x: -x[0]):
        if len(kept) < count and all(unlike(pair, other) for other in kept):
            kept.append(pair)
    single = improved_alone(spectrum, speeds[int(alone.argmax())])
    one = float(spectrum.alone(spectrum.along(single[None]))[0])
    found = []
    for pair in kept:
        pair = improved(spectrum, pair)
        mean = spectrum.along(pair)
        two = float(spectrum.both(pair[0], pair[1:], mean[0], mean[1:])[0])
        pair = (pair * spectrum.scale)[pair.square().sum(1).argsort()]
        least = LEAST_LEFT * spectrum.total + 1e-9
        left, right = (max(spectrum.total - x, least) for x in (two, one))
        found.append(Pair(pair, single * spectrum.scale, left / right))
    return sorted(found, key=lambda x: x.left)


def unlike(a: Tensor, b: Tensor) -> bool:
    """Whether pairs of speeds (2, 2) in small pixels a frame differ, in either order."""
    ways = [(a - b).square().sum(1).max(), (a.flip(0) - b).square().sum(1).max()]
    return float(min(ways)) > (2 * APART) ** 2


def improved(spectrum: Spectrum, pair: Tensor) -> Tensor:
    """A pair of speeds (2, 2) in small pixels a frame at the nearest best of all energies."""
    found = pair.clone()
    for step in CLIMBS:
        around = step * torch.cartesian_prod(*[torch.arange(-2.0, 3.0, device=pair.device)] * 2)
        for _ in range(2):
            for i in range(2):
                others = found[i] + around
                mean = spectrum.along(found[1 - i][None])[0]
                energy = spectrum.both(found[1 - i], others, mean, spectrum.along(others))
                found[i] = others[int(energy.argmax())]
    return found


def improved_alone(spectrum: Spectrum, speed: Tensor) -> Tensor:
    """A single speed (2,) likewise."""
    for step in CLIMBS:
        around = step * torch.cartesian_prod(*[torch.arange(-2.0, 3.0, device=speed.device)] * 2)
        others = speed + around
        speed = others[int(spectrum.alone(spectrum.along(others)).argmax())]
    return speed

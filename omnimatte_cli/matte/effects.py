"""Smooth layers for what an object does to the scene: shadows, reflections, light.

An effect is smooth although the ground under it is not. Pixel by pixel the sparsest layer that
makes a change takes the alpha of the channel that needs the most, so a shadow over boards or grass
becomes opaque flecks where a channel is nearly black. Here the frame is regressed on the plate in
Gaussian windows instead,

    frame_c = k * plate_c + b_c,

with one slope for the three channels: alpha is 1 - k, the premultiplied colour b. With D = frame -
plate and means m[.] over the window,

    alpha = -sum_c(m[p D] - rho m[p] m[D]) / sum_c(m[p p] - rho m[p] m[p]),
    b_c = rho (m[D_c] + alpha m[p_c]).

rho = 1 is the plain regression, which knows nothing where the ground has no texture; rho = 0 is a
black shadow, the least squares alpha with b = 0. In between is a ridge on b: where there is texture
it decides, where there is none a darker place is black.

Where a channel darkens by more than that alpha can, since light cannot be negative, alpha grows to
what the channel needs; then light is what is left, without the ridge.

What brightens, or has a picture of its own (a mirror image), keeps that picture: its alpha is
smooth too, and large enough for the picture's colours; its light is frame - k * plate pixel by
pixel. Which of the two a region is, is decided softly, by the share of its change that brightens
and by what the smooth model leaves over. Windows soften hard edges: where they leave over more than
noise and the ground's pattern make, what black can make of the rest pixel by pixel is added before
it passes for a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max
from omnimatte_cli.matte.blur import enlarged, reduced
from omnimatte_cli.matte.box import Box, bounding_box, cropped
from omnimatte_cli.matte.closed_form import sure_min_alpha
from omnimatte_cli.matte.compositing import grey
from omnimatte_cli.matte.ownership import smoothstep
from omnimatte_cli.matte.windows import Windows, grid_step

# Lengths are shares of the picture's mean side, the root of its area.
SCALES = (0.0125, 0.00625, 0.003125)  # sigmas of the windows, coarse to fine: 6 px at 640x360
FADE = 0.005  # sigma over which an effect fades in where ownership begins
FADE_IN = (0.05, 0.6)  # blurred ownership at which an effect begins and is whole

RHO = 0.85  # 1 less the ridge on the light of what darkens
NOISY_MEAN = 0.5  # deviations of a window's mean that noise may make
HEARD = (0.0, 0.2)  # a channel's share of the plate's square: its need counts for nothing .. fully
PRIOR = 1e-4  # added to the variance of the plate: nothing is known of black ground
SIGNIFICANT = 0.005  # variances of its fit by which a finer window must differ to be half believed
BRIGHTENS = (0.35, 0.65)  # share of the change that brightens: all shadow .. all reflection
TEXTURE = 0.4  # share of the ground's own deviation that a smooth shadow leaves over besides noise
OUTLINE = (1.0, 2.0)  # times what both make that it leaves over: smooth .. sharp
SHARP = (1.5, 4.0)  # times the same that its outline makes up for in a pixel: likewise
PICTURE = (0.25, 0.5)  # share of the energy that a sharp one leaves: all shadow .. all reflection
PICTURE_NOISE = (3.0, 6.0)  # the same in noise deviations, so that grain is no picture
SHARP_PRIOR = 4.0  # noise variances added to the plate: nothing is known of black ground
UNSURE = 24.0  # weight of the least alpha against what the ground's texture says
ENVELOPE = 6  # power of the mean that stands for the largest alpha in a window
ENVELOPE_MARGIN = 1.1
COHERENT = 1.5  # pixels; least sigma over which a change must be coherent to count
EVIDENCE = (0.35, 0.8)  # smooth change, in noise deviations: nothing is shown below, all above
DOUBTED = (1.0, 2.0)  # times what the plate may be off by: nothing is shown .. all
OWNED = (0.02, 0.1)  # blurred ownership: likewise
LEAST = (0.002, 0.006)  # alpha: nothing is shown below, all above; half a level .. 1.5 levels

SUM = np.ones((1, 3), np.float32)  # of three channels


@dataclass(frozen=True)
class Effect:
    """One object's effect on a frame, float32.

    alpha: (H, W) in [0, 1]. light: (H, W, 3), premultiplied colour, 0 .. alpha. mirror: (H, W) in
    [0, 1], how much of the effect is a reflection or light, the rest being shadow. box: outside of
    it there is nothing; None where there is nothing at all.
    """

    alpha: np.ndarray
    light: np.ndarray
    mirror: np.ndarray
    box: Box | None


def find_effect(
    change: np.ndarray,
    below: np.ndarray,
    ownership: np.ndarray,
    visible: np.ndarray,
    noise: np.ndarray | float,
    side: float | None = None,
    doubt: np.ndarray | None = None,
) -> Effect:
    """The smooth effect layer that makes an object's change as well as a smooth layer can.

    change: (H, W, 3), frame - plate. below: (H, W, 3), what the effect falls on. ownership: (H, W)
    in [0, 1], the object's share of the change. visible: (H, W) in [0, 1], where the change tells
    of this effect: 0 in bodies and in other objects' effects. noise: (H, W) or a number, the
    residual's deviation where nothing happens. side: mean side of the picture that these are part
    of, in pixels; None: they are all of it. doubt: (H, W, 2) in [0, 1], how much darker, and
    how much brighter, than the plate means nothing; None: unknown.
    """
    shape = ownership.shape
    side = side or float(np.sqrt(shape[0] * shape[1]))
    alpha = np.zeros(shape, np.float32)
    light, mirror = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    box = bounding_box(ownership * visible > FADE_IN[0], round(3 * SCALES[0] * side) + 1)
    if box is not None:
        # Areas are averaged many times as fast where they are whole pixels.
        box = box.aligned(grid_step(SCALES[-1] * side), (shape[0], shape[1]))
        part = box.slices
        near, unsure = cropped(noise, box), None if doubt is None else doubt[part]
        found = _find(change[part], below[part], ownership[part], visible[part], near, side, unsure)
        some, shine, mirror[part], core = found
        if core is not None:
            alpha[part][core.slices], light[part][core.slices] = some, shine
        box = None if core is None else core.within(box)
    return Effect(alpha, light, mirror, box)


def _find(
    change: np.ndarray,
    below: np.ndarray,
    ownership: np.ndarray,
    visible: np.ndarray,
    noise: np.ndarray | float,
    side: float,
    doubt: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Box | None]:
    """Alpha, light, mirror and box of `Effect`, for a part of a picture with this mean side.

    Alpha and light are those within the box. What is smooth is fitted on a smaller picture where
    the windows are wide enough; its names end in _s.
    """
    shape = ownership.shape
    less = thinning(SCALES[-1] * side, shape)
    sigmas = [s * side / less for s in SCALES]
    fade = max(FADE * side / less, 0.5)
    visible_s = reduced(visible, less)
    reach = cv2.GaussianBlur(visible_s, (0, 0), fade)
    owned_s = cv2.GaussianBlur(reduced(ownership * visible, less), (0, 0), fade)
    owned_s = owned_s / np.maximum(reach, 0.05)
    owned = enlarged(owned_s, shape)
    goal = grey(smoothstep(owned, *FADE_IN)) * change

    goal_s, below_s = reduced(goal, less), reduced(below, less)
    windows = Windows(visible_s, sigmas)
    noise_s = reduced(noise, less) if isinstance(noise, np.ndarray) else noise
    found = moments(goal_s, below_s, windows)
    grain = windows.reduced(np.broadcast_to(np.float32(noise_s), windows.shape))
    dark, glow = fit_shadow(found, windows, grain)
    left = goal_s + grey(dark) * below_s - glow
    known = np.sqrt(grain * grain + np.square(TEXTURE * found[1].texture))
    rough = smoothstep(mean_size(left, windows, 1) / known, *OUTLINE)
    # What follows is nothing where nobody owns anything, and is computed where somebody does.
    sigma = max(sigmas[2], COHERENT / less)
    core_s = bounding_box(owned_s > OWNED[0], round(4 * sigma) + 1)  # as far as that blur reaches
    if core_s is None:
        return dark[:0], glow[:0], np.zeros_like(ownership), None
    core, some = core_s.scaled(less), core_s.slices
    # What smooth shadow leaves over may be a hard edge before it is a picture.
    smooth = dark[some].copy()
    sharp, near = (windows.enlarged(x)[some] for x in (rough, known))
    more = outline(smooth, left[some], below_s[some], sharp, near)
    dark[some] += more
    left[some] += grey(more) * below_s[some]
    rough = picture_share(mean_size(left, windows, 0), found[0].dd, grain)
    mirror = windows.enlarged(1 - (1 - brightens(goal_s, windows)) * (1 - rough))
    bright = dark
    if mirror.max() > 0:
        bright = fit_mirror(found[0], goal_s, below_s, windows, noise_s, core_s)
    coherent = np.zeros_like(goal_s)
    coherent[some] = cv2.GaussianBlur(goal_s[some] * windows.weights[some], (0, 0), sigma)
    energy_s = channel_max(windows.enlarged(windows.mean(coherent * coherent, 1))[some])
    sure = np.ones_like(energy_s)
    if doubt is not None:
        darker, brighter = cv2.split(reduced(doubt, less))
        unsure = np.where(channel_sum(coherent) > 0, brighter, darker)
        unsure = windows.enlarged(windows.mean(unsure * unsure, 1))[some]
        sure = smoothstep(np.sqrt(energy_s / np.maximum(unsure, 1e-8)), *DOUBTED)

    part = core.slices
    to = goal[part].shape[:2]
    dark, glow, own, bright, energy, sure = (
        enlarged(x, to)
        for x in (dark[some], glow[some], mirror[some], bright[some], energy_s, sure)
    )
    if less > 1:
        # Enlarged, its edges would be soft again.
        dark = enlarged(smooth, to)
        rest = goal[part] + grey(dark) * below[part] - glow
        dark += outline(dark, rest, below[part], enlarged(sharp, to), enlarged(near, to))
    alpha = dark + own * (bright - dark)
    limit = grey(alpha)
    glow = np.clip(glow, 0, limit)
    picture = np.clip(goal[part] + limit * below[part], 0, limit)
    light = glow + grey(own) * (picture - glow)

    shown = sure * smoothstep(np.sqrt(energy) / cropped(noise, core), *EVIDENCE)
    faded = alpha * (shown * smoothstep(owned[part], *OWNED))
    faded = faded * smoothstep(faded, *LEAST)
    light = light * grey(faded / np.maximum(alpha, LEAST[0]))
    return faded, np.minimum(light, grey(faded)), enlarged(mirror, shape), core


def thinning(sigma: float, shape: tuple[int, ...]) -> int:
    """How many times as small a picture (H, W) is on which effects are fitted: a power of two.

    sigma: pixels, of the finest windows, of which a cell keeps two pixels a side.
    """
    less = 1 << max(0, (grid_step(sigma) // 2).bit_length() - 1)
    while any(side % less for side in shape):
        less //= 2
    return less


@dataclass(frozen=True)
class Moments:
    """Means over windows of one size, summed over the channels where they are scalars.

    p, d: (h, w, 3) plate and change. pp, pd, dd: (h, w) their products.
    """

    p: np.ndarray
    d: np.ndarray
    pp: np.ndarray
    pd: np.ndarray
    dd: np.ndarray

    @property
    def texture(self) -> np.ndarray:
        """The plate's deviation within each window, of one channel, (h, w)."""
        return np.sqrt(np.maximum(self.pp - channel_sum(self.p * self.p), 0) / 3)

    def regress(self, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Alpha (h, w), light (h, w, 3), and the ridge variance of the plate (h, w)."""
        variance = self.pp - rho * channel_sum(self.p * self.p) + PRIOR
        alpha = -(self.pd - rho * channel_sum(self.p * self.d)) / variance
        return alpha, rho * (self.d + grey(alpha) * self.p), variance

    def left(self, alpha: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Mean square of what alpha (h, w) and light (h, w, 3) do not explain, all channels."""
        square = self.dd + 2 * alpha * self.pd + alpha * alpha * self.pp
        square += channel_sum(light * (light - 2 * self.d - 2 * grey(alpha) * self.p))
        return np.maximum(square, 0)


def channel_sum(x: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 to (H, W), several times faster than NumPy over a short last axis."""
    return cv2.transform(x, SUM)


def moments(change: np.ndarray, below: np.ndarray, windows: Windows) -> list[Moments]:
    """For windows of every size."""
    p, d = windows.means(below), windows.means(change)
    pp = windows.means(channel_sum(below * below))
    pd = windows.means(channel_sum(below * change))
    dd = windows.means(channel_sum(change * change))
    return [Moments(*x) for x in zip(p, d, pp, pd, dd, strict=True)]


def fit_shadow(
    found: list[Moments], windows: Windows, grain: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Smooth alpha (H, W) and light (H, W, 3) of what darkens. grain: (h, w) of the grid, the
    noise's deviation.

    From coarse windows to fine ones: a finer window is believed where it differs from the coarser
    by more than its standard error, as it does at a shadow's edge.
    """
    alpha = light = None
    for level, m in enumerate(found):
        a, b, variance = m.regress(RHO)
        black, _, _ = m.regress(0.0)
        # A darker place than black makes it: the plain shadow is the better model there.
        size = channel_sum(np.abs(b)) + 1e-4
        negative = np.clip(-2 * channel_sum(b) / size, 0, 1)
        a = np.clip(a + negative * (black - a), 0, 1)
        # A coloured shadow darkens one channel more than another, and light cannot be negative:
        # alpha grows to what the channel needs that would be left the brightest.
        # The largest of three is not to be noise.
        mean_noise = grey(NOISY_MEAN * grain / np.sqrt(windows.count(level)))
        short = np.maximum(-(m.d + grey(a) * m.p) - mean_noise, 0)
        # One that is nearly black beside the others would make too much of its noise.
        heard = smoothstep(m.p * m.p / grey(m.pp + PRIOR), *HEARD)
        need = channel_max(heard * short * m.p / (m.p * m.p + PRIOR))
        a = np.minimum(a + need, 1)
        b = np.clip(m.d + grey(a) * m.p, 0, grey(a))
        if alpha is None or light is None:
            alpha, light = a, b
            continue
        error = m.left(a, b) / (variance * windows.count(level))
        differs = windows.smooth(np.square(a - alpha), level)
        error = windows.smooth(error, level)
        trust = differs / (differs + SIGNIFICANT * error + 1e-7)
        alpha = alpha + trust * (a - alpha)
        light = light + grey(trust) * (b - light)
    assert alpha is not None and light is not None
    return windows.enlarged(alpha), windows.enlarged(light)


def outline(
    alpha: np.ndarray,
    left: np.ndarray,
    below: np.ndarray,
    share: np.ndarray,
    noise: np.ndarray | float,
) -> np.ndarray:
    """What a smooth shadow's alpha (H, W) lacks to be sharp: the rest as black pixel by pixel.

    left, below: (H, W, 3), what the smooth shadow leaves of the change, and the ground. share: (H,
    W) in [0, 1], how much of the outline is wanted.
    """
    grain = 3 * np.square(np.float32(noise))
    ground = channel_sum(below * below)
    black = -channel_sum(left * below) / (ground + SHARP_PRIOR * grain)
    size = np.abs(black) * np.sqrt(ground / (grain + 1e-12))
    return np.clip(alpha + black * share * smoothstep(size, *SHARP), 0, 1) - alpha


def brightens(change: np.ndarray, windows: Windows) -> np.ndarray:
    """How much each place's change (H, W, 3) is a reflection or light by brightening, (h, w) of
    the grid in [0, 1]."""
    up = windows.mean(channel_sum(np.maximum(change, 0)), 0)
    size = windows.mean(channel_sum(np.abs(change)), 0)
    return smoothstep(up / np.maximum(size, 1e-4), *BRIGHTENS)


def mean_size(left: np.ndarray, windows: Windows, level: int) -> np.ndarray:
    """The deviation of what is left (H, W, 3) of a change, (h, w) of the grid, of one channel.

    level: of the windows that it is taken over.
    """
    return np.sqrt(windows.mean(channel_sum(left * left), level) / 3)


def picture_share(size: np.ndarray, energy: np.ndarray, grain: np.ndarray) -> np.ndarray:
    """How far a shadow falls short of each place's change, (h, w) of the grid in [0, 1].

    size: (h, w), the deviation of what it leaves of the change, and energy: (h, w), the change's
    mean square, all channels, both in the coarsest windows. grain: (h, w), that of the noise.
    """
    share = 3 * size * size / np.maximum(energy, 1e-6)
    return smoothstep(share, *PICTURE) * smoothstep(size / grain, *PICTURE_NOISE)


def fit_mirror(
    m: Moments,
    change: np.ndarray,
    below: np.ndarray,
    windows: Windows,
    noise: np.ndarray | float,
    core: Box,
) -> np.ndarray:
    """Smooth alpha (H, W) with which a picture's colours make the change: at least the least alpha
    around, more where the ground's texture fades in the frame. Outside of `core` nothing changes.
    """
    least, part = np.zeros(windows.shape, np.float32), core.slices
    least[part] = sure_min_alpha(change[part], below[part], cropped(noise, core))
    envelope = windows.mean(least**ENVELOPE, -2) ** np.float32(1 / ENVELOPE)
    envelope = np.minimum(envelope * ENVELOPE_MARGIN, 1)
    texture = np.maximum(m.pp - channel_sum(m.p * m.p), 0)
    together = -(m.pd - channel_sum(m.p * m.d))
    unsure = UNSURE * m.dd / windows.count(0)
    fades = (together + unsure * envelope) / (texture + unsure + 1e-7)
    return windows.enlarged(np.clip(np.maximum(fades, envelope), 0, 1))

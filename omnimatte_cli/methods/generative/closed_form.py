"""Layers from a solo video and its plate in closed form, frame by frame at any size.

The solo frame S is a layer over the plate P: S = (1 - a) P + a F. In a small window with one alpha
a and one colour F that is a linear regression of S on P with one slope for the three channels,
1 - a, and an offset for each, a F. A flat plate leaves slope and offset undecided: a pull of F to
black (where the solo is darker) or white (where it is lighter) then gives the smallest alpha, as
`resolve` does pixel by pixel. What the window cannot explain, alpha is raised for.
The object's body has alpha 1 and the solo's own colour.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.arrays import channel_max, frame_or_static, to_float
from omnimatte_cli.matte.closed_form import min_alpha
from omnimatte_cli.matte.noise import NOISE_FRAMES, RESTLESS_LIMIT, RESTLESS_QUANTILE
from omnimatte_cli.matte.ownership import EDGE, smoothstep, soft_edge
from omnimatte_cli.matte.resolve import BODY_CHANGE, SMOOTHING

WINDOW = 1 / 120  # sigma of the regression's window, share of the frame's height
PULL = 1.0  # weight of the pull to black or white against the window's fit
EVIDENCE = (2.0, 4.0)  # smoothed change in deviations of its noise: none below, all above
UNEXPLAINED = (2.0, 4.0)  # error of the window's fit, in deviations of the noise, that raises alpha
EVIDENCE_BLUR = 1 / 50  # sigma of the blur that evidence is sought with, share of the height
STEEP_QUANTILE = 0.9  # steepness of an image above which the offset of its texture is measured
CALM_QUANTILE = 0.75  # of the changes outside the body that measures their noise
NOISE_FLOOR = 0.1 / 255  # of a pair that differs nowhere
RIDGE = 1e-5  # keeps colours near the plate's where alpha is almost 0
BASE_ALPHA = (0.08, 0.2)  # enlarged alpha of a base optimisation: no layer below, one above
BASE_BODY = (0.6, 0.9)  # the same, where there is no mask: transparent below, opaque above


@dataclass(frozen=True)
class SoloNoise:
    """How far a solo video is from its plate where nothing happens, (h, w) float32 in [0, 1].

    pixel: of single pixels. smooth: after the blur that evidence is sought with. offset: pixels by
    which texture in the two is apart, so that steep places differ more.
    """

    pixel: np.ndarray
    smooth: np.ndarray
    offset: float = 0.0

    def resized(self, size: tuple[int, int]) -> SoloNoise:
        """At another (H, W)."""
        pixel, smooth = (cv2.resize(x, size[::-1]) for x in (self.pixel, self.smooth))
        return SoloNoise(pixel, smooth, self.offset * size[0] / self.pixel.shape[0])


def measure_noise(solo: np.ndarray, plates: np.ndarray, masks: np.ndarray) -> SoloNoise:
    """The noise of a solo video against its plate.

    solo: (T, h, w, 3) uint8; plates: (1 or T, h, w, 3) uint8; masks: (T, h, w) bool, the body.
    """
    picks = range(0, len(solo), max(1, len(solo) // NOISE_FRAMES))
    change = [to_float(solo[t]) - to_float(frame_or_static(plates, t)) for t in picks]
    smooth = [cv2.GaussianBlur(x, (0, 0), evidence_sigma(solo.shape[1])) for x in change]
    free = ~masks[:: picks.step]
    slopes = np.stack([steepness(to_float(frame_or_static(plates, t))) for t in picks])
    steep = free & (slopes > np.quantile(slopes, STEEP_QUANTILE)) & (slopes > 0.01)
    offset = 0.0
    if steep.any():
        size = np.stack([channel_max(np.abs(x)) for x in change])
        offset = float(np.median(size[steep] / slopes[steep]))
    return SoloNoise(deviation(change, free), deviation(smooth, free), offset)


def evidence_sigma(height: int) -> float:
    """Pixels over which a change must be coherent; texture that is a little off cancels out."""
    return max(SMOOTHING, EVIDENCE_BLUR * height)


def steepness(image: np.ndarray) -> np.ndarray:
    """How much an image (H, W, 3) float32 changes from pixel to pixel, (H, W)."""
    across = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=0.125)
    return channel_max(np.sqrt(across * across + down * down))


def deviation(changes: list[np.ndarray], free: np.ndarray) -> np.ndarray:
    """How far changes (T of (h, w, 3)) deviate from 0 where nothing happens, (h, w) float32.

    free: (T, h, w) bool, outside the body. Everywhere at least that of the calmer three quarters of
    all pixels (a codec's noise is uneven, and effects rarely fill a quarter of an image); more
    where a pixel is restless at most times, which effects that pass do not reach. Unlike
    `residual_noise` it has no floor of a level: a rendered pair may be exact.
    """
    size = np.stack([channel_max(np.abs(x)) for x in changes])
    # The quantile 0.75 of the largest of three normal values is at 1.68 sigma.
    calm = float(np.quantile(size[free], CALM_QUANTILE)) / 1.68 if free.any() else 0.0
    general = max(calm, NOISE_FLOOR)
    # The quantile 0.3 of the largest of three is at 0.97 sigma.
    local = cv2.GaussianBlur(np.quantile(size, RESTLESS_QUANTILE, axis=0) / 0.97, (0, 0), 2.0)
    return np.clip(local, general, RESTLESS_LIMIT * general).astype(np.float32)


def window_alpha(
    solo: np.ndarray, plate: np.ndarray, weight: np.ndarray, sigma: float, pull: float = PULL
) -> np.ndarray:
    """Alpha by regression of the solo frame on its plate in Gaussian windows.

    solo, plate: (H, W, 3) float32 in [0, 1]. weight: (H, W) in [0, 1], the pixels that count (not
    the body). sigma: pixels. Minimises sum_c E[(s_c - k p_c - b_c)^2] + pull b_c^2 with s and p
    counted from black or white, and returns alpha = 1 - k, (H, W) float32 in [0, 1].
    """

    def mean(x: np.ndarray) -> np.ndarray:
        total = cv2.GaussianBlur(x * (weight if x.ndim == 2 else weight[..., None]), (0, 0), sigma)
        return total / (norm if x.ndim == 2 else norm[..., None])

    norm = cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-4
    lighter = mean((solo - plate).sum(2)) > 0
    end = lighter[..., None].astype(np.float32)
    p, s = plate - end, solo - end
    mean_p, mean_s = mean(p), mean(s)
    share = 1 / (1 + pull)
    top = mean((s * p).sum(2)) - share * (mean_s * mean_p).sum(2)
    below = mean((p * p).sum(2)) - share * (mean_p * mean_p).sum(2)
    return np.clip(1 - top / np.maximum(below, 1e-5), 0, 1)


def solo_layer(
    solo: np.ndarray,
    plate: np.ndarray,
    mask: np.ndarray | None,
    noise: SoloNoise,
    base: np.ndarray | None = None,
) -> np.ndarray:
    """One object's layer in one frame, (H, W, 4) float32 straight RGBA in [0, 1].

    solo, plate: (H, W, 3) uint8. mask: (H, W) bool, the body; None only with `base`. noise: at this
    size. base: (H, W) float32, enlarged alpha of an optimisation, which then says where the layer
    is at all, and where it is opaque if there is no mask.
    """
    height, width = plate.shape[:2]
    s, p = to_float(solo), to_float(plate)
    change = s - p
    size = channel_max(np.abs(change))
    if mask is not None:
        edge = soft_edge(mask, EDGE * (height * width) ** 0.5)
    else:
        assert base is not None
        edge = smoothstep(base, *BASE_BODY)
    body = smoothstep(edge, 0.5, 0.95)

    outside = (1 - smoothstep(edge, 0.0, 0.3)).astype(np.float32)
    alpha = window_alpha(s, p, outside, max(1.0, WINDOW * height))
    least = min_alpha(change, p)
    error = channel_max(np.abs(s - blend(closed_colour(s, p, alpha), alpha, p)))
    expected = np.hypot(noise.pixel, noise.offset * steepness(p))
    raised = smoothstep(error / expected, *UNEXPLAINED)
    alpha = alpha + raised * np.maximum(least - alpha, 0)

    coherent = channel_max(np.abs(cv2.GaussianBlur(change, (0, 0), evidence_sigma(height))))
    present = smoothstep(coherent / noise.smooth, *EVIDENCE)
    if base is not None:
        present = present * smoothstep(base, *BASE_ALPHA)
    alpha = alpha * present
    # At the mask's rim the change says what is object and what is plate.
    solid = np.maximum(body, smoothstep(edge, 0.4, 0.6) * smoothstep(size, *BODY_CHANGE))
    alpha = np.clip(np.maximum(alpha, solid), 0, 1)
    return np.dstack([closed_colour(s, p, alpha), alpha])


def closed_colour(solo: np.ndarray, plate: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The colours in [0, 1] with which a layer of this alpha gives the solo as nearly as can be."""
    gain = alpha / (alpha * alpha + RIDGE)
    colour = plate + (solo - plate) * gain[..., None]
    return np.where((alpha > 0.999)[..., None], solo, np.clip(colour, 0, 1))


def blend(colour: np.ndarray, alpha: np.ndarray, plate: np.ndarray) -> np.ndarray:
    """A layer (H, W, 3), (H, W) over a plate (H, W, 3)."""
    return plate + alpha[..., None] * (colour - plate)

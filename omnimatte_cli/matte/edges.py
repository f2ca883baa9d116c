"""The body's edge: alpha where a rough mask does not say.

Masks are a few pixels off. Around a mask's outline lies a band in which alpha is solved for by
closed-form matting (`laplacian.py`) with what is known besides the frame: the ground, that is the
plate with the object's own effects on it, and the object's colours, taken from its inside near by.
The difference matte

    alpha = <frame - ground, colour - ground> / |colour - ground|^2

is a term of its own, as far as ground and colour are different and the frame is a mixture of them;
a colour that is neither the ground in any light nor a mixture is body; the ground in another light,
where the body has another hue, is not. Where nothing is known the mask decides, with little weight,
and with more of it inside where it takes in no ground: the matting Laplacian carries the decision
along, so that no pixel is decided alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.matte.blur import wide_blur
from omnimatte_cli.matte.box import Box, bounding_box, cropped
from omnimatte_cli.matte.compositing import grey, repeated
from omnimatte_cli.matte.effects import channel_sum
from omnimatte_cli.matte.laplacian import MattingLaplacian, solve_alpha
from omnimatte_cli.matte.ownership import smoothstep

# Lengths are shares of the picture's mean side, the root of its area.
BAND = 0.0125  # half width of the unknown band: 6 px at 640x360
NEAR = 0.015  # sigma over which the inside's colours are taken


COLOUR_SPREAD = 0.04  # least deviation of the object's colours in [0, 1]
GROUND_SPREAD = 0.012  # least deviation of the frame from the ground
OFF_GROUND = (1.0, 3.0)  # deviations off the ground: the ground .. not
DOUBT = 0.02  # what a pixel counts for the body's colours that looks like the ground
DENOISE = 0.7  # pixels; sigma of a blur of what is compared
MIXTURE = 8.0  # variances off the line between ground and colour at which the matte counts 1/e
MATTE = (0.15, 0.85)  # mixtures that are nothing but ground .. nothing but body
STRANGE = 0.5  # weight of a body's colours that its inside does not show
STRANGENESS = (3.0, 8.0)  # deviations off the ground in any light: ground .. such a colour
SHADE = 0.1  # weight of the ground in another light
SAME_HUE = (1.5, 4.0)  # deviations off the ground in any light: the ground .. not
SHADOW_LIGHT = (0.3, 0.5)  # brightness of the ground: could be a dark body .. a shadow
BRIGHT_LIGHT = (1.15, 1.3)  # a reflection .. could be a bright body
DEEP = 3.0  # bands inside the mask that a shadow in it may reach
DATA = 0.15  # weight of the difference matte
APART = (1.0, 2.5)  # difference of body and ground, in deviations: not to be told apart .. clear
SPREAD = 0.03  # noise of the colours in a window of the matting Laplacian
PRIOR = 3e-3  # weight of the mask itself at its outline
DEEP_PRIOR = 10.0  # by how much that weight grows towards the band's ends
BESIDE = 0.1  # of the prior that is beside the outline
OFTEN = (0.1, 0.25)  # share of the inner rim that is ground: the mask is right .. rough
BELIEF = 40.0  # how many times more a right mask weighs inside
STEPS = 60  # of conjugate gradients
SURE = (0.1, 0.9)  # alphas that are 0 .. 1: sensors blur an outline over a pixel or two


@dataclass(frozen=True)
class Trimap:
    """Where the mask is sure. inside, unknown: (H, W) bool; the rest is outside.

    shallow: (H, W) bool, what of the inside may be unknown still. prior: (H, W) float32, 0 .. 1,
    what the mask alone says, 0.5 on its outline.
    """

    inside: np.ndarray
    shallow: np.ndarray
    unknown: np.ndarray
    prior: np.ndarray


def make_trimap(mask: np.ndarray, band: float) -> Trimap:
    """mask: (H, W) bool, or float32 where masks of several frames disagree. band: pixels."""
    soft = mask.astype(np.float32)
    near = signed_distance(soft >= 0.5)
    unsure = np.abs(soft - 0.5) < 0.45
    unknown = (np.abs(near) < band) | unsure
    prior = np.clip(0.5 + near / (2 * band), 0, 1)
    # Where neighbours in time disagree the outline itself is not to be trusted.
    prior = np.where(unsure, 0.5 * (prior + soft), prior).astype(np.float32)
    inside = (near >= band) & ~unsure
    return Trimap(inside, inside & (near < DEEP * band), unknown, prior)


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the outline of a mask (H, W) bool: positive inside. (H, W) float32."""
    if not mask.any() or mask.all():
        return np.full(mask.shape, 1e4 if mask.any() else -1e4, np.float32)
    inside = mask.astype(np.uint8)
    there = cv2.distanceTransform(inside, cv2.DIST_L2, 3)
    away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    return np.asarray(there - away + np.where(mask, -0.5, 0.5), np.float32)


def find_alpha(
    frame: np.ndarray,
    ground: np.ndarray,
    mask: np.ndarray,
    noise: np.ndarray | float,
    side: float | None = None,
    right: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Alpha of a body, (H, W) float32 in [0, 1].

    frame, ground: (H, W, 3) float32 in [0, 1]; the ground is what would be seen without the body.
    mask: (H, W) bool, its visible part, or float32 where masks of several frames disagree. noise:
    (H, W) or a number, the residual's deviation where nothing happens. side: mean side of the
    picture that these are part of, in pixels; None: they are all of it. right: (H, W) or a
    number, in [0, 1], how surely the mask takes in no ground.
    """
    shape = mask.shape
    side = side or float(np.sqrt(shape[0] * shape[1]))
    alpha = np.zeros(shape, np.float32)
    box = edge_box(mask, side)
    if box is not None:
        part = box.slices
        near = cropped(noise, box)
        trimap = make_trimap(mask[part], band_of(side))
        alpha[part] = solve_edge(frame[part], ground[part], trimap, near, side, cropped(right, box))
    return alpha


def band_of(side: float) -> float:
    """Half width in pixels of the unknown band in a picture with this mean side."""
    return max(BAND * side, 2.0)


def edge_box(mask: np.ndarray, side: float, margin: int = 0) -> Box | None:
    """The part of a picture where a mask (H, W) may have alpha, grown by a margin in pixels."""
    return bounding_box(mask > 0.05, round(2 * band_of(side)) + 2 + margin)


def solve_edge(
    frame: np.ndarray,
    ground: np.ndarray,
    trimap: Trimap,
    noise: np.ndarray | float,
    side: float,
    right: np.ndarray | float = 0.0,
) -> np.ndarray:
    """`find_alpha` for a part of a picture with this mean side."""
    off = cv2.GaussianBlur(frame - ground, (0, 0), DENOISE)
    colour, spread = inside_colours(frame, off, trimap, NEAR * side, noise)
    matte, trust = difference_matte(off, ground, colour, spread, noise)
    seen_through = cv2.blur(trust * (matte < 0.1), (3, 3)) > SHADE / 2
    unknown = trimap.unknown | (trimap.shallow & seen_through)
    alpha = np.where(unknown, matte, trimap.inside).astype(np.float32)
    # The windows that an unknown pixel lies in reach two pixels beyond it.
    box = bounding_box(unknown, 2)
    if box is not None:
        part = box.slices
        trust, matte, guess = trust[part], matte[part], trimap.prior[part]
        share = ground_in_rim(off[part], guess, unknown[part], cropped(noise, box))
        firm = cropped(right, box) * BELIEF * (1 - smoothstep(share, *OFTEN))
        firm = firm * (guess > 0.5 + BESIDE)
        prior = PRIOR * (1 + DEEP_PRIOR * np.square(2 * guess - 1))
        total = trust + prior * (1 + firm)
        weight = unknown[part] * total
        target = (trust * matte + prior * (guess + firm)) / total  # a right mask says 1 inside
        laplacian = MattingLaplacian(frame[part], SPREAD)
        alpha[part] = solve_alpha(laplacian, alpha[part], unknown[part], weight, target, STEPS)
    return np.asarray(smoothstep(alpha, *SURE), np.float32)


def ground_in_rim(
    off: np.ndarray, prior: np.ndarray, unknown: np.ndarray, noise: np.ndarray | float
) -> np.ndarray:
    """Of a mask's inner rim, the share that looks like the ground as it is.

    off: (h, w, 3), the frame less the ground, without noise. prior: (h, w). unknown: (h, w) bool,
    the band around the mask's outline. noise: (h, w) or a number, as above.
    """
    rim = unknown & (prior > 0.5 + BESIDE)
    far = np.sqrt(channel_sum(off * off) / 3) / np.maximum(noise, GROUND_SPREAD)
    like = 1 - smoothstep(far, *OFF_GROUND)
    return np.asarray(like[rim].mean() if rim.any() else 0, np.float32)


def difference_matte(
    off: np.ndarray,
    ground: np.ndarray,
    colour: np.ndarray,
    variance: np.ndarray,
    noise: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """Alpha (H, W) between a known ground and a known colour, and the weight (H, W) that it has.

    off: (H, W, 3), the frame less the ground, without noise. variance: (H, W) of the colour, mean
    of the channels. The weight is small where ground and colour are alike, and where the frame is
    no mixture of the two.
    """
    quiet = np.square(np.maximum(noise, GROUND_SPREAD))
    way = colour - ground
    length = channel_sum(way * way)
    alpha = np.clip(channel_sum(off * way) / np.maximum(length, 1e-6), 0, 1)
    spread = alpha * alpha * variance + quiet
    aside = channel_sum(np.square(off - grey(alpha) * way)) / spread
    apart = length / (variance + quiet)
    trust = DATA * np.exp(-aside / MIXTURE) * smoothstep(np.sqrt(apart), *APART)
    # Neither the ground, nor the ground in another light: a colour that the inside does not show.
    lit, strange = in_light(ground + off, ground, quiet)
    other = STRANGE * smoothstep(strange, *STRANGENESS) * (1 - trust / DATA)
    # The ground in another light, where the body is not like that: a shadow within the mask.
    _, hue = in_light(colour, ground, variance + quiet)
    shade = SHADE * (1 - smoothstep(strange, *SAME_HUE)) * lit * smoothstep(hue, *APART)
    total = trust + other + shade
    return (trust * smoothstep(alpha, *MATTE) + other) / np.maximum(total, 1e-9), total


def in_light(
    x: np.ndarray, ground: np.ndarray, variance: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """How well x (H, W, 3) is the ground (H, W, 3) in another light.

    Returns two (H, W) in [0, 1]: whether its brightness is that of a shadow or of some light, and
    its distance from the ground in any light, in deviations.
    """
    light = channel_sum(x * ground) / np.maximum(channel_sum(ground * ground), 1e-4)
    off = channel_sum(np.square(x - grey(light) * ground))
    usual = smoothstep(light, *SHADOW_LIGHT) * (1 - smoothstep(light, *BRIGHT_LIGHT))
    return usual, np.sqrt(off / variance)


def nearby_mean(x: np.ndarray, weight: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean of x (H, W, C) around each pixel, and the weight (H, W) that there was.

    Far from any weight the window is widened fourfold.
    """
    c = x.shape[2]
    out, total = None, None
    for scale in (4 * sigma, sigma):
        w = wide_blur(weight, scale)
        sums = wide_blur(x * repeated(weight, c), scale)
        mean = sums / repeated(np.maximum(w, 1e-6), c)
        if out is None or total is None:
            out, total = mean, w
        else:
            t = smoothstep(w, 0.01, 0.1)
            out, total = out + repeated(t, c) * (mean - out), w
    assert out is not None and total is not None
    return out, total


def inside_colours(
    frame: np.ndarray,
    off: np.ndarray,
    trimap: Trimap,
    sigma: float,
    noise: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """The object's colour near each pixel (H, W, 3), and its variance (H, W), mean of channels.

    off: (H, W, 3), the frame less the ground, without noise.
    """
    weight = trimap.inside.astype(np.float32)
    if not weight.any():
        weight = (trimap.prior >= 0.5).astype(np.float32)
    # Masks take in ground around feet and between legs: what looks like it hardly counts.
    far = np.sqrt(channel_sum(off * off) / np.square(np.maximum(noise, GROUND_SPREAD)))
    weight = weight * np.maximum(smoothstep(far, *OFF_GROUND), DOUBT)
    both = cv2.merge([*cv2.split(frame), channel_sum(frame * frame)])
    mean, _ = nearby_mean(both, weight, sigma)
    colour = np.ascontiguousarray(mean[..., :3])
    variance = (mean[..., 3] - channel_sum(colour * colour)) / 3
    return colour, np.maximum(variance, 0) + np.float32(COLOUR_SPREAD**2)

"""Closed-form matting: the alpha that is locally a linear function of colour.

Levin, Lischinski and Weiss, "A Closed-Form Solution to Natural Image Matting", 2008. The matting
Laplacian is never built: its product with a picture is a guided filter's (He, Sun and Tang, "Fast
Matting Using Large Kernel Matting Laplacian Matrices", CVPR 2010), a few box sums.
"""

from __future__ import annotations

import cv2
import numpy as np

WINDOW = 3  # pixels; side of the windows in which alpha is linear in colour
TOLERANCE = 0.01  # share of the first residual at which the iterations stop

Pixels = np.ndarray  # (H, W), float32 but where it is said


class MattingLaplacian:
    """The matting Laplacian of a picture as a linear operator on (H, W) float32.

    image: (H, W, 3) float32 in [0, 1], at least 3x3. spread: deviation of colours within a window
    that is taken for noise.
    """

    def __init__(self, image: np.ndarray, spread: float) -> None:
        self.channels = [np.ascontiguousarray(c) for c in cv2.split(image)]
        self.inner = np.zeros(image.shape[:2], np.float32)  # the windows that lie inside
        self.inner[1:-1, 1:-1] = 1
        self.count = sums(self.inner)
        # Where a window is of one colour, its covariance and that matrix's determinant are what
        # rounding leaves of differences: in single precision the inverse there is noise.
        channels = [c.astype(np.float64) for c in self.channels]
        mean = [means(c) for c in channels]
        self.mean = [m.astype(np.float32) for m in mean]
        (r, g, b), (mr, mg, mb) = channels, mean
        floor = spread**2 / WINDOW**2
        rr, gg, bb = (means(c * c) - m * m + floor for c, m in zip(channels, mean, strict=True))
        rg, rb, gb = means(r * g) - mr * mg, means(r * b) - mr * mb, means(g * b) - mg * mb
        minors = (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb)
        scale = self.inner / (rr * minors[0] + rg * minors[1] + rb * minors[2])
        others = (rr * bb - rb * rb, rg * rb - rr * gb, rr * gg - rg * rg)
        # The inverse covariance of every window: rr, rg, rb, gg, gb, bb.
        inverse = [scale * x for x in (*minors, *others)]
        self.diagonal = self._diagonal(inverse, channels, mean).astype(np.float32)  # (H, W)
        self.inverse = [x.astype(np.float32) for x in inverse]

    def __matmul__(self, x: Pixels) -> Pixels:
        level = means(x)
        together = [means(c * x) - m * level for c, m in zip(self.channels, self.mean, strict=True)]
        slopes = times(self.inverse, together)
        offset = level - sum_of_products(slopes, self.mean)
        fitted = sum_of_products([sums(s) for s in slopes], self.channels)
        return self.count * x - fitted - sums(offset * self.inner)

    def _diagonal(
        self, inverse: list[Pixels], channels: list[Pixels], mean: list[Pixels]
    ) -> Pixels:
        rr, rg, rb, gg, gb, bb = (sums(x) for x in inverse)
        r, g, b = channels
        square = rr * r * r + gg * g * g + bb * b * b + 2 * (rg * r * g + rb * r * b + gb * g * b)
        at_mean = times(inverse, mean)
        square -= 2 * sum_of_products([sums(x) for x in at_mean], channels)
        square += sums(sum_of_products(at_mean, mean))
        return self.count - (self.count + square) / WINDOW**2


def times(symmetric: list[Pixels], v: list[Pixels]) -> list[Pixels]:
    """A symmetric matrix a pixel (rr, rg, rb, gg, gb, bb) times a vector (r, g, b) a pixel."""
    rr, rg, rb, gg, gb, bb = symmetric
    return [sum_of_products(row, v) for row in ((rr, rg, rb), (rg, gg, gb), (rb, gb, bb))]


def means(x: Pixels) -> Pixels:
    return cv2.boxFilter(x, -1, (WINDOW, WINDOW))


def sums(x: Pixels) -> Pixels:
    return cv2.boxFilter(x, -1, (WINDOW, WINDOW), normalize=False, borderType=cv2.BORDER_CONSTANT)


def sum_of_products(a: list[Pixels] | tuple[Pixels, ...], b: list[Pixels]) -> Pixels:
    out = a[0] * b[0]
    for x, y in zip(a[1:], b[1:], strict=True):
        out += x * y
    return out


def solve_alpha(
    laplacian: MattingLaplacian,
    start: Pixels,
    unknown: np.ndarray,
    weight: Pixels,
    target: Pixels,
    steps: int,
) -> Pixels:
    """The alpha that minimises alpha^T L alpha + sum of weight (alpha - target)^2.

    start: (H, W), the first guess; it holds where `unknown` (H, W) bool is false. weight, target:
    (H, W). steps: at most so many steps of conjugate gradients, preconditioned by the diagonal.
    """
    free = unknown.astype(np.float32)
    x = start.astype(np.float32)
    precondition = free / np.maximum(laplacian.diagonal + weight, 1e-3)
    residual = free * (weight * (target - x) - (laplacian @ x))
    z = precondition * residual
    way = z
    strength = first = float((residual * z).sum())
    for _ in range(steps):
        if strength <= TOLERANCE**2 * first or strength <= 0:
            break
        image = free * ((laplacian @ way) + weight * way)
        curvature = float((way * image).sum())
        if curvature <= 1e-12:
            break  # rounding is all that is left
        length = strength / curvature
        x = x + length * way
        residual = residual - length * image
        z = precondition * residual
        strength, before = float((residual * z).sum()), strength
        way = z + (strength / before) * way
    return np.clip(x, 0, 1)

"""Bodies before grounds, with what they do to the ground's light: pairs of what a matting network
sees and the alpha that it should find.

A picture costs some ten milliseconds: figures of `figures.py`, filled with patches of pictures, lie
over another picture in which they throw shadows and are mirrored; the plate is that ground with
the faults that plates have, and the mask is rough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from omnimatte_cli.synth.clips import clouds, fill, leaves, noise_field, outline, palette, pattern
from omnimatte_cli.synth.figures import PARTS, Figure, random_figure
from omnimatte_cli.synth.rough import rough_mask

SHEET = 384  # pixels a side of the pictures that grounds and bodies are cut from
PLANES = 9  # of a cutout: frame 3, plate 3, mask, other objects' masks, alpha
SCALES = (0.35, 2.0)  # of those pictures in a ground: log-uniform
SOFTNESS = ((0.4, 0.35), (0.7, 0.4), (1.2, 0.18), (2.2, 0.07))  # sigma of an outline, its share
# Of the bodies that throw shadows, the share that have no colours of their own where they stand,
# and the share that stand in those shadows.
BAREFOOT, SHADED_BODY = 0.5, 0.4
DRESSED = 0.5  # share of the bodies whose limbs have colours of their own
ROUNDED = 0.4  # share of the bodies that are lit from one side
PANELLED = 0.25  # share of the bodies with panes or signs in the colour of the ground behind them
GRAIN = (0.0, 0.004, 0.01, 0.02)  # deviation of the noise
LENS = ((0.0, 0.3), (0.35, 0.3), (0.6, 0.25), (0.9, 0.15))  # sigma of the blur, its share


@dataclass(frozen=True)
class Studio:
    """Makes cutouts. sheets: (M, SHEET, SHEET, 3) uint8, of `make_sheets`. side: pixels."""

    sheets: np.ndarray
    side: int = 128

    def cutout(self, seed: int) -> np.ndarray:
        """The cutout of a seed, (S, S, PLANES) uint8."""
        rng = np.random.default_rng([seed, 0xC070])
        ground = self._patch(rng, SCALES)
        if rng.random() < 0.35:  # something stands there
            ground = self._laid(rng, ground, self._patch(rng, SCALES), (10, 60))
        figure = random_figure(rng, self.side)
        alpha = softened(rng, figure)
        light = lit(rng, figure)
        body = self._shod(rng, self._body(rng, ground, figure), ground, figure)
        body = panelled(rng, body, ground, figure) if rng.random() < PANELLED else body
        if rng.random() < SHADED_BODY:  # stands in the shadow that it throws
            body = body * (1 - np.float32(rng.uniform(0.3, 1)) * (1 - light))
        scene = ground * light
        if rng.random() < 0.2:
            scene = mirrored(rng, scene, body, alpha, figure)
        if rng.random() < 0.1:  # something of its own that no mask is of
            scene = self._laid(rng, scene, self._body(rng, ground), (6, 30))
        if rng.random() < 0.3:  # light that the body takes or throws
            near = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(4, 20))
            scene = scene + near[..., None] * rng.normal(0, 0.08, 3).astype(np.float32)
        frame = over(body, alpha, scene)
        brightness, others, height = light.mean(-1), np.zeros_like(alpha), figure.height
        if rng.random() < 0.25:  # another body before this one
            front = random_figure(rng, self.side)
            hiding = softened(rng, front)
            frame = over(self._body(rng, ground, front), hiding, frame)
            alpha, rest = alpha * (1 - hiding), hiding
            sizes = height, front.height
            if rng.random() < 0.5:  # which is the one that is asked for
                (alpha, rest), sizes = (rest, alpha), sizes[::-1]
            height = sizes[0]
            others = rough_mask(rng, rest, sizes[1], brightness)
        mask = rough_mask(rng, alpha, height, brightness) * (1 - others)
        plate = self._plate(rng, ground, figure)
        if rng.random() < 0.3:
            frame = smeared(rng, frame, figure)
        frame, plate = filmed(rng, frame, plate)
        planes = [frame, plate, *(x[..., None] for x in (mask, others, alpha))]
        out = np.concatenate([(255 * p.clip(0, 1) + 0.5).astype(np.uint8) for p in planes], -1)
        return np.ascontiguousarray(out[:, ::-1] if rng.random() < 0.5 else out)

    def _patch(self, rng: np.random.Generator, scales: tuple[float, float]) -> np.ndarray:
        """Part of a picture in colours and contrasts of its own, (S, S, 3) float32 in [0, 1]."""
        side, middle = self.side, self.side / 2
        sheet: np.ndarray = self.sheets[int(rng.integers(len(self.sheets)))]
        scale = math.exp(rng.uniform(*np.log(scales)))
        angle = rng.uniform(0, 6.3) if rng.random() < 0.7 else rng.integers(4) * math.pi / 2
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        turn = np.array([[cos, -sin], [sin, cos]])
        if rng.random() < 0.4:  # seen at a slant
            turn @= np.diag([1, rng.uniform(0.4, 2.5)])
        offset = rng.uniform(0, SHEET, 2) - turn @ (middle, middle)
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        matrix = np.column_stack([turn, offset])
        if scale < 0.8:
            sheet = np.asarray(cv2.GaussianBlur(sheet, (0, 0), 0.45 / scale))
        part = cv2.warpAffine(sheet, matrix, (side, side), flags=how, borderMode=cv2.BORDER_REFLECT)
        x: np.ndarray = part.astype(np.float32) / 255
        grey = x.mean(-1, keepdims=True)
        x = grey + np.float32(rng.uniform(0.2, 1.2)) * (x - grey)
        mean = x.mean((0, 1))
        contrast = rng.uniform(0.05, 0.4) if rng.random() < 0.5 else rng.uniform(0.4, 1.3)
        to = rng.uniform(0.12, 0.9) + rng.normal(0, 0.08, 3) if rng.random() < 0.6 else mean
        return np.clip((x - mean) * np.float32(contrast) + to.astype(np.float32), 0.02, 1)

    def _laid(
        self, rng: np.random.Generator, below: np.ndarray, x: np.ndarray, sizes: tuple[float, float]
    ) -> np.ndarray:
        """A shape of a picture (S, S, 3) over another. sizes: pixels."""
        corners = outline(rng, rng.uniform(0, self.side, 2), rng.uniform(*sizes))
        there = np.zeros(below.shape[:2], np.float32)
        fill(there, corners, 1.0)
        return over(x, cv2.GaussianBlur(there, (0, 0), 0.6), below)

    def _body(
        self, rng: np.random.Generator, ground: np.ndarray, figure: Figure | None = None
    ) -> np.ndarray:
        """A body's colours, (S, S, 3): some patches, dark ones and the ground's own among them."""
        texture = self._patch(rng, (0.3, 1.5))
        texture = texture - texture.mean((0, 1))
        side, count = self.side, int(rng.integers(1, 5))
        if figure is not None and rng.random() < DRESSED:
            names = rng.integers(0, count, PARTS)[figure.nearest_part]
        else:
            field = smooth(rng, side, int(rng.integers(2, 7)))
            field += np.linspace(0, rng.uniform(0, 6), side, dtype=np.float32)[:, None]
            names = np.digitize(field, np.quantile(field, np.sort(rng.uniform(0, 1, count - 1))))
        out = np.empty_like(texture)
        for i in range(count):
            contrast = np.float32(rng.choice([0.1, 0.4, 1.0]))
            colour = patch_colour(rng, ground).astype(np.float32)
            out[names == i] = (colour + contrast * texture)[names == i]
        folds = rng.choice([0.05, 0.15, 0.35]) * smooth(rng, side, int(rng.integers(2, 12)))
        if figure is not None and rng.random() < ROUNDED:
            folds = folds + rounded(rng, figure)
        return np.clip(out * np.exp(folds)[..., None].astype(np.float32), 0.005, 1)

    def _shod(
        self, rng: np.random.Generator, body: np.ndarray, ground: np.ndarray, figure: Figure
    ) -> np.ndarray:
        """A body's colours (S, S, 3), where it stands in those of shoes, paws or wheels."""
        if rng.random() < BAREFOOT:
            return body
        worn = np.zeros(body.shape[:2], np.float32)
        size = figure.height * rng.uniform(0.03, 0.12) + 1.5
        for foot in figure.feet:
            fill(worn, outline(rng, foot, size), 1.0)
        shoes = patch_colour(rng, ground).astype(np.float32)
        texture = body - body.mean((0, 1))
        shod = np.clip(shoes + np.float32(rng.choice([0.1, 0.6])) * texture, 0.005, 1)
        return over(shod, cv2.GaussianBlur(worn, (0, 0), 0.6), body)

    def _plate(self, rng: np.random.Generator, ground: np.ndarray, figure: Figure) -> np.ndarray:
        """The ground (S, S, 3) with a plate's faults."""
        side = self.side
        out: np.ndarray = ground
        if rng.random() < 0.3:  # filled in behind the body, which never leaves
            near = (figure.cover >= 0.5).astype(np.uint8)
            wide = cv2.dilate(near, np.ones((7, 7), np.uint8)).astype(np.float32)
            hole = cv2.GaussianBlur(wide, (0, 0), rng.uniform(0.5, 3))
            luck = rng.random()
            if luck < 0.5:
                filling = cv2.GaussianBlur(ground, (0, 0), rng.uniform(1, 5))
            elif luck < 0.85:
                filling = np.roll(ground, rng.integers(-25, 25, 2), (0, 1))
            else:
                filling = self._patch(rng, SCALES)
            out = over(filling, hole, out)
        if rng.random() < 0.6:  # not quite in place, and softened by that
            shift = np.column_stack([np.eye(2), rng.normal(0, 0.35, 2)])
            how, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT
            out = cv2.warpAffine(out, shift, (side, side), flags=how, borderMode=border)
            softness = rng.choice([0.0, 0.4, 0.7])
            out = cv2.GaussianBlur(out, (0, 0), softness) if softness else out
        if rng.random() < 0.4:  # in another light
            gains = np.exp(rng.normal(0, 0.03, 3)).astype(np.float32)
            out = out * gains + np.float32(rng.normal(0, 0.01))
        if rng.random() < 0.12:  # with an effect of somebody's left in it
            stain = (smooth(rng, side, 4) > 0.6).astype(np.float32)
            depth = np.float32(rng.uniform(0.05, 0.4)) * cv2.GaussianBlur(stain, (0, 0), 2)
            out = out * (1 - depth[..., None])
        return out


def make_sheets(seed: int, count: int) -> np.ndarray:
    """Pictures that grounds and bodies are cut from, (count, SHEET, SHEET, 3) uint8."""
    rng, out = np.random.default_rng([seed, 0x5EE7]), []
    for _ in range(count):
        make = (leaves, clouds, pattern, grains)[int(rng.choice(4, p=(0.45, 0.15, 0.2, 0.2)))]
        image = make(rng, SHEET)
        if rng.random() < 0.3:
            if rng.random() < 0.5:
                image = np.float32(0.5) * (image + leaves(rng, SHEET))
            else:
                image = image * (1 + np.float32(0.3) * noise_field(rng, SHEET, 1.0)[..., None])
        out.append((255 * image.clip(0, 1)).astype(np.uint8))
    return np.stack(out)


def grains(rng: np.random.Generator, side: int) -> np.ndarray:
    """Grass, gravel, boards: noise in three colours, (side, side, 3) float32 about [0, 1]."""
    fine = noise_field(rng, side, rng.uniform(0.3, 1.2))[..., None]
    coarse = noise_field(rng, side, rng.uniform(0.8, 2))[..., None]
    first, second, third = palette(rng, 3).astype(np.float32)
    image = first + (second - first) * (0.5 + 0.25 * fine) + 0.3 * (third - first) * coarse
    if rng.random() < 0.5:  # drawn out along one way
        image = cv2.GaussianBlur(image, (0, 0), sigmaX=0.3, sigmaY=rng.uniform(3, 15))
        image = (image - image.mean()) * np.float32(rng.uniform(1, 3)) + image.mean()
    return np.asarray(image, np.float32)


def patch_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Of a piece of clothing, fur or skin, (3,) about [0, 1]; or much like the ground's."""
    luck = rng.random()
    if luck < 0.2:
        return np.asarray(rng.uniform(0, 1, 3))
    if luck < 0.42:
        return np.asarray(rng.uniform(0.02, 0.16) + rng.normal(0, 0.02, 3))
    if luck < 0.52:
        return np.array([0.75, 0.55, 0.45]) * rng.uniform(0.4, 1.2)
    if luck < 0.72:
        return np.asarray(rng.uniform(0.2, 0.95) + rng.normal(0, 0.06, 3))
    y, x = rng.integers(len(ground), size=2)
    light = 1.0 if rng.random() < 0.3 else rng.uniform(0.5, 1.3)
    return np.asarray(ground[y, x] * light + rng.normal(0, rng.choice([0.005, 0.04]), 3))


def rounded(rng: np.random.Generator, figure: Figure) -> np.ndarray:
    """Logarithm of the light on a body that is lit from one side, (S, S) float32."""
    sigma = max(1.0, figure.height * rng.uniform(0.02, 0.12))
    height = cv2.GaussianBlur(figure.cover, (0, 0), sigma)
    angle = rng.uniform(0, 2 * math.pi)
    turn = math.cos(angle), math.sin(angle)
    slopes = (cv2.Sobel(height, cv2.CV_32F, *way, scale=0.125) for way in ((1, 0), (0, 1)))
    across, down = (way * slope for way, slope in zip(turn, slopes, strict=True))
    return np.asarray(np.float32(rng.uniform(0.5, 3) * sigma) * (across + down))


def panelled(
    rng: np.random.Generator, body: np.ndarray, ground: np.ndarray, figure: Figure
) -> np.ndarray:
    """A body's colours (S, S, 3) with pieces in those of the ground behind them: number plates,
    windscreens, stripes."""
    rows, columns = np.nonzero(figure.cover > 0.9)
    behind = cv2.GaussianBlur(ground, (0, 0), rng.uniform(2, 10))
    behind = behind * np.float32(rng.uniform(0.7, 1.15))
    there = np.zeros(body.shape[:2], np.float32)
    for _ in range(int(rng.integers(1, 4)) if len(rows) else 0):
        k = int(rng.integers(len(rows)))
        size = figure.height * rng.uniform(0.015, 0.09)
        fill(there, outline(rng, np.array([columns[k], rows[k]], float), size), 1.0)
    texture = body - cv2.GaussianBlur(body, (0, 0), 4)
    panes = np.clip(behind + texture, 0.005, 1)
    return over(panes, cv2.GaussianBlur(there, (0, 0), 0.5), body)


def smooth(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth noise of unit variance or a little less, (side, side) float32."""
    coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def over(x: np.ndarray, alpha: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Colours (S, S, 3) with alpha (S, S) over others."""
    return below + alpha[..., None] * (x - below)


def softened(rng: np.random.Generator, figure: Figure) -> np.ndarray:
    """A figure's alpha, (S, S) float32: out of focus, or moving."""
    sigmas, shares = zip(*SOFTNESS, strict=True)
    alpha = cv2.GaussianBlur(figure.cover, (0, 0), float(rng.choice(sigmas, p=shares)))
    if rng.random() < 0.25:
        length = int(rng.integers(2, 9))
        way = length / 2 * np.array([math.cos(a := rng.uniform(0, math.pi)), math.sin(a)])
        kernel = np.zeros((2 * length + 1,) * 2, np.float32)
        start, end = (tuple(round(length + s * v) for v in way) for s in (-1, 1))
        cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA)
        alpha = cv2.filter2D(alpha, -1, kernel / kernel.sum())
    return np.clip(alpha, 0, 1)


def lit(rng: np.random.Generator, figure: Figure) -> np.ndarray:
    """How a figure and the weather change the ground's light, (S, S, 3) float32, 1 where not."""
    body, side = figure.cover, len(figure.cover)
    light = np.ones((side, side, 3), np.float32)

    def darken(where: np.ndarray, depth: float) -> None:
        tint = np.clip(depth * np.exp(rng.normal(0, 0.12, 3)), 0, 0.97).astype(np.float32)
        light[:] *= 1 - where[..., None] * tint

    if rng.random() < 0.6:  # cast
        foot = figure.feet[int(rng.integers(len(figure.feet)))]
        slant, squash = rng.uniform(-2.5, 2.5), rng.uniform(-0.8, 0.3)
        fall = np.array([[1, slant, -slant * foot[1]], [0, squash, foot[1] * (1 - squash)]])
        thrown = cv2.warpAffine(body, fall, (side, side))
        sigma = math.exp(rng.uniform(math.log(0.6), math.log(9)))
        darken(np.clip(cv2.GaussianBlur(thrown, (0, 0), sigma), 0, 1), rng.uniform(0.15, 0.8))
    if rng.random() < 0.6:  # where it touches
        y, x = np.mgrid[:side, :side]
        near = np.zeros((side, side))
        for foot in figure.feet:
            wide = figure.height * rng.uniform(0.03, 0.2) + 2
            high = wide * rng.uniform(0.2, 0.8)
            away = ((x - foot[0]) / wide) ** 2 + ((y - foot[1] - 0.3 * high) / high) ** 2
            near = np.maximum(near, np.exp(-0.5 * away))
        darken(near.astype(np.float32), rng.uniform(0.2, 0.9))
    if rng.random() < 0.5:  # of the sky that it hides
        sigma = max(1.5, figure.height * rng.uniform(0.03, 0.12))
        hidden = np.clip(1.3 * cv2.GaussianBlur(body, (0, 0), sigma), 0, 1)
        darken(hidden, rng.uniform(0.1, 0.6))
    if rng.random() < 0.15:  # of something else
        there = smooth(rng, side, int(rng.integers(2, 6))) > rng.normal(0, 0.7)
        where = cv2.GaussianBlur(there.astype(np.float32), (0, 0), rng.uniform(1, 6))
        darken(where, rng.uniform(0.1, 0.6))
    if rng.random() < 0.5:
        light *= np.exp(np.float32(rng.choice([0.03, 0.1])) * smooth(rng, side, 3))[..., None]
    if rng.random() < 0.12:
        glow = cv2.GaussianBlur(body, (0, 0), max(2, 0.1 * figure.height))
        light *= 1 + np.float32(rng.uniform(0, 0.5)) * glow[..., None]
    return light


def mirrored(
    rng: np.random.Generator,
    scene: np.ndarray,
    body: np.ndarray,
    alpha: np.ndarray,
    figure: Figure,
) -> np.ndarray:
    """The scene (S, S, 3) with the image of a body in its ground."""
    side, lowest = len(scene), figure.feet[:, 1].max()
    flip = np.array([[1, 0, 0], [0, -1, 2 * lowest]])
    image = cv2.warpAffine(body, flip, (side, side), borderMode=cv2.BORDER_REFLECT)
    there = cv2.GaussianBlur(cv2.warpAffine(alpha, flip, (side, side)), (0, 0), rng.uniform(0.5, 3))
    return over(image, np.float32(rng.uniform(0.1, 0.85)) * there, scene)


def smeared(rng: np.random.Generator, frame: np.ndarray, figure: Figure) -> np.ndarray:
    """The frame (S, S, 3) with less detail around what moves, where codecs save it."""
    side, reach = len(frame), rng.uniform(3, 25)
    near = np.clip(3 * cv2.GaussianBlur(figure.cover, (0, 0), reach), 0, 1)
    blocks = np.repeat(np.repeat(rng.random((side // 8, side // 8)), 8, 0), 8, 1)
    where = near * (blocks < rng.uniform(0.3, 1)).astype(np.float32)
    return over(cv2.GaussianBlur(frame, (0, 0), rng.uniform(0.7, 2.0)), where, frame)


def filmed(
    rng: np.random.Generator, frame: np.ndarray, plate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frame and plate (S, S, 3) as a lens, a sensor and a codec leave them, float32 in [0, 1]."""
    sigmas, shares = zip(*LENS, strict=True)
    sigma = float(rng.choice(sigmas, p=shares))
    if sigma:
        frame = cv2.GaussianBlur(frame, (0, 0), sigma)
        if rng.random() < 0.8:
            plate = cv2.GaussianBlur(plate, (0, 0), sigma * rng.uniform(0.6, 1.1))
    grain = float(rng.choice(GRAIN))
    if grain:  # a plate is a mean of many frames
        frame = frame + np.float32(grain) * rng.standard_normal(frame.shape, np.float32)
        less = np.float32(grain * rng.uniform(0.1, 1))
        plate = plate + less * rng.standard_normal(plate.shape, np.float32)
    if rng.random() < 0.8:
        least = int(rng.choice([25, 60]))
        frame = compressed(frame, int(rng.uniform(least, 96)))
        plate = compressed(plate, int(rng.uniform(max(least, 50), 98)))
    if rng.random() < 0.15:
        gamma = np.float32(rng.uniform(0.7, 1.4))
        frame, plate = frame.clip(0, 1) ** gamma, plate.clip(0, 1) ** gamma
    return frame, plate


def compressed(x: np.ndarray, quality: int) -> np.ndarray:
    """A picture (S, S, 3) after JPEG, whose colours have half the resolution."""
    picture = (255 * x.clip(0, 1) + 0.5).astype(np.uint8)
    _, stored = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    assert found is not None
    return found.astype(np.float32) / 255

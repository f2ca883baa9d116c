"""The body's edge on rendered clips whose alpha is known, with masks that are right and wrong.

usage: python -m benchmarks.edges FOLDER [--scenes 3] [--frames 12] [--peer]

Scenes of one object at 512x512, four times the networks' size, with four rays a pixel, so that
alpha is a share of the pixel; a little grain. Every clip goes through `decompose` with its default
options, and the alpha of the body's pass is compared with the truth. Errors as in Rhemann et al.,
"A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009 (SAD / 1000, MSE x 1000,
gradient / 1000 with sigma 1.4), and Erofeev et al., "Perceptually Motivated Benchmark for Video
Matting", BMVC 2015 (dtSSD x 100, a root mean square here), over whole pictures; SAD, MSE and
gradient are means over frames. --peer: also pymatting's closed form (which must be installed), on
every fourth frame, with a band around the mask's outline as the unknown part of its trimap.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from benchmarks.common import table

SIDE = 512  # pixels
RADIUS = 4  # pixels by which masks are grown and shrunk
WOBBLE = 3.0  # pixels, standard deviation of the wobbling outline
JITTER = 1.5  # pixels, standard deviation of a wobbling mask's shift
BLINK = 5  # of so many frames one has no mask
GRAIN = 1.0  # levels of 255
PEER_EVERY = 4  # frames
BAND = 6  # pixels, half the width of what the peer is not told
EXAMPLES = "shadow", "reflection", "both"  # effects of the scenes, in turn

Masks = np.ndarray  # (T, H, W) bool


def render(folder: Path, number: int, frames: int) -> None:
    """One scene: frames/*.png and alpha.npy, (T, H, W) float32; what is there stays."""
    from omnimatte_cli.synth.render import render_scenes
    from omnimatte_cli.synth.scenes import SceneOptions
    from omnimatte_cli.synth.seeds import DATASET_SEEDS

    if (folder / "alpha.npy").exists():
        return
    options = SceneOptions(
        frames=frames, gap=1, height=2 * SIDE, width=2 * SIDE, min_objects=1, max_objects=1,
        effect=EXAMPLES[number % len(EXAMPLES)],
    )  # fmt: skip
    batch = render_scenes([DATASET_SEEDS + 4000 + number], options, solos=False)
    rng = np.random.default_rng(number)
    (folder / "frames").mkdir(parents=True, exist_ok=True)
    alpha = np.empty((frames, SIDE, SIDE), np.float32)
    for t in range(frames):
        picture = 255 * batch.frames[0, t].permute(1, 2, 0).numpy()
        picture = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        picture += rng.normal(0, GRAIN, picture.shape)
        picture = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "frames" / f"{t:05d}.png"), picture[..., ::-1])
        mask = batch.masks[0, 0, t, 0].numpy()
        alpha[t] = cv2.resize(mask, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    np.save(folder / "alpha.npy", alpha)


def disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)


def wobbling(masks: Masks) -> Masks:
    """Another smooth displacement of the outline and another shift in every frame."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    out = np.empty_like(masks)
    for t, mask in enumerate(masks):
        coarse = rng.normal(0, WOBBLE, (SIDE // 24, SIDE // 24, 2)).astype(np.float32)
        field = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        field += rng.normal(0, JITTER, 2).astype(np.float32)
        moved = cv2.remap(
            mask.astype(np.float32), columns + field[..., 0], rows + field[..., 1], cv2.INTER_LINEAR
        )
        out[t] = moved > 0.5
    return out


def blinking(masks: Masks) -> Masks:
    out = masks.copy()
    out[BLINK // 2 :: BLINK] = False
    return out


KINDS: dict[str, Callable[[Masks], Masks]] = {
    "right": lambda m: m,
    "grown by 4": lambda m: np.stack([cv2.dilate(x.astype(np.uint8), disc(RADIUS)) > 0 for x in m]),
    "shrunk by 4": lambda m: np.stack([cv2.erode(x.astype(np.uint8), disc(RADIUS)) > 0 for x in m]),
    "wobbling": wobbling,
    "blinking": blinking,
}


def body_alpha(folder: Path, masks: Masks, out: Path) -> np.ndarray:
    """Alpha of the body's pass that `decompose` writes, (T, H, W) float32."""
    from omnimatte_cli.api import decompose

    given = folder / "masks"
    shutil.rmtree(given, ignore_errors=True)
    (given / "body").mkdir(parents=True)
    for t, mask in enumerate(masks):
        cv2.imwrite(str(given / "body" / f"{t:05d}.png"), mask.astype(np.uint8) * 255)
    shutil.rmtree(out, ignore_errors=True)
    result = decompose(folder / "frames", out, masks=given, passes=("body",), method="ownership")
    files = sorted((result.out / "passes" / "body" / "body").glob("*.png"))
    assert len(files) == len(masks), files
    read = [cv2.imread(str(f), cv2.IMREAD_UNCHANGED) for f in files]
    return np.stack([x[..., 3] for x in read]).astype(np.float32) / 255


def peer_alpha(folder: Path, masks: Masks) -> np.ndarray:
    """pymatting's closed form in a band around the outline; frames between are NaN."""
    from pymatting import estimate_alpha_cf

    out = np.full(masks.shape, np.nan, np.float32)
    for t in range(0, len(masks), PEER_EVERY):
        picture = cv2.imread(str(folder / "frames" / f"{t:05d}.png"))[..., ::-1] / 255.0
        mask = masks[t].astype(np.uint8)
        known = 0.5 * (cv2.erode(mask, disc(BAND)) + cv2.dilate(mask, disc(BAND)).astype(float))
        rows, columns = np.nonzero(known > 0)
        if not len(rows):
            out[t] = 0
            continue
        part = np.s_[
            max(0, rows.min() - 16) : rows.max() + 17,
            max(0, columns.min() - 16) : columns.max() + 17,
        ]
        out[t] = 0
        out[t][part] = estimate_alpha_cf(picture[part], known[part])
    return out


def errors(found: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """SAD, MSE, gradient and dtSSD, scaled as the module says; frames that are NaN are left out."""
    there = [t for t in range(len(found)) if not np.isnan(found[t]).any()]
    apart = [found[t] - truth[t] for t in there]
    sad = np.mean([np.abs(d).sum() for d in apart]) / 1000
    mse = np.mean([np.square(d).mean() for d in apart]) * 1000

    def gradient(x: np.ndarray) -> np.ndarray:
        smooth = cv2.GaussianBlur(x, (0, 0), 1.4)
        across = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.125)
        down = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.125)
        return np.hypot(across, down)

    grad = [np.square(gradient(found[t]) - gradient(truth[t])).sum() for t in there]
    pairs = [t for t in there if t + 1 in there]
    change = [(found[t + 1] - found[t]) - (truth[t + 1] - truth[t]) for t in pairs]
    flicker = np.mean([np.sqrt(np.square(c).mean()) for c in change]) if pairs else float("nan")
    return float(sad), float(mse), float(np.mean(grad)) / 1000, 100 * float(flicker)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--peer", action="store_true")
    asked = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for number in range(asked.scenes):
        folder = asked.folder / f"{number:02d}"
        render(folder, number, asked.frames)
        truth = np.load(folder / "alpha.npy")
        for kind, change in KINDS.items():
            masks = change(truth >= 0.5)
            alphas = {"mask": masks.astype(np.float32)}
            alphas["decompose"] = body_alpha(folder, masks, folder / "out" / kind)
            if asked.peer:
                alphas["closed form"] = peer_alpha(folder, masks)
            for name, alpha in alphas.items():
                found.setdefault((kind, name), []).append(errors(alpha, truth))
    rows = [(*key, *np.mean(scores, 0).tolist()) for key, scores in found.items()]
    head = ("masks", "alpha", "SAD", "MSE", "gradient", "dtSSD")
    table(f"{asked.scenes} scenes of {asked.frames} frames, {SIDE}x{SIDE}", head, rows)


if __name__ == "__main__":
    main()

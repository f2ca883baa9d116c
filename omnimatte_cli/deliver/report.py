"""`report.html`: one self-contained file to judge a result by.

Everything is inside the file: images as data, charts as SVG, a few lines of script for the wipe.
Its content security policy forbids loading anything.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, to_float
from omnimatte_cli.deliver.charts import draw
from omnimatte_cli.deliver.preview import checkerboard
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.deliver.survey import (
    SEEN,
    WIDE,
    FrameAt,
    MaskAt,
    Survey,
    camera_facts,
    charts_of,
    psnr,
    shrink,
    small_size,
    survey,
    warnings_of,
    weak_frames,
)
from omnimatte_cli.errors import MaskError
from omnimatte_cli.media.atomic import write_bytes
from omnimatte_cli.media.folder import add_to_list
from omnimatte_cli.media.images import read_image
from omnimatte_cli.progress import Progress

REPORT = "report.html"
MOST_ZOOM = 4.0  # of a small object
ZOOM_MARGIN = 1.25  # what is shown, to the box of what is seen of a layer
MOMENTS = 3  # frames shown, one of each part of the clip
JPEG_QUALITY = 85
CHECKS = 20  # squares of the checkerboard across an image
GROUND = ((0.98, 0.86, 0.62), (0.55, 0.72, 0.86))  # RGB at the top and the bottom of a new ground
# PSNRs of the manifest: what they are of, what they say.
SCORES = (
    (
        "plate_outside_layers",
        "plate where no layer is",
        "what to watch: 28 dB or more is sound",
    ),
    ("after_detail_in_layers", "inside the layers", "layers over the plate against the input"),
    ("after_detail", "in the whole frame", "layers over the plate against the input"),
)
# Fields of camera.json that say something to a person.
CAMERA_FACTS = {
    "camera": "camera",
    "shift_px": "largest shift of the image, pixels",
    "reference": "frame that the canvas is drawn from",
    "inliers": "points matched in a frame",
    "rms_px": "error of the registration, pixels",
}
OUTLINE = (1.0, 0.25, 0.1)  # of a mask, drawn over the alpha


@dataclass(frozen=True)
class LayerView:
    """A layer in one moment, as data URIs. mask: alpha with the mask's outline, or None.

    zoom: how many times larger than in the frame it is shown.
    """

    name: str
    zoom: float
    on_checker: str
    on_ground: str
    mask: str | None


@dataclass(frozen=True)
class Moment:
    """One frame of the clip. source: the input, or None where it is gone."""

    frame: int
    source: str | None
    composite: str
    plate: str
    layers: tuple[LayerView, ...]
    psnr: float | None


@dataclass(frozen=True)
class Wipe:
    """Input and removal of one frame, as data URIs. at: where the line begins, % of the width."""

    frame: int
    source: str
    removal: str
    at: float


def write_report(
    result: FinishedResult,
    progress: Progress,
    masks: Masks | None = None,
    frames: FrameAt | None = None,
) -> Path:
    """Write report.html into a result's folder and return its path.

    masks, frames: what the layers were made from; found by the manifest if not given.
    """
    mask_at = find_masks(result) if masks is None else looked_up(masks)
    found = survey(result, mask_at, progress, frames)
    path = result.folder / REPORT
    write_bytes(path, render_report(result, found, mask_at).encode())
    add_to_list(result.folder, [path])
    return path


def render_report(result: FinishedResult, found: Survey, masks: MaskAt | None) -> str:
    """The report's HTML."""
    import jinja2

    source = files("omnimatte_cli.deliver").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    height, width = result.input.shown_size
    frames, worst = chosen(found), worst_frame(found)
    middle = frames[(len(frames) - 1) // 2]
    frames = sorted({*frames, *([] if worst is None else [worst])})
    sources = {t: to_float(image) for t, image in found.sources.items() if t in frames}
    numbers = result.input.frame_numbers
    return environment.from_string(source).render(
        title=result.folder.resolve().name,
        subtitle=subtitle(result),
        facts=headline(result),
        objects=result.names,
        first_number=numbers[0],
        residual=result.has_residual,
        moments=[moment(result, t, sources.get(t), masks) for t in frames],
        middle=middle,
        worst=worst,
        wipe=wipe(result, middle, sources[middle]) if middle in sources else None,
        aspect=f"{width} / {height}",
        findings=warnings_of(result, found),
        charts=[(chart, draw(chart)) for chart in charts_of(result, found)],
        camera=camera_table(result),
        canvas=picture_file(result, "background.png") if result.homographies is not None else None,
        unseen=picture_file(result, "background_unseen.png"),
        tables=tables(result),
    )


def find_masks(result: FinishedResult) -> MaskAt | None:
    """The masks that the result was made with, if they are still there and fit."""
    try:
        masks = result.masks
    except MaskError:  # another clip's by now
        return None
    if masks is None or not set(result.names) <= set(masks.names):
        return None
    return looked_up(masks)


def looked_up(masks: Masks) -> MaskAt:
    """Masks by an object's name and the frame."""
    return lambda name, t: masks.at(masks.names.index(name), t)


# ------------------------------------------------------------------------------------------ images


def chosen(found: Survey) -> list[int]:
    """MOMENTS frames: of the middle of each part of the clip, where the layers cover most."""
    cover = np.sum([np.zeros(len(found.frames)), *map(np.array, found.cover.values())], axis=0)
    parts = np.array_split(np.arange(len(found.frames)), min(MOMENTS, len(found.frames)))
    middles = [part[len(part) // 4 : -(len(part) // 4) or None] for part in parts]
    return [found.frames[part[int(np.argmax(cover[part]))]] for part in middles]


def worst_frame(found: Survey) -> int | None:
    """The frame that the layers give back worst, where it is much worse than most."""
    weak = weak_frames(found)
    known = dict(zip(found.frames, found.reconstruction, strict=True))
    return min(weak, key=lambda t: known[t] or 0.0) if weak else None


def moment(
    result: FinishedResult, t: int, source: np.ndarray | None, masks: MaskAt | None
) -> Moment:
    """All images of frame t. source: the input's frame, (h, w, 3) float32, or None."""
    size, frame = small_size(result), result.frame(t)
    board = to_float(checkerboard(size, max(2, size[1] // CHECKS)))
    ground = new_ground(size)
    views = []
    for i in frame.order[::-1]:
        name = frame.names[i]
        box = zoom_box(frame.layers[i, ..., 3])
        # Averaged premultiplied: a straight colour means nothing where alpha is 0.
        alpha = frame.layers[i][box][..., 3:]
        colour = shrink(frame.layers[i][box][..., :3] * alpha, size)
        small = shrink(np.ascontiguousarray(alpha[..., 0]), size)[..., None]
        mask = None
        if masks:
            mask = outlined(small, shrink(masks(name, t)[box].astype(np.float32), size))
        views.append(
            LayerView(
                name,
                result.size[1] / alpha.shape[1],
                data_uri(colour + (1 - small) * board),
                data_uri(colour + (1 - small) * ground),
                None if mask is None else data_uri(mask),
            )
        )
    return Moment(
        t,
        None if source is None else data_uri(shrink(source, size)),
        data_uri(shrink(frame.composite, size)),
        data_uri(shrink(frame.plate, size)),
        tuple(views),
        None if source is None else psnr(shrink(frame.composite, source.shape[:2]), source),
    )


def zoom_box(alpha: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns around what is seen of a layer, (H, W), in the shape of the frame."""
    height, width = alpha.shape
    rows, columns = (np.flatnonzero((alpha > SEEN).any(axis=a)) for a in (1, 0))
    if not rows.size:
        return slice(0, height), slice(0, width)
    high, wide = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    share = float(np.clip(ZOOM_MARGIN * max(high / height, wide / width), 1 / MOST_ZOOM, 1))
    out = []
    for line, length in ((rows, height), (columns, width)):
        size = max(1, round(share * length))
        start = (line[0] + line[-1] + 1 - size) // 2
        start = int(np.clip(start, 0, length - size))
        out.append(slice(start, start + size))
    return out[0], out[1]


def wipe(result: FinishedResult, t: int, source: np.ndarray) -> Wipe:
    """The input before what is left without its objects; the line begins across them."""
    size = small_size(result, WIDE)
    cover = np.max(result.frame(t).layers[..., 3], axis=0).sum(axis=0)  # of each column
    middle = float(cover @ np.arange(len(cover))) / cover.sum() if cover.any() else len(cover) / 2
    before, after = (data_uri(shrink(x, size)) for x in (source, result.plate_below(t, [])))
    return Wipe(t, before, after, round(100 * middle / len(cover), 1))


def data_uri(image: np.ndarray) -> str:
    """An image (h, w, 3) float in [0, 1] as a JPEG in a data URI."""
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert done, image.shape
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def new_ground(size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) float32: a bright place that is not the video's, on which wrong mattes show."""
    down = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None]
    top, bottom = (np.array(c, np.float32) for c in GROUND)
    return np.broadcast_to(top + down * (bottom - top), (*size, 3))


def outlined(alpha: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Alpha (h, w, 1) as grey with the outline of a mask (h, w), both in [0, 1], (h, w, 3)."""
    out = np.ascontiguousarray(np.repeat(alpha, 3, axis=2))
    inside = (mask >= 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(out, contours, -1, OUTLINE, 1)
    return out


# ------------------------------------------------------------------------------------------ tables


def subtitle(result: FinishedResult) -> str:
    """What was decomposed and how, in a line."""
    manifest, (height, width) = result.manifest, result.size
    parts = [
        f"{width} x {height}",
        f"{result.frames} frames at {float(result.input.fps):.4g} a second",
        f"method {manifest.get('method', 'unknown')}",
    ]
    seconds = manifest.get("seconds")
    if isinstance(seconds, dict):
        parts.append(f"{sum(seconds.values()):.0f} s of work")
    return ", ".join(parts)


def headline(result: FinishedResult) -> list[tuple[str, str, str]]:
    """The few figures at the top, what cannot flatter first: (value, what, what it says)."""
    manifest, facts = result.manifest, []
    scores = manifest.get("psnr") or {}
    for key, text, meaning in SCORES:
        if isinstance(scores.get(key), int | float):
            facts.append((f"{scores[key]:.1f} dB", text, meaning))
    unseen = (manifest.get("background") or {}).get("unseen_share")
    if unseen is not None:
        meaning = "filled in, and a guess" if unseen else "every part is seen in some frame"
        facts.append((f"{unseen:.1%}", "of the plate never seen", meaning))
    return facts


def picture_file(result: FinishedResult, name: str) -> str | None:
    """An image of the result as a data URI, WIDE at most; None where there is none."""
    path = result.folder / name
    image = read_image(path) if path.is_file() else None
    if image is None:
        return None
    scale = min(1.0, WIDE / image.shape[1])
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    rgb = cv2.cvtColor(shrink(image, size), cv2.COLOR_BGR2RGB)
    return data_uri(rgb.astype(np.float32) / 255)


def camera_table(result: FinishedResult) -> list[tuple[str, str]]:
    """What is known of the camera: (what, value)."""
    facts = camera_facts(result)
    if not facts:
        return [("camera", "static: one plate holds for all frames")]
    rows = []
    for key, what in CAMERA_FACTS.items():
        value = facts.get(key)
        if isinstance(value, list):
            known = [v for v in value if isinstance(v, int | float)]
            if known:
                middle, most = float(np.median(known)), max(known)
                rows.append((what, f"{number(middle)}, at most {number(most)}"))
        elif isinstance(value, int | float):
            rows.append((what, number(value)))
        elif isinstance(value, str):
            rows.append((what, value))
    return rows


def number(value: float) -> str:
    """A number as people write it, with three digits or as many as it has before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def tables(result: FinishedResult) -> list[tuple[str, list[tuple[str, str]]]]:
    """Timings, options, input and versions: (heading, rows)."""
    manifest = result.manifest
    seconds = manifest.get("seconds") or {}
    out = [("Seconds", [(k, f"{v:g}") for k, v in seconds.items()])]
    for heading, key in (("Options", "options"), ("Input", "input"), ("Versions", "versions")):
        section = manifest.get(key) or {}
        rows = flat({k: v for k, v in section.items() if k != "times"})
        out.append((heading, rows))
    return [(heading, rows) for heading, rows in out if rows]


def flat(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as rows; what was left at None is left out."""
    rows = []
    for key, value in facts.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{key}.")
        elif value not in (None, [], ()):
            rows.append((f"{prefix}{key}", str(value)))
    return rows

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

from omnimatte_cli.deliver.charts import draw
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.deliver.survey import (
    MaskAt,
    Survey,
    camera_facts,
    charts_of,
    psnr,
    shrink,
    small_size,
    survey,
    warnings_of,
)
from omnimatte_cli.errors import MaskError
from omnimatte_cli.media.atomic import write_bytes
from omnimatte_cli.media.folder import add_to_list
from omnimatte_cli.media.images import read_image
from omnimatte_cli.progress import Progress

REPORT = "report.html"
CANVAS_WIDTH = 960  # pixels across the canvas at most
MOMENTS = 3  # frames shown, one of each part of the clip
JPEG_QUALITY = 85
CHECKS = 20  # squares of the checkerboard across an image
LIGHT, DARK = 0.8, 0.6  # their greys
GROUND = ((0.98, 0.86, 0.62), (0.55, 0.72, 0.86))  # RGB at the top and the bottom of a new ground
OUTLINE = (1.0, 0.25, 0.1)  # of a mask, drawn over the alpha


@dataclass(frozen=True)
class LayerView:
    """A layer in one moment, as data URIs. mask: alpha with the mask's outline, or None."""

    name: str
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


def write_report(result: FinishedResult, progress: Progress, masks: MaskAt | None = None) -> Path:
    """Write report.html into a result's folder and return its path.

    masks: what the layers were made from; found by the manifest if not given.
    """
    masks = masks or find_masks(result)
    found = survey(result, masks, progress)
    path = result.folder / REPORT
    write_bytes(path, render_report(result, found, masks).encode())
    add_to_list(result.folder, [path])
    return path


def render_report(result: FinishedResult, found: Survey, masks: MaskAt | None) -> str:
    """The report's HTML."""
    import jinja2

    source = files("omnimatte_cli.deliver").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    height, width = small_size(result)
    return environment.from_string(source).render(
        title=result.folder.resolve().name,
        facts=headline(result),
        residual=result.has_residual,
        moments=moments(result, chosen(found), masks),
        aspect=f"{width} / {height}",
        findings=warnings_of(result, found),
        charts=[(chart, draw(chart)) for chart in charts_of(result, found)],
        camera=camera_table(result),
        canvas=canvas_image(result),
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
    return lambda name, t: masks.at(masks.names.index(name), t)


# ------------------------------------------------------------------------------------------ images


def chosen(found: Survey) -> list[int]:
    """MOMENTS frames: of the middle of each part of the clip, where the layers cover most."""
    cover = np.sum([np.zeros(len(found.frames)), *map(np.array, found.cover.values())], axis=0)
    parts = np.array_split(np.arange(len(found.frames)), min(MOMENTS, len(found.frames)))
    middles = [part[len(part) // 4 : -(len(part) // 4) or None] for part in parts]
    return [found.frames[part[int(np.argmax(cover[part]))]] for part in middles]


def moments(result: FinishedResult, frames: list[int], masks: MaskAt | None) -> list[Moment]:
    """The images of some frames; one pass over the input."""
    sources: dict[int, np.ndarray] = {}
    for t, image in enumerate(result.source_frames() or ()):
        if t in frames and image.shape[:2] == result.size:
            sources[t] = image.astype(np.float32) / 255
        if t >= max(frames):
            break
    return [moment(result, t, sources.get(t), masks) for t in frames]


def moment(
    result: FinishedResult, t: int, source: np.ndarray | None, masks: MaskAt | None
) -> Moment:
    """All images of frame t. source: the input's frame, (H, W, 3) float32, or None."""
    size, frame = small_size(result), result.frame(t)
    board, ground = checkerboard(size), new_ground(size)
    views = []
    for i in frame.order[::-1]:
        # Averaged premultiplied: a straight colour means nothing where alpha is 0.
        alpha = frame.layers[i, ..., 3:]
        colour = shrink(frame.layers[i, ..., :3] * alpha, size)
        small = shrink(np.ascontiguousarray(alpha[..., 0]), size)[..., None]
        name = frame.names[i]
        mask = outlined(small, shrink(masks(name, t).astype(np.float32), size)) if masks else None
        views.append(
            LayerView(
                name,
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
        None if source is None else psnr(frame.composite, source),
    )


def data_uri(image: np.ndarray) -> str:
    """An image (h, w, 3) float in [0, 1] as a JPEG in a data URI."""
    pixels = (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    assert done, image.shape
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def checkerboard(size: tuple[int, int]) -> np.ndarray:
    """(h, w, 3) float32 grey squares, on which transparency shows."""
    cell = max(2, size[1] // CHECKS)
    rows, columns = (np.arange(side) // cell for side in size)
    grey = np.where((rows[:, None] + columns) % 2, DARK, LIGHT).astype(np.float32)
    return np.repeat(grey[..., None], 3, axis=2)


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


def headline(result: FinishedResult) -> list[tuple[str, str]]:
    """The few figures at the top: (what, value)."""
    manifest = result.manifest
    height, width = result.size
    facts = [
        ("video", f"{width} x {height}, {result.frames} frames, {float(result.input.fps):.4g} fps"),
        ("objects", ", ".join(result.names)),
        ("method", str(manifest.get("method", "unknown"))),
    ]
    scores = manifest.get("psnr") or {}
    for key, text in (
        ("after_detail", "layers over the plate"),
        ("after_detail_in_layers", "inside the layers"),
        ("plate_outside_layers", "plate where no layer is"),
    ):
        if isinstance(scores.get(key), int | float):
            facts.append((text, f"{scores[key]:.1f} dB"))
    unseen = (manifest.get("background") or {}).get("unseen_share")
    if unseen is not None:
        facts.append(("plate never seen", f"{unseen:.1%}"))
    seconds = manifest.get("seconds")
    if isinstance(seconds, dict):
        facts.append(("time", f"{sum(seconds.values()):.0f} s"))
    return facts


def canvas_image(result: FinishedResult) -> str | None:
    """What a moving camera saw in all, as a data URI; None before a static one."""
    path = result.folder / "background.png"
    image = read_image(path) if result.homographies is not None and path.is_file() else None
    if image is None:
        return None
    scale = min(1.0, CANVAS_WIDTH / image.shape[1])
    size = (max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale)))
    rgb = cv2.cvtColor(shrink(image, size), cv2.COLOR_BGR2RGB)
    return data_uri(rgb.astype(np.float32) / 255)


def camera_table(result: FinishedResult) -> list[tuple[str, str]]:
    """What is known of the camera and the canvas."""
    facts = camera_facts(result)
    if not facts:
        return [("camera", "static: one plate holds for all frames")]
    rows = []
    for key, value in facts.items():
        if isinstance(value, int | float | str):
            rows.append((key.replace("_", " "), str(value)))
        elif isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
            middle, worst = float(np.median(value)), max(value)
            text = " x ".join(map(str, value))
            long = len(value) > 4
            rows.append((key, f"median {middle:.3g}, largest {worst:.3g}" if long else text))
    return rows


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

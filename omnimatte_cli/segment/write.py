"""Write masks, their order, a preview and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, eight_bits, unpack_mask
from omnimatte_cli.masks.order import ORDER_FILE
from omnimatte_cli.media.atomic import write_json
from omnimatte_cli.media.encode import VideoWriter, write_image
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.progress import Progress
from omnimatte_cli.segment.methods import Rough
from omnimatte_cli.segment.refine import enlarge_mask, occlusion_order
from omnimatte_cli.settings import MaskSettings
from omnimatte_cli.versions import library_versions

PREVIEW_WIDTH = 1280  # pixels at most
COLOURS = (  # RGB of the outlines, told apart by most eyes on most pictures
    (255, 70, 60),
    (60, 220, 90),
    (70, 150, 255),
    (255, 210, 40),
    (240, 80, 240),
    (60, 230, 230),
)
LIBRARIES = ("numpy", "opencv-python", "av", "torch", "segment-anything")


def write_masks(
    folder: Path,
    info: VideoInfo,
    open_frames: Callable[[], Iterator[np.ndarray]],
    rough: Rough,
    kept: tuple[Masks | None, Sequence[int]],
    settings: MaskSettings,
    progress: Progress,
    ffmpeg: Path | str | None,
) -> dict[str, Any]:
    """Write everything below `folder`; returns the content of masks.json.

    kept: the user's masks, and the frames in which they stay unchanged.
    """
    names = list(rough.masks)
    given, keep = kept
    for name in names:
        (folder / name).mkdir()
    theirs = given.order if given is not None and given.order_source == ORDER_FILE else None
    order = occlusion_order(list(rough.masks.values()), rough.size) if theirs is None else theirs
    h, w = info.size
    scale = min(1.0, PREVIEW_WIDTH / w)
    shown = (max(round(h * scale), 2), max(round(w * scale), 2))
    areas: dict[str, list[int]] = {n: [] for n in names}
    progress.stage("writing masks", info.frames)
    film = folder / "preview.mp4"
    with VideoWriter(film, shown, info.fps, ffmpeg, profile="preview") as preview:
        for t, frame in enumerate(open_frames()):
            masks = []
            for i, name in enumerate(names):
                if given is not None and t in keep:
                    mask = given.at(i, t)
                else:
                    small = unpack_mask(rough.masks[name][t], rough.size)
                    mask = enlarge_mask(small, eight_bits(frame))
                file = f"{info.frame_numbers[t]:05d}.png"
                write_image(folder / name / file, mask.astype(np.uint8) * 255)
                areas[name].append(int(mask.sum()))
                masks.append(mask)
            preview.write(outlined(frame, masks, names, shown))
            progress.step(t + 1)
    lines = [" ".join(names[i] for i in row) for row in order]
    (folder / "order.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    facts = _facts(info, rough, settings, areas)
    if theirs is not None:
        facts["order_from"] = f"{ORDER_FILE} of --corrected"
    write_json(folder / "masks.json", facts)
    return facts


def outlined(
    frame: np.ndarray, masks: list[np.ndarray], names: list[str], size: tuple[int, int]
) -> np.ndarray:
    """A frame (H, W, 3) at `size` with each mask's outline and name, (h, w, 3) uint8."""
    h, w = size
    picture = eight_bits(cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA))
    letters = max(w / 1280, 0.5)
    for i, (mask, name) in enumerate(zip(masks, names, strict=True)):
        if not mask.any():
            continue
        colour = COLOURS[i % len(COLOURS)]
        small = cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST)
        edges, _ = cv2.findContours(small, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, edges, -1, colour, max(round(w / 640), 1), cv2.LINE_AA)
        x, y, _, _ = cv2.boundingRect(small)
        at = (x, max(y - 4, round(24 * letters)))
        for ink, thickness in (((0, 0, 0), 3), (colour, 1)):
            cv2.putText(
                picture, name, at, cv2.FONT_HERSHEY_SIMPLEX, letters, ink, thickness, cv2.LINE_AA
            )
    return picture


def _facts(
    info: VideoInfo, rough: Rough, settings: MaskSettings, areas: dict[str, list[int]]
) -> dict[str, Any]:
    options = {
        k: str(v) if isinstance(v, Path) else list(v) if isinstance(v, tuple) else v
        for k, v in asdict(settings).items()
    }
    return {
        "method": rough.method,
        "repropagated": settings.corrected is not None,
        "objects": list(rough.masks),
        "options": options,
        "versions": library_versions(LIBRARIES),
        "input": {
            "source": str(info.source),
            "sha256": info.sha256,
            "frames": info.frames,
            "first": info.first,
            "size": list(info.size),
        },
        "working_size": list(rough.size),
        "order_from": "lower edge of each mask",
        "notes": rough.notes,
        "confidence": {n: [round(c, 3) for c in v] for n, v in rough.confidence.items()},
        "pixels": areas,
    }

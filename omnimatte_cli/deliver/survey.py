"""Go through a finished result once and measure it frame by frame, for the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from omnimatte_cli.ahead import in_order
from omnimatte_cli.arrays import integers, to_float
from omnimatte_cli.deliver.charts import Chart, Series
from omnimatte_cli.deliver.read import FinishedResult
from omnimatte_cli.errors import OmnimatteError
from omnimatte_cli.matte.metrics import PSNR
from omnimatte_cli.progress import Progress

SAMPLES = 36  # frames measured, spread evenly: more would not show in a chart
SAMPLED_PIXELS = 30_000_000  # of frames measured: fewer of large ones
FEWEST = 24  # frames measured of however large ones
WORKERS = 2  # frames that are measured at the same time,
HELD_PIXELS = 12_000_000  # where their layers and plates have no more pixels than this
WIDE = 960  # pixels across the canvas, the wipe and the frames kept for them at most
WIDTH = 480  # pixels across that frames are measured at: errors are averaged over areas
MIDDLE = 128.0  # level of 255 whose change stands for the light's
SEEN = 0.02  # alpha from which a layer counts as there
DROP = 6.0  # dB below the median frame that call for a look
POOR_PLATE = 28.0  # dB of the plate where no layer is, below which layers take what is not theirs
LOW_CONFIDENCE = 0.5  # of a mask
HIGH_RMS = 1.5  # pixels of registration error from which one homography does not hold

MaskAt = Callable[[str, int], np.ndarray]  # (name, t) -> (H, W) bool
FrameAt = Callable[[int], np.ndarray]  # t -> (H, W, 3) uint8 or uint16


@dataclass(frozen=True)
class Survey:
    """What was measured. frames: the numbers measured; every tuple holds one value for each.

    reconstruction, rebuilt: PSNR in dB of the layers over the clean plate, and over the residual
    plate (empty without one). plate_error: of the clean plate where no layer is.
    cover: by object, the share of the image that its alpha covers. effects: the part of that which
    lies outside its mask; empty without masks. sources: the input's frames of these numbers, (h, w,
    3) uint8, at most WIDE pixels across; empty where the input is gone.
    """

    frames: tuple[int, ...]
    reconstruction: tuple[float | None, ...]
    rebuilt: tuple[float | None, ...]
    plate_error: tuple[float | None, ...]
    cover: dict[str, tuple[float, ...]]
    effects: dict[str, tuple[float, ...]]
    sources: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """One frame's part of a `Survey`. cover, effects: in the order of the result's names."""

    cover: list[float]
    effects: list[float]
    reconstruction: float | None = None
    rebuilt: float | None = None
    plate_error: float | None = None
    source: np.ndarray | None = None


def survey(
    result: FinishedResult,
    masks: MaskAt | None,
    progress: Progress,
    frames: FrameAt | None = None,
) -> Survey:
    """Measure up to SAMPLES frames of a result.

    frames: the input's, where they are at hand; None: one pass over it, if it is still there.
    """
    count = max(FEWEST, min(SAMPLES, SAMPLED_PIXELS // (result.size[0] * result.size[1])))
    wanted = tuple(sorted({round(f) for f in np.linspace(0, result.frames - 1, count)}))
    truth = None if frames is not None else result.source_frames()
    still = None
    if result.plate_folder(clean=True) is None:
        still = shrink(result.plate(0, clean=True), small_size(result))
    progress.stage("measuring", result.frames)

    def jobs() -> Iterator[tuple]:
        for t in range(result.frames):
            image = next(truth, None) if truth is not None else None
            progress.step(t + 1)
            if t in wanted:
                yield result, t, image if frames is None else frames(t), masks, still

    held = result.size[0] * result.size[1] * (len(result.names) + 2)
    workers = WORKERS if held <= HELD_PIXELS else 1
    with closing(in_order(measure, jobs(), workers, workers)) as measured:
        found = list(measured)
    by_name = list(enumerate(result.names))
    return Survey(
        wanted,
        tuple(x.reconstruction for x in found),
        tuple(x.rebuilt for x in found),
        tuple(x.plate_error for x in found),
        {name: tuple(x.cover[i] for x in found) for i, name in by_name},
        {name: tuple(x.effects[i] for x in found) for i, name in by_name if masks},
        {t: x.source for t, x in zip(wanted, found, strict=True) if x.source is not None},
    )


def measure(
    result: FinishedResult,
    t: int,
    image: np.ndarray | None,
    masks: MaskAt | None,
    still: np.ndarray | None,
) -> Measured:
    """What is measured of frame t. image: the input's frame, (H, W, 3), if it is there. still: the
    clean plate at the size at which is measured, where one holds for all frames."""
    frame, size = result.frame(t, clean=True), small_size(result)
    alphas = np.ascontiguousarray(frame.layers[..., 3])
    cover = [float(alpha.mean()) for alpha in alphas]
    effects = []
    if masks:
        pairs = zip(result.names, alphas, strict=True)
        effects = [float((alpha * ~masks(name, t)).mean()) for name, alpha in pairs]
    if image is None or image.shape[:2] != result.size:
        return Measured(cover, effects)
    away = shrink(np.max(alphas, axis=0), size) < SEEN
    picture = to_float(image)
    true = shrink(picture, size)
    plate = shrink(frame.plate, size) if still is None else still
    rebuilt = None
    if result.has_residual:
        over_residual = result.over(frame.layers, t, result.plate(t))
        rebuilt = psnr(shrink(over_residual, size), true)
    return Measured(
        cover,
        effects,
        psnr(shrink(frame.composite, size), true),
        rebuilt,
        psnr(plate, true, away),
        integers(shrink(picture, small_size(result, WIDE))),
    )


def small_size(result: FinishedResult, across: int = WIDTH) -> tuple[int, int]:
    """(h, w) of images in the report: `across` wide, or the video's own size if that is less."""
    height, width = result.size
    scale = min(1.0, across / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image at another size, averaged over areas, or interpolated where it becomes larger."""
    if image.shape[:2] == size:
        return image
    method = cv2.INTER_AREA if size[0] <= image.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method)


def psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None) -> float | None:
    """PSNR in dB of colours in [0, 1]; None where nothing counts."""
    score = PSNR()
    score.add(image, truth, where)
    return score.value


# ----------------------------------------------------------------------------- charts and warnings


def camera_facts(result: FinishedResult) -> dict[str, Any]:
    """camera.json, or nothing before a static camera."""
    path = result.folder / "camera.json"
    if not path.is_file():
        return {}
    facts = json.loads(path.read_text(encoding="utf-8"))
    return facts if isinstance(facts, dict) else {}


def camera_motion(result: FinishedResult) -> tuple[float, ...] | None:
    """How far the centre of the image moved from the last frame, in pixels, for each frame."""
    if result.homographies is None:
        return None
    height, width = result.size
    centre = np.array([width / 2, height / 2, 1.0])
    moves = [0.0]
    for before, after in zip(result.homographies, result.homographies[1:], strict=False):
        x, y, w = np.linalg.inv(after) @ before @ centre
        moves.append(float(np.hypot(x / w - centre[0], y / w - centre[1])))
    return tuple(moves)


def charts_of(result: FinishedResult, found: Survey) -> list[Chart]:
    """The report's charts; those without data are left out."""
    camera, everything = camera_facts(result), tuple(range(result.frames))
    weak = weak_frames(found)
    charts = [
        Chart(
            "Reconstruction",
            "dB",
            found.frames,
            (Series("layers over the clean plate, against the input", found.reconstruction),),
            "Strangers, grain and drifting light count as lost here.",
            weak,
        ),
        Chart(
            "Round trip",
            "dB",
            found.frames,
            (Series("layers over the residual plate, against the input", found.rebuilt),),
            "Says that nothing was lost, not that the layers are right.",
        ),
        Chart(
            "Plate where no layer is",
            "dB",
            found.frames,
            (Series("clean plate against the input", found.plate_error),),
            "What the plate gets wrong here, it gets wrong below the objects too.",
        ),
        Chart(
            "What the layers cover",
            "% of the image",
            found.frames,
            tuple(Series(n, tuple(100 * x for x in v)) for n, v in found.cover.items()),
        ),
        Chart(
            "Effects",
            "% of the image",
            found.frames,
            tuple(Series(n, tuple(100 * x for x in v)) for n, v in found.effects.items()),
            "Alpha outside the mask: shadows, reflections, and what the mask missed.",
        ),
    ]
    moves = camera_motion(result)
    if moves is not None:
        motion = Series("motion of the image's centre", moves)
        charts.append(Chart("Camera", "pixels a frame", everything, (motion,)))
    light = camera.get("exposure") or []
    if len(light) == result.frames:
        greys = np.array([np.add(one["gain"], np.divide(one["offset"], MIDDLE)) for one in light])
        lines = tuple(
            Series(name, tuple(map(float, greys[:, c])))
            for c, name in enumerate(("red", "green", "blue"))
        )
        note = "What a middle grey of the plate is multiplied by in each frame."
        charts.append(Chart("Exposure", "times the plate's", everything, lines, note))
    return [chart for chart in charts if not chart.empty]


def weak_frames(found: Survey) -> tuple[int, ...]:
    """Frames whose reconstruction is DROP dB or more below the median frame's."""
    known = [v for v in found.reconstruction if v is not None]
    if not known:
        return ()
    limit = float(np.median(known)) - DROP
    pairs = zip(found.frames, found.reconstruction, strict=True)
    return tuple(t for t, v in pairs if v is not None and v < limit)


@dataclass(frozen=True)
class Finding:
    """Something to look at. frames: as people write them, "3-7, 12"; may be empty."""

    text: str
    frames: str = ""


def warnings_of(result: FinishedResult, found: Survey) -> list[Finding]:
    """What the user should look at, from the manifest, the camera, the masks and the survey."""
    manifest, out = result.manifest, []
    for entry in manifest.get("warnings") or []:
        if isinstance(entry, dict):
            text, frames = str(entry.get("text", "")), entry.get("frames") or []
            numbers = [f for f in frames if isinstance(f, int)] if isinstance(frames, list) else []
            out.append(Finding(text, ranges(numbers)))
        else:
            out.append(Finding(str(entry)))
    unseen = (manifest.get("background") or {}).get("unseen_share") or 0
    if unseen:
        out.append(
            Finding(
                f"{unseen:.1%} of the plate is seen in no frame: it was filled in and is a guess "
                "(background_unseen.png shows where)."
            )
        )
    out += [Finding(str(n)) for n in (manifest.get("objects") or {}).get("notes") or []]
    outside = [v for v in found.plate_error if v is not None]
    if outside and float(np.median(outside)) < POOR_PLATE:
        out.append(
            Finding(
                f"The clean plate is far from the input where no layer is (median "
                f"{float(np.median(outside)):.1f} dB): the camera or the light moves, or there are "
                "movers without a mask.",
            )
        )
    weak = weak_frames(found)
    if weak:
        text = f"The layers over the plate are {DROP:g} dB or more worse than in most frames."
        out.append(Finding(text, ranges(weak)))
    out += [
        Finding(f"The mask of {name} is doubtful.", ranges(frames))
        for name, frames in doubtful_masks(result.folder / "masks" / "masks.json").items()
    ]
    camera = camera_facts(result)
    doubts = [*(camera.get("doubts") or []), *((manifest.get("camera") or {}).get("doubts") or [])]
    out += [Finding(str(doubt)) for doubt in dict.fromkeys(doubts)]
    if camera.get("cuts"):
        out.append(Finding("The scene is cut before these frames.", ranges(camera["cuts"])))
    rms = camera.get("rms_px")
    if isinstance(rms, list):
        bad = [t for t, v in enumerate(rms) if isinstance(v, int | float) and v > HIGH_RMS]
        if bad:
            text = f"Frames are registered to {HIGH_RMS:g} pixels or worse: parallax is likely."
            out.append(Finding(text, ranges(bad)))
    doubted = [n for n, values in found.cover.items() if not any(values)]
    gone = [n for n in doubted if all_empty(result, n)]  # the survey sees some frames alone
    out += [Finding(f"The layer of {name} is empty in all frames.") for name in gone]
    if result.source_lost:
        out.append(Finding(f"{result.source_lost}: nothing is measured against it."))
    return out


def all_empty(result: FinishedResult, name: str) -> bool:
    """Whether an object's layer is empty in every frame."""
    return not any(result.layer(name, t)[..., 3].any() for t in range(result.frames))


def doubtful_masks(path: Path) -> dict[str, list[int]]:
    """Frames in which a made mask's confidence is low, by object; 0 means that it is away."""
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise OmnimatteError(f"{path} is damaged.") from error
    out = {}
    known = facts.get("confidence") if isinstance(facts, dict) else None
    for name, values in (known if isinstance(known, dict) else {}).items():
        numbers = values if isinstance(values, list) else []
        low = [
            t
            for t, v in enumerate(numbers)
            if isinstance(v, int | float) and 0 < v < LOW_CONFIDENCE
        ]
        if low:
            out[name] = low
    return out


def ranges(frames: list[int] | tuple[int, ...]) -> str:
    """Frame numbers as people write them: 3-7, 12."""
    parts: list[list[int]] = []
    for t in sorted(set(frames)):
        if parts and t == parts[-1][1] + 1:
            parts[-1][1] = t
        else:
            parts.append([t, t])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)

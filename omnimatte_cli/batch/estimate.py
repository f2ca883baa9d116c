"""How long a batch will take and how much disk it will fill, before it begins."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from omnimatte_cli.batch.plan import Job, Step
from omnimatte_cli.errors import InputError
from omnimatte_cli.media.container import open_container
from omnimatte_cli.media.images import list_images, read_image
from omnimatte_cli.media.limits import image_size

SECONDS = 0.9  # per megapixel and frame with one object: ownership on two CPU cores
START = 6.0  # seconds a shot takes to begin
LOOKING = 0.6  # share of its time that a part of a shot spends on all frames, not on its own
BYTES_PER_PIXEL = 0.9  # of a layer's PNG


@dataclass(frozen=True)
class Estimate:
    """What a shot needs; None where its file does not say how long it is.

    seconds: of one process. size: bytes on disk.
    """

    frames: int | None
    seconds: float | None
    size: int | None


def estimate(step: Step, known: Sequence[Step] = (), parts: Sequence[Step] = ()) -> Estimate:
    """Time and disk for a shot, from its header.

    known: steps with records of earlier runs. parts: those that the shot is split into.
    """
    frames, pixels = read_length(step.job.source)
    if not frames or not pixels:
        return Estimate(frames, None, None)
    work = frames * pixels / 1e6
    objects = count_objects(step.job)
    runs = sum(part.run for part in parts) if parts else 1
    share = LOOKING * runs + (1 - LOOKING) * runs / max(1, len(parts))
    return Estimate(
        frames,
        START * runs + work * share * seconds_per_work(known),
        int(frames * pixels * BYTES_PER_PIXEL * objects),
    )


def seconds_per_work(known: Sequence[Step]) -> float:
    """Seconds per megapixel and frame: the median of earlier shots, else a constant."""
    rates = [
        max(r.seconds - START, 0.01) / (r.frames * r.megapixels)
        for r in (step.record for step in known)
        if r is not None and r.state == "done" and r.seconds and r.frames and r.megapixels
    ]
    return statistics.median(rates) if rates else SECONDS


def read_length(source: Path) -> tuple[int | None, int | None]:
    """Frames, and pixels of each, as the container's header says; nothing is decoded."""
    if source.is_dir():
        files = list_images(source)
        if not files:
            return None, None
        with contextlib.suppress(OSError):
            size = image_size(files[0].read_bytes())
            if size is None:
                image = read_image(files[0])
                size = None if image is None else image.shape[:2]
            return len(files), None if size is None else size[0] * size[1]
        return len(files), None
    try:
        with open_container(source) as container:
            stream = container.streams.video[0]
            frames = stream.frames
            if not frames and container.duration and stream.average_rate:
                frames = round(container.duration / av.time_base * float(stream.average_rate))
            return frames or None, stream.codec_context.width * stream.codec_context.height
    except (av.error.FFmpegError, InputError, OSError, IndexError, ValueError):
        return None, None


def count_objects(job: Job) -> int:
    """Objects of a shot: folders and videos among its masks; 1 where that is not known."""
    masks = job.flags.get("--masks")
    if not masks or not Path(masks[0]).is_dir():
        return 1
    return max(1, sum(p.is_dir() and not p.name.startswith(".") for p in Path(masks[0]).iterdir()))

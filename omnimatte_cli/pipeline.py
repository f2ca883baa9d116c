"""The story: read - masks - background - associate - resolve - export."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnimatte_cli import background, export, output, owners, ownership, video
from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Background, Masks
from omnimatte_cli.associate import (
    Association,
    choose_method,
    coordinate,
    owner_network,
    take_ownership,
    uses_owner,
)
from omnimatte_cli.finetune import ClipTensors
from omnimatte_cli.manifest import (
    describe_input,
    describe_masks,
    describe_options,
    describe_plate,
    library_versions,
    peak_memory_mb,
    write_manifest,
)
from omnimatte_cli.masks import load_masks
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.resolve import FrameLayers, residual_noise, resolve_frame
from omnimatte_cli.results import MakeLayers, ResultWriter
from omnimatte_cli.segment import make_masks
from omnimatte_cli.settings import Settings, working_size
from omnimatte_cli.transfer import transfer_frame
from omnimatte_cli.video import VideoInfo

UNSEEN_COLOUR = (255, 0, 0)  # RGB, over the dimmed plate in background_unseen.png


@dataclass(frozen=True)
class Result:
    """What `decompose` wrote. layers: object name to the folder of its PNGs."""

    out: Path
    layers: dict[str, Path]
    background: Path
    composite: Path
    preview: Path
    manifest: dict[str, Any]


class Watch:
    """Passes progress on and measures the wall time of every stage, in seconds."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self.name, self.start = "", time.monotonic()

    def stage(self, name: str, total: int | None = None) -> None:
        self.finish()
        self.name, self.start = name, time.monotonic()
        self.progress.stage(name, total)

    def step(self, done: int, note: str = "") -> None:
        self.progress.step(done, note)

    def say(self, message: str) -> None:
        self.progress.say(message)

    def finish(self) -> None:
        if self.name:
            spent = self.seconds.get(self.name, 0.0) + time.monotonic() - self.start
            self.seconds[self.name] = round(spent, 2)
            self.name = ""


def decompose(
    source: Path, out: Path, settings: Settings, progress: Progress | None = None
) -> Result:
    """Split a video into one RGBA layer per object and a clean plate, and write them to `out`.

    Raises the errors of `omnimatte_cli.errors`; on any error `out` is as it was before.
    """
    watch = Watch(progress or Silent())
    device = devices.choose(settings.device)
    method, reason = choose_method(settings, device)
    watch.say(reason)
    ffmpeg = export.find_ffmpeg(settings.ffmpeg)
    inputs = [source, *(p for p in (settings.masks, settings.background) if p)]
    state = out.parent / f".{out.name}.finetune.pt"  # stays when interrupted, to resume from
    with output.output_folder(out, settings.overwrite, inputs) as folder, devices.deterministic():
        watch.stage("reading")
        info, clip = video.read_clip(source, lambda size: settings.size or working_size(size))
        watch.stage("masks")
        masks = find_masks(source, folder, settings, info, watch)
        plate = find_plate(info, masks, settings.background, watch)

        owner = owner_network(settings, method, device)
        size = (clip.frames.shape[1], clip.frames.shape[2])
        small = masks.resized(size)
        gap = settings.gap or owners.frame_gap(info.fps, info.frames)

        def tensors() -> ClipTensors:
            plates = ownership.working_plates(plate, size, len(clip))
            return ClipTensors.from_arrays(clip.frames, small, plates, masks.order, device)

        if owner is not None and settings.background is None:
            for _ in range(settings.passes - 1):
                watch.stage("ownership", len(clip))
                found = owners.own(owner, tensors(), gap, watch)
                plate = owners.second_plate(
                    lambda: video.iter_frames(source), plate, found, masks, watch
                )
        write_plate(folder, plate, watch)
        if method == "ownership":
            association = take_ownership(owner, tensors(), gap, watch)
        else:
            known = None
            if owner is not None and uses_owner(settings):
                watch.stage("ownership", len(clip))
                known = owners.own(owner, tensors(), gap, watch)
            association = coordinate(tensors(), settings, watch, state, known)

        watch.stage("writing", info.frames)
        noise = residual_noise(clip.frames, ownership.working_plates(plate, size, len(clip)), small)
        layers_of = frame_maker(association, masks, noise)
        writer = ResultWriter(folder, info, masks.names, plate, layers_of, settings.exact, ffmpeg)
        scores = writer.write(watch)
        watch.finish()
        facts = {
            "versions": library_versions(),
            "input": describe_input(info),
            "objects": describe_masks(masks),
            "background": describe_plate(plate, settings.background),
            "options": describe_options(settings),
            "seed": settings.seed,
            "device": devices.describe(device),
            "working_size": "{}x{}".format(*size),
            "method": method,
            "network": association.network,
            "iterations": association.iterations,
            "losses": asdict(association.losses) if association.losses else None,
            "psnr": {"before_detail": association.psnr, **scores},
            "seconds": watch.seconds,
            "peak_memory_mb": peak_memory_mb(),
        }
        write_manifest(folder / "manifest.json", facts)
    state.unlink(missing_ok=True)
    layers = {name: out / "layers" / name for name in masks.names}
    movies = (out / "composite.mp4", out / "preview.mp4")
    return Result(out, layers, out / "background.png", *movies, facts)


def write_background(
    source: Path, masks: Path | None, out: Path, overwrite: bool, progress: Progress
) -> Background:
    """Estimate the plate of a video and write it to an image file."""
    export.check_file(out, overwrite)
    progress.stage("reading")
    info = video.probe(source)
    found = None
    if masks is not None:
        progress.stage("masks")
        found = load_masks(masks, info.frames, info.size)
        for note in found.notes:
            progress.say(note)
    plate = find_plate(info, found, None, progress)
    if not plate.valid.all():
        progress.say(unseen_warning(plate))
    export.write_image(out, plate.plate)
    return plate


def find_masks(
    source: Path, folder: Path, settings: Settings, info: VideoInfo, progress: Progress
) -> Masks:
    """The user's masks; without any, masks made here and kept in `folder`/masks."""
    masks = settings.masks
    if masks is None:
        masks = folder / "masks"
        made = make_masks(source, masks, settings.making, progress, settings.ffmpeg)
        progress.say(f"Masks made for {', '.join(made.names)}: look at masks/preview.mp4.")
        progress.stage("masks")
    found = load_masks(masks, info.frames, info.size, settings.order)
    for note in found.notes:
        progress.say(note)
    return found


def find_plate(
    info: VideoInfo, masks: Masks | None, given: Path | None, progress: Progress
) -> Background:
    """The user's plate, or the masked median."""
    if given is not None:
        return background.load(given, info.size, info.frames)
    frames = video.iter_frames
    return background.estimate(
        lambda: frames(info.source), info.frames, info.size, masks, progress=progress
    )


def write_plate(folder: Path, plate: Background, progress: Progress) -> None:
    """background.png, and a picture of the pixels that no frame shows if there are any."""
    export.write_image(folder / "background.png", plate.plate)
    if not plate.valid.all():
        progress.say(unseen_warning(plate))
        unseen = np.where(
            plate.valid[..., None], plate.plate // 2, np.array(UNSEEN_COLOUR, np.uint8)
        )
        export.write_image(folder / "background_unseen.png", unseen)


def unseen_warning(plate: Background) -> str:
    """What the user should know about pixels that were never seen."""
    return (
        f"{plate.unseen_share:.1%} of the background is covered by masks in every frame: it was "
        "filled from its surroundings and is a guess (background_unseen.png shows where)."
    )


def frame_maker(found: Association, masks: Masks, noise: float) -> MakeLayers:
    """How one full-size frame's layers are made."""
    if found.layers is not None:
        predicted = found.layers
        return lambda t, frame, plate: transfer_frame(frame, plate, predicted[:, t], masks.order[t])

    def resolve(t: int, frame: np.ndarray, plate: np.ndarray) -> FrameLayers:
        shares = ownership.shares(found.ownership, t, masks.frame(t), masks.order[t])
        return resolve_frame(frame, plate, shares, masks.order[t], noise)

    return resolve

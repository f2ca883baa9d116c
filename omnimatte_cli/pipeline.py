"""The story: read - masks - background - associate - resolve - export."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Background, Masks
from omnimatte_cli.deliver import folder as output
from omnimatte_cli.deliver.manifest import (
    describe_input,
    describe_masks,
    describe_options,
    describe_plate,
    library_versions,
    peak_memory_mb,
    write_manifest,
)
from omnimatte_cli.deliver.result import MakeLayers, ResultWriter
from omnimatte_cli.matte import ownership
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.predict import own, second_plate
from omnimatte_cli.matte.resolve import FrameLayers, resolve_frame
from omnimatte_cli.matte.transfer import transfer_frame
from omnimatte_cli.media import encode as export
from omnimatte_cli.media import read as video
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.methods.coordination.method import (
    Association,
    choose_method,
    coordinate,
    find_weights,
    owner_network,
    uses_owner,
)
from omnimatte_cli.plate import median as background
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.settings import Settings
from omnimatte_cli.shot import Shot, read_shot

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
    owner = owner_network(settings, method, device)
    weights = find_weights(settings, device) if method == "coordination" else None
    inputs = [source, *(p for p in (settings.masks, settings.background) if p)]
    place = out.resolve()  # "." has no name
    state = place.parent / f".{place.name}.finetune.pt"  # stays when interrupted, to resume from
    with output.output_folder(out, settings.overwrite, inputs) as folder, devices.deterministic():
        shot = read_shot(source, folder / "masks", settings, watch)
        info, masks = shot.info, shot.masks
        plate = clean_plate(shot, settings, owner, device, watch)
        write_plate(folder, plate, watch)

        plates = shot.plates(plate)
        clip, gap = shot.tensors(plates, device), shot.owner_gap(settings)
        known = None
        if owner is not None and (method == "ownership" or uses_owner(settings)):
            watch.stage("ownership", info.frames)
            known = own(owner, clip, gap, watch)
        if method == "ownership":
            assert known is not None
            found = Association(known, {"network": "ownership", "gap": gap})
        else:
            found = coordinate(clip, settings, weights, watch, state, known)
        found = replace(found, ownership=shot.steadied(found.ownership, plates, watch))

        layers_of = frame_maker(found, masks, shot.noise(plates))
        writer = ResultWriter(folder, info, masks.names, plate, layers_of, settings.exact, ffmpeg)
        watch.stage("writing", info.frames)
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
            "working_size": "{}x{}".format(*shot.size),
            "method": method,
            "network": found.network,
            "iterations": found.iterations,
            "losses": asdict(found.losses) if found.losses else None,
            "psnr": {"before_detail": found.psnr, **scores},
            "seconds": watch.seconds,
            "peak_memory_mb": peak_memory_mb(),
        }
        write_manifest(folder / "manifest.json", facts)
    state.unlink(missing_ok=True)
    layers = {name: out / "layers" / name for name in masks.names}
    movies = (out / "composite.mp4", out / "preview.mp4")
    return Result(out, layers, out / "background.png", *movies, facts)


def write_background(
    source: Path, masks: Path | None, out: Path, passes: int, overwrite: bool, progress: Progress
) -> Background:
    """Estimate the plate of a video and write it to an image file.

    Without masks it is the plain temporal median; with masks, as in `decompose`.
    """
    export.check_file(out, overwrite)
    if masks is None:
        progress.stage("reading")
        info = video.probe(source)
        plate = first_plate(info, None, progress)
    else:
        settings = Settings(masks=masks, passes=passes)
        device = devices.choose(settings.device)
        owner = owner_network(settings, "coordination", device)
        with devices.deterministic():
            shot = read_shot(source, None, settings, progress)
            plate = clean_plate(shot, settings, owner, device, progress)
    if not plate.valid.all():
        progress.say(unseen_warning(plate))
    export.write_image(out, plate.plate)
    return plate


def clean_plate(
    shot: Shot,
    settings: Settings,
    owner: OwnerNet | None,
    device: torch.device,
    progress: Progress,
) -> Background:
    """The user's plate; or the masked median, estimated again without what objects own."""
    info, masks = shot.info, shot.masks
    if settings.background is not None:
        return background.load(settings.background, info.size, info.frames, progress)
    plate = first_plate(info, masks, progress)
    if owner is None:
        return plate
    for _ in range(settings.passes - 1):
        progress.stage("ownership", info.frames)
        clip = shot.tensors(shot.plates(plate), device)
        found = own(owner, clip, shot.owner_gap(settings), progress)
        plate = second_plate(frames_of(info), plate, found, masks, progress)
    return plate


def frames_of(info: VideoInfo) -> Callable[[], Iterator[np.ndarray]]:
    """Opens the video anew."""
    return lambda: video.iter_frames(info.source)


def first_plate(info: VideoInfo, masks: Masks | None, progress: Progress) -> Background:
    """The masked median."""
    return background.estimate(frames_of(info), info.frames, info.size, masks, progress=progress)


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


def frame_maker(found: Association, masks: Masks, noise: np.ndarray) -> MakeLayers:
    """How one full-size frame's layers are made."""
    if found.layers is not None:
        predicted = found.layers
        return lambda t, frame, plate: transfer_frame(frame, plate, predicted[:, t], masks.order[t])

    def resolve(t: int, frame: np.ndarray, plate: np.ndarray) -> FrameLayers:
        shares = ownership.shares(found.ownership, t, masks.frame(t), masks.order[t])
        return resolve_frame(frame, plate, shares, masks.order[t], noise)

    return resolve

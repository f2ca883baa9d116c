"""The story of one shot: read - masks - plate - separate - deliver."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Plate
from omnimatte_cli.deliver.folder import output_folder
from omnimatte_cli.deliver.manifest import describe_run, write_manifest
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.ownership import working_plates
from omnimatte_cli.matte.predict import predict_ownership
from omnimatte_cli.media.encode import check_file, find_ffmpeg, write_image
from omnimatte_cli.media.read import read_clip
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.methods import registry, weights
from omnimatte_cli.methods.base import Run
from omnimatte_cli.plate.load import load_plate
from omnimatte_cli.plate.median import estimate_plate
from omnimatte_cli.plate.refine import refine_plate
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.settings import Settings, SolveSettings, working_size
from omnimatte_cli.shot import Shot, read_shot

UNSEEN_COLOUR = (255, 0, 0)  # RGB, over the dimmed plate in background_unseen.png

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What `decompose` wrote. layers: object name to the folder of its PNGs."""

    out: Path
    layers: dict[str, Path]
    background: Path
    composite: Path
    preview: Path
    manifest: dict[str, Any]


class StageTimer:
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
            log.info("%s: %.1f s", self.name, spent)
            self.name = ""


def decompose(
    source: Path, out: Path, settings: Settings, progress: Progress | None = None
) -> Result:
    """Split a video into one RGBA layer per object and a clean plate, and write them to `out`.

    Raises the errors of `omnimatte_cli.errors`; on any error `out` is as it was before.
    """
    timer = StageTimer(progress or Silent())
    device = devices.choose(settings.device)
    choice = registry.choose(settings, devices.kind(device))
    timer.say(choice.reason)
    ffmpeg = find_ffmpeg(settings.ffmpeg)
    place = out.resolve()  # "." has no name
    run = Run(
        device,
        settings.seed,
        settings.weights,
        ownership_network(choice.options.network, settings.weights, device),
        state=place.parent / f".{place.name}.finetune",
    )
    method = registry.make(choice, run)
    inputs = [source, *(p for p in (settings.masks, settings.background) if p)]
    with output_folder(out, settings.overwrite, inputs) as folder, devices.deterministic():
        info, shot = read_shot(source, folder / "masks", settings, timer)
        plate = clean_plate(shot, settings.background, choice.solve, run, timer)
        write_plate(folder, plate, timer)
        separation = method.separate(shot, plate, timer)
        writer = ResultWriter(
            folder,
            info,
            shot.masks.names,
            plate,
            shot.open_frames,
            separation.layers_at,
            settings.exact,
            ffmpeg,
        )
        timer.stage("writing", info.frames)
        scores = writer.write(timer)
        timer.finish()
        facts = describe_run(settings, choice, info, shot, plate, separation, scores, timer.seconds)
        facts["device"] = devices.describe(device)
        write_manifest(folder / "manifest.json", facts)
    separation.forget()
    layers = {name: out / "layers" / name for name in shot.masks.names}
    movies = (out / "composite.mp4", out / "preview.mp4")
    return Result(out, layers, out / "background.png", *movies, facts)


def ownership_network(network: str | None, name: str, device: torch.device) -> OwnerNet | None:
    """The ownership network on the device; None where none ships.

    network: the kind of weights that the method takes; name: those that were asked for.
    """
    asked = network == "ownership" and name not in ("auto", "none")
    name = name if asked else weights.OWNERSHIP
    if not asked and name not in weights.shipped_names():
        return None
    return weights.load_owner(weights.find(name, "ownership")).to(device)


def write_background(
    source: Path, settings: Settings, out: Path, progress: Progress | None = None
) -> Plate:
    """Estimate the plate of a video and write it to an image file.

    Without masks it is the plain temporal median; with masks, as in `decompose`.
    """
    progress = progress or Silent()
    check_file(out, settings.overwrite)
    device = devices.choose(settings.device)
    if settings.masks is None:
        samples = FrameSamples()
        read_clip(source, working_size, progress, each=samples.add)
        plate = estimate_plate(samples, None, progress)
    else:
        run = Run(device, ownership=ownership_network(None, "auto", device))
        with devices.deterministic():
            _, shot = read_shot(source, None, settings, progress)
            solve = registry.choose(settings, devices.kind(device)).solve
            plate = clean_plate(shot, None, solve, run, progress)
    if not plate.valid.all():
        progress.say(unseen_warning(plate))
    write_image(out, plate.image)
    return plate


def clean_plate(
    shot: Shot, given: Path | None, solve: SolveSettings, run: Run, progress: Progress
) -> Plate:
    """The user's plate; or the masked median, estimated again without what objects own."""
    if given is not None:
        return load_plate(given, shot.full_size, len(shot), progress)
    plate = estimate_plate(shot.samples, shot.masks, progress)
    if run.ownership is None:
        return plate
    for _ in range(solve.plate_passes - 1):
        progress.stage("ownership", len(shot))
        clip = shot.tensors(working_plates(plate, shot.size, len(shot)), run.device)
        found = predict_ownership(run.ownership, clip, shot.frame_stride, progress)
        plate = refine_plate(shot.samples, plate, found, shot.masks, progress)
    return plate


def write_plate(folder: Path, plate: Plate, progress: Progress) -> None:
    """background.png, and a picture of the pixels that no frame shows if there are any."""
    write_image(folder / "background.png", plate.image)
    if not plate.valid.all():
        progress.say(unseen_warning(plate))
        red = np.array(UNSEEN_COLOUR, np.uint8)
        unseen = np.where(plate.valid[..., None], plate.image // 2, red)
        write_image(folder / "background_unseen.png", unseen)


def unseen_warning(plate: Plate) -> str:
    """What the user should know about pixels that were never seen."""
    return (
        f"{plate.unseen_share:.1%} of the background is covered by masks in every frame: it was "
        "filled from its surroundings and is a guess (background_unseen.png shows where)."
    )

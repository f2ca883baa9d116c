"""The story of one shot: read - masks - plate - separate - deliver."""

from __future__ import annotations

import logging
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Plate
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.deliver.finish import finish_result
from omnimatte_cli.deliver.manifest import describe_camera, describe_run, write_manifest
from omnimatte_cli.deliver.plates import (
    check_plate_target,
    unseen_warning,
    write_plates,
    write_result_plate,
)
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.deliver.writer import delivery_of
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.encode import find_ffmpeg
from omnimatte_cli.media.folder import output_folder, state_path
from omnimatte_cli.methods import registry, weights
from omnimatte_cli.methods.base import Run
from omnimatte_cli.plate.estimate import FindOwners, clean_plate, find_camera
from omnimatte_cli.plate.load import load_plate
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.segment.strangers import find_strangers
from omnimatte_cli.settings import Settings, SolveSettings
from omnimatte_cli.shot import Shot, read_shot

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
    report: Path | None = None


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
    run = Run(
        device,
        settings.seed,
        settings.weights,
        ownership_network(choice.options.network, settings.weights, device),
        exact_layers=choice.solve.exact_layers,
        state=state_path(out),
    )
    method = registry.make(choice, run)
    inputs = [source, *(p for p in (settings.masks, settings.background) if p)]
    with (
        output_folder(out, settings.overwrite, inputs, timer.say) as folder,
        devices.deterministic(),
    ):
        info, shot = read_shot(source, folder / "masks", settings, timer)
        shot = replace(shot, camera=camera_of(shot, settings, timer))
        shot = with_strangers(shot, settings, timer)
        plate = plate_of(shot, settings, choice.solve, run, folder, info.frame_numbers, timer)
        write_result_plate(folder, plate, shot, timer)
        separation = method.separate(shot, plate, timer)
        writer = ResultWriter(
            folder,
            shot.masks.names,
            shot.masks.order,
            plate,
            shot.open_frames,
            separation.layers_at,
            delivery_of(info, ffmpeg, settings.matte_color, not settings.no_audio),
            info.frame_numbers,
            settings.exact,
            settings.passes,
            settings.formats,
        )
        timer.stage("writing", info.frames)
        scores = writer.write(timer)
        timer.finish()
        seconds = dict(timer.seconds)
        facts = describe_run(settings, choice, info, shot, plate, separation, scores, seconds)
        facts["camera"] = describe_camera(shot.camera)
        facts["device"] = devices.describe(device)
        write_manifest(folder / "manifest.json", facts)
    separation.forget()
    report = finish_result(out, settings.formats, settings.report, timer)
    timer.finish()
    layers = {name: out / "layers" / name for name in shot.masks.names}
    movies = (out / "composite.mp4", out / "preview.mp4")
    return Result(out, layers, out / "background.png", *movies, facts, report)


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
    """Estimate the plate of a video and write it: to an image, or that of every frame.

    out: an image file; or a video file or a folder, which get the plate of every frame. Without
    masks every pixel counts as plate.
    """
    progress = progress or Silent()
    check_plate_target(out, settings.overwrite)
    device = devices.choose(settings.device)
    solve = registry.choose(settings, devices.kind(device)).solve
    run = Run(device, ownership=ownership_network(None, "auto", device))
    with devices.deterministic(), tempfile.TemporaryDirectory() as scratch:
        info, shot = read_shot(source, None, settings, progress)
        shot = replace(shot, camera=find_camera(shot, settings, progress))
        owners = find_owners(shot, run, progress) if shot.masks.names else None
        plates, passes = Path(scratch), solve.plate_passes
        plate = clean_plate(shot, passes, owners, plates, info.frame_numbers, progress)
        if not plate.valid.all():
            progress.say(unseen_warning(plate))
        overwrite, ffmpeg = settings.overwrite, settings.ffmpeg
        write_plates(out, plate, shot, info.fps, overwrite, ffmpeg, progress)
    return plate


def camera_of(shot: Shot, settings: Settings, progress: Progress) -> Camera:
    """How the camera moves; with a plate of the user's nobody needs to know."""
    if settings.background is not None:
        return Camera.static(len(shot), shot.full_size)
    return find_camera(shot, settings, progress)


def with_strangers(shot: Shot, settings: Settings, progress: Progress) -> Shot:
    """The shot with the movers that nobody masked, where the camera stands still."""
    if shot.camera is None or shot.camera.moving or shot.camera.cuts or not settings.strangers:
        return shot
    progress.stage("strangers")
    found = find_strangers(shot.frames, shot.small)
    if len(found):
        progress.say(
            f"{len(found)} more things move than have masks: what they change stays out of the "
            "layers (--no-strangers does not look for them)."
        )
    return replace(shot, strangers=found)


def plate_of(
    shot: Shot,
    settings: Settings,
    solve: SolveSettings,
    run: Run,
    folder: Path,
    numbers: tuple[int, ...],
    progress: Progress,
) -> Plate:
    """The plate: the user's, or estimated; plates of single frames are written to `folder`."""
    if settings.background is not None:
        return load_plate(settings.background, shot.full_size, len(shot), progress)
    # With --exact, background/ holds what no layer owns as well.
    plates = folder / ("plate" if settings.exact else "background")
    owners = find_owners(shot, run, progress)
    return clean_plate(shot, solve.plate_passes, owners, plates, numbers, progress)


def find_owners(shot: Shot, run: Run, progress: Progress) -> FindOwners | None:
    """Who owns each change over given plates, by the ownership network; None where none ships."""
    net = run.ownership
    if net is None:
        return None
    return lambda plates: shot.ownership(net, plates, run.device, progress, coarse=True)

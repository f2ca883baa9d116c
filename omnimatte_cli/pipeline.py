"""The story of one shot: read - masks - plate - separate - deliver."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Masks, Plate
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.deliver.finish import finish_result
from omnimatte_cli.deliver.formats import DEEP_FORMATS
from omnimatte_cli.deliver.manifest import (
    describe_camera,
    describe_part,
    describe_run,
    describe_shots,
    write_manifest,
)
from omnimatte_cli.deliver.plates import (
    plate_target,
    unseen_warning,
    write_plates,
    write_result_plate,
)
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.deliver.writer import check_pass_names, delivery_of
from omnimatte_cli.errors import NoObjectError, OptionError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.masks.order import read_order
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.media.codecs import encoders
from omnimatte_cli.media.ffmpeg import try_ffmpeg
from omnimatte_cli.media.folder import output_folder, state_path
from omnimatte_cli.media.options import reading
from omnimatte_cli.media.read import MIN_FRAMES, VIDEO_SUFFIXES, VideoInfo, probe
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.methods import registry
from omnimatte_cli.methods.base import Run
from omnimatte_cli.methods.networks import body_matting, ownership_network
from omnimatte_cli.plate.estimate import FindOwners, clean_plate, find_camera
from omnimatte_cli.plate.load import load_shot_plate
from omnimatte_cli.plate.strangers import with_strangers
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.segment.prompts import parse_prompts, within_part
from omnimatte_cli.settings import Settings, SolveSettings
from omnimatte_cli.shot import Shot, part_of, read_shot, settings_of_part

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What `decompose` wrote. layers: object name to the folder of its PNGs.

    Of a video split at its cuts, `shots` holds each shot's result, `layers` has names such as
    "shot01/dog", and the other files are those of the first shot.
    """

    out: Path
    layers: dict[str, Path]
    background: Path
    composite: Path
    preview: Path
    manifest: dict[str, Any]
    report: Path | None = None
    shots: tuple[Result, ...] = ()

    @classmethod
    def at(cls, out: Path, manifest: dict[str, Any], report: Path | None) -> Result:
        """The result that the folder `out` holds."""
        layers = {n: out / "layers" / n for n in manifest["objects"]["names"]}
        movies = (out / "composite.mp4", out / "preview.mp4")
        return cls(out, layers, out / "background.png", *movies, manifest, report)


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


@dataclass(frozen=True)
class Setup:
    """What is decided before any frame is read."""

    device: torch.device
    choice: registry.Choice
    ffmpeg: str
    ownership: OwnerNet | None

    @classmethod
    def of(cls, settings: Settings, progress: Progress) -> Setup:
        device = devices.choose(settings.device)
        choice = registry.choose(settings, devices.kind(device))
        registry.check_acts(choice, settings)
        progress.say(choice.reason)
        ffmpeg = try_ffmpeg(settings.ffmpeg, encoders(("mp4", *settings.formats)))
        net = ownership_network(choice.options.network, settings.weights, device)
        return cls(device, choice, ffmpeg, net)


@dataclass(frozen=True)
class Decomposed:
    """A written shot. forget: removes its training's state, once the result is in its place.

    samples: its frames at full size, some or all.
    """

    manifest: dict[str, Any]
    masks: Masks
    samples: FrameSamples
    forget: Callable[[], None]


def decompose(
    source: Path, out: Path, settings: Settings, progress: Progress | None = None
) -> Result:
    """Split a video into one RGBA layer per object and a clean plate, and write them to `out`.

    With `split_cuts`, a video with scene cuts gets a result for each shot, in `out`/shot01 and so
    on. Raises the errors of `omnimatte_cli.errors`; on any error `out` is as it was before.
    """
    timer = StageTimer(progress or Silent())
    setup = Setup.of(settings, timer)
    parts = scenes_of(source, settings, timer) if settings.split_cuts else None
    inputs = [source, *settings.inputs]
    with (
        output_folder(out, settings.overwrite, inputs, timer.say) as folder,
        devices.deterministic(),
    ):
        if parts is None:
            state = state_path(out)
            done = {"": decompose_shot(source, folder, settings, setup, state, timer)}
        else:
            facts, done = decompose_shots(parts, folder, settings, setup, state_path(out), timer)
    for shot in done.values():
        shot.forget()

    def result_at(place: Path, shot: Decomposed) -> Result:
        if settings.part is not None:
            return Result.at(place, shot.manifest, None)  # what is more comes when it is joined
        frames = shot.samples.frame if shot.samples.complete else None
        report = finish_result(place, settings.formats, settings.report, timer, shot.masks, frames)
        return Result.at(place, shot.manifest, report)

    shots = tuple(result_at(out / name, shot) for name, shot in done.items())
    timer.finish()
    if parts is None:
        return shots[0]
    layers = {f"{s.out.name}/{n}": path for s in shots for n, path in s.layers.items()}
    return replace(shots[0], out=out, layers=layers, manifest=facts, shots=shots)


def decompose_shot(
    source: Path,
    folder: Path,
    settings: Settings,
    setup: Setup,
    state: Path,
    timer: StageTimer,
    masks: Masks | None = None,
) -> Decomposed:
    """Decompose one shot into `folder`.

    masks: None: those that the settings name, or made first. state: the beginning of the path of an
    unfinished training.
    """
    device, choice = setup.device, setup.choice
    run = Run(
        device,
        settings.seed,
        settings.weights,
        setup.ownership,
        choice.solve,
        body_matting(),
        state,
    )
    method = registry.make(choice, run)
    info, shot = read_shot(source, folder / "masks", settings, timer, masks=masks)
    check_pass_names(shot.masks.names, settings.passes, settings.formats)
    log.info("Working size: %dx%d, on %s.", *shot.size[::-1], device)
    log.info("The ownership network sees every frame with those %d apart.", shot.frame_stride)
    if shot.dtype == np.uint16 and not DEEP_FORMATS.intersection(settings.formats):
        timer.say(
            f"The input has {info.depth} bits: the plate keeps them, in 16-bit PNGs; layers/ "
            "has 8 (--format png16, prores or exr also writes deeper ones)."
        )
    shot = replace(shot, camera=camera_of(shot, settings, timer))
    given = users_plate(shot, settings, info, timer)
    if settings.strangers:
        shot = with_strangers(shot, find_owners(shot, run, timer), timer, given)
    plate = given or plate_of(shot, settings, choice.solve, run, folder, info, timer)
    write_result_plate(folder, plate, shot, timer)
    separation = method.separate(shot, plate, timer)
    delivery = delivery_of(info, setup.ffmpeg, settings.matte_color, not settings.no_audio)
    part = part_of(info, settings)
    writer = ResultWriter(
        folder,
        shot.masks.names,
        shot.masks.order,
        plate,
        shot.open_frames,
        separation.layers_at,
        delivery if part is None else replace(delivery, frames=len(part), audio=None),
        info.frame_numbers,
        settings.exact,
        settings.passes,
        settings.formats,
        part,
    )
    timer.stage("writing", info.frames if part is None else len(part))
    with devices.shared_among(writer.concurrency()[0]):
        scores = writer.write(timer)
    timer.finish()
    seconds = dict(timer.seconds)
    facts = describe_run(settings, choice, info, shot, plate, separation, scores, seconds)
    facts["camera"] = describe_camera(shot.camera)
    facts["device"] = devices.describe(device)
    if part is not None:
        facts["part"] = describe_part(part, scores, delivery.audio)
    write_manifest(folder / "manifest.json", facts)
    return Decomposed(facts, shot.masks, shot.samples, separation.forget)


def scenes_of(source: Path, settings: Settings, timer: StageTimer) -> VideoInfo | None:
    """The facts of a video that has scene cuts; None, which is said, where it has none."""
    info = probe(source, progress=timer, options=reading(settings))
    if info.cuts:
        return info
    timer.say("There is no scene cut to split at.")
    return None


def decompose_shots(
    info: VideoInfo,
    folder: Path,
    settings: Settings,
    setup: Setup,
    state: Path,
    timer: StageTimer,
) -> tuple[dict[str, Any], dict[str, Decomposed]]:
    """Decompose each shot between the cuts of a video into a folder of its own.

    Shots without any object are left out, and said. Returns the manifest of all, and each shot by
    the name of its folder.
    """
    making = settings.making
    prompts = parse_prompts(making.points, making.boxes)
    within_part(prompts, info.first, info.frames, info.size)  # or one in no shot would be lost
    if prompts and settings.order is not None:
        read_order(Path(), tuple(dict.fromkeys(p.name for p in prompts)), 1, settings.order)
    masks = whole_masks(info, settings, timer) if settings.masks else None
    done: dict[str, Decomposed] = {}
    entries: list[dict[str, Any]] = []
    left_out: list[dict[str, Any]] = []
    for number, (first, stop) in enumerate(info.scenes, start=1):
        name = f"shot{number:02d}"
        entry = {"folder": name, "frames": [first, stop - 1]}
        timer.say(f"Shot {number} of {len(info.scenes)}: frames {first} to {stop - 1}.")
        place = folder / name
        place.mkdir()
        try:
            if stop - first < MIN_FRAMES:
                raise NoObjectError(f"At least {MIN_FRAMES} frames are needed.")
            part = settings_of_part(settings, info, first, stop)
            own = masks and masks.part(first - info.first, stop - info.first)
            if own is not None and not own.names:
                raise NoObjectError("No mask has anything there.")
            path = state.with_name(f"{state.name}.{name}")
            clock = StageTimer(timer.progress)
            shot = decompose_shot(info.source, place, part, setup, path, clock, own)
        except NoObjectError as error:
            shutil.rmtree(place)
            timer.say(f"Shot {number} is left out: {error}")
            left_out.append({**entry, "left_out": str(error)})
            continue
        done[name] = shot
        entries.append({**entry, "manifest": shot.manifest})
    if not done:
        raise NoObjectError(
            f"None of the {len(info.scenes)} shots of {info.source} has an object: point at one "
            "in each shot with --point or --box, or give masks with --masks."
        )
    facts = describe_shots(info, settings, setup.choice, entries, left_out)
    write_manifest(folder / "manifest.json", facts)
    return facts, done


def whole_masks(info: VideoInfo, settings: Settings, timer: StageTimer) -> Masks:
    """The user's masks for all shots: names and order are the same in each."""
    assert settings.masks is not None
    return load_masks(
        settings.masks, info.frames, info.size, settings.order, timer, info.options, info
    )


def write_background(
    source: Path, settings: Settings, out: Path, progress: Progress | None = None
) -> Plate:
    """Estimate the plate of a video and write it: to an image, or that of every frame.

    out: an image file; or a video file or a folder, which get the plate of every frame. Without
    masks every pixel counts as plate.
    """
    progress = progress or Silent()
    device = devices.choose(settings.device)
    solve = registry.choose(settings, devices.kind(device)).solve
    run = Run(device, ownership=ownership_network(None, "auto", device))
    inputs = [source, *settings.inputs]
    if strange := [p.name for p in settings.pairs if p.name != "plate_passes"]:
        raise OptionError(f"--set {strange[0]} does nothing to a plate: plate_passes alone does.")
    if out.suffix.lower() in VIDEO_SUFFIXES:
        try_ffmpeg(settings.ffmpeg)
    with (
        plate_target(out, settings.overwrite, inputs, progress) as place,
        devices.deterministic(),
        tempfile.TemporaryDirectory() as scratch,
    ):
        info, shot = read_shot(source, None, settings, progress)
        shot = replace(shot, camera=find_camera(shot, settings, progress))
        owners = find_owners(shot, run, progress) if shot.masks.names else None
        plates, passes = Path(scratch), solve.plate_passes
        plate = clean_plate(shot, passes, owners, plates, info.frame_numbers, progress)
        if not plate.valid.all():
            progress.say(unseen_warning(plate))
        write_plates(place, plate, shot, info, settings.ffmpeg, progress)
    return plate


def camera_of(shot: Shot, settings: Settings, progress: Progress) -> Camera:
    """How the camera moves; with a plate of the user's nobody needs to know."""
    if settings.background is not None:
        return Camera.static(len(shot), shot.full_size)
    return find_camera(shot, settings, progress)


def users_plate(
    shot: Shot, settings: Settings, info: VideoInfo, progress: Progress
) -> Plate | None:
    """The plate that the user gave, if any."""
    if settings.background is None:
        return None
    return load_shot_plate(settings.background, shot, info, progress)


def plate_of(
    shot: Shot,
    settings: Settings,
    solve: SolveSettings,
    run: Run,
    folder: Path,
    info: VideoInfo,
    progress: Progress,
) -> Plate:
    """The plate, estimated; plates of single frames are written to `folder`."""
    # With --exact, background/ holds what no layer owns as well.
    plates = folder / ("plate" if settings.exact else "background")
    owners = find_owners(shot, run, progress)
    return clean_plate(shot, solve.plate_passes, owners, plates, info.frame_numbers, progress)


def find_owners(shot: Shot, run: Run, progress: Progress) -> FindOwners | None:
    """Who owns each change over given plates, by the ownership network; None where none ships."""
    net = run.ownership
    if net is None:
        return None
    return lambda plates: shot.ownership(net, plates, run.device, progress, coarse=True)

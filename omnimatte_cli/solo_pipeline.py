"""The story of `omnimatte layers`: read - solos and plate - masks and order - layers - write."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import ALPHABETICAL, Masks, Plate, Size, eight_bits, resize_frames
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.deliver.finish import finish_result
from omnimatte_cli.deliver.manifest import (
    describe_camera,
    describe_masks,
    describe_plate,
    peak_memory_mb,
    write_manifest,
)
from omnimatte_cli.deliver.plates import write_result_plate
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.deliver.source import describe_input
from omnimatte_cli.deliver.writer import delivery_of
from omnimatte_cli.errors import MaskError, OptionError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.masks.order import read_order
from omnimatte_cli.matte.ownership import working_plates
from omnimatte_cli.matte.pool import pool_over_time
from omnimatte_cli.media import encode as export
from omnimatte_cli.media import folder as output
from omnimatte_cli.media import read as video
from omnimatte_cli.media.ffmpeg import try_ffmpeg
from omnimatte_cli.media.images import IMAGE_SUFFIXES
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.methods import registry
from omnimatte_cli.methods.base import Run
from omnimatte_cli.methods.generative.agreement import check_objects
from omnimatte_cli.methods.generative.bodies import guess_masks, ordered
from omnimatte_cli.methods.generative.method import (
    OwnedSolos,
    SmallClip,
    Solos,
    SoloVideos,
    make_layers,
    resolved_fit,
    small_solos,
)
from omnimatte_cli.methods.generative.options import AUTO, STRIDE, LayersSettings
from omnimatte_cli.methods.generative.solos import RemovalVideo, SoloError, open_removal
from omnimatte_cli.methods.networks import ownership_network
from omnimatte_cli.options import plain
from omnimatte_cli.pipeline import (
    Result,
    StageTimer,
    camera_of,
    plate_of,
    users_plate,
)
from omnimatte_cli.plate.load import check_scene, load_plate
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.settings import Settings
from omnimatte_cli.shot import read_shot
from omnimatte_cli.versions import library_versions

FIT_WORDS = {
    "closed": "in closed form",
    "base": "alpha optimised at working size, colours in closed form",
    "full": "optimised at working size, then at full size",
}


@dataclass(frozen=True)
class SoloShot:
    """A shot with what a removal model, or ownership, made of it."""

    info: VideoInfo
    masks: Masks
    plate: Plate
    solos: Solos
    clip: SmallClip
    camera: Camera
    facts: dict[str, object]


def layers(
    source: Path, out: Path, settings: LayersSettings, progress: Progress | None = None
) -> Result:
    """One RGBA layer per object from its solo video and the clean background.

    Raises the errors of `omnimatte_cli.errors`; on any error `out` is as it was before.
    """
    timer = StageTimer(progress or Silent())
    device = devices.choose(settings.device)
    ffmpeg = try_ffmpeg(settings.ffmpeg)
    state = output.state_path(out, "layers.pt")
    inputs = [source, *settings.inputs]
    with (
        output.output_folder(out, settings.overwrite, inputs, timer.say) as folder,
        devices.deterministic(),
    ):
        if settings.solo_videos is None:
            shot = owned_shot(source, folder, settings, device, timer)
        else:
            shot = removal_shot(source, settings, timer)
            export.write_image(folder / "background.png", shot.plate.image)
        info, masks = shot.info, shot.masks
        fit = resolved_fit(settings.options, device)
        timer.say(f"Layers: {FIT_WORDS[fit]}.")
        if fit == "closed" and settings.steps is not None:
            timer.say("--steps does nothing where nothing is optimised: --fit base or full.")
        made = make_layers(
            shot.clip,
            shot.solos,
            masks,
            settings.options,
            device,
            timer,
            lambda i: full_clip(shot, i),
            state,
        )
        writer = ResultWriter(
            folder,
            masks.names,
            masks.order,
            shot.plate,
            lambda: video.iter_frames(source, deep=None, options=settings.reading),
            made,
            delivery_of(info, ffmpeg),
            info.frame_numbers,
            exact=settings.exact,
        )
        timer.stage("writing", info.frames)
        scores = {name: score.value for name, score in writer.write(timer).items()}
        timer.finish()
        facts = {
            "versions": library_versions(),
            "input": describe_input(info),
            "objects": describe_masks(masks, settings.masks),
            "background": describe_plate(shot.plate, settings.background),
            "options": plain(settings) | {"set": plain(settings.options)},
            "seed": settings.seed,
            "device": devices.describe(device),
            "working_size": "{}x{}".format(*shot.clip.solos.shape[2:4]),
            "camera": describe_camera(shot.camera),
            "method": "generative",
            "fit": fit,
            "losses": made.losses or None,
            "psnr": scores,
            "seconds": dict(timer.seconds),
            "peak_memory_mb": peak_memory_mb(),
            **shot.facts,
        }
        write_manifest(folder / "manifest.json", facts)
    for path in state.parent.glob(f"{glob.escape(state.name)}.*"):
        path.unlink(missing_ok=True)
    report = finish_result(out, (), settings.report, timer)
    timer.finish()
    folders = {name: out / "layers" / name for name in masks.names}
    movies = (out / "composite.mp4", out / "preview.mp4")
    return Result(out, folders, out / "background.png", *movies, facts, report)


def removal_shot(source: Path, settings: LayersSettings, progress: StageTimer) -> SoloShot:
    """The shot with the videos that a removal model made of it, checked against it."""
    videos_of, background = settings.solo_videos, settings.background
    assert videos_of is not None and background is not None
    names = tuple(videos_of)
    progress.stage("reading")
    info, clip = video.read_clip(source, settings.working_size, options=settings.reading)
    for note in info.notes:
        progress.say(note)
    size = (clip.frames.shape[1], clip.frames.shape[2])
    masks = None
    if settings.masks is not None:
        masks = chosen_masks(settings.masks, info, settings.order, names)
    covered = np.zeros((info.frames, *size), bool)
    if masks is not None:
        covered = np.any(masks.resized(size), axis=0)
    progress.stage("checking the videos", len(names) + 1)
    videos = []
    for done, (name, path) in enumerate(videos_of.items()):
        videos.append(open_removal(f"solo '{name}'", path, info, covered))
        progress.step(done + 1)
    plate, notes = removal_plate(background, info, covered, progress)
    notes = [*(n for v in videos for n in v.notes), *notes]
    solos = SoloVideos(videos)
    progress.stage("reading the videos", info.frames)
    plates = working_plates(plate, size, info.frames)
    if plate.moving is None:  # a video has been compared with the shot when it was opened
        check_scene(plates, clip.frames, covered, background, progress)
    small = np.stack([np.stack([eight_bits(x) for x in v.stream(size)]) for v in videos])
    if masks is not None:
        check_objects(names, small, clip.frames, plates, masks.resized(size))
    else:
        masks = guess_masks(small, plates, names, info.size)
        if settings.order is not None:
            order, kind = read_order(Path(), names, info.frames, settings.order)
            masks = replace(masks, order=order, order_source=kind)
    masks = by_depth(masks, settings, info, size, progress)
    masks = replace(masks, notes=(*masks.notes, *notes))
    for note in masks.notes:
        progress.say(note)
    still = Camera.static(info.frames, info.size)  # the background video follows the camera itself
    facts: dict[str, object] = {"solos": {n: str(p) for n, p in videos_of.items()}}
    return SoloShot(
        info, masks, plate, solos, SmallClip(small, plates, masks.resized(size)), still, facts
    )


def owned_shot(
    source: Path, folder: Path, settings: LayersSettings, device: torch.device, progress: StageTimer
) -> SoloShot:
    """The shot with solos that the ownership network gives: the path that needs no other model."""
    shared = Settings(
        masks=settings.masks,
        order=settings.order,
        background=settings.background,
        method="ownership",
        device=settings.device,
        size=settings.working_size(video.probe(source, options=settings.reading).size),
        exact=settings.exact,
        seed=settings.seed,
        ffmpeg=settings.ffmpeg,
    )
    net = ownership_network("ownership", "auto", device)
    if net is None:
        raise OptionError("--solo auto needs the ownership weights, which are not there.")
    run = Run(device, settings.seed, ownership=net)
    info, shot = read_shot(source, folder / "masks", shared, progress, settings.reading)
    solve = registry.choose(shared, devices.kind(device)).solve
    camera = camera_of(shot, shared, progress)
    shot = replace(shot, camera=camera)
    given = users_plate(shot, shared, info, progress)
    plate = given or plate_of(shot, shared, solve, run, folder, info, progress)
    write_result_plate(folder, plate, shot, progress)
    plates = working_plates(plate, shot.size, len(shot))
    found = shot.ownership(net, plates, device, progress)
    found = pool_over_time(found, shot.frames, plates, float(shot.fps), progress)
    masks = by_depth(shot.masks, settings, info, shot.size, progress)
    solos = OwnedSolos(found, masks)
    small = small_solos(solos, shot.open_frames(), plate.stream(), shot.size)
    return SoloShot(
        info,
        masks,
        plate,
        solos,
        SmallClip(small, plates, shot.small),
        camera,
        {"solos": AUTO},
    )


def chosen_masks(folder: Path, info: VideoInfo, order: str | None, names: tuple[str, ...]) -> Masks:
    """The masks of the objects that have a solo video, in the order of the solos."""
    masks = load_masks(folder, info.frames, info.size, options=info.options, video=info)
    if len(names) == len(masks.names) == 1:
        masks = replace(masks, names=names)  # a single folder of masks has no name of its own
    missing = [n for n in names if n not in masks.names]
    if missing:
        raise MaskError(
            f"{folder} has no mask for '{missing[0]}' (it has {', '.join(masks.names)}): name "
            "solos and masks alike."
        )
    picks = [masks.names.index(n) for n in names]
    place = {old: new for new, old in enumerate(picks)}
    rows = [[place[i] for i in row if i in place] for row in masks.order.tolist()]
    left = [n for n in masks.names if n not in names]
    notes = tuple(f"The masks of '{n}' are left out: it has no solo video." for n in left)
    chosen = Masks(
        names,
        masks.size,
        np.array(rows),
        tuple(masks.packed[i] for i in picks),
        masks.order_source,
        (*masks.notes, *notes),
    )
    if order is None:
        return chosen
    given, kind = read_order(folder, names, info.frames, order)
    return replace(chosen, order=given, order_source=kind)


def removal_plate(
    path: Path, info: VideoInfo, covered: np.ndarray, progress: Progress
) -> tuple[Plate, list[str]]:
    """The clean background as a plate, from a video or an image, and notes about it."""
    still = path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES
    if still:
        return load_plate(path, info.size, info.frames, progress, info), []
    plates: RemovalVideo = open_removal("background", path, info, covered)
    first = next(plates.stream())
    return Plate(first, np.ones(info.size, bool), plates.stream), list(plates.notes)


def full_clip(shot: SoloShot, i: int) -> SmallClip:
    """Object i's solo and the plate near the shot's own size, both sides multiples of 32."""
    height, width = (max(1, round(s / STRIDE)) * STRIDE for s in shot.info.size)
    size = (height, width)

    def solos() -> Iterator[np.ndarray]:
        frames = video.iter_frames(shot.info.source, deep=None, options=shot.info.options)
        pairs = zip(frames, shot.plate.stream(), strict=False)
        for t, (frame, plate) in enumerate(pairs):
            yield shot.solos.at(t, frame, plate)[i]

    solo = resize_frames(solos(), size)
    plates = working_plates(shot.plate, size, shot.info.frames)
    return SmallClip(solo[None], plates, shot.masks.resized(size)[i : i + 1])


def by_depth(
    masks: Masks, settings: LayersSettings, info: VideoInfo, size: Size, progress: Progress
) -> Masks:
    """The masks in the order that the depth video says, where nothing else says one."""
    if settings.depth is not None and masks.order_source != ALPHABETICAL:
        progress.say(f"--depth does nothing: {masks.order_source} says which is in front.")
    return ordered(masks, read_depth(settings.depth, info, size))


def read_depth(path: Path | None, info: VideoInfo, size: Size) -> np.ndarray | None:
    """A depth video at working size, (T, h, w) float32; None where there is none."""
    if path is None:
        return None
    depth = open_depth(path, info)
    return np.stack([cv2.resize(d, size[::-1], interpolation=cv2.INTER_AREA) for d in depth])


def open_depth(path: Path, info: VideoInfo) -> Iterator[np.ndarray]:
    """Grey levels (H, W) float32 of a depth video with a frame for each of the shot's."""
    count = 0
    for frame in video.iter_frames(path, info.frames, options=video.same_part(path, info)):
        count += 1
        yield frame.astype(np.float32).mean(2)
    if count < info.frames:
        raise SoloError(f"The depth video {path} has {count} frames, the shot {info.frames}.")

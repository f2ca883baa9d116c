"""The story of `omnimatte unmix`: read - the network - the clip's own motions - write."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from omnimatte_cli import device as devices
from omnimatte_cli.arrays import Plate
from omnimatte_cli.deliver.finish import finish_result
from omnimatte_cli.deliver.manifest import (
    SCHEMA,
    describe_camera,
    describe_input,
    peak_memory_mb,
    write_manifest,
)
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.deliver.writer import Delivery, delivery_of
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.media.encode import VideoWriter, write_image
from omnimatte_cli.media.ffmpeg import try_ffmpeg
from omnimatte_cli.media.folder import output_folder
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.centrifuge.layers import Unmixed
from omnimatte_cli.methods.centrifuge.network import Centrifuge
from omnimatte_cli.methods.centrifuge.options import UnmixSettings
from omnimatte_cli.methods.centrifuge.predict import cautious, separate, two_layers
from omnimatte_cli.methods.centrifuge.refine import refine
from omnimatte_cli.options import plain
from omnimatte_cli.pipeline import StageTimer
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.settings import Settings
from omnimatte_cli.shot import read_shot
from omnimatte_cli.versions import library_versions

NAMES = ("layer1", "layer2")  # back to front
UNSURE = 0.5  # belief in the clip's motions below which the user is told
STILLS = 9  # frames at most that the plate is the median of
ALIKE = 0.03  # mean difference of the layers below which nothing was told apart


@dataclass(frozen=True)
class UnmixResult:
    """What `unmix` wrote. layers: name to the folder of its PNGs. videos: name to its video.
    report: None where none was wanted."""

    out: Path
    layers: dict[str, Path]
    videos: dict[str, Path]
    manifest: dict[str, Any]
    report: Path | None


def unmix(
    source: Path, out: Path, settings: UnmixSettings, progress: Progress | None = None
) -> UnmixResult:
    """Split a video that shows two scenes in each other into the two, and write them to `out`.

    Raises the errors of `omnimatte_cli.errors`; on any error `out` is as it was before.
    """
    timer = StageTimer(progress or Silent())
    device = devices.choose(settings.device)
    ffmpeg = try_ffmpeg(settings.ffmpeg)
    file = weights.find(settings.weights, weights.CENTRIFUGE)
    net = weights.load_centrifuge(file).to(device)
    with (
        output_folder(out, settings.overwrite, [source], timer.say) as folder,
        devices.deterministic(),
    ):
        shared = Settings(size=settings.size)
        info, shot = read_shot(source, None, shared, timer, settings.reading)
        found, fitted = unmixed(net, shot.frames, settings, timer)
        apart = float(np.abs(found.layers[1].astype(np.float32) - found.layers[0]).mean())
        if apart < ALIKE:
            timer.say(
                f"The two layers differ by {apart:.3f} only: the network found nothing to tell "
                "apart (scenes that do not move against each other cannot be)."
            )
        delivery = delivery_of(info, ffmpeg)
        order = np.tile(np.arange(len(NAMES)), (info.frames, 1))
        timer.stage("writing", info.frames)
        with ExitStack() as stack:
            scenes = Scenes(folder, info.frames, delivery, stack)
            writer = ResultWriter(
                folder,
                NAMES,
                order,
                Plate(np.zeros((*info.size, 3), np.uint8), np.ones(info.size, bool)),
                shot.open_frames,
                lambda t, frame, plate: Layers(found.at(t, frame)),
                delivery,
                info.frame_numbers,
                shown=colours,
                also=scenes,
            )
            scores = {name: score.value for name, score in writer.write(timer).items()}
        write_image(folder / "background.png", scenes.resting())
        timer.finish()
        height, width = found.small.shape[1:3]
        facts: dict[str, Any] = {
            "schema": SCHEMA,
            "versions": library_versions(),
            "input": describe_input(info),
            "objects": {
                "names": list(NAMES),
                "order": list(NAMES),
                "order_from": "the layer with less motion is the first",
                "notes": [],
            },
            "options": plain(settings),
            "seed": settings.seed,
            "device": devices.describe(device),
            "working_size": f"{width}x{height}",
            "camera": describe_camera(None),
            "method": "centrifuge",
            "network": {"weights": str(file.path), "sha256": file.sha256} | plain(net.shape),
            "iterations": settings.iterations,
            **fitted,
            "alpha": [round(float(a), 4) for a in found.alpha],
            "apart": round(apart, 4),
            "psnr": {"blend": scores["after_detail"], **scores},
            "seconds": dict(timer.seconds),
            "peak_memory_mb": peak_memory_mb(),
        }
        write_manifest(folder / "manifest.json", facts)
    report = finish_result(out, (), settings.report, timer)
    timer.finish()
    folders = {name: out / "layers" / name for name in NAMES}
    videos = {name: out / f"{name}.mp4" for name in NAMES}
    return UnmixResult(out, folders, videos, facts, report)


def unmixed(
    net: Centrifuge, frames: np.ndarray, settings: UnmixSettings, timer: StageTimer
) -> tuple[Unmixed, dict[str, Any]]:
    """Two layers of a small clip (T, h, w, 3) uint8. Beside it, for the manifest, what came of
    `--iterations`: disagreement with the clip's motions before and after, how far these are
    believed."""
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    timer.stage("separating")
    layers = cautious(two_layers(separate(net, clip, timer)))
    alpha = np.full(len(frames), settings.alpha)
    facts: dict[str, Any] = {"losses": []}
    if settings.iterations:
        device = next(net.parameters()).device
        timer.stage("refining", settings.iterations)
        given = (clip.to(device), layers.to(device), torch.from_numpy(alpha).float().to(device))
        refined = refine(*given, settings.iterations, settings.seed, timer)
        layers = refined.layers
        facts = {
            "losses": [round(x, 6) for x in refined.disagreement],
            "motions_believed": round(refined.believed, 3),
        }
        if refined.believed < UNSURE:
            timer.say(
                "Two motions hardly explain this clip (scenes that rest, turn or are deep): the "
                f"layers follow them by {100 * refined.believed:.0f} % only."
            )
    pictures = layers.permute(0, 1, 3, 4, 2).cpu().numpy()
    return Unmixed(frames, pictures.astype(np.float16), alpha), facts


def colours(rgba: np.ndarray) -> np.ndarray:
    """A layer (H, W, 4) without its alpha."""
    return np.ascontiguousarray(rgba[..., :3])


class Scenes:
    """What is written of the layers beside their PNGs: an opaque video of each, and the first one
    at rest. To be called with every frame's layers in turn, (2, H, W, 4) uint8."""

    def __init__(self, folder: Path, frames: int, info: Delivery, stack: ExitStack) -> None:
        self.every = max(1, -(-frames // STILLS))
        self.stills: list[np.ndarray] = []
        paths = [folder / f"{name}.mp4" for name in NAMES]
        self.movies = [
            stack.enter_context(
                VideoWriter(path, info.size, info.timing, info.ffmpeg, tags=info.tags)
            )
            for path in paths
        ]

    def __call__(self, t: int, layers: np.ndarray) -> None:
        pictures = [colours(layer) for layer in layers]
        for movie, picture in zip(self.movies, pictures, strict=True):
            movie.write(picture)
        if t % self.every == 0:
            self.stills.append(pictures[0])

    def resting(self) -> np.ndarray:
        """The first layer's median over some frames, (H, W, 3) uint8.

        `layer1` is opaque and hides it; where `compose` takes that layer out, it is what is left.
        """
        return np.rint(np.median(np.stack(self.stills), 0)).astype(np.uint8)

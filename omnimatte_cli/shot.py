"""One shot as the pipeline works on it: the video's facts, its clip at working size, its masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from omnimatte_cli.arrays import Masks, Plate, Size
from omnimatte_cli.camera.model import Camera, read_camera
from omnimatte_cli.errors import NoObjectError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.matte.bodies import CutOut
from omnimatte_cli.matte.elsewhere import Clip
from omnimatte_cli.matte.layers import resolver
from omnimatte_cli.matte.majority import leave_minorities
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.matte.noise import residual_noise
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.matte.predict import asked, frame_stride, predict_ownership
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.matte.restless import leave_restless
from omnimatte_cli.media.options import ReadOptions, reading
from omnimatte_cli.media.pin import Pin
from omnimatte_cli.media.read import VideoInfo, iter_frames, read_clip
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.options import check
from omnimatte_cli.progress import Progress
from omnimatte_cli.segment.make import WorkingFrames, make_masks
from omnimatte_cli.segment.mend import mend_masks
from omnimatte_cli.segment.prompts import parse_prompts, prompts_between
from omnimatte_cli.settings import Settings, SolveSettings, parse_share, working_size
from omnimatte_cli.tensors import ClipTensors


@dataclass(frozen=True)
class Shot:
    """A video with its masks.

    fps: mean frames per second. frames: (T, h, w, 3) uint8, all of them at working size. masks: at
    full size; small: at working size, (N, T, h, w) bool. samples: some frames at full size.
    open_frames: opens a new stream of all frames at full size, (H, W, 3) uint8, or uint16 where the
    video has more than 8 bits. camera: how it moves, once that is known. strangers: (S, T, h, w)
    bool, movers that nobody masked. first_look: who owns each change over first plates of single
    frames, where that was asked to find them. first: the place of frame 0 in the whole video, for
    what is said to the user.
    """

    fps: Fraction
    frames: np.ndarray
    masks: Masks
    small: np.ndarray
    samples: FrameSamples
    open_frames: Callable[[], Iterator[np.ndarray]]
    camera: Camera | None = None
    strangers: np.ndarray | None = None
    first_look: Ownership | None = None
    first: int = 0

    def __post_init__(self) -> None:
        assert self.frames.dtype == np.uint8 and self.frames.ndim == 4, self.frames.shape
        assert self.small.shape[1:] == self.frames.shape[:3], self.small.shape

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def dtype(self) -> np.dtype:
        """Of the frames at full size: uint8 or uint16."""
        return self.samples.dtype

    @property
    def size(self) -> Size:
        """Working (height, width)."""
        return self.frames.shape[1], self.frames.shape[2]

    @property
    def full_size(self) -> Size:
        """The video's (height, width)."""
        return self.masks.size

    @property
    def frame_stride(self) -> int:
        """Frames between neighbours for the ownership network."""
        return frame_stride(self.fps, len(self))

    @property
    def coarse_frames(self) -> list[int]:
        """Frames that a coarse answer of the ownership network asks about, ascending."""
        return asked(len(self), self.frame_stride, self._every)

    @property
    def _every(self) -> int:
        """Of a coarse answer: two frames a stride."""
        return max(1, self.frame_stride // 2)

    def tensors(self, plates: np.ndarray, device: torch.device) -> ClipTensors:
        """The clip at working size before its `plates` (1 or T, h, w, 3), on a device."""
        return ClipTensors.from_arrays(self.frames, self.small, plates, self.masks.order, device)

    def ownership(
        self,
        net: OwnerNet,
        plates: np.ndarray,
        device: torch.device,
        progress: Progress,
        stride: int | None = None,
        coarse: bool = False,
    ) -> Ownership:
        """Who owns each change over working plates (1 or T, h, w, 3), by the ownership network.

        stride: frames between neighbours that it sees; None: a quarter of a second. coarse: ask
        about two frames a stride only, which a plate can be estimated with.
        """
        progress.stage("ownership", len(self))
        clip, stride = self.tensors(plates, device), stride or self.frame_stride
        every = self._every if coarse else 1
        found = predict_ownership(
            net, clip, stride, float(self.fps), progress, self.strangers, every
        )
        if len(plates) == 1 and not coarse:
            leave_restless(found, self.frames, plates[0], self.small, self.frame_stride)
        if not coarse:
            leave_minorities(found, self.frames, plates, self.small)
        return found

    def noise(self, plates: np.ndarray) -> np.ndarray:
        """How much the residual varies where nothing happens, at full size, (H, W) float32."""
        noise = residual_noise(self.frames, plates, self.small)
        height, width = self.full_size
        return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)

    def resolver(
        self,
        ownership: Ownership,
        plates: np.ndarray,
        solve: SolveSettings,
        plate: Plate,
        cut_out: CutOut,
    ) -> Callable[[int, np.ndarray, np.ndarray], Layers]:
        """How a frame's layers follow from an ownership over working plates (1 or T, h, w, 3).

        plate: the same at full size. cut_out: finds bodies in masks.
        """
        kept = self.samples.kept if plate.at_hand else ()
        clip = Clip(
            self.frames,
            self.small,
            self.masks.order,
            ownership,
            self.frame_stride,
            kept,
            self.full_size,
        )

        def again(t: int) -> tuple[np.ndarray, np.ndarray]:
            image = plate.at(t)
            assert image is not None
            return self.samples.frame(t), image

        noise = self.noise(plates)
        given = ownership, self.masks, noise, solve, plate.doubts, clip, again
        return resolver(*given, self.strangers, cut_out=cut_out)


def read_shot(
    source: Path,
    made: Path | None,
    settings: Settings,
    progress: Progress,
    options: ReadOptions | None = None,
    masks: Masks | None = None,
) -> tuple[VideoInfo, Shot]:
    """Read a video and its masks; without masks they are made first and kept in `made`.

    made: None leaves a video without masks without any. options: None: as the settings say. masks:
    where they are known already.

    The video is decoded once; once more where masks are made, if its frames do not fit on the disk.
    """
    progress.stage("reading")
    pin = Pin.of(source)
    samples = FrameSamples()
    options = options or reading(settings)
    folder = settings.masks
    working = None
    if folder is None and masks is None and made is not None:
        working = WorkingFrames(settings.mask_settings)

    def keep(t: int, frame: np.ndarray) -> None:
        samples.add(t, frame)
        if working is not None:
            working.add(t, frame)

    info, clip = read_clip(
        source,
        lambda size: settings.size or working_size(size),
        progress,
        each=keep,
        options=options,
    )
    pin.check()
    open_frames = samples.opener(
        lambda: pin.whole(iter_frames(info.source, deep=None, options=info.options), info.frames)
    )
    for note in info.notes:
        progress.say(note)
    progress.stage("masks")
    if working is not None and made is not None:
        known = info, open_frames, working
        result = make_masks(
            source,
            made,
            settings.mask_settings,
            progress,
            settings.ffmpeg,
            known,
            camera=known_camera(settings),
        )
        progress.say(f"Masks made for {', '.join(result.names)}: look at masks/preview.mp4.")
        progress.stage("masks")
        folder = made
    if masks is None and folder is None:
        masks = Masks.none(info.frames, info.size)
    elif masks is None:
        assert folder is not None
        masks = load_masks(folder, info.frames, info.size, settings.order, progress, options, info)
    small = masks.resized((clip.frames.shape[1], clip.frames.shape[2]))
    if settings.mend_masks and masks.names:
        mended, notes = mend_masks(clip.frames, masks, small, info.frame_numbers)
        for note in notes:
            progress.say(note)
        if notes:
            masks = mended
            small = masks.resized((clip.frames.shape[1], clip.frames.shape[2]))
    return info, Shot(info.fps, clip.frames, masks, small, samples, open_frames, first=info.first)


def known_camera(settings: Settings) -> Callable[[Size, int], Camera] | None:
    """How the camera moves, by (height, width) and frames, where the user says; None where not.

    What it gives raises CameraError for a file of homographies that does not fit.
    """
    path = settings.homographies
    if path is not None:
        return lambda size, count: read_camera(path, size, count)
    if settings.camera == "static":
        return lambda size, count: Camera.static(count, size)
    return None


def part_of(info: VideoInfo, settings: Settings) -> range | None:
    """The frames that are written where not all are. Raises OptionError."""
    if settings.part is None:
        return None
    number, count = parse_share(settings.part, "--part")
    check(
        count <= info.frames, f"--part: {info.source} has {info.frames} frames, not {count} parts"
    )
    check(not info.variable, "--part: frames that follow each other unevenly are not split")
    return range((number - 1) * info.frames // count, number * info.frames // count)


def settings_of_part(settings: Settings, info: VideoInfo, first: int, stop: int) -> Settings:
    """The settings of the shot from frame `first` up to `stop`. Raises NoObjectError.

    Points and boxes are those in its frames.
    """
    start = settings.start_frame
    if start is not None:
        start += first - info.first
    made = settings.making
    points, boxes = prompts_between(made.points, made.boxes, first, stop)
    if (made.points or made.boxes) and not (points or boxes):
        raise NoObjectError("No --point or --box is in it.")
    order = settings.order
    if order is not None and (points or boxes):
        here = {p.name for p in parse_prompts(points, boxes)}
        order = ",".join(n for n in map(str.strip, order.split(",")) if n in here)
    return replace(
        settings,
        order=order,
        frames=f"{first}:{stop}",
        begin=None,
        end=None,
        start_frame=start,
        split_cuts=False,
        making=replace(made, points=points, boxes=boxes),
    )

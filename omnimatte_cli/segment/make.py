"""The story of `omnimatte masks`: read - find or carry - order - refine - write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Masks, Size, eight_bits, resize_frames
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.errors import MaskError, OptionError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media import read as videos
from omnimatte_cli.media.ffmpeg import try_ffmpeg
from omnimatte_cli.media.folder import output_folder
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.progress import Progress, Silent
from omnimatte_cli.scratch import Growing
from omnimatte_cli.segment import methods
from omnimatte_cli.segment.doubts import doubts_of, doubts_of_found
from omnimatte_cli.segment.prompts import Prompt, frames_there, parse_prompts, within_part
from omnimatte_cli.segment.result import MaskResult
from omnimatte_cli.segment.write import write_masks
from omnimatte_cli.settings import MaskSettings

MOTION_WIDTH = 640  # pixels of the working frames
SAM_WIDTH = 1024  # SAM sees no more
Frames = Callable[[], Iterator[np.ndarray]]

BUDGET = 1 << 30  # bytes of working frames; a longer clip is held smaller


def make_masks(
    video: Path,
    out: Path,
    settings: MaskSettings | None = None,
    progress: Progress | None = None,
    ffmpeg: Path | str | None = None,
    known: tuple[VideoInfo, Frames, WorkingFrames] | None = None,
    options: ReadOptions | None = None,
    camera: Callable[[Size, int], Camera] | None = None,
) -> MaskResult:
    """Make rough masks of a video's objects and write them into the folder `out`.

    Writes `<object>/00000.png ...` (0 and 255, the video's size), order.txt, preview.mp4 and
    masks.json, all or nothing; files bear the frames' own numbers. known: of a video that was read
    already its facts, how its frames are opened, and its small ones. options: how it is read else.
    camera: how it moves, by size (h, w) and frames; None: it is found out.
    Raises the errors of `omnimatte_cli.errors`.
    """
    settings, progress = settings or MaskSettings(), progress or Silent()
    video, out = Path(video), Path(out)
    prompts = parse_prompts(settings.points, settings.boxes)
    try_ffmpeg(ffmpeg)  # before the work, not after it
    inputs = [video, *([settings.corrected] if settings.corrected else [])]
    with output_folder(out, settings.overwrite, inputs, progress.say) as folder:
        open_sam = _load_sam(settings, progress) if settings.uses_sam else None
        if known is None:
            samples, working = FrameSamples(), WorkingFrames(settings)

            def keep_both(t: int, frame: np.ndarray) -> None:
                samples.add(t, frame)
                working.add(t, frame)

            info = videos.probe(video, progress=progress, each=keep_both, options=options)
            open_frames = samples.opener(
                lambda: videos.iter_frames(info.source, options=info.options)
            )
            for note in info.notes:
                progress.say(note)
        else:
            info, open_frames, working = known
        prompts = within_part(prompts, info.first, info.frames, info.size)
        kept = _load_kept(settings, info, progress)
        size = held_size(info.size, info.frames, working.width)
        frames = working.array(size)
        if frames is None:
            frames = resize_frames(_steps(info, open_frames, progress), size)
        sam = open_sam(frames) if open_sam else None
        scaled = [p.scaled(size[1] / info.size[1], size[0] / info.size[0]) for p in prompts]
        keep = [t - info.first for t in settings.keep]
        moves = None if camera is None else camera(size, info.frames)
        rough = _find(frames, scaled, kept, keep, sam, settings, progress, info.first, moves)
        _check_found(rough)
        if prompts or kept is not None:
            masks, confidence = rough.masks, rough.confidence
            rough.notes.extend(doubts_of(masks, confidence, rough.size, info.first, info.cuts))
        else:
            rough.notes.extend(doubts_of_found(rough.masks, rough.size, info.first, info.cuts))
        facts = write_masks(
            folder, info, open_frames, rough, (kept, keep), settings, progress, ffmpeg
        )
    for note in rough.notes:
        progress.say(note)
    return MaskResult(
        folder=out,
        names=tuple(rough.masks),
        frames=info.frames,
        method=facts["method"],
        confidence=rough.confidence,
        preview=out / "preview.mp4",
        notes=tuple(rough.notes),
        facts=facts,
    )


class WorkingFrames:
    """The frames in which masks are found, made while the video is read for the first time."""

    def __init__(self, settings: MaskSettings) -> None:
        self.width = SAM_WIDTH if settings.uses_sam else MOTION_WIDTH
        self.frames = Growing()

    def add(self, t: int, frame: np.ndarray) -> None:
        """The next frame, (H, W, 3) uint8 or uint16."""
        h, w = held_size(frame.shape[:2], 1, self.width)
        self.frames.add(eight_bits(cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA)))

    def array(self, size: Size) -> np.ndarray | None:
        """All frames, (T, h, w, 3) uint8; None where they are of another size."""
        return self.frames.array() if self.frames.shape[:2] == size else None


def held_size(size: Size, frames: int, width: int) -> Size:
    """Size (h, w) at which all frames are held: at most `width` wide, and within the budget."""
    h, w = size
    scale = min(1.0, width / w, (BUDGET / (frames * h * w * 3)) ** 0.5)
    return max(round(h * scale), 16), max(round(w * scale), 16)


def _find(
    frames: np.ndarray,
    prompts: list[Prompt],
    kept: Masks | None,
    keep: Sequence[int],
    sam: methods.Segmenter | methods.Follower | None,
    settings: MaskSettings,
    progress: Progress,
    first: int,
    camera: Camera | None,
) -> methods.Rough:
    if kept is not None:
        small = kept.resized((frames.shape[1], frames.shape[2]))
        keys = {n: {t: small[i, t] for t in keep} for i, n in enumerate(kept.names)}
        if isinstance(sam, methods.Follower):
            return methods.by_following(frames, keys, sam, progress)
        return methods.by_kept(frames, keys, sam, settings.every, settings.seed, progress, camera)
    if sam is None and settings.every > 1:
        progress.say("--every does nothing without SAM.")
    if isinstance(sam, methods.Follower):
        if settings.every > 1:
            progress.say("--every has no use with SAM 2, which looks at every frame.")
        known, notes = methods.known_of(frames, prompts, settings.max_objects, progress, camera)
        return methods.by_following(frames, known, sam, progress, notes)
    if sam is not None:
        most = settings.max_objects
        return methods.by_sam(frames, prompts, sam, settings.every, most, progress, first, camera)
    return methods.by_motion(
        frames, prompts, settings.max_objects, settings.seed, progress, first, camera
    )


def _load_sam(
    settings: MaskSettings, progress: Progress
) -> Callable[[np.ndarray], methods.Segmenter | methods.Follower]:
    """What opens a clip's frames (T, h, w, 3) uint8 with the SAM, or SAM 2, that was asked for."""
    from omnimatte_cli.device import choose
    from omnimatte_cli.segment.checkpoints import find_checkpoint
    from omnimatte_cli.segment.sam import Sam, import_segment_anything, load_sam, read_checkpoint
    from omnimatte_cli.segment.sam2 import Sam2, is_sam2, load_sam2

    device = choose(settings.device)
    if settings.sam_model:
        import_segment_anything()  # missing: say so before a download
    path = find_checkpoint(settings.sam_model, settings.sam_checkpoint, progress)
    progress.stage("loading SAM")
    state = read_checkpoint(path)
    if is_sam2(state):
        predictor = load_sam2(state, path, device)
        return lambda frames: Sam2(predictor, frames)
    model = load_sam(path, state)
    return lambda frames: Sam(model, frames, device)


def _load_kept(settings: MaskSettings, info: VideoInfo, progress: Progress) -> Masks | None:
    if settings.corrected is None:
        return None
    for t in settings.keep:
        if not 0 <= t - info.first < info.frames:
            raise OptionError(f"--keep {t}: {frames_there(info.first, info.frames)}.")
    only = [t - info.first for t in settings.keep]
    return load_masks(
        settings.corrected, info.frames, info.size, progress=progress, video=info, only=only
    )


def _check_found(rough: methods.Rough) -> None:
    for name, confidence in rough.confidence.items():
        if not any(confidence):
            raise MaskError(
                f"The mask of '{name}' is empty in all frames: point at it elsewhere, or keep a "
                "frame in which it is seen."
            )


def _steps(info: VideoInfo, open_frames: Frames, progress: Progress) -> Iterator[np.ndarray]:
    progress.stage("reading video", info.frames)
    for t, frame in enumerate(open_frames(), 1):
        yield frame
        progress.step(t)

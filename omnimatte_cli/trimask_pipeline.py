"""The story of `omnimatte trimask`: a shot's masks, prepared for a removal model elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import MaskError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media import encode as export
from omnimatte_cli.media import folder as output
from omnimatte_cli.media import read as video
from omnimatte_cli.media.atomic import write_json
from omnimatte_cli.media.ffmpeg import try_ffmpeg
from omnimatte_cli.media.read import VideoInfo
from omnimatte_cli.methods.generative.options import TrimaskSettings
from omnimatte_cli.methods.generative.trimask import (
    default_growth,
    grow_mask,
    shrink_mask,
    trimask,
)
from omnimatte_cli.progress import Progress

CRF = 4  # x264: small enough to leave three clear levels
BACKGROUND = "background"  # name of the trimask for the clean background


def write_trimasks(
    source: Path, out: Path, settings: TrimaskSettings, progress: Progress
) -> list[Path]:
    """Write one trimask video a solo and one for the clean background. Returns their paths."""
    program = try_ffmpeg(settings.ffmpeg)
    masks_folder, invert, images = settings.masks, settings.invert, settings.images
    assert masks_folder is not None
    with output.output_folder(out, settings.overwrite, [source, masks_folder]) as folder:
        progress.stage("reading")
        info = video.probe(source, options=settings.reading)
        for note in info.notes:
            progress.say(note)
        masks = load_masks(masks_folder, info.frames, info.size, None, progress, info.options, info)
        if BACKGROUND in masks.names:
            raise MaskError(f"An object cannot be called '{BACKGROUND}' here: rename its masks.")
        shape = settings.size or info.size
        side = default_growth(shape[1]) if settings.grow is None else settings.grow
        names = [*masks.names, BACKGROUND]
        progress.stage("trimasks", info.frames)
        with ExitStack() as stack:
            write = trimask_writer(stack, folder, names, shape, info, program, images)
            for t in range(info.frames):
                bodies = [grow_mask(shrink_mask(m, shape), side) for m in masks.frame(t)]
                for i, name in enumerate(names):
                    keep = None if name == BACKGROUND else i
                    levels = trimask(np.stack(bodies), keep)
                    write(name, t, 255 - levels if invert else levels)
                progress.step(t + 1)
        facts = {
            "source": str(info.source),
            "objects": list(masks.names),
            "size": list(shape),
            "grown": side,
            "keep": 0 if invert else 255,
            "remove": 255 if invert else 0,
        }
        write_json(folder / "trimasks.json", facts)
    return [out / (name if images else f"{name}.mp4") for name in names]


def trimask_writer(
    stack: ExitStack,
    folder: Path,
    names: list[str],
    size: Size,
    info: VideoInfo,
    program: str,
    images: bool,
) -> Callable[[str, int, np.ndarray], None]:
    """A function that writes frame t of a trimask, (H, W) uint8. The stack closes its files."""
    if images:
        pictures = stack.enter_context(export.ImageWriter(folder))
        return lambda name, t, levels: pictures.write(
            Path(name) / f"{info.frame_numbers[t]:05d}.png", np.dstack([levels] * 3)
        )
    movies = {
        name: stack.enter_context(
            export.VideoWriter(folder / f"{name}.mp4", size, info.fps, program, CRF)
        )
        for name in names
    }
    return lambda name, t, levels: movies[name].write(np.dstack([levels] * 3))

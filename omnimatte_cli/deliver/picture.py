"""One image stream to one file or sequence: what `omnimatte compose` writes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnimatte_cli.deliver.extend import pull_push
from omnimatte_cli.deliver.formats import PNG_BITS
from omnimatte_cli.deliver.linear import linear_layers, to_linear
from omnimatte_cli.deliver.video import OPAQUE, for_alpha_codec
from omnimatte_cli.deliver.writer import PICTURE, Delivery, Writer, Writers
from omnimatte_cli.errors import OptionError, OutputError
from omnimatte_cli.interrupt import ignored_interrupts
from omnimatte_cli.matte.quantise import integers
from omnimatte_cli.media.atomic import write_bytes
from omnimatte_cli.media.encode import VideoWriter, encode_image
from omnimatte_cli.media.images import IMAGE_SUFFIXES
from omnimatte_cli.media.lock import working_in
from omnimatte_cli.settings import check_formats

MIDDLE_GREY = 0.5  # of the encoded signal: a shadow's share of light hardly depends on it
BY_SUFFIX = {".mp4": "mp4", ".mov": "prores", ".webm": "webm"}


PictureWriter = Writer[np.ndarray]  # of (H, W, 3), or (H, W, 4) straight alpha, float32


def picture_places(out: Path, formats: Sequence[str], alpha: bool) -> tuple[tuple[Path, str], ...]:
    """Where pictures go and in which format: (file or folder, format) each.

    Without formats, `out` says it by its suffix, or is a folder of PNGs. With several, it is a
    folder, which gets composite.mp4 and so on, and a folder for each kind of images.
    Raises OptionError where name and format contradict, or a format has no alpha.
    """
    suffix = out.suffix.lower()
    by_name = BY_SUFFIX.get(suffix)
    check_formats(formats)
    asked = tuple(dict.fromkeys(formats))
    if by_name is None and suffix and (not asked or suffix in IMAGE_SUFFIXES):
        raise OptionError(f"{out.name}: give a name that ends in .mp4, .mov or .webm, or a folder.")
    if by_name and asked and asked != (by_name,):
        wrong = next(form for form in asked if form != by_name)
        more = ": give a folder for several formats." if len(asked) > 1 else "."
        raise OptionError(f"--format {wrong} does not go with the name {out.name}{more}")
    forms = asked or (by_name or "png",)
    if alpha and "mp4" in forms:
        raise OptionError(
            "--background transparent: .mp4 has no transparency; write .mov, .webm or a folder."
        )
    if by_name:
        return ((out, by_name),)
    suffixes = {form: suffix for suffix, form in BY_SUFFIX.items()}

    def place(form: str) -> Path:
        if form in suffixes:
            return out / f"{PICTURE}{suffixes[form]}"
        return out if len(forms) == 1 else out / form

    return tuple((place(form), form) for form in forms)


def open_pictures(
    places: Sequence[tuple[Path, str]], info: Delivery, alpha: bool
) -> Writers[np.ndarray]:
    """The writers of one image stream. places: from `picture_places`."""
    writers: list[PictureWriter] = []
    for path, form in places:
        if form in BY_SUFFIX.values():
            writers.append(VideoPicture(path, form, info, alpha))
        else:
            writers.append(SequencePicture(path, form, info))
    return Writers(writers)


class VideoPicture(PictureWriter):
    """A video file, with the sound of `info`."""

    def __init__(self, path: Path, form: str, info: Delivery, alpha: bool) -> None:
        self.path, self.form, self.info, self.alpha = path, form, info, alpha

    def open(self) -> None:
        info = self.info
        self.path.parent.mkdir(exist_ok=True)
        self.video = VideoWriter(
            self.path,
            info.size,
            info.timing,
            info.ffmpeg,
            profile=self.form if self.alpha else OPAQUE[self.form],
            channels=4 if self.alpha else 3,
            dtype=np.uint16,
            tags=info.tags,
            audio=info.audio,
        )

    def write(self, t: int, image: np.ndarray) -> None:
        self.video.write(for_alpha_codec(image, self.form) if self.alpha else integers(image, 16))

    def close(self, failed: bool = False) -> None:
        self.video.close(failed)


class SequencePicture(PictureWriter):
    """A folder of `<shot>.1001.png` or .exr, whose frames appear when all are written."""

    def __init__(self, folder: Path, form: str, info: Delivery) -> None:
        from omnimatte_cli.deliver import exr

        self.folder, self.form, self.info, self.exr = folder, form, info, exr
        self.library: Any = exr.exr_library() if form == "exr" else None
        self.written: list[Path] = []

    def open(self) -> None:
        if self.folder.is_file():
            raise OutputError(f"{self.folder} is a file: give a folder to write to.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.scope = contextlib.ExitStack()
        self.work = self.scope.enter_context(working_in(self.folder / ".compose"))

    def write(self, t: int, image: np.ndarray) -> None:
        suffix = ".exr" if self.form == "exr" else ".png"
        number = self.info.first + t
        path = self.exr.sequence_file(self.work, self.info.shot, number, suffix)
        self.written.append(path)
        if self.form == "exr":
            self._write_exr(path, t, image)
        else:
            deep = pull_push(image) if image.shape[2] == 4 else image
            write_bytes(path, encode_image(path, integers(deep, PNG_BITS[self.form])))

    def close(self, failed: bool = False) -> None:
        """Frames of an earlier run go when these come; with `failed`, they stay and these go."""
        try:
            if self.written and not failed:
                shot, suffix = self.written[0].name.split(".")[0], self.written[0].suffix
                ours = re.compile(rf"{re.escape(shot)}\.\d{{4,}}{re.escape(suffix)}")
                with ignored_interrupts():
                    for path in [p for p in self.folder.iterdir() if ours.fullmatch(p.name)]:
                        path.unlink()
                    for path in self.written:
                        path.rename(self.folder / path.name)
        finally:
            self.scope.close()

    def _write_exr(self, path: Path, t: int, image: np.ndarray) -> None:
        transfer = self.info.tags.transfer
        if image.shape[2] == 4:  # what will be below is not known: as over a middle grey
            ground = np.full((*image.shape[:2], 3), MIDDLE_GREY, np.float32)
            linear = linear_layers(image[None], [0], ground, transfer)[0]
        else:
            linear = to_linear(image, transfer)
        channels = {c: linear[..., i] for i, c in enumerate("RGBA"[: image.shape[2]])}
        half = {c: np.ascontiguousarray(x, np.float16) for c, x in channels.items()}
        header = self.exr.exr_header(self.library, self.info, t)
        self.exr.write_exr(self.library, path, half, header)

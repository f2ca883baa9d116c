"""Folders of images as videos: any bit depth, EXR and DPX included, numbered by their names."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from omnimatte_cli.arrays import Size, eight_bits, full_scale
from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.colour import ColourFacts
from omnimatte_cli.media.container import ALPHA_NOTE, Facts, Picture, squashed_note, within_times
from omnimatte_cli.media.images import (
    IMAGE_SUFFIXES,
    LOG_SUFFIXES,
    encode_linear,
    list_images,
    pixel_aspect,
    quiet_opencv,
    read_deep,
    wxh,
)
from omnimatte_cli.media.numbers import doubled, gaps_note, odd_one, unique_numbers
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.patience import patient

IMAGE_FPS = Fraction(24)  # frames per second of a folder of images unless told otherwise


class FolderReader:
    """Reads a folder of images once; like `FileReader`, with `files` for the frames' names."""

    def __init__(
        self, folder: Path, options: ReadOptions, alpha: bool = False, deep: bool | None = False
    ) -> None:
        """deep: whether frames are uint16; None: where the first image has more than 8 bits."""
        self.path, self.options, self.alpha, self.deep = folder, options, alpha, deep
        self.facts = Facts(codec="")
        self.files = list_images(folder)
        self.total = len(self.files)
        if not self.files:
            suffixes = " ".join(sorted(IMAGE_SUFFIXES))
            raise VideoError(f"{folder} is a folder without images ({suffixes}).")
        if pair := doubled(self.files):
            raise VideoError(
                f"{pair[0]} and {pair[1]} are both frame {pair[2]}: a folder holds the images of "
                "one video, each once. Move the others elsewhere."
            )
        if odd := odd_one(self.files):
            raise VideoError(
                f"{odd} is named otherwise than the other images: a folder holds the images of one "
                "video. Move it elsewhere, or name it as they are."
            )
        self.numbers = unique_numbers([p.stem for p in self.files])
        self.facts.codec = self.files[0].suffix[1:].lower()
        if self.numbers and (note := gaps_note(self.numbers)):
            self.facts.notes.append(note)

    def wanted(self) -> range:
        """Places in `files` of the wanted part."""
        options = self.options
        first, stop = options.first or 0, min(options.stop or self.total, self.total)
        if options.start_time is not None or options.stop_time is not None:
            fps = options.fps or IMAGE_FPS
            inside = [i for i in range(first, stop) if within_times(options, i / fps)]
            first, stop = (inside[0], inside[-1] + 1) if inside else (0, 0)
        return range(first, stop)

    def pictures(self) -> Iterator[Picture]:
        """The frames of the wanted part."""
        return patient(self._pictures(), self.path)

    def _pictures(self) -> Generator[Picture, None, None]:
        size: Size | None = None
        clipped = 0.0
        for index in self.wanted():
            path = self.files[index]
            with quiet_opencv():
                whole = read_deep(path)
            if whole is None:
                raise VideoError(f"Frame {index} cannot be read as an image: {path}.")
            linear = whole.dtype == np.float32
            if size is None:
                self._study(whole, linear)
            if linear:
                clipped = max(clipped, float((whole[..., :3] > 1).mean()))
            deep = self.facts.colour.depth > 8 if self.deep is None else self.deep
            image = rgb_of(path, whole, self.alpha, deep)
            size = size or image.shape[:2]
            if image.shape[:2] != size:
                raise VideoError(
                    f"Frame {index} is {wxh(image.shape)} but the first is {wxh(size)}: {path}."
                )
            yield Picture(image, None, None)
        if clipped > 0:
            self.facts.notes.append(
                f"Up to {clipped:.1%} of a frame's values lie above 1 and were clipped."
            )

    def _study(self, image: np.ndarray, linear: bool) -> None:
        facts = self.facts
        bits = 16 if image.dtype != np.uint8 else 8
        transfer = "linear" if linear else "unknown"
        facts.colour = ColourFacts("gbr", "pc", "unknown", transfer, bits)
        facts.sar = pixel_aspect(self.files[0])
        if facts.sar != 1:
            facts.notes.append(squashed_note(facts.sar))
        facts.pixel_format = "rgb24" if bits == 8 else "rgbf32" if linear else "rgb48"
        if linear:
            facts.notes.append(
                "The images hold scene-linear light: it is encoded with sRGB's curve to work on."
            )
        full = 1.0 if linear else full_scale(image.dtype)
        if image.ndim == 3 and image.shape[2] in (2, 4) and image[..., -1].min() < full:
            facts.notes.append(ALPHA_NOTE)
        if not linear and self.files[0].suffix.lower() in LOG_SUFFIXES:
            facts.notes.append("DPX and Cineon values are kept as they are encoded (often log).")


def rgb_of(
    path: Path, image: np.ndarray, alpha: bool = False, deep: bool | None = None
) -> np.ndarray:
    """An image as `read_deep` gives it as RGB (H, W, 3), or RGBA (H, W, 4) with `alpha`.

    Floats are scene-linear light. deep: whether uint16 comes out, else uint8; None: as deep as the
    image. path: for the VideoError where it holds other numbers.
    """
    if image.dtype == np.float32:
        image = encode_linear(image)
    if image.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"{path} holds {image.dtype} numbers: 8 or 16 bits or floats are read.")
    if image.ndim == 2 or image.shape[2] == 1:
        rgb = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    elif image.shape[2] == 2:
        grey, plane = cv2.split(image)
        rgb = np.dstack([grey, grey, grey, plane])
    elif image.shape[2] == 4:
        rgb = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    else:
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if deep is False:
        rgb = eight_bits(rgb)
    elif deep and rgb.dtype == np.uint8:
        rgb = rgb.astype(np.uint16) * 257
    if alpha and rgb.shape[2] == 3:
        rgb = np.dstack([rgb, np.full(rgb.shape[:2], full_scale(rgb.dtype), rgb.dtype)])
    elif not alpha and rgb.shape[2] == 4:
        rgb = np.ascontiguousarray(rgb[..., :3])
    return rgb

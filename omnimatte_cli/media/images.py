"""Find and read image files: what videos, masks and plates given as images have in common."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from omnimatte_cli.errors import InputError, MissingProgramError
from omnimatte_cli.media.limits import check_size, image_size

FILM_SUFFIXES = frozenset((".exr", ".dpx", ".cin", ".tga"))  # OpenCV reads none of them
LOG_SUFFIXES = frozenset((".dpx", ".cin"))
IMAGE_SUFFIXES = FILM_SUFFIXES | frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm", ".jp2")
)
SQUASHED = 0.1  # pixels flatter than this, or as narrow, are an error in a header
ORIENTED_SUFFIXES = frozenset((".jpg", ".jpeg", ".webp"))  # cameras turn them by an EXIF tag


def wxh(shape: tuple[int, ...]) -> str:
    """(H, W, ...) as people write it: width x height."""
    return f"{shape[1]}x{shape[0]}"


def natural_key(name: str) -> tuple:
    """Sorting key under which numbers count as numbers: 2 comes before 10, and what has none, as
    `mask.png`, before what has one, as `mask1.png`."""

    def counted(text: str) -> tuple:
        parts = re.split(r"(\d+)", text)
        return tuple((int(p), "") if p.isdecimal() else (-1, p) for p in parts if p)

    stem, suffix = os.path.splitext(name)
    return (counted(stem), counted(suffix)), name


def list_images(folder: Path) -> list[Path]:
    """Image files directly in a folder, hidden ones left out, numbers sorted as numbers."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted(
        (p for p in files if not p.name.startswith(".")), key=lambda p: natural_key(p.name)
    )


class _Quiet:
    """How many want OpenCV to be quiet, and the level of its log before the first of them."""

    lock = threading.Lock()
    many, level = 0, 0


@contextlib.contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from writing to stderr about files for which we raise an error of our own.

    Threads may be in it at the same time; the level of the log is the process's.
    """
    logging = cv2.utils.logging
    with _Quiet.lock:
        if not _Quiet.many:
            _Quiet.level = logging.getLogLevel()
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        _Quiet.many += 1
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.many -= 1
            if not _Quiet.many:
                logging.setLogLevel(_Quiet.level)


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """An image file as OpenCV reads it (BGR), or None where it cannot be read or is cut off.

    Raises InputError for one that is too large to be decoded.
    """
    try:
        data = np.fromfile(path, np.uint8)
        size = image_size(data.data)
        if size is None:  # how much memory it would take cannot be told
            return None
        check_size(path, size)
        return cv2.imdecode(data, flags)
    except (OSError, cv2.error):
        return None


def pictures_in(path: Path) -> int:
    """How many pictures an image file holds: a stack (TIFF), an animation (PNG, WebP); or 0."""
    with quiet_opencv(), contextlib.suppress(cv2.error):
        return int(cv2.imcount(os.fspath(path)))
    return 0


def read_deep(path: Path) -> np.ndarray | None:
    """An image file at its own depth, or None where it cannot be read.

    (H, W) or (H, W, C) uint8, uint16, or float32 (scene-linear light in EXR and float TIFF);
    channels BGR or BGRA. Raises MissingProgramError where a film format needs OpenImageIO.
    """
    suffix = path.suffix.lower()
    if suffix in FILM_SUFFIXES:
        return _read_film(path)
    image = read_image(path, cv2.IMREAD_UNCHANGED)
    if image is not None and image.dtype == np.uint8 and suffix in ORIENTED_SUFFIXES:
        oriented = read_image(path, cv2.IMREAD_COLOR)
        image = oriented if image.ndim == 3 and image.shape[2] == 3 else image
    if image is not None and suffix in (".tif", ".tiff") and image.dtype == np.uint8:
        image = _not_darkened(path, image)
    return image.astype(np.float32) if image is not None and image.dtype.kind == "f" else image


def _not_darkened(path: Path, image: np.ndarray) -> np.ndarray:
    """A TIFF of 8 bits, BGRA, with the colours that are stored: OpenCV multiplies them by alpha."""
    if image.ndim != 3 or image.shape[2] != 4 or image[..., 3].min() == 255:
        return image
    try:
        with av.open("file:" + os.path.abspath(path)) as container:
            stored = next(container.decode(video=0)).to_ndarray(format="bgra")
    except (av.error.FFmpegError, OSError, ValueError, StopIteration):
        return image
    same = stored.shape == image.shape and np.array_equal(stored[..., 3], image[..., 3])
    return stored if same else image  # another picture of the file, or one that is turned


def encode_linear(image: np.ndarray) -> np.ndarray:
    """Scene-linear float32 to uint16 by sRGB's transfer function (IEC 61966-2-1), clipped to 1.

    A fourth channel is alpha and stays linear.
    """
    light = np.clip(np.nan_to_num(image), 0, 1)
    coded = np.where(
        light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 1e-9) ** (1 / 2.4) - 0.055
    )
    if image.ndim == 3 and image.shape[2] == 4:
        coded[..., 3] = light[..., 3]
    return (coded * 65535 + 0.5).astype(np.uint16)


def _read_film(path: Path) -> np.ndarray | None:
    """EXR, DPX, Cineon and TGA through OpenImageIO: the R, G, B and A channels, or the first."""
    try:
        import OpenImageIO as oiio
    except ImportError as error:
        raise MissingProgramError(
            f"{path} needs the package OpenImageIO: pip install 'omnimatte[film]'."
        ) from error
    asked = oiio.ImageSpec()
    asked.attribute("oiio:UnassociatedAlpha", 1)  # colours as they are stored
    file = oiio.ImageInput.open(os.fspath(path), asked)
    if file is None:
        oiio.geterror()  # or it is printed when the program ends
        return None
    try:
        spec = file.spec()
        for size in ((spec.height, spec.width), (spec.full_height, spec.full_width)):
            check_size(path, size)
        pixels = file.read_image(0, 0, 0, spec.nchannels, _type_of(spec, oiio))
    finally:
        file.close()
    if pixels is None:
        return None
    pixels = displayed(pixels, spec)
    places = {name.lower(): i for i, name in enumerate(spec.channelnames)}
    wanted = [places[c] for c in "bgra" if c in places]
    layers = sorted({name[:-2] for name in places if name.endswith((".r", ".g", ".b"))})
    if len(wanted) < 3 and layers:
        # Of one layer its colours; of several nobody has said which.
        if len(layers) > 1:
            raise InputError(
                f"{path} has the channels {', '.join(spec.channelnames)}, and none of them are R, "
                "G and B: write the layer that is meant into a file of its own."
            )
        named = (f"{layers[0]}.{c}" for c in "bgra")
        wanted = [places[name] for name in named if name in places]
    return np.ascontiguousarray(pixels[..., wanted if len(wanted) >= 3 else 0])


def pixel_aspect(path: Path) -> Fraction:
    """Width by height of a pixel on screen, as a film format's header says; 1 where none does."""
    if path.suffix.lower() not in FILM_SUFFIXES:
        return Fraction(1)
    import OpenImageIO as oiio

    file = oiio.ImageInput.open(os.fspath(path))
    if file is None:
        oiio.geterror()
        return Fraction(1)
    said = file.spec().getattribute("PixelAspectRatio")
    file.close()
    known = isinstance(said, float) and SQUASHED < said < 1 / SQUASHED
    return Fraction(said).limit_denominator(1000) if known else Fraction(1)


def displayed(pixels: np.ndarray, spec: Any) -> np.ndarray:
    """What a picture's display window shows of its data window, (H, W, C), 0 outside of that.

    pixels: (h, w, C), the data window. spec: OpenImageIO's of the file.
    """
    full = spec.full_height, spec.full_width
    top, left = spec.y - spec.full_y, spec.x - spec.full_x
    if min(full) < 1 or ((top, left) == (0, 0) and full == pixels.shape[:2]):
        return pixels
    out = np.zeros((*full, pixels.shape[2]), pixels.dtype)
    rows, columns = (
        slice(max(0, start), min(whole, start + size))
        for start, whole, size in zip((top, left), full, pixels.shape, strict=False)
    )
    if rows.start < rows.stop and columns.start < columns.stop:
        y, x = rows.start - top, columns.start - left
        shown = out[rows, columns]
        shown[:] = pixels[y : y + shown.shape[0], x : x + shown.shape[1]]
    return out


def _type_of(spec: Any, oiio: Any) -> Any:
    """As deep as the file: 8 bits, 16 bits, or floating point."""
    kind = str(spec.format)
    return oiio.UINT8 if kind == "uint8" else oiio.UINT16 if kind == "uint16" else oiio.FLOAT


def luma(frame: np.ndarray) -> np.ndarray:
    """The brightness (H, W) float32 in [0, 1] of a frame (H, W, 3) uint8."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255

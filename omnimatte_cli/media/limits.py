"""The size of an image from its header, so that a small file cannot ask for gigabytes of memory."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from omnimatte_cli.arrays import Size
from omnimatte_cli.errors import InputError

Data = bytes | memoryview

HEAD_BYTES = 1 << 20  # of a file in which the size of an image is looked for
MAX_PIXELS = 8192 * 8192  # of an image that is decoded: 0.5 GB as RGBA of 16 bits


def check_head(path: Path) -> None:
    """Raise InputError for a file that is no regular one, or an image larger than MAX_PIXELS.

    FFmpeg decodes an image to find out what it is, and waits for ever where nothing comes.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file: give a video file, or a folder of images.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return  # whoever opens it says why it cannot be read
    check_pixels(path, head)


def check_pixels(path: Path, data: Data) -> None:
    """Raise InputError if an encoded image is larger than MAX_PIXELS, before it is decoded."""
    size = image_size(data)
    if size is not None:
        check_size(path, size)


def check_size(path: Path, size: Size) -> None:
    """Raise InputError for (height, width) of more than MAX_PIXELS."""
    if size[0] * size[1] > MAX_PIXELS:
        side = round(MAX_PIXELS**0.5)
        raise InputError(
            f"{path} is an image of {size[1]}x{size[0]} pixels: more than {side}x{side} are not "
            "read."
        )


def image_size(data: Data) -> Size | None:
    """(height, width) as an image's header says; None where the format is not known."""
    for magic, parse in PARSERS:
        if re.match(magic, data[:16], re.DOTALL):
            try:
                return parse(data)
            except (struct.error, IndexError, ValueError):
                return None
    return None


def _png(data: Data) -> Size:
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _bmp(data: Data) -> Size:
    width, height = struct.unpack("<ii", data[18:26])
    return abs(height), abs(width)


def _jpeg(data: Data) -> Size:
    """Segments up to the frame header: FF, type, length, precision, height, width."""
    at = 2
    while True:
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return height, width
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        at += 2 + length


def _webp(data: Data) -> Size:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return height & 0x3FFF, width & 0x3FFF


def _tiff(data: Data) -> Size:
    """The first directory's ImageWidth (256) and ImageLength (257)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack(order + "I", data[4:8])
    (count,) = struct.unpack(order + "H", data[at : at + 2])
    found = {}
    for i in range(count):
        entry = data[at + 2 + 12 * i : at + 14 + 12 * i]
        tag, kind = struct.unpack(order + "HH", entry[:4])
        if tag in (256, 257):
            found[tag] = struct.unpack(order + ("H2x" if kind == 3 else "I"), entry[8:12])[0]
    if len(found) < 2:
        raise ValueError("no size")
    return found[257], found[256]


def _pnm(data: Data) -> Size:
    header = re.sub(rb"#[^\n]*\n", b" ", bytes(data[:4096]))
    _, width, height = header.split(None, 3)[:3]
    return int(height), int(width)


def _jp2(data: Data) -> Size:
    at = bytes(data[:4096]).index(b"ihdr") + 4
    height, width = struct.unpack(">II", data[at : at + 8])
    return height, width


def _gif(data: Data) -> Size:
    width, height = struct.unpack("<HH", data[6:10])
    return height, width


def _avif(data: Data) -> Size:
    """The largest of the image's parts: boxes "ispe" with version, width, height."""
    places = [m.end() for m in re.finditer(rb"ispe", bytes(data[:65536]))]
    sizes = [struct.unpack(">4xII", data[at : at + 12])[::-1] for at in places]
    height, width = max(sizes, key=lambda s: s[0] * s[1])
    return height, width


PARSERS = (
    (rb"\x89PNG\r\n\x1a\n", _png),
    (rb"\xff\xd8\xff", _jpeg),
    (rb"BM", _bmp),
    (rb"RIFF....WEBP", _webp),
    (rb"II\*\x00|MM\x00\*", _tiff),
    (rb"P[1-6]\s", _pnm),
    (rb"\x00\x00\x00\x0cjP", _jp2),
    (rb"GIF8", _gif),
    (rb"....ftypavif", _avif),
)

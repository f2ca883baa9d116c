"""What FFmpeg's decoders leave aside in a container's structure: cropping, and signs of a cut file.

Only headers are read: boxes of MP4 and MOV (ISO/IEC 14496-12), elements of Matroska and WebM
(RFC 9559), the RIFF chunk of AVI. ends.py tells whether files of other kinds are whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from omnimatte_cli.media.ends import ENDS

MP4_PARENTS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
SAMPLE_ENTRY = 78  # bytes of a visual sample entry before its boxes
LARGEST_HEADER = 64 << 20  # bytes of a moov box or of Matroska's tracks
SEGMENT, TRACKS, TRACK = 0x18538067, 0x1654AE6B, 0xAE
TRACK_NUMBER, TRACK_VIDEO, CLUSTER = 0xD7, 0xE0, 0x1F43B675
CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}
UNKNOWN_SIZE = -1


class Crop(NamedTuple):
    """Pixels at each edge of the stored picture that are not to be shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


NO_CROP = Crop()


def read_crop(path: Path, container: str, track: int, size: tuple[int, int]) -> Crop:
    """The cropping that the container asks for; size: stored (H, W); track: FFmpeg's stream id."""
    if "mov" in container:
        return _crop_of_mp4(path, track, size)
    if "matroska" in container:
        return _crop_of_matroska(path, track)
    return NO_CROP


def bytes_missing(path: Path, container: str) -> int:
    """How many bytes a file's own header promises beyond its end; 0 where it promises none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if "matroska" in container:
            for number, start, length in _elements(file, 0, size):
                if number == SEGMENT:
                    return 0 if length == UNKNOWN_SIZE else max(0, start + length - size)
        elif container == "avi":
            head = file.read(12)
            if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
                promised = struct.unpack("<I", head[4:8])[0] + 8
                return max(0, promised - size - 1)  # one byte of padding may be absent
        elif container in ENDS:
            return ENDS[container](file, size)
    return 0


# --------------------------------------------------------------------------------------------- MP4


def _crop_of_mp4(path: Path, track: int, size: tuple[int, int]) -> Crop:
    """The clean aperture (`clap`) of a track."""
    with path.open("rb") as file:
        moov = _find_moov(file, path.stat().st_size)
    for kind, trak in _boxes(moov):
        if kind != b"trak":
            continue
        found = dict(_flat(trak))
        header, table = found.get(b"tkhd", b""), found.get(b"stsd", b"")
        at = 20 if header[:1] == b"\x01" else 12
        if len(header) < at + 4 or struct.unpack(">I", header[at : at + 4])[0] != track:
            continue
        for _, entry in _boxes(table[8:]):
            for inner, data in _boxes(entry[SAMPLE_ENTRY:]):
                if inner == b"clap" and len(data) >= 32:
                    return _aperture(struct.unpack(">IIIIiIiI", data[:32]), size)
    return NO_CROP


def _aperture(numbers: tuple[int, ...], size: tuple[int, int]) -> Crop:
    """Width, height and offset of the centre, as fractions, to edges."""
    if not all(numbers[1::2]):
        return NO_CROP
    width, height, x, y = (numbers[i] / numbers[i + 1] for i in (0, 2, 4, 6))
    spare_y, spare_x = size[0] - height, size[1] - width
    top, left = spare_y / 2 + y, spare_x / 2 + x
    edges = Crop(round(top), round(spare_y - top), round(left), round(spare_x - left))
    shown = size[0] - edges.top - edges.bottom, size[1] - edges.left - edges.right
    return edges if min(edges) >= 0 and min(shown) > 0 else NO_CROP


def _find_moov(file: BinaryIO, size: int) -> bytes:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if length == 1:
            length, head = struct.unpack(">Q", file.read(8))[0], 16
        length = size - at if length == 0 else length
        if length < head:
            break
        if kind == b"moov":
            return file.read(min(length - head, LARGEST_HEADER))
        at += length
    return b""


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        if length < 8:
            break
        yield kind, data[at + 8 : at + length]
        at += length


def _flat(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    for kind, inner in _boxes(data):
        if kind in MP4_PARENTS:
            yield from _flat(inner)
        else:
            yield kind, inner


# ---------------------------------------------------------------------------------------- Matroska


def _crop_of_matroska(path: Path, track: int) -> Crop:
    size = path.stat().st_size
    with path.open("rb") as file:
        for number, start, length in _elements(file, 0, size):
            if number != SEGMENT:
                continue
            end = size if length == UNKNOWN_SIZE else min(start + length, size)
            for inner, at, long in _elements(file, start, end):
                if inner == CLUSTER:
                    break
                if inner == TRACKS and 0 < long <= LARGEST_HEADER:
                    return _crop_of_tracks(file, at, at + long, track)
    return NO_CROP


def _crop_of_tracks(file: BinaryIO, start: int, end: int, track: int) -> Crop:
    for number, at, long in list(_elements(file, start, end)):
        if number != TRACK:
            continue
        mine, edges = False, {}
        for inner, where, length in list(_elements(file, at, at + long)):
            if inner == TRACK_NUMBER:
                mine = _number(file, where, length) == track
            elif inner == TRACK_VIDEO:
                for edge, place, count in list(_elements(file, where, where + length)):
                    if edge in CROPS:
                        edges[CROPS[edge]] = _number(file, place, count)
        if mine:
            return Crop(**edges)
    return NO_CROP


def _elements(file: BinaryIO, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Elements from `at` to `end`: number, start of the content, length (UNKNOWN_SIZE)."""
    while at < end:
        file.seek(at)
        head = file.read(12)
        if not head or head[0] == 0:
            return
        wide = 9 - head[0].bit_length()
        if wide > 4 or len(head) <= wide or head[wide] == 0:
            return
        number = int.from_bytes(head[:wide], "big")
        bytes_of = 9 - head[wide].bit_length()
        raw = head[wide : wide + bytes_of]
        length = int.from_bytes(raw, "big") - (1 << (7 * bytes_of))
        start = at + wide + bytes_of
        if length == (1 << (7 * bytes_of)) - 1:
            length = UNKNOWN_SIZE
        yield number, start, length
        if length == UNKNOWN_SIZE:
            return
        at = start + length


def _number(file: BinaryIO, at: int, length: int) -> int:
    file.seek(at)
    return int.from_bytes(file.read(length), "big")

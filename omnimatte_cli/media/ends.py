"""Whether files without an index are whole: their last unit is longer than what is left of it.

Y4M (yuv4mpeg(5)), GIF (GIF89a), Ogg (RFC 3533) and ASF, which WMV files are. Each function is given
an open file and its size in bytes, and returns how many bytes are missing, 0 where none are known
to be.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import BinaryIO

TAIL = 128 << 10  # bytes in which the last page of an Ogg file begins: a page has at most 65307
LINE = 512  # bytes of a Y4M file's first line at most
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
BROADCAST = 1  # flag of an ASF file whose sizes are not known
# Pixels across and down that share a sample of chroma, by the beginning of Y4M's colour space.
Y4M_CHROMA = {"420": (2, 2), "411": (4, 1), "422": (2, 1), "444": (1, 1), "mono": None}


def y4m_missing(file: BinaryIO, size: int) -> int:
    """Every frame's samples take as many bytes as the others'."""
    head = file.read(LINE)
    line = head.split(b"\n", 1)[0].decode("ascii", "replace")
    found = {part[0]: part[1:] for part in line.split()[1:]}
    try:
        width, height = int(found["W"]), int(found["H"])
    except (KeyError, ValueError):
        return 0
    space = found.get("C", "420")
    kind = next((k for k in Y4M_CHROMA if space.startswith(k)), None)
    if kind is None or len(line) >= LINE - 8:
        return 0
    chroma = 0
    if (shared := Y4M_CHROMA[kind]) is not None:
        chroma = 2 * -(-width // shared[0]) * -(-height // shared[1])
    alpha = width * height if "alpha" in space else 0
    deep = re.search(r"^(?:mono|4\d\dp)(\d+)$", space)
    bytes_each = 2 if deep and int(deep[1]) > 8 else 1
    length = (width * height + chroma + alpha) * bytes_each
    at = len(line) + 1
    while at < size:
        file.seek(at)
        mark = file.read(LINE)  # with words of its own, perhaps
        end = mark.find(b"\n")
        if not mark.startswith(b"FRAME"[: len(mark)]) or (end < 0 and at + len(mark) < size):
            return 0
        at += (end if end >= 0 else len(mark)) + 1 + length
    return max(0, at - size)


def gif_missing(file: BinaryIO, size: int) -> int:
    """Blocks follow each other up to the trailer, which some programs leave out."""
    head = file.read(13)
    if len(head) < 13:
        return 0

    def skip(count: int) -> None:
        file.seek(count, 1)

    def blocks() -> int:
        """Skip data blocks; returns how many bytes of them are missing, their end aside."""
        while (length := file.read(1)) and length[0]:
            skip(length[0])
        return max(file.tell() - size, 0)

    if head[10] & 0x80:
        skip(3 << ((head[10] & 7) + 1))
    while mark := file.read(1):
        if mark == b";":
            return 0
        if mark == b"!":
            skip(1)
        elif mark == b",":
            shape = file.read(9)
            if len(shape) < 9:
                return 9 - len(shape)
            if shape[8] & 0x80:
                skip(3 << ((shape[8] & 7) + 1))
            skip(1)  # bits of the codes
        else:
            return 0  # something else follows
        if missing := blocks():
            return missing
    return 0


def ogg_missing(file: BinaryIO, size: int) -> int:
    """The last page says how long it is."""
    start = max(0, size - TAIL)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"OggS")
    if at < 0:
        return 0
    if len(tail) < at + 27 or len(tail) < at + 27 + tail[at + 26]:
        return 1
    end = at + 27 + tail[at + 26]
    return max(0, end + sum(tail[at + 27 : end]) - len(tail))


def asf_missing(file: BinaryIO, size: int) -> int:
    """The header holds the size of the file, but for a broadcast's."""
    head = file.read(30)
    if len(head) < 30 or head[:16] != ASF_HEADER:
        return 0
    objects = struct.unpack("<I", head[24:28])[0]
    for _ in range(min(objects, 64)):
        at = file.tell()
        mark = file.read(24)
        if len(mark) < 24:
            return 0
        length = struct.unpack("<Q", mark[16:])[0]
        if mark[:16] == ASF_FILE:
            facts = file.read(80)
            if len(facts) < 68:
                return 0
            promised, flags = (
                struct.unpack("<Q", facts[16:24])[0],
                struct.unpack("<I", facts[64:68])[0],
            )
            return 0 if flags & BROADCAST else max(0, promised - size)
        file.seek(at + max(24, length))
    return 0


ENDS: dict[str, Callable[[BinaryIO, int], int]] = {
    "yuv4mpegpipe": y4m_missing,
    "gif": gif_missing,
    "ogg": ogg_missing,
    "asf": asf_missing,
}

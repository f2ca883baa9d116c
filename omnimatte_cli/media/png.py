"""PNGs of layers, which are mostly empty.

A PNG's rows are one stream of zlib's, whatever is in them. After a full flush such a stream goes on
as if it began there, so that rows without anything are compressed once, and put in as they are: a
layer of 1080p takes half as long as with libpng.

PNG: "Portable Network Graphics Specification", W3C, third edition; zlib's stream: RFC 1950.
"""

from __future__ import annotations

import struct
import zlib
from functools import lru_cache

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
RGBA = 6  # colour type
SUB = 1  # filter type: each pixel less the one on its left
ZLIB = b"\x78\x01"  # a window of 32 KiB, fastest compression
MODULUS = 65521  # of the Adler-32 checksum


def encode_layer(rgba: np.ndarray) -> bytes:
    """A layer (H, W, 4) uint8 or uint16, straight alpha, as a PNG file of 8 or 16 bits.

    A layer without any alpha is empty, whatever its colours.
    """
    height, width, _ = rgba.shape
    pixels = np.ascontiguousarray(rgba)
    bits = 8 * pixels.itemsize
    there = pixels.view(np.dtype(f"u{4 * pixels.itemsize}"))[..., 0]
    rows = np.flatnonzero(there.any(1))
    if rows.size and not rgba[rows[0] : rows[-1] + 1, :, 3].any():
        rows = rows[:0]
    top, stop = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (height, height)
    row = 1 + width * bits // 2  # bytes, with that of the filter
    filtered = sub_filtered(pixels[top:stop])
    squeeze = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    middle = squeeze.compress(filtered) + squeeze.flush(zlib.Z_FULL_FLUSH)
    checksum = after_zeros(zlib.adler32(filtered, after_zeros(1, row * top)), row * (height - stop))
    ending = zlib.compressobj(1, zlib.DEFLATED, -15).flush()
    stream = [ZLIB, *blank(row, top), middle, *blank(row, height - stop), ending]
    data = b"".join([*stream, struct.pack(">I", checksum)])
    header = struct.pack(">IIBBBBB", width, height, bits, RGBA, 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def sub_filtered(rows: np.ndarray) -> bytes:
    """Rows (h, W, 4) of a picture as a PNG has them before compression."""
    height = len(rows)
    big = rows if rows.itemsize == 1 else rows.astype(">u2")
    line = big.reshape(height, 4 * rows.shape[1]).view(np.uint8)
    pixel = 4 * rows.itemsize
    out = np.empty((height, 1 + line.shape[1]), np.uint8)
    out[:, 0] = SUB
    out[:, 1 : 1 + pixel] = line[:, :pixel]
    np.subtract(line[:, pixel:], line[:, :-pixel], out=out[:, 1 + pixel :])
    return out.tobytes()


def blank(row: int, count: int) -> list[bytes]:
    """So many rows of zeros, of `row` bytes each, compressed: pieces of 1, 2, 4, ... rows."""
    return [zeros(row << i) for i in range(count.bit_length()) if count >> i & 1]


@lru_cache(maxsize=64)
def zeros(count: int) -> bytes:
    """So many bytes of 0 as a piece of a stream that others may follow."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(bytes(count)) + squeeze.flush(zlib.Z_FULL_FLUSH)


def after_zeros(checksum: int, count: int) -> int:
    """An Adler-32 checksum after so many bytes of 0 more."""
    low, high = checksum & 0xFFFF, checksum >> 16
    return (high + count * low) % MODULUS << 16 | low


def chunk(kind: bytes, data: bytes) -> bytes:
    """One of the pieces that a PNG consists of."""
    check = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

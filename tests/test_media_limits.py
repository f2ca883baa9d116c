"""Images that ask for too much memory, and videos that change while they are read."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.errors import InputError, VideoError
from omnimatte_cli.media.images import read_image
from omnimatte_cli.media.limits import image_size
from omnimatte_cli.media.pin import Pin
from omnimatte_cli.media.read import iter_frames, read_palette
from tests.conftest import encode, scene, write_masks


def bomb(path: Path, width: int, height: int, colour: int) -> Path:
    """A PNG whose header says a large size; a few bytes of pixels follow."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + body)
    return path


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tif", "ppm", "pgm", "jp2"])
def test_sizes_are_read_from_headers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = np.random.default_rng(0).integers(0, 255, (23, 37, 3), np.uint8)
    cv2.imwrite(str(path), image[..., 0] if suffix == "pgm" else image)
    assert image_size(path.read_bytes()) == (23, 37)
    assert image_size(path.read_bytes()[:6]) is None
    if suffix == "webp":
        cv2.imwrite(str(path), image, [cv2.IMWRITE_WEBP_QUALITY, 101])  # lossless
        assert image_size(path.read_bytes()) == (23, 37)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *a: pytest.fail("was decoded"))
    with pytest.raises(InputError, match=r"rgba.png is an image of 20000x15000 pixels"):
        read_image(bomb(tmp_path / "rgba.png", 20000, 15000, 6), cv2.IMREAD_UNCHANGED)
    with pytest.raises(InputError, match=r"palette.png is an image of 20000x15000 pixels"):
        read_palette(bomb(tmp_path / "palette.png", 20000, 15000, 3))
    assert image_size(b"\xff\xd8\xff\xc0") is None and image_size(b"") is None


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return encode(tmp_path / "v.mkv", scene(6)[0], "-c:v", "ffv1")


def test_a_video_that_stays_is_read_again(video: Path) -> None:
    pin = Pin.of(video)
    assert len(list(pin.whole(iter_frames(video), 6))) == 6
    pin.check()


def test_a_video_that_was_swapped_is_noticed(video: Path, tmp_path: Path) -> None:
    pin = Pin.of(video)
    shorter = encode(tmp_path / "w.mkv", scene(6)[0][:4], "-c:v", "ffv1")
    os.replace(shorter, video)
    with pytest.raises(VideoError, match="was changed while it was read"):
        list(pin.whole(iter_frames(video), 6))
    video.unlink()
    with pytest.raises(VideoError, match="has vanished"):
        pin.check()


@pytest.mark.parametrize("frames", [5, 7])
def test_another_count_is_noticed(video: Path, frames: int) -> None:
    with pytest.raises(VideoError, match=f"gave {frames} frames at first and"):
        list(Pin.of(video).whole(iter_frames(video), frames))


def test_a_changed_folder_names_the_file(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "frames", scene(6)[0])
    pin = Pin.of(folder)
    shutil.copy(folder / "00001.png", folder / "00009.png")
    with pytest.raises(VideoError, match=r"frames was changed while it was read \(00009.png\)"):
        pin.check()

"""Images that ask for too much memory, and videos that change while they are read."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
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


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "bmp", "webp", "tif", "ppm", "pgm", "jp2", "gif", "avif"]
)
def test_sizes_are_read_from_headers(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    image = np.random.default_rng(0).integers(0, 255, (123, 137, 3), np.uint8)
    assert cv2.imwrite(str(path), image[..., 0] if suffix == "pgm" else image)
    assert image_size(path.read_bytes()) == (123, 137)
    assert image_size(path.read_bytes()[:6]) is None
    if suffix == "webp":
        cv2.imwrite(str(path), image, [cv2.IMWRITE_WEBP_QUALITY, 101])  # lossless
        assert image_size(path.read_bytes()) == (123, 137)


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


# ------------------------------------------------------------------------------- bombs, everywhere

TRY = """
import resource, sys
from pathlib import Path
import numpy as np
from omnimatte_cli.errors import InputError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media.read import iter_frames, probe
from omnimatte_cli.plate.load import load_plate

kind, path = sys.argv[1], Path(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    if kind == "video":
        list(iter_frames(path))
    elif kind == "masks":
        load_masks(path, 4, (36, 64), None)
    else:
        load_plate(path, (36, 64), 4)
except InputError as error:
    print(error)
else:
    sys.exit("was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
SIDE = 9000  # pixels: 324 MB as RGBA, and FFmpeg by itself would decode it


def real_bomb(path: Path) -> bytes:
    """A whole PNG of SIDE x SIDE transparent pixels in some 300 kB."""
    pack = zlib.compressobj(9)
    row = bytes(1 + 4 * SIDE)
    body = b"".join(pack.compress(row) for _ in range(SIDE)) + pack.flush()
    bomb(path, SIDE, SIDE, 6)
    head = path.read_bytes()[: 8 + 12 + 13]

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    path.write_bytes(head + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path.read_bytes()


@pytest.fixture(scope="module")
def bombs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bomb alone, as a folder of frames, as masks of an object, and in a QuickTime film."""
    folder = tmp_path_factory.mktemp("bombs")
    data = real_bomb(folder / "b.png")
    for place in ("frames", "masks/a"):
        (folder / place).mkdir(parents=True)
        for t in range(4):
            (folder / place / f"{t}.png").write_bytes(data)
    (folder / "films").mkdir()
    with av.open(str(folder / "films" / "b.mov"), "w") as film:  # its header says 64x36
        stream = film.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 36, "rgba"
        for t in range(4):
            packet = av.Packet(data)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = t
            film.mux(packet)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("video", n) for n in ("b.png", "frames", "films/b.mov")),
        *(("masks", n) for n in ("masks", "masks/a", "films")),
        *(("plate", n) for n in ("b.png", "frames", "films/b.mov")),
    ],
)
def test_a_small_file_takes_no_gigabytes_anywhere(bombs: Path, kind: str, name: str) -> None:
    command = [sys.executable, "-c", TRY, kind, str(bombs / name)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert done.returncode == 0, done.stderr
    said, grown = done.stdout.rsplit("\n", 2)[:2]
    assert int(grown) < 100, done.stdout  # MB
    assert "films" in name or f"{SIDE}x{SIDE}" in said, said
    assert "\n" not in said and str(bombs) in said


@pytest.mark.parametrize("name", ["pipe", "/dev/zero"])
def test_what_never_ends_is_no_video(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is no file"):
        next(iter_frames(tmp_path / name))


def test_what_opencv_knows_and_we_do_not_is_not_decoded(tmp_path: Path, monkeypatch) -> None:
    """Its size cannot be told beforehand: a Sun raster that is called PNG."""
    cv2.imwrite(str(tmp_path / "a.ras"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "a.ras").rename(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png") is None

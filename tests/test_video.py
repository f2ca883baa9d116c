"""Reading videos: against the ffmpeg program, for the codecs that matter and for broken files."""

from __future__ import annotations

import gc
import re
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.errors import VideoError
from omnimatte_cli.media.read import iter_frames, probe, read_clip
from tests.conftest import encode, ffmpeg, scene, write_masks

BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"
CODECS = {  # suffix, arguments, how far colours may be from the picture that was encoded (mean)
    "h264": (".mp4", "-c:v libx264 -crf 10 -pix_fmt yuv420p", 4),
    "h264-10bit": (".mkv", "-c:v libx264 -crf 10 -pix_fmt yuv420p10le", 4),
    "h264-rgb": (".mkv", "-c:v libx264rgb -qp 0", 0),
    "hevc-10bit": (
        ".mp4",
        "-c:v libx265 -crf 15 -x265-params log-level=none -pix_fmt yuv420p10le",
        4,
    ),
    "vp9": (".webm", "-c:v libvpx-vp9 -cpu-used 8 -crf 20 -b:v 0 -pix_fmt yuv420p", 4),
    "av1-10bit": (".mkv", "-c:v libsvtav1 -preset 12 -crf 20 -pix_fmt yuv420p10le", 4),
    "prores": (".mov", "-c:v prores_ks -pix_fmt yuv422p10le", 4),
    "prores-4444": (".mov", "-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le", 3),
    "ffv1-12bit": (".mkv", "-c:v ffv1 -pix_fmt yuv444p12le", 1),
    "ffv1-grey": (".mkv", "-c:v ffv1 -pix_fmt gray", 60),
    "mjpeg-full-range": (".mov", "-c:v mjpeg -q:v 2 -pix_fmt yuvj444p", 4),
    "gif": (".gif", "", 25),
}


EXACT = "scale=flags=bicubic+accurate_rnd+full_chroma_int"
# PyAV heeds where decoders say that chroma samples lie; the program has to be told.
SITED = EXACT + ":in_chroma_loc=left"


def decoded(path: Path, shape: tuple[int, ...], filters: str = EXACT) -> np.ndarray:
    """What the ffmpeg program makes of a file, by its exact conversion: (T, H, W, 3) uint8."""
    flags = ["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", filters]
    raw = ffmpeg("-i", str(path), *flags, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape)


def frames(path: Path) -> np.ndarray:
    return np.stack(list(iter_frames(path)))


@pytest.mark.parametrize("codec", CODECS)
def test_codecs(codec: str, tmp_path: Path, clip) -> None:
    video, _ = clip
    suffix, args, tolerance = CODECS[codec]
    path = encode(tmp_path / f"v{suffix}", video, *args.split())
    got = frames(path)
    assert got.shape == video.shape and got.dtype == np.uint8 and got.flags.c_contiguous
    sited = codec in ("h264", "h264-10bit", "hevc-10bit")
    oracle = decoded(path, video.shape[1:], SITED if sited else EXACT)
    assert np.abs(got.astype(int) - oracle).max() <= 1
    assert abs((got.astype(int) - oracle).mean()) <= 0.02  # no bias
    assert np.abs(got.astype(int) - video).mean() <= tolerance


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_odd_size(suffix: str, tmp_path: Path) -> None:
    video, _ = scene(4, (35, 61))
    codec = "-c:v ffv1 -pix_fmt yuv420p" if suffix == ".mkv" else "-c:v prores_ks"
    path = encode(tmp_path / f"odd{suffix}", video, *codec.split())
    assert probe(path).size == (35, 61)
    np.testing.assert_allclose(frames(path).astype(int), decoded(path, (35, 61, 3)), atol=2)


@pytest.mark.parametrize(
    ("size", "tags", "matrix"),
    [
        ((36, 64), "", "bt601"),  # untagged SD
        ((720, 1280), "", "bt709"),  # untagged HD
        ((36, 64), f"range=tv:{BT709}", "bt709"),
        ((36, 64), f"range=pc:{BT709}", "bt709"),
        ((720, 1280), "range=tv:colorspace=smpte170m", "bt601"),
        ((36, 64), "range=tv:colorspace=bt2020nc", "bt2020"),
    ],
)
def test_matrix_and_range(size, tags: str, matrix: str, tmp_path: Path) -> None:
    """Encoded with a matrix and range and tagged so (or not at all): the colours come back."""
    video, _ = scene(3, size)
    full = "full" if "pc" in tags else "limited"
    to_yuv = f"scale=out_color_matrix={matrix}:out_range={full}:flags=accurate_rnd,format=yuv444p"
    filters = to_yuv + (f",setparams={tags}" if tags else "")
    if not tags:  # the scale filter tags its output; take that away again
        filters += ",setparams=colorspace=unknown:color_primaries=unknown:color_trc=unknown"
    path = encode(tmp_path / "v.mkv", video, "-vf", filters, "-c:v", "libx264", "-qp", "0")
    assert np.abs(frames(path).astype(int) - video).max() <= 4


def test_frames_are_freed_at_once(tmp_path: Path, clip) -> None:
    """None waits for the garbage collector: hundreds of MB would, at 1080p."""
    path = encode(tmp_path / "v.mp4", clip[0], "-c:v", "libx264", "-pix_fmt", "yuv420p")
    gc.collect()
    gc.disable()
    try:
        assert len(list(iter_frames(path))) == 6
        left = sum(type(o).__name__ == "VideoFrame" for o in gc.get_objects())
    finally:
        gc.enable()
    assert left <= 1  # the one that was asked for its display matrix


TURNS = ["0", "90", "180", "270", "0 -display_hflip", "90 -display_hflip", "0 -display_vflip"]


@pytest.mark.parametrize("turn", TURNS)
def test_display_rotation(turn: str, tmp_path: Path, clip) -> None:
    video, _ = clip
    plain = encode(tmp_path / "plain.mp4", video, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", *turn.split(), "-i", str(plain), "-c", "copy", str(path))
    size = (64, 36) if "90" in turn or "270" in turn else (36, 64)
    assert probe(path).size == size
    np.testing.assert_array_equal(frames(path), decoded(path, (*size, 3)))


def test_variable_frame_rate(tmp_path: Path) -> None:
    """40 pictures at uneven times are 40 frames, with their own times."""
    video, _ = scene(60)
    uneven = ["-vf", "select='not(eq(mod(n,3),1))'", "-fps_mode", "vfr", "-c:v", "libx264"]
    path = encode(tmp_path / "vfr.mkv", video, *uneven, "-qp", "0", "-pix_fmt", "yuv444p")
    info = probe(path)
    assert info.frames == 40 == len(info.times) == len(list(iter_frames(path)))
    kept = [n for n in range(60) if n % 3 != 1]
    np.testing.assert_allclose(info.times, np.array(kept) / 10, atol=2e-3)
    assert info.fps == pytest.approx(39 / 5.9, rel=1e-3)
    np.testing.assert_allclose(frames(path).astype(int), video[kept], atol=4)


def test_facts(tmp_path: Path, clip) -> None:
    video, _ = clip
    path = encode(tmp_path / "v.mp4", video, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    info, small = read_clip(path, lambda size: (size[0] // 2, size[1] // 2))
    assert (info.frames, info.size, info.fps, info.kind) == (6, (36, 64), 10, "video")
    assert (info.codec, info.pixel_format) == ("h264", "yuv420p")
    assert info.duration == pytest.approx(0.6) and info.times[1] == pytest.approx(0.1)
    assert re.fullmatch("[0-9a-f]{64}", info.sha256) and info == probe(path)
    assert small.frames.shape == (6, 18, 32, 3) and len(small) == 6 and small.fps == 10
    area = [cv2.resize(f, (32, 18), interpolation=cv2.INTER_AREA) for f in iter_frames(path)]
    np.testing.assert_array_equal(small.frames, area)
    assert len(list(iter_frames(path, stop=2))) == 2 and not list(iter_frames(path, stop=0))


def test_ntsc_rate_survives_the_coarse_clock_of_matroska(tmp_path: Path) -> None:
    video, _ = scene(20)
    path = encode(tmp_path / "v.mkv", video, "-r", "30000/1001", "-c:v", "ffv1")
    assert probe(path).fps == Fraction(30000, 1001)


def test_sound_first_and_cover_art(tmp_path: Path, clip) -> None:
    video, _ = clip
    sound = ("-f", "lavfi", "-i", "sine=duration=0.6")
    first = ["-map", "1:a", "-map", "0:v", "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    path = encode(tmp_path / "v.mp4", video, *first, before=sound)
    assert probe(path).frames == 6
    cover = tmp_path / "cover.png"
    cv2.imwrite(str(cover), video[0])
    song = tmp_path / "song.m4a"
    maps = ["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v", "attached_pic"]
    ffmpeg(
        "-f", "lavfi", "-i", "sine=duration=0.6", "-i", str(cover), *maps, "-f", "mp4", str(song)
    )
    with pytest.raises(VideoError, match=r"song\.m4a has no picture.*only sound"):
        probe(song)


def test_folder_of_images(tmp_path: Path, clip) -> None:
    video, _ = clip
    video = np.concatenate([video, video[::-1]])
    folder = write_masks(tmp_path / "images", video[..., ::-1], name="shot.{}.png")
    (folder / "notes.txt").write_text("not an image")
    (folder / ".hidden.png").write_text("not an image")
    np.testing.assert_array_equal(frames(folder), video)  # 2 before 10
    info = probe(folder)
    assert (info.frames, info.size, info.fps, info.kind) == (12, (36, 64), 24, "images")
    assert info.codec == "png" and info.duration == pytest.approx(0.5)
    assert probe(folder, fps=Fraction(10)).duration == pytest.approx(1.2)
    before = info.sha256
    (folder / "shot.3.png").rename(folder / "shot.30.png")
    assert probe(folder).sha256 != before


def test_sixteen_bit_and_transparent_images(tmp_path: Path, clip) -> None:
    video, masks = clip
    deep = write_masks(tmp_path / "deep", video[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(frames(deep), video)
    rgba = np.concatenate([video[..., ::-1], masks[..., None] * np.uint8(255)], -1)
    folder = write_masks(tmp_path / "rgba", rgba)
    got = np.stack(list(iter_frames(folder, alpha=True)))
    np.testing.assert_array_equal(got[..., 3] > 0, masks)
    np.testing.assert_array_equal(got[..., :3], video)


# ---------------------------------------------------------------------------------------- bad input


def refuse(path: Path, *words: str) -> str:
    with pytest.raises(VideoError) as caught:
        probe(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert message.endswith(".") and "\n" not in message and caught.value.exit_code == 2
    return message


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    refuse(tmp_path / "no.mp4", "no.mp4", "does not exist")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "empty", "folder without images")
    text = tmp_path / "text.txt"
    text.write_text("This is no video.\n" * 50)
    refuse(text, "text.txt")
    renamed = tmp_path / "text.mp4"
    renamed.write_text("This is no video.\n" * 50)
    refuse(renamed, "text.mp4", "cannot be read as a video")
    (tmp_path / "zero.mp4").touch()
    refuse(tmp_path / "zero.mp4", "zero.mp4")
    sound = tmp_path / "sound.wav"
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.1", str(sound))
    refuse(sound, "sound.wav", "only sound")


def test_too_short(tmp_path: Path, clip) -> None:
    video, _ = clip
    path = encode(tmp_path / "two.mkv", video[:2], "-c:v", "ffv1")
    refuse(path, "two.mkv", "2 frames", "at least 3")
    refuse(write_masks(tmp_path / "one", video[:1]), "1 frame:")


@pytest.mark.parametrize(
    ("suffix", "args"),
    [
        (".mp4", "-c:v libx264 -pix_fmt yuv420p -movflags +faststart"),
        (".mov", "-c:v prores_ks -movflags +faststart"),
        (".mkv", "-c:v ffv1"),
        (".webm", "-c:v libvpx-vp9 -cpu-used 8 -crf 45 -b:v 0"),
    ],
)
def test_cut_off(suffix: str, args: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (20, 36, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / f"cut{suffix}", video, *args.split())
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    message = refuse(path, f"cut{suffix}")
    frame = re.search(r"frame (\d+)", message)
    assert frame and 5 <= int(frame[1]) <= 15, message


def test_images_of_different_sizes_and_damaged(tmp_path: Path, clip, capfd) -> None:
    video, _ = clip
    folder = write_masks(tmp_path / "images", video)
    cv2.imwrite(str(folder / "00003.png"), video[0, :20])
    refuse(folder, "Frame 3", "64x20", "64x36", "00003.png")
    (folder / "00003.png").write_bytes((folder / "00002.png").read_bytes()[:200])
    refuse(folder, "Frame 3", "cannot be read", "00003.png")
    assert capfd.readouterr().err == ""  # OpenCV is kept quiet


def test_reading_a_long_video_keeps_no_frame(tmp_path: Path, monkeypatch) -> None:
    """What is kept of every frame must not hold its picture: 6 MB each at 1080p."""
    import weakref

    from omnimatte_cli.media import read

    video, _ = scene(12)
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    alive: list[weakref.ref] = []
    most = 0

    def each(t: int, frame: np.ndarray) -> None:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in alive))
        alive.append(weakref.ref(frame))

    read.read_clip(tmp_path / "v.mkv", lambda size: (16, 32), each=each)
    assert len(alive) == 12 and most <= 3

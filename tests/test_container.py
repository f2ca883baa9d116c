"""What a container says beside its frames: each fact is kept, said, or acted upon."""

from __future__ import annotations

import os
import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.errors import OptionError, VideoError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media import read
from omnimatte_cli.media.boxes import Crop, read_crop
from omnimatte_cli.media.digest import sha256_of
from omnimatte_cli.media.options import ReadOptions, parse_fps, parse_frames, parse_time
from omnimatte_cli.media.read import (
    count_frames,
    iter_frames,
    probe,
    read_clip,
    sha256_of_input,
)
from tests.conftest import encode, ffmpeg, scene, write_masks

pytestmark = pytest.mark.slow

X264 = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")


def frames(path: Path, **options) -> np.ndarray:
    return np.stack(list(iter_frames(path, options=ReadOptions(**options))))


def said(path: Path, *words: str, **options) -> bool:
    """Whether one of the notes holds all these words."""
    info = probe(path, options=ReadOptions(**options))
    return any(all(w in note for w in words) for note in info.notes)


@pytest.fixture
def plain(tmp_path: Path, clip) -> Path:
    return encode(tmp_path / "plain.mp4", clip[0], *X264)


# ----------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize(
    ("default", "stream", "expected"),
    [(0, None, 0), (1, None, 1), (None, None, 1), (0, 1, 1), (1, 0, 0)],
)
def test_streams(default, stream, expected: int, tmp_path: Path, clip) -> None:
    """The default stream, else the largest one, else what --stream says."""
    small = encode(tmp_path / "a.mkv", clip[0][:, ::2, ::2], *X264)
    large = encode(tmp_path / "b.mkv", clip[0], *X264)
    maps = ["-map", "0:v", "-map", "1:v", "-c", "copy", "-disposition:v", "0"]
    chosen = [] if default is None else [f"-disposition:v:{default}", "default"]
    path = tmp_path / "two.mkv"
    muxer = ["-default_mode", "passthrough"]
    ffmpeg("-i", str(small), "-i", str(large), *maps, *chosen, *muxer, str(path))
    info = probe(path, options=ReadOptions(stream=stream))
    assert (info.stream, info.size) == (expected, (18, 32) if expected == 0 else (36, 64))
    assert (stream is None) == said(path, "2 video streams", "--stream", stream=stream)
    with pytest.raises(OptionError, match="--stream 2"):
        probe(path, options=ReadOptions(stream=2))


# ---------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("turn", "sar"), [("0", Fraction(4, 3)), ("90", Fraction(3, 4))])
def test_pixels_that_are_not_square(suffix: str, turn: str, sar, tmp_path: Path, clip) -> None:
    first = encode(tmp_path / f"a{suffix}", clip[0], "-vf", "setsar=4/3", *X264)
    path = tmp_path / f"b{suffix}"
    ffmpeg("-display_rotation", turn, "-i", str(first), "-c", "copy", str(path))
    info = probe(path)
    assert info.sar == sar
    assert info.shown_size == ((36, 85) if turn == "0" else (64, 27))
    assert info.turned == (turn == "90") and said(path, "not square")


def with_aperture(path: Path, width: int, height: int, x: int, y: int) -> Path:
    """The MP4 with a clean aperture of this size, its centre moved by (x, y) half pixels."""
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, x, 2, y, 2)
    data = bytearray(path.read_bytes())
    end = None
    for name in (b"stsd", b"stbl", b"minf", b"mdia", b"trak", b"moov"):
        at = data.rindex(name) - 4
        size = struct.unpack(">I", data[at : at + 4])[0]
        if name == b"stsd":
            entry = at + 16
            length = struct.unpack(">I", data[entry : entry + 4])[0]
            data[entry : entry + 4] = struct.pack(">I", length + 40)
            end = entry + length
        data[at : at + 4] = struct.pack(">I", size + 40)
    data[end:end] = clap
    path.write_bytes(data)
    return path


def test_crop_of_mp4(plain: Path) -> None:
    whole = frames(plain)
    path = with_aperture(plain, 60, 30, 2, -2)
    crop = Crop(top=2, bottom=4, left=3, right=1)
    info = probe(path)
    assert info.crop == crop and info.size == (30, 60) and said(path, "crops")
    np.testing.assert_array_equal(frames(path), whole[:, 2:32, 3:63])
    oracle = ffmpeg("-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    if len(oracle) == 6 * 30 * 60 * 3:  # this ffmpeg program heeds `clap`
        theirs = np.frombuffer(oracle, np.uint8).reshape(6, 30, 60, 3)
        assert np.abs(frames(path).astype(int) - theirs).max() <= 2


def element(number: int, content: bytes) -> bytes:
    name = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def test_crop_of_matroska(tmp_path: Path) -> None:
    video = b"".join(
        element(n, bytes([v])) for n, v in ((0x54AA, 4), (0x54BB, 2), (0x54CC, 3), (0x54DD, 1))
    )
    tracks = b"".join(
        element(0xAE, element(0xD7, bytes([n])) + element(0xE0, v))
        for n, v in ((1, b""), (2, video))
    )
    path = tmp_path / "v.mkv"
    head = element(0x1A45DFA3, b"")
    path.write_bytes(head + element(0x18538067, element(0x1654AE6B, tracks)))
    assert read_crop(path, "matroska,webm", 2, (36, 64)) == Crop(2, 4, 3, 1)
    assert read_crop(path, "matroska,webm", 1, (36, 64)) == Crop()


# ------------------------------------------------------------------------------------------ fields


def woven(order: str) -> tuple[np.ndarray, np.ndarray]:
    """An interlaced clip and the moments its first fields show: (T, H, W, 3) uint8 each."""
    fields, _ = scene(24, (64, 96))
    fields = np.stack([cv2.GaussianBlur(f, (0, 0), 1.0) for f in fields])
    video = fields[::2].copy()
    late = slice(1, None, 2) if order == "top" else slice(0, None, 2)
    video[:, late] = fields[1::2][:, late]
    return video, fields[::2]


@pytest.mark.parametrize(("order", "flag"), [("top", "tff"), ("bottom", "bff")])
def test_interlaced(order: str, flag: str, tmp_path: Path) -> None:
    video, truth = woven(order)
    weave = ["-flags", "+ilme+ildct", "-c:v", "libx264", "-x264opts", f"{flag}=1", "-crf", "5"]
    path = encode(tmp_path / "v.mp4", video, *weave, "-pix_fmt", "yuv444p")
    assert probe(path).field_order == order
    assert said(path, "interlaced", f"{order} field first", "--deinterlace")
    combed = np.abs(frames(path).astype(float) - truth).mean()
    clean = np.abs(frames(path, deinterlace=True).astype(float) - truth).mean()
    assert len(frames(path, deinterlace=True)) == len(video)
    assert clean < 0.6 * combed
    assert said(path, "Deinterlaced", deinterlace=True)
    assert probe(path, options=ReadOptions(deinterlace=True)).field_order == "progressive"


@pytest.mark.parametrize("order", ["top", "bottom"])
def test_fields_without_a_flag(order: str, tmp_path: Path) -> None:
    """Nothing but the combs tells of the fields; frames without any stay as they are."""
    video, truth = woven(order)
    path = encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    combed = np.abs(frames(path).astype(float) - truth).mean()
    clean = np.abs(frames(path, deinterlace=True).astype(float) - truth).mean()
    assert clean < 0.6 * combed
    assert said(path, "Deinterlaced", f"{order} field first", deinterlace=True)
    rng = np.random.default_rng(1)
    still = np.clip(truth[:1] + rng.normal(0, 3, (30, *truth.shape[1:])), 0, 255).astype(np.uint8)
    for noisy in (still, still[:1].repeat(30, 0)):
        path = encode(tmp_path / "still.mkv", noisy, "-c:v", "ffv1", "-pix_fmt", "gbrp")
        np.testing.assert_array_equal(frames(path, deinterlace=True), noisy)
    plain = encode(tmp_path / "p.mkv", truth, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    np.testing.assert_array_equal(frames(plain, deinterlace=True), truth)
    assert said(plain, "--deinterlace", "no combs", deinterlace=True)


# ------------------------------------------------------------------------------------------- times


def test_times_of_a_held_frame_and_a_lost_one(tmp_path: Path) -> None:
    """One frame is held long, or one is missing: the rate stays, the times tell."""
    video, _ = scene(12)
    held = [
        "-vf",
        r"settb=1/1000,setpts='if(eq(N\,11)\,800\,N*1000/30)'",
        "-fps_mode",
        "passthrough",
    ]
    path = encode(tmp_path / "held.mkv", video, *held, "-enc_time_base", "1/1000", *X264)
    info = probe(path)
    assert info.fps == 30 and info.variable and info.frames == 12
    np.testing.assert_allclose(info.times, [*(i / 30 for i in range(11)), 0.8], atol=2e-3)
    lost = ["-vf", r"settb=1/30,setpts=N,select='not(eq(n\,9))'", "-fps_mode", "passthrough"]
    path = encode(tmp_path / "lost.mp4", video, *lost, "-enc_time_base", "1/30", *X264)
    info = probe(path)
    assert info.fps == 30 and info.variable and info.frames == 11
    assert info.times[9] - info.times[8] == pytest.approx(2 / 30, abs=1e-3)
    assert said(path, "unevenly")
    even = encode(tmp_path / "even.mkv", video, "-r", "24000/1001", *X264)
    assert probe(even).fps == Fraction(24000, 1001) and not probe(even).variable


def test_time_code_and_start(tmp_path: Path, clip) -> None:
    path = encode(tmp_path / "v.mov", clip[0], *X264, "-timecode", "01:02:03:04")
    assert probe(path).timecode == "01:02:03:04"
    late = tmp_path / "late.mkv"
    ffmpeg("-i", str(path), "-map", "0:v", "-c", "copy", "-output_ts_offset", "5", str(late))
    info = probe(late)
    assert info.start_time == pytest.approx(5, abs=1e-3) and info.times[0] == 0


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path: Path) -> None:
    video, masks = scene(20)
    whole = encode(tmp_path / "whole.mp4", video, *X264, "-g", "20", "-bf", "0")
    path = tmp_path / "cut.mp4"
    ffmpeg("-ss", "0.8", "-i", str(whole), "-c", "copy", str(path))
    shown = len(frames(path))
    assert shown == 12 and count_frames(path) == shown
    assert probe(path, options=ReadOptions(first=2, stop=6)).total == shown
    folder = write_masks(tmp_path / "masks" / "car", masks[8:])
    info = probe(path, options=ReadOptions(first=2, stop=6))
    assert load_masks(folder, 4, info.size, video=info).at(0, 0).any()


def test_an_input_is_hashed_once_while_it_is_the_same(plain: Path, monkeypatch) -> None:
    asked: list[Path] = []

    def counted(path: Path) -> str:
        asked.append(path)
        return sha256_of(path)

    monkeypatch.setattr(read, "sha256_of", counted)
    first = sha256_of_input(plain)
    assert sha256_of_input(plain) == first == sha256_of(plain) and len(asked) == 1
    plain.write_bytes(plain.read_bytes() + b"more")
    assert sha256_of_input(plain) != first and len(asked) == 2


def test_options_without_effect_are_said(tmp_path: Path, plain: Path, clip) -> None:
    assert said(plain, "--fps is not used", fps=Fraction(50))
    assert said(plain, "--tone-map is not used", tone_map=True)
    images = write_masks(tmp_path / "images", clip[0])
    assert said(images, "--stream is not used", stream=0)
    assert said(images, "--deinterlace is not used", deinterlace=True)
    assert not said(images, "not used", fps=Fraction(50))


# ------------------------------------------------------------------------------------------- hints


def test_hints_are_no_damage(tmp_path: Path, plain: Path) -> None:
    """A last frame that is held, a duration copied from another file."""
    held, tagged = tmp_path / "held.mkv", tmp_path / "tagged.mkv"
    last = r"setts=duration='if(eq(N\,5)\,2/TB\,DURATION)'"
    ffmpeg("-i", str(plain), "-c", "copy", "-bsf:v", last, str(tmp_path / "held.mp4"))
    ffmpeg("-i", str(tmp_path / "held.mp4"), "-c", "copy", str(held))
    data = held.read_bytes()
    assert b"00:00:0" in data
    at = data.index(b"DURATION") + 10
    at = data.index(b"00:00:0", at)
    tagged.write_bytes(data[:at] + b"00:59:0" + data[at + 7 :])
    for path in (held, tagged):
        np.testing.assert_array_equal(frames(path), frames(plain))
    assert said(tagged, "announces", "no damage")


# ------------------------------------------------------------------------------------------- paths

NAMES = [
    "take2:x.mp4",
    "100%d.mp4",
    "-i.mp4",
    "a b\t'q'.mp4",
    "concat:a|b.mp4",
    os.fsdecode(b"\xff\xfe.mp4"),
]


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str, tmp_path: Path, plain: Path, monkeypatch) -> None:
    (tmp_path / name).write_bytes(plain.read_bytes())
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(frames(Path(name)), frames(plain))
    os.symlink(tmp_path / name, tmp_path / "link")
    assert count_frames(Path("link")) == probe(Path("link")).frames == 6


def test_playlists_are_no_videos(tmp_path: Path, plain: Path) -> None:
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {plain.name}\n")
    with pytest.raises(VideoError, match=r"list\.txt"):
        probe(tmp_path / "list.txt")


# ------------------------------------------------------------------------------------------ ranges

RANGES = {
    "frames": ({"first": 2, "stop": 5}, 2, 5),
    "from a frame": ({"first": 3}, 3, 6),
    "times": ({"start_time": Fraction("0.1"), "stop_time": Fraction("0.4")}, 1, 4),
    "from a time": ({"start_time": Fraction("0.25")}, 3, 6),
}


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("images", [False, True])
def test_ranges(kind: str, images: bool, tmp_path: Path, plain: Path, clip) -> None:
    options, first, stop = RANGES[kind]
    source, whole = plain, frames(plain)
    if images:
        source, whole = write_masks(tmp_path / "f", clip[0][..., ::-1], first=1001), clip[0]
        options = {**options, "fps": Fraction(10)}
    np.testing.assert_array_equal(frames(source, **options), whole[first:stop])
    info = probe(source, options=ReadOptions(**options))
    assert (info.first, info.frames, info.total) == (first, stop - first, 6)
    assert info.times[0] == 0
    assert info.first_number == (1001 + first if images else first)
    assert probe(source, options=ReadOptions(start_frame=1, **options)).frame_numbers[:2] == (1, 2)
    with pytest.raises(VideoError, match="chosen part"):
        probe(source, options=ReadOptions(first=5))


def test_words_of_ranges() -> None:
    assert parse_frames("100:250") == (100, 250) and parse_frames("7:") == (7, None)
    assert parse_time("00:01:02.5") == Fraction("62.5") == parse_time("62.5")
    assert parse_fps("24000/1001") == parse_fps("23.976") == Fraction(24000, 1001)
    assert parse_fps("25") == 25 and parse_fps("29.97") == Fraction(30000, 1001)
    for call, text in ((parse_frames, "5"), (parse_time, "1:2:3:4"), (parse_fps, "0")):
        with pytest.raises(OptionError, match=text):
            call(text)
    for wrong in ({"first": 5, "stop": 5}, {"first": -1}, {"start_time": 4, "stop_time": 3}):
        with pytest.raises(OptionError):
            ReadOptions(**wrong)


# -------------------------------------------------------------------------------------------- cuts


def test_scene_cuts(tmp_path: Path) -> None:
    """Cuts are found; a fast mover, a pan, a flash and a fade are none."""
    rng = np.random.default_rng(3)

    def place(seed: int) -> np.ndarray:
        local = np.random.default_rng(seed)
        base = cv2.resize(local.integers(0, 256, (6, 12, 3), dtype=np.uint8), (160, 72))
        return np.clip(base + rng.normal(0, 8, base.shape), 0, 255).astype(np.uint8)

    a, b, c = place(1), place(2), place(3)
    scenes = [np.stack([np.roll(p, 4 * t, 1)[:, :128] for t in range(10)]) for p in (a, b, c)]
    video = np.concatenate(scenes)
    video[5] = np.minimum(video[5].astype(int) + 120, 255)  # a flash
    path = encode(tmp_path / "v.mkv", video, *X264)
    info, _ = read_clip(path, lambda size: (36, 64))
    assert info.cuts == (10, 20) and info.scenes == ((0, 10), (10, 20), (20, 30))
    assert said(path, "2 new scenes", "10, 20", "--split-cuts")
    fade = np.linspace(0, 1, 20)[:, None, None, None]
    faded = (scenes[0][:1] * (1 - fade) + scenes[1][:1] * fade).astype(np.uint8)
    crossing, _ = scene(8, (72, 128))
    for clip in (faded, crossing, np.roll(faded, 3, 1)):
        assert probe(encode(tmp_path / "w.mkv", clip, *X264)).cuts == ()

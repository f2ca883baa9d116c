"""Files that are joined, that hold several pictures, or that lie about what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.errors import MaskError, VideoError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media.read import iter_frames, probe
from tests.conftest import encode, ffmpeg, scene, write_masks

VIDEO, MASKS = scene(8)
X264 = ("-c:v", "libx264", "-qp", "0", "-pix_fmt", "yuv444p")


def joined(folder: Path, second: np.ndarray) -> Path:
    """Two transport streams, one behind the other, as recorders leave them."""
    parts = [
        encode(folder / f"{i}.ts", part, *X264).read_bytes()
        for i, part in enumerate((VIDEO[:4], second))
    ]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(parts))
    return path


def test_joined_transport_streams_are_one_video(tmp_path: Path) -> None:
    path = joined(tmp_path, VIDEO[4:])
    info = probe(path)
    assert np.abs(np.stack([*iter_frames(path)]).astype(int) - VIDEO).max() <= 3
    # Both parts begin at the same time: it tells nothing, and never runs backwards.
    assert info.fps == 10 and info.times == tuple(t / 10 for t in range(8))
    said = " ".join(info.notes)
    assert "breaks off near frame 3" in said and "does not say when" in said


def test_a_join_that_changes_the_size_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="changes size at frame 4: 64x36 before, 48x32 from there"):
        probe(joined(tmp_path, VIDEO[4:, :32, :48]))


def transparent(folder: Path) -> Path:
    rgba = np.concatenate([VIDEO, (MASKS * np.uint8(255))[..., None]], -1)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", "64x36", "-i", "pipe:"]
    args = ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"]
    ffmpeg(*raw, *args, str(folder / "v.mov"), data=rgba.tobytes())
    return folder / "v.mov"


def opaque(folder: Path) -> Path:
    return encode(folder / "v.mov", VIDEO, "-c:v", "png", "-pix_fmt", "rgba")


def images(alpha: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return write_masks(folder / "v", np.concatenate([VIDEO[..., ::-1], alpha[..., None]], -1))

    return make


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (transparent, True),
        (opaque, False),
        (images(MASKS * np.uint8(255)), True),
        (images(np.full_like(VIDEO[..., 0], 255)), False),
        (lambda folder: encode(folder / "v.gif", VIDEO), False),
    ],
    ids=["ProRes", "opaque", "PNG", "opaque PNG", "GIF"],
)
def test_alpha_of_the_video_is_not_dropped_in_silence(
    make: Callable[[Path], Path], said: bool, tmp_path: Path
) -> None:
    notes = " ".join(probe(make(tmp_path)).notes)
    assert ("alpha channel, which is not used" in notes) == said


@pytest.mark.parametrize("second", ["{:05d}.jpg", "{:05d}_mask.png", "depth.{:05d}.png"])
def test_two_sequences_in_one_folder_of_frames(second: str, tmp_path: Path) -> None:
    write_masks(tmp_path / "v", VIDEO)
    write_masks(tmp_path / "v", VIDEO, name=second)
    with pytest.raises(VideoError, match=r"00000.* are both frame 0: .*one video"):
        probe(tmp_path / "v")


def test_time_stamps_that_share_their_seconds_are_no_two_sequences(tmp_path: Path) -> None:
    for t, frame in enumerate(VIDEO):
        write_masks(tmp_path / "v", frame[None], t % 4, f"12-{t // 4:02d}-{{:02d}}.png")
    assert probe(tmp_path / "v").frames == 8


@pytest.mark.parametrize("name", ["frame_%05d.png", "*.png"])
def test_a_pattern_is_answered_with_its_folder(name: str, tmp_path: Path) -> None:
    write_masks(tmp_path / "v", VIDEO)
    with pytest.raises(VideoError, match=r"does not exist\. A sequence .* its folder: .*v\."):
        probe(tmp_path / "v" / name)


def animation(folder: Path) -> Path:
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "64x36", "-i", "pipe:", "-f", "apng"]
    data = (MASKS * np.uint8(255)).tobytes()
    folder.mkdir(parents=True)
    ffmpeg(*raw, str(folder / "car.png"), data=data)
    return folder


def stack(folder: Path) -> Path:
    folder.mkdir(parents=True)
    assert cv2.imwritemulti(str(folder / "car.tif"), [m * np.uint8(255) for m in MASKS])
    return folder


def packed(folder: Path) -> Path:
    (folder.parent / "masks.zip").write_bytes(b"PK\x03\x04" + bytes(99))
    return folder.parent / "masks.zip"


def on_its_side(folder: Path) -> Path:
    write_masks(folder / "car", np.rot90(MASKS, 1, (1, 2)))
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (animation, r"car\.png holds 8 pictures: write an image for each frame, or a video"),
        (stack, r"car\.tif holds 8 pictures"),
        (packed, r"masks\.zip cannot be read .* Masks are a folder of images, or a video"),
        (on_its_side, "36x64: not the aspect of the video, 64x36 but on its side"),
    ],
    ids=["animated PNG", "TIFF stack", "zip", "on its side"],
)
def test_what_is_no_series_of_masks_is_called_what_it_is(
    make: Callable[[Path], Path], said: str, tmp_path: Path
) -> None:
    with pytest.raises(MaskError, match=said):
        load_masks(make(tmp_path / "masks"), 8, (36, 64))


def outlines(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "instances.json").write_text('{"images": [], "annotations": [{"segmentation": []}]}')
    return folder


def test_outlines_in_a_json_are_no_images(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"No masks in .*instances\.json .*export them as images"):
        load_masks(outlines(tmp_path / "masks"), 8, (36, 64))


@pytest.mark.parametrize("several", [False, True])
def test_an_object_drawn_in_its_colour_keeps_the_name_of_its_folder(
    several: bool, tmp_path: Path
) -> None:
    other = np.roll(MASKS, 12, 1)
    for name, masks, colour in (("car", MASKS, (0, 0, 230)), ("van", other, (200, 90, 0)))[
        : 1 + several
    ]:
        image = np.zeros((*masks.shape, 3), np.uint8)
        image[masks] = colour
        write_masks(tmp_path / "masks" / name, image)
    loaded = load_masks(tmp_path / "masks", 8, (36, 64))
    assert loaded.names == (("car", "van") if several else ("car",))
    assert (loaded.at(0, 3) == MASKS[3]).all()


def test_masks_of_the_frames_that_are_asked_for_alone(tmp_path: Path) -> None:
    for t in (1, 6):
        write_masks(tmp_path / "masks" / "car", MASKS[t : t + 1], t)
    loaded = load_masks(tmp_path / "masks", 8, (36, 64), only=(1, 6))
    assert all((loaded.at(0, t) == MASKS[t]).all() for t in (1, 6))
    with pytest.raises(MaskError, match=r"'car' has no mask of frame 4 .*it has 1, 6\)"):
        load_masks(tmp_path / "masks", 8, (36, 64), only=(1, 4))
    with pytest.raises(MaskError, match=r"is missing .*2 masks for 8 frames.* `masks --corrected`"):
        load_masks(tmp_path / "masks", 8, (36, 64))


@pytest.mark.parametrize(
    ("first", "second"),
    [("shot_v001.{:04d}.png", "shot_v002.{:04d}.png"), ("cam1_{}.png", "cam2_{}.png")],
)
def test_two_takes_in_one_folder_are_no_video(first: str, second: str, tmp_path: Path) -> None:
    write_masks(tmp_path, VIDEO[:4], name=first)
    write_masks(tmp_path, VIDEO[4:], name=second)
    with pytest.raises(VideoError, match="are both frame 0"):
        probe(tmp_path)


@pytest.mark.parametrize("name", ["plate.png", "clean_01.png"])
def test_a_plate_beside_frames_is_no_frame(name: str, tmp_path: Path) -> None:
    write_masks(tmp_path, VIDEO[1:], first=1001, name="shot.{}.png")
    write_masks(tmp_path, VIDEO[:1], name=name)
    with pytest.raises(VideoError, match=f"{name} is named otherwise"):
        probe(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["a_12_00_01_24.png", "a_12_00_01_25.png", "a_12_00_02_00.png", "a_12_00_02_24.png"],
        ["frame.png", "frame (1).png", "frame (2).png", "frame (3).png"],
        ["render7.png", "render7 (1).png", "render7 (2).png", "render7 (3).png"],
        ["image.png", "image copy.png", "image copy 2.png", "image copy 3.png"],
        ["t0.0.png", "t0.5.png", "t1.0.png", "t1.5.png"],
        ["m00s00.png", "m00s01.png", "m01s00.png", "m01s01.png"],
        ["a1.png", "a2.JPG", "a3.png", "a4.png"],
    ],
)
def test_sequences_that_look_odd(names: list[str], tmp_path: Path) -> None:
    for name, image in zip(names, VIDEO, strict=False):
        assert cv2.imwrite(str(tmp_path / name), image)
    assert probe(tmp_path).frames == 4


def cut(path: Path, keep: float = 0.7) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    return path


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("v.y4m", "-pix_fmt yuv420p"),
        ("v.y4m", "-pix_fmt yuv422p10 -strict -1"),
        ("v.gif", ""),
        ("v.ogv", "-c:v libtheora -q:v 9"),
        ("v.wmv", "-c:v wmv2 -q:v 2"),
    ],
)
def test_files_that_are_cut_off(name: str, args: str, tmp_path: Path) -> None:
    path = encode(tmp_path / name, VIDEO, *args.split())
    assert len([*iter_frames(path)]) == 8
    cut(path, 0.9)
    with pytest.raises(VideoError, match=r"cut off|cannot be decoded|damaged"):
        list(iter_frames(path))


def test_damage_in_the_middle_is_said(tmp_path: Path) -> None:
    """H.264 is patched up by its decoder, so that all frames come out."""
    video, _ = scene(40, (144, 256))
    path = encode(tmp_path / "v.mp4", video, "-c:v", "libx264", "-g", "10", "-crf", "8")
    data = bytearray(path.read_bytes())
    assert not any("damaged" in note for note in probe(path).notes)
    rng, said = np.random.default_rng(0), 0
    for place in range(4):
        hurt, at = bytearray(data), len(data) * (3 + place) // 8
        hurt[at : at + 3] = rng.integers(0, 256, 3, dtype=np.uint8).tobytes()
        path.write_bytes(hurt)
        info = probe(path)
        said += any("damaged in the file" in note for note in info.notes)
    assert said >= 2  # no checksum tells about all damage

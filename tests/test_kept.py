"""What a run writes keeps the input's pixel shape, times, time code, colour tags and sound."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Plate, to_float
from omnimatte_cli.deliver.finish import finish_result
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.deliver.result import ResultWriter
from omnimatte_cli.deliver.source import describe_input, read_input
from omnimatte_cli.deliver.writer import delivery_of
from omnimatte_cli.errors import OutputError
from omnimatte_cli.matte.resolve import Layers
from omnimatte_cli.media.codecs import ColourTags
from omnimatte_cli.media.ffmpeg import find_ffmpeg
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import VideoInfo, iter_frames, probe
from omnimatte_cli.pipeline import write_background
from omnimatte_cli.progress import Silent
from omnimatte_cli.settings import Settings
from tests.conftest import ffmpeg, write_masks
from tests.results import make_result

pytestmark = pytest.mark.slow

TIMES = (0.0, 0.1, 0.15, 0.4, 0.5, 0.6, 0.9, 1.0)  # seconds of frames, uneven
X264 = ("-c:v", "libx264", "-qp", "0")


@dataclass
class Said:
    """A progress that remembers what the user was told."""

    words: str = ""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def step(self, done: int, note: str = "") -> None: ...

    def say(self, message: str) -> None:
        self.words += message + "\n"


def source(
    path: Path, filters: str, *args: str, sound: bool = False, size: tuple[int, int] = (64, 96)
) -> Path:
    """Eight frames (H, W) of a moving pattern at ten a second, through ffmpeg's `filters`."""
    pattern = f"testsrc2=size={size[1]}x{size[0]}:rate=10:duration=0.8"
    tone = ("-f", "lavfi", "-i", "sine=frequency=300:duration=1.2", "-c:a", "aac")
    ffmpeg(
        *("-f", "lavfi", "-i", pattern),
        *(tone if sound else ()),
        *("-vf", filters, *args, str(path)),
    )
    return path


def run(
    folder: Path, video: Path, formats: tuple[str, ...] = (), exact: bool = False, **options
) -> tuple[VideoInfo, Path]:
    """Write a result of a video, with a layer that is a grey square, without any network.

    exact: with a residual plate, so that the layer over it gives the video back around the square.
    """
    info = probe(video, options=ReadOptions(**options))
    grey = np.full((*info.size, 3), 90, np.uint8)
    if info.depth > 8:
        grey = grey.astype(np.uint16) * 257
    plate = Plate(grey, np.ones(info.size, bool))

    def layers_at(t: int, frame: np.ndarray, below: np.ndarray) -> Layers:
        rgba = np.zeros((1, *info.size, 4), np.float32)
        rgba[0, 8:24, 8:24] = (0.5, 0.5, 0.5, 1)
        return Layers(rgba, None)

    out = folder / "out"
    out.mkdir()
    writer = ResultWriter(
        out,
        ("a",),
        np.zeros((info.frames, 1), int),
        plate,
        lambda: iter_frames(video, deep=None, options=info.options),
        layers_at,
        delivery_of(info, find_ffmpeg()),
        info.frame_numbers,
        exact,
        formats=formats,
    )
    writer.write(Silent())
    facts = {"input": describe_input(info), "objects": {"names": ["a"], "order": ["a"]}}
    (out / "manifest.json").write_text(json.dumps(facts))
    return info, out


def uneven(path: Path, *args: str, sound: bool = False) -> Path:
    """A video whose frames are shown at TIMES."""
    steps = "+".join(f"{t * 10000:.0f}*eq(N\\,{i})" for i, t in enumerate(TIMES))
    filters = f"settb=1/10000,setpts={steps}"
    return source(
        path,
        filters,
        "-fps_mode",
        "passthrough",
        "-enc_time_base",
        "1:10000",
        *X264,
        *args,
        sound=sound,
    )


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(f.pts * f.time_base) for f in container.decode(video=0)]


# -------------------------------------------------------------------------------------- pixel shape


def test_pixel_shape(tmp_path: Path) -> None:
    video = source(tmp_path / "in.mkv", "setsar=16/11", *X264)
    info, out = run(tmp_path, video, ("prores", "exr"))
    assert info.sar == Fraction(16, 11)
    for name in ("composite.mp4", "preview.mp4", "prores/a.mov"):
        with av.open(str(out / name)) as container:
            assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11), name


def test_pixel_shape_of_a_turned_video(tmp_path: Path) -> None:
    plain = source(tmp_path / "plain.mp4", "setsar=16/11", *X264)
    ffmpeg("-display_rotation", "90", "-i", str(plain), "-c", "copy", str(tmp_path / "in.mp4"))
    info, out = run(tmp_path, tmp_path / "in.mp4")
    assert info.size == (96, 64) and info.sar == Fraction(11, 16)
    assert probe(out / "composite.mp4").sar == Fraction(11, 16)
    assert read_result(out).delivery().timing.sample_aspect == Fraction(11, 16)


# ------------------------------------------------------------------------------------------- clock


def test_frames_keep_their_times(tmp_path: Path) -> None:
    video = uneven(tmp_path / "in.mp4")
    assert times_of(video) == pytest.approx(TIMES, abs=1e-4)
    _, out = run(tmp_path, video, ("prores",))
    for name in ("composite.mp4", "preview.mp4", "prores/a.mov", "prores/plate.mov"):
        assert times_of(out / name) == pytest.approx(TIMES, abs=2e-5), name


def test_a_part_begins_at_its_own_time_code_and_sound(tmp_path: Path) -> None:
    video = uneven(tmp_path / "in.mov", "-timecode", "01:00:00:00", sound=True)
    info, out = run(tmp_path, video, ("exr",), first=3, stop=7)
    assert times_of(out / "composite.mp4") == pytest.approx([0, 0.1, 0.2, 0.5], abs=2e-5)
    assert info.timecode == "01:00:00:03" == probe(out / "composite.mp4").timecode
    assert info.audio is not None and info.audio.start == pytest.approx(TIMES[3], abs=0.05)
    heard = probe(out / "composite.mp4").audio
    assert heard is not None and heard.duration == pytest.approx(info.duration, abs=0.1)
    import OpenEXR

    first = min((out / "exr").iterdir())
    with OpenEXR.File(str(first), separate_channels=True) as file:
        assert (file.header()["timeCode"].hours, file.header()["timeCode"].frame) == (1, 3)


# ------------------------------------------------------------------------------------------ colour


@pytest.mark.parametrize(
    ("pixels", "matrix", "primaries", "transfer"),
    [
        ("yuv420p", "smpte170m", "smpte170m", "smpte170m"),
        ("yuv420p10le", "bt709", "bt709", "bt709"),
        ("yuv420p10le", "bt2020nc", "bt2020", "arib-std-b67"),
        ("yuv422p10le", "bt2020nc", "bt2020", "smpte2084"),
    ],
)
def test_colour(pixels: str, matrix: str, primaries: str, transfer: str, tmp_path: Path) -> None:
    """The tags are the input's, and the colours that they mean are too."""
    tags = f"range=tv:color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}"
    scaling = "bt2020" if matrix == "bt2020nc" else matrix
    filters = f"scale=out_color_matrix={scaling}:out_range=tv,format={pixels},setparams={tags}"
    video = source(tmp_path / "in.mkv", filters, *X264)
    info, out = run(tmp_path, video, ("prores", "webm", "mp4"))
    wanted = ColourTags(matrix, primaries, transfer)
    assert info.tags == wanted
    grey = [90, 128]
    for path in [out / "composite.mp4", *out.glob("prores/*"), *out.glob("webm/*")]:
        back = probe(path)
        assert back.tags == wanted and back.colour.range == "tv", path.name
        frame = next(iter_frames(path))
        if path.name == "composite.mp4":
            got = [int(frame[50, 70].mean().round()), int(frame[16, 16].mean().round())]
            assert np.abs(np.subtract(got, grey)).max() <= 1, got


def test_tone_mapped_and_untagged_colours(tmp_path: Path) -> None:
    hdr = "format=yuv420p10le,setparams=color_primaries=bt2020:color_trc=smpte2084:"
    video = source(tmp_path / "in.mkv", f"{hdr}colorspace=bt2020nc", *X264)
    assert probe(video, options=ReadOptions(tone_map=True)).tags == ColourTags()
    plain = source(tmp_path / "plain.mkv", "format=yuv420p", *X264)
    assert probe(plain).tags.matrix == "smpte170m"  # what players take below HD
    images = tmp_path / "images"
    write_masks(images, np.zeros((3, 8, 8), np.uint8))
    assert probe(images).tags.transfer == "iec61966-2-1"  # as every program reads a PNG


# ------------------------------------------------------------------------------- sizes and depths


def rgba(path: Path, size: tuple[int, int], t: int, plate: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frame t of a layer and of its plate by the ffmpeg program, in [0, 1]."""
    exact = "scale=in_range=limited:out_range=full:flags=bicubic+accurate_rnd+full_chroma_int"
    found = []
    for file, pixels, channels in ((path, "rgba64le", 4), (plate, "rgb48le", 3)):
        before = ("-c:v", "libvpx-vp9") if path.suffix == ".webm" and channels == 4 else ()
        form = ("-f", "rawvideo", "-pix_fmt", pixels, "pipe:")
        data = np.frombuffer(ffmpeg(*before, "-i", str(file), "-vf", exact, *form), "<u2")
        found.append(data.reshape(-1, *size, channels)[t] / 65535)
    return found[0], found[1]


def in_mp4(folder: Path, size: tuple[int, int], t: int) -> np.ndarray:
    """Frame t of a layer on black, its matte and the plate, put together, in [0, 1]."""
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    layer, plate = rgba(folder / "a.mp4", even, t, folder / "plate.mp4")
    matte, _ = rgba(folder / "a_matte.mp4", even, t, folder / "plate.mp4")
    whole = layer[..., :3] + (1 - matte[..., :3]) * plate
    return whole[: size[0], : size[1]]


@pytest.mark.parametrize("pixels", ["yuv444p", "yuv444p10le"])
@pytest.mark.parametrize("size", [(48, 64), (61, 83), (54, 90)])
def test_layers_over_the_residual_plate_are_the_input(
    pixels: str, size: tuple[int, int], tmp_path: Path
) -> None:
    """In every format, at even, odd and other sizes, from 8 and from 10 bits.

    Bounds, largest and mean error, are in levels of 255; one of 10 bits is a quarter of that.
    """
    import OpenEXR

    wide = f"scale={size[1]}:{size[0]}"  # the pattern itself has even sides
    filters = f"gblur=2,{wide}:out_color_matrix=bt709,format={pixels},setparams=colorspace=bt709"
    video = source(tmp_path / "in.mkv", filters, *X264, size=size)
    info, out = run(tmp_path, video, ("png16", "prores", "webm", "exr", "mp4"), exact=True)
    assert info.size == size and info.depth == (10 if "10" in pixels else 8)
    t = 5
    truth = to_float(list(iter_frames(video, deep=None))[t]).astype(np.float64)
    square = (slice(8, 24), slice(8, 24))
    truth[square] = 0.5
    names = (out / "layers16/a" / f"{t:05d}.png", out / "layers16/plate" / f"{t:05d}.png")
    deep = [cv2.imread(str(n), cv2.IMREAD_UNCHANGED)[..., :3:][..., ::-1] / 65535 for n in names]
    alpha = cv2.imread(str(names[0]), cv2.IMREAD_UNCHANGED)[..., 3:] / 65535
    found = {"png16": (alpha * deep[0] + (1 - alpha) * deep[1], 0.01, 0.001)}
    eight = cv2.imread(str(out / "layers/a" / f"{t:05d}.png"), cv2.IMREAD_UNCHANGED)[
        ..., [2, 1, 0, 3]
    ]
    below = cv2.imread(str(out / "background" / f"{t:05d}.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]
    layer = eight.astype(np.float64) / 255
    ground = to_float(below)
    found["png"] = (ground + layer[..., 3:] * (layer[..., :3] - ground), 0.6, 0.26)
    for form, suffix, *bounds in (("prores", ".mov", 8, 0.8), ("webm", ".webm", 56, 4.5)):
        layer, plate = rgba(out / form / f"a{suffix}", size, t, out / form / f"plate{suffix}")
        found[form] = (plate + layer[..., 3:] * (layer[..., :3] - plate), *bounds)
    found["mp4"] = (in_mp4(out / "mp4", size, t), 56, 4.5)
    for form, (image, most, mean) in found.items():
        error = np.abs(image - truth) * 255
        assert error.max() <= most and error.mean() <= mean, (form, error.max(), error.mean())
    with OpenEXR.File(str(out / "exr" / f"in.{t:04d}.exr"), separate_channels=True) as file:
        c = {k: v.pixels.astype(np.float64) for k, v in file.channels().items()}
    light = np.stack([c[f"a.{x}"] + (1 - c["a.A"]) * c[f"plate.{x}"] for x in "RGB"], -1)
    linear = np.where(truth < 0.081, truth / 4.5, ((truth + 0.099) / 1.099) ** (1 / 0.45))
    assert np.abs(light - linear).max() < 2e-3
    assert np.abs(light - np.stack([c[x] for x in "RGB"], -1)).max() < 1e-3  # the composite


# --------------------------------------------------------------------------------------- afterwards


def test_the_manifest_gives_the_input_back(tmp_path: Path) -> None:
    video = uneven(tmp_path / "in.mov", "-timecode", "01:00:00:00", sound=True)
    info = probe(video, options=ReadOptions(first=2, stop=6, start_frame=1001))
    back = read_input(json.loads(json.dumps(describe_input(info))))
    for part in ("frames", "size", "fps", "colour", "sar", "timecode", "audio", "tags", "total"):
        assert getattr(back, part) == getattr(info, part), part
    assert back.times == pytest.approx(info.times, abs=1e-6) and back.variable
    assert back.frame_numbers == (1001, 1002, 1003, 1004)
    again = list(iter_frames(video, options=back.options))
    for a, b in zip(again, iter_frames(video, options=info.options), strict=True):
        assert np.array_equal(a, b)


def test_a_part_is_compared_with_its_own_frames(tmp_path: Path) -> None:
    video = source(tmp_path / "in.mkv", "null", "-c:v", "ffv1", "-pix_fmt", "gbrp")
    _, out = run(tmp_path, video, first=4)
    frames = read_result(out).source_frames()
    assert frames is not None
    got = list(frames)
    assert len(got) == 4 and np.array_equal(got[0], list(iter_frames(video))[4])


def test_a_finished_result_gets_its_report_and_scripts(tmp_path: Path) -> None:
    out, said = make_result(tmp_path), Said()
    assert finish_result(out, (), True, said) == out / "report.html"
    assert (out / "report.html").is_file() and not (out / "layers.nk").exists()
    assert finish_result(out, ("png",), False, said) is None
    assert '"layers/box/%05d.png"' in (out / "layers.nk").read_text()
    assert (out / "layers.otio").is_file()


def test_numbers_with_gaps_make_no_scripts(tmp_path: Path) -> None:
    out, said = make_result(tmp_path), Said()
    facts = json.loads((out / "manifest.json").read_text())
    numbers = [1, 2, 4, 5, 6, 7, 8, 9]
    facts["input"] |= {"numbers": numbers, "names": [f"f{n}" for n in numbers]}
    (out / "manifest.json").write_text(json.dumps(facts))
    finish_result(out, ("png",), False, said)
    assert "gaps" in said.words and not (out / "layers.nk").exists()


def test_plates_keep_shape_times_colours_and_numbers(tmp_path: Path) -> None:
    tags = ("-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "arib-std-b67")
    film = tmp_path / "v.mp4"
    source(film, "setsar=4/3,format=yuv420p10", *X264, *tags, size=(48, 64))
    settings = Settings(camera="static", ffmpeg=find_ffmpeg(None), start_frame=1001)
    info = probe(film)
    write_background(film, settings, tmp_path / "plate.mov")
    got = probe(tmp_path / "plate.mov")
    assert got.sar == info.sar == Fraction(4, 3)
    assert got.tags == info.tags and got.fps == info.fps
    write_background(film, settings, tmp_path / "plates")
    names = sorted(p.name for p in (tmp_path / "plates").glob("*.png"))
    assert names == [f"{n:05d}.png" for n in range(1001, 1009)]


def test_a_plate_does_not_replace_its_video(tmp_path: Path) -> None:
    film = source(tmp_path / "v.mp4", "format=yuv420p", *X264)
    before = film.read_bytes()
    with pytest.raises(OutputError, match="is what is read"):
        write_background(film, Settings(camera="static", overwrite=True), film)
    assert film.read_bytes() == before

"""Every format comes back: independent readers decode the files, and what was meant is compared."""

from __future__ import annotations

import re
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from omnimatte_cli.deliver.exr import exr_channels, layer_names
from omnimatte_cli.deliver.extend import pull_push
from omnimatte_cli.deliver.footage import stack_of
from omnimatte_cli.deliver.formats import open_writers
from omnimatte_cli.deliver.linear import linear_layers, to_linear
from omnimatte_cli.deliver.nuke import nuke_script
from omnimatte_cli.deliver.writer import Delivery, FrameOutput
from omnimatte_cli.errors import OptionError
from omnimatte_cli.matte.compositing import lay_over, merge
from omnimatte_cli.media.codecs import ColourTags, Timing
from omnimatte_cli.media.encode import VideoWriter
from omnimatte_cli.media.ffmpeg import find_ffmpeg
from omnimatte_cli.media.read import probe
from omnimatte_cli.media.timecode import time_code_after
from tests.conftest import ffmpeg

pytestmark = pytest.mark.slow

SIZES = [(48, 64), (61, 83), (54, 90)]  # multiples of 16, odd, even but no multiples
NAMES = ("dog", "far away")
FRAMES = 3
LEVEL = 1 / 255  # an 8-bit step
FULL = "scale=in_range=limited:out_range=full:flags=bicubic+accurate_rnd+full_chroma_int"


def outputs(size: tuple[int, int], first: int = 0) -> list[FrameOutput]:
    """A soft body with a black shadow before a smooth plate, and a layer that is empty."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    plate = np.stack([0.25 + 0.5 * x / w, 0.3 + 0.4 * y / h, 0.6 - 0.25 * x / w], -1)
    frames = []
    for t in range(FRAMES):
        body = np.clip(4 - np.hypot(x - w * 0.4 - t, y - h * 0.45) / (h / 16), 0, 1)
        shadow = 0.5 * np.clip(
            3 - np.abs(y - h * 0.7) / (h / 16) - np.abs(x - w / 2) / (w / 6), 0, 1
        )
        alpha = body + shadow * (1 - body)
        colour = (
            np.stack([0.8 * body, 0.3 * body, 0.2 * body], -1) / np.maximum(alpha, 1e-6)[..., None]
        )
        layers = np.zeros((2, h, w, 4), np.float32)
        layers[0] = np.dstack([colour * (alpha > 0)[..., None], alpha])
        composite = plate + alpha[..., None] * (colour - plate)
        args = (plate.astype(np.float32), composite.astype(np.float32), NAMES, (1, 0))
        frames.append(FrameOutput(first + t, layers, *args))
    return frames


def deliver(tmp_path: Path, form: str, size: tuple[int, int], **facts) -> list[FrameOutput]:
    frames = outputs(size, facts.get("first", 0))
    info = Delivery(size, FRAMES, facts.pop("timing", Timing(Fraction(30000, 1001))), **facts)
    with open_writers([form], tmp_path, NAMES, info) as writers:
        for t, frame in enumerate(frames):
            writers.write(t, frame)
    return frames


def decode(path: Path, pixels: str, size: tuple[int, int], *before: str) -> np.ndarray:
    """All frames by the ffmpeg program, (T, H, W, C) float64 in [0, 1]."""
    deep = pixels.endswith("16le") or pixels.endswith("48le") or pixels.endswith("64le")
    data = ffmpeg(
        *before, "-i", str(path), "-vf", FULL, "-f", "rawvideo", "-pix_fmt", pixels, "pipe:"
    )
    values = np.frombuffer(data, "<u2" if deep else np.uint8)
    return values.reshape(FRAMES, *size, -1) / (65535 if deep else 255)


def padded(size: tuple[int, int]) -> tuple[int, int]:
    return size[0] + size[0] % 2, size[1] + size[1] % 2


# --------------------------------------------------------------------------------------------- png


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("form", "folder", "top"), [("png", "layers", 255), ("png16", "layers16", 65535)]
)
def test_png_layers_look_over_their_plate_as_was_meant(
    form: str, folder: str, top: int, size: tuple[int, int], tmp_path: Path
) -> None:
    """Alpha is rounded up, and colour computed for it: over the plate half a level is lost."""
    frames = deliver(tmp_path, form, size, first=7)
    for frame in frames:
        meant, made = frame.plate, frame.plate
        for i in frame.order:
            file = tmp_path / folder / NAMES[i] / f"{frame.number:05d}.png"
            image = cv2.imread(str(file), -1)
            assert image.max(initial=0) <= top and image.dtype.itemsize * 8 == top.bit_length()
            got = cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA) / top
            layer = frame.layers[i]
            rise = got[..., 3] - layer[..., 3]
            assert -0.002 / top <= rise.min() and rise.max() <= 3.01 / top
            meant = meant + layer[..., 3:] * (layer[..., :3] - meant)
            made = made + got[..., 3:] * (got[..., :3] - made)
        assert np.abs(made - meant).max() <= 0.6 / top


def test_an_empty_png_costs_next_to_nothing(tmp_path: Path) -> None:
    size = (1080, 1920)
    zero = np.zeros((1, *size, 4), np.float32)
    image = np.zeros((*size, 3), np.float32)
    with open_writers(
        ["png"], tmp_path, ["dog"], Delivery(size, 1, Timing(Fraction(24)))
    ) as writers:
        writers.write(0, FrameOutput(0, zero, image, image, ("dog",), (0,)))
    assert (tmp_path / "layers/dog/00000.png").stat().st_size < 10_000


# ------------------------------------------------------------------------------------------ videos


@pytest.mark.parametrize("size", SIZES)
def test_prores(size: tuple[int, int], tmp_path: Path) -> None:
    frames = deliver(tmp_path, "prores", size)
    got = decode(tmp_path / "prores/dog.mov", "rgba64le", size)
    meant = np.stack([f.layers[0] for f in frames])
    # Alpha: 10 bits in, 12 out; colour where it is seen: the codec's own loss.
    assert np.abs(got[..., 3] - meant[..., 3]).max() < 0.5 / 1023 + 1.5 / 4095
    assert set(np.unique(got[..., 3][meant[..., 3] == 0])) == {0}
    solid = meant[..., 3] > 0.99
    assert np.abs(got - meant)[solid][:, :3].max() < 2 * LEVEL
    assert np.abs(got - meant)[solid][:, :3].mean() < 0.4 * LEVEL
    plate = decode(tmp_path / "prores/plate.mov", "rgb48le", size)
    assert np.abs(plate - frames[0].plate).max() < 1.5 * LEVEL
    # PyAV's eyes.
    with av.open(str(tmp_path / "prores/dog.mov")) as container:
        stream = container.streams.video[0]
        first = next(container.decode(video=0))
        assert stream.codec_context.name == "prores" and stream.codec_context.codec_tag == "ap4h"
        assert (first.width, first.height) == size[::-1] and "yuva444p" in first.format.name
        alpha = np.frombuffer(first.planes[3], "<u2").reshape(size[0], -1)[:, : size[1]] / 4095
    assert np.abs(alpha - meant[0, ..., 3]).max() < 0.5 / 1023 + 1.5 / 4095
    empty = decode(tmp_path / "prores/far away.mov", "rgba64le", size)
    assert empty[..., 3].max() == 0


@pytest.mark.parametrize("width", [64, 83, 90])
def test_prores_keeps_all_1024_levels_of_alpha(width: int, tmp_path: Path) -> None:
    """10-bit material: every level comes back as itself, at widths that other encoders damage."""
    height = -(-1024 // width)
    levels = np.minimum(np.arange(height * width), 1023).reshape(height, width)
    layer = np.full((1, height, width, 4), 0.5, np.float32)
    layer[0, ..., 3] = levels / 1023
    plate = np.full((height, width, 3), 0.5, np.float32)
    info = Delivery((height, width), 1, Timing(Fraction(25)))
    with open_writers(["prores"], tmp_path, ["a"], info) as writers:
        writers.write(0, FrameOutput(0, layer, plate, plate, ("a",), (0,)))
    with av.open(str(tmp_path / "prores/a.mov")) as container:
        plane = next(container.decode(video=0)).planes[3]
        got = np.frombuffer(plane, "<u2").reshape(height, -1)[:, :width]
    assert np.array_equal(got >> 2, levels)


@pytest.mark.parametrize("size", SIZES)
def test_webm(size: tuple[int, int], tmp_path: Path) -> None:
    frames = deliver(tmp_path, "webm", size)
    path = tmp_path / "webm/dog.webm"
    got = decode(path, "rgba", size, "-c:v", "libvpx-vp9")
    meant = np.stack([f.layers[0] for f in frames])
    error = np.abs(got - meant)
    assert error[..., 3].max() < 16 * LEVEL and error[..., 3].mean() < LEVEL
    assert error[meant[..., 3] > 0.99][:, :3].mean() < 3 * LEVEL
    with av.open(str(path)) as container:
        assert container.streams.video[0].metadata["alpha_mode"] == "1"


@pytest.mark.parametrize("size", SIZES)
def test_mp4_colour_over_a_ground_and_a_matte(size: tuple[int, int], tmp_path: Path) -> None:
    frames = deliver(tmp_path, "mp4", size, matte_color=(0.0, 0.8, 0.2))
    h, w = size
    meant = np.stack([f.layers[0] for f in frames])
    alpha = decode(tmp_path / "mp4/dog_matte.mp4", "gray16le", padded(size))[:, :h, :w, 0]
    assert np.abs(alpha - meant[..., 3]).max() < 8 * LEVEL
    assert np.abs(alpha - meant[..., 3]).mean() < LEVEL
    colour = decode(tmp_path / "mp4/dog.mp4", "rgb48le", padded(size))[:, :h, :w]
    ground = np.array([0.0, 0.8, 0.2])
    over = ground + meant[..., 3:] * (meant[..., :3] - ground)
    assert np.abs(colour - over).mean() < 3 * LEVEL
    away = meant[..., 3] == 0
    assert np.abs((colour - over)[away].mean(axis=0)).max() < LEVEL  # no bias of the conversion


def described(path: Path) -> str:
    """What the ffmpeg program says of a file."""
    done = subprocess.run(
        [str(find_ffmpeg()), "-hide_banner", "-i", str(path)], capture_output=True, text=True
    )
    return done.stderr


@pytest.mark.parametrize("form", ["prores", "webm", "mp4"])
def test_tags_rate_shape_and_time_code(form: str, tmp_path: Path) -> None:
    """By PyAV's eyes and by those of the ffmpeg program."""
    timing = Timing(Fraction(24000, 1001), None, Fraction(4, 3), "01:00:00:00")
    tags = ColourTags("bt2020nc", "bt2020", "arib-std-b67")
    deliver(tmp_path, form, (48, 96), timing=timing, tags=tags)
    files = sorted((tmp_path / form).iterdir())
    assert len(files) == (5 if form == "mp4" else 3)
    for path in files:
        info = probe(path)
        assert info.tags == tags, path
        assert info.sar == Fraction(4, 3)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == Fraction(24000, 1001)
            assert next(container.decode(video=0)).color_range == 1  # limited
        said = described(path)
        for words in ("tv, bt2020nc/bt2020/arib-std-b67", "SAR 4:3 DAR 8:3", "23.98 fps"):
            assert words in said, (path, words, said)
        if form != "webm":  # WebM has no place for one
            assert info.timecode == "01:00:00:00" and "timecode        : 01:00:00:00" in said


@pytest.mark.parametrize(("form", "tick"), [("prores", 1e-5), ("mp4", 1e-5), ("webm", 1e-3)])
def test_frames_keep_times_of_their_own(form: str, tick: float, tmp_path: Path) -> None:
    times = (0.0, 0.05, 0.31)
    deliver(tmp_path, form, (36, 50), timing=Timing(Fraction(10), times))
    for path in (tmp_path / form).iterdir():
        with av.open(str(path)) as container:
            got = [float(f.pts * f.time_base) for f in container.decode(video=0)]
        assert got == pytest.approx(times, abs=tick), path


@pytest.mark.parametrize("profile", ["mp4", "prores_opaque", "webm_opaque"])
def test_deep_frames_are_not_cut_to_8_bits_before_the_codec(profile: str, tmp_path: Path) -> None:
    ramp = np.linspace(20000, 21000, 256).astype(np.uint16)
    image = np.repeat(np.repeat(ramp[None, :, None], 16, 0), 3, 2)
    suffix = {"mp4": ".mp4", "prores_opaque": ".mov", "webm_opaque": ".webm"}[profile]
    path = tmp_path / f"v{suffix}"
    with VideoWriter(path, (16, 256), 25, profile=profile, dtype=np.uint16) as writer:
        for _ in range(FRAMES):
            writer.write(image)
    got = decode(path, "rgb48le", (16, 256))
    steps = len(np.unique(np.round(got[0, 8, :, 1] * 65535)))
    assert steps >= (12 if profile == "prores_opaque" else 3)  # 15.6 steps of 10 bits, 3.9 of 8
    assert np.abs(got[0] - image / 65535).max() < 2 * LEVEL


# ------------------------------------------------------------------------------------------- audio


def test_sound_goes_along_from_the_first_frame_of_a_range(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    make = "testsrc=size=64x48:rate=10:duration=3", "sine=frequency=500:duration=3"
    ffmpeg("-f", "lavfi", "-i", make[0], "-f", "lavfi", "-i", make[1], "-c:a", "aac", str(source))
    heard = probe(source).audio
    assert (
        heard is not None and heard.codec == "aac" and heard.duration == pytest.approx(3, abs=0.1)
    )
    part = heard.part(1.0, 1.0)
    assert heard.part(2.5, 9).duration == pytest.approx(0.5, abs=0.1)
    for profile, codec in (("mp4", "aac"), ("prores_opaque", "aac"), ("webm_opaque", "opus")):
        path = tmp_path / f"{profile}{'.webm' if 'webm' in profile else '.mov'}"
        with VideoWriter(path, (48, 64), 10, profile=profile, audio=part) as writer:
            for _ in range(10):
                writer.write(np.zeros((48, 64, 3), np.uint8))
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            assert stream.codec_context.name == codec
            sound = [(f.time, f.samples / f.sample_rate) for f in container.decode(stream)]
        assert abs(sound[0][0]) < 0.05 and sum(s for _, s in sound) == pytest.approx(1, abs=0.1)


# --------------------------------------------------------------------------------------------- exr


@pytest.mark.parametrize("size", SIZES)
def test_exr(size: tuple[int, int], tmp_path: Path) -> None:
    import OpenEXR

    timing = Timing(Fraction(30000, 1001), None, Fraction(2), "01:00:00:00")
    frames = deliver(tmp_path, "exr", size, first=1001, shot="my shot", timing=timing)
    files = sorted((tmp_path / "exr").iterdir())
    assert [f.name for f in files] == [f"my_shot.{n}.exr" for n in (1001, 1002, 1003)]
    with OpenEXR.File(str(files[2]), separate_channels=True) as file:
        header = dict(file.header())  # emptied when the file is closed
        channels = {name: c.pixels.copy() for name, c in file.channels().items()}
    layers = ("dog", "far_away")
    names = {*"RGB", *(f"plate.{c}" for c in "RGB"), *(f"{n}.{c}" for n in layers for c in "RGBA")}
    assert set(channels) == names and all(c.dtype == np.float16 for c in channels.values())
    assert header["compression"] == OpenEXR.ZIP_COMPRESSION and header["pixelAspectRatio"] == 2
    assert header["framesPerSecond"] == Fraction(30000, 1001)
    assert header["timeCode"].frame == 2 and header["timeCode"].hours == 1
    assert header["chromaticities"][:2] == pytest.approx((0.64, 0.33))

    def image(prefix: str, letters: str) -> np.ndarray:
        return np.stack([channels[prefix + c] for c in letters], -1).astype(np.float64)

    frame, half = frames[2], 2**-10  # a rounding of half floats, relative
    plate, picture = image("plate.", "RGB"), image("", "RGB")
    v = frame.plate.astype(np.float64)  # all above the curve's linear piece
    assert np.abs(plate - ((v + 0.099) / 1.099) ** (1 / 0.45)).max() < half
    dog = image("dog.", "RGBA")
    assert (dog[..., :3] <= dog[..., 3:] + half).all()  # premultiplied
    over = dog[..., :3] + (1 - dog[..., 3:]) * plate
    assert np.abs(over - picture).max() < 2 * half
    assert np.abs(picture - to_linear(frame.composite, "bt709")).max() < half
    opaque = frame.layers[0, ..., 3] == 1
    meant = to_linear(frame.layers[0, ..., :3], "bt709")
    assert opaque.sum() > 20 and np.abs(dog[..., :3] - meant)[opaque].max() < 2 * half
    assert not image("far_away.", "RGBA").any()
    # ffmpeg's own decoder finds the layer by its name.
    raw = ("-f", "rawvideo", "-pix_fmt", "gbrapf32le", "pipe:")
    data = np.frombuffer(ffmpeg("-layer", "dog", "-i", str(files[2]), *raw), "<f4")
    assert np.abs(data.reshape(4, *size)[[2, 0, 1, 3]] - np.moveaxis(dog, -1, 0)).max() < half


def test_alpha_of_a_shadow_is_the_light_that_it_takes() -> None:
    plate = np.full((1, 4, 3), 0.6, np.float32)
    layer = np.zeros((1, 1, 4, 4), np.float32)
    layer[..., 3] = [0, 0.25, 0.5, 1]
    got = linear_layers(layer, [0], plate, "linear")
    assert got[0, 0, :, 3] == pytest.approx([0, 0.25, 0.5, 1], abs=1e-4)
    got = linear_layers(layer, [0], plate, "gamma22")
    assert got[0, 0, :, 3] == pytest.approx(1 - np.array([1, 0.75, 0.5, 0]) ** 2.2, abs=1e-4)
    assert got[..., :3].max() < 1e-6


@pytest.mark.parametrize("transfer", ["bt709", "iec61966-2-1", "gamma28", "arib-std-b67"])
def test_linear_layers_rebuild_the_linear_composite(transfer: str) -> None:
    rng = np.random.default_rng(0)
    layers = rng.random((3, 20, 30, 4), np.float32)
    layers[..., 3] *= rng.random((3, 20, 30)) < 0.5
    plate = rng.random((20, 30, 3), np.float32)
    order = (2, 0, 1)
    below, linear = plate, to_linear(plate, transfer)
    got = linear_layers(layers, order, plate, transfer)
    for i in order:
        below = below + layers[i, ..., 3:] * (layers[i, ..., :3] - below)
        linear = got[i, ..., :3] + (1 - got[i, ..., 3:]) * linear
    assert np.abs(linear - to_linear(below, transfer)).max() < 1e-4
    assert (
        (got[..., 3] >= layers[..., 3] - 1e-6).all() and got.min() >= 0 and got[..., 3].max() <= 1
    )


def test_known_values_of_the_curves() -> None:
    assert to_linear(np.float32([0.5, 1]), "bt709") == pytest.approx([0.25959, 1], abs=1e-4)
    assert to_linear(np.float32([0.5, 1]), "iec61966-2-1") == pytest.approx([0.21404, 1], abs=1e-4)
    assert to_linear(np.float32([0.5, 1]), "arib-std-b67") == pytest.approx([1 / 12, 1], abs=1e-4)
    assert to_linear(np.float32([0.508078]), "smpte2084") == pytest.approx(
        [1.0], abs=2e-3
    )  # 100 nits


def test_names_and_time_codes() -> None:
    names = ("dog", "my dog", "2nd", "Hündin", "my_dog", "猫", "犬", "my-dog")
    safe = ["dog", "my_dog_2", "_2nd", "Hundin", "my_dog", "__2", "_", "my_dog_3"]
    assert layer_names(names) == dict(zip(names, safe, strict=True))
    assert layer_names(names[::-1]) == layer_names(names)
    assert str(time_code_after("00:59:59:23", Fraction(24), 1)) == "01:00:00:00"
    assert time_code_after(None, Fraction(24), 0) is None


@pytest.mark.parametrize(
    ("start", "fps", "frames", "code"),
    [
        ("00:00:59;29", 30, 1, "00:01:00;02"),  # 2 numbers a minute are left out
        ("00:09:59;29", 30, 1, "00:10:00;00"),  # not in each tenth
        ("00:00:59;59", 60, 1, "00:01:00;04"),
        ("00:00:00;00", 30, 107_892, "01:00:00;00"),  # an hour of 29.97: the clock's
        ("23:59:59;29", 30, 1, "00:00:00;00"),
        ("01:00:00:00", 25, 1500, "01:01:00:00"),
        ("00:00:59:29", 30, 1, "00:01:00:00"),
    ],
)
def test_time_codes_that_drop_numbers(start: str, fps: int, frames: int, code: str) -> None:
    rate = Fraction(fps * 1000, 1001) if ";" in start else Fraction(fps)
    assert str(time_code_after(start, rate, frames)) == code


# ------------------------------------------------------------------------------------------ common


def test_colours_go_on_under_alpha_0() -> None:
    layer = outputs((61, 83))[0].layers[0]
    out = pull_push(layer)
    assert np.array_equal(out[..., 3], layer[..., 3])
    seen = layer[..., 3] >= 1 / 510
    assert np.array_equal(out[seen], layer[seen])
    # Just outside the body, where there was black, there is the body's red.
    assert out[5, 32, 0] > 0.5 and layer[5, 32, 0] == 0


def test_a_failed_run_leaves_no_video(tmp_path: Path) -> None:
    frame = outputs((48, 64))[0]
    info = Delivery((48, 64), FRAMES, Timing(Fraction(24)))
    with (
        pytest.raises(KeyboardInterrupt),
        open_writers(["prores", "mp4", "png"], tmp_path, NAMES, info) as writers,
    ):
        writers.write(0, frame)
        raise KeyboardInterrupt
    left = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert {p.suffix for p in left} <= {".png"}


def test_objects_whose_names_hold_no_ascii_have_layers_of_their_own() -> None:
    """In the file, and in the script that takes them out of it."""
    names, size = ("猫", "犬"), (4, 6)
    plate = np.full((*size, 3), 0.5, np.float32)
    layers = np.zeros((2, *size, 4), np.float32)
    layers[0, :, :2, 3], layers[1, :, 3:, 3] = 1, 1
    channels = exr_channels(FrameOutput(0, layers, plate, plate, names, (0, 1)), "bt709")
    titles = layer_names(names)
    for name, layer in zip(names, layers, strict=True):
        assert np.array_equal(channels[f"{titles[name]}.A"], layer[..., 3])
    info = Delivery(size, 1, Timing(Fraction(24)))
    script = nuke_script(stack_of("exr", names, (0, 1), info, None), info)
    assert [*re.findall(r"Shuffle \{\n in (\w+)", script)] == ["plate", *(titles[n] for n in names)]


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--format takes png, png16.*not 'gif'"):
        open_writers(["gif"], tmp_path, NAMES, Delivery((4, 4), 1, Timing(Fraction(24))))
    assert not list(tmp_path.iterdir())


def test_exr_passes_over_each_other_are_the_layer(tmp_path: Path) -> None:
    import OpenEXR

    rng = np.random.default_rng(1)
    size = (16, 24)
    plate = rng.random((*size, 3), np.float32)
    parts = rng.random((2, *size, 4), np.float32)
    whole = merge(parts, size)
    composite = lay_over([whole], plate)
    passes = {("dog", "shadow"): parts[0], ("dog", "body"): parts[1]}
    frame = FrameOutput(0, whole[None], plate, composite, ("dog",), (0,), passes)
    info = Delivery(size, 1, Timing(Fraction(24)))
    with open_writers(["exr"], tmp_path, ["dog"], info) as writers:
        writers.write(0, frame)
    with OpenEXR.File(str(tmp_path / "exr/shot.0000.exr"), separate_channels=True) as file:
        c = {k: v.pixels.astype(np.float64) for k, v in file.channels().items()}
    got = np.stack([c[f"plate.{x}"] for x in "RGB"], -1)
    for name in ("dog_shadow", "dog_body"):
        rgba = np.stack([c[f"{name}.{x}"] for x in "RGBA"], -1)
        got = rgba[..., :3] + (1 - rgba[..., 3:]) * got
    assert np.abs(got - np.stack([c[x] for x in "RGB"], -1)).max() < 2e-3

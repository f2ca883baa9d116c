"""Input of 10 to 16 bits keeps its depth: reader, plate, layers and composite; 8 bits stay 8."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli import decompose
from omnimatte_cli.arrays import eight_bits, integers, to_float
from omnimatte_cli.camera.canvas import build_canvas
from omnimatte_cli.camera.exposure import Exposure, fit_exposure
from omnimatte_cli.camera.model import Camera
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.media.read import read_clip
from omnimatte_cli.media.samples import FrameSamples
from omnimatte_cli.plate.fill import fill_hole, membrane, smooth_fill
from omnimatte_cli.plate.load import load_plate
from omnimatte_cli.plate.settle import Samples, settle
from omnimatte_cli.plate.temporal import frame_plates
from omnimatte_cli.ranks import masked_ranks
from tests.conftest import ffmpeg, write_masks
from tests.moving_clips import plane, shoot

LEVEL = 1 / 1023  # of 10 bits
SIZE = (96, 160)
FRAMES = 8
DEEP = ("png16", "prores", "exr")


def ramp(size: tuple[int, int] = SIZE) -> np.ndarray:
    """A smooth ground (H, W, 3) float64: its red has 600 levels of 10 bits, and 150 of 8."""
    y, x = np.mgrid[: size[0], : size[1]] / size[1]
    return np.stack([0.15 + 0.5 * x + 0.15 * y, 0.8 - 0.5 * x - 0.1 * y, 0.3 + 0.3 * (y - x)], -1)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A block with a soft shadow below it crosses the ramp: (T, H, W, 3) in [0, 1], masks bool."""
    h, w = SIZE
    frames, masks = np.repeat(ramp()[None], FRAMES, 0), np.zeros((FRAMES, h, w), bool)
    for t in range(FRAMES):
        left = 6 + t * (w - 40) // (FRAMES - 1)
        shade = np.zeros(SIZE)
        shade[56:76, left : left + 28] = 0.4
        frames[t] *= 1 - cv2.GaussianBlur(shade, (0, 0), 2.5)[..., None]
        masks[t, 20:56, left : left + 24] = True
        frames[t][masks[t]] = (0.85, 0.2, 0.15)
    return frames, masks


def ten_bits(path: Path, frames: np.ndarray) -> Path:
    """A lossless video of 10 bits from frames (T, H, W, 3) in [0, 1]."""
    planes = np.moveaxis(integers(frames, 10)[..., [1, 2, 0]], -1, 1)
    raw = ["-f", "rawvideo", "-pix_fmt", "gbrp10le", "-s", f"{SIZE[1]}x{SIZE[0]}", "-r", "10"]
    ffmpeg(*raw, "-i", "pipe:", "-c:v", "ffv1", str(path), data=planes.astype("<u2").tobytes())
    return path


def images(folder: Path, frames: np.ndarray, suffix: str) -> Path:
    """16-bit images (T, H, W, 3) uint16 RGB."""
    folder.mkdir()
    for t, frame in enumerate(frames):
        assert cv2.imwrite(str(folder / f"{t:04d}{suffix}"), frame[..., ::-1])
    return folder


def read16(path: Path) -> np.ndarray:
    """A 16-bit PNG as float64 RGB(A) in [0, 1]."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16, path
    code = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(image, code) / 65535


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, np.ndarray, np.ndarray]:
    """A 10-bit video, its masks, and both as arrays."""
    folder = tmp_path_factory.mktemp("deep")
    frames, masks = scene()
    write_masks(folder / "masks" / "block", masks)
    return ten_bits(folder / "clip.mkv", frames), folder / "masks", frames, masks


@pytest.fixture(scope="module")
def out(shot, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip's result in the deep formats, with the residual plate."""
    video, masks, _, _ = shot
    out = tmp_path_factory.mktemp("result") / "out"
    decompose(video, out, masks=masks, exact=True, formats=DEEP, strangers=False)
    return out


def test_the_plate_of_a_ten_bit_clip_has_its_levels(out: Path) -> None:
    plate = read16(out / "background.png")
    error = np.abs(plate - ramp())
    assert len(np.unique(plate[..., 0])) > 500
    assert error.max() < LEVEL
    assert error.mean() < LEVEL / 3  # that of a 10-bit clip's own rounding


def test_layers_over_the_plate_are_the_ten_bit_clip(shot, out: Path) -> None:
    """With the residual plate, within one level of 10 bits, in more levels than 8 bits have."""
    _, _, frames, _ = shot
    result = read_result(out)
    assert result.layer_folder.name == "layers16"
    for t in (0, 3, 7):
        composite = result.frame(t).composite
        assert len(np.unique(integers(composite, 16)[..., 0])) > 500
        assert np.abs(composite - frames[t]).max() < LEVEL
        clean = result.frame(t, clean=True).composite
        assert np.abs(clean - frames[t]).mean() < LEVEL
    assert read16(out / "background" / "00003.png").shape == (*SIZE, 3)
    assert result.manifest["psnr"]["exact"] > 72  # 8 bits alone allow 59
    assert result.manifest["input"]["colour"]["depth"] == 10


def test_exr_and_prores_of_a_ten_bit_clip_are_as_deep(shot, out: Path) -> None:
    """8 bits alone would be off by one level of 10 bits on average."""
    import OpenEXR

    t, frames = 3, shot[2]
    with OpenEXR.File(str(out / "exr" / f"clip.{t:04d}.exr"), separate_channels=True) as file:
        c = {name: channel.pixels.astype(np.float64) for name, channel in file.channels().items()}
    light = np.stack([c[x] for x in "RGB"], -1)
    encoded = np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    assert np.abs(encoded - frames[t]).max() < LEVEL
    assert len(np.unique(c["plate.R"])) > 500
    full = "scale=in_range=limited:out_range=full:flags=bicubic+accurate_rnd+full_chroma_int"
    raw = ("-vf", full, "-f", "rawvideo", "-pix_fmt")
    data = ffmpeg("-i", str(out / "prores/plate.mov"), *raw, "rgb48le", "pipe:")
    plate = np.frombuffer(data, "<u2").reshape(FRAMES, *SIZE, 3)[t] / 65535
    layer = ffmpeg("-i", str(out / "prores/block.mov"), *raw, "rgba64le", "pipe:")
    rgba = np.frombuffer(layer, "<u2").reshape(FRAMES, *SIZE, 4)[t] / 65535
    back = plate + rgba[..., 3:] * (rgba[..., :3] - plate)
    assert np.abs(back - frames[t])[rgba[..., 3] == 0].mean() < 0.6 * LEVEL
    assert np.abs(back - frames[t]).mean() < 2 * LEVEL


def test_composing_again_keeps_the_levels(shot, out: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from omnimatte_cli.cli import app

    args = ["compose", str(out), "-o", str(tmp_path / "again"), "--format", "png16"]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 0, done.output
    files = sorted((tmp_path / "again").glob("*.png"))
    assert np.abs(read16(files[3]) - shot[2][3]).max() < LEVEL


@pytest.mark.slow
def test_a_clip_that_is_worked_on_in_eight_bits_says_so(shot, tmp_path: Path) -> None:
    """Layers of 8 bits over a plate of 16, and the user is told."""
    from tests.test_background import Said

    video, masks, _, _ = shot
    heard = Said()
    decompose(video, tmp_path / "out", masks=masks, progress=heard)
    assert any("has 10 bits" in s and "--format png16" in s for s in heard.said)
    layer = cv2.imread(str(tmp_path / "out/layers/block/00003.png"), cv2.IMREAD_UNCHANGED)
    assert layer.dtype == np.uint8
    assert np.abs(read16(tmp_path / "out/background.png") - ramp()).max() < LEVEL


@pytest.mark.parametrize("suffix", [".png", ".tif", ".exr", ".dpx"])
def test_images_keep_their_depth(suffix: str, tmp_path: Path) -> None:
    frames = integers(scene()[0], 16)
    if suffix in (".png", ".tif"):
        folder = images(tmp_path / "in", frames, suffix)
    else:
        oiio = pytest.importorskip("OpenImageIO")
        folder = tmp_path / "in"
        folder.mkdir()
        kind = oiio.HALF if suffix == ".exr" else oiio.UINT16
        for t, frame in enumerate(frames):
            file = oiio.ImageOutput.create(str(folder / f"{t:04d}{suffix}"))
            file.open(str(folder / f"{t:04d}{suffix}"), oiio.ImageSpec(SIZE[1], SIZE[0], 3, kind))
            file.write_image(frame if suffix == ".dpx" else (frame / 65535).astype(np.float16))
            file.close()
    samples = FrameSamples()
    info, clip = read_clip(folder, lambda _: (48, 80), fps=Fraction(24), each=samples.add)
    assert info.depth == 16 and samples.dtype == np.uint16 and clip.frames.dtype == np.uint8
    assert len(np.unique(samples.frame(0)[..., 0])) > 500
    if suffix != ".exr":  # which holds light
        assert np.array_equal(samples.frame(3), frames[3])


def test_eight_bits_stay_eight(tmp_path: Path) -> None:
    frames = integers(scene()[0])
    folder = images(tmp_path / "in", frames, ".png")
    samples = FrameSamples()
    info, _ = read_clip(folder, lambda _: (48, 80), each=samples.add)
    assert info.depth == 8 and samples.dtype == np.uint8
    assert np.array_equal(samples.frame(3), frames[3])
    assert eight_bits(samples.frame(3)) is not None and eight_bits(frames) is frames


def test_a_plate_of_the_users_keeps_its_depth(tmp_path: Path) -> None:
    still = integers(ramp(), 16)
    images(tmp_path / "one", still[None], ".png")
    plate = load_plate(tmp_path / "one" / "0000.png", SIZE, FRAMES)
    assert plate.image.dtype == np.uint16 and np.array_equal(plate.image, still)
    moving = np.stack([still, still[::-1], still[:, ::-1]])
    plate = load_plate(images(tmp_path / "many", moving, ".tif"), SIZE, 3)
    for image, right in zip(plate.stream(), moving, strict=True):
        assert np.array_equal(image, right)
    images(tmp_path / "flat", integers(ramp())[None], ".png")
    assert load_plate(tmp_path / "flat" / "0000.png", SIZE, FRAMES).image.dtype == np.uint8


def test_sixteen_bit_plate_under_an_eight_bit_clip(tmp_path: Path) -> None:
    """Each is taken by its own scale: a plate of another depth is not 257 times as bright."""
    frames, masks = scene()
    write_masks(tmp_path / "masks" / "block", masks)
    images(tmp_path / "in", integers(frames), ".png")
    images(tmp_path / "plate", integers(ramp(), 16)[None], ".png")
    plate = tmp_path / "plate" / "0000.png"
    result = decompose(
        tmp_path / "in", tmp_path / "out", masks=tmp_path / "masks", background=plate
    )
    assert result.manifest["psnr"]["plate_outside_layers"] > 50
    assert np.abs(read16(tmp_path / "out/background.png") - ramp()).max() < LEVEL / 8


def deep(frames: np.ndarray, seed: int = 1) -> np.ndarray:
    """uint8 frames with 8 more bits, which round to them."""
    rng = np.random.default_rng(seed)
    return np.clip(
        frames.astype(np.int64) * 257 + rng.integers(-120, 121, frames.shape), 0, 65535
    ).astype(np.uint16)


def test_plates_under_a_moving_camera_are_deep() -> None:
    """A still wall seen by a pan, without grain: errors are below what 8 bits could hold."""
    h, w = SIZE
    wide = cv2.GaussianBlur(plane(seed=2)[:h, : w + 40].astype(np.uint16) * 257, (0, 0), 2)
    moves = np.tile(np.eye(3), (10, 1, 1))
    moves[:, 0, 2] = 4 * np.arange(10)
    frames = np.stack([wide[:, 4 * t : 4 * t + w] for t in range(10)])
    masks = np.zeros((10, h, w), bool)
    masks[:, 40:60, 60:80] = True
    camera = Camera(moves, SIZE)
    assert camera.moving
    plates = frame_plates(lambda: iter(frames), camera, lambda t: masks[t], dtype=np.uint16)
    for t, plate in enumerate(plates):
        assert plate.image.dtype == np.uint16
        seen = plate.valid & (plate.samples > 2)
        assert seen.mean() > 0.9
        error = np.abs(to_float(plate.image) - to_float(frames[t]))[seen]
        eight = np.abs(to_float(eight_bits(plate.image)) - to_float(frames[t]))[seen]
        assert error.mean() < 0.6 * eight.mean()


def test_a_moving_clip_gives_the_same_plates_at_both_depths() -> None:
    clip = shoot(8, (72, 120), seed=3)
    camera = Camera(clip.homographies, (72, 120))
    both = []
    for frames in (clip.frames, deep(clip.frames)):
        stream = lambda frames=frames: iter(frames)  # noqa: E731
        hidden = lambda t: clip.masks[t]  # noqa: E731
        both.append([*frame_plates(stream, camera, hidden, dtype=frames.dtype)])
    for eight, sixteen in zip(*both, strict=True):
        apart = np.abs(to_float(eight.image) - to_float(sixteen.image))
        assert np.quantile(apart, 0.99) < 2 / 255
        assert (eight.samples == sixteen.samples).mean() > 0.98
        assert np.abs(eight.variation - sixteen.variation).mean() < 0.5 / 255


def test_light_is_followed_at_full_depth() -> None:
    reference = integers(ramp(), 16)
    light = Exposure(np.array([1.1, 0.95, 1.02]), np.array([2.0, -1.0, 0.0]), np.zeros(5))
    right = ramp() * light.gain + light.offset / 255
    lit = light.apply(reference)
    assert np.abs(lit / 65535 - right).max() < 1.5 / 65535
    assert np.abs(light.remove(lit) / 65535 - ramp()).max() < 2 / 65535
    field = Exposure(light.gain, light.offset, np.array([0.1, -0.05, 0, 0, 0.0]))
    assert np.abs(field.remove(field.apply(reference)) / 65535 - ramp()).max() < 2 / 65535
    found = fit_exposure(lit, reference, np.ones(SIZE, bool))
    assert np.abs(found.apply(reference) / 65535 - right).max() < 2 * LEVEL
    frames = np.stack([Exposure(np.full(3, g), np.zeros(3), np.zeros(5)).apply(reference)
                       for g in (0.95, 1.0, 1.05)])  # fmt: skip
    still = Camera.static(3, SIZE)
    hidden = np.zeros(SIZE, bool)
    canvas = build_canvas(lambda: iter(frames), still, lambda _: hidden, range(3), dtype=np.uint16)
    assert canvas.light_changes and canvas.image.dtype == np.uint16
    assert np.abs(canvas.image / 65535 - ramp()).mean() < 2 * LEVEL


def test_ranks_of_sixteen_bits() -> None:
    rng = np.random.default_rng(5)
    samples = rng.integers(0, 65535, (9, 500)).astype(np.uint16)
    counts = rng.integers(1, 10, 500)
    right = []
    for column, n in zip(samples.T, counts, strict=True):
        middle = np.sort(column[:n].astype(np.int64))
        right.append((middle[(n - 1) // 2] + middle[n // 2] + 1) // 2)
    for k, n in enumerate(counts):
        samples[n:, k] = 65535
    median, spread = masked_ranks(samples, counts)
    assert median.dtype == np.uint16 and np.array_equal(median, right)
    assert spread.max() > 255


def test_filling_is_the_same_at_both_depths() -> None:
    image = integers(ramp())
    hole = np.zeros(SIZE, bool)
    hole[30:50, 40:70] = True
    for fill in (fill_hole, smooth_fill):
        eight, sixteen = fill(image, hole), fill(image.astype(np.uint16) * 257, hole)
        assert sixteen.dtype == np.uint16
        assert np.abs(eight - sixteen / 257).max() < 4
        assert np.abs(sixteen / 65535 - ramp())[hole].mean() < 0.02
    smooth = smooth_fill(integers(ramp(), 16), hole)
    assert len(np.unique(smooth[hole][:, 0])) > len(np.unique(eight_bits(smooth)[hole][:, 0]))


@pytest.mark.parametrize("shift", [-20, 20])
def test_what_is_put_in_meets_the_edge_from_above_and_below(shift: int) -> None:
    """A view that is darker or brighter than what is around the hole is brought to its light."""
    image = integers(ramp())
    hole = np.zeros(SIZE, bool)
    hole[30:50, 40:70] = True
    for whole in (image, image.astype(np.uint16) * 257):
        scale = 257 if whole.dtype == np.uint16 else 1
        other = (whole.astype(np.int64) + shift * scale).astype(whole.dtype)
        joined = membrane(whole, other, hole)
        assert joined.dtype == whole.dtype
        assert np.abs(joined.astype(np.int64) - whole)[hole].max() <= 2 * scale


def test_restless_ground_is_settled_at_full_depth() -> None:
    clip = shoot(6, (72, 120), seed=4)
    hidden = clip.masks[0]
    shown = np.ones(clip.frames.shape[:3], bool)
    eight = Samples(clip.frames.copy(), shown.copy())
    sixteen = Samples(clip.frames.astype(np.uint16) * 257, shown.copy())
    settle(eight, clip.frames[0], hidden, (72, 120))
    settle(sixteen, clip.frames[0].astype(np.uint16) * 257, hidden, (72, 120))
    assert np.array_equal(eight.shown, sixteen.shown)
    apart = np.abs(eight.images[eight.shown] - sixteen.images[eight.shown] / 257)
    assert not np.array_equal(eight.images, clip.frames) and apart.max() <= 1.01

"""Colour: exact by the formula and the ffmpeg program, tags and depth kept, HDR never silent."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.errors import InputError, VideoError
from omnimatte_cli.media.colour import ColourFacts, tone_map
from omnimatte_cli.media.images import read_deep
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import iter_frames, probe
from tests.conftest import encode, ffmpeg, write_masks

LUMA = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "bt2020nc": (0.2627, 0.0593)}
SHAPE = (32, 48)


def yuv(depth: int, full: bool) -> np.ndarray:
    """Y'CbCr (3, H, W) uint16 of smooth colours within the range."""
    rng = np.random.default_rng(0)
    small = rng.uniform(0.1, 0.9, (3, 4, 6)).astype(np.float32)
    y, cb, cr = np.stack([cv2.resize(p, SHAPE[::-1]) for p in small])
    one = 1 << (depth - 8)
    luma = y * (256 * one - 1) if full else (16 + 219 * y) * one
    planes = [luma, *((128 + 60 * (c - 0.5)) * one for c in (cb, cr))]
    return np.stack(planes).round().astype(np.uint16)


def formula(planes: np.ndarray, depth: int, full: bool, matrix: str) -> np.ndarray:
    """ITU-T H.273: Y'CbCr to R'G'B' in [0, 1], (H, W, 3) float64."""
    one, top = 1 << (depth - 8), (1 << depth) - 1
    y, cb, cr = planes.astype(float)
    y = y / top if full else (y - 16 * one) / (219 * one)
    cb, cr = ((c - 128 * one) / (top if full else 224 * one) for c in (cb, cr))
    kr, kb = LUMA[matrix]
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.stack([r, g, b], -1), 0, 1)


def written(path: Path, planes: np.ndarray, depth: int, tags: str) -> Path:
    kind = "yuv444p" if depth == 8 else f"yuv444p{depth}le"
    data = planes.astype(np.uint8 if depth == 8 else "<u2").tobytes() * 3
    raw = ["-f", "rawvideo", "-pix_fmt", kind, "-s", f"{SHAPE[1]}x{SHAPE[0]}", "-i", "pipe:"]
    codec = ["-c:v", "libx264", "-qp", "0"] if depth < 12 else ["-c:v", "ffv1"]
    ffmpeg(*raw, "-vf", f"setparams={tags}", *codec, str(path), data=data)
    return path


@pytest.mark.parametrize(
    ("depth", "full"), [(8, False), (8, True), (10, False), (10, True), (12, False)]
)
@pytest.mark.parametrize("matrix", LUMA)
def test_exact(matrix: str, full: bool, depth: int, tmp_path: Path) -> None:
    planes = yuv(depth, full)
    tags = f"range={'pc' if full else 'tv'}:colorspace={matrix}"
    path = written(tmp_path / "v.mkv", planes, depth, tags)
    truth = formula(planes, depth, full, matrix)
    info = probe(path)
    assert (info.depth, info.colour.matrix) == (depth, matrix)
    assert info.colour.range == ("pc" if full else "tv") and not info.colour.assumed
    shallow = next(iter(iter_frames(path))) / 255 - truth
    assert shallow.dtype == np.float64 and np.abs(shallow).max() < 1.6 / 255
    if depth == 8:
        assert abs(shallow.mean()) < 0.1 / 255
    deep = next(iter(iter_frames(path, deep=True)))
    assert deep.dtype == np.uint16
    error = deep / 65535 - truth
    # Above 8 bits the matrix is ours; below, 8 bits are all there is.
    bound = 1.0 / 255 if depth == 8 else 0.02 / 255
    assert np.abs(error).max() < bound and abs(error.mean()) < bound / 5


@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p10le", "yuv420p12le"])
def test_subsampled_without_bias(kind: str, tmp_path: Path) -> None:
    """Against the ffmpeg program's exact conversion; its default is 1.1 to 2 levels too dark."""
    rng = np.random.default_rng(1)
    picture = cv2.resize(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8), (320, 180))
    tags = "range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    scaled = "scale=out_color_matrix=bt709:out_range=limited:flags=accurate_rnd+full_chroma_int"
    filters = f"{scaled},format={kind},setparams={tags}"
    path = encode(tmp_path / "v.mkv", np.stack([picture] * 3), "-vf", filters, "-c:v", "ffv1")
    exact = ["-vf", "scale=flags=bicubic+accurate_rnd+full_chroma_int", "-frames:v", "1"]
    raw = ffmpeg("-i", str(path), *exact, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    oracle = np.frombuffer(raw, np.uint8).reshape(picture.shape).astype(int)
    got = next(iter(iter_frames(path))).astype(int)
    assert np.abs(got - oracle).max() == 0
    assert abs((got - picture).mean()) < 0.2
    deep = next(iter(iter_frames(path, deep=True))) / 257 - picture
    assert abs(deep.mean()) < 0.2


def test_rgb_and_grey_keep_their_depth(tmp_path: Path) -> None:
    for kind, full in (("gbrp10le", 1023), ("gbrp12le", 4095), ("rgb48le", 65535)):
        rng = np.random.default_rng(0)
        values = rng.integers(0, full * 3 // 4, (*SHAPE, 3))  # no pixel tells the range
        order = values if kind == "rgb48le" else np.stack([values[..., c] for c in (1, 2, 0)])
        raw = ["-f", "rawvideo", "-pix_fmt", kind, "-s", f"{SHAPE[1]}x{SHAPE[0]}", "-i", "pipe:"]
        data = order.astype("<u2").tobytes() * 3
        ffmpeg(*raw, "-c:v", "ffv1", str(tmp_path / "v.mkv"), data=data)
        deep = next(iter(iter_frames(tmp_path / "v.mkv", deep=True)))
        assert np.abs(deep / 65535 - values / full).max() < 2 / 65535, kind
        assert probe(tmp_path / "v.mkv").colour.matrix == "gbr"


# --------------------------------------------------------------------------------------------- HDR

PQ = "range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=smpte2084"
HLG = "range=tv:colorspace=bt2020nc:color_primaries=bt2020:color_trc=arib-std-b67"


@pytest.mark.parametrize(("tags", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_hdr_is_said(tags: str, name: str, tmp_path: Path) -> None:
    path = written(tmp_path / "v.mkv", yuv(10, False), 10, tags)
    info = probe(path)
    assert info.colour.hdr and info.colour.wide and info.colour.primaries == "bt2020"
    assert any(name in n and "--tone-map" in n for n in info.notes)
    options = ReadOptions(tone_map=True)
    assert any(name in n and "tone mapping" in n for n in probe(path, options=options).notes)
    mapped = next(iter(iter_frames(path, deep=True, options=options)))
    assert mapped.dtype == np.uint16 and (mapped != next(iter(iter_frames(path, deep=True)))).any()


def test_tone_mapping() -> None:
    """Grey stays grey; 58 % of PQ and 75 % of HLG are diffuse white; more light is never darker."""
    ramp = np.repeat(np.linspace(0, 65535, 1024).astype(np.uint16)[None, :, None], 3, 2)
    for transfer, white in (("smpte2084", 0.581), ("arib-std-b67", 0.75)):
        facts = ColourFacts("bt2020nc", "tv", "bt2020", transfer, 10)
        out = tone_map(ramp, facts)[0].astype(int)
        assert np.ptp(out, axis=1).max() <= 70 and (np.diff(out[:, 0]) >= 0).all()
        assert 0.9 < out[round(white * 1023), 0] / 65535 < 1
        assert out[0].max() == 0 and out[-1].min() > 65000


# ------------------------------------------------------------------------------- folders of images


def ramp16() -> np.ndarray:
    """(T, H, W, 3) uint16 with all low bits in use, BGR."""
    rng = np.random.default_rng(2)
    return rng.integers(0, 65536, (3, *SHAPE, 3), dtype=np.uint16)


def test_sixteen_bit_images(tmp_path: Path) -> None:
    for suffix in ("png", "tiff"):
        folder = write_masks(tmp_path / suffix, ramp16(), name="{:04d}." + suffix)
        got = np.stack(list(iter_frames(folder, deep=True)))
        np.testing.assert_array_equal(got, ramp16()[..., ::-1])
        assert probe(folder).depth == 16
        shallow = np.stack(list(iter_frames(folder)))
        assert np.abs(shallow - got / 257).max() <= 0.5 + 1e-9


def film(path: Path, image: np.ndarray) -> None:
    import OpenImageIO as oiio

    kinds = {"uint8": oiio.UINT8, "uint16": oiio.UINT16, "float32": oiio.HALF}
    spec = oiio.ImageSpec(image.shape[1], image.shape[0], image.shape[2], kinds[str(image.dtype)])
    path.parent.mkdir(exist_ok=True)
    file = oiio.ImageOutput.create(str(path))
    assert file and file.open(str(path), spec) and file.write_image(image) and file.close()


def test_a_matrix_without_a_way_to_rgb_is_named(tmp_path: Path, clip) -> None:
    tag = ("-x264-params", "colormatrix=YCgCo", "-pix_fmt", "yuv420p")
    path = encode(tmp_path / "v.mp4", clip[0], "-c:v", "libx264", *tag)
    with pytest.raises(VideoError, match=r"frame 0 cannot be turned into RGB \(matrix ycgco"):
        list(iter_frames(path))


def test_a_data_window_is_put_into_the_picture(tmp_path: Path) -> None:
    import OpenImageIO as oiio

    whole = np.random.default_rng(0).uniform(0, 1, (20, 30, 3)).astype(np.float32)
    for t, (top, left, height, width) in enumerate(
        ((4, 6, 10, 12), (-2, -3, 25, 40), (0, 0, 20, 30))
    ):
        part = np.zeros((height, width, 3), np.float32)
        rows, columns = (np.arange(height) + top), (np.arange(width) + left)
        inside = np.ix_((rows >= 0) & (rows < 20), (columns >= 0) & (columns < 30))
        shown = np.ix_(rows[(rows >= 0) & (rows < 20)], columns[(columns >= 0) & (columns < 30)])
        part[inside] = whole[shown]
        spec = oiio.ImageSpec(width, height, 3, oiio.FLOAT)
        spec.x, spec.y, spec.full_width, spec.full_height = left, top, 30, 20
        spec.channelnames = tuple(f"beauty.{c}" for c in "RGB")  # a layer of its own
        file = oiio.ImageOutput.create(str(tmp_path / f"{t}.exr"))
        assert file.open(str(tmp_path / f"{t}.exr"), spec) and file.write_image(part)
        assert file.close()
        meant = np.zeros_like(whole)
        meant[shown] = whole[shown]
        got = read_deep(tmp_path / f"{t}.exr")
        assert got is not None
        np.testing.assert_array_equal(got[..., ::-1], meant)


def test_one_of_several_layers_is_not_guessed(tmp_path: Path) -> None:
    import OpenImageIO as oiio

    spec = oiio.ImageSpec(8, 6, 6, oiio.HALF)
    spec.channelnames = tuple(f"{layer}.{c}" for layer in ("beauty", "diffuse") for c in "RGB")
    path = tmp_path / "0.exr"
    file = oiio.ImageOutput.create(str(path))
    assert file.open(str(path), spec) and file.write_image(np.ones((6, 8, 6), np.float32))
    assert file.close()
    with pytest.raises(InputError, match="file of its own"):
        read_deep(path)


def test_colours_under_transparency_are_as_they_are_stored(tmp_path: Path) -> None:
    height, width = SHAPE
    sizes = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    header = bytes([0, 0, 2, *[0] * 9]) + sizes + bytes([32, 40])  # BGRA, the top row first
    (tmp_path / "in").mkdir()
    for t, alpha in enumerate((0, 60, 255)):
        pixels = bytes([220, 60, 40, alpha]) * (width * height)
        (tmp_path / "in" / f"{t}.tga").write_bytes(header + pixels)
    got = np.stack(list(iter_frames(tmp_path / "in")))
    np.testing.assert_array_equal(got, np.broadcast_to(np.uint8([40, 60, 220]), got.shape))


@pytest.mark.parametrize("suffix", ["exr", "dpx", "tga", "tiff"])
def test_film_formats(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    light = rng.uniform(0, 1, (*SHAPE, 3)).astype(np.float32)
    light[0, 0] = (1, 0.5, 0)
    folder = tmp_path / suffix
    for t in range(3):
        path = folder / f"shot.{1001 + t}.{suffix}"
        if suffix == "dpx":
            film(path, (light * 65535).astype(np.uint16))
        elif suffix == "tga":
            film(path, (light * 255).astype(np.uint8))
        elif suffix == "exr":
            film(path, light * np.float32(1.5))
        else:
            folder.mkdir(exist_ok=True)
            cv2.imwrite(str(path), light[..., ::-1])
    info = probe(folder, fps=Fraction(25))
    got = next(iter(iter_frames(folder, deep=True))) / 65535
    if suffix in ("exr", "tiff"):
        value = np.minimum(light * (1.5 if suffix == "exr" else 1), 1)
        truth = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
        assert info.colour.transfer == "linear" and any("scene-linear" in n for n in info.notes)
        assert (suffix == "exr") == any("above 1" in n for n in info.notes)
    else:
        truth = light
    assert np.abs(got - truth).max() < (1 / 255 if suffix == "tga" else 2e-3)
    assert info.first_number == 1001 and info.frames == 3
    (folder / f"shot.1002.{suffix}").write_bytes(b"nothing")
    with pytest.raises(VideoError, match=rf"Frame 1 .*shot\.1002\.{suffix}"):
        probe(folder)


def test_turned_photographs(tmp_path: Path) -> None:
    """JPEGs turned by EXIF come out as a viewer shows them."""
    from PIL import Image

    wide = np.zeros((32, 48, 3), np.uint8)
    wide[:, :16] = 255
    for t in range(3):
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held upright
        Image.fromarray(wide).save(tmp_path / f"{t}.jpg", exif=exif)
    got = next(iter(iter_frames(tmp_path)))
    assert got.shape == (48, 32, 3) and got[:10].mean() > 250 and got[-10:].mean() < 5


def test_numbers_of_images(tmp_path: Path) -> None:
    video = ramp16()[:, ::4, ::4] >> 8
    video = np.concatenate([video] * 3).astype(np.uint8)
    folder = write_masks(tmp_path / "f", video, first=1001, name="shot.{}.png")
    info = probe(folder)
    assert info.frame_numbers == tuple(range(1001, 1010)) and info.names[0] == "shot.1001"
    assert any("24 per second" in n and "--fps" in n for n in info.notes)
    assert probe(folder, fps=Fraction(24000, 1001)).fps == Fraction(24000, 1001)
    assert not any("--fps" in n for n in probe(folder, fps=Fraction(25)).notes)
    (folder / "shot.1004.png").unlink()
    info = probe(folder)
    assert any("1004" in n and "missing" in n for n in info.notes) and info.frames == 8
    assert info.frame_numbers[2:4] == (1003, 1005)
    uneven = write_masks(tmp_path / "t", video[:3], name="16900012345{}7.png")
    (uneven / "1690001234507.png").rename(uneven / "1690001233503.png")
    assert not any("missing" in n for n in probe(uneven).notes)


def test_a_tiff_of_eight_bits_keeps_its_colours_under_transparency(tmp_path: Path) -> None:
    from PIL import Image

    rgba = np.random.default_rng(2).integers(0, 256, (24, 32, 4), np.uint8)
    for t, how in enumerate((None, "tiff_lzw", "tiff_deflate")):
        Image.fromarray(rgba).save(tmp_path / f"{t}.tif", compression=how)
    for got in iter_frames(tmp_path, alpha=True):
        np.testing.assert_array_equal(got, rgba)


@pytest.mark.parametrize("suffix", ["exr", "dpx"])
def test_pixels_of_film_formats_that_are_not_square(suffix: str, tmp_path: Path) -> None:
    import OpenImageIO as oiio

    for t in range(3):
        path = tmp_path / f"{t}.{suffix}"
        spec = oiio.ImageSpec(32, 24, 3, oiio.HALF if suffix == "exr" else oiio.UINT16)
        spec.attribute("PixelAspectRatio", 2.0)
        file = oiio.ImageOutput.create(str(path))
        assert file.open(str(path), spec)
        assert file.write_image(np.full((24, 32, 3), 0.25 * t, np.float32)) and file.close()
    info = probe(tmp_path)
    assert info.sar == 2 and any("not square (2:1)" in note for note in info.notes)


@pytest.mark.parametrize("primaries", ["bt2020", "smpte432"])
def test_tone_mapping_by_the_primaries_of_the_video(primaries: str) -> None:
    """BT.709's red, written in wider primaries as PQ, is BT.709's red again."""
    to_wide = {
        "bt2020": [0.6274, 0.0691, 0.0164],  # ITU-R BT.2087
        "smpte432": [0.8225, 0.0332, 0.0171],  # SMPTE EG 432-1's primaries
    }[primaries]
    light = np.array(to_wide) * 0.5 * 203 / 10_000
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    signal = ((c1 + c2 * light**m1) / (1 + c3 * light**m1)) ** m2
    rgb = np.rint(np.tile(signal, (2, 2, 1)) * 65535).astype(np.uint16)
    got = tone_map(rgb, ColourFacts("bt2020nc", "tv", primaries, "smpte2084", 10))[0, 0] / 65535
    assert abs(got[0] - (1.099 * 0.5**0.45 - 0.099)) < 0.01 and max(got[1:]) < 0.02

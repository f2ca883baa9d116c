"""What people hand in as masks: each kind is read as it was meant, or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.errors import MaskError, OptionError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media.options import ReadOptions
from tests.conftest import encode, write_indexed, write_masks

FRAMES, SIZE = 5, (72, 96)
COLOURS = {"car": (48, 112, 32), "van": (250, 50, 83), "bus": (0, 128, 0)}  # RGB


def objects() -> np.ndarray:
    """Three blobs that move and do not touch: (3, T, H, W) bool."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    out = np.zeros((3, FRAMES, *SIZE), bool)
    for t in range(FRAMES):
        out[0, t] = ((x - 18 - t) ** 2 / 1.5 + (y - 20) ** 2) < 110
        out[1, t] = (abs(x - 66 + t) < 11) & (abs(y - 20) < 9)
        out[2, t] = ((x - 40 - 2 * t) ** 2 + (y - 54) ** 2) < 120
    return out


def photograph() -> np.ndarray:
    """Something textured and coloured, (T, H, W, 3) uint8."""
    rng = np.random.default_rng(1)
    texture = sum(
        cv2.resize(rng.normal(0, 30, (SIZE[0] // s, SIZE[1] // s, 3)), SIZE[::-1])
        for s in (1, 3, 9)
    )
    picture = np.clip(130 + texture, 0, 255).astype(np.uint8)
    return np.stack([np.roll(picture, t, 1) for t in range(FRAMES)])


def smooth(images: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(i, (0, 0), sigma) for i in images])


def levels(*values: int) -> np.ndarray:
    """The blobs at these grey levels, (T, H, W) uint8."""
    return sum(o * np.uint8(v) for o, v in zip(objects(), values, strict=False))


def colours(*names: str) -> np.ndarray:
    """The blobs in these colours, (T, H, W, 3) uint8 BGR."""
    out = np.zeros((FRAMES, *SIZE, 3), np.uint8)
    for blob, name in zip(objects(), names, strict=False):
        out[blob] = COLOURS[name][::-1]
    return out


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def check(loaded: Masks, which: tuple[int, ...], least: float = 0.999) -> None:
    """Each of these blobs is one of the objects, and there are no others."""
    truth = objects()
    assert len(loaded.names) == len(which), loaded.names
    got = np.stack([loaded.frame(t) for t in range(FRAMES)], 1)
    for i in which:
        best = max(iou(g, truth[i]) for g in got)
        assert best >= least, (i, best)


def load(folder: Path, **options) -> Masks:
    return load_masks(folder, FRAMES, SIZE, options=ReadOptions(**options))


def shade(masks: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.where(masks, np.uint8(high), np.uint8(low))


# ------------------------------------------------------------------- series of images, one a frame

ONE = objects()[0]
CUTOUT = np.concatenate([photograph(), (ONE * np.uint8(255))[..., None]], -1)
TWO_WITH_ALPHA = np.concatenate(
    [colours("car", "van"), (objects()[:2].any(0) * np.uint8(255))[..., None]], -1
)
VOID_RING = np.stack([cv2.dilate(o.astype(np.uint8), np.ones((15, 15))) for o in objects()[0]])
RING = np.stack([cv2.dilate(o.astype(np.uint8), np.ones((5, 5))) for o in ONE])

SPECKS = np.zeros((FRAMES, *SIZE), bool)
SPECKS[:, 60, 5] = SPECKS[2, 4:6, 90:92] = True
VOID_SIDE = np.broadcast_to(np.arange(SIZE[1]) >= 36, (FRAMES, *SIZE))
GREY_CUTOUT = np.stack(
    [*[np.where(np.arange(SIZE[1]) < 16, 0, np.where(ONE, 200, 1)).astype(np.uint8)] * 3,
     ONE * np.uint8(255)], -1,
)  # fmt: skip
GREY_ON_NOTHING = np.stack(
    [*[np.maximum(levels(1, 2), np.uint8(1))] * 3, (levels(1, 2) > 0) * np.uint8(255)], -1
)
SERIES: dict[str, tuple[np.ndarray, tuple[int, ...], float]] = {
    # images, which blobs, least IoU
    "two levels": (shade(ONE, 40, 90), (0,), 1),
    "limited range": (shade(ONE, 16, 235), (0,), 1),
    "soft": (smooth(shade(ONE, 0, 255), 2.5), (0,), 0.93),
    "soft 16 bit": (smooth(shade(ONE, 0, 255).astype(np.uint16) * 257, 2), (0,), 0.95),
    "trimap": (np.maximum(shade(ONE, 0, 255), VOID_RING * np.uint8(120)), (0,), 1),
    "alpha of a cutout": (CUTOUT, (0,), 1),
    "colours behind alpha": (TWO_WITH_ALPHA, (0, 1), 1),
    "specks of level 1": (np.where(SPECKS, np.uint8(1), shade(ONE, 0, 255)), (0,), 1),
    "a small label and a large void": (
        np.maximum(levels(1), np.uint8(255) * VOID_SIDE),
        (0,),
        1,
    ),
    "a cutout in greys": (GREY_CUTOUT, (0,), 1),
    "grey labels on transparency": (GREY_ON_NOTHING, (0, 1), 1),
    "labels 0 1 2": (levels(1, 2), (0, 1), 1),
    "labels 0 1 2 3 in 16 bit": (levels(1, 2, 3).astype(np.uint16), (0, 1, 2), 1),
    "instance numbers in 16 bit": (
        levels(1, 2).astype(np.uint16) * 1000 + (levels(1, 2) > 0) * np.uint16(25000),
        (0, 1),
        1,
    ),
    "plateaus 38 and 75": (levels(38, 75), (0, 1), 1),
    "plateaus with smoothed edges": (smooth(levels(38, 75)), (0, 1), 0.9),
    "plateaus with void": (levels(38, 75, 255), (0, 1), 1),
    "small labels with void": (levels(1, 255, 2), (0, 2), 1),
    "labels over the whole range": (levels(85, 170, 255), (0, 1, 2), 1),
    "one colour": (colours("car"), (0,), 1),
    "two colours": (colours("car", "van"), (0, 1), 1),
    "three colours, smoothed": (smooth(colours("car", "van", "bus")), (0, 1, 2), 0.9),
}


@pytest.mark.parametrize("kind", SERIES)
def test_series_of_images(kind: str, tmp_path: Path) -> None:
    images, which, least = SERIES[kind]
    check(load(write_masks(tmp_path / "m", images)), which, least)


@pytest.mark.parametrize("quality", [60, 95])
@pytest.mark.parametrize(
    ("images", "which"),
    [
        (shade(ONE, 0, 255), (0,)),
        (smooth(shade(ONE, 16, 235), 2), (0,)),
        (levels(80, 160, 240), (0, 1, 2)),
        (colours("car", "van"), (0, 1)),
    ],
    ids=["two levels", "soft", "labels", "colours"],
)
def test_jpeg(images: np.ndarray, which: tuple[int, ...], quality: int, tmp_path: Path) -> None:
    for t, image in enumerate(images):
        wide = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
        (tmp_path / "m").mkdir(exist_ok=True)
        path = str(tmp_path / "m" / f"{t}.jpg")
        cv2.imwrite(path, wide, [cv2.IMWRITE_JPEG_QUALITY, quality])
    check(load(tmp_path / "m"), which, 0.88)


PALETTES = {
    # palette, images of indices, which blobs
    "colours": ([(0, 0, 0), (128, 0, 0), (0, 128, 0)], levels(1, 2), (0, 1)),
    "grey labels": ([(0, 0, 0), (100, 100, 100), (200, 200, 200)], levels(1, 2), (0, 1)),
    "grey ramp, soft": ([(i, i, i) for i in range(256)], smooth(shade(ONE, 0, 255)), (0,)),
    "shuffled black and white": ([(255, 255, 255), (0, 0, 0)], shade(ONE, 1, 0), (0,)),
    "void": ([(0, 0, 0)] + [(128, i, 0) for i in range(255)], levels(3, 255, 7), (0, 2)),
    "smoothed edges": (
        [(0, 0, 0), (200, 0, 0), (0, 200, 0), (100, 0, 0), (0, 100, 0)],
        np.where(
            (RING > 0) & ~ONE,
            np.uint8(3),
            levels(1, 2),
        ),
        (0, 1),
    ),
}


@pytest.mark.parametrize("kind", PALETTES)
def test_palettes(kind: str, tmp_path: Path) -> None:
    colours_of, indices, which = PALETTES[kind]
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colours_of)] = colours_of
    for t in range(FRAMES):
        write_indexed(tmp_path / "m" / f"{t:04d}.png", indices[t], palette)
    check(load(tmp_path / "m"), which, 0.6 if kind == "smoothed edges" else 0.93)


# ------------------------------------------------------------------------------------------ videos


@pytest.mark.parametrize(
    ("count", "pixels", "args"),
    [
        (1, shade(ONE, 0, 255), "-c:v libx264 -crf 30 -pix_fmt yuv420p"),
        (1, smooth(shade(ONE, 16, 235), 2), "-c:v libx264 -crf 23 -pix_fmt yuv420p"),
        (1, shade(ONE, 0, 255), "-vf scale=out_range=limited -c:v libx264 -pix_fmt gray"),
        (1, shade(ONE, 0, 255), "-c:v mpeg4 -q:v 6"),
        (3, levels(85, 170, 255), "-c:v libx264 -crf 12 -pix_fmt yuv420p"),
        (2, colours("car", "van")[..., ::-1], "-c:v libx264 -crf 12 -pix_fmt yuv444p"),
    ],
    ids=["noise", "limited soft", "grey", "mpeg4", "labels", "colours"],
)
def test_videos(count: int, pixels: np.ndarray, args: str, tmp_path: Path) -> None:
    pixels = pixels if pixels.ndim == 4 else np.repeat(pixels[..., None], 3, -1)
    wide = pixels.repeat(3, 1).repeat(3, 2)
    encode(tmp_path / "m.mp4", wide, *args.split())
    check(load(tmp_path / "m.mp4"), tuple(range(count)), 0.85)


@pytest.mark.parametrize(
    ("args", "name"),
    [("-c:v ffv1 -pix_fmt gray", "m.mkv"), ("-c:v png -pix_fmt gray", "m.mov"),
     ("-c:v huffyuv -pix_fmt yuv422p", "m.avi"), ("-c:v rawvideo -pix_fmt gray", "m.nut")],
)  # fmt: skip
def test_small_labels_of_a_codec_that_loses_nothing(args: str, name: str, tmp_path: Path) -> None:
    labels = levels(1, 2, 4) if "gray" in args else levels(1, 3, 7)
    encode(tmp_path / name, np.repeat(labels[..., None], 3, -1), *args.split())
    check(load(tmp_path / name), (0, 1, 2), 1)


@pytest.mark.parametrize("codec", ["ffv1", "huffyuv", "utvideo"])
@pytest.mark.parametrize("kind", ["yuv420p", "yuv422p", "yuv444p", "gbrp"])
def test_colours_of_a_codec_that_loses_nothing(codec: str, kind: str, tmp_path: Path) -> None:
    """Of two or four pixels that share their colours each has a level of its own."""
    wide = colours("car", "van", "bus")[..., ::-1].repeat(4, 1).repeat(4, 2)
    encode(tmp_path / "m.mkv", wide, "-c:v", codec, "-pix_fmt", kind)
    loaded = load_masks(tmp_path / "m.mkv", FRAMES, (4 * SIZE[0], 4 * SIZE[1]))
    small = Masks.from_arrays(
        np.stack([[loaded.at(i, t)[2::4, 2::4] for t in range(FRAMES)] for i in range(3)]),
        loaded.names,
    )
    check(small, (0, 1, 2), 0.95)


def test_deep_labels_of_a_codec_that_loses_nothing(tmp_path: Path) -> None:
    raw = ["-f", "rawvideo", "-pix_fmt", "gray16le", "-s", f"{SIZE[1]}x{SIZE[0]}", "-i", "pipe:"]
    from tests.conftest import ffmpeg

    data = levels(1, 2, 3).astype("<u2").tobytes()
    ffmpeg(*raw, "-c:v", "ffv1", "-pix_fmt", "gray16le", str(tmp_path / "m.mkv"), data=data)
    check(load(tmp_path / "m.mkv"), (0, 1, 2), 1)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
@pytest.mark.parametrize("rest", ["picture", "white"])
def test_alpha_of_webm(codec: str, rest: str, tmp_path: Path) -> None:
    """FFmpeg's own VP8 and VP9 decoders leave the alpha out."""
    rgb = photograph() if rest == "picture" else np.full((FRAMES, *SIZE, 3), 255, np.uint8)
    rgba = np.concatenate([rgb, (ONE * np.uint8(255))[..., None]], -1)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgba", "-s", f"{SIZE[1]}x{SIZE[0]}", "-i", "pipe:"]
    from tests.conftest import ffmpeg

    args = ["-c:v", codec, "-pix_fmt", "yuva420p", "-crf", "10", "-b:v", "1M", "-auto-alt-ref", "0"]
    ffmpeg(*raw, *args, str(tmp_path / "car.webm"), data=rgba.tobytes())
    loaded = load(tmp_path)
    assert loaded.names == ("car",)
    check(loaded, (0,), 0.9)


# ----------------------------------------------------------------------------------------- layouts


def nested(folder: Path) -> None:
    write_masks(folder / "export" / "car", objects()[0])
    write_masks(folder / "export" / "van", objects()[1])


def nested_objects(folder: Path) -> None:
    write_masks(folder / "car" / "masks", objects()[0])
    write_masks(folder / "van" / "masks", objects()[1])


def labels_below(folder: Path) -> None:
    write_masks(folder / "Annotations" / "480p" / "clip", levels(1, 2))


def folder_per_frame(folder: Path) -> None:
    for t in range(FRAMES):
        for name, blob in zip(("car", "van"), objects(), strict=False):
            if (name, t) != ("van", 2):
                (folder / f"{t:05d}").mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(folder / f"{t:05d}" / f"{name}.png"), blob[t] * np.uint8(255))


def voc(folder: Path) -> None:
    write_masks(folder / "SegmentationClass", colours("car", "car"))
    write_masks(folder / "SegmentationObject", colours("car", "van"))
    (folder / "ImageSets").mkdir()


LAYOUTS: dict[str, tuple[Callable[[Path], None], float]] = {
    "nested one deeper": (nested, 1),
    "objects nested one deeper": (nested_objects, 1),
    "label maps below": (labels_below, 1),
    "folder per frame": (folder_per_frame, 0.75),
    "VOC": (voc, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, tmp_path: Path) -> None:
    make, least = LAYOUTS[layout]
    make(tmp_path / "masks")
    loaded = load(tmp_path / "masks")
    check(loaded, (0, 1), least)
    if layout not in ("label maps below", "VOC"):
        assert loaded.names == ("car", "van")
    if layout == "folder per frame":
        assert not loaded.at(1, 2).any() and loaded.at(0, 2).any()


COCO = {"categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}], "annotations": []}
CVAT = [{"name": "car", "color": "#307020"}, {"name": "van", "color": "#fa3253"}]
NAMES = {
    "labels.txt": ("labels.txt", "background\ncar\nvan\n", levels(1, 2)),
    "numbered": ("labels.txt", "1 car\n2 van\n", levels(1, 2)),
    "labelmap": ("labelmap.txt", "# label:rgb\ncar:48,112,32::\nvan:250,50,83::\n", None),
    "camvid": ("label_colors.txt", "0 0 0 background\n48 112 32 car\n250 50 83 van\n", None),
    "coco": ("instances.json", json.dumps(COCO), levels(1, 2)),
    "cvat": ("labels.json", json.dumps(CVAT), None),
}


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("kind", NAMES)
def test_names(kind: str, beside: bool, tmp_path: Path) -> None:
    file, text, images = NAMES[kind]
    images = colours("car", "van") if images is None else images
    folder = write_masks(tmp_path / "m" if beside else tmp_path / "m" / "maps", images)
    (tmp_path / "m" / file).write_text(text)
    loaded = load(tmp_path / "m")
    assert loaded.names == ("car", "van"), (folder, loaded.names)


# ----------------------------------------------------------------------------------------- refused


def refused(folder: Path, *words: str, **options) -> None:
    with pytest.raises((MaskError, OptionError)) as caught:
        load(folder, **options)
    message = str(caught.value)
    assert all(w in message for w in words) and message.endswith(".") and "\n" not in message
    assert caught.value.exit_code == 2


GREY = np.stack([cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in photograph()])
PICTURES = {
    "colour": (photograph(), "colour picture"),
    "grey": (GREY, "many grey levels"),
    "foreground over green": (
        np.where(
            ONE[..., None],
            np.maximum(photograph(), 60) - 60,
            np.array([155, 255, 120], np.uint8),
        ).astype(np.uint8),
        "colour picture",
    ),
    "foreground": (np.where(ONE[..., None], photograph(), 0).astype(np.uint8), "colour picture"),
    "grey foreground": (np.where(ONE, GREY, 0).astype(np.uint8), "many grey levels"),
    "picture with alpha of nothing": (
        np.concatenate([photograph(), np.full((FRAMES, *SIZE, 1), 255, np.uint8)], -1),
        "colour picture",
    ),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_are_refused(kind: str, tmp_path: Path) -> None:
    images, words = PICTURES[kind]
    write_masks(tmp_path / "m" / "thing", images)
    refused(tmp_path / "m", "'thing'", words)


def test_foreground_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    matte = np.repeat(shade(ONE, 0, 255)[..., None], 3, -1)
    encode(tmp_path / "m" / "clip_fgr.mp4", photograph(), "-c:v", "libx264", "-crf", "20")
    encode(tmp_path / "m" / "clip_pha.mp4", matte, "-c:v", "libx264", "-crf", "20")
    refused(tmp_path / "m", "clip_fgr", "colour picture")
    (tmp_path / "m" / "clip_fgr.mp4").unlink()
    check(load(tmp_path / "m"), (0,), 0.85)


def test_several_mattes_in_one_folder_are_refused(tmp_path: Path) -> None:
    write_masks(tmp_path / "m", objects()[0], name="car_{:04d}.png")
    write_masks(tmp_path / "m", objects()[1], name="van_{:04d}.png")
    refused(tmp_path / "m", "both", "folder of its own")


def test_files_that_nobody_reads_are_named(tmp_path: Path) -> None:
    write_masks(tmp_path / "m" / "car", shade(ONE, 0, 255))
    np.save(tmp_path / "m" / "dog.npy", ONE)
    (tmp_path / "m" / "readme.txt").write_text("masks")
    (note,) = load(tmp_path / "m").notes
    assert "dog.npy" in note and "readme" not in note


def test_inverted(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "m", ~ONE)
    refused(folder, "inverted", "--invert-masks", "%")
    check(load(folder, invert_masks=True), (0,))
    small = np.zeros_like(ONE)
    small[:, 8:-8, 8:-8] = True  # less than 80 % when inverted, but all of the border
    refused(write_masks(tmp_path / "b", ~small), "border", "--invert-masks")
    write_masks(tmp_path / "c", levels(1, 2))
    refused(tmp_path / "c", "--invert-masks", "several objects", invert_masks=True)
    refused(write_masks(tmp_path / "d", ONE), "without --invert-masks", invert_masks=True)


def test_somebody_passes_right_before_the_lens(tmp_path: Path) -> None:
    masks = ONE.copy()
    masks[2] = True
    loaded = load(write_masks(tmp_path / "m", masks))
    assert loaded.at(0, 2).all()
    np.testing.assert_array_equal(loaded.at(0, 3), masks[3])

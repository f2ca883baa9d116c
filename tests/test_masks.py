"""Masks in every layout and value range that people have, and every way in which they are wrong."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.arrays import Masks
from omnimatte_cli.errors import MaskError
from omnimatte_cli.masks.load import load_masks
from tests.conftest import encode, write_indexed, write_masks

SIZE = (36, 64)
FRAMES = 6


@pytest.fixture
def masks(clip) -> np.ndarray:
    return clip[1]


def load(folder: Path, order: str | None = None) -> Masks:
    return load_masks(folder, FRAMES, SIZE, order)


def same(loaded: Masks, *expected: np.ndarray) -> bool:
    """Whether every object's masks are exactly these."""
    got = np.stack([loaded.frame(t) for t in range(len(loaded))], axis=1)
    return got.shape == np.stack(expected).shape and bool((got == np.stack(expected)).all())


# ----------------------------------------------------------------------------------------- layouts


def test_folder_per_object(tmp_path: Path, masks) -> None:
    write_masks(tmp_path / "dog2", masks)
    write_masks(tmp_path / "dog10", masks[::-1], first=1)
    loaded = load(tmp_path)
    assert loaded.names == ("dog2", "dog10") and loaded.order_source == "alphabetical"
    assert same(loaded, masks, masks[::-1]) and loaded.notes == ()
    assert loaded.order.tolist() == [[0, 1]] * FRAMES


def test_stray_files_are_ignored(tmp_path: Path, masks, clip) -> None:
    write_masks(tmp_path / "dog", masks)
    for stray in ("masks.json", ".DS_Store", "Thumbs.db", "dog/Thumbs.db", "dog/._00000.png"):
        (tmp_path / stray).write_text("{}")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / ".hidden").mkdir()
    encode(tmp_path / "preview.mp4", clip[0], "-c:v", "libx264", "-pix_fmt", "yuv420p")
    assert load(tmp_path).names == ("dog",)


def test_videos_and_folders_side_by_side(tmp_path: Path, masks) -> None:
    write_masks(tmp_path / "b", masks)
    white = np.repeat(masks[..., None], 3, -1) * np.uint8(255)
    encode(tmp_path / "a.mkv", white, "-c:v", "ffv1")
    encode(tmp_path / "c.mp4", white, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    loaded = load(tmp_path)
    assert loaded.names == ("a", "b", "c")
    for t in range(FRAMES):
        a, b, c = loaded.frame(t)
        assert (a == masks[t]).all() and (b == masks[t]).all()
        assert (
            c != masks[t]
        ).sum() <= 8  # a lossy codec may move an edge pixel, but adds no specks
    assert same(load(tmp_path / "a.mkv"), masks)  # one video, given itself


@pytest.mark.parametrize("depth", [1, 8])
def test_indexed_pngs(depth: int, tmp_path: Path, masks) -> None:
    """Indices count, not colours, of which two are alike here; 255 is void."""
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = palette[3] = (128, 0, 0)
    palette[255] = 255
    other = np.roll(masks, 9, axis=1) & ~masks
    for t in range(FRAMES):
        indices = masks[t] * np.uint8(1) if depth == 1 else masks[t] * np.uint8(3) + other[t]
        if depth == 8:
            indices[-1] = 255
        write_indexed(tmp_path / "car" / f"{t:05d}.png", indices, palette)
    loaded = load(tmp_path / "car")
    if depth == 1:
        assert loaded.names == ("object1",) and same(loaded, masks)
    else:
        other[:, -1] = False
        assert loaded.names == ("object1", "object3") and same(loaded, other, masks)


def test_plain_images_are_one_object(tmp_path: Path, masks) -> None:
    loaded = load(write_masks(tmp_path / "cat", masks))
    assert loaded.names == ("cat",) and same(loaded, masks)
    black_and_white = np.zeros((256, 3), np.uint8)
    black_and_white[0] = 255  # index 0 is white: only the colours tell what is meant
    for t in range(FRAMES):
        write_indexed(tmp_path / "pal" / f"{t}.png", (~masks[t]).astype(np.uint8), black_and_white)
    loaded = load(tmp_path / "pal")
    assert loaded.names == ("pal",) and same(loaded, masks)


# ------------------------------------------------------------------------------------------ values


def rgba(masks: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (*masks.shape, 3), dtype=np.uint8)
    return np.concatenate([noise, masks[..., None] * np.uint8(255)], -1)


VALUES = {
    "0-255": lambda m: m * np.uint8(255),
    "0-1": lambda m: m * np.uint8(1),
    "0-200": lambda m: m * np.uint8(200),
    "40-90": lambda m: m * np.uint8(50) + np.uint8(40),
    "rgb": lambda m: np.repeat(m[..., None], 3, -1) * np.uint8(255),
    "blue": lambda m: m[..., None] * np.array([255, 0, 0], np.uint8),
    "alpha": rgba,
    "opaque": lambda m: np.concatenate(
        [np.repeat(m[..., None], 3, -1) * np.uint8(255), np.full((*m.shape, 1), 255, np.uint8)], -1
    ),
    "16-bit": lambda m: m * np.uint16(65535),
    "16-bit-0-1": lambda m: m * np.uint16(1),
}


@pytest.mark.parametrize("values", VALUES)
def test_values(values: str, tmp_path: Path, masks) -> None:
    some_empty = masks.copy()
    some_empty[:2] = False  # fine; and the range in use is found only later
    write_masks(tmp_path / "dog", VALUES[values](some_empty))
    assert same(load(tmp_path), some_empty)


def test_grey_is_cut_at_half_of_the_range_of_all_frames(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 100, SIZE[1]).astype(np.uint8), (FRAMES, SIZE[0], 1))
    ramp[4, 0, 0] = 200  # the brightest level decides, in whichever frame it is
    write_masks(tmp_path / "dog", ramp)
    assert same(load(tmp_path), ramp > 100)


def test_noise_of_a_lossy_codec_is_no_object(tmp_path: Path, masks) -> None:
    noise = np.random.default_rng(0).integers(0, 9, (FRAMES, *SIZE), dtype=np.uint8)
    write_masks(tmp_path / "dog", noise, name="{}.jpg")
    with pytest.raises(MaskError, match="'dog' is empty in all 6 frames"):
        load(tmp_path)
    noisy = np.maximum(noise * 5, masks * np.uint8(250))
    write_masks(tmp_path / "dog", noisy, name="{}.jpg")
    got = load(tmp_path)
    assert all((got.at(0, t) != masks[t]).sum() <= 8 for t in range(FRAMES))


def test_another_size_is_resized_with_a_note(tmp_path: Path, masks) -> None:
    write_masks(tmp_path / "dog", masks.repeat(2, 1).repeat(2, 2))
    loaded = load(tmp_path)
    assert same(loaded, masks)
    assert loaded.notes == ("Masks of 'dog' were resized from 128x72 to 64x36.",)
    odd = np.zeros((FRAMES, 17, 30), bool)  # half of 35x61, rounded down
    odd[:, 5:9, 3:9] = True
    write_masks(tmp_path / "odd" / "dog", odd)
    assert load_masks(tmp_path / "odd", FRAMES, (35, 61)).size == (35, 61)


# ------------------------------------------------------------------------------------------- order


@pytest.fixture
def two(tmp_path: Path, masks) -> Path:
    write_masks(tmp_path / "far", masks)
    write_masks(tmp_path / "near", masks[::-1])
    return tmp_path


def test_order(two: Path) -> None:
    assert load(two).order_source == "alphabetical"
    lines = ["far near", "near far", "0 1", "1 0", "near far", "1 0"]
    (two / "order.txt").write_text("\n".join(lines) + "\n")
    loaded = load(two)
    assert loaded.order.tolist() == [[0, 1], [1, 0]] * 2 + [[1, 0]] * 2
    assert loaded.order_source == "order.txt"
    loaded = load(two, "near, far")
    assert loaded.order.tolist() == [[1, 0]] * FRAMES and loaded.order_source == "option"


def test_order_of_names_with_spaces(tmp_path: Path, masks) -> None:
    names = ("dog", "my dog", "my dog 2")
    for name in names:
        write_masks(tmp_path / name, masks)
    lines = ["dog my dog my dog 2", "my dog 2 dog my dog", "my dog, dog, my dog 2", *["2 0 1"] * 3]
    (tmp_path / "order.txt").write_text("\n".join(lines))
    found = load(tmp_path)
    assert found.names == names
    rows = [[0, 1, 2], [2, 0, 1], [1, 0, 2], *[[2, 0, 1]] * 3]
    assert found.order.tolist() == rows
    assert load(tmp_path, "my dog 2, dog, my dog").order[0].tolist() == [2, 0, 1]


def test_a_mask_may_fill_a_frame(tmp_path: Path, masks) -> None:
    """Someone passes right before the lens."""
    filled = masks.copy()
    filled[2] = True
    write_masks(tmp_path / "dog", filled)
    loaded = load(tmp_path)
    assert loaded.at(0, 2).all() and not loaded.at(0, 0).all()


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("near,cat", "--order: there is no object 'cat'"),
        ("near", "--order: object 'far' is missing"),
        ("near,near,far", "--order: object 'near' is named twice"),
        ("", "--order: object 'far' is missing"),
    ],
)
def test_wrong_order_option(order: str, message: str, two: Path) -> None:
    refuse(two, message, order=order)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["far near"] * 5, "order.txt has 5 lines for 6 frames: line 6 is missing"),
        (["far near"] * 7, "order.txt has 7 lines for 6 frames: line 7 is one too many"),
        (["far near"] * 5 + ["far cat"], "line 6: there is no object 'cat'"),
        (["far near", "", *["0 1"] * 4], "line 2: object 'far' is missing"),
        (["far near", "0 2", *["0 1"] * 4], "line 2: there is no object '2'"),
        (["0 0", *["0 1"] * 5], "line 1: object 'far' is named twice"),
    ],
)
def test_wrong_order_file(lines: list[str], message: str, two: Path) -> None:
    (two / "order.txt").write_text("\n".join(lines))
    refuse(two, message)


# --------------------------------------------------------------------------------------- bad input


def refuse(folder: Path, *words: str, order: str | None = None) -> None:
    """Loading raises one sentence that holds these words."""
    with pytest.raises(MaskError) as caught:
        load(folder, order)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert re.search(r"[.)]$", message) and "\n" not in message and caught.value.exit_code == 2


def test_no_masks(tmp_path: Path) -> None:
    refuse(tmp_path / "no", "no", "does not exist")
    refuse(tmp_path, str(tmp_path), "No masks")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "readme.txt").touch()
    refuse(tmp_path, "'dog'", "no mask images")


def test_two_sources_of_one_object(tmp_path: Path, masks, clip) -> None:
    write_masks(tmp_path / "dog", masks)
    encode(tmp_path / "dog.mkv", clip[0], "-c:v", "ffv1")
    refuse(tmp_path, "'dog'", "two sources", "dog.mkv")


@pytest.mark.parametrize("first", [0, 1])
def test_missing_frame(first: int, tmp_path: Path, masks) -> None:
    folder = write_masks(tmp_path / "dog", masks, first=first)
    (folder / f"{3 + first:05d}.png").unlink()
    refuse(tmp_path, "'dog'", "frame 3", f"{3 + first:05d}.png is missing")


def test_too_few_and_too_many(tmp_path: Path, masks) -> None:
    folder = write_masks(tmp_path / "dog", masks[:5])
    refuse(tmp_path, "'dog'", "frame 5", "00005.png is missing", "5 masks for 6 frames")
    write_masks(folder, np.concatenate([masks, masks]))
    refuse(tmp_path, "'dog'", "frame 6", "00006.png is left over", "12 masks for 6 frames")
    for path in folder.iterdir():
        path.unlink()
    write_masks(folder, masks[:4], first=2)  # the first two are missing
    refuse(tmp_path, "'dog'", "frame 0", "00000.png is missing")


def test_video_of_another_length(tmp_path: Path, masks) -> None:
    white = np.repeat(masks[..., None], 3, -1) * np.uint8(255)
    encode(tmp_path / "dog.mkv", white[:5], "-c:v", "ffv1")
    refuse(tmp_path, "'dog'", "frame 5", "dog.mkv ends before")
    encode(tmp_path / "dog.mkv", np.concatenate([white, white]), "-c:v", "ffv1")
    refuse(tmp_path, "'dog'", "frame 6", "dog.mkv goes on")
    data = (tmp_path / "dog.mkv").read_bytes()
    (tmp_path / "dog.mkv").write_bytes(data[:300])
    refuse(tmp_path, "'dog'", "dog.mkv")


def test_numbers_twice(tmp_path: Path, masks) -> None:
    folder = write_masks(tmp_path / "dog", masks)
    write_masks(folder, masks[:1], name="{}.png")
    refuse(tmp_path, "'dog'", "frame 0", "00000.png", "0.png")


def test_frame_numbers_among_other_numbers(tmp_path: Path, masks) -> None:
    write_masks(tmp_path / "dog", masks, first=1001, name="shot2.{}_v3.png")
    assert same(load(tmp_path), masks)


def test_unreadable(tmp_path: Path, masks, capfd) -> None:
    folder = write_masks(tmp_path / "dog", masks)
    data = (folder / "00004.png").read_bytes()
    for broken in (b"", b"no image", data[: len(data) // 2]):
        (folder / "00004.png").write_bytes(broken)
        refuse(tmp_path, "'dog'", "frame 4", "00004.png", "cannot be read")
    assert capfd.readouterr().err == ""
    cv2.imwrite(str(folder / "00004.tiff"), masks[0].astype(np.float32) * np.nan)
    (folder / "00004.png").unlink()
    refuse(tmp_path, "'dog'", "frame 4", "00004.tiff", "no mask's")


def test_damaged_indexed(tmp_path: Path, masks) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = (200, 0, 0)
    for t in range(FRAMES):
        write_indexed(tmp_path / f"{t}.png", masks[t] * np.uint8(1), palette)
    data = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(data[: len(data) - 60])
    refuse(tmp_path, "frame 2", "2.png", "cannot be read")
    cv2.imwrite(str(tmp_path / "2.png"), masks[2] * np.uint8(1))
    refuse(tmp_path, "frame 2", "2.png", "not an indexed PNG")
    (tmp_path / "2.png").unlink()
    refuse(tmp_path, "frame 2", "2.png is missing")


def test_another_aspect(tmp_path: Path, masks) -> None:
    folder = write_masks(tmp_path / "dog", masks)
    cv2.imwrite(str(folder / "00002.png"), masks[2, :30] * np.uint8(255))
    refuse(tmp_path, "'dog'", "frame 2", "00002.png", "64x30", "64x36")


def test_empty_and_full(tmp_path: Path, masks) -> None:
    write_masks(tmp_path / "dog", masks & False)
    refuse(tmp_path, "'dog'", "empty in all 6 frames", "dog")
    write_masks(tmp_path / "dog", masks | True)
    refuse(tmp_path, "'dog'", "one level", "255")
    write_masks(tmp_path / "dog", rgba(masks & False))
    refuse(tmp_path, "'dog'", "empty in all 6 frames")


def test_overlapping_masks_are_fine(tmp_path: Path, masks) -> None:
    write_masks(tmp_path / "a", masks)
    write_masks(tmp_path / "b", masks)
    assert same(load(tmp_path), masks, masks)


@pytest.mark.parametrize(
    ("size", "small"),
    [((108, 192), (16, 28)), ((97, 131), (32, 48)), ((60, 90), (80, 120)), ((64, 64), (64, 64))],
)
def test_small_masks_are_those_of_the_whole_picture(
    size: tuple[int, int], small: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((1, 12, *size), bool)
    for mask in masks[0, 1:]:
        y, x, h, w = (int(rng.integers(0, n)) for n in (*size, *size))
        mask[y : y + h // 2 + 1, x : x + w // 2 + 1] = True
    found = Masks.from_arrays(masks, ["thing"]).resized(small)
    for mask, here in zip(masks[0], found[0], strict=True):
        share = cv2.resize(mask.astype(np.float32), small[::-1], interpolation=cv2.INTER_AREA)
        expected = (share >= min(0.5, float(share.max()))) & mask.any()
        np.testing.assert_array_equal(here, expected)

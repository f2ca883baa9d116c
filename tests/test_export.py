"""Writing: videos decode to what was written, and folders appear whole or not at all."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from omnimatte_cli.deliver import preview as previews
from omnimatte_cli.deliver.preview import checkerboard, preview_frame
from omnimatte_cli.errors import OutputError
from omnimatte_cli.media import encode as export
from omnimatte_cli.media.encode import (
    ImageWriter,
    VideoWriter,
    write_image,
)
from omnimatte_cli.media.read import iter_frames, probe
from tests.conftest import FFMPEG, scene


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files too."""
    return sorted(p.name for p in folder.iterdir())


# ------------------------------------------------------------------------------------------ videos


@pytest.mark.parametrize("size", [(36, 64), (35, 61)])
def test_video_comes_back(size: tuple[int, int], tmp_path: Path) -> None:
    video, _ = scene(7, size)
    path = tmp_path / "v.mp4"
    with VideoWriter(path, size, Fraction(30000, 1001), FFMPEG, crf=10) as writer:
        for frame in video:
            writer.write(frame)
        assert not path.exists()
    assert names(tmp_path) == ["v.mp4"]
    info = probe(path)
    assert (info.frames, info.fps, info.pixel_format) == (7, Fraction(30000, 1001), "yuv420p")
    assert info.size == (36, size[1] + size[1] % 2)  # odd sides are padded
    got = np.stack(list(iter_frames(path)))[:, : size[0], : size[1]]
    assert np.abs(got.astype(int) - video)[:, 1:5].mean() < 2  # a smooth part: no chroma edges


def test_video_is_tagged(tmp_path: Path) -> None:
    import av

    with VideoWriter(tmp_path / "v.mp4", (36, 64), Fraction(10), FFMPEG) as writer:
        for frame in scene(3)[0]:
            writer.write(frame)
    with av.open(str(tmp_path / "v.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)  # BT.709
    assert frame.color_range == 1  # limited


def test_failed_block_leaves_no_video(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("old")
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(tmp_path / "v.mp4", (36, 64), 10, FFMPEG) as w,
    ):
        w.write(scene(1)[0][0])
        raise KeyboardInterrupt
    assert names(tmp_path) == ["v.mp4"] and (tmp_path / "v.mp4").read_text() == "old"


# ------------------------------------------------------------------------------------------ images


def test_layers_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = rng.integers(0, 256, (2, 20, 9, 13, 4), dtype=np.uint8)  # colour under alpha 0 too
    with ImageWriter(tmp_path) as writer:
        for t in range(20):
            writer.write(Path("dog") / f"{t:05d}.png", layers[0, t])
            writer.write(Path("cat") / f"{t:05d}.png", layers[1, t])
    assert names(tmp_path / "dog") == [f"{t:05d}.png" for t in range(20)]
    for name, expected in zip(("dog", "cat"), layers, strict=True):
        for t in range(20):
            image = cv2.imread(str(tmp_path / name / f"{t:05d}.png"), cv2.IMREAD_UNCHANGED)
            np.testing.assert_array_equal(cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA), expected[t])


def test_errors_of_layer_threads_surface(tmp_path: Path, monkeypatch) -> None:
    def full(path: Path, image: np.ndarray) -> None:
        raise OutputError(f"{path} cannot be written: No space left on device.")

    monkeypatch.setattr(export, "write_image", full)
    with (
        pytest.raises(OutputError, match=r"00000\.png cannot be written: No space left"),
        ImageWriter(tmp_path) as writer,
    ):
        writer.write(Path("00000.png"), np.zeros((4, 4, 4), np.uint8))


def test_write_image(tmp_path: Path) -> None:
    image = scene(1)[0][0]
    for suffix in (".png", ".PNG", ".tif", ".bmp"):
        path = tmp_path / f"plate{suffix}"
        write_image(path, image)
        np.testing.assert_array_equal(cv2.imread(str(path))[..., ::-1], image)
    write_image(tmp_path / "plate.jpg", image)
    written = names(tmp_path)
    for wrong in ("plate.xyz", "plate", "missing/plate.png"):
        with pytest.raises(OutputError, match="plate"):
            write_image(tmp_path / wrong, image)
    assert names(tmp_path) == written


# ---------------------------------------------------------------------------------------- previews


def test_checkerboard() -> None:
    board = checkerboard((5, 7), 2)
    assert board.shape == (5, 7, 3) and board.dtype == np.uint8
    assert (board[0, 0] == board[1, 1]).all() and (board[0, 0] != board[0, 2]).all()
    assert (board[0, 0] == board[2, 2]).all()


@pytest.mark.parametrize(("count", "grid"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (5, (2, 3))])
def test_preview(count: int, grid: tuple[int, int]) -> None:
    rows, columns = grid
    tiles = [(f"layer {i}", np.full((40, 60, 3), 40 * i + 40, np.uint8)) for i in range(count)]
    sheet = preview_frame(tiles)
    height = 40 + previews.LABEL_HEIGHT
    assert sheet.shape == (rows * height, columns * 60, 3) and sheet.dtype == np.uint8
    for i in range(count):
        top, left = i // columns * height, i % columns * 60
        assert (
            sheet[top + previews.LABEL_HEIGHT : top + height, left : left + 60] == 40 * i + 40
        ).all()
        assert sheet[top : top + previews.LABEL_HEIGHT, left : left + 60].max() > 128  # its label
    wide = preview_frame([("a", np.zeros((720, 1280, 3), np.uint8))] * 3)
    assert wide.shape == (360 + previews.LABEL_HEIGHT, 1920, 3)

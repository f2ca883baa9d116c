"""Masks and frames are paired by the numbers and names that both bear; a shifted set is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from omnimatte_cli.errors import MaskError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.read import probe
from tests.conftest import encode, scene, write_masks

VIDEO, MASKS = scene(6)


def folder(path: Path, images: np.ndarray, numbers: list[int], name: str = "shot.{}.png") -> Path:
    for image, number in zip(images, numbers, strict=True):
        write_masks(path, image[None], first=number, name=name)
    return path


def pair(tmp_path: Path, frames: list[int], masks: list[int], **options) -> np.ndarray:
    source = folder(tmp_path / "frames", VIDEO[..., ::-1], frames)
    shown = np.stack([MASKS[i % 6] for i in range(len(masks))])
    folder(tmp_path / "masks" / "car", shown, masks, "m_{}.png")
    info = probe(source, options=ReadOptions(**options))
    loaded = load_masks(tmp_path / "masks", info.frames, info.size, video=info)
    return np.stack([loaded.at(0, t) for t in range(info.frames)])


ODD = [1001, 1003, 1005, 1007, 1009, 1011]
PLAIN = list(range(1001, 1007))
GOOD = {
    "same numbers": (PLAIN, PLAIN),
    "same numbers with gaps": (ODD, ODD),
    "time stamps": ([5, 17, 33, 81, 97, 115], [5, 17, 33, 81, 97, 115]),
    "masks from 0": (PLAIN, list(range(6))),
    "masks from 1": (PLAIN, list(range(1, 7))),
    "frames from 1, masks from 0": (list(range(1, 7)), list(range(6))),
}
BAD = {
    "shifted by one": (PLAIN, [n + 1 for n in PLAIN], "frame 0 (shot.1001): m_1001.png is missing"),
    "another range": (PLAIN, [n + 100 for n in PLAIN], "m_1001.png is missing"),
    "one missing": (ODD, [n for n in ODD if n != 1007], "frame 3 (shot.1007): m_1007.png"),
    "one too many": (PLAIN, [*PLAIN, 1007], "m_1007.png is left over"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_pairs(kind: str, tmp_path: Path) -> None:
    np.testing.assert_array_equal(pair(tmp_path, *GOOD[kind]), MASKS)


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_refused(kind: str, tmp_path: Path) -> None:
    frames, masks, words = BAD[kind]
    with pytest.raises(MaskError) as caught:
        pair(tmp_path, frames, masks)
    assert words in str(caught.value)


def test_masks_of_the_whole_serve_a_part(tmp_path: Path) -> None:
    """Of a folder and of a video file: masks of all frames, or of the part alone."""
    np.testing.assert_array_equal(pair(tmp_path, PLAIN, PLAIN, first=1, stop=5), MASKS[1:5])
    video = encode(tmp_path / "v.mp4", VIDEO, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    info = probe(video, options=ReadOptions(first=2, stop=5))
    matte = np.repeat(MASKS[..., None], 3, -1) * np.uint8(255)
    whole = write_masks(tmp_path / "whole" / "car", MASKS)
    part = write_masks(tmp_path / "part" / "car", MASKS[2:5])
    film = encode(tmp_path / "car.mkv", matte, "-c:v", "ffv1")
    for masks in (whole.parent, part.parent, film):
        loaded = load_masks(masks, info.frames, info.size, video=info)
        got = np.stack([loaded.at(0, t) for t in range(3)])
        np.testing.assert_array_equal(got, MASKS[2:5])


def test_masks_of_the_displayed_size(tmp_path: Path) -> None:
    video = encode(tmp_path / "v.mp4", VIDEO, "-vf", "setsar=2", "-c:v", "libx264")
    info = probe(video)
    wide = write_masks(tmp_path / "wide" / "car", MASKS.repeat(2, 2))
    loaded = load_masks(wide.parent, info.frames, info.size, video=info)
    np.testing.assert_array_equal([loaded.at(0, t) for t in range(6)], MASKS)
    tall = write_masks(tmp_path / "tall" / "car", MASKS.repeat(2, 1))
    with pytest.raises(MaskError, match="displayed 128x36"):
        load_masks(tall.parent, info.frames, info.size, video=info)


def test_masks_of_another_part_are_refused(tmp_path: Path) -> None:
    """Masks of a video's part may count from anywhere, but not as other frames of that video."""
    video = encode(tmp_path / "v.mkv", VIDEO, "-c:v", "ffv1")
    info = probe(video, options=ReadOptions(first=1, stop=4))
    for first, fits in ((0, True), (1, True), (2, True), (3, False), (101, True)):
        masks = write_masks(tmp_path / str(first) / "car", MASKS[1:4], first).parent
        if fits:
            loaded = load_masks(masks, 3, info.size, video=info)
            np.testing.assert_array_equal(np.stack([loaded.at(0, t) for t in range(3)]), MASKS[1:4])
        else:
            with pytest.raises(MaskError, match="another part: frames 1 to 3"):
                load_masks(masks, 3, info.size, video=info)
    more = {"1001": (MASKS, 1001), "5": (MASKS, 5), "around": (MASKS[:5], 0)}
    for name, (masks, first) in more.items():
        folder = write_masks(tmp_path / f"whole {name}" / "car", masks, first).parent
        loaded = load_masks(folder, 3, info.size, video=info)
        np.testing.assert_array_equal(np.stack([loaded.at(0, t) for t in range(3)]), MASKS[1:4])

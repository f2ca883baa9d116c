"""Whatever a file holds, it is read as what it is or refused with a sentence."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.errors import MaskError, OmnimatteError, ResultError
from omnimatte_cli.masks.load import load_masks
from omnimatte_cli.media.images import read_image
from omnimatte_cli.media.pin import Pin
from omnimatte_cli.media.read import iter_frames
from omnimatte_cli.methods.coordination import checkpoint
from omnimatte_cli.settings import Settings, parse_share
from tests.conftest import encode, scene, write_indexed

house = settings(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
SIZE = (24, 40)  # (H, W)

# ------------------------------------------------------------------------------------------- masks

KINDS = ("grey", "rgb", "alpha", "deep", "labels", "palette")
boxes = st.tuples(st.integers(2, 8), st.integers(2, 8), st.integers(4, 12), st.integers(4, 9))


def drawn(shapes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """(2, T, H, W) bool: a box of each object in its own half of every frame."""
    masks = np.zeros((2, len(shapes), *SIZE), bool)
    for t, (top, left, height, width) in enumerate(shapes):
        masks[0, t, top : top + height, left : left + width] = True
        masks[1, t, top : top + height, 20 + left : 20 + left + width] = True
    return masks


def store(folder: Path, masks: np.ndarray, kind: str) -> None:
    """Write masks in one of the ways in which other tools do."""
    palette = np.zeros((256, 3), np.uint8)
    palette[1:3] = (128, 0, 0), (0, 128, 0)
    for t in range(masks.shape[1]):
        name = f"{t:05d}.png"
        labels = (masks[0, t] + 2 * masks[1, t]).astype(np.uint8)
        if kind == "labels":
            cv2.imwrite(str(folder / name), labels)
            continue
        if kind == "palette":
            write_indexed(folder / name, labels, palette)
            continue
        for i, mask in enumerate(masks[:, t]):
            place = folder / f"o{i}"
            place.mkdir(exist_ok=True)
            white = mask.astype(np.uint8) * 255
            image = {
                "grey": white,
                "rgb": np.dstack([white] * 3),
                "deep": mask.astype(np.uint16) * 65535,
                "alpha": np.dstack([np.full((*SIZE, 3), 200, np.uint8), white]),
            }[kind]
            assert cv2.imwrite(str(place / name), image)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(shapes=st.lists(boxes, min_size=3, max_size=5))
@house
def test_masks_come_back_from_every_kind(kind: str, shapes) -> None:
    masks = drawn(shapes)
    with tempfile.TemporaryDirectory() as folder:
        store(Path(folder), masks, kind)
        found = load_masks(Path(folder), len(shapes), SIZE)
    read = np.stack([found.frame(t) for t in range(len(shapes))], 1)
    assert np.array_equal(read, masks)


@given(data=st.binary(max_size=400), start=st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"BM"]))
@house
def test_no_bytes_break_the_reader_of_masks(data: bytes, start: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "o"
        place.mkdir()
        for t in range(3):
            (place / f"{t}.png").write_bytes(start + data)
        with pytest.raises(OmnimatteError) as caught:
            load_masks(Path(folder), 3, SIZE)
    assert isinstance(caught.value, MaskError) and "\n" not in str(caught.value)


# ------------------------------------------------------------------------------- images and videos


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small files of several formats."""
    folder = tmp_path_factory.mktemp("files")
    video, _ = scene(4)
    encode(folder / "a.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    encode(folder / "a.mp4", video, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    for suffix in ("png", "jpg", "tif", "bmp", "webp"):
        cv2.imwrite(str(folder / f"a.{suffix}"), video[0])
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def damaged(data: bytes, changes: list[tuple[float, int]], kept: float) -> bytes:
    out = bytearray(data[: max(1, int(len(data) * kept))])
    for where, value in changes:
        out[min(int(where * len(out)), len(out) - 1)] = value
    return bytes(out)


changes = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6)
cuts = st.one_of(st.just(1.0), st.floats(0, 1))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.png", "a.jpg", "a.tif", "a.bmp", "a.webp"])
@given(changes=changes, kept=cuts)
@house
def test_damaged_files_are_read_or_refused(files, name: str, changes, kept: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(damaged(files[name], changes, kept))
        try:
            if name.startswith("a.m"):
                for frame in iter_frames(path):
                    assert frame.dtype == np.uint8 and frame.ndim == 3
            else:
                image = read_image(path)
                assert image is None or image.dtype == np.uint8
        except OmnimatteError as error:
            assert "\n" not in str(error) and name in str(error)
        Pin.of(path).check()


# ------------------------------------------------------------------------------------- other files

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab/1.", max_size=4),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text("ab", max_size=2), x, max_size=3),
    max_leaves=8,
)


@given(facts=values, where=st.sampled_from(["", "input", "objects", "frames", "times", "names"]))
@house
def test_no_manifest_breaks_the_reader_of_results(facts, where: str) -> None:
    good = {
        "input": {"frames": 3, "height": 4, "width": 5, "fps": "24/1", "times": [0, 1, 2],
                  "source": "a.mp4"},
        "objects": {"names": ["a"], "order": ["a"]},
    }  # fmt: skip
    if where in good:
        good[where] = facts
    elif where:
        good["input" if where in good["input"] else "objects"][where] = facts
    else:
        good = facts
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "manifest.json").write_text(json.dumps(good))
        with contextlib.suppress(ResultError):
            read_result(Path(folder))


@given(changes=changes, kept=cuts)
@house
def test_damaged_checkpoints_are_refused(changes, kept: float) -> None:
    tree = {"params": {"a/b": {"w": 0, "b": 1}}, "step": (1, [2.0, None])}
    arrays = io.BytesIO()
    for _ in range(2):
        np.save(arrays, np.zeros((3, 4), np.float32))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "tree.pkl").write_bytes(damaged(pickle.dumps(tree), changes, kept))
        (place / "arrays.npy").write_bytes(damaged(arrays.getvalue(), changes, kept))
        with pytest.raises(OmnimatteError) as caught:  # sound ones hold no network of ours
            checkpoint.import_checkpoint(place, place / "out.safetensors")
        assert "\n" not in str(caught.value) and not (place / "out.safetensors").exists()


@given(text=st.text("0123456789/ -", max_size=6))
@house
def test_shares_are_read_or_refused(text: str) -> None:
    with contextlib.suppress(OmnimatteError):
        number, count = parse_share(text, "--part")
        assert 1 <= number <= count
        Settings(part=text)

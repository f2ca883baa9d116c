"""What must hold for every input: windows, compositing, quantisation, lists, names, records."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from omnimatte_cli.batch.plan import shard
from omnimatte_cli.batch.records import Record, read_record, write_record
from omnimatte_cli.deliver.manifest import write_manifest
from omnimatte_cli.matte.compositing import composite, layer_over, merge
from omnimatte_cli.matte.over import over, transmittance
from omnimatte_cli.matte.quantise import BITS, floats, highest, integers, quantise_layers
from omnimatte_cli.media.images import natural_key
from omnimatte_cli.media.limits import image_size
from omnimatte_cli.media.listing import add_to_list, files_in, read_list, strangers_in, write_list
from omnimatte_cli.methods.coordination import inert_pickle
from omnimatte_cli.methods.coordination.windows import (
    draw_hidden,
    inference_windows,
    reflect,
    training_starts,
    training_window,
)
from omnimatte_cli.settings import parse_share

settings.register_profile(
    "house", max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
settings.load_profile("house")

lengths = st.integers(1, 60)
strides = st.integers(1, 12)
unit = st.floats(0, 1, width=32)


def layers(count: int = 3, size: tuple[int, int] = (4, 5)) -> st.SearchStrategy[np.ndarray]:
    """(N, H, W, 4) float32 straight alpha, 0 and 1 among the values."""
    return arrays.arrays(np.float32, (count, *size, 4), elements=unit)


# ----------------------------------------------------------------------------------------- windows


@given(st.integers(-1000, 1000), lengths)
def test_reflection_stays_within_and_keeps_what_is(index: int, length: int) -> None:
    found = reflect(index, length)
    assert 0 <= found < length
    assert found == index or not 0 <= index < length
    assert abs(reflect(index + 1, length) - found) <= 1  # a mirror has no jumps


@given(lengths, strides)
def test_every_frame_is_predicted_once_from_others(length: int, stride: int) -> None:
    windows = list(inference_windows(length, stride))
    assert [w.target for w in windows] == list(range(length))
    for w in windows:
        assert w.frames[2] == w.target and all(0 <= t < length for t in w.frames)
        if length > 4 * stride:
            assert len(set(w.frames[:3])) == 3  # it is not among the two that are shown


@given(lengths, strides, st.data())
def test_training_windows_lie_within_the_clip(length: int, stride: int, data) -> None:
    start = data.draw(st.integers(0, training_starts(length, stride) - 1))
    frames = training_window(start, length, stride)
    assert len(frames) == 5 and all(0 <= t < length for t in frames)
    if length > 4 * stride:
        assert frames == tuple(range(start, start + 5 * stride, stride))


@given(st.sampled_from(["random", "inpainting", "prediction"]), st.integers(0, 2**32 - 1))
def test_three_of_five_are_hidden(scheme, seed: int) -> None:
    hidden = draw_hidden(scheme, np.random.default_rng(seed))
    assert hidden.shape == (5,) and hidden.sum() == 3


# ------------------------------------------------------------------------------------- compositing


@given(layers(), arrays.arrays(np.float32, (4, 5, 3), elements=unit), st.permutations(range(3)))
def test_merged_layers_look_as_the_single_ones(rgba, plate, order) -> None:
    whole, seen = composite(rgba, plate, order)
    one = merge((rgba[i] for i in order), plate.shape[:2])
    np.testing.assert_allclose(layer_over(one, plate), whole, atol=2e-5)
    np.testing.assert_allclose(1 - one[..., 3], seen, atol=2e-6)
    assert whole.min() >= -1e-6 and whole.max() <= 1 + 1e-6


@given(layers(), arrays.arrays(np.float32, (4, 5, 3), elements=unit))
def test_both_composites_agree_and_are_a_sum_of_what_is_seen(rgba, plate) -> None:
    """over == sum of transmittance * alpha * colour, plus what is left of the plate."""
    whole, seen = composite(rgba, plate, range(3))
    tensors = torch.from_numpy(np.moveaxis(rgba, -1, 1))[None, :, None]
    ground = torch.from_numpy(np.moveaxis(plate, -1, 0))[None, None]
    tensor = np.moveaxis(over(tensors, ground)[0, 0].numpy(), 0, -1)
    np.testing.assert_allclose(tensor, whole, atol=1e-5)
    through = transmittance(tensors[:, :, :, 3:])[0, :, 0, 0].numpy()
    parts = sum(through[i][..., None] * rgba[i, ..., 3:] * rgba[i, ..., :3] for i in range(3))
    np.testing.assert_allclose(parts + seen[..., None] * plate, whole, atol=1e-5)


@given(arrays.arrays(np.float32, (7,), elements=unit), st.sampled_from(BITS))
def test_rounding_to_integers_and_back(x, bits: int) -> None:
    whole = integers(x, bits)
    assert np.abs(floats(whole, bits) - x).max() <= 0.5 / highest(bits) + 1e-6
    np.testing.assert_array_equal(integers(floats(whole, bits), bits), whole)


@given(layers(2), arrays.arrays(np.float32, (4, 5, 3), elements=unit), st.sampled_from(BITS))
def test_integer_layers_are_what_they_say_they_are(rgba, plate, bits: int) -> None:
    """The composite and transmittance that are reported are those of the integers themselves."""
    found = quantise_layers(rgba, plate, (1, 0), bits)
    whole, seen = composite(floats(found.rgba, bits), plate, (1, 0))
    np.testing.assert_allclose(found.composite, whole, atol=1e-5)
    np.testing.assert_allclose(found.transmittance, seen, atol=1e-5)
    nothing = rgba[..., 3] == 0
    assert not found.rgba[..., 3][nothing].any()  # nothing becomes something
    assert (found.rgba[..., 3][rgba[..., 3] == 1] == highest(bits)).all()


# ------------------------------------------------------------------------------- files and records

names = st.text("abcxyz0189 ._-äß日", min_size=1, max_size=8).filter(
    lambda n: n.strip(".") and not n.startswith(".omnimatte")
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.text("abcdef", min_size=1), json_values, max_size=5))
def test_a_manifest_comes_back(facts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.json"
        write_manifest(path, facts)
        assert json.loads(path.read_text(encoding="utf-8")) == facts
        assert [p.name for p in Path(folder).iterdir()] == [path.name]


@given(
    st.lists(st.lists(names, min_size=1, max_size=3), min_size=1, max_size=6),
    st.lists(names, min_size=1, max_size=2),
)
def test_a_folders_list_tells_own_files_from_others(paths, other) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for parts in paths:
            with contextlib.suppress(OSError):  # a file where a folder should be
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
        write_list(folder)
        assert read_list(folder) == frozenset(files_in(folder)) and not strangers_in(folder)
        stranger = folder.joinpath("stranger", *other)
        stranger.parent.mkdir(parents=True, exist_ok=True)
        stranger.touch()
        assert strangers_in(folder) == [stranger.relative_to(folder).as_posix()]
        add_to_list(folder, [folder / "stranger"])
        assert not strangers_in(folder)


@given(
    st.builds(
        Record,
        shot=st.just("a/b"),
        state=st.sampled_from(["done", "failed", "interrupted"]),
        key=st.text("0123456789abcdef"),
        source=st.text(),
        out=st.text(),
        error=st.none() | st.text(),
        exit_code=st.none() | st.integers(-64, 255),
        seconds=st.none() | st.floats(0, 1e6),
        objects=st.lists(st.text(), max_size=3).map(tuple),
        psnr=st.none() | st.floats(0, 100),
    )
)
@settings(max_examples=20)
def test_a_record_comes_back(record: Record) -> None:
    with tempfile.TemporaryDirectory() as place:
        try:
            json.dumps(asdict(record)).encode()
            write_record(Path(place), record)
        except UnicodeEncodeError:  # lone surrogates cannot be written as UTF-8
            return
        assert read_record(Path(place), "a/b") == record


@given(st.lists(st.integers(), max_size=40), st.integers(1, 9))
def test_shards_split_all_jobs(jobs, parts: int) -> None:
    found = [shard(jobs, parse_share(f"{i}/{parts}", "--shard")) for i in range(1, parts + 1)]
    assert sorted(x for part in found for x in part) == sorted(jobs)
    assert max(map(len, found)) - min(map(len, found)) <= 1


@given(st.lists(st.text("ab019.", max_size=6), max_size=8))
def test_names_have_one_order(found) -> None:
    keys = [natural_key(n) for n in found]
    assert sorted(found, key=natural_key) == [k[1] for k in sorted(keys)]


# ------------------------------------------------------------------------------------ hostile bytes


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader_of_headers(data: bytes) -> None:
    for magic in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF0000WEBP", b"II*\0",
                  b"P6 ", b"\0\0\0\x0cjP"):  # fmt: skip
        size = image_size(magic + data)
        assert size is None or len(size) == 2


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_no_bytes_break_the_reader_of_pickles(data: bytes) -> None:
    for start in (b"", b"\x80\x02}q\x00(X\x01\x00\x00\x00a", b"\x80\x04]\x94("):
        with contextlib.suppress(inert_pickle.UnsafePickleError):
            inert_pickle.measure(inert_pickle.load(start + data, lambda module, name: True))

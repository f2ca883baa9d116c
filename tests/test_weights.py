"""Weights files and the import of the authors' checkpoint: correct, and safe against bad files."""

from __future__ import annotations

import json
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from omnimatte_cli import decompose
from omnimatte_cli.errors import WeightsError
from omnimatte_cli.matte.network import OwnerNet
from omnimatte_cli.methods import weights
from omnimatte_cli.methods.coordination.checkpoint import import_checkpoint
from omnimatte_cli.methods.coordination.network import LayerNet, resize_table
from tests.oracle import random_tree, write_checkpoint


@pytest.fixture
def net() -> LayerNet:
    torch.manual_seed(0)
    return LayerNet(8, (2, 3)).eval()


@pytest.fixture
def file(net: LayerNet, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    weights.save(net, path, {"note": "test"})
    return path


def test_save_and_load_round_trip(net: LayerNet, file: Path) -> None:
    found = weights.find(str(file))
    assert (found.width, found.grid, found.metadata["note"]) == (8, (2, 3), "test")
    loaded = weights.load(found).state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in net.state_dict().items())
    assert sorted(p.name for p in file.parent.iterdir()) == [file.name]


def test_half_precision_file_is_half_the_size(net: LayerNet, tmp_path: Path, file: Path) -> None:
    half = tmp_path / "half.safetensors"
    weights.save(net, half, half=True)
    assert half.stat().st_size < 0.6 * file.stat().st_size
    loaded = weights.load(weights.find(str(half))).state_dict()
    assert all(torch.allclose(v, loaded[k], atol=2e-3) for k, v in net.state_dict().items())


def test_other_grids_resize_each_position_table_from_its_own(net: LayerNet, file: Path) -> None:
    large = weights.load(weights.find(str(file)), (4, 5))
    for which in ("query_positions", "key_positions"):
        table = getattr(net, which)
        assert torch.allclose(getattr(large, which).y, resize_table(table.y, 4))
        assert torch.allclose(getattr(large, which).x, resize_table(table.x, 5))
        assert torch.equal(getattr(large, which).t, table.t)
    assert not torch.equal(large.query_positions.x, large.key_positions.x)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_every_key_is_accounted_for(file: Path, change: str) -> None:
    tensors, metadata = load_file(file), weights.read_metadata(file)
    if change == "missing":
        del tensors["visible"]
    elif change == "unknown":
        tensors["extra"] = torch.zeros(1)
    else:
        tensors["visible"] = torch.zeros(3)
    save_file(tensors, file, metadata)
    with pytest.raises(
        WeightsError, match=rf"{change}.*({'extra' if change == 'unknown' else 'visible'})"
    ):
        weights.load(weights.find(str(file)))


def test_unreadable_files_are_named(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    for name, content in (("cut", data[: len(data) // 2]), ("text", b"not weights"), ("nil", b"")):
        bad = tmp_path / f"{name}.safetensors"
        bad.write_bytes(content)
        with pytest.raises(WeightsError, match=name):
            weights.load(weights.find(str(bad)))
    with pytest.raises(WeightsError, match=r"No weights file nowhere.*none"):
        weights.find("nowhere")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="not a weights file of this tool"):
        weights.find(str(tmp_path / "other.safetensors"))
    with pytest.raises(WeightsError, match="coordination network, but the ownership"):
        weights.find(str(file), network="ownership")


class Bomb:
    """Pickles to a call that writes a file when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("where", ["root", "leaf", "key"])
def test_a_malicious_checkpoint_runs_nothing(tmp_path: Path, where: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    target = tmp_path / "was_run"
    bomb = Bomb(target)
    tree = {"root": bomb, "leaf": {"params": {"omnimatte_sp": bomb}}, "key": {"a": (1, [bomb])}}
    (folder / "tree.pkl").write_bytes(pickle.dumps(tree[where]))
    pickle.loads(pickle.dumps(Bomb(tmp_path / "control")))
    assert (tmp_path / "control").exists()  # the bomb does go off where pickles are trusted
    with pytest.raises(WeightsError, match=r"nothing in it was run"):
        import_checkpoint(folder, tmp_path / "out.safetensors")
    assert not target.exists() and not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    "name", ["builtins.eval", "optax._src.os.system", "optax.evilState", "torch.load", "os.State"]
)
def test_only_the_optimisers_state_types_are_known(tmp_path: Path, name: str) -> None:
    module, _, attribute = name.rpartition(".")
    folder = write_checkpoint(tmp_path / "checkpoint")
    # A pickle that names a global: protocol 0, "c" module "\n" name "\n" ".".
    (folder / "tree.pkl").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(WeightsError, match="nothing in it was run"):
        import_checkpoint(folder, tmp_path / "out.safetensors")


def test_object_arrays_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    target = tmp_path / "was_run"
    with (folder / "arrays.npy").open("wb") as f:
        np.save(f, np.array([Bomb(target)], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"arrays\.npy"):
        import_checkpoint(folder, tmp_path / "out.safetensors")
    assert not target.exists()


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.999])
def test_truncated_checkpoints_are_errors(tmp_path: Path, kept: float) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    arrays = folder / "arrays.npy"
    os.truncate(arrays, int(arrays.stat().st_size * kept))
    with pytest.raises(WeightsError, match=r"arrays\.npy"):
        import_checkpoint(folder, tmp_path / "out.safetensors")
    os.truncate(folder / "tree.pkl", int((folder / "tree.pkl").stat().st_size * kept))
    with pytest.raises(WeightsError, match=r"tree\.pkl"):
        import_checkpoint(folder, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_parameters_of_wrong_shape_or_value_are_named(tmp_path: Path) -> None:
    tree = random_tree()
    module = "omnimatte_sp/~/transformer/h0_attn/key"
    tree[module]["w"] = tree[module]["w"][:, :100]
    folder = write_checkpoint(tmp_path / "shape", tree)
    with pytest.raises(WeightsError, match=r"blocks\.0\.cross_attention\.key\.weight"):
        import_checkpoint(folder, tmp_path / "out.safetensors")
    tree = random_tree()
    tree[module]["w"][3, 3] = np.nan
    folder = write_checkpoint(tmp_path / "nan", tree)
    with pytest.raises(WeightsError, match=rf"{module} w has NaN"):
        import_checkpoint(folder, tmp_path / "out.safetensors")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"Cannot read .*tree\.pkl"):
        import_checkpoint(tmp_path / "nothing", tmp_path / "out.safetensors")


# ------------------------------------------------------------------------------------ hostile files


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(file: Path, value: float) -> None:
    tensors, metadata = load_file(file), weights.read_metadata(file)
    tensors["visible"][1] = value
    save_file(tensors, file, metadata)
    with pytest.raises(WeightsError, match=r"visible has NaN or infinite values"):
        weights.load(weights.find(str(file)))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_whole_numbers_are_refused(file: Path, dtype: torch.dtype) -> None:
    tensors, metadata = load_file(file), weights.read_metadata(file)
    save_file({k: v.to(dtype) for k, v in tensors.items()}, file, metadata)
    with pytest.raises(WeightsError, match="floating-point"):
        weights.load(weights.find(str(file)))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("width", "1024"),
        ("width", "4000000000"),
        ("width", "-8"),
        ("width", "8.0"),
        ("width", "\N{ARABIC-INDIC DIGIT EIGHT}"),
        ("grid", "[1000, 1000]"),
        ("grid", "[[2], 3]"),
        ("grid", "[2]"),
        ("grid", "[" * 100_000),
        ("grid", "{}"),
    ],
)
def test_absurd_sizes_are_refused_before_memory_is_taken(
    file: Path, key: str, text: str, monkeypatch
) -> None:
    tensors, metadata = load_file(file), weights.read_metadata(file)
    save_file(tensors, file, {**metadata, key: text})
    monkeypatch.setattr(weights, "read_tensors", lambda path: pytest.fail("was read"))
    with pytest.raises(WeightsError, match=r"network|shape"):
        weights.load(weights.find(str(file)))


def header(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + content


@pytest.mark.parametrize(
    "content",
    [
        header(b"[" * 200_000),
        header(b'{"a":' * 100_000),
        header(b"[1, 2]"),
        header(b'{"__metadata__": [1]}'),
        header(b'{"__metadata__": {"format": 1}}'),
        header(b'{"__metadata__": {"format": {"a": {}}}}'),
        header(b"\xff\xfe"),
        (1 << 62).to_bytes(8, "little"),
    ],
    ids=range(8),
)
def test_headers_of_other_kinds_are_typed_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        weights.find(str(path))


@pytest.mark.parametrize("entry", ["1", "{}", '{"shape": [-1], "dtype": "F32"}', "[[]]",
    '{"shape": [4611686018427387904, 4], "dtype": "F32"}', '{"shape": "x", "dtype": "F32"}',
    '{"shape": [2], "dtype": ["F32"]}'])  # fmt: skip
def test_tables_of_other_kinds_are_typed_errors(file: Path, entry: str) -> None:
    text = json.dumps(weights.read_metadata(file))
    file.write_bytes(header(f'{{"__metadata__": {text}, "visible": {entry}}}'.encode()))
    with pytest.raises(WeightsError, match=r"net\.safetensors"):
        weights.load(weights.find(str(file)))


def test_cut_or_changed_bytes_only_raise_typed_errors(file: Path) -> None:
    data, rng = file.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
        for at in rng.integers(0, min(len(changed), 3000), 3):
            changed[at] = rng.integers(256)
        file.write_bytes(changed)
        try:
            weights.load(weights.find(str(file)))
        except WeightsError as error:
            assert "\n" not in str(error)


def doubling(levels: int) -> bytes:
    """A pickle whose tuple holds twice the one before: 2^levels values in a few bytes."""
    body = b"\x80\x02N"
    for i in range(levels):
        body += b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86"
    return body + b"."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"}X\x01\x00\x00\x00a" + doubling(40)[2:-1] + b"s.", "unfolds to more than"),
        (doubling(80)[:-1] + b"}" + doubling(80)[2:-1] + b"Ns.", ""),  # as a key
        (b"\x80\x02]" * 200 + b"a" * 199 + b".", ""),
        (b"\x80\x02" + b"(" * 1000 + b"t" * 1000 + b".", "nests more than"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "not the dict"),  # a memo of 4 billion places
        (b"\x80\x04\x8d" + b"\xff" * 8, ""),  # a text of 18 EB
        (b"\x80\x02N" + b"0N" * 300_000 + b".", ""),
        (b"\x80\x02]q\x00h\x00a.", ""),  # a list in itself
        (b"c__main__\nState\n.", "names"),
        (b"\x80\x02}}.", ""),
        (b"", ""),
    ],
    ids=range(11),
)
def test_a_small_pickle_takes_neither_hours_nor_gigabytes(
    tmp_path: Path, content: bytes, words: str
) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / "tree.pkl").write_bytes(content)
    start = time.monotonic()
    with pytest.raises(WeightsError, match=rf"tree\.pkl.*{words}"):
        import_checkpoint(folder, tmp_path / "out.safetensors")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["tree.pkl", "arrays.npy"])
def test_pipes_do_not_hang(tmp_path: Path, name: str) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(WeightsError, match="no ordinary file"):
        import_checkpoint(folder, tmp_path / "out.safetensors")


def test_an_array_that_says_more_than_is_there(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "checkpoint")
    with (folder / "arrays.npy").open("wb") as f:
        facts = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
        np.lib.format.write_array_header_1_0(f, facts)
        f.write(bytes(64))
    with pytest.raises(WeightsError, match="not all is there"):
        import_checkpoint(folder, tmp_path / "out.safetensors")


def test_damaged_weights_are_said_before_the_video_is_read(file: Path, tmp_path: Path) -> None:
    tensors, metadata = load_file(file), weights.read_metadata(file)
    tensors["visible"][0] = np.nan
    save_file(tensors, file, metadata)
    torch.manual_seed(0)
    weights.save(OwnerNet(), tmp_path / "owner.safetensors")
    data = (tmp_path / "owner.safetensors").read_bytes()
    (tmp_path / "owner.safetensors").write_bytes(data[:-100])
    for method, path in (("coordination", file), ("ownership", tmp_path / "owner.safetensors")):
        with pytest.raises(WeightsError, match=path.stem):
            decompose(
                tmp_path / "no.mp4", masks=tmp_path / "masks", out=tmp_path / "out", weights=path,
                method=method, device="cpu",
            )  # fmt: skip
    assert not (tmp_path / "out").exists()

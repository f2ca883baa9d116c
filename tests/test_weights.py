"""Weights files and the import of the authors' checkpoint: correct, and safe against bad files."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from omnimatte_cli.errors import WeightsError
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

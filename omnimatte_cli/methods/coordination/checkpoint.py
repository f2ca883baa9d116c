"""Read the authors' released checkpoint (`tree.pkl` + `arrays.npy`) without running any of it.

The pickle holds a nested dict of parameter names and the optimiser's named tuples with numbers as
leaves; `arrays.npy` holds one array a leaf, in the order of sorted keys. A pickle may name any
callable, so it is not given to Python's reader but walked (`inert_pickle`): the optimiser's state
types become plain tuples, and everything else is refused.
"""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np

from omnimatte_cli.errors import WeightsError
from omnimatte_cli.methods.coordination import inert_pickle
from omnimatte_cli.methods.coordination.network import HEADS, LAYERS, LayerNet
from omnimatte_cli.methods.weights import check_keys, save

ROOT = "omnimatte_sp"
TREE_LIMIT = 4 << 20  # bytes; the real file has 5 kB
ARRAYS_LIMIT = 4 << 30  # bytes; the real file has 90 MB

Tree = dict[str, dict[str, np.ndarray]]


STATE_MODULE, STATE_NAME = re.compile(r"optax(\.\w+)*"), re.compile(r"[A-Z]\w*State")


def is_optimiser_state(module: str, name: str) -> bool:
    """Whether a class is one of optax's named tuples, the only ones that a checkpoint names."""
    return bool(STATE_MODULE.fullmatch(module) and STATE_NAME.fullmatch(name))


def read_tree(path: Path) -> dict:
    """The checkpoint's structure. Raises WeightsError for anything but plain containers."""
    try:
        with open_regular(path, TREE_LIMIT) as f:
            tree = inert_pickle.load(f.read(), is_optimiser_state)
    except OSError as e:
        raise WeightsError(f"Cannot read {path} ({e.strerror or e}).") from e
    except ValueError as e:
        raise WeightsError(
            f"{path} is not a checkpoint's structure ({e}); nothing in it was run."
        ) from e
    if not isinstance(tree, dict):
        raise WeightsError(f"{path} holds a {type(tree).__name__}, not the dict of a checkpoint.")
    return tree


def open_regular(path: Path, limit: int) -> BinaryIO:
    """Open an ordinary file of at most `limit` bytes. Raises OSError and ValueError.

    A pipe or a device in its place would block for ever, or never end.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is no ordinary file")
    if facts.st_size > limit:
        raise ValueError(f"it has {facts.st_size} bytes, more than {limit}")
    return path.open("rb")


def fill_leaves(tree: object, arrays: BinaryIO) -> object:
    """Put the next array of the file in place of each leaf: dict keys sorted, tuples in order."""
    if isinstance(tree, dict):
        return {key: fill_leaves(tree[key], arrays) for key in sorted(tree)}
    if isinstance(tree, tuple | list):
        return [fill_leaves(item, arrays) for item in tree]
    if tree is None:  # an empty subtree
        return None
    return read_array(arrays)


def read_array(arrays: BinaryIO) -> np.ndarray:
    """The next array of numbers of a file of several, which cannot be larger than what is left.

    Raises ValueError and EOFError.
    """
    start, end = arrays.tell(), os.fstat(arrays.fileno()).st_size
    if start == end:
        raise EOFError("fewer arrays than the structure names")
    header = np.lib.format
    version = header.read_magic(arrays)
    read = header.read_array_header_1_0 if version == (1, 0) else header.read_array_header_2_0
    shape, _, dtype = read(arrays)
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > end - arrays.tell():
        raise ValueError(f"an array of shape {shape}, of which not all is there")
    arrays.seek(start)
    return np.load(arrays, allow_pickle=False)


def read_parameters(folder: Path) -> Tree:
    """The network's arrays, {module: {name: array}}; the optimiser's are read past."""
    tree = read_tree(folder / "tree.pkl")
    arrays = folder / "arrays.npy"
    try:
        with open_regular(arrays, ARRAYS_LIMIT) as f:
            filled = fill_leaves(tree, f)
            if f.read(1):
                raise ValueError("more arrays than the structure names")
    except OSError as e:
        raise WeightsError(f"Cannot read {arrays} ({e.strerror or e}).") from e
    except (ValueError, EOFError, TypeError, MemoryError, RecursionError) as e:
        raise WeightsError(f"{arrays} is damaged, truncated or of another checkpoint ({e}).") from e
    assert isinstance(filled, dict)
    found = [v for v in (filled, filled.get("params")) if isinstance(v, dict) and ROOT in v]
    if not found:
        raise WeightsError(
            f"{folder} is not a checkpoint of the authors' network: no {ROOT} in it."
        )
    return found[0]


def parameter_names() -> dict[str, tuple[str, str, str]]:
    """Our parameter name to (module, name, kind) in the authors' tree.

    kind says how the array is turned: "conv" HWIO to OIHW; "deconv" HWOI to IOHW with the kernel
    flipped (Haiku's transposed convolution correlates, PyTorch's convolves); "linear" transposed;
    "flat" squeezed to a vector; "table" as it is.
    """
    names: dict[str, tuple[str, str, str]] = {}

    def block(base: str, i: int) -> str:
        return f"{ROOT}/~/{base}/~/conv_block{f'_{i}' if i else ''}/~"

    def norm(ours: str, module: str) -> None:
        names[f"{ours}.weight"] = (module, "scale", "flat")
        names[f"{ours}.bias"] = (module, "offset", "flat")

    def affine(ours: str, module: str, kind: str) -> None:
        names[f"{ours}.weight"] = (module, "w", kind)
        names[f"{ours}.bias"] = (module, "b", "flat")

    for ours, theirs in (("image_encoder", "im_encoder"), ("mask_encoder", "mask_encoder")):
        for i in range(4):
            affine(f"{ours}.convs.{i}", f"{block(theirs, i)}/conv2_d", "conv")
            if i:
                norm(f"{ours}.norms.{i - 1}", f"{block(theirs, i)}/instance_norm")
    for i in range(4):
        conv, own_norm = ("last", "last_norm") if i == 3 else (f"convs.{i}", f"norms.{i}")
        base = block("layer_decoder", i)
        affine(f"decoder.{conv}", f"{base}/conv2_d_transpose", "deconv")
        norm(f"decoder.{own_norm}", f"{base}/instance_norm")
    affine("decoder.rgba", f"{ROOT}/~/layer_decoder/~/final_rgba", "conv")

    transformer = f"{ROOT}/~/transformer"
    for i in range(LAYERS):
        for ours, theirs in (("self_attention", "selfattn"), ("cross_attention", "attn")):
            for part, name in (("query",) * 2, ("key",) * 2, ("value",) * 2, ("out", "linear")):
                affine(f"blocks.{i}.{ours}.{part}", f"{transformer}/h{i}_{theirs}/{name}", "linear")
        affine(f"blocks.{i}.mlp.0", f"{transformer}/h{i}_mlp/linear", "linear")
        affine(f"blocks.{i}.mlp.2", f"{transformer}/h{i}_mlp/linear_1", "linear")
        for j in range(3):
            norm(f"blocks.{i}.norms.{j}", f"{transformer}/h{i}_ln_{j}")
    norm("norm", f"{transformer}/ln_f")
    for ours, theirs in (("query_positions", "mask_pos_embs"), ("key_positions", "pos_embs")):
        for axis in "xyt":
            names[f"{ours}.{axis}"] = (ROOT, f"{theirs}_{axis}", "table")
    names["visible"] = (ROOT, "valid_emb", "flat")
    names["hidden"] = (ROOT, "invalid_emb", "flat")
    return names


def turn(array: np.ndarray, kind: str) -> np.ndarray:
    """An array of the authors' layout in PyTorch's (see `parameter_names`)."""
    if kind == "conv":
        return array.transpose(3, 2, 0, 1)
    if kind == "deconv":
        return array[::-1, ::-1].transpose(3, 2, 0, 1)
    if kind == "linear":
        return array.T
    return array.reshape(-1) if kind == "flat" else array


def import_checkpoint(folder: Path, out: Path) -> dict[str, str]:
    """Convert the authors' checkpoint to a weights file. Returns the facts to show.

    Raises WeightsError where the checkpoint is damaged, unsafe, or of another network.
    """
    import torch

    tree = read_parameters(folder)
    names = parameter_names()
    unknown = {(m, n) for m, leaves in tree.items() for n in leaves} - {
        v[:2] for v in names.values()
    }
    if unknown:
        raise WeightsError(f"{folder} has a parameter of another network: {sorted(unknown)[0]}.")
    tensors = {}
    for ours, (module, name, kind) in names.items():
        array = tree.get(module, {}).get(name)
        if array is None:
            raise WeightsError(f"{folder} lacks the parameter {module} {name}.")
        if array.dtype.kind != "f":
            raise WeightsError(
                f"{folder}: the parameter {module} {name} is {array.dtype}, not float."
            )
        if not np.isfinite(array).all():
            raise WeightsError(
                f"{folder}: the parameter {module} {name} has NaN or infinite values."
            )
        try:
            tensors[ours] = torch.from_numpy(np.array(turn(array, kind), np.float32))
        except ValueError as e:
            raise WeightsError(f"{folder}: the parameter {module} {name} has a wrong shape.") from e
    width = len(tensors["image_encoder.convs.0.bias"])
    if width % HEADS:
        raise WeightsError(f"{folder}: a network of width {width} is not one of the paper's.")
    grid = (len(tensors["key_positions.y"]), len(tensors["key_positions.x"]))
    net = LayerNet(width, grid)
    check_keys(tensors, net.state_dict(), folder)
    net.load_state_dict(tensors)
    facts = {"origin": "imported from the authors' checkpoint", "source": folder.name}
    save(net, out, facts)
    count = sum(v.numel() for v in tensors.values())
    return {"file": str(out), "parameters": str(count), "width": str(width), "grid": f"{grid}"}

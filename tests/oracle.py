"""The seeded random checkpoint that the oracle's reference numbers were computed with."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np

from omnimatte_cli.methods.coordination.checkpoint import Tree, parameter_names
from omnimatte_cli.methods.coordination.network import LayerNet

DATA = Path(__file__).parent / "data"
SEED, GRID = 11, (4, 6)


def authors_shapes() -> dict[tuple[str, str], tuple[int, ...]]:
    """(module, name) to shape in the authors' layout, sorted as their checkpoints are."""
    net = LayerNet(64, GRID).state_dict()
    shapes = {}
    for ours, (module, name, kind) in parameter_names().items():
        shape = tuple(net[ours].shape)
        if kind == "conv" or kind == "deconv":
            shape = (shape[2], shape[3], shape[1], shape[0])
        elif kind == "linear":
            shape = shape[::-1]
        elif "conv" in module or "final_rgba" in module:
            shape = (1, *shape, 1, 1) if "norm" in module else (*shape, 1, 1)
        shapes[module, name] = shape
    return dict(sorted(shapes.items()))


def random_tree(seed: int = SEED) -> Tree:
    """Parameters drawn as the reference's were: He-scaled kernels, small everything else."""
    rng = np.random.default_rng(seed)
    tree: Tree = {}
    for (module, name), shape in authors_shapes().items():
        x = rng.standard_normal(shape)
        if name == "w":
            deep = len(shape) == 4
            inputs = shape[3] if "transpose" in module else shape[-2]
            fan_in = shape[0] * shape[1] * inputs if deep else shape[0]
            x *= math.sqrt((2 if deep else 1) / fan_in)
        elif name == "scale":
            x = 1 + 0.1 * x
        else:
            x *= 0.1
        tree.setdefault(module, {})[name] = x.astype(np.float32)
    return tree


def write_checkpoint(folder: Path, tree: Tree | None = None) -> Path:
    """The authors' layout: optimiser state (zeros), parameters and the step."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = random_tree() if tree is None else tree
    leaves = [tree[m][n] for m in sorted(tree) for n in sorted(tree[m])]
    with (folder / "arrays.npy").open("wb") as f:
        np.save(f, np.zeros((), np.int32))
        for _ in range(2):
            for leaf in leaves:
                np.save(f, np.zeros_like(leaf))
        for leaf in leaves:
            np.save(f, leaf)
        np.save(f, np.asarray(60000))
    shutil.copy(DATA / "oracle_tree.pkl", folder / "tree.pkl")
    return folder

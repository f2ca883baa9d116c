"""Weights files: find, check, load, save, and fit to another picture size.

A weights file is safetensors: one tensor a parameter, and metadata that says what network it is
for (`format`, `network`, `width`, `grid`) and how it was made (free text fields).
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omnimatte_cli.errors import WeightsError

if TYPE_CHECKING:
    import torch

    from omnimatte_cli.matte.network import OwnerNet
    from omnimatte_cli.methods.coordination.network import LayerNet

FORMAT = "omnimatte-1"
OWNERSHIP = "ownership"  # name of the shipped weights of the ownership network
SUFFIX = ".safetensors"
HEADER_LIMIT = 10 << 20  # bytes; a longer header is not one of ours


@dataclass(frozen=True)
class WeightsFile:
    """A weights file that was found and whose header was read.

    metadata: the file's own strings. sha256: hash of the whole file.
    """

    path: Path
    metadata: dict[str, str]
    sha256: str

    @property
    def width(self) -> int:
        return int(self.metadata["width"])

    @property
    def grid(self) -> tuple[int, int]:
        h, w = json.loads(self.metadata["grid"])
        return int(h), int(w)


def shipped_folder() -> Path:
    """Where the weights that come with the tool lie: in the wheel, or in a source checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def shipped_names() -> list[str]:
    """Names that `--weights NAME` takes."""
    return sorted(p.stem for p in shipped_folder().glob(f"*{SUFFIX}"))


def find(name: str, network: str | None = "coordination") -> WeightsFile:
    """The file for a shipped name or a path, of a network or (None) of any.

    Raises WeightsError with what to do.
    """
    shipped = shipped_folder() / f"{name}{SUFFIX}"
    path = Path(name).expanduser()
    if "/" not in name and not path.suffix and shipped.is_file():
        path = shipped
    if not path.is_file():
        known = ", ".join([*shipped_names(), "none"])
        raise WeightsError(
            f"No weights file {name}: give a path to a {SUFFIX} file, or one of: {known}."
        )
    metadata = read_metadata(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} is not a weights file of this tool (its metadata lack format={FORMAT}); "
            "the authors' checkpoints are converted by `omnimatte weights import`."
        )
    if network is not None and metadata.get("network") != network:
        raise WeightsError(
            f"{path} holds weights of the {metadata.get('network', 'unnamed')} network, "
            f"but the {network} network's are needed here."
        )
    return WeightsFile(path, metadata, file_hash(path))


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, read without its tensors."""
    try:
        with path.open("rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            if length > HEADER_LIMIT:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(f.read(length))
        return dict(header.get("__metadata__") or {})
    except (OSError, ValueError, struct.error, AttributeError) as e:
        raise WeightsError(f"{path} is not a readable safetensors file ({e}).") from e


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file as float32."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return {k: v.float() for k, v in load_file(path).items()}
    except (SafetensorError, OSError, ValueError) as e:
        raise WeightsError(f"{path} is damaged or truncated ({e}); get it again.") from e


def load(file: WeightsFile, grid: tuple[int, int] | None = None) -> LayerNet:
    """The layer network of a file, in eval mode, its position tables resized to `grid` (h, w).

    Every key must be accounted for: one too many, one missing or one of another shape is an error.
    """
    from omnimatte_cli.methods.coordination.network import LayerNet, resize_table

    try:
        width, stored = file.width, file.grid
        net = LayerNet(width, stored)
    except (KeyError, ValueError, TypeError, AssertionError) as e:
        raise WeightsError(f"{file.path}: its metadata do not say the network's size ({e}).") from e
    tensors = read_tensors(file.path)
    check_keys(tensors, net.state_dict(), file.path)
    if grid is not None and grid != stored:
        # Each set of tables is resized from its own values.
        for which in ("query_positions", "key_positions"):
            for axis, length in (("y", grid[0]), ("x", grid[1])):
                key = f"{which}.{axis}"
                tensors[key] = resize_table(tensors[key], length)
        net = LayerNet(width, grid)
    net.load_state_dict(tensors)
    return net.eval()


def load_owner(file: WeightsFile) -> OwnerNet:
    """The ownership network of a file, in eval mode; every key must be accounted for."""
    from omnimatte_cli.matte.network import OwnerNet

    net = OwnerNet()
    tensors = read_tensors(file.path)
    check_keys(tensors, net.state_dict(), file.path)
    net.load_state_dict(tensors)
    return net.eval()


def check_keys(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], path: Path) -> None:
    """Raise WeightsError naming the first keys that are missing, unknown or of another shape."""
    missing = sorted(wanted.keys() - found.keys())
    unknown = sorted(found.keys() - wanted.keys())
    shapes = [
        f"{k} is {tuple(found[k].shape)}, not {tuple(wanted[k].shape)}"
        for k in sorted(found.keys() & wanted.keys())
        if found[k].shape != wanted[k].shape
    ]
    problems = [
        f"{label} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for label, keys in (("missing:", missing), ("unknown:", unknown), ("shape:", shapes))
        if keys
    ]
    if problems:
        raise WeightsError(f"{path} does not fit the network ({'; '.join(problems)}).")


def save(
    net: LayerNet | OwnerNet, path: Path, facts: dict[str, str] | None = None, half: bool = False
) -> None:
    """Write a network whole or not at all. facts: further metadata. half: store float16."""
    import torch
    from safetensors.torch import save_file

    from omnimatte_cli.methods.coordination.network import LayerNet

    tensors = {
        k: v.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
        for k, v in net.state_dict().items()
    }
    metadata = {**(facts or {}), "format": FORMAT, "network": "ownership"}
    if isinstance(net, LayerNet):
        size = {"width": str(net.width), "grid": json.dumps(net.grid)}
        metadata |= {"network": "coordination", **size}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file(tensors, partial, metadata)
        partial.chmod(0o644)  # the library makes it readable by its owner alone
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

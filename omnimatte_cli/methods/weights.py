"""Weights files: find, check, load, save, and fit to another picture size.

A weights file is safetensors: one tensor a parameter, and metadata that says what network it is
for (`format`, `network`, `width`, `grid`) and how it was made (free text fields).
"""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omnimatte_cli.errors import WeightsError
from omnimatte_cli.media.atomic import replacing
from omnimatte_cli.media.digest import sha256_of

if TYPE_CHECKING:
    import torch

    from omnimatte_cli.matte.matting_network import MattingNet
    from omnimatte_cli.matte.network import OwnerNet
    from omnimatte_cli.methods.centrifuge.network import Centrifuge
    from omnimatte_cli.methods.coordination.network import LayerNet

Net = TypeVar("Net", bound="torch.nn.Module")

log = logging.getLogger(__name__)

FORMAT = "omnimatte-1"
OWNERSHIP = "ownership"  # name of the shipped weights of the ownership network
CENTRIFUGE = "centrifuge"  # and of the network that unmixes clips
MATTING = "matting"  # and of the one that cuts bodies out
SUFFIX = ".safetensors"
HEADER_LIMIT = 10 << 20  # bytes; a longer header is not one of ours
WIDTH_LIMIT = 4096  # channels; the paper's network has 128
GRID_LIMIT = 1024  # cells a side, of 8 pixels each at working size
FLOATS = ("F16", "BF16", "F32", "F64")  # safetensors' names of what weights may be stored as


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
        return self._size(self.metadata.get("width"), WIDTH_LIMIT)

    @property
    def grid(self) -> tuple[int, int]:
        try:
            h, w = json.loads(self.metadata["grid"])
        except (KeyError, ValueError, TypeError, RecursionError):
            h = w = None
        return self._size(h, GRID_LIMIT), self._size(w, GRID_LIMIT)

    def _size(self, value: object, limit: int) -> int:
        text = str(value)
        if not (text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) <= limit):
            raise WeightsError(f"{self.path}: its metadata do not say the network's size.")
        return int(text)


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
    log.info("Weights %s: %s", name, path)
    return WeightsFile(path, metadata, sha256_of(path))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, read without its tensors."""
    metadata = read_header(path).get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise WeightsError(f"{path} is not a readable safetensors file (metadata are no texts).")
    return metadata


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: name to dtype, shape and place of each tensor."""
    try:
        with path.open("rb") as f:
            (length,) = struct.unpack("<Q", f.read(8))
            if length > HEADER_LIMIT:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(f.read(length))
    except OSError as e:
        raise WeightsError(f"{path} cannot be read ({e.strerror}).") from e
    except (ValueError, struct.error, RecursionError) as e:
        reason = "its header is nested too deeply" if isinstance(e, RecursionError) else e
        raise WeightsError(f"{path} is not a readable safetensors file ({reason}).") from e
    if not isinstance(header, dict):
        raise WeightsError(f"{path} is not a readable safetensors file (its header is no table).")
    return header


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file as float32. Raises WeightsError for other kinds, NaN and infinity."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        stored = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise WeightsError(f"{path} is damaged or truncated ({e}); get it again.") from e
    tensors = {}
    for name, value in stored.items():
        if not value.is_floating_point():
            raise WeightsError(f"{path}: {name} holds {value.dtype}, not floating-point numbers.")
        tensors[name] = value.float()
        if not tensors[name].isfinite().all():
            raise WeightsError(f"{path}: {name} has NaN or infinite values.")
    return tensors


def check_header(path: Path, wanted: dict[str, torch.Tensor]) -> None:
    """Compare names, shapes and kinds in a file's header with a network's, before any is read."""
    import torch

    found = {}
    for name, facts in read_header(path).items():
        if name == "__metadata__":
            continue
        shape = facts.get("shape") if isinstance(facts, dict) else None
        sizes = [n for n in shape if type(n) is int and n >= 0] if isinstance(shape, list) else None
        if sizes is None or sizes != shape or facts.get("dtype") not in FLOATS:
            raise WeightsError(f"{path}: {name} is not an array of floating-point numbers.")
        if sum(n.bit_length() for n in sizes) > 62:
            raise WeightsError(f"{path}: {name} says a shape that cannot be.")
        found[name] = torch.empty(sizes, device="meta")
    check_keys(found, wanted, path)


def load(file: WeightsFile, grid: tuple[int, int] | None = None) -> LayerNet:
    """The layer network of a file, in eval mode, its position tables resized to `grid` (h, w).

    Every key must be accounted for: one too many, one missing or one of another shape is an error.
    """
    import torch

    from omnimatte_cli.methods.coordination.network import LayerNet, resize_table

    width, stored = file.width, file.grid
    try:
        with torch.device("meta"):  # takes no memory
            wanted = LayerNet(width, stored).state_dict()
    except (ValueError, TypeError, AssertionError) as e:
        raise WeightsError(f"{file.path}: its metadata do not say the network's size ({e}).") from e
    check_header(file.path, wanted)
    tensors = read_tensors(file.path)
    check_keys(tensors, wanted, file.path)
    if grid is not None and grid != stored:
        # Each set of tables is resized from its own values.
        for which in ("query_positions", "key_positions"):
            for axis, length in (("y", grid[0]), ("x", grid[1])):
                key = f"{which}.{axis}"
                tensors[key] = resize_table(tensors[key], length)
    net = LayerNet(width, grid or stored)
    net.load_state_dict(tensors)
    return net.eval()


def load_owner(file: WeightsFile) -> OwnerNet:
    """The ownership network of a file, in eval mode; every key must be accounted for."""
    from omnimatte_cli.matte.network import REACHES, OwnerNet

    try:
        reaches = json.loads(file.metadata.get("reaches", json.dumps(REACHES)))
        fine, motion = (int(file.metadata.get(name, "0")) for name in ("fine", "motion"))
        net = OwnerNet(reaches, fine, bool(motion))
    except (ValueError, TypeError, RecursionError, AssertionError) as e:
        raise WeightsError(f"{file.path}: its metadata do not say the network's size.") from e
    return filled(net, file)


def load_centrifuge(file: WeightsFile) -> Centrifuge:
    """The centrifuge of a file, in eval mode; every key must be accounted for."""
    import torch

    from omnimatte_cli.methods.centrifuge.network import Centrifuge, Shape

    try:
        shape = Shape(**json.loads(file.metadata["shape"]))
    except (KeyError, ValueError, TypeError, RecursionError) as e:
        raise WeightsError(f"{file.path}: its metadata do not say the network's size.") from e
    with torch.device("meta"):  # takes no memory
        wanted = Centrifuge(shape).state_dict()
    check_header(file.path, wanted)
    return filled(Centrifuge(shape), file)


def load_matting(file: WeightsFile) -> MattingNet:
    """The matting network of a file, in eval mode; every key must be accounted for."""
    from omnimatte_cli.matte.matting_network import MattingNet

    return filled(MattingNet(), file)


def filled(net: Net, file: WeightsFile) -> Net:
    """A network with the weights of a file, in eval mode; every key must be accounted for."""
    check_header(file.path, net.state_dict())
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
    net: LayerNet | OwnerNet | Centrifuge | MattingNet,
    path: Path,
    facts: dict[str, str] | None = None,
    half: bool = False,
) -> None:
    """Write a network whole or not at all. facts: further metadata. half: store float16."""
    import torch
    from safetensors.torch import save_file

    from omnimatte_cli.matte.matting_network import MattingNet
    from omnimatte_cli.matte.network import OwnerNet
    from omnimatte_cli.methods.centrifuge.network import Centrifuge
    from omnimatte_cli.methods.coordination.network import LayerNet

    tensors = {
        k: v.detach().cpu().to(torch.float16 if half else torch.float32).contiguous()
        for k, v in net.state_dict().items()
    }
    metadata = {**(facts or {}), "format": FORMAT, "network": "ownership"}
    if isinstance(net, LayerNet):
        size = {"width": str(net.width), "grid": json.dumps(net.grid)}
        metadata |= {"network": "coordination", **size}
    if isinstance(net, OwnerNet):
        metadata |= {
            "reaches": json.dumps(net.reaches),
            "fine": str(len(net.fine)),
            "motion": str(int(net.motion)),
        }
    if isinstance(net, MattingNet):
        metadata |= {"network": MATTING}
    if isinstance(net, Centrifuge):
        metadata |= {"network": CENTRIFUGE, "shape": json.dumps(asdict(net.shape))}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        save_file(tensors, partial, metadata)
        sort_header(partial)
        partial.chmod(0o644)  # the library makes it readable by its owner alone


def sort_header(path: Path) -> None:
    """Put a safetensors file's header in a fixed order.

    The library's order of the metadata is random: equal networks would be different files.
    """
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    entries = sorted(header.items(), key=lambda item: item[1].get("data_offsets", [-1]))
    if "__metadata__" in header:
        metadata = dict(sorted(header["__metadata__"].items()))
        entries = [(k, metadata if k == "__metadata__" else v) for k, v in entries]
    text = json.dumps(dict(entries), separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

"""Where the computing happens: chosen once, then read from the tensors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, get_args

import torch

from omnimatte_cli.errors import OptionError
from omnimatte_cli.options import check
from omnimatte_cli.settings import DeviceName


def choose(name: str = "auto") -> torch.device:
    """The device for "auto", "cpu", "cuda" or "mps". Raises OptionError if it is not there."""
    known = get_args(DeviceName)
    check(name in known, f"--device takes {' or '.join(known)}, not {name!r}")
    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise OptionError(
            f"--device {name}: this machine or this build of torch has none; use --device cpu."
        )
    return torch.device(name)


def kind(device: torch.device) -> Literal["cpu", "gpu"]:
    """What a method's default choice depends on."""
    return "cpu" if device.type == "cpu" else "gpu"


def describe(device: torch.device) -> str:
    """The device and its precision in words, for the manifest."""
    name = device.type
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        name = f"{torch.get_num_threads()} threads"
    return f"{device.type} ({name}, {'bfloat16' if has_bfloat16(device) else 'float32'})"


def has_bfloat16(device: torch.device) -> bool:
    """Whether the GPU or the CPU computes in bfloat16.

    A CPU that has instructions for it trains and answers 1.5 to 2 times as fast.
    """
    if device.type == "cuda":
        # Older GPUs emulate bfloat16, which is slower than float32.
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Older torch lacks it.
        has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    return False


def autocast(device: torch.device) -> AbstractContextManager:
    """Computes in bfloat16 where the device can, in full precision elsewhere."""
    if has_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


@contextmanager
def deterministic() -> Iterator[None]:
    """Same input, same seed, same device: same numbers.

    Restores torch's global switches and random state on leaving.
    """
    before = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Not use_deterministic_algorithms, which imports torch's compiler first: a second or more.
    torch.set_deterministic_debug_mode("error")
    torch.backends.cudnn.benchmark = False
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cudnn.benchmark = benchmark

"""Where the computing happens: chosen once, then read from the tensors."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TypeVar, get_args

import torch

from omnimatte_cli.errors import OmnimatteError, OptionError
from omnimatte_cli.options import check
from omnimatte_cli.progress import Progress
from omnimatte_cli.settings import DeviceName

T = TypeVar("T")


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


def sent(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on a device, which is not waited for: a plain copy to a GPU ends all before it.

    The memory it is copied from belongs to torch's own allocator, which keeps it until then.
    """
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)


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


@contextmanager
def shared_among(workers: int) -> Iterator[None]:
    """So many threads that begin in this context each have their part of torch's own."""
    threads = torch.get_num_threads()
    torch.set_num_threads(-(-threads // workers))  # new threads begin with what is set
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def side_by_side(
    work: Callable[..., T], jobs: Sequence[tuple], device: torch.device, most: int = 2
) -> Generator[T, None, None]:
    """What `work` gives for each job's arguments, in order; on a CPU of several cores `most` at a
    time, each with its part of torch's threads.

    Torch's own threads wait for each other after every operation, which costs most where another
    process has one of the cores. Close the iterator if it is not run to its end.
    """
    count = min(most, torch.get_num_threads(), len(jobs))
    if device.type != "cpu" or count < 2:
        yield from (work(*job) for job in jobs)
        return
    with shared_among(count):
        pool = ThreadPoolExecutor(count)
        try:
            yield from pool.map(work, *zip(*jobs, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)


class BatchSize:
    """How much is computed at a time: halved, down to 1, when memory runs out; that is said."""

    def __init__(self, size: int, what: str, progress: Progress) -> None:
        """what: is counted, in the plural."""
        self.size, self.what, self.progress = size, what, progress

    def fit(self, compute: Callable[[int], T]) -> T:
        """What `compute` gives for this size, or for the first half that fits.

        Raises OmnimatteError where a single one does not.
        """
        while True:
            try:
                return compute(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.size <= 1:
                    raise OmnimatteError(
                        f"There is not enough memory for one of the {self.what}: try a smaller "
                        "--size, or --device cpu."
                    ) from error
            # Outside of the handler, so that the error no longer holds what was computed.
            half = self.size // 2
            self.progress.say(
                f"Memory ran out with {self.size} {self.what} at a time: {half} from here on."
            )
            self.size = half
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's of a GPU, its plain one of a CPU."""
    full = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return full or "not enough memory" in str(error) or "out of memory" in str(error)

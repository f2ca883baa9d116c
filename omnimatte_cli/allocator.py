"""How the C library and Python deal with memory that was freed."""

from __future__ import annotations

import ctypes
import gc
import sys

# glibc's mallopt: what parameters are called, and their values in bytes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
TRIM = 128 << 20  # free memory at a heap's end from which it goes back to the system
LARGE = 32 << 20  # blocks from this size on, the largest that it takes, always come from the system

# Objects made before Python looks for cycles among the youngest ones; and how often these, and
# those that stayed, are looked at before all are. Torch alone has some 400,000 objects.
COLLECT = (20_000, 20, 100)


def keep_freed_memory() -> None:
    """Let NumPy's temporary arrays use the same memory again, where the C library is glibc.

    By default blocks of some 100 kB to some MB come from the system and go back to it each time,
    and it clears every page anew: half of the time in which layers are made. And Python goes
    through all its objects less often.
    """
    gc.set_threshold(*COLLECT)
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, TRIM)
        mallopt(M_MMAP_THRESHOLD, LARGE)


def leave_cycles() -> None:
    """At the end of a command: let Python leave without looking for cycles among all its objects.

    With torch that takes half a second, and the system takes the memory back anyway. Objects whose
    last reference goes still end as ever, and what is registered for the exit still runs.
    OpenImageIO's binding would complain of each of its own objects that is left.
    """
    if "OpenImageIO" in sys.modules:
        return
    gc.disable()
    gc.freeze()

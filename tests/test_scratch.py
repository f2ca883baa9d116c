"""Arrays in files, and the clip's running averages in blocks: as plain arrays, in less memory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnimatte_cli import scratch
from omnimatte_cli.errors import OutputError
from omnimatte_cli.matte import still
from omnimatte_cli.matte.ownership import Ownership
from omnimatte_cli.scratch import Growing, Store, release, scratch_array

HOUSE = Path(__file__).parent.parent


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 1000)


def test_arrays_in_files_are_arrays(small: None) -> None:
    plain, large = scratch_array((2, 3), bool), scratch_array((20, 30), np.float16)
    assert not plain.any() and not large.any() and type(large) is np.ndarray
    large[3] = 7
    release(large, large[3:5], np.moveaxis(large, 0, 1), plain)
    assert large[3].tolist() == [7] * 30 and large.sum() == 210


@pytest.mark.parametrize("count", [1, 5, 40])
def test_frames_become_one_array(small: None, count: int) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (count, 6, 7, 3), np.uint8)
    growing = Growing()
    for frame in frames:
        growing.add(frame)
    assert (growing.file is None) == (frames.nbytes < 1000)
    found = growing.array()
    assert np.array_equal(found, frames) and found.dtype == np.uint8


def test_a_full_disk_is_memory_or_a_sentence(small: None, monkeypatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert scratch_array((20, 30), np.float16).shape == (20, 30)

    class Full:
        write = staticmethod(full)

    monkeypatch.setattr(scratch.tempfile, "TemporaryFile", Full)
    growing = Growing()
    with pytest.raises(OutputError, match=r"has no room .*No space left.*set TMPDIR"):
        for _ in range(40):
            growing.add(np.zeros((6, 7, 3), np.uint8))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_what_is_released_is_no_memory_of_the_process() -> None:
    program = """
import numpy as np
from omnimatte_cli.scratch import release, scratch_array
def held():
    return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) >> 10
before = held()
x = scratch_array((300, 1 << 20), np.uint8)
for i in range(300):
    x[i] = i % 200
    if i % 10 == 9:
        release(x)
assert held() - before < 60, held() - before
assert all(x[i, 5] == i % 200 for i in range(300))
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=HOUSE)


def test_small_arrays_are_kept_as_they_are(monkeypatch) -> None:
    monkeypatch.setattr(scratch, "BLOCK", 500)
    monkeypatch.setattr(scratch, "LARGE", 1200)
    random, store = np.random.default_rng(0), Store()
    given = [random.random((int(random.integers(0, 31)), 2)) for _ in range(60)]
    given += [x.astype(np.float32) for x in given] + [np.zeros((5, 0)), np.arange(7)[::2]]
    kept = [store.keep(x) for x in given]
    release(*kept)
    assert all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(given, kept, strict=True)
    )
    sizes = [block.nbytes for block in store.blocks]
    assert sizes[:2] == [500, 500] and set(sizes[2:]) == {1200}
    assert sum(sizes) < 2 * sum(x.nbytes for x in given)


LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's figures")


@LINUX
def test_pairs_of_a_long_clip_take_little_memory() -> None:
    """Points between freed pictures: kept one by one, they take 0.4 MB a frame."""
    program = """
import numpy as np
from omnimatte_cli import scratch
scratch.LARGE = 8 << 20
def held():
    return int(open("/proc/self/status").read().split("VmRSS:")[1].split()[0]) >> 10
store, kept, random = scratch.Store(), [], np.random.default_rng(0)
before = held()
for t in range(3000):
    pictures = [np.ones((360, 640), np.float32) for _ in range(4)]
    kept.append(store.keep(random.random((400, 2))))
    if t % scratch.EVERY == 0:
        store.release()
        scratch.trim()
assert held() - before < 24, held() - before
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=HOUSE)


def slow_average(ownership: Ownership, frames: np.ndarray, fps: float) -> Ownership:
    """The definition, with everything held at once."""
    n, t = ownership.weights.shape[:2]
    answers = np.empty((t, n + 1, *ownership.weights.shape[2:]), np.float16)
    answers[:, :n] = np.moveaxis(ownership.weights, 1, 0)
    answers[:, n] = ownership.unowned
    fade = np.float32(np.exp(-1 / (fps * still.MEMORY)))

    def running(order: range) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        found = {}
        mean = weight = look = last = None
        for k in order:
            own, picture = answers[k].astype(np.float32), frames[k].astype(np.float32)
            if mean is None:
                mean, weight, look = own, np.ones(own.shape[1:], np.float32), picture
            else:
                alike = still._alike(picture, last, still.ALIKE)
                alike = alike * still._alike(picture, look, still.DRIFT)
                kept = fade * weight * alike
                weight = kept + 1
                share = kept / weight
                mean = own + share * (mean - own)
                look = picture + share[..., None] * (look - picture)
            last = picture
            found[k] = mean, weight
        return found

    past, future = running(range(t)), running(range(t - 1, -1, -1))
    out = np.empty_like(answers)
    for k in range(t):
        mean, count = past[k][0].astype(np.float16), past[k][1].astype(np.float16)
        before, own = count.astype(np.float32), answers[k].astype(np.float32)
        total = mean * before + future[k][0] * future[k][1] - own
        out[k] = total / np.maximum(before + future[k][1] - 1, 1e-6)
    unowned = out[:, n] if ownership.unowned.size > 1 else ownership.unowned
    return Ownership(np.moveaxis(out[:, :n], 0, 1), unowned)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("length", [2, 5, 7, 8, 9, 16, 23])
def test_averages_in_blocks_are_the_averages(monkeypatch, length: int, single: bool) -> None:
    monkeypatch.setattr(still, "BLOCK", 8)
    random = np.random.default_rng(length)
    weights = random.random((2, length, 8, 10)).astype(np.float16)
    unowned = random.random((1, 1, 1) if single else (length, 8, 10)).astype(np.float16)
    frames = np.repeat(random.integers(0, 255, (1, 8, 10, 3), np.uint8), length, 0)
    frames = frames + random.integers(0, 6, frames.shape).astype(np.uint8)
    frames[length // 2 :, 3:] += 20
    given = Ownership(weights, unowned)
    found, slow = (average(given, frames, 12.0) for average in (still.average_static, slow_average))
    assert np.array_equal(found.weights, slow.weights)
    assert np.array_equal(found.unowned, slow.unowned)


def test_what_was_freed_is_given_back() -> None:
    scratch.trim()  # does nothing where the C library cannot
    assert scratch._malloc_trim() is scratch._malloc_trim()

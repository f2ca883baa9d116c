"""What gives no frame any more ends with a sentence, wherever the library hangs."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from omnimatte_cli.media import container, patience, sequence
from omnimatte_cli.media.options import ReadOptions
from omnimatte_cli.media.patience import StalledError, patient
from omnimatte_cli.media.read import iter_frames
from tests.conftest import encode, scene

HOUSE = Path(__file__).parent.parent


class Dead(io.FileIO):
    """A file on a drive that answers no more after some reads."""

    reads = 0
    enough = threading.Event()

    def read(self, size: int | None = -1) -> bytes:  # type: ignore[override]
        Dead.reads += 1
        if Dead.reads > 1:
            Dead.enough.wait()
        return super().read(size or -1)


@pytest.fixture
def impatient(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(patience, "PATIENCE", 0.3)
    Dead.enough.clear()
    Dead.reads = 0
    yield
    Dead.enough.set()
    for thread in threading.enumerate():
        if thread.name == "reading":
            thread.join(20)


def test_a_drive_that_does_not_answer(
    tmp_path: Path, request: pytest.FixtureRequest, impatient: None, monkeypatch
) -> None:
    video = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3), np.uint8)
    path = encode(tmp_path / "v.mkv", video, "-c:v", "ffv1")
    real, dead = av.open, Dead(path)
    monkeypatch.setattr(container.av, "open", lambda file, *args, **o: real(dead, *args, **o))
    request.addfinalizer(dead.close)
    start = time.monotonic()
    with pytest.raises(StalledError, match=r"v\.mkv gives no frame \d+ in 0\.3 s: it is damaged"):
        list(iter_frames(path))
    assert time.monotonic() - start < 5


def test_an_image_that_does_not_come(tmp_path: Path, impatient: None, monkeypatch) -> None:
    for t in range(3):
        (tmp_path / f"{t}.png").touch()

    def hangs(path: Path) -> np.ndarray:
        if path.stem == "2":
            Dead.enough.wait()
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(sequence, "read_deep", hangs)
    with pytest.raises(StalledError, match="gives no frame 2 in"):
        list(iter_frames(tmp_path))


def test_skipped_frames_are_progress(tmp_path: Path, monkeypatch) -> None:
    path = encode(tmp_path / "v.mkv", scene(6)[0], "-c:v", "ffv1")
    found = container.FileReader(path, ReadOptions(first=4))._pictures()
    assert [picture is None for picture in found] == [True] * 4 + [False] * 2
    assert len(list(iter_frames(path, options=ReadOptions(first=4)))) == 2


def test_what_is_read_is_closed_where_it_was_opened(tmp_path: Path) -> None:
    threads = []

    def items(fail: bool = False) -> Iterator[int]:
        try:
            threads.append(threading.get_ident())
            yield from range(3)
            if fail:
                raise ValueError("as it is")
        finally:
            threads.append(threading.get_ident())

    assert list(patient(items(), tmp_path)) == [0, 1, 2]  # type: ignore[arg-type]
    early = patient(items(), tmp_path)  # type: ignore[arg-type]
    assert next(early) == 0
    early.close()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="as it is"):
        list(patient(items(True), tmp_path))  # type: ignore[arg-type]
    assert threads[::2] == threads[1::2] and len(threads) == 6
    assert threading.get_ident() not in threads


PROGRAM = """
import sys, time
from pathlib import Path
from omnimatte_cli.media import patience
patience.PATIENCE = 4.0
def items():
    yield 0
    time.sleep(float(sys.argv[1]))
    yield 1
for item in patience.patient(items(), Path("v.mp4")):
    print(item, flush=True)
"""


def test_a_process_with_a_thread_that_hangs_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM.replace("4.0", "0.5"), "600"]
    done = subprocess.run(command, cwd=HOUSE, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "StalledError: v.mp4 gives no frame 1" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="nothing stops processes there")
def test_time_in_which_the_process_is_stopped_does_not_count() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "2"], cwd=HOUSE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "0\n"
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(5)
    os.kill(child.pid, signal.SIGCONT)
    assert child.communicate(timeout=30)[0] == "1\n" and child.returncode == 0

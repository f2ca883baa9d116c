"""Batches on a Ray cluster of two workers, of which one is killed."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from omnimatte_cli.batch.records import Record
from tests.test_batch import STUB, jobs_of

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_ray_begins_a_shot_again_whose_worker_was_killed(tmp_path: Path, monkeypatch) -> None:
    """Two workers on this machine; the one that runs `killer` dies the first time."""
    ray = pytest.importorskip("ray", reason="ray is an extra: pip install 'omnimatte[ray]'")
    from omnimatte_cli.batch.ray import run_ray

    stub = tmp_path / "stub.py"
    stub.write_text(
        STUB.replace(
            "facts = ",
            f"""if name.startswith("killer") and not os.path.exists({str(tmp_path / "once")!r}):
    open({str(tmp_path / "once")!r}, "w").close()
    os.kill(int(sys.argv[1]), signal.SIGKILL)
    sys.exit(0)
facts = """,
        )
    )
    monkeypatch.setenv("OMNIMATTE_BATCH_PROGRAM", shlex.join([sys.executable, str(stub)]))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    found: dict[str, Record] = {}
    jobs = jobs_of(tmp_path, "a", "bad", "killer", "z")
    run_ray(
        jobs, tmp_path / "out", 2, None, 0, None, 2, None, lambda r: found.update({r.shot: r})
    )  # fmt: skip
    assert not ray.is_initialized()
    assert (tmp_path / "once").exists()
    states = {name: record.state for name, record in found.items()}
    assert states == {"a": "done", "bad": "failed", "killer": "done", "z": "done"}

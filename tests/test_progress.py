"""What the plain lines say."""

from __future__ import annotations

import pytest

from omnimatte_cli import progress


def test_time_left_counts_this_run_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    lines = progress.Plain()
    lines.stage("training", 1000)
    for done in (850, 900, 950):  # resumed at 800; 20 s for 50 steps
        clock[0] += 20
        lines.step(done, "loss 1")
    assert capsys.readouterr().err.splitlines() == [
        "training ...",
        "training: 850/1000  loss 1",
        "training: 900/1000, 40 s left  loss 1",
        "training: 950/1000, 20 s left  loss 1",
    ]

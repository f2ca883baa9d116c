"""The benchmarks run: here on next to nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

RUNS = {
    "pipeline": ["--size", "96x64", "--frames", "4", "--objects", "1", "--repeat", "1"],
    "ownership": ["--objects", "1", "--frames", "8"],
    "finetune": ["--widths", "8", "--steps", "1"],
    "inference": ["--widths", "8"],
    "writing": ["--size", "160x96", "--frames", "3"],
    "startup": ["--repeat", "1"],
    "structure": ["."],
    "formats": ["--size", "160x96", "--frames", "2"],
    "systems": ["--size", "48", "--frames", "4", "--only", "masks"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_benchmark_prints_its_table(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = RUNS[name]
    if name in ("pipeline", "writing"):
        arguments = [*arguments, "--folder", str(tmp_path)]
    if name == "systems":
        arguments = [str(tmp_path), *arguments]
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(f"benchmarks.{name}").main()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) >= 3
    cells = {line.count("|") for line in lines}
    assert min(cells) >= 3

"""Every line of `input_cases.py` and `input_odd.py` by the real command.

The table of docs/inputs.md is held to them.
"""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from tests.input_cases import CASES, DECOMPOSE, Case, rows, truth
from tests.input_odd import ODD

pytestmark = pytest.mark.slow

QUICK = "--method ownership --size 32x48 --device cpu --no-strangers --camera static --no-report"


@pytest.mark.parametrize(
    "case", [*CASES, *ODD], ids=lambda c: f"{c.kind} {c.what}".replace(" ", "_")
)
def test_case(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = case.make(tmp_path)
    arguments = [a.format(video=name) for a in shlex.split(case.command)]
    if case.command.startswith(DECOMPOSE):
        arguments += shlex.split(QUICK)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    said = done.stdout + done.stderr
    assert done.exit_code == case.code, said
    assert all(word in said for word in case.says), said
    assert "\x1b" not in said
    if case.code:
        assert sorted(tmp_path.rglob("*")) == before  # nothing is written, nothing is lost
        last = done.stderr.strip().splitlines()[-1]
        assert last.endswith("."), last
    if case.objects:
        check_objects(case, tmp_path / "out")
    if case.check:
        case.check(tmp_path)


def test_the_table_in_the_docs_is_this_one() -> None:
    """`python -m tests.input_odd` prints it."""
    page = (Path(__file__).parent.parent / "docs" / "inputs.md").read_text().splitlines()
    lines = [line for line in page if line.count(" | ") == 5]
    assert lines[1:] == rows([*CASES, *ODD])


def check_objects(case: Case, out: Path) -> None:
    """Each object is written, and where masks are, there it is opaque (or white in its trimask)."""
    assert case.objects
    layers = out / "layers"
    folder = layers if layers.exists() else out
    found = {p.name for p in folder.iterdir() if p.is_dir()} - {"background", "lost+found"}
    assert found == set(case.objects)
    best = []
    for name in case.objects:
        images = [cv2.imread(str(p), -1) for p in sorted((folder / name).glob("*.png"))]
        bodies = [i[..., 3] > 200 if i.shape[2:] == (4,) else (i == 255).all(2) for i in images]
        scores = []
        for right in case.shown(truth()):
            with contextlib.suppress(ValueError):
                both = [iou(a, b) for a, b in zip(bodies, right, strict=False)]
                scores.append(float(np.mean(both)))
        best.append(max(scores))
    if case.command.startswith("trimask"):
        assert min(best) >= case.least, best


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))

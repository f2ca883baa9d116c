"""`omnimatte doctor` says what is there, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.doctor import examine
from omnimatte_cli.methods import weights


def test_all_is_well_here() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.stdout
    found = {f["what"]: f for f in json.loads(done.stdout)}
    for what in ("python", "torch", "device", "ffmpeg", "libx264", "self-test"):
        assert found[what]["good"] is True, found[what]
    assert {"temporary", "working folder", "SAM checkpoints"} <= found.keys()


def test_what_is_wrong_is_said_and_the_rest_still_looked_at(tmp_path: Path, monkeypatch) -> None:
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 100)
    monkeypatch.setattr(weights, "shipped_folder", lambda: tmp_path)
    found = {f.what: f for f in examine(fake, self_test=False)}
    assert found["programs"].good is False and "ffmpeg" in found["programs"].text
    assert found["weights"].good is False and "bad" in found["weights"].text
    assert found["temporary"].good is not False and "self-test" not in found
    done = CliRunner().invoke(app, ["doctor", "--quick", "--ffmpeg", str(fake)])
    assert done.exit_code == 1 and "WRONG" in done.stdout

"""Methods: which one a run takes, what each can be told, and how one is added."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli import decompose
from omnimatte_cli.cli import app
from omnimatte_cli.errors import OptionError
from omnimatte_cli.methods import registry
from omnimatte_cli.methods.coordination.options import Options as Coordination
from omnimatte_cli.settings import Settings
from tests.conftest import encode, scene, write_masks


@pytest.mark.parametrize(
    ("settings", "where", "method"),
    [
        ({}, "cpu", "ownership"),
        ({}, "gpu", "coordination"),
        ({"iterations": 5}, "cpu", "coordination"),
        ({"iterations": "auto"}, "cpu", "coordination"),
        ({"assignments": ("iterations=auto",)}, "cpu", "coordination"),
        ({"weights": "none"}, "cpu", "coordination"),
        ({"weights": "small"}, "cpu", "coordination"),
        ({"weights": "ownership"}, "gpu", "ownership"),
        ({"assignments": ("detail=transfer",)}, "cpu", "coordination"),
        ({"assignments": ("plate_passes=1",)}, "cpu", "ownership"),
        ({"method": "ownership"}, "gpu", "ownership"),
    ],
)
def test_choice(settings: dict, where, method: str) -> None:
    choice = registry.choose(Settings(**settings), where)
    assert choice.name == method and choice.reason.startswith(f"Method: {method}")


def test_a_number_of_passes_is_that_of_plates_as_it_was_at_first() -> None:
    settings = Settings(passes=("1", "body"))
    assert settings.passes == ("body",)
    assert registry.choose(settings, "cpu").solve.plate_passes == 1
    assert registry.choose(Settings(), "cpu").solve.plate_passes == 3
    for number, message in (("9", "plate_passes must be from 1 to 5"), ("-1", "--passes takes")):
        with pytest.raises(OptionError, match=message):
            registry.choose(Settings(passes=(number,)), "cpu")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"assignments": ("lr=0.1", "frame_strid=2")}, "did you mean frame_stride"),
        ({"assignments": ("qqq=1",)}, "--help-set"),
        ({"method": "ownership", "iterations": 3}, "--iterations is not for --method ownership"),
        ({"assignments": ("iterations=many",)}, "iterations takes number.auto"),
        ({"method": "omnimatte2021", "iterations": "auto"}, "--iterations auto: iterations takes"),
        ({"iterations": -1}, "--iterations must be 0 or more, or auto"),
        ({"iterations": "many"}, "--iterations must be 0 or more, or auto"),
        ({"method": "ownership", "weights": "none"}, "--weights none is not for"),
        ({"weights": "ownership", "iterations": 3}, "--iterations is not for --method ownership"),
        ({"weights": "ownership", "assignments": ("detail=none",)}, "--set detail"),
        ({"method": "magic"}, "--method takes auto or ownership or coordination"),
    ],
)
def test_options_that_would_be_ignored_are_errors(settings: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        registry.choose(Settings(**settings), "cpu")


def test_a_method_is_added_with_a_folder_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.METHODS, "toy", "tests.toy_method")
    video, masks = scene(6, (36, 64))
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "block", masks)
    args = ["decompose", tmp_path / "v.mkv", "--masks", tmp_path / "masks", "-o", tmp_path / "out"]
    args += ["--method", "toy", "--set", "opacity=0.5", "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.stderr
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["method"] == "toy" and manifest["options"]["set"]["opacity"] == 0.5
    layer = cv2.imread(str(tmp_path / "out" / "layers" / "block" / "00003.png"), -1)
    np.testing.assert_array_equal(layer[..., 3], masks[3] * np.uint8(128))
    listed = CliRunner().invoke(app, ["decompose", "--help-set"])
    assert listed.exit_code == 0 and "alpha inside the masks" in listed.stdout


def test_every_option_is_listed_with_type_default_and_help() -> None:
    listed = CliRunner().invoke(app, ["decompose", "--help-set"]).stdout
    for name in Coordination.__dataclass_fields__:
        assert name in listed
    assert "0.0005" in listed and "resolve|transfer|none" in listed
    assert "ownership (needs masks and plate)" in listed and "2021 (needs masks)" in listed


@pytest.mark.slow
def test_transfer_computes_no_ownership(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --set detail=transfer the ownership network is asked for the plate alone."""
    from omnimatte_cli.methods.coordination import method

    def never(*args: object) -> None:
        raise AssertionError("ownership was computed and thrown away")

    monkeypatch.setattr(method, "choose_owner", never)
    monkeypatch.setattr(method, "pool_over_time", never)
    video, masks = scene(5, (36, 64))
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "block", masks)
    found = decompose(
        tmp_path / "v.mkv", tmp_path / "out", masks=tmp_path / "masks", iterations=1,
        weights="none", set={"detail": "transfer"}, size=(32, 48), device="cpu",
    )  # fmt: skip
    assert found.manifest["method"] == "coordination"


@pytest.mark.parametrize(
    ("masked", "report", "scratch", "decodes"),
    [
        (True, False, 1 << 30, 1),
        (False, False, 1 << 30, 1),
        # The report looks at the input again.
        pytest.param(True, True, 1 << 30, 1, marks=pytest.mark.slow),
        # Frames that do not fit on the disk are read again to be written, and for masks.
        pytest.param(True, False, 0, 2, marks=pytest.mark.slow),
        pytest.param(False, False, 0, 3, marks=pytest.mark.slow),
    ],
)
def test_frames_are_decoded_as_seldom_as_possible(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    masked: bool,
    report: bool,
    scratch: int,
    decodes: int,
) -> None:
    """Whatever the size of the frames, which says only whether they fit."""
    from omnimatte_cli.media import read, samples

    opened = []
    inner = read._reader

    def counted(path: Path, *args, **options):
        if path.name == "v.mkv":
            opened.append(path)
        return inner(path, *args, **options)

    monkeypatch.setattr(read, "_reader", counted)
    monkeypatch.setattr(samples, "SCRATCH_BYTES", scratch)
    monkeypatch.setattr(samples, "FEWEST_SAMPLES", 4)
    video, masks = scene(6, (72, 128))
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "block", masks)
    given = {"masks": tmp_path / "masks"} if masked else {}
    found = decompose(
        tmp_path / "v.mkv", tmp_path / "out", device="cpu", camera="static", report=report,
        strangers=False, **given,
    )  # fmt: skip
    assert len(opened) == decodes and (found.report is not None) == report

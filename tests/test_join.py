"""Parts of a shot, written by runs of their own, are together what one run writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from omnimatte_cli import decompose
from omnimatte_cli.cli import app
from omnimatte_cli.deliver.join import join_parts
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.errors import OptionError, ResultError
from omnimatte_cli.media.read import iter_frames, probe
from omnimatte_cli.progress import Silent
from tests.conftest import encode, ffmpeg, scene, write_masks

pytestmark = pytest.mark.slow

FRAMES, PARTS = 10, 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whole/, p1/ to p3/ of one clip with sound, and joined/."""
    folder = tmp_path_factory.mktemp("join")
    video, masks = scene(FRAMES)
    encode(folder / "silent.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    tone = ("-f", "lavfi", "-i", "sine=440:duration=1", "-c:v", "copy", "-c:a", "aac")
    ffmpeg("-i", str(folder / "silent.mkv"), *tone, "-shortest", str(folder / "it's.mkv"))
    write_masks(folder / "masks" / "block", masks)
    (folder / "masks" / "other").mkdir()
    write_masks(folder / "masks" / "other", np.roll(masks, 12, 1))
    for name, part in (("whole", None), *((f"p{i}", f"{i}/{PARTS}") for i in (1, 2, 3))):
        decompose(
            folder / "it's.mkv", folder / name, masks=folder / "masks", method="ownership",
            size=(32, 48), exact=True, part=part, formats=("png16", "prores"),
            passes=("body", "shadow"), seed=3,
        )  # fmt: skip
    join_parts([folder / f"p{i}" for i in (2, 3, 1)], folder / "joined", Silent())
    return folder


def files(folder: Path, suffix: str) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob(f"*{suffix}")}


def test_images_are_those_of_one_run(runs: Path) -> None:
    whole, joined = files(runs / "whole", ".png"), files(runs / "joined", ".png")
    assert whole == joined and len(whole) >= 2 * FRAMES * 3
    assert sorted(p.name for p in (runs / "whole").iterdir()) == sorted(
        p.name for p in (runs / "joined").iterdir()
    )


@pytest.mark.parametrize("name", ["composite.mp4", "preview.mp4", "prores/block.mov"])
def test_videos_have_the_same_frames_without_a_seam(runs: Path, name: str) -> None:
    one, other = (np.stack(list(iter_frames(runs / n / name))) for n in ("whole", "joined"))
    assert one.shape == other.shape and len(one) == FRAMES
    apart = np.abs(one.astype(int) - other).mean((1, 2, 3))
    assert apart.max() < 2.0, apart  # levels: each part begins with a key frame of its own
    facts = [probe(runs / n / name) for n in ("whole", "joined")]
    assert facts[0].fps == facts[1].fps and not facts[1].variable
    assert abs(facts[0].duration - facts[1].duration) < 0.01


def test_sound_and_facts_are_those_of_the_whole(runs: Path) -> None:
    lengths = []
    for name in ("whole", "joined"):
        with av.open(str(runs / name / "composite.mp4")) as film:
            stream = film.streams.audio[0]
            lengths.append(float(stream.duration * stream.time_base))
    assert lengths[0] == pytest.approx(lengths[1], abs=0.03)
    with av.open(str(runs / "p1" / "composite.mp4")) as film:
        assert not film.streams.audio
    whole, joined = (
        json.loads((runs / n / "manifest.json").read_text()) for n in ("whole", "joined")
    )
    assert joined["psnr"] == pytest.approx(whole["psnr"], abs=1e-6)
    assert joined["parts"] == PARTS and "part" not in joined
    assert joined["input"] == whole["input"] and joined["options"] == whole["options"]
    assert read_result(runs / "joined").frames == FRAMES
    with pytest.raises(ResultError, match="holds a part of a shot: `omnimatte join`"):
        read_result(runs / "p2")


def test_what_is_no_whole_shot_is_refused(runs: Path, tmp_path: Path) -> None:
    one, two, three = (runs / f"p{i}" for i in (1, 2, 3))
    for parts, words in (
        ([one, three], "part with frames 3 to 5 is missing"),
        ([one, two], "part with frames 6 to 9 is missing"),
        ([two, three], "part with frames 0 to 2 is missing"),
        ([one, two, two, three], "which another has"),
        ([one, runs / "whole"], "whole holds no part of a shot: make it with"),
        ([one, tmp_path / "none"], "none holds no part of a shot: it has no manifest"),
    ):
        with pytest.raises(ResultError, match=words):
            join_parts(parts, tmp_path / "out", Silent())
    shutil.copytree(two, tmp_path / "other")
    facts = json.loads((tmp_path / "other" / "manifest.json").read_text())
    facts["seed"] = 4
    (tmp_path / "other" / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(ResultError, match="not parts of one run: they differ in seed"):
        join_parts([one, tmp_path / "other", three], tmp_path / "out", Silent())
    (tmp_path / "other" / "manifest.json").write_bytes((two / "manifest.json").read_bytes())
    next(iter(sorted((tmp_path / "other").rglob("00004.png")))).unlink()
    with pytest.raises(ResultError, match=r"lacks .*00004.png.*make the part again"):
        join_parts([one, tmp_path / "other", three], tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()
    for part, words in (("4/3", "--part takes I/N"), ("1/99", "has 10 frames, not 99 parts")):
        with pytest.raises(OptionError, match=words):
            decompose(
                runs / "it's.mkv", tmp_path / "out", masks=runs / "masks", part=part,
                method="ownership", size=(32, 48),
            )  # fmt: skip


def test_the_command(runs: Path, tmp_path: Path) -> None:
    parts = [str(runs / f"p{i}") for i in (1, 2, 3)]
    done = CliRunner().invoke(app, ["join", *parts, "-o", str(tmp_path / "out"), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["parts"] == PARTS, done.output
    done = CliRunner().invoke(app, ["join", *parts[1:], "-o", str(tmp_path / "out2")])
    assert done.exit_code == 2 and done.stderr.startswith("Error: The part with frames 0 to 2")


def test_parts_with_other_masks_or_another_plate_are_not_one_shot(tmp_path: Path) -> None:
    """The paths are the same; what lies there is not."""
    video, masks = scene(FRAMES)
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    plate = tmp_path / "plate.png"
    for number in (1, 2):
        write_masks(tmp_path / "masks" / "block", masks)
        write_masks(tmp_path, video[:1], name="plate.png")
        changed = number == 2
        for what in ("masks", "plate"):
            if changed and what == "masks":
                write_masks(tmp_path / "masks" / "block", np.roll(masks, 1, 2))
            elif changed:
                write_masks(tmp_path / "masks" / "block", masks)
                write_masks(tmp_path, video[1:2], name="plate.png")
            decompose(
                tmp_path / "v.mkv", tmp_path / f"{what}{number}", masks=tmp_path / "masks",
                method="ownership", size=(32, 48), background=plate, part=f"{number}/2",
            )  # fmt: skip
    for what, key in (("masks", "objects"), ("plate", "background")):
        with pytest.raises(ResultError, match=f"differ in {key}"):
            join_parts([tmp_path / f"{what}{i}" for i in (1, 2)], tmp_path / "out", Silent())

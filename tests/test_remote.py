"""Results on storage elsewhere, by fsspec's file system in memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from typer.testing import CliRunner

from omnimatte_cli import remote
from omnimatte_cli.cli import app
from omnimatte_cli.errors import InputError, OmnimatteError, OutputError
from omnimatte_cli.media.listing import MARK, files_in, write_list
from omnimatte_cli.remote import check_target, fetch, localised, open_place, put, url_of
from omnimatte_cli.settings import Settings
from tests.conftest import encode, scene, write_masks

OUT = "memory://bucket/out/shot"


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def result(folder: Path, word: str, *names: str) -> Path:
    for name in (*names, "manifest.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(word))
    write_list(folder)
    return folder


def below(files: fsspec.AbstractFileSystem, path: str = "/bucket/out/shot") -> list[str]:
    return sorted(n.removeprefix(path + "/") for n in files.find(path))


def test_what_is_a_url(tmp_path: Path, monkeypatch) -> None:
    for path, url in (
        (Path("s3://bucket/a.mp4"), "s3://bucket/a.mp4"),
        ("memory://x", "memory://x"),
        (Path("file:///tmp/a.mp4"), "file:///tmp/a.mp4"),
        (Path("clips/a.mp4"), None),
        (Path("C:/clips/a.mp4"), None),
        (Path("/s3:/a"), None),
        (None, None),
    ):
        assert url_of(path) == url
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    assert url_of("s3:/") is None
    with pytest.raises(InputError, match="on no storage that is known"):
        open_place("nowhere://a/b")


def test_files_and_folders_are_fetched(memory, tmp_path: Path) -> None:
    memory.pipe({"/in/a.mp4": b"video", "/in/masks/dog/0.png": b"0", "/in/masks/dog/1.png": b"1"})
    assert fetch(open_place("memory://in/a.mp4"), tmp_path / "v").read_bytes() == b"video"
    masks = fetch(open_place("memory://in/masks"), tmp_path / "m")
    assert files_in(masks) == ["dog/0.png", "dog/1.png"]
    with pytest.raises(InputError, match=r"none\.mp4 cannot be read"):
        fetch(open_place("memory://in/none.mp4"), tmp_path / "n")


def test_a_result_is_replaced_by_its_list_alone(memory, tmp_path: Path) -> None:
    place = open_place(OUT)
    assert check_target(place, False) == []
    put(result(tmp_path / "one", "old", "layers/a/0.png", "layers/a/1.png"), place, [])
    names = [MARK, "layers/a/0.png", "layers/a/1.png", "manifest.json"]
    assert below(memory) == names
    with pytest.raises(OutputError, match="exists and is not empty"):
        check_target(place, False)
    old = check_target(place, True)
    assert old == names
    put(result(tmp_path / "two", "new", "layers/a/0.png"), place, old)
    assert below(memory) == [MARK, "layers/a/0.png", "manifest.json"]
    assert json.loads(memory.cat("/bucket/out/shot/layers/a/0.png")) == "new"
    memory.pipe("/bucket/out/shot/notes.txt", b"mine")
    with pytest.raises(OutputError, match=r"also holds notes\.txt"):
        check_target(place, True)
    memory.pipe("/other/thesis.txt", b"mine")
    with pytest.raises(OutputError, match="not a result of this tool"):
        check_target(open_place("memory://other"), True)


def test_the_manifest_comes_last(memory, tmp_path: Path, monkeypatch) -> None:
    """A copy that is cut off looks unfinished, and one over an old result as well."""
    place = open_place(OUT)
    put(result(tmp_path / "one", "old", "layers/a/0.png"), place, [])
    copied: list[str] = []
    put_file = type(memory).put_file

    def fail(self, local: str, path: str, **more: object) -> None:
        if len(copied) == 1:
            raise OSError("the line is dead")
        copied.append(path)
        put_file(self, local, path, **more)

    monkeypatch.setattr(type(memory), "put_file", fail)
    result(tmp_path / "two", "new", "layers/a/0.png", "layers/a/1.png")
    with pytest.raises(OSError, match="the line is dead"):
        put(tmp_path / "two", place, check_target(place, True))
    assert "manifest.json" not in below(memory)


def test_what_could_not_be_copied_is_kept(memory, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(remote, "put", lambda *a: (_ for _ in ()).throw(OSError("no room\nat all")))
    with (
        pytest.raises(OmnimatteError, match=r"\(no room at all\): it is kept in ") as caught,
        localised(tmp_path, Path(OUT), Settings(), print) as (_, folder, _),
    ):
        result(folder, "new")
    kept = Path(str(caught.value).partition("kept in ")[2].rstrip("."))
    assert (kept / "manifest.json").is_file()
    shutil.rmtree(kept.parent)


@pytest.mark.slow
def test_the_whole_way(memory, tmp_path: Path) -> None:
    video, masks = scene(5)
    encode(tmp_path / "v.mkv", video, "-c:v", "ffv1", "-pix_fmt", "gbrp")
    write_masks(tmp_path / "masks" / "block", masks)
    memory.put(str(tmp_path / "v.mkv"), "/bucket/in/v.mkv")
    memory.put(str(tmp_path / "masks"), "/bucket/in/masks", recursive=True)
    line = ["decompose", "memory://bucket/in/v.mkv", "--masks", "memory://bucket/in/masks", "-o",
            OUT, "--method", "ownership", "--size", "48x32"]  # fmt: skip
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0 and done.stdout == OUT + "\n", done.output
    assert {"manifest.json", MARK, "layers/block/00004.png", "composite.mp4"} <= set(below(memory))
    facts = json.loads(memory.cat("/bucket/out/shot/manifest.json"))
    assert facts["input"]["source"] == "memory://bucket/in/v.mkv"
    assert facts["options"]["masks"] == "memory://bucket/in/masks"
    again = CliRunner().invoke(app, line)
    assert again.exit_code == 2 and "exists and is not empty" in again.stderr

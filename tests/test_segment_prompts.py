"""Prompts and settings are read, and refused with a sentence that helps."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from omnimatte_cli.cli import app
from omnimatte_cli.errors import OptionError
from omnimatte_cli.segment.prompts import Box, Point, Prompt, parse_prompts, within_part
from omnimatte_cli.settings import MaskSettings


def test_points_and_boxes_are_gathered_by_object_and_frame() -> None:
    found = parse_prompts(
        ["dog:0:312,180", "dog:0:300.5,90-", "cat:7:1,2+", "dog:4:5,6"], ["dog:4:1,2,30,40"]
    )
    assert found == [
        Prompt("dog", 0, (Point(312, 180), Point(300.5, 90, False))),
        Prompt("dog", 4, (Point(5, 6),), Box(1, 2, 30, 40)),
        Prompt("cat", 7, (Point(1, 2),)),
    ]
    assert found[0].scaled(0.5, 2).points[0] == Point(156, 360)


@pytest.mark.parametrize(
    "text",
    [
        "dog",
        "dog:0",
        "dog:0:1",
        "dog:x:1,2",
        "dog:-1:1,2",
        "dog:0:1,2,3",
        "dog:0:a,b",
        "dog:0:nan,1",
    ],
)
def test_unclear_points_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match=r"name:frame:x,y, such as dog:0:312,180"):
        parse_prompts([text], [])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "two words"])
def test_names_must_be_folders_and_words(name: str) -> None:
    with pytest.raises(OptionError, match=r"cannot name an object|cannot be understood"):
        parse_prompts([f"{name}:0:1,2"], [])


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        (["a:0:5,5,5,9"], "right of and below"),
        (["a:0:1,1,4,4", "a:0:2,2,5,5"], "already"),
        (["a:0:1,1,4,4-"], "only points"),
        (["a:0:1,1,4"], "x0,y0,x1,y1"),
    ],
)
def test_bad_boxes_are_refused(boxes: list[str], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse_prompts([], boxes)


def test_only_background_points_are_refused() -> None:
    with pytest.raises(OptionError, match="only points that are not on it in frame 3"):
        parse_prompts(["dog:3:1,2-"], [])


def test_prompts_outside_the_video_are_refused() -> None:
    size = (100, 200)
    within_part(parse_prompts(["a:9:199,99"], ["b:0:0,0,200,100"]), 0, 10, size)
    # In a part, frames count as in the whole video.
    assert within_part(parse_prompts(["a:25:1,1"], []), 20, 10, size)[0].frame == 5
    for outside in (19, 30):
        with pytest.raises(OptionError, match="chosen part's frames are 20 to 29"):
            within_part(parse_prompts([f"a:{outside}:1,1"], []), 20, 10, size)
    with pytest.raises(OptionError, match="frames are 0 to 9"):
        within_part(parse_prompts(["a:10:1,1"], []), 0, 10, size)
    with pytest.raises(OptionError, match=r"'a' in frame 0: 200,5 is outside.*200x100"):
        within_part(parse_prompts(["a:0:200,5"], []), 0, 10, size)
    with pytest.raises(OptionError, match="outside"):
        within_part(parse_prompts([], ["a:0:10,10,50,120"]), 0, 10, size)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "magic"}, "--method takes auto"),
        ({"sam": "vit_x"}, "--sam takes vit_b"),
        ({"method": "sam"}, "--sam vit_b"),
        ({"method": "motion", "sam": "vit_b"}, "contradict"),
        ({"every": 0}, "--every"),
        ({"max_objects": 0}, "--max-objects"),
        ({"keep": (1,)}, "--keep needs --corrected"),
    ],
)
def test_contradicting_settings_are_refused(options: dict, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        MaskSettings(**options)


def test_frames_to_keep() -> None:
    for text in ("a", "1,-2", "1.5"):
        args = ["masks", "video.mp4", "-o", "out", "--corrected", "masks", "--keep", text]
        done = CliRunner().invoke(app, args)
        assert done.exit_code == 2 and "--keep takes" in done.stderr

"""Names of a label map's objects, where another tool's export has them.

Read are labels.txt and its kin (one name a line, with or without a number), CVAT's labelmap.txt
(`car:48,112,32::`) and label_colors.txt (`48 112 32 car`), and the JSON of COCO (categories,
panoptic segments) and of CVAT (a list of labels with colours).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnimatte_cli.errors import MaskError

TEXTS = ("labels.txt", "labelmap.txt", "label_colors.txt", "classes.txt", "names.txt")
BACKGROUNDS = frozenset(("background", "_background_", "__background__", "bg", "unlabeled"))
LARGEST_JSON = 64 << 20  # bytes; what is larger is no list of names


def read_names(folder: Path) -> dict[int, str]:
    """Names by label value (level, palette index, or colour 0xRRGGBB); empty where there are none.

    Looked for in the masks folder and the one above it. Raises MaskError for a broken file.
    """
    found: dict[int, str] = {}
    for place in (folder.parent, folder):  # the nearer file wins
        if not place.is_dir():
            continue
        if place == folder.parent and not (folder.is_dir() and _belongs(place, folder)):
            continue
        for path in sorted(place.iterdir()):
            if path.name.lower() in TEXTS:
                found.update(_from_text(path))
            elif path.suffix.lower() == ".json" and path.stat().st_size <= LARGEST_JSON:
                found.update(_from_json(path))
    return {v: n for v, n in found.items() if n.lower() not in BACKGROUNDS}


def folder_name(name: str) -> str:
    """A label's name as a folder's: letters, digits, - and _ of any script."""
    return re.sub(r"[^\w\-]+", "_", name.strip()).strip("_")


def _belongs(place: Path, folder: Path) -> bool:
    """Whether the folder above is part of the same export: it holds a text of names."""
    return any((place / name).is_file() for name in TEXTS) or (place / "annotations").is_dir()


def _from_text(path: Path) -> dict[int, str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MaskError(f"{path} cannot be read as text.") from error
    lines = [line.strip() for line in lines]
    lines = [line for line in lines if line and not line.startswith("#")]
    found: dict[int, str] = {}
    # Without numbers the line's place counts: from 0 where the first is the background, else from 1
    place = 0 if lines and lines[0].lower() in BACKGROUNDS else 1
    for line in lines:
        if cvat := re.fullmatch(r"([^:]+):(\d+),\s*(\d+),\s*(\d+)(:.*)?", line):
            found[_code(*cvat.groups()[1:4])] = cvat[1]
        elif camvid := re.fullmatch(r"(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(\S.*)", line):
            found[_code(*camvid.groups()[:3])] = camvid[4]
        elif first := re.fullmatch(r"(\d+)\s*[:=,;\s]\s*(\D.*)", line):
            found[int(first[1])] = first[2]
        elif last := re.fullmatch(r"(\S.*?)\s*[:=,;\s]\s*(\d+)", line):
            found[int(last[2])] = last[1]
        else:
            found[place] = line
        place += 1
    return found


def _from_json(path: Path) -> dict[int, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError):
        return {}  # some other tool's file, which need not be ours to understand
    found: dict[int, str] = {}
    categories: dict[int, str] = {}
    for entry in _entries(content):
        name, number, colour = entry.get("name"), entry.get("id"), entry.get("color")
        if not isinstance(name, str):
            continue
        if isinstance(colour, str) and re.fullmatch("#?[0-9a-fA-F]{6}", colour):
            found[int(colour.lstrip("#"), 16)] = name
        elif isinstance(colour, list) and is_colour(colour):
            found[_code(*colour)] = name
        if isinstance(number, int):
            categories[number] = name
            found.setdefault(number, name)
    if isinstance(content, dict):
        for segment in _segments(content):
            # COCO panoptic: id = R + 256 G + 65536 B.
            number, category = segment.get("id"), segment.get("category_id")
            if isinstance(number, int) and isinstance(category, int) and category in categories:
                red, green, blue = number & 255, number >> 8 & 255, number >> 16 & 255
                found[_code(red, green, blue)] = categories[category]
    return found


def is_colour(levels: list[Any]) -> bool:
    """Whether a JSON list is a colour of three levels."""
    return len(levels) == 3 and all(isinstance(x, int) and 0 <= x <= 255 for x in levels)


def _entries(content: Any) -> Iterator[dict[str, Any]]:
    """Objects that may name a label, in COCO's and CVAT's places."""
    places = [content]
    if isinstance(content, dict):
        places = [content.get("categories"), content.get("labels"), content.get("objects")]
    for place in places:
        for entry in place if isinstance(place, list) else ():
            if isinstance(entry, dict):
                yield entry


def _segments(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    annotations = content.get("annotations")
    for annotation in annotations if isinstance(annotations, list) else ():
        segments = annotation.get("segments_info") if isinstance(annotation, dict) else None
        yield from (
            (s for s in segments if isinstance(s, dict)) if isinstance(segments, list) else ()
        )


def _code(red: Any, green: Any, blue: Any) -> int:
    return int(red) << 16 | int(green) << 8 | int(blue)

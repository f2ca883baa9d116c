"""Make the README's image of `omnimatte compose` from a result of the shipped example.

usage: omnimatte decompose examples/walk/video.mp4 --masks examples/walk/masks -o out/walk --exact
       python examples/compose_strip.py out/walk examples/walk/compose.png
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

from omnimatte_cli.arrays import integers
from omnimatte_cli.commands.compose import compose_result, parse_edits
from omnimatte_cli.deliver.preview import preview_frame
from omnimatte_cli.deliver.read import read_result
from omnimatte_cli.media.encode import write_image

FRAME = 17
EXAMPLES = {
    "input": {},
    "--remove walker": {"remove": ["walker"]},
    "--remove walker --strobe hiker:6": {"remove": ["walker"], "strobe": ["hiker:6"]},
    "--color hiker:gray --duplicate walker:-60,8,0": {
        "color": ["hiker:gray"],
        "duplicate": ["walker:-60,8,0"],
    },
}
OPTIONS = ("remove", "only", "offset", "scale", "delay", "speed", "freeze", "strobe", "duplicate")
OPTIONS += ("opacity", "shadow", "color")


def main(result: Path, out: Path) -> None:
    found = read_result(result)
    tiles = []
    for label, given in EXAMPLES.items():
        edits = parse_edits(**{option: given.get(option) for option in OPTIONS})
        composition, _ = compose_result(found, edits, None, clean=False)
        frame = next(islice(composition.frames(), FRAME, None))
        tiles.append((label, integers(frame).repeat(2, 0).repeat(2, 1)))
    write_image(out, preview_frame(tiles))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""Points and boxes that say which object is meant, from the command line's words.

    name:frame:x,y            a point on the object ("+" at its end may be written)
    name:frame:x,y-           a point that is not on the object
    name:frame:x0,y0,x1,y1    a box around the object

Frames count from 0; x and y are pixels of the video, from its top left corner.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from omnimatte_cli.errors import OptionError

NAME = re.compile(r"\w[\w.\-]*")  # a folder's name on every file system, one word in order.txt

OWN_FILES = frozenset(("order.txt", "masks.json", "preview.mp4"))  # beside the objects' folders


@dataclass(frozen=True)
class Point:
    """One pixel of a frame that is (or, if not `inside`, is not) the object."""

    x: float
    y: float
    inside: bool = True


@dataclass(frozen=True)
class Box:
    """A rectangle around the object, x0 < x1 and y0 < y1, in pixels."""

    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Prompt:
    """All that the user says about one object in one frame."""

    name: str
    frame: int
    points: tuple[Point, ...] = ()
    box: Box | None = None

    def scaled(self, x: float, y: float) -> Prompt:
        """The same prompt in a picture x times as wide and y times as high."""
        points = tuple(Point(p.x * x, p.y * y, p.inside) for p in self.points)
        b = self.box
        box = None if b is None else Box(b.x0 * x, b.y0 * y, b.x1 * x, b.y1 * y)
        return Prompt(self.name, self.frame, points, box)


def parse_prompts(points: Sequence[str], boxes: Sequence[str]) -> list[Prompt]:
    """Prompts by object and frame, objects in the order of their first mention.

    Raises OptionError with the words that cannot be understood, or where an object has two boxes in
    one frame or only points that are not on it.
    """
    names: dict[str, None] = {}
    dots: dict[tuple[str, int], list[Point]] = {}
    frames: dict[tuple[str, int], Box] = {}
    for text in points:
        name, frame, numbers, sign = _split(text, "--point", "dog:0:312,180", 2)
        names[name] = None
        dots.setdefault((name, frame), []).append(Point(numbers[0], numbers[1], sign != "-"))
    for text in boxes:
        name, frame, numbers, sign = _split(text, "--box", "dog:0:250,90,400,260", 4)
        names[name] = None
        if sign:
            raise OptionError(f"--box {text}: only points take + or - at their end.")
        x0, y0, x1, y1 = numbers
        if x1 <= x0 or y1 <= y0:
            raise OptionError(
                f"--box {text}: the second corner must be right of and below the first."
            )
        if (name, frame) in frames:
            raise OptionError(f"--box {text}: '{name}' has a box in frame {frame} already.")
        frames[name, frame] = Box(x0, y0, x1, y1)
    result = []
    for name in names:
        for key in sorted(k for k in {*dots, *frames} if k[0] == name):
            prompt = Prompt(name, key[1], tuple(dots.get(key, ())), frames.get(key))
            if prompt.box is None and not any(p.inside for p in prompt.points):
                raise OptionError(
                    f"Object '{name}' has only points that are not on it in frame {key[1]}: "
                    "add a point on it, or a box."
                )
            result.append(prompt)
    return result


def within_part(
    prompts: Sequence[Prompt], first: int, frames: int, size: tuple[int, int]
) -> list[Prompt]:
    """The prompts with frames counted from `first`, where the part that is worked on begins.

    frames: of the part; size: (H, W). Raises OptionError where a prompt lies outside.
    """
    height, width = size
    for p in prompts:
        where = f"The prompt for '{p.name}' in frame {p.frame}"
        if not 0 <= p.frame - first < frames:
            raise OptionError(f"{where}: {frames_there(first, frames)}.")
        corners = [(d.x, d.y) for d in p.points]
        if p.box is not None:
            # A box may touch the far edges.
            corners += [(p.box.x0, p.box.y0), (min(p.box.x1, width) - 1, min(p.box.y1, height) - 1)]
            if p.box.x1 > width or p.box.y1 > height:
                corners.append((p.box.x1, p.box.y1))
        for x, y in corners:
            if not (0 <= x < width and 0 <= y < height):
                raise OptionError(
                    f"{where}: {x:g},{y:g} is outside the picture of {width}x{height} pixels."
                )
    return [replace(p, frame=p.frame - first) for p in prompts]


def prompts_between(
    points: Sequence[str], boxes: Sequence[str], first: int, stop: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The points and boxes, in the command line's words, in frames `first` up to `stop`."""

    def inside(text: str, option: str, count: int) -> bool:
        return first <= _split(text, option, "dog:0:312,180", count)[1] < stop

    return (
        tuple(p for p in points if inside(p, "--point", 2)),
        tuple(b for b in boxes if inside(b, "--box", 4)),
    )


def frames_there(first: int, frames: int) -> str:
    """The words that say which frames may be named."""
    which = "chosen part's" if first else "video's"
    return f"the {which} frames are {first} to {first + frames - 1}"


def _split(text: str, option: str, example: str, count: int) -> tuple[str, int, list[float], str]:
    """Name, frame, `count` numbers and sign of "name:frame:numbers[+-]"."""
    parts = text.strip().rsplit(":", 2)
    wrong = OptionError(
        f"{option} {text!r} cannot be understood; write name:frame:"
        f"{'x,y' if count == 2 else 'x0,y0,x1,y1'}, such as {example}."
    )
    if len(parts) != 3:
        raise wrong
    name, frame, rest = (p.strip() for p in parts)
    sign = rest[-1] if rest[-1:] in ("+", "-") else ""
    try:
        number = int(frame)
        numbers = [float(v) for v in rest.removesuffix(sign).split(",")]
    except ValueError:
        raise wrong from None
    if len(numbers) != count or number < 0 or any(not abs(v) < 1e6 for v in numbers):
        raise wrong
    if name.lower() in OWN_FILES:
        raise OptionError(f"{option} {text!r}: {name} is a file beside masks; call it otherwise.")
    if not NAME.fullmatch(name) or name.startswith("."):
        raise OptionError(
            f"{option} {text!r}: {name!r} cannot name an object; use letters, digits, - and _."
        )
    return name, number, numbers, sign

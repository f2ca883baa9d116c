"""The edits that options ask for in words: NAME:VALUE texts to numbers by object."""

from __future__ import annotations

import math

from omnimatte_cli.compose.edits import Edits
from omnimatte_cli.compose.options import ComposeSettings
from omnimatte_cli.errors import OptionError
from omnimatte_cli.settings import parse_colour


def parse_edits(settings: ComposeSettings) -> Edits:
    """The options as edits. Raises OptionError with the form that an option has."""

    def table(option: str, form: str, count: int = 1) -> dict[str, tuple[float, ...]]:
        found: dict[str, tuple[float, ...]] = {}
        for text in getattr(settings, option):
            name, values = numbers(option, text, form, count)
            if name in found:
                raise OptionError(f"--{option} is given twice for {name}.")
            found[name] = values
        return found

    def factors(option: str, low: float, high: float) -> dict[str, float]:
        found = {n: v[0] for n, v in table(option, "NAME:FACTOR").items()}
        for name, value in found.items():
            if not low <= value <= high:
                raise OptionError(f"--{option} {name}:{value:g} is outside {low:g} to {high:g}.")
        return found

    def frames(option: str, form: str, low: int | None = None) -> dict[str, int]:
        found = {}
        for name, (value,) in table(option, form).items():
            found[name] = whole(option, f"{name}:{value:g}", value, form)
            if low is not None and found[name] < low:
                raise OptionError(f"--{option} {name}:{found[name]}: give {low} or more.")
        return found

    copies = []
    form = "NAME:DX,DY,FRAMES"
    for text in settings.duplicate:
        name, (dx, dy, later) = numbers("duplicate", text, form, 3)
        copies.append((name, dx, dy, whole("duplicate", text, later, form)))
    colors: dict[str, str] = {}
    for text in settings.color:
        name, value = split_option("color", text, "NAME:gray|#RRGGBB")
        if name in colors:
            raise OptionError(f"--color is given twice for {name}.")
        if value != "gray":
            parse_colour("color", value)
        colors[name] = value
    return Edits(
        remove=settings.remove,
        only=settings.only,
        offset={n: (v[0], v[1]) for n, v in table("offset", "NAME:DX,DY", 2).items()},
        scale=factors("scale", 0.01, 100),
        delay=frames("delay", "NAME:FRAMES"),
        speed=factors("speed", 0.001, 1000),
        freeze=frames("freeze", "NAME:FRAME"),
        strobe=frames("strobe", "NAME:EVERY", 1),
        opacity=factors("opacity", 0, 1),
        shadow=factors("shadow", 0, 1),
        color=colors,
        duplicate=tuple(copies),
    )


def split_option(option: str, text: str, form: str) -> tuple[str, str]:
    """ "NAME:VALUE" as name and value; names may hold colons. Raises OptionError."""
    name, colon, value = text.rpartition(":")
    if not colon or not name or not value:
        raise OptionError(f"--{option} {text}: give {form}.")
    return name, value


def numbers(option: str, text: str, form: str, count: int) -> tuple[str, tuple[float, ...]]:
    """ "NAME:a,b" as name and finite numbers. Raises OptionError."""
    name, value = split_option(option, text, form)
    try:
        values = tuple(float(part) for part in value.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(map(math.isfinite, values)):
        raise OptionError(f"--{option} {text}: give {form}.")
    return name, values


def whole(option: str, text: str, value: float, form: str) -> int:
    """A number as a whole one. Raises OptionError."""
    if value != round(value):
        raise OptionError(f"--{option} {text}: give {form}, in whole frames.")
    return int(value)

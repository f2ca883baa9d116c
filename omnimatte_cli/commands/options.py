"""Command-line options from option dataclasses: each field becomes one argument of a command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from omnimatte_cli.errors import OptionError
from omnimatte_cli.options import (
    flag_of,
    is_optional,
    is_union,
    parse_value,
    type_name,
    types_of,
    without_none,
)
from omnimatte_cli.settings import parse_size

Group = type | tuple[type, Sequence[str]]  # an option dataclass, or some of its fields


def takes(**groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of dataclasses: its parameter `name` gets the values of a group.

    The values come as a dict from field names, to build the dataclass from. A field that two groups
    share (a seed) is one option, whose value both get.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        options: dict[str, inspect.Parameter] = {}
        for group in groups.values():
            for f, kind in fields_of(group):
                options.setdefault(f.name, _parameter(f, kind))
        mine = [p for p in signature.parameters.values() if p.name not in groups]
        parameters = [
            p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*mine, *options.values())
        ]

        @functools.wraps(command)
        def run(**given: Any) -> None:
            values = {k: v for k, v in given.items() if k not in options}
            command(**values, **values_of(groups, given))

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def values_of(groups: Mapping[str, Group], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of each group's fields from what the command line gave. Raises OptionError."""
    return {
        name: {f.name: _value(f, kind, given) for f, kind in fields_of(group)}
        for name, group in groups.items()
    }


def flags_of(
    groups: Mapping[str, Group], values: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, ...]]:
    """The command line that gives these values: each flag with its texts, defaults left out."""
    flags: dict[str, tuple[str, ...]] = {}
    for name, group in groups.items():
        for f, _ in fields_of(group):
            value = values[name][f.name]
            if value is None or value == f.default:
                continue
            if is_repeated(f):
                flags[flag_of(f)] = tuple(value)
            elif isinstance(value, bool):
                yes, _, no = flag_of(f).partition("/")
                flags[yes if value else no] = ()
            elif f.name == "size":
                flags[flag_of(f)] = (f"{value[1]}x{value[0]}",)
            elif isinstance(value, tuple):
                flags[flag_of(f)] = (",".join(map(str, value)),)
            else:
                flags[flag_of(f)] = (str(value),)
    return flags


def fields_of(group: Group) -> list[tuple[Field, Any]]:
    """The fields of a group that are options of the command line, with their types."""
    cls, names = group if isinstance(group, tuple) else (group, None)
    kinds = types_of(cls)
    return [
        (f, kinds[f.name])
        for f in fields(cls)
        if f.metadata.get("shown") and (names is None or f.name in names)
    ]


def _parameter(f: Field, kind: Any) -> inspect.Parameter:
    """One field as a parameter that typer understands."""
    flag = flag_of(f)
    annotation, default = _cli_type(f, kind), _cli_default(f.default, kind)
    metavar = f.metadata.get("metavar")
    info = typer.Option(flag, help=f.metadata["help"], metavar=metavar)
    return inspect.Parameter(
        f.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, info],
    )


def is_repeated(f: Field) -> bool:
    """Whether a field has one value an option, which may be repeated."""
    return bool(f.metadata.get("repeated"))


def _cli_type(f: Field, kind: Any) -> Any:
    if is_repeated(f):
        return list[str] | None
    if is_optional(kind):
        return _cli_type(f, without_none(kind)) | None
    if get_origin(kind) is Literal or is_union(kind):
        return str
    if get_origin(kind) is tuple:
        return str | None
    return kind


def _cli_default(default: Any, kind: Any) -> Any:
    if get_origin(kind) is tuple:
        return ",".join(map(str, default)) or None
    return default


def _value(f: Field, kind: Any, given: Mapping[str, Any]) -> Any:
    """What the command line gave, as the field's type. Raises OptionError."""
    value = given[f.name]
    if is_repeated(f):
        return tuple(value or ())
    if f.name == "size":
        return parse_size(value) if value else None
    inner = without_none(kind) if is_optional(kind) else kind
    if not (get_origin(inner) is tuple or is_union(inner)) or not isinstance(value, str):
        return f.default if value is None else value
    try:
        return parse_value(value, inner)
    except ValueError:
        if is_union(inner):
            example = type_name(inner).replace("|", " or ").replace("number", "a number")
        else:
            example = " or ".join(get_args(get_args(inner)[0])) or "numbers with commas between"
        raise OptionError(f"{flag_of(f)} takes {example}, not {value!r}.") from None


def help_text(groups: Sequence[tuple[str, Sequence[tuple[str, str, str, str]]]]) -> str:
    """Names, types, defaults and help of options under titles, for --help-set."""
    rows = [row for _, group in groups for row in group]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = []
    for title, group in groups:
        lines.append(f"{title}:")
        for name, kind, default, help in group:
            cells = (x.ljust(w) for x, w in zip((name, kind, default), widths, strict=True))
            lines.append(f"  {'  '.join(cells)}  {help}")
    return "\n".join(lines)

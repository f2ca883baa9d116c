"""How options are defined: once, as fields of frozen dataclasses.

The command line, the Python interface, `--set NAME=VALUE` and the manifest all read the same
fields: name, type, default and help. `commands/options.py` turns them into command-line options.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import operator
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from omnimatte_cli.errors import OptionError

T = TypeVar("T")


def option(
    default: Any,
    help: str,
    *,
    flag: str | None = None,
    metavar: str | None = None,
    shown: bool = True,
    repeated: bool = False,
) -> Any:
    """A dataclass field that is an option.

    help: one line for `--help`. flag: the command-line name where it is not the field's own.
    metavar: what `--help` shows for the value. shown: whether it is an option of the command line.
    repeated: whether each of the field's values is an option of its own, given as often as wanted.
    """
    text = f"{help} May be repeated." if repeated else help
    facts = {"help": text, "flag": flag, "metavar": metavar, "shown": shown, "repeated": repeated}
    return field(default=default, metadata=facts)


def like(owner: type, name: str, help: str | None = None) -> Any:
    """A dataclass field that is the same option as a field of another; `help` says it anew."""
    (same,) = (f for f in fields(owner) if f.name == name)
    facts = {**same.metadata, **({} if help is None else {"help": help})}
    return field(default=same.default, metadata=facts)


def check_seed(seed: int, name: str = "--seed") -> None:
    """Raise OptionError unless a seed is one that all random generators take."""
    check(0 <= seed < 2**32, f"{name} must be from 0 to {2**32 - 1}")


def check_size(size: tuple[int, int] | None, step: int, least: int) -> None:
    """Raise OptionError unless a working size, if one is given, fits a network."""
    good = size is None or all(s >= least and s % step == 0 for s in size)
    more = f", at least {least}" if least > step else ""
    check(good, f"--size must be WxH with both sides multiples of {step}{more}")


def check(good: bool, message: str) -> None:
    """Raise OptionError unless an option's value is good."""
    if not good:
        raise OptionError(message + ".")


def flag_of(f: Field) -> str:
    """The command-line name of a field, such as "--max-objects"."""
    return f.metadata.get("flag") or "--" + f.name.replace("_", "-")


def types_of(cls: type) -> dict[str, Any]:
    """Every field's type, resolved."""
    return typing.get_type_hints(cls)


def check_words(settings: Any, prefix: str = "--") -> None:
    """Raise OptionError where a field of Literal type holds none of its words."""
    kinds = types_of(type(settings))
    for f in fields(settings):
        words = _words(kinds[f.name])
        value = getattr(settings, f.name)
        if words and value is not None and value not in words:
            name = flag_of(f) if prefix == "--" else f"{prefix}{f.name}"
            raise OptionError(f"{name} takes {' or '.join(words)}, not {value!r}.")


def _words(kind: Any) -> tuple[str, ...]:
    """The words of a Literal or of an optional Literal; () for every other type."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if is_optional(kind):
        return _words(without_none(kind))
    return ()


def is_optional(kind: Any) -> bool:
    """Whether a type is `X | None`."""
    return is_union(kind) and type(None) in get_args(kind)


def without_none(kind: Any) -> Any:
    """`X` of `X | None`; X may be a union itself."""
    return functools.reduce(operator.or_, (k for k in get_args(kind) if k is not type(None)))


def is_union(kind: Any) -> bool:
    """Whether a type is one of several."""
    return get_origin(kind) in (typing.Union, types.UnionType)


def parse_value(text: str, kind: Any) -> Any:
    """A text as a value of a field's type. Raises ValueError."""
    if is_optional(kind):
        return None if text.lower() == "none" else parse_value(text, without_none(kind))
    if is_union(kind):
        for inner in get_args(kind):
            with contextlib.suppress(ValueError):
                return parse_value(text, inner)
        raise ValueError(text)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(text)
        return text
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        parts = [p.strip() for p in text.split(",") if p.strip()]
        if inner[-1] is Ellipsis:
            return tuple(parse_value(p, inner[0]) for p in parts)
        if len(parts) != len(inner):
            raise ValueError(text)
        return tuple(parse_value(p, k) for p, k in zip(parts, inner, strict=True))
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in (int, float, str, Path):
        return kind(text)
    raise TypeError(f"no texts are parsed as {kind}")


def type_name(kind: Any) -> str:
    """A field's type in words, for lists of options."""
    if is_optional(kind):
        return type_name(without_none(kind))
    if is_union(kind):
        return "|".join(map(type_name, get_args(kind)))
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if get_origin(kind) is tuple:
        return "numbers" if get_args(kind)[0] in (int, float) else "words"
    return {"int": "number", "float": "number", "bool": "true|false"}.get(kind.__name__, "text")


@dataclass(frozen=True)
class Assignment:
    """One NAME=VALUE of `--set`, or of an option of its own, which `flag` is then."""

    name: str
    text: str
    flag: str = ""

    def __str__(self) -> str:
        return f"{self.flag} {self.text}" if self.flag else f"--set {self.name}={self.text}"

    @classmethod
    def parse(cls, pair: str) -> Assignment:
        name, equals, text = pair.partition("=")
        check(bool(name.strip()) and bool(equals), f"--set takes NAME=VALUE, not {pair!r}")
        return cls(name.strip().replace("-", "_"), text.strip())


def names_of(groups: Iterable[type]) -> list[str]:
    """The names of all fields of some option dataclasses that are options."""
    return [f.name for group in groups for f in fields(group) if f.metadata.get("shown", True)]


def assigned(
    group: type[T],
    pairs: Sequence[Assignment],
    known: Sequence[str] = (),
    fixed: dict[str, Any] | None = None,
) -> T:
    """An option dataclass with the values of NAME=VALUE pairs, the rest by default.

    known: names that other groups take, which are left alone here. fixed: values that are set
    already, unless a pair says otherwise. Raises OptionError for a name
    that nobody knows (with the nearest that is known) and for a value of another type.
    """
    kinds = types_of(group)
    mine = names_of([group])
    values: dict[str, Any] = dict(fixed or {})
    for pair in pairs:
        if pair.name not in mine:
            if pair.name not in known:
                raise unknown_name(pair.name, [*mine, *known])
            continue
        try:
            values[pair.name] = parse_value(pair.text, kinds[pair.name])
        except ValueError:
            wanted = type_name(kinds[pair.name])
            raise OptionError(f"{pair}: {pair.name} takes {wanted}.") from None
    return group(**values)


def unknown_name(name: str, known: Sequence[str]) -> OptionError:
    """The error for an option that does not exist, with the nearest names that do."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "--help-set lists them."
    return OptionError(f"--set {name}: there is no such option here; {hint}")


def table(group: type) -> list[tuple[str, str, str, str]]:
    """Name, type, default and help of every option of a dataclass, as texts."""
    kinds = types_of(group)
    rows = []
    for f in fields(group):
        if f.metadata.get("shown", True):
            default = None if f.default is MISSING else f.default
            text = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
            text = {"None": "by itself", "True": "true", "False": "false"}.get(text, text)
            rows.append((f.name, type_name(kinds[f.name]), text, f.metadata.get("help", "")))
    return rows


def plain(value: Any) -> Any:
    """Options as JSON values: dataclasses as dicts, paths as strings, tuples as lists."""
    if hasattr(value, "__dataclass_fields__"):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path | Fraction) else value

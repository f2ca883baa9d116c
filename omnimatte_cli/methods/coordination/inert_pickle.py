"""Read a pickle of plain containers without executing anything, within budgets.

Python's own reader can be kept from calling functions, but not from spending hours and gigabytes
on a few bytes: references that double a structure again and again, or tables sized by one number.
So its opcodes are walked here. Known are dicts with texts as keys, tuples, lists, numbers, texts,
None, and instances of named tuples (which become plain tuples); all else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from typing import Any

MAX_OPS = 200_000  # opcodes; the real file has 1600
MAX_LEAVES = 100_000  # values in the whole tree, each reference counted; the real file has 300
MAX_DEPTH = 64  # containers in one another; the real file has 5
MAX_TEXT = 4096  # bytes of one text

NUMBERS = ("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "BINFLOAT", "FLOAT")
PUSH = frozenset([*NUMBERS, "NONE", "NEWTRUE", "NEWFALSE"])
TEXTS = frozenset(["SHORT_BINUNICODE", "BINUNICODE", "UNICODE"])
PUTS = frozenset(["PUT", "BINPUT", "LONG_BINPUT"])
GETS = frozenset(["GET", "BINGET", "LONG_BINGET"])
NOTHING = frozenset(["PROTO", "FRAME"])
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class UnsafePickleError(ValueError):
    """The pickle holds something else, is damaged, or is larger than its budgets."""


class _Mark:
    """Where a group of items begins on the stack."""


class _Class:
    """A named tuple's class, by name alone."""


MARK, NAMED_TUPLE = _Mark(), _Class()


def load(data: bytes, allowed: Callable[[str, str], bool]) -> Any:
    """The structure of a pickle. allowed: whether a class (module, name) is a named tuple.

    Raises UnsafePickleError.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for count, (opcode, value, _) in enumerate(pickletools.genops(data)):
            if count >= MAX_OPS:
                raise UnsafePickleError(f"it has more than {MAX_OPS} steps")
            if opcode.name == "STOP":
                (tree,) = stack
                measure(tree)
                return tree
            _step(opcode.name, value, stack, memo, allowed)
    except UnsafePickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise UnsafePickleError(f"it is damaged: {error}") from error
    raise UnsafePickleError("it has no end")


def _step(
    name: str,
    value: Any,
    stack: list[Any],
    memo: dict[int, Any],
    allowed: Callable[[str, str], bool],
) -> None:
    """One opcode."""
    if name in PUSH:
        stack.append(value)
    elif name in TEXTS:
        if len(value) > MAX_TEXT:
            raise UnsafePickleError(f"it has a text of {len(value)} letters")
        stack.append(value)
    elif name in EMPTY:
        stack.append(EMPTY[name]())
    elif name == "MARK":
        stack.append(MARK)
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in PUTS:
        memo[int(value)] = stack[-1]
    elif name in GETS:
        stack.append(memo[int(value)])
    elif name in ("SETITEM", "SETITEMS"):
        items = _since_mark(stack) if name == "SETITEMS" else _last(stack, 2)
        _set_items(stack[-1], items)
    elif name in ("APPEND", "APPENDS"):
        items = _since_mark(stack) if name == "APPENDS" else _last(stack, 1)
        if not isinstance(stack[-1], list):
            raise UnsafePickleError("it appends to what is no list")
        stack[-1].extend(items)
    elif name == "EMPTY_TUPLE":
        stack.append(())
    elif name in TUPLES:
        stack.append(tuple(_last(stack, TUPLES[name])))
    elif name in ("TUPLE", "LIST", "DICT"):
        items = _since_mark(stack)
        if name == "DICT":
            stack.append({})
            _set_items(stack[-1], items)
        else:
            stack.append(tuple(items) if name == "TUPLE" else items)
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        module, attribute = value.split(" ") if name == "GLOBAL" else _last(stack, 2)
        if not allowed(str(module), str(attribute)):
            raise UnsafePickleError(f"it names {module}.{attribute}")
        stack.append(NAMED_TUPLE)
    elif name in ("NEWOBJ", "REDUCE"):
        made, fields = _last(stack, 2)
        if made is not NAMED_TUPLE or not isinstance(fields, tuple):
            raise UnsafePickleError("it makes an object of another kind")
        stack.append(fields)
    elif name not in NOTHING:
        raise UnsafePickleError(f"it uses {name}, which plain containers do not need")


def _last(stack: list[Any], count: int) -> list[Any]:
    """Take the last items off the stack."""
    items = stack[len(stack) - count :]
    if len(items) < count or any(item is MARK for item in items):
        raise UnsafePickleError("it takes more than there is")
    del stack[len(stack) - count :]
    return items


def _since_mark(stack: list[Any]) -> list[Any]:
    """Take all items since the last mark off the stack, and the mark."""
    items: list[Any] = []
    while (item := stack.pop()) is not MARK:
        items.append(item)
    return items[::-1]


def _set_items(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict) or len(items) % 2:
        raise UnsafePickleError("it sets items of what is no dict")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise UnsafePickleError(f"it has a key of type {type(key).__name__}")
        target[key] = value


def measure(tree: Any) -> int:
    """Number of leaves, each reference counted, without walking a shared container twice.

    Raises UnsafePickleError where a budget is exceeded or a container holds itself.
    """
    known: dict[int, int] = {}

    def leaves(node: Any, depth: int) -> int:
        if isinstance(node, dict):
            children = list(node.values())
        elif isinstance(node, tuple | list):
            children = list(node)
        elif node is NAMED_TUPLE or node is MARK:
            raise UnsafePickleError("it holds a class in place of a value")
        else:
            return 1
        if depth >= MAX_DEPTH:
            raise UnsafePickleError(f"it nests more than {MAX_DEPTH} containers")
        if id(node) not in known:
            known[id(node)] = 1 + sum(leaves(child, depth + 1) for child in children)
        if known[id(node)] > MAX_LEAVES:
            raise UnsafePickleError(f"it unfolds to more than {MAX_LEAVES} values")
        return known[id(node)]

    return leaves(tree, 0)

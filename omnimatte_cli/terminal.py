"""What is written to a terminal: texts from files' names and headers may not steer it.

A name may hold any character but a slash: escape sequences that clear the screen or forge lines,
marks that turn the direction of writing round, bytes that are no text. They are shown escaped.
"""

from __future__ import annotations

import io
import sys
import unicodedata
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from rich.console import Console

# Other (Cc: control, Cf: format, Cs: surrogates of undecodable bytes) and separators of lines.
STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"  # of letters and emoji: they belong to names in many scripts


def printable(text: str, keep: str = "") -> str:
    """A text as one line that can be shown; characters in `keep` stay as they are."""
    if text.isprintable():
        return text
    return "".join(_shown(c, keep) for c in text)


def one_line(text: str, longest: int) -> str:
    """A library's words, which may have many lines, as one of at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def _shown(character: str, keep: str) -> str:
    if character in keep or character in JOINERS:
        return character
    if unicodedata.category(character) not in STEERING:
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that is no UTF-8 (PEP 383)
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


class SafeText(io.TextIOWrapper):
    """A text stream that shows characters escaped that would steer a terminal."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.plain = stream
        super().__init__(
            cast("IO[bytes]", stream.buffer),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str, /) -> int:
        super().write(printable(text, keep="\n\t"))
        return len(text)


def guard_streams() -> None:
    """Let stdout and stderr of this process show no character that steers a terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, SafeText):
            stream.flush()
            setattr(sys, name, SafeText(stream))


def rich_console(stderr: bool = False, width: int | None = None) -> Console:
    """A console of rich, which writes escape sequences of its own: give it `printable` texts."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    file = stream.plain if isinstance(stream, SafeText) else stream
    return Console(file=file, width=width)

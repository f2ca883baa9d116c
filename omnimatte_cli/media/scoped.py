"""Writers for `with`: files are complete when the block ends well, removed when it does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Self = TypeVar("Self", bound="ScopedWriter")  # typing has its own from Python 3.11 on


class ScopedWriter(ABC):
    """Opened on entry; closed on exit, as failed where an exception ended the block."""

    def open(self) -> None:  # noqa: B027 (most are open once they are made)
        """Make ready to write."""

    @abstractmethod
    def close(self, failed: bool = False) -> None:
        """Complete what was written; with `failed`, remove what is not complete."""

    def __enter__(self: Self) -> Self:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(failed=kind is not None)

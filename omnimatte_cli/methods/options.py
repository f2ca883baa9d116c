"""What every method says of itself. No torch: this is read for `--help` and for the choice."""

from __future__ import annotations

from typing import ClassVar, Literal

Need = Literal["masks", "plate"]
Where = Literal["cpu", "gpu"]


class MethodOptions:
    """The base of every method's `Options`, a frozen dataclass whose fields `--set` takes.

    summary: one line for `--help-set`. needs: what it looks at beside the frames, which a run makes
    where it is not given; `--help-set` says it. network: the kind of weights it
    starts from; None where it uses none. automatic_on: the machines on which `--method auto` takes
    it, unless an option asks for another.
    """

    summary: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset(["masks", "plate"])
    network: ClassVar[str | None] = None
    automatic_on: ClassVar[tuple[Where, ...]] = ()

    @property
    def resolves(self) -> bool:
        """Whether layers are resolved from who owns what: in passes, exactly, behind others."""
        return True

    @property
    def idle(self) -> frozenset[str]:
        """Names of options that do nothing beside the values of the others."""
        return frozenset() if self.resolves else frozenset(["exact_layers", "continue_hidden"])

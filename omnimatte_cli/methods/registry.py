"""The methods there are, and which one a run takes. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from omnimatte_cli.methods.options import MethodOptions, Where
from omnimatte_cli.options import Assignment, assigned, check, names_of, unknown_name
from omnimatte_cli.settings import Settings, SolveSettings

if TYPE_CHECKING:
    from omnimatte_cli.methods.base import Method, Run

METHODS = {
    "ownership": "omnimatte_cli.methods.ownership",
    "coordination": "omnimatte_cli.methods.coordination",
    "omnimatte2021": "omnimatte_cli.methods.omnimatte2021",
}


@dataclass(frozen=True)
class Choice:
    """The method of a run. reason: a sentence that says why it is taken."""

    name: str
    options: MethodOptions
    solve: SolveSettings
    reason: str


def options_of(name: str) -> type[MethodOptions]:
    """A method's option dataclass."""
    return import_module(f"{METHODS[name]}.options").Options


def make(choice: Choice, run: Run) -> Method[Any]:
    """The chosen method, with its weights found and checked. Raises WeightsError."""
    return import_module(f"{METHODS[choice.name]}.method").METHOD(choice.options, run)


def choose(settings: Settings, where: Where) -> Choice:
    """The method that the settings ask for, or the one for this kind of machine.

    Raises OptionError for a method or an option that does not exist, and for options of which no
    method takes all.
    """
    pairs = settings.pairs
    if settings.method != "auto":
        known = " or ".join(["auto", *METHODS])
        good = settings.method in METHODS
        check(good, f"--method takes {known}, not {settings.method!r}")
        reason = f"Method: {settings.method}, as asked."
        return _choice(settings.method, pairs, settings, reason)
    order = sorted(METHODS, key=lambda name: where not in options_of(name).automatic_on)
    if settings.weights not in ("auto", "none"):
        from omnimatte_cli.methods import weights

        network = weights.find(settings.weights, network=None).metadata.get("network", "")
        order = [name for name in order if options_of(name).network == network]
        check(bool(order), f"--weights {settings.weights} is of an unknown network")
        reason = f"Method: {order[0]}, since --weights is for it."
        return _choice(order[0], pairs, settings, reason)
    if settings.weights == "none":
        order = [name for name in order if "iterations" in names_of([options_of(name)])]
    for name in order:
        if _takes(name, pairs):
            asked = bool(pairs) or settings.weights == "none"
            why = "since an option asks for it" if asked and name != order[0] else _why(where)
            return _choice(name, pairs, settings, f"Method: {name}, {why}.")
    # No method takes all of them: name the first that none takes, or say that they contradict.
    everything = names_of([*map(options_of, METHODS), SolveSettings])
    for pair in pairs:
        if pair.name not in everything:
            raise unknown_name(pair.name, everything)
    names = ", ".join(pair.name for pair in pairs)
    check(False, f"no method takes all of {names}; --help-set lists whose each is")
    raise AssertionError


def check_acts(choice: Choice, settings: Settings) -> None:
    """Raise OptionError for what was asked for and does nothing with the chosen method."""
    options = choice.options
    detail = getattr(options, "detail", None)
    what = f"--method {choice.name}" + (f" with --set detail={detail}" if detail else "")
    for pair in settings.pairs:
        check(pair.name not in options.idle, f"{pair} does nothing with {what}")
    if settings.passes:
        check(options.resolves, f"--passes is not for {what}, which does not tell effects apart")


def _why(where: Where) -> str:
    if where == "gpu":
        return "since there is a GPU to finetune on"
    return "which needs no finetuning (there is no GPU)"


def _takes(name: str, pairs: Sequence[Assignment]) -> bool:
    names = names_of([options_of(name), SolveSettings])
    return all(pair.name in names for pair in pairs)


def _choice(name: str, pairs: Sequence[Assignment], settings: Settings, reason: str) -> Choice:
    group = options_of(name)
    if settings.iterations is not None and "iterations" not in names_of([group]):
        check(False, f"--iterations is not for --method {name}, which does not train on the clip")
    if settings.weights == "none":
        starts = "iterations" in names_of([group])
        check(
            starts, f"--weights none is not for --method {name}, which does not train on the clip"
        )
    if group.network is None and settings.weights not in ("auto", "none"):
        check(False, f"--weights is not for --method {name}, which starts from none")
    options = assigned(group, pairs, names_of([SolveSettings]))
    solve = assigned(SolveSettings, pairs, names_of([group]))
    return Choice(name, options, solve, reason)

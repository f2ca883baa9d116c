"""What is scored: methods with their plates, weights and options, and two oracles beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from omnimatte_cli.methods import registry, weights
from omnimatte_cli.options import check, names_of
from omnimatte_cli.settings import Settings, SolveSettings

MASKS, BOUND = "masks", "bound"  # the oracles: see Variant
PLATES = ("estimated", "true", "own")
FRAME_STRIDE = "3"  # frames apart on 12 fps renderings (paper, section 5.1)


@dataclass(frozen=True)
class Variant:
    """One way to answer.

    method: one of the registry's; "masks", the input masks as the answer; or "bound", the true
    ownership, shared evenly where objects' regions overlap: about the most that there is.
    plate: estimated (the given one), true, or own (estimated as `decompose` does).
    weights: as in `decompose`. assignments: NAME=VALUE, as in `--set`.
    """

    method: str
    plate: str = "estimated"
    weights: str = "auto"
    assignments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The variant in a few words, for tables."""
        words = [self.method, *([self.weights] if self.weights != "auto" else [])]
        return f"{' '.join([*words, *self.assignments])}, {self.plate} plate"

    def settings(self, seed: int) -> Settings:
        """What `decompose` would be told."""
        return Settings(
            method=self.method, weights=self.weights, assignments=self.assignments, seed=seed
        )


def make_variants(
    methods: Sequence[str],
    plates: Sequence[str],
    files: Sequence[str] = ("auto",),
    varied: Sequence[str] = (),
) -> list[Variant]:
    """All combinations that make sense, the masks as their own answer first.

    files: weights, each for the methods that its network is for. varied: NAME=A,B,... takes each of
    the values in turn, in the methods that have the option. Raises OptionError where a name is
    nobody's, or a method asked for alone has no weights; WeightsError where there is no such file.
    """
    choices = [_values(text) for text in varied]
    real = [m for m in methods if m in registry.METHODS]
    takes = {m: names_of([registry.options_of(m), SolveSettings]) for m in real}
    for name, _ in choices:
        check(any(name in names for names in takes.values()), f"--vary {name}: no method has it")
    given = [p for p in plates if p != "own"]
    variants = [Variant(MASKS, p) for p in given]
    if BOUND in methods:
        variants += [Variant(BOUND, p) for p in given]
    for method in real:
        suited = [w for w in files if _suits(w, method)]
        check(bool(suited) or len(methods) > 1, f"--weights names none for {method}")
        mine = [
            [f"{name}={v}" for v in values] for name, values in choices if name in takes[method]
        ]
        fixed = () if any(m[0].startswith("frame_stride=") for m in mine) else ("frame_stride",)
        always = [f"{name}={FRAME_STRIDE}" for name in fixed if name in takes[method]]
        # Options vary fastest: those that only decide what becomes of a training share it.
        for w, p, *options in itertools.product(suited or ["auto"], plates, *mine):
            variant = Variant(method, p, w, (*options, *always))
            registry.choose(variant.settings(0), "cpu")  # refuses wrong values before any work
            variants.append(variant)
    return variants


def _values(text: str) -> tuple[str, list[str]]:
    name, equals, values = text.partition("=")
    parts = [v.strip() for v in values.split(",") if v.strip()]
    check(bool(equals) and bool(parts), f"--vary takes NAME=A,B,..., not {text!r}")
    return name.strip().replace("-", "_"), parts


def _suits(name: str, method: str) -> bool:
    options = registry.options_of(method)
    if name == "auto":
        return True
    if name == "none":
        return "iterations" in names_of([options])
    return weights.find(name, network=None).metadata.get("network") == options.network

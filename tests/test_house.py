"""The house: imports point downward, heavy libraries stay in their rooms, a method is a folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "omnimatte_cli"

# From the ground up: a room may import from its own floor and from those below it.
FLOORS = (
    ("errors", "terminal"),
    (
        "options",
        "arrays",
        "ahead",
        "progress",
        "interrupt",
        "allocator",
        "ranks",
        "settings",
        "device",
        "tensors",
        "scratch",
        "versions",
    ),
    ("media",),
    ("masks", "camera"),
    ("matte", "segment"),
    ("shot", "synth"),
    ("plate",),
    ("methods",),
    ("deliver",),
    ("pipeline", "solo_pipeline", "trimask_pipeline", "unmix_pipeline"),
    ("api", "remote", "batch", "compose", "doctor", "training", "evaluation"),
    ("commands",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
WITHOUT_TORCH = ("media", "masks", "camera", "deliver", "compose")


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Modules of this package and of others that a file imports, but for type checking alone."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in running(parsed(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def running(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that stand there for type checking alone."""
    yield node
    checks = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in node.orelse if checks else ast.iter_child_nodes(node):  # type: ignore[attr-defined]
        yield from running(child)


def room(module: str) -> str | None:
    """The room of one of our modules; None for another package's or for the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "omnimatte_cli" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downward(path: Path) -> None:
    here = path.relative_to(ROOT).with_suffix("").parts[0]
    if here == "__init__":
        return
    assert here in FLOOR, f"{here} has no floor: give it one"
    for module in imported(path):
        there = room(module)
        if there is None or there not in FLOOR:
            continue
        assert FLOOR[there] <= FLOOR[here], f"{path}: {here} is below {there}"
        if here in WITHOUT_TORCH:
            assert module.split(".")[0] not in ("torch", "torchmetrics")


def test_no_modules_import_each_other() -> None:
    """Not even inside functions: what two modules share lies below both."""
    names = {
        ".".join(["omnimatte_cli", *p.relative_to(ROOT).with_suffix("").parts]) for p in modules()
    }
    taken = {
        name: {m for m in imported(ROOT.parent / f"{name.replace('.', '/')}.py") if m in names}
        for name in names
    }
    while True:  # what imports nothing that is left can lie in no circle
        free = {name for name, others in taken.items() if not others & taken.keys()}
        if not free:
            break
        taken = {name: others for name, others in taken.items() if name not in free}
    assert not taken, f"circles among {sorted(taken)}"


def test_settings_stand_on_errors_and_options_alone() -> None:
    ours = {room(m) for m in imported(ROOT / "settings.py")} - {None}
    assert ours == {"errors", "options"}


def test_a_method_imports_no_other_method() -> None:
    folders = [
        p for p in (ROOT / "methods").iterdir() if p.is_dir() and (p / "method.py").is_file()
    ]
    for folder in folders:
        for path in folder.glob("*.py"):
            for module in imported(path):
                for other in folders:
                    if other != folder:
                        assert not module.startswith(f"omnimatte_cli.methods.{other.name}"), path


def test_nobody_asks_which_method_runs() -> None:
    """Names of methods stand in the registry, in texts for people, and nowhere else."""
    names = ("coordination", "ownership", "omnimatte2021", "generative", "centrifuge")
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Compare):
                texts = [x.value for x in ast.walk(node) if isinstance(x, ast.Constant)]
                named = {t for t in texts if isinstance(t, str)} & set(names)
                named = {t for t in named if "method" in ast.unparse(node)}
                assert not named, f"{path}: {ast.unparse(node)}"


def test_modules_can_be_read_in_one_go() -> None:
    long = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in modules()}
    assert max(long.values()) <= 420, max(long, key=long.__getitem__)

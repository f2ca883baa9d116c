"""How the package is built: modules, imports between them, and circles of imports.

usage: python -m benchmarks.structure [CHECKOUT ...]

Imports are read from the source (those for type checking alone left out), whether they stand at a
module's head or in a function. A room is a folder of the package, or a module beside the folders.
"""

from __future__ import annotations

import argparse
import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import table

PACKAGE = "omnimatte_cli"
Graph = dict[str, set[str]]


def imported(path: Path, name: str) -> Iterator[str]:
    """Dotted names that a module imports, relative ones resolved."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.body = []
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(base if node.level else []), *(node.module or "").split(".")]
            source = ".".join(part for part in parts if part)
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def module_graph(root: Path) -> tuple[Graph, dict[str, int]]:
    """Which module imports which, and how many lines each has."""
    paths = {}
    for path in (root / PACKAGE).rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    paths.pop(PACKAGE, None)  # holds the version, and what users import
    graph = {n: {m for m in imported(p, n) if m in paths} - {n} for n, p in paths.items()}
    for name, others in graph.items():  # a package is imported by what imports a module of it
        graph[name] = {m for m in others if not any(o.startswith(f"{m}.") for o in others)}
    return graph, {n: len(p.read_text(encoding="utf-8").splitlines()) for n, p in paths.items()}


def room_graph(graph: Graph) -> Graph:
    """The same between rooms."""
    rooms: Graph = {}
    for name, others in graph.items():
        here = room(name)
        rooms.setdefault(here, set()).update(room(o) for o in others)
    return {here: others - {here} for here, others in rooms.items()}


def room(name: str) -> str:
    return name.split(".")[1]


def in_circles(graph: Graph) -> list[str]:
    """What imports itself by way of others."""
    found = []
    for start in graph:
        seen, ahead = set(), list(graph[start])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead += graph.get(name, ())
        if start in seen:
            found.append(start)
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[Path()])
    head = ("checkout", "modules", "lines: median", "most", "imports", "modules in circles")
    head += ("rooms", "imports between rooms", "rooms in circles")
    rows = []
    for root in parser.parse_args().checkouts:
        graph, lines = module_graph(root.resolve())
        rooms = room_graph(graph)
        modules = (len(graph), int(statistics.median(lines.values())), max(lines.values()))
        arrows = (sum(map(len, graph.values())), len(in_circles(graph)))
        between = (len(rooms), sum(map(len, rooms.values())), len(in_circles(rooms)))
        rows.append((root, *modules, *arrows, *between))
    table("The package", head, rows)


if __name__ == "__main__":
    main()

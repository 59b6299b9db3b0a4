"""How the source is built: who imports whom, how long the files are, how full the folders.

    python tests/support/structure.py           lines by room, and what is wrong
    python tests/support/structure.py --check   exit with 1 if something is wrong
    python tests/support/structure.py --draw    draw docs/images/architecture.svg from the imports

Imports inside functions and those for types only count like all others. The order of the rooms is
that of the import contracts in pyproject.toml.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("tune_spaces", "metadist", "data_pipeline", "cluster")
MOST_LINES = 400
MOST_MODULES = 12
#: Folders that may hold more: their number of files is that of the things they offer.
ONE_FILE_EACH = {
    "metadist/algorithms": "one file per learner",
    "metadist/backbones": "one file per network",
    "metadist/cli/commands": "one file per command",
    "data_pipeline/datasets": "one file per data set",
    "data_pipeline/functions": "one file per family of functions",
    "tune_spaces": "one file per search space",
}


@dataclass(frozen=True)
class Layers:
    """One contract about layers: the units of a package, those above first."""

    package: str
    rows: tuple[tuple[str, ...], ...]
    strangers: tuple[bool, ...]  # whether the units of that row must not know each other

    def row(self, unit: str) -> int | None:
        """The row of a unit, 0 at the top; None if it is in none."""
        return next((number for number, row in enumerate(self.rows) if unit in row), None)


@dataclass(frozen=True)
class Source:
    """All modules below a folder that holds the packages."""

    root: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Modules by name, and the scripts of cluster/ that have no suffix."""
        found = {}
        for top in SOURCES:
            for path in sorted((self.root / top).rglob("*")):
                if path.suffix == ".py" or (top == "cluster" and _is_script(path)):
                    parts = path.relative_to(self.root).with_suffix("").parts
                    found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return found

    @cached_property
    def imports(self) -> dict[tuple[str, str], int]:
        """Line of the first import of one module by another."""
        found: dict[tuple[str, str], int] = {}
        for module, path in self.files.items():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                for name in self._targets(module, node):
                    if name != module:
                        found.setdefault((module, name), getattr(node, "lineno", 0))
        return found

    def _targets(self, module: str, node: ast.AST) -> Iterator[str]:
        names: Iterable[str] = ()
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                at = module.split(".")
                up = node.level - (self.files[module].name == "__init__.py")
                base = ".".join([*at[: len(at) - up], *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in self.files:
                name = name.rpartition(".")[0]
            if name:
                yield name

    @cached_property
    def graph(self) -> dict[str, set[str]]:
        """What each module imports."""
        found: dict[str, set[str]] = {module: set() for module in self.files}
        for importer, imported in self.imports:
            found[importer].add(imported)
        return found

    def collapsed(self, unit: Callable[[str], str | None]) -> dict[str, set[str]]:
        """What units import of each other; a module whose unit is None is left out."""
        found: dict[str, set[str]] = {}
        for importer, imports in self.graph.items():
            if (above := unit(importer)) is not None:
                others = {unit(name) for name in imports} - {above}
                found.setdefault(above, set()).update(filter(None, others))
        return found

    def units(self, package: str) -> dict[str, set[str]]:
        """What each module or folder of a package imports of its neighbours.

        Args:
            package: dotted; the empty string stands for all packages.
        """
        return self.collapsed(lambda module: _unit(module, package))

    @cached_property
    def layers(self) -> list[Layers]:
        """The contracts of pyproject.toml."""
        whole = tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        return [
            contract
            for described in whole["tool"]["importlinter"]["contracts"]
            if described["type"] == "layers"
            for contract in _layers(described)
        ]


def _is_script(path: Path) -> bool:
    return path.is_file() and path.read_bytes()[:64].split(b"\n")[0].endswith(b"env python3")


def _unit(module: str, package: str) -> str | None:
    """The child of a package that a module is or is in; None: it is elsewhere."""
    if package and module == package:
        return "__init__"
    inside = f"{package}." if package else ""
    return module[len(inside) :].split(".")[0] if module.startswith(inside) else None


def _layers(described: Mapping[str, Any]) -> Iterator[Layers]:
    rows = []
    for text in described["layers"]:
        names = (name.strip(" ()") for name in text.replace("|", ":").split(":"))
        rows.append(tuple(names))
    strangers = tuple("|" in text for text in described["layers"])
    for package in described.get("containers", [""]):
        yield Layers(package, tuple(rows), strangers)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """A shortest circle through each group of nodes that reach each other, the first repeated."""
    found = []
    seen: set[str] = set()
    for start in sorted(graph):
        if start in seen:
            continue
        before: dict[str, str] = {}
        queue = [start]
        for node in queue:
            for target in sorted(graph.get(node, ())):
                if target not in before:
                    before[target] = node
                    queue.append(target)
        if start in before:
            way = [start, before[start]]
            while way[-1] != start:
                way.append(before[way[-1]])
            found.append(way[::-1])
            seen.update(node for node in before if start in _reached(graph, node))
    return found


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    queue = [start]
    while queue:
        new = graph.get(queue.pop(), set()) - found
        found |= new
        queue.extend(new)
    return found


# --- what is wrong ------------------------------------------------------------------------------


def wrong(source: Source) -> list[str]:
    """What breaks a rule, and how to mend it; empty if nothing does."""
    return [
        *_circles(source),
        *_upwards(source),
        *_long_files(source),
        *_full_folders(source),
    ]


def _circles(source: Source) -> Iterator[str]:
    packages = [name for name, path in source.files.items() if path.name == "__init__.py"]
    for package in ["", *sorted(packages)]:
        for way in circles(source.units(package)):
            steps = (_witness(source, package, a, b) for a, b in pairwise(way))
            yield (
                f"circle in {package or 'the packages'}: {' -> '.join(way)} ({'; '.join(steps)}): "
                "move what both need below them, or hand it in as an argument."
            )


def _witness(source: Source, package: str, above: str, below: str) -> str:
    """The first import of one unit by another."""
    (a, b), line = min(
        (pair, line)
        for pair, line in source.imports.items()
        if (_unit(pair[0], package), _unit(pair[1], package)) == (above, below)
    )
    return f"{source.files[a].relative_to(source.root)}:{line} imports {b}"


def _upwards(source: Source) -> Iterator[str]:
    for layers in source.layers:
        for unit, others in sorted(source.units(layers.package).items()):
            for other in sorted(others):
                a, b = layers.row(unit), layers.row(other)
                if a is None or b is None or a < b or (a == b and not layers.strangers[a]):
                    continue
                where = _witness(source, layers.package, unit, other)
                yield (
                    f"upward import: {where}, but pyproject.toml puts {other} above or beside "
                    f"{unit}: move what is needed down, or change the order of the layers there."
                )


def _long_files(source: Source) -> Iterator[str]:
    for path in [*source.files.values(), *sorted((source.root / "tests").rglob("*.py"))]:
        if (lines := _lines(path)) > MOST_LINES:
            yield (
                f"long file: {path.relative_to(source.root)} has {lines} lines, at most "
                f"{MOST_LINES} are allowed: split it by what its parts are about."
            )


def _full_folders(source: Source) -> Iterator[str]:
    folders = Counter(
        path.parent.relative_to(source.root).as_posix()
        for path in source.files.values()
        if path.name != "__init__.py"
    )
    for folder, number in sorted(folders.items()):
        if number > MOST_MODULES and folder not in ONE_FILE_EACH:
            yield (
                f"full folder: {folder} has {number} modules, at most {MOST_MODULES} are allowed: "
                "merge some, or put those of one subject into a folder of their own."
            )


# --- lines ----------------------------------------------------------------------------------------


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def lines_by_room(source: Source) -> dict[str, tuple[int, int]]:
    """Lines and files of each room: a folder or a module of a package."""
    found: dict[str, tuple[int, int]] = {}
    for path in source.files.values():
        parts = path.relative_to(source.root).parts
        deep = parts[0] in ("metadist", "data_pipeline")
        room = "/".join(parts[: 2 if deep else 1])
        lines, files = found.get(room, (0, 0))
        found[room] = lines + _lines(path), files + 1
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print or draw.

    Returns:
        1 if something is wrong and ``--check`` was asked for, else 0.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if something is wrong")
    parser.add_argument("--draw", action="store_true", help="write docs/images/architecture.svg")
    asked = parser.parse_args(arguments)
    source = Source(ROOT)
    if asked.draw:
        from structure_picture import PICTURE, draw

        (ROOT / PICTURE).write_text(draw(source), encoding="utf-8")
        return 0
    if not asked.check:
        rooms = lines_by_room(source)
        for room, (lines, files) in sorted(rooms.items()):
            print(f"{lines:7,d} lines {files:4d} files  {room}")
        print(f"{sum(lines for lines, _ in rooms.values()):7,d} lines in all")
    problems = wrong(source)
    print("\n".join(problems) or "Nothing is wrong with the structure.")
    return 1 if problems and asked.check else 0


if __name__ == "__main__":
    sys.exit(main())

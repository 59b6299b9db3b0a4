"""What shared code must not know: kinds of tasks, metrics, learners by their names.

    python tests/support/literals.py           what is found, and where
    python tests/support/literals.py --check   exit with 1 if something is found

A learner, an objective or a network is one file. Whatever else needs to know of one asks it, or
reads what it has written down of itself; a name that stands elsewhere is a special case that
nobody's own learner can have. Docstrings and comments may name whom they like.

Markup is found, too: it stands in templates, which escape what is put into them.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What tasks were called before objectives had a room, and what is measured by two of them.
KINDS = frozenset({"classification", "regression"})
METRICS = frozenset({"accuracy", "mse"})
#: Those that a module may import to write down, never to decide by.
CONSTANTS = frozenset({"ACCURACY", "MSE", "NLL"})
#: Of HTML and SVG; the first module alters what matplotlib has drawn.
_DRAWS = "metadist/report/svg.py"
_MARKUP = re.compile(
    r"</[a-z]|(?<!\?P)<(?:html|head|meta|title|style|script|body|main|header|footer|section|article|div|p|h[1-6]|span|b|i|a|br|hr"
    r"|small|code|pre|ul|ol|li|dl|dt|dd|table|thead|tbody|tr|th|td|details|summary|figure|figcaption|img|svg|g|path|rect"
    r"|text|tspan|image)[ />]"
)
#: What holds the name of a learner or network: ``recipe.algorithm.name``, ``model``, …
_HOLDERS = frozenset({"algorithm", "model", "backbone", "learner", "network"})


@dataclass(frozen=True, order=True)
class Finding:
    """A literal where none belongs."""

    path: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def findings(root: Path) -> list[Finding]:
    """All of a source tree that holds ``metadist``."""
    package = root / "metadist"
    learners = frozenset(p.stem for p in (package / "algorithms").glob("[!_]*.py"))
    found: list[Finding] = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0]
        if room == "objectives":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = frozenset() if room == "algorithms" else learners
        name = path.relative_to(root).as_posix()
        found += [Finding(name, line, what) for line, what in _of_module(tree, own)]
        if name != _DRAWS:
            found += [Finding(name, line, what) for line, what in _markup(tree)]
    return sorted(set(found))


def _of_module(tree: ast.Module, learners: frozenset[str]) -> Iterator[tuple[int, str]]:
    docstrings = {id(text) for text in _docstrings(tree)}
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in KINDS:
                yield line, f"kind of task {node.value!r}"
            if id(node) not in docstrings:
                for name in sorted(_words(node.value) & learners):
                    yield line, f"learner {name!r} in a text"
        for key in _keys(node):
            if key.rpartition("/")[2] in METRICS:
                yield line, f"metric {key!r} decides, or is a key"
        for name in sorted(_imported(node) & learners):
            yield line, f"learner {name!r} is imported"
        for name in sorted(_compared(node) & CONSTANTS):
            yield line, f"metric {name} decides"
        if isinstance(node, ast.Compare) and any(map(_holds_a_name, _sides(node))):
            for text in filter(None, _texts(node)):
                yield line, f"the name of a learner or network is compared with {text!r}"


def _markup(tree: ast.Module) -> Iterator[tuple[int, str]]:
    docstrings = {id(text) for text in _docstrings(tree)}
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in docstrings else ""
        if isinstance(text, str) and (tag := _MARKUP.search(text)):
            yield getattr(node, "lineno", 0), f"markup {tag[0]!r} in a text: a template holds it"


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    """Texts that stand for themselves: docstrings, also those below an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield node.value


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z0-9_]+", text))


def _sides(node: ast.Compare) -> Sequence[ast.expr]:
    return [node.left, *node.comparators]


def _texts(node: ast.AST) -> Iterator[str]:
    """Texts of an expression, also in tuples, lists and sets."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _keys(node: ast.AST) -> Iterator[str]:
    """Texts by which something is decided or looked up."""
    parts: Sequence[ast.AST | None] = ()
    match node:
        case ast.Compare():
            parts = [s for s in _sides(node) if isinstance(s, _LITERALS)]
        case ast.Dict():
            parts = node.keys
        case ast.Subscript():
            parts = [node.slice]
        case ast.MatchValue():
            parts = [node.value]
        case ast.Call(func=ast.Attribute(attr="get" | "pop" | "setdefault")):
            parts = node.args[:1]
    for part in parts:
        if isinstance(part, _LITERALS):
            yield from _texts(part)


_LITERALS = (ast.Constant, ast.Tuple, ast.List, ast.Set)


def _compared(node: ast.AST) -> frozenset[str]:
    """Names of what is compared, or a case of a match."""
    if isinstance(node, ast.MatchValue):
        sides: Sequence[ast.expr] = [node.value]
    else:
        sides = _sides(node) if isinstance(node, ast.Compare) else []
    inner = [part for side in sides for part in ast.walk(side)]
    names = {part.id for part in inner if isinstance(part, ast.Name)}
    return frozenset(names | {part.attr for part in inner if isinstance(part, ast.Attribute)})


def _imported(node: ast.AST) -> frozenset[str]:
    """Modules that are imported, or taken from a room of parts: ``algorithms.NAME``."""
    match node:
        case ast.Import(names=names):
            return frozenset(part for alias in names for part in alias.name.split("."))
        case ast.ImportFrom(module=module, names=names):
            return frozenset([*(module or "").split("."), *(alias.name for alias in names)])
        case ast.Attribute(value=ast.Name(id="algorithms") | ast.Attribute(attr="algorithms")):
            return frozenset({node.attr})
    return frozenset()


def _holds_a_name(side: ast.expr) -> bool:
    """Whether an expression is a learner's or network's name: ``….algorithm.name``, ``model``."""
    if isinstance(side, ast.Attribute) and side.attr == "name":
        side = side.value
    named = side.attr if isinstance(side, ast.Attribute) else getattr(side, "id", "")
    return named in _HOLDERS


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if something is found")
    options = parser.parse_args(arguments)
    found = findings(ROOT)
    print(*found, sep="\n", end="\n" if found else "")
    print(f"{len(found)} literals of tasks, metrics, learners and markup in shared code")
    return int(options.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())

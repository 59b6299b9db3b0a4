"""A comparison as aligned lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from metadist.comparison import words

#: Characters of a run's name, of a value, and of a curve.
_NAME, _VALUE, _CURVE = 40, 22, 16
_GAP = "  "


def text(result: Mapping[str, Any], width: int = 100) -> list[str]:
    """The comparison in lines.

    Args:
        width: of the terminal; a wide table of differences is cut into several.
    """
    runs = result["runs"]
    numbers = {run["run"]: str(place) for place, run in enumerate(runs, 1)}
    base = numbers[result["baseline"]]
    order = ", the best first" if result["ranked"] else ""
    lines = [
        f"{len(runs)} runs{order}: {words.about(result)}; ± is the 95 % interval over episodes",
        "",
        *_figures(result, numbers, base),
        "",
        *_new_classes(result),
        *_costs(result, numbers),
        "",
        *_differences(result, numbers, width),
    ]
    notes = [line for note in words.notes(result) for line in textwrap.wrap(note, max(width, 40))]
    return [*lines, *(["", *notes] if notes else [])]


def _figures(result: Mapping[str, Any], numbers: Mapping[str, str], base: str) -> list[str]:
    head = ["", "run", result["score"], "failed", f"to {base}, paired", "verdict", "validation"]
    rows = [
        [
            numbers[run["run"]],
            _name(run["run"]),
            words.figure(result, run),
            words.count(run["failed"]),
            words.difference(result, run),
            words.verdict(run),
            curve,
        ]
        for run, curve in zip(result["runs"], words.sparks(result, _CURVE), strict=True)
    ]
    return aligned(head, rows, right={0, 2, 3, 4})


def _new_classes(result: Mapping[str, Any]) -> list[str]:
    head, *rows = words.new_classes(result) or [[]]
    rows = [[_name(row[0]), *row[1:]] for row in rows]
    return [*aligned(head, rows, right={1, 2}), ""] if rows else []


def _costs(result: Mapping[str, Any], numbers: Mapping[str, str]) -> list[str]:
    head = ["", "run", "order", "parameters", "best step", "steps", "tasks", "time", "worker-s"]
    rows = [
        [
            numbers[run["run"]],
            _name(run["run"]),
            words.order(run),
            words.count(run["parameters"]),
            words.count(run["best_step"]),
            words.count(run["steps"]),
            words.count(run["tasks"]),
            words.seconds(run["seconds"]),
            words.rounded(run["worker_seconds"]),
        ]
        for run in result["runs"]
    ]
    return aligned(head, rows, right={0, 3, 4, 5, 6, 7, 8})


def _differences(result: Mapping[str, Any], numbers: Mapping[str, str], width: int) -> list[str]:
    found = result["differences"]
    if not found:
        return ["Nothing differs between these runs."]
    names, keys = list(numbers), list(found)
    cells = {key: [words.value(found[key][name], _VALUE) for name in names] for key in keys}
    if result["ranked"]:
        # As many rows as runs: nobody reads a table of dozens of columns.
        first, columns = list(numbers.values()), {key: cells[key] for key in keys}
    else:
        first = keys
        columns = {numbers[n]: [cells[key][i] for key in keys] for i, n in enumerate(names)}
    lines: list[str] = []
    for block in _blocks(first, columns, width):
        rows = [[label, *(columns[c][i] for c in block)] for i, label in enumerate(first)]
        lines += ["", *aligned(["differs", *block], rows, right=set())]
    return lines[1:]


def _blocks(
    first: Sequence[str], columns: Mapping[str, Sequence[str]], width: int
) -> list[list[str]]:
    """The columns in groups that fit beside the first one; at least one to a group."""
    start = max(map(len, [*first, "differs"]))
    blocks: list[list[str]] = []
    used = width + 1
    for name, cells in columns.items():
        needed = len(_GAP) + max(map(len, [name, *cells]))
        if used + needed > width:
            blocks.append([])
            used = start
        blocks[-1].append(name)
        used += needed
    return blocks


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    """A table in columns, its head underlined.

    Args:
        right: columns that are set to the right.
    """
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    table = [head, ["-" * width for width in widths], *rows]
    return [
        _GAP.join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _name(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[:19]}…{name[-20:]}"

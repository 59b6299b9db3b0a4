"""A comparison as aligned lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from metadist.comparison import phrases
from metadist.report.short import short

#: Characters of a run's name, at most and at least, of a value, and of a curve.
_NAME, _FEW, _VALUE, _CURVE = 40, 12, 22, 16
_GAP, _LAST = "  ", "validation"


def text(result: Mapping[str, Any], width: int = 100) -> list[str]:
    """The comparison in lines.

    Args:
        width: of the terminal; a wide table of differences is cut into several.
    """
    runs = result["runs"]
    numbers = {run["run"]: str(place) for place, run in enumerate(runs, 1)}
    base = numbers[result["baseline"]]
    order = ", the best first" if result["ranked"] else ""
    title = (
        f"{len(runs)} runs{order}: {phrases.about(result)}; ± is the 95 % interval over episodes"
    )
    lines = [
        *textwrap.wrap(title, max(width, 40)),
        "",
        *_figures(result, numbers, base, width),
        "",
        *_new_classes(result, width),
        *_costs(result, numbers, width),
        "",
        *_differences(result, numbers, width),
    ]
    notes = [line for note in phrases.notes(result) for line in textwrap.wrap(note, max(width, 40))]
    return [*lines, *(["", *notes] if notes else [])]


def _figures(
    result: Mapping[str, Any], numbers: Mapping[str, str], base: str, width: int
) -> list[str]:
    head = ["", "run", result["score"], "failed", f"to {base}, paired", "verdict"]
    rows = [
        [
            numbers[run["run"]],
            run["run"],
            phrases.figure(result, run),
            phrases.count(run["failed"]),
            phrases.difference(result, run),
            phrases.verdict(run),
        ]
        for run in result["runs"]
    ]
    # A curve is a hint: it gets what names and figures leave, or nothing.
    rows = _named(head, rows, width - len(_GAP) - len(_LAST))
    room = width - len(_GAP) - max(map(len, aligned(head, rows, set())))
    if room >= len(_LAST):
        head.append(_LAST)
        curves = phrases.sparks(result, min(room, _CURVE))
        rows = [[*row, curve] for row, curve in zip(rows, curves, strict=True)]
    return aligned(head, rows, right={0, 2, 3, 4})


def _new_classes(result: Mapping[str, Any], width: int) -> list[str]:
    head, *rows = phrases.new_classes(result) or [[]]
    if not rows:
        return []
    # Names come first here, and there are no numbers.
    rows = [row[1:] for row in _named(["", *head], [["", *row] for row in rows], width)]
    return [*aligned(head, rows, right={1, 2}), ""]


def _costs(result: Mapping[str, Any], numbers: Mapping[str, str], width: int) -> list[str]:
    head = ["", "run", "order", "parameters", "best step", "steps", "tasks", "time", "worker-s"]
    rows = [
        [
            numbers[run["run"]],
            run["run"],
            phrases.order(run),
            phrases.count(run["parameters"]),
            phrases.count(run["best_step"]),
            phrases.count(run["steps"]),
            phrases.count(run["tasks"]),
            phrases.seconds(run["seconds"]),
            phrases.rounded(run["worker_seconds"]),
        ]
        for run in result["runs"]
    ]
    return aligned(head, _named(head, rows, width), right={0, 3, 4, 5, 6, 7, 8})


def _named(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The rows with their names, the second column, in what the others leave of the width."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    others = sum(widths) - widths[1] + len(_GAP) * (len(head) - 1)
    names = short([row[1] for row in rows], min(max(width - others, _FEW), _NAME))
    return [[row[0], name, *row[2:]] for row, name in zip(rows, names, strict=True)]


def _differences(result: Mapping[str, Any], numbers: Mapping[str, str], width: int) -> list[str]:
    found = result["differences"]
    if not found:
        return ["Nothing differs between these runs."]
    names, keys = list(numbers), list(found)
    cells = {key: phrases.values([found[key][name] for name in names], _VALUE) for key in keys}
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

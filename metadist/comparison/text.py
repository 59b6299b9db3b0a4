"""A comparison as aligned lines for a terminal, and as CSV."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from metadist.comparison import phrases
from metadist.report.text_table import aligned, short

#: Characters of a run's name, at most and at least, of a value, and of a curve.
_NAME, _FEW, _VALUE, _CURVE = 40, 12, 22, 16
_GAP, _LAST = "  ", "validation"
#: Of each run, by the names that the result has for them.
_OWN = (
    "episodes", "failed", "adaptation_steps", "algorithm", "derivative_order", "estimator",
    "parameters", "best_step", "steps", "tasks_per_step", "tasks", "seconds", "worker_seconds",
)  # fmt: skip


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
        *_figures(result, base, width),
        "",
        *_named_rows(phrases.new_classes(result), width),
        *_named_rows(phrases.further(result), width),
        *_named_rows(phrases.by_instance(result), width),
        *_costs(result, width),
        "",
        *_differences(result, numbers, width),
    ]
    notes = [line for note in phrases.notes(result) for line in textwrap.wrap(note, max(width, 40))]
    return [*lines, *(["", *notes] if notes else [])]


def _figures(result: Mapping[str, Any], base: str, width: int) -> list[str]:
    columns = ("number", "run", "figure", "failed", "difference", "verdict")
    headings = {"number": "", "figure": result["score"], "difference": f"to {base}, paired"}
    # A curve is a hint: it gets what names and figures leave, or nothing.
    rows = _named(phrases.table(result, columns, **headings), width - len(_GAP) - len(_LAST))
    room = width - len(_GAP) - max(map(len, aligned(rows, ())))
    if room >= len(_LAST):
        last = [_LAST, *phrases.sparks(result, min(room, _CURVE))]
        rows = [[*row, cell] for row, cell in zip(rows, last, strict=True)]
    return aligned(rows, right={0, 2, 3, 4})


def _named_rows(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    if not rows:
        return []
    # Names come first here, and there are no numbers.
    rows = [row[1:] for row in _named([["", *row] for row in rows], width)]
    return [*aligned(rows, right={1, 2}), ""]


def _costs(result: Mapping[str, Any], width: int) -> list[str]:
    columns = ("number", "run", "order", "parameters", "best_step", "steps", "tasks", "time")
    rows = phrases.table(result, (*columns, "worker_seconds"), number="", worker_seconds="worker-s")
    return aligned(_named(rows, width), right={0, *range(3, 9)})


def _named(rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The rows with their names, the second column, in what the others leave of the width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    others = sum(widths) - widths[1] + len(_GAP) * (len(widths) - 1)
    names = short([row[1] for row in rows[1:]], min(max(width - others, _FEW), _NAME))
    return [[row[0], name, *row[2:]] for row, name in zip(rows, [rows[0][1], *names], strict=True)]


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
        lines += ["", *aligned([["differs", *block], *rows], right=())]
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


def to_csv(result: Mapping[str, Any]) -> str:
    """Figures, differences to the baseline, costs, and every field in which the runs differ.

    Numbers have all their digits; what there is not is empty.
    """
    rows = [_row(result, run) for run in result["runs"]]
    # A run may lack a metric that another has. Whole numbers stay whole beside what is missing.
    table = pd.DataFrame(rows, dtype=object)
    return str(table.to_csv(index=False, lineterminator="\n"))


def _row(result: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    paired = run["difference"] or {}
    baseline = run["difference"] is None
    classes = {
        "classes": run.get("classes"),
        "ci95_classes": run.get("ci95_classes"),
        "difference_ci95_classes": paired.get("ci95_classes"),
        "verdict_classes": paired.get("verdict_classes"),
    }
    return {
        "run": run["run"],
        "path": run["path"],
        "protocol": result["protocol"],
        result["score"]: run[result["score"]],
        "ci95": run["ci95"],
        **{name: own["mean"] for name, own in run.get("metrics", {}).items()},
        "baseline": result["baseline"],
        "difference": paired.get("mean"),
        "difference_ci95": paired.get("ci95"),
        "pairs": paired.get("episodes"),
        "left_out": paired.get("left_out"),
        "verdict": "baseline" if baseline else paired.get("verdict", "not paired"),
        **(classes if "classes" in run else {}),  # functions have none
        "not_paired": paired.get("not_paired"),
        **{name: run[name] for name in _OWN},
        **{name: values[run["run"]] for name, values in result["differences"].items()},
    }

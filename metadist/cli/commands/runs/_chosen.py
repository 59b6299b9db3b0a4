"""Which runs are meant, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from metadist.cli import options
from metadist.process.resources import human_bytes

if TYPE_CHECKING:
    from metadist.runs.inventory import Listed

filters = options.text(
    "--filter",
    "KEY=VALUE",
    "Only runs of that: a fact (name, status, algorithm, dataset, …) or a recipe's key; '*' "
    "stands for anything.",
    into="filters",
    multiple=True,
)
since = options.text("--since", "7d|DATE", "Only runs made since: 90m, 12h, 7d, 2w, or 2026-01-31.")
_HEAD = ("run", "status", "made", "algorithm", "dataset", "steps", "result", "size")


def show(found: Sequence[Listed], *, err: bool = False) -> None:
    """A line for each run, below a head; none at all if there is no run."""
    if found:
        options.show_rows([_HEAD, *map(_row, found)], right=(5, 7), err=err)


def _row(one: Listed) -> tuple[str, ...]:
    facts = one.document()
    return (
        one.run.name,
        str(facts["status"] or "?"),
        f"{one.made.astimezone():%Y-%m-%d %H:%M}",
        str(facts["algorithm"] or "?"),
        str(facts["dataset"] or "?"),
        "" if facts["steps"] is None else f"{facts['steps']:,}",
        _result(one),
        human_bytes(one.size),
    )


def _result(one: Listed) -> str:
    from metadist.statistics.format import score_ci

    facts, metric = one.document(), one.metric
    if metric is None or not isinstance(facts["score"], int | float):
        return ""
    value, half = score_ci(metric, facts["score"], facts["ci95"] or 0.0)
    return f"{metric.name} {value} {half}".rstrip()

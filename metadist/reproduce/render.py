"""A result for people: aligned text for a terminal, Markdown for a page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metadist.report.text_table import aligned
from metadist.reproduce.result import Result
from metadist.reproduce.table import Published
from metadist.reproduce.verdict import Ours, percent
from metadist.statistics.format import mean_ci

#: Columns of both forms; figures are set to the right.
COLUMNS = ("row", "ours", "published", "budget", "verdict", "notes")
#: A longer reason goes among the notes.
_SHORT = 44
#: Behind the published figures of ensembles, and of those that nobody has compared with a source.
_DAGGER, _UNCHECKED = "†", "?"


def number(value: float | None, unit: str) -> str:
    """A measured figure: as many digits as tell something."""
    if value is None or not math.isfinite(value):
        return "–"
    if unit in ("%", "points", "×"):
        return f"{value:.2f}"
    if unit == "tasks/s":
        return f"{value:,.0f}"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.2f}"


def _ours(ours: Ours | None, unit: str) -> str:
    """Our figure with its interval, and the number of seeds if there are several."""
    if ours is None:
        return "–"
    text = number(ours.value, unit)
    if ours.value is not None:
        text = mean_ci(ours.value, ours.ci95, lambda value: number(value, unit))
    if unit:
        text += f" {unit}"
    return f"{text} (n = {ours.seeds})" if ours.seeds > 1 else text


def _published(published: Published | None, unit: str) -> str:
    """The published figure with the digits it was published with."""
    if published is None:
        return "–"
    text = "≥ " if published.relation == "at_least" else ""
    text += mean_ci(published.value, published.ci95, "{:.10g}")
    if unit:
        text += f" {unit}"
    if published.ensemble:
        text += f" {_DAGGER}"
    return text if published.checked else f"{text} {_UNCHECKED}"


def cells(result: Result) -> tuple[list[tuple[str, ...]], list[str]]:
    """A tuple of strings for each row, and the texts of the notes, numbered as they appear."""
    notes: dict[str, int] = {}
    rows: list[tuple[str, ...]] = []
    for one in result.rows:
        said, verdict = list(one.notes), one.verdict.text
        if len(verdict) > _SHORT and one.verdict.kind in ("missing", "not comparable"):
            verdict = one.verdict.kind
            said.insert(0, f"{one.verdict.kind.capitalize()}: {one.verdict.why}")
        marks = sorted(notes.setdefault(text, len(notes) + 1) for text in said)
        ours = _ours(one.measured.ours, one.row.unit)
        published = _published(one.row.published, one.row.unit)
        untrained = not one.published_tasks and one.used == 0
        budget = "no training" if untrained else percent(one.share)
        rows.append((one.row.label, ours, published, budget, verdict, ",".join(map(str, marks))))
    return rows, list(notes)


def _legend(result: Result) -> list[str]:
    """What the marks behind published figures mean, those that occur."""
    published = [one.row.published for one in result.rows if one.row.published is not None]
    lines = []
    if any(p.ensemble for p in published):
        lines.append(f"{_DAGGER} of an ensemble, not of a single model")
    if any(not p.checked for p in published):
        lines.append(f"{_UNCHECKED} quoted from memory, not read in its source")
    return lines


def text(result: Result) -> list[str]:
    """The table as aligned lines, its notes below."""
    rows, notes = cells(result)
    return [
        f"{result.request.table.title}: {_budget(result)}",
        "",
        *aligned([COLUMNS, *rows], right={1, 2, 3}),
        "",
        *_legend(result),
        *(f"{index}. {note}" for index, note in enumerate(notes, 1)),
    ]


def _budget(result: Result) -> str:
    seeds = result.request.seeds
    return f"{result.request.tasks:,} tasks a run, {seeds} seed{'s' if seeds > 1 else ''}"


def markdown(result: Result, pictures: Sequence[str]) -> str:
    """The table as a page of its own.

    Args:
        pictures: file names of its pictures, beside the page.
    """
    table, facts = result.request.table, result.facts
    rows, notes = cells(result)
    rule = ("---", "---:", "---:", "---:", "---", "---")
    lines = [
        f"# {_escaped(table.title)}",
        "",
        _escaped(table.summary),
        "",
        "```bash",
        result.request.command,
        "```",
        "",
        f"{_budget(result)}. Commit {facts['commit']}, {facts['machine']}, torch "
        f"{facts['torch']}, Python {facts['python']}, {facts['date']}. Intervals are 95 % "
        "confidence intervals; `budget` is the share of the published training.",
        "",
        *(f"| {' | '.join(_escaped(c) for c in row)} |" for row in (COLUMNS, rule, *rows)),
        "",
        *(f"{line}  " for line in _legend(result)),
        *([""] if _legend(result) else []),
    ]
    for picture in pictures:
        lines += [f"![{_escaped(table.title)}]({picture})", ""]
    if notes:
        numbered = [f"{index}. {_escaped(note)}" for index, note in enumerate(notes, 1)]
        lines += ["## Notes", "", *numbered, ""]
    return "\n".join([*lines, *_sources(result)])


def _sources(result: Result) -> list[str]:
    """Whose figures the published ones are, and where they were read."""
    of: dict[tuple[str, str], list[str]] = {}
    for one in result.rows:
        if one.row.published is not None:
            of.setdefault((one.row.source, one.row.read_in), []).append(one.row.label)
    if not of:
        return []
    lines = ["## Published figures", ""]
    for (source, read_in), labels in of.items():
        said = "; ".join(labels)
        lines.append(_escaped(f"- {said}: {source}. Read in: {read_in}."))
    return [*lines, ""]


def _escaped(text: str) -> str:
    """Text inside a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

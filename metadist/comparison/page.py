"""A comparison as one HTML file that needs nothing else, with all text escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from metadist.comparison import phrases
from metadist.report.charts import ranges
from metadist.report.curves import Line, curves
from metadist.report.document import document, figure, note, table
from metadist.statistics.format import logarithmic, sentence

#: Runs that are drawn; all are in the tables.
MOST_DRAWN = 12
#: Characters of a value, more where they tell two apart; the CSV has all of them.
_VALUE = 40
#: Columns of both tables, by their names in :func:`metadist.comparison.phrases.cells`.
_FIGURES = ("run", "figure", "episodes", "failed", "difference", "verdict", "best_step")
_COST_COLUMNS = (
    "run", "order", "parameters", "steps", "tasks_per_step", "tasks", "time", "worker_seconds",
)  # fmt: skip
_COSTS = (
    "Tasks are outer steps times tasks per step, the same on every machine. Time is that of "
    "training alone, by the clock of the machine and under its load; worker-seconds are time "
    "times workers. Validation, checkpoints and evaluation are in neither."
)
_CLASSES = (
    "With 95 % intervals over classes and episodes: what these figures say of classes that are not "
    "among those of the episodes."
)
_FURTHER = "Of other metrics; one without an interval is counted over all episodes together."
_PAIRED = (
    "Each run minus the baseline, on the same episodes; the line is the 95 % interval of the mean "
    "(Student's). It is over episodes: other seeds of training may differ by more."
)


def render(result: Mapping[str, Any]) -> str:
    """The page as text; the same result gives the same text."""
    runs = result["runs"]
    headings = {"figure": f"{result['score']} ± 95 % CI", "difference": "paired difference"}
    cost_headings = {"steps": "outer steps", "worker_seconds": "worker-seconds"}
    sections = [
        f'<header><p class="eyebrow">Comparison</p><h1>{len(runs)} runs</h1>'
        f'<p class="lead">{escape(phrases.about(result))}, against '
        f"{escape(result['baseline'])}{', the best first' if result['ranked'] else ''}</p>"
        "</header>\n",
        *(note("Note.", text, warning="not paired" in text) for text in phrases.notes(result)),
        "<h2>Figures</h2>",
        _table(phrases.table(result, _FIGURES, **headings)),
        _named(_CLASSES, phrases.new_classes(result)),
        _named(_FURTHER, phrases.further(result)),
        _differences_figure(result),
        "<h2>Learning curves</h2>",
        _curves(result),
        "<h2>What differs</h2>",
        _varying(result),
        "<h2>Cost</h2>",
        _table(phrases.table(result, _COST_COLUMNS, **cost_headings)),
        f"<p>{escape(_COSTS)}</p>",
        "<footer>Written by metadist from the run directories alone. Intervals are 95 % "
        "confidence intervals over episodes, but for those of new classes.</footer>",
    ]
    return document(f"{len(runs)} runs · metadist compare", "".join(sections))


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A table of text, its head first."""
    return table(rows[0], rows[1:]).replace("scroll", "card scroll", 1) + "\n"


def _named(told: str, rows: Sequence[Sequence[str]]) -> str:
    return f"<p>{escape(told)}</p>{_table(rows)}" if rows else ""


def _varying(result: Mapping[str, Any]) -> str:
    """One row for each field and one column for each run; of many runs the other way round."""
    found = result["differences"]
    if not found:
        return "<p>Nothing differs between these runs.</p>\n"
    names = [run["run"] for run in result["runs"]]
    rows: list[Sequence[str]] = [("", *names)]
    rows += [
        (key, *phrases.values([of[name] for name in names], _VALUE)) for key, of in found.items()
    ]
    return _table(list(zip(*rows, strict=True)) if result["ranked"] else rows)


def _drawn(result: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], str]:
    """The runs that figures show, and what is said of the others."""
    runs = result["runs"]
    if len(runs) <= MOST_DRAWN:
        return list(runs), ""
    first = list(runs[:MOST_DRAWN])
    if any(run["run"] == result["baseline"] for run in first):
        return first, f" Drawn are the {MOST_DRAWN} best runs."
    first[-1] = next(run for run in runs if run["run"] == result["baseline"])
    return first, f" Drawn are the {MOST_DRAWN - 1} best runs and the baseline."


def _differences_figure(result: Mapping[str, Any]) -> str:
    runs, others = _drawn(result)
    metric = phrases.metric(result)
    percent = 100.0 if metric.percent else 1.0
    rows: dict[str, tuple[float, float, float]] = {}
    for run in runs:
        found = run["difference"]
        if found and found.get("mean") is not None and found.get("ci95") is not None:
            mean, half = percent * found["mean"], percent * found["ci95"]
            rows[run["run"]] = (mean - half, mean, mean + half)
    if not rows:
        return ""
    unit = f"{metric.title}{', percentage points' if metric.percent else ''}"
    better = "right is better" if result["better"] == "higher" else "left is better"
    svg = ranges(
        "differences",
        f"Difference to {result['baseline']}",
        f"difference in {unit} ({better})",
        rows,
        mark=(0.0, "baseline"),
    )
    return f'<div style="max-width: 44rem; margin-top: 1rem">{figure(svg, _PAIRED + others)}</div>'


def _curves(result: Mapping[str, Any]) -> str:
    runs, others = _drawn(result)
    metric = phrases.metric(result)
    y = f"validation {metric.title}"

    def draw(name: str, x: str, scales: Iterable[int]) -> str:
        lines = [_line(run, scale) for run, scale in zip(runs, scales, strict=True)]
        log = logarithmic(metric, [v for line in lines for v in line.y])
        return curves(
            lines,
            title=f"{sentence(y)} against {x}",
            x=x,
            y=y,
            name=name,
            percent=metric.percent,
            log_y=log,
            size=(8.6, 3.9),
        )

    steps = draw("steps", "outer steps", [1] * len(runs))
    tasks = draw("tasks", "tasks seen", [run["tasks_per_step"] for run in runs])
    if not steps:
        return "<p>None of these runs has validated while it learned.</p>\n"
    told = "Validation episodes choose the checkpoint; tests are made once, at the end."
    return figure(steps, told + others) + "<br>" + figure(tasks, told + others)


def _line(run: Mapping[str, Any], scale: int) -> Line:
    points: Sequence[tuple[int, float]] = [(s, v) for s, v in run["validation"] if v is not None]
    return Line(run["run"], [scale * s for s, _ in points], [v for _, v in points])

"""The page of a comparison: what ``page.html.j2`` beside this shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from metadist.comparison import phrases
from metadist.report.charts import ranges
from metadist.report.curves import Line, curves
from metadist.report.document import Note, page
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


def render(result: Mapping[str, Any]) -> str:
    """The page as text; the same result gives the same text."""
    score = f"{result['score']} ± 95 % CI"
    drawn, others = _drawn(result)
    steps, tasks = _curves(result, drawn)
    return page(
        "comparison/page.html.j2",
        runs=len(result["runs"]),
        result=result,
        about=phrases.about(result),
        remarks=[Note("Note.", text, "not paired" in text) for text in phrases.notes(result)],
        figures=phrases.table(result, _FIGURES, figure=score, difference="paired difference"),
        new_classes=phrases.new_classes(result),
        further=phrases.further(result),
        by_instance=phrases.by_instance(result),
        differences=_differences(result, drawn),
        others=others,
        steps=steps,
        tasks=tasks,
        varying=_varying(result),
        costs=phrases.table(
            result, _COST_COLUMNS, steps="outer steps", worker_seconds="worker-seconds"
        ),
    )


def _varying(result: Mapping[str, Any]) -> list[Sequence[str]]:
    """One row for each field and one column for each run; of many runs the other way round."""
    found = result["differences"]
    if not found:
        return []
    names = [run["run"] for run in result["runs"]]
    rows: list[Sequence[str]] = [("", *names)]
    rows += [
        (key, *phrases.values([of[name] for name in names], _VALUE)) for key, of in found.items()
    ]
    return list(zip(*rows, strict=True)) if result["ranked"] else rows


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


def _differences(result: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
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
    return ranges(
        "differences",
        f"Difference to {result['baseline']}",
        f"difference in {unit} ({better})",
        rows,
        mark=(0.0, "baseline"),
    )


def _curves(result: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Validation scores against outer steps and against tasks; empty without any."""
    metric = phrases.metric(result)
    y = f"validation {metric.title}"

    def draw(name: str, x: str, scales: Iterable[int]) -> str:
        lines = []
        for run, scale in zip(runs, scales, strict=True):
            points = [(scale * step, v) for step, v in run["validation"] if v is not None]
            lines.append(Line(run["run"], [at for at, _ in points], [v for _, v in points]))
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

    return (
        draw("steps", "outer steps", [1] * len(runs)),
        draw("tasks", "tasks seen", [run["tasks_per_step"] for run in runs]),
    )

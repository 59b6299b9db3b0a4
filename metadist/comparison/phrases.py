"""Figures and values of a comparison in words, for its terminal and its page alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from metadist.comparison.differences import Value
from metadist.driver.progress import duration
from metadist.objectives import Metric, known_metric
from metadist.report.text_table import short
from metadist.statistics.classes import few_classes, of_classes, tells_nothing
from metadist.statistics.format import logarithmic, mean_ci, number
from metadist.statistics.instances import ByInstance

#: What stands where there is nothing.
NOTHING = "–"
_TOO_FEW = "too few classes"
#: From so many comparisons on, chance is spoken of.
MANY = 5
_COUNTS = (
    "episodes", "failed", "best_step", "parameters", "steps", "tasks_per_step", "tasks",
    "worker_seconds",
)  # fmt: skip
_BARS = "▁▂▃▄▅▆▇█"


def cells(result: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is said of each run, by the names of columns; each medium shows some of them."""
    return [
        {
            "number": str(number),
            "run": run["run"],
            "figure": figure(result, run),
            "difference": difference(result, run),
            "verdict": verdict(run),
            "order": order(run),
            "time": NOTHING if run["seconds"] is None else duration(run["seconds"]),
            **{name: count(run[name]) for name in _COUNTS},
        }
        for number, run in enumerate(result["runs"], 1)
    ]


def table(result: Mapping[str, Any], columns: Sequence[str], **headings: str) -> list[list[str]]:
    """A head and a row for each run.

    Args:
        columns: names of :func:`cells`.
        headings: of columns that are not headed by their names.
    """
    head = [headings.get(name, name.replace("_", " ")) for name in columns]
    return [head, *([run[name] for name in columns] for run in cells(result))]


def figure(result: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """``63.70 ± 2.87 %`` or ``0.534 ± 0.041``."""
    return _interval(metric(result).percent, run[result["score"]], run["ci95"])


def difference(result: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    """``−8.40 ± 2.61 %``, nothing of the baseline and of a run that is not paired."""
    found = run["difference"]
    if found is None or "not_paired" in found or found["mean"] is None:
        return NOTHING
    text = _interval(metric(result).percent, found["mean"], found["ci95"])
    return f"+{text}" if found["mean"] > 0 else text.replace("-", "−", 1)


def verdict(run: Mapping[str, Any]) -> str:
    """``better``, ``worse``, ``within noise``, ``baseline`` or ``not paired``."""
    found = run["difference"]
    if found is None:
        return "baseline"
    return "not paired" if "not_paired" in found else str(found["verdict"])


def new_classes(result: Mapping[str, Any]) -> list[list[str]]:
    """Figures with their intervals over new classes: a head and a row for each run, or nothing."""
    runs = result["runs"]
    if all(run.get("ci95_classes") is None for run in runs):
        return []
    head = ["for new classes", result["score"], "paired difference", "verdict"]
    return [head, *([run["run"], *_for_new_classes(result, run)] for run in runs)]


def _for_new_classes(result: Mapping[str, Any], run: Mapping[str, Any]) -> list[str]:
    half, found = run["ci95_classes"], run["difference"]
    own = NOTHING
    if half is not None:
        few = tells_nothing(metric(result), half)
        own = _TOO_FEW if few else _interval(metric(result).percent, run[result["score"]], half)
    if found is None:
        return [own, NOTHING, verdict(run)]
    if found.get("ci95_classes") is None:
        return [own, NOTHING, NOTHING]
    if tells_nothing(metric(result), found["ci95_classes"]):
        return [own, _TOO_FEW, str(found["verdict_classes"])]
    told = {"difference": {**found, "ci95": found["ci95_classes"]}}
    return [own, difference(result, told), str(found["verdict_classes"])]


def metric(result: Mapping[str, Any]) -> Metric:
    """What is compared."""
    return known_metric(result["score"], result.get("metric"))


def further(result: Mapping[str, Any]) -> list[list[str]]:
    """Figures of other metrics: a head and a row for each run, or nothing."""
    runs = result["runs"]
    titles = {name: own["title"] for run in runs for name, own in run.get("metrics", {}).items()}
    if not titles:
        return []
    rows = [["further metrics", *titles.values()]]
    for run in runs:
        of = {
            name: _interval(own["percent"], own["mean"], own["ci95"])
            for name, own in run.get("metrics", {}).items()
        }
        rows.append([run["run"], *(of.get(name, NOTHING) for name in titles)])
    return rows


def by_instance(result: Mapping[str, Any]) -> list[list[str]]:
    """Accuracy by instance of runs that predict in sequence: a head and a row for each, or
    nothing."""
    found = {
        r["run"]: ByInstance.read(r["by_instance"]) for r in result["runs"] if "by_instance" in r
    }
    if not found:
        return []
    every = sorted({k for own in found.values() for k in own.printed})
    rows = [["accuracy by instance", "first example", *map(str, every)]]
    for run, own in found.items():
        told = [own.first_example, *(own.printed.get(k, math.nan) for k in every)]
        rows.append([run, *(f"{100 * v:.1f} %" if math.isfinite(v) else NOTHING for v in told)])
    return rows


def _interval(percent: bool, mean: float | None, ci95: float | None) -> str:
    if mean is None:
        return "none finite"
    if percent:
        return mean_ci(mean, ci95, "{:.2f}", "%")
    like = max(abs(mean), ci95 or 0.0)
    return mean_ci(mean, ci95, lambda value: number(value, like))


def order(run: Mapping[str, Any]) -> str:
    """``2 (exact)``: the derivative order of the meta-gradient, and what it claims to be."""
    told, estimator = run["derivative_order"], run["estimator"]
    if told is None:
        return NOTHING
    return f"{told} ({estimator})" if estimator else str(told)


def count(value: Any) -> str:
    """A number without decimals, with commas."""
    return f"{value:,.0f}" if isinstance(value, int | float) else NOTHING


def values(given: Sequence[Value], room: int) -> list[str]:
    """What each run has of something, of a recipe or of what it was computed with.

    Numbers have four digits, or as many as tell them apart; texts are cut to ``room`` characters,
    or to as many. A CSV and JSON have all of them.
    """
    floats = {repr(v): v for v in given if isinstance(v, float)}
    for digits in range(4, 18):
        told = {exact: _float(v, digits) for exact, v in floats.items()}
        if len(set(told.values())) == len(floats):
            break
    return short([told[repr(v)] if isinstance(v, float) else _plain(v) for v in given], room)


def _float(given: float, digits: int) -> str:
    """As it was written if that is short, else rounded."""
    text = f"{given:g}"
    return text if float(text) == given else f"{given:.{digits}g}"


def _plain(given: Value) -> str:
    if given is None:
        return NOTHING
    if isinstance(given, bool):
        return str(given).lower()
    return " ".join(str(given).split()) or '""'


def about(result: Mapping[str, Any]) -> str:
    """What the figures are of."""
    part = "validation" if result["part"] == "val" else result["part"]
    episodes = {run["episodes"] for run in result["runs"]}
    many = f"{min(episodes):,}" if len(episodes) == 1 else f"{min(episodes):,}–{max(episodes):,}"
    of = _of_classes(result["runs"])
    return f"{metric(result).title} on {many} {part} episodes{of}, {result['protocol']}"


def notes(result: Mapping[str, Any]) -> list[str]:
    """What has to be said with the table, a sentence each."""
    runs, said = result["runs"], []
    base = next(run for run in runs if run["difference"] is None)
    reasons: dict[str, list[str]] = {}
    compared = 0
    for run in runs:
        found = run["difference"]
        if found is None:
            continue
        if "not_paired" in found:
            reasons.setdefault(found["not_paired"], []).append(run["run"])
            continue
        compared += 1
        common = found["episodes"] + found["left_out"]
        if common < max(run["episodes"], base["episodes"]):
            said.append(
                f"{run['run']}: the difference is over the first {common:,} episodes, which "
                "are those that it and the baseline have in common."
            )
        if found["left_out"]:
            said.append(
                f"{run['run']}: {found['left_out']:,} of {common:,} episodes are left out of the "
                "difference, on which it or the baseline has no finite result."
            )
    said += [
        f"{', '.join(who)}: not paired with the baseline: {why}." for why, who in reasons.items()
    ]
    if compared >= MANY:
        said.append(
            f"Of {compared} runs as good as the baseline {0.05 * compared:.1g} would be called "
            "better or worse by chance, on average."
        )
    if result["part"] == "test" and len(runs) > 2:
        said.append("A run that is chosen by test episodes is no longer measured by them.")
    said += _class_notes(result)
    said += [f"Left out: {out['run']}: {out['why']}." for out in result["left_out"]]
    return said


def _of_classes(runs: Sequence[Mapping[str, Any]]) -> str:
    """`` of 384 classes``; nothing where they are not known."""
    known = {run["classes"]: run for run in runs if run.get("classes") is not None}
    if len(known) > 1:
        return f" of {min(known):,}–{max(known):,} classes"
    return "".join(of_classes(run, labels=True) for run in known.values())


def _class_notes(result: Mapping[str, Any]) -> list[str]:
    """What has to be said of the classes, a sentence each."""
    runs = [run for run in result["runs"] if "classes" in run]
    warnings = dict.fromkeys(
        few_classes(run["classes"], run["ways"], result["part"])
        for run in runs
        if run["classes"] is not None
    )
    said = [f"{warning}." for warning in warnings if warning]
    if unknown := [run["run"] for run in runs if run["classes"] is None]:
        said.append(
            f"{', '.join(unknown)}: the classes of the episodes are not recorded; 'metadist "
            "evaluate RUN' does so."
        )
    return said


def sparks(result: Mapping[str, Any], columns: int) -> list[str]:
    """Each run's validation score over outer steps in characters, all on the same scales."""
    every = [v for run in result["runs"] for _, v in run["validation"] if v is not None]
    log = logarithmic(metric(result), every)
    curves: list[list[tuple[int, float]]] = []
    for run in result["runs"]:
        points = [(step, v) for step, v in run["validation"] if v is not None]
        curves.append([(step, math.log(v) if log else v) for step, v in points])
    flat = [point for curve in curves for point in curve]
    if not flat:
        return [""] * len(curves)
    last = max(step for step, _ in flat)
    low, high = min(v for _, v in flat), max(v for _, v in flat)
    return [_spark(curve, last, low, high, columns) for curve in curves]


def _spark(
    curve: Sequence[tuple[int, float]], last: int, low: float, high: float, columns: int
) -> str:
    cells = [" "] * columns
    level: dict[int, float] = {}
    for step, score in curve:
        level[max(0, math.ceil(step / last * columns) - 1)] = score
    for column, score in level.items():
        share = (score - low) / (high - low) if high > low else 0.5
        cells[column] = _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]
    for column in range(1, max(level, default=0)):  # between two validations the earlier one holds
        if cells[column] == " ":
            cells[column] = cells[column - 1]
    return "".join(cells).rstrip()

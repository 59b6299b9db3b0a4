"""What a search has come to, in lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metadist.objectives import Metric, known_metric
from metadist.search.display import values
from metadist.statistics.classes import few_classes, of_classes
from metadist.statistics.format import mean_ci


def text(result: Mapping[str, Any]) -> list[str]:
    """Lines about the result of :func:`metadist.tune`."""
    metric = metric_of(result)
    by_status = ", ".join(f"{count} {status}" for status, count in sorted(result["trials"].items()))
    lines = [
        f"{result['search']}: {sum(result['trials'].values())} trials ({by_status}), "
        f"{result['tasks']:,} tasks",
        f"Best: trial {result['trial']} ({values(result['point'])}), by {metric.title}",
    ]
    fresh, tested = (beside(result, part) for part in ("val", "test"))
    tested = f" on episodes{tested}" if tested else ""
    for entry in result["top"]:
        aside = ""
        if apart := entry.get("difference"):
            aside = f", {shown(apart, metric, signed=True)} to the best"
        if failed := entry.get("failed"):
            aside += f", {failed} episodes failed"
        lines.append(
            f"  trial {entry['trial']}: {shown(entry, metric)} on {result['episodes']} fresh "
            f"validation episodes{fresh}{aside}"
        )
    if result["within_noise"]:
        lines.append(
            "  The best is within noise of another: these episodes cannot tell them apart."
        )
    for what in ("best", "default"):
        if not (runs := result[what]):
            continue
        validation, test = result[f"{what}_validation"], result[f"{what}_test"]
        seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
        lines.append(
            f"{what.capitalize()} setting, {seeds}: validation {shown(validation, metric)}, "
            f"test {shown(test, metric)}{tested} (interval over {test['over']})"
        )
    if apart := result.get("against_default"):
        lines.append(
            f"Best against default, paired on {apart['n']} validation episodes: "
            f"{shown(apart, metric, signed=True)} "
            f"(interval over {apart.get('over', 'episodes')}): "
            f"{apart['word'] or 'too few to tell'}"
        )
        signs = {(seed["mean"] or 0.0) > 0 for seed in apart["by_seed"]}
        if len(signs) > 1:
            lines.append("  Its seeds disagree on which is better.")
    for part, known in result.get("of_classes", {}).items():
        if few := few_classes(known["classes"], known["ways"], part):
            lines.append(f"Warning: {few}")
    if len(winners := result.get("tested", [])) > 1:
        lines.append(
            f"Test classes have been looked at for {len(winners)} winners of this search: "
            f"{', '.join(winners)}"
        )
    lines.append(f"Train it: metadist train {result['best_recipe']}")
    return lines


def beside(result: Mapping[str, Any], part: str) -> str:
    """`` of 16 classes``: those of validation (``val``) or ``test`` episodes."""
    told = result.get("of_classes", {}).get(part, {})
    # Of functions there is nothing to be told, of classes neither where they were not recorded.
    return of_classes(told, labels=result.get("labels", metric_of(result).percent))


def metric_of(result: Mapping[str, Any]) -> Metric:
    """What the figures of a search's result are."""
    return known_metric(str(result["metric"]).removeprefix("val/"), result.get("measured"))


def shown(figure: Mapping[str, Any], metric: Metric, *, signed: bool = False) -> str:
    """Mean and interval."""
    mean, ci95 = figure["mean"], figure["ci95"]
    if mean is None:
        return "no figure"
    sign = "+" if signed else ""
    text = mean_ci(mean, ci95, "{:.1f}", "%") if metric.percent else mean_ci(mean, ci95, "{:.3f}")
    return text if text.startswith("-") else sign + text

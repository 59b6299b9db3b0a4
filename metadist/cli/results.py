"""Results for people who do not read JSON."""

from __future__ import annotations

import math
from typing import Any

from metadist.statistics.format import mean_ci, percent


def text(result: dict[str, Any]) -> list[str]:
    """The figures of a result: of a run that was trained or evaluated, or of an ensemble."""
    score = "accuracy" if "accuracy" in result else "mse"
    lines = _ensemble(result, score) if "members" in result else _run(result, score)
    for name, summary in result.get("protocols", {}).items():
        rows, figures = curve(summary), [{**row, "step": 0} for row in summary["by_step"]]
        if len(rows) > 1 and all(row == figures[0] for row in figures):
            # Such as nearest neighbours, which take none.
            last = rows[-1].removeprefix("step ").removesuffix(" (trained)")
            lines.append(f"{name}, the same after 0 to {last.replace(':', ' adaptation steps:')}")
            continue
        lines.append(f"{name}, after each number of adaptation steps:")
        lines += [f"  {line}" for line in rows]
    if "directory" in result:
        lines.append(f"Files: {result['directory']}")
    return lines


def _run(result: dict[str, Any], score: str) -> list[str]:
    main = _main(score, result[score], result["ci95"])
    others = []
    for key, value in result.items():
        if key.startswith(f"{score}_") and result[score] is not None and value is not None:
            count = key.removeprefix(f"{score}_").removesuffix("q")
            unit = "queries per class" if score == "accuracy" else "query points"
            others.append(f"with {count} {unit}: {_value(score, value)}")
    checkpoint = f"checkpoint of step {result['best_step']} of {result['steps']}"
    return [
        f"{result['run']}: {main} on {_episodes(result)} "
        f"(95 % confidence; {checkpoint if result['steps'] else 'no meta-learning'})",
        *_new_classes(result),
        *others,
    ]


def _ensemble(result: dict[str, Any], score: str) -> list[str]:
    members = result["members"]
    main = _main(score, result[score], result["ci95"])
    lines = [
        f"Ensemble of {len(members)}, mean of {result['average']}: {main} on {_episodes(result)} "
        "(95 % confidence)",
        *_new_classes(result),
    ]
    for own in members:
        failed = f", {own['failed']} failed" if own["failed"] else ""
        lines.append(
            f"  {own['run']} ({own['algorithm']}, checkpoint of step {own['best_step']}): "
            f"{_main(score, own[score], own['ci95'])}{failed}"
        )
    return lines


def _episodes(result: dict[str, Any]) -> str:
    """How many tasks of which part, and how many have failed after how many steps."""
    from metadist.statistics.classes import of_classes

    part, after = {"val": "validation"}.get(_part(result), _part(result)), ""
    for summary in [*result.get("protocols", {}).values()][:1]:
        if summary["figure_step"] != summary["trained_steps"]:
            after = f" after {_plural(summary['figure_step'], 'adaptation step')}"
    failed = f", {result['failed']} failed" if result["failed"] else ""
    of = of_classes(result, "accuracy" if "accuracy" in result else "mse")
    return f"{result['episodes']} {part} episodes{of}{failed}{after}"


def _part(result: dict[str, Any]) -> str:
    """Whose episodes they are."""
    summaries = [*result.get("protocols", {}).values()]
    return str(summaries[0]["part"]) if summaries else "test"


def _new_classes(result: dict[str, Any]) -> list[str]:
    """The figure's interval over new classes, and a warning where there are few."""
    if "classes" not in result:
        return []
    from metadist.statistics.classes import SAME_CLASSES, few_classes

    half, told = result["ci95_classes"], SAME_CLASSES
    if half is not None:
        told = f"{_figure('accuracy', result['accuracy'], half)} (95 % over classes and episodes)"
    warning = few_classes(result["classes"], result["ways"], _part(result))
    return [f"for new classes: {told}", *([f"Warning: {warning}"] if warning else [])]


def curve(summary: dict[str, Any]) -> list[str]:
    """A line for each number of adaptation steps, with the episodes that have diverged."""
    lines = []
    for row, failed in zip(summary["by_step"], summary["failed_by_step"], strict=True):
        line = f"step {row['step']}: {_figure(summary['score'], row['mean'], row['ci95'])}"
        if summary["score"] == "mse" and row["mean"] is not None:
            # Infinite where half of the episodes have diverged.
            median = math.inf if row["median"] is None else row["median"]
            line += f", median {_value('mse', median)}"
        if failed:
            line += f" ({failed} of {_plural(summary['episodes'], 'episode')} diverged)"
        lines.append(line + (" (trained)" if row["step"] == summary["trained_steps"] else ""))
    return lines


def _main(score: str, value: float | None, ci95: float | None) -> str:
    name = {"accuracy": "accuracy ", "mse": "mean squared error "}[score]
    return f"{'' if value is None else name}{_figure(score, value, ci95)}"


def _figure(score: str, value: float | None, ci95: float | None) -> str:
    if value is None:
        return "no episode had a finite result"
    # The interval of a single episode, or of errors beyond all measure, is none.
    return mean_ci(value, ci95, lambda part: _value(score, part))


def _value(score: str, value: float) -> str:
    if score == "accuracy":
        return percent(value, 2)
    return f"{value:.4f}" if math.fabs(value) < 1e6 else f"{value:.3e}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""Results for people who do not read JSON."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metadist.statistics.format import exact, exact_ci, percent

if TYPE_CHECKING:
    from metadist.objectives import Metric

#: What ``--json`` prints of a result.
Record = Mapping[str, Any]


def headline(result: Record, metric: Metric, ways: int) -> list[str]:
    """The figures of a run that was trained or evaluated, or of an ensemble, without curves.

    Args:
        metric: what its score is.
        ways: classes of a task of training; 0 where values are learned.
    """
    form = _ensemble if "members" in result else _run
    return form(result, metric, ways)


def _run(result: Record, metric: Metric, ways: int) -> list[str]:
    others = []
    for key, value in result.items():
        if key.startswith(f"{metric.name}_") and key.endswith("q") and value is not None:
            count = key.removeprefix(f"{metric.name}_").removesuffix("q")
            unit = "queries per class" if ways else "query points"
            others.append(f"with {count} {unit}: {exact(metric, value)}")
    checkpoint = f"checkpoint of step {result['best_step']} of {result['steps']}"
    return [
        f"{result['run']}: {_main(result, metric)} on {_episodes(result, ways)} "
        f"(95 % confidence; {checkpoint if result['steps'] else 'no meta-learning'})",
        *_new_classes(result, metric),
        *(others if result[metric.name] is not None else []),
    ]


def _ensemble(result: Record, metric: Metric, ways: int) -> list[str]:
    lines = [
        f"Ensemble of {len(result['members'])}, mean of {result['average']}: "
        f"{_main(result, metric)} on {_episodes(result, ways)} (95 % confidence)",
        *_new_classes(result, metric),
    ]
    for own in result["members"]:
        failed = f", {own['failed']} failed" if own["failed"] else ""
        lines.append(
            f"  {own['run']} ({own['algorithm']}, checkpoint of step {own['best_step']}): "
            f"{_main(own, metric)}{failed}"
        )
    return lines


def _main(result: Record, metric: Metric) -> str:
    return score(metric, result[metric.name], result["ci95"])


def _episodes(result: Record, trained_ways: int) -> str:
    """How many tasks of which part, and how many have failed after how many steps."""
    from metadist.statistics.classes import of_classes

    part, after = {"val": "validation"}.get(_part(result), _part(result)), ""
    for summary in [*result.get("protocols", {}).values()][:1]:
        if summary["figure_step"] != summary["trained_steps"]:
            after = f" after {_plural(summary['figure_step'], 'adaptation step')}"
    failed = f", {result['failed']} failed" if result["failed"] else ""
    of = of_classes(result, labels=trained_ways > 0)
    ways = result.get("ways")
    kind = f"{ways}-way " if ways and trained_ways and ways != trained_ways else ""
    return f"{result['episodes']} {kind}{part} episodes{of}{failed}{after}"


def _part(result: Record) -> str:
    summaries = [*result.get("protocols", {}).values()]
    return str(summaries[0]["part"]) if summaries else "test"


def _new_classes(result: Record, metric: Metric) -> list[str]:
    """The figure's interval over new classes, and a warning where there are few."""
    if "classes" not in result:
        return []
    from metadist.statistics.classes import SAME_CLASSES, TOO_FEW, few_classes, tells_nothing

    half, told = result["ci95_classes"], SAME_CLASSES
    if half is not None and tells_nothing(metric, half):
        told = TOO_FEW
    elif half is not None:
        told = f"{exact_ci(metric, result[metric.name], half)} (95 % over classes and episodes)"
    warning = few_classes(result["classes"], result["ways"], _part(result))
    return [f"for new classes: {told}", *([f"Warning: {warning}"] if warning else [])]


def curves(result: Record) -> list[str]:
    """The figures of each protocol after each number of adaptation steps."""
    lines: list[str] = []
    for number, (name, summary) in enumerate(result.get("protocols", {}).items()):
        rows = curve(summary)
        figures = [{**row, "step": 0} for row in summary["by_step"]]
        if len(rows) > 1 and all(row == figures[0] for row in figures):
            # Such as nearest neighbours, which take no steps; the first is the headline's.
            if number:
                lines.append(f"{name}: {rows[-1].partition(': ')[2].removesuffix(' (trained)')}")
            continue
        lines.append(f"{name}, after each number of adaptation steps:")
        lines += [f"  {line}" for line in rows]
    return lines


def curve(summary: Record) -> list[str]:
    """A line for each number of adaptation steps, with the episodes that have diverged."""
    from metadist.runs.readers.evaluations import read_further, read_metric

    metric, further, lines = read_metric(summary), read_further(summary), []
    for row, failed in zip(summary["by_step"], summary["failed_by_step"], strict=True):
        step = row["step"]
        line = f"step {step}: {exact_ci(metric, row['mean'], row['ci95'])}"
        if not metric.percent and row["mean"] is not None:
            # Infinite where half of the episodes have diverged.
            median = metric.worst if row["median"] is None else row["median"]
            line += f", median {exact(metric, median)}"
        for own in further:
            line += f", {score(own.metric, own.mean[step], own.ci95[step])}"
        if failed:
            line += f" ({failed} of {_plural(summary['episodes'], 'episode')} diverged)"
        lines.append(line + (" (trained)" if step == summary["trained_steps"] else ""))
    return lines


def adapted(result: Record) -> list[str]:
    """An adaptation."""
    labels = result["labels"]
    shots = ", ".join(f"{label} ({count})" for label, count in list(labels.items())[:20])
    if len(labels) > 20:
        shots += f" and {len(labels) - 20} more"
    steps = "" if result["steps"] is None else f", adaptation steps: {result['steps']}"
    lines = [
        f"{result['run']}: {result['queries']} images labelled by {result['algorithm']}{steps}",
        f"Labels (and their support images): {shots}",
    ]
    if "right" in result:
        share = percent(result["right"] / result["queries"], 2)
        lines.append(f"{result['right']} of {result['queries']} are right: {share}")
    return [*lines, *(f"Note: {note}" for note in result["notes"])]


def score(metric: Metric, value: float | None, ci95: float | None) -> str:
    """``accuracy 63.70 % ± 2.87 %``, or that there is none."""
    name = "" if value is None else f"{metric.title} "
    return f"{name}{exact_ci(metric, value, ci95)}"


def where(directory: str) -> str:
    """Where files lie."""
    return f"Files: {directory}"


def what_next(directory: str, labels: bool, plugins: Iterable[str] = ()) -> str:
    """What can be done with a run, in commands that work as they are.

    Args:
        directory: path or address of the run.
        labels: whether it predicts labels, and can do so for other images.
        plugins: what ``--plugin`` has to be given to run its code.
    """
    root, _, name = directory.rpartition("/")
    here = Path.cwd()
    if Path(root).is_relative_to(here):
        root = str(Path(root).relative_to(here))
    of = shlex.quote(name)
    at = "" if root == "runs" else f" --runs-dir {shlex.quote(root)}"
    code = "".join(f" --plugin {shlex.quote(source)}" for source in plugins)
    adapt = f", metadist adapt {of} --support DIR --query DIR{at}{code}" if labels else ""
    return f"Next: metadist report {of}{at}, metadist compare {of} OTHER{at}{adapt}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

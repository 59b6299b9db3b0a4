"""Several finished runs beside each other: what differs, what came of it, and what it has cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metadist.comparison.differences import differences, other_episodes
from metadist.comparison.entry import (
    Entry,
    protocols_of,
    read_entry,
    shared_metric,
    shared_protocol,
)
from metadist.comparison.selection import Selection, select
from metadist.runs.readers.evaluations import metric_facts
from metadist.statistics.format import finite
from metadist.statistics.paired import Paired, paired

#: More runs than these are shown in the order of their figures, the best first.
MOST_UNRANKED = 12


def compare_runs(
    root: Path,
    names: Sequence[str] = (),
    *,
    experiment: str | None = None,
    filter_string: str | None = None,
    baseline: str | None = None,
    protocol: str | None = None,
    metric: str | None = None,
    tracking_uri: str | None = None,
) -> dict[str, Any]:
    """Read and compare runs; see :func:`metadist.compare` for what comes of it, JSON-able.

    Args:
        root: the runs directory.
    """
    runs = select(root, names, experiment, filter_string, baseline, tracking_uri)
    protocols = runs.read(lambda run, _: protocols_of(run))
    if runs.by_mlflow:
        _leave_others_out(runs, protocols, protocol)
    runs.check_enough()
    name = shared_protocol([(label, protocols[label]) for label in runs.runs], protocol)
    entries = [*runs.read(lambda run, label: read_entry(run, label, name, metric)).values()]
    runs.check_enough()
    shared_metric(entries)
    base = next(entry for entry in entries if entry.run == runs.baseline)
    if ranked := len(entries) > MOST_UNRANKED:
        entries.sort(key=_rank)
    first = entries[0].protocol
    return {
        "protocol": name,
        "part": first.part,
        "score": first.metric.name,
        **metric_facts(first.metric),
        "better": "higher" if first.metric.higher_is_better else "lower",
        "ranked": ranked,
        "baseline": base.label,
        "runs": [_run(entry, base) for entry in entries],
        "differences": {
            field: dict(zip([e.label for e in entries], values, strict=True))
            for field, values in differences(entries).items()
        },
        "left_out": [{"run": label, "why": why} for label, why in runs.left_out],
    }


def _leave_others_out(
    runs: Selection, protocols: Mapping[str, Sequence[str]], protocol: str | None
) -> None:
    """Leave out runs that have not been evaluated as the baseline was.

    The trials of a search are among the runs of its experiment, and are not tested. If no baseline
    is named, it is the first run with results on test classes, else the first one.
    """
    if runs.baseline is None:
        tested = [x for x in runs.runs if any(p.startswith("test-") for p in protocols[x])]
        runs.baseline = next((runs.runs[label] for label in tested or runs.runs), None)
    own = next((protocols[x] for x, run in runs.runs.items() if run == runs.baseline), [])
    wanted = protocol or next(iter(own), None)
    for label in [x for x, run in runs.runs.items() if run != runs.baseline]:
        if wanted is not None and wanted not in protocols[label]:
            runs.leave_out(label, f"it has no results of {wanted}")


def _rank(entry: Entry) -> tuple[float, str]:
    """The best first; without a finite figure last."""
    mean = entry.protocol.figure.mean
    if not math.isfinite(mean):
        return math.inf, entry.label
    return (-mean if entry.protocol.metric.higher_is_better else mean), entry.label


def _run(entry: Entry, base: Entry) -> dict[str, Any]:
    figure, cost = entry.protocol.figure, entry.cost
    learner = entry.learner
    return {
        "run": entry.label,
        "path": str(entry.run.path),
        entry.protocol.metric.name: finite(figure.mean),
        "ci95": finite(figure.ci95),
        **_further(entry),
        **_by_instance(entry),
        **_of_classes(entry),
        "episodes": entry.protocol.episodes,
        "failed": figure.failed,
        "adaptation_steps": entry.protocol.figure_step,
        "difference": None if entry is base else _difference(entry, base),
        "algorithm": entry.recipe.algorithm.name,
        "derivative_order": learner.get("derivative_order"),
        "estimator": learner.get("estimator"),
        "parameters": learner.get("parameters"),
        "best_step": entry.best_step,
        "steps": entry.recipe.outer.steps if entry.learns else 0,
        "tasks_per_step": entry.recipe.outer.batch,
        "tasks": cost.tasks,
        "seconds": cost.seconds,
        "worker_seconds": cost.worker_seconds,
        "validation": [[step, finite(score)] for step, score in entry.validation],
    }


def _difference(entry: Entry, base: Entry) -> dict[str, Any]:
    """A run minus the baseline over the episodes that both have, or why they are not the same."""
    if why := other_episodes(entry, base):
        return {"not_paired": why}
    found = paired(entry.rows, base.rows)
    return {
        "mean": finite(found.mean),
        "ci95": finite(found.ci95),
        "episodes": found.n,
        "left_out": found.left_out,
        "verdict": found.word(entry.protocol.metric) or "too few episodes",
        **_over_classes(entry, base, found),
    }


def _further(entry: Entry) -> dict[str, Any]:
    """Figures of other metrics, by name; nothing where there are none."""
    step = entry.protocol.figure_step
    told = {
        own.metric.name: {
            "title": own.metric.title,
            "percent": own.metric.percent,
            "mean": finite(own.mean[step]),
            "ci95": finite(own.ci95[step]),
        }
        for own in entry.protocol.further
    }
    return {"metrics": told} if told else {}


def _by_instance(entry: Entry) -> dict[str, Any]:
    """Of a learner that predicts in sequence; nothing of others."""
    known = entry.protocol.by_instance
    return {"by_instance": known.as_dict()} if known else {}


def _of_classes(entry: Entry) -> dict[str, Any]:
    """How many classes a run's episodes are of, and the half-width over new ones.

    None where they are not recorded; nothing of functions, which have none.
    """
    if not entry.protocol.labels:
        return {}
    known, half = entry.protocol.classes, entry.protocol.figure.ci95_classes
    return {
        "ways": entry.ways,
        "classes": None,
        **(known.told() if known else {}),
        "ci95_classes": finite(half),
    }


def _over_classes(entry: Entry, base: Entry, apart: Paired) -> dict[str, Any]:
    """The half-width of a paired difference over new classes and episodes, and its verdict.

    None where they are not recorded; nothing of functions, which have none. Both runs have the same
    episodes, so one that has recorded their classes is enough.
    """
    if not entry.protocol.labels:
        return {}
    known, half = entry.protocol.classes or base.protocol.classes, math.nan
    common = min(len(entry.rows.score), len(base.rows.score))
    if known is not None and apart.n == common:
        scores = entry.rows.score[:common] - base.rows.score[:common]
        half = float(known.ci95(scores[:, None])[0])
    return {
        "ci95_classes": finite(half),
        "verdict_classes": replace(apart, ci95=half).word(entry.protocol.metric),
    }

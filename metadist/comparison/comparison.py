"""Several finished runs beside each other: what differs, what came of it, and what it has cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metadist.comparison.classes import of_classes, paired_over_classes
from metadist.comparison.differences import Value, differences, other_episodes
from metadist.comparison.entry import Entry, protocols_of, read_entry, shared_protocol
from metadist.comparison.selection import LeftOut, Selection, select
from metadist.errors import RunError
from metadist.statistics.paired import Paired, paired

#: More runs than these are shown in the order of their figures, the best first.
MOST_UNRANKED = 12


@dataclass(frozen=True)
class Difference:
    """A run against the baseline.

    Attributes:
        paired: over the episodes that both have; None if they are not the same.
        not_paired: why not.
        new_classes: the same with the interval over new classes; None where there is none.
    """

    paired: Paired | None
    not_paired: str = ""
    new_classes: Paired | None = None


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared, in the order in which they are shown.

    Attributes:
        protocol: by which they were evaluated.
        baseline: the one that the others are compared with.
        against: of each run but the baseline.
        differing: name -> the value of each run; see :func:`differences`.
        left_out: runs of the experiment that are not among them.
    """

    entries: tuple[Entry, ...]
    protocol: str
    baseline: Entry
    against: dict[str, Difference]
    differing: dict[str, list[Value]]
    left_out: tuple[LeftOut, ...] = ()

    @property
    def ranked(self) -> bool:
        """Whether the best run stands first."""
        return len(self.entries) > MOST_UNRANKED

    def result(self) -> dict[str, Any]:
        """All of it, JSON-able: see :func:`metadist.compare`."""
        first = self.entries[0].protocol
        return {
            "protocol": self.protocol,
            "part": first.part,
            "score": first.score,
            "better": "lower" if first.score == "mse" else "higher",
            "ranked": self.ranked,
            "baseline": self.baseline.label,
            "runs": [_run(entry, self.against.get(entry.label)) for entry in self.entries],
            "differences": {
                name: dict(zip([e.label for e in self.entries], values, strict=True))
                for name, values in self.differing.items()
            },
            "left_out": [{"run": out.name, "why": out.why} for out in self.left_out],
        }


def compare_runs(
    root: Path,
    names: Sequence[str] = (),
    *,
    experiment: str | None = None,
    filter_string: str | None = None,
    baseline: str | None = None,
    protocol: str | None = None,
    tracking_uri: str | None = None,
) -> Comparison:
    """Read and compare runs; see :func:`metadist.compare`.

    Args:
        root: the runs directory.
    """
    runs = select(root, names, experiment, filter_string, baseline, tracking_uri)
    protocols = runs.read(lambda run, _: protocols_of(run))
    if runs.by_mlflow:
        _leave_others_out(runs, protocols, protocol)
    runs.check_enough()
    name = shared_protocol([(label, protocols[label]) for label in runs.runs], protocol)
    entries = [*runs.read(lambda run, label: read_entry(run, label, name)).values()]
    runs.check_enough()
    kinds = {entry.measure: entry.label for entry in entries}
    if len(kinds) > 1:
        listed = ", ".join(f"{label}: {kind}" for kind, label in kinds.items())
        raise RunError(f"the runs do not measure the same ({listed}); compare them apart")
    base = next(entry for entry in entries if entry.run == runs.baseline)
    against = {e.label: _difference(e, base) for e in entries if e is not base}
    if len(entries) > MOST_UNRANKED:
        entries.sort(key=_rank)
    left_out = tuple(runs.left_out)
    return Comparison(tuple(entries), name, base, against, differences(entries), left_out)


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


def _difference(entry: Entry, base: Entry) -> Difference:
    why = other_episodes(entry, base)
    if why:
        return Difference(None, why)
    apart = paired(entry.rows, base.rows)
    return Difference(apart, new_classes=paired_over_classes(entry, base, apart))


def _rank(entry: Entry) -> tuple[float, str]:
    """The best first; without a finite figure last."""
    mean = entry.protocol.figure.mean
    if not math.isfinite(mean):
        return math.inf, entry.label
    return (mean if entry.measure == "mse" else -mean), entry.label


def _run(entry: Entry, difference: Difference | None) -> dict[str, Any]:
    figure, cost = entry.protocol.figure, entry.cost
    learner = entry.learner
    return {
        "run": entry.label,
        "path": str(entry.run.path),
        entry.measure: _finite(figure.mean),
        "ci95": _finite(figure.ci95),
        **of_classes(entry),
        "episodes": entry.protocol.episodes,
        "failed": figure.failed,
        "adaptation_steps": entry.protocol.figure_step,
        "difference": None if difference is None else _told(entry, difference),
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
        "validation": [[step, _finite(score)] for step, score in entry.validation],
    }


def _told(entry: Entry, difference: Difference) -> dict[str, Any]:
    found = difference.paired
    if found is None:
        return {"not_paired": difference.not_paired}
    return {
        "mean": _finite(found.mean),
        "ci95": _finite(found.ci95),
        "episodes": found.n,
        "left_out": found.left_out,
        "verdict": found.word(entry.measure) or "too few episodes",
        **_over_classes(entry, difference.new_classes),
    }


def _over_classes(entry: Entry, found: Paired | None) -> dict[str, Any]:
    if entry.measure == "mse":
        return {}
    half, verdict = (None, None) if found is None else (found.ci95, found.word(entry.measure))
    return {"ci95_classes": half, "verdict_classes": verdict}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

"""Several finished runs beside each other: what differs, what came of it, and what it has cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metadist.comparison.choose import LeftOut, labels, named, of_experiment
from metadist.comparison.classes import of_classes, paired_over_classes
from metadist.comparison.differences import Value, differences, other_episodes
from metadist.comparison.entry import Entry, protocols_of, read_entry, shared_protocol
from metadist.errors import MetadistError, RunError
from metadist.runs.run_dir import RunDir
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
    by_mlflow = experiment is not None or filter_string is not None
    if by_mlflow and names:
        raise RunError("name runs, or an experiment and a filter, not both")
    left_out: list[LeftOut] = []
    if by_mlflow:
        where = (experiment or "metadist", filter_string or "")
        runs, left_out = of_experiment(root, tracking_uri, *where)
    else:
        runs = named(root, names)
    runs, first = _with_baseline(root, runs, baseline)
    # An experiment's runs may all be left out but one that was chosen to compare with.
    chosen = first if baseline is not None or not by_mlflow else None
    told = labels(runs)
    there: dict[str, tuple[RunDir, list[str]]] = {}
    for run, label in zip(runs, told, strict=True):
        try:
            there[label] = (run, protocols_of(run))
        except MetadistError as error:
            _leave_out(label, error, left_out, allowed=by_mlflow and run != chosen)
    if by_mlflow:
        first = chosen or _tested(there)
        _leave_others_out(there, first, protocol, left_out)
    _enough([*there], left_out, by_mlflow)
    name = shared_protocol([(label, own) for label, (_, own) in there.items()], protocol)
    entries: list[Entry] = []
    for label, (run, _) in there.items():
        try:
            entries.append(read_entry(run, label, name))
        except MetadistError as error:
            _leave_out(label, error, left_out, allowed=by_mlflow and run != first)
    _enough([entry.label for entry in entries], left_out, by_mlflow)
    kinds = {entry.measure: entry.label for entry in entries}
    if len(kinds) > 1:
        listed = ", ".join(f"{label}: {kind}" for kind, label in kinds.items())
        raise RunError(f"the runs do not measure the same ({listed}); compare them apart")
    base = next(entry for entry in entries if entry.run == first)
    against = {e.label: _difference(e, base) for e in entries if e is not base}
    if len(entries) > MOST_UNRANKED:
        entries.sort(key=_rank)
    return Comparison(tuple(entries), name, base, against, differences(entries), tuple(left_out))


def _tested(there: dict[str, tuple[RunDir, list[str]]]) -> RunDir | None:
    """The first run with results on test classes, else the first one."""
    runs = [run for run, own in there.values() if any(p.startswith("test-") for p in own)]
    return next(iter(runs or [run for run, _ in there.values()]), None)


def _leave_others_out(
    there: dict[str, tuple[RunDir, list[str]]],
    first: RunDir | None,
    protocol: str | None,
    left_out: list[LeftOut],
) -> None:
    """Leave out runs that have not been evaluated as the baseline was.

    The trials of a search are among the runs of its experiment, and are not tested.
    """
    wanted = protocol or next((own[0] for run, own in there.values() if run == first and own), None)
    for label in [label for label, (run, own) in there.items() if run != first]:
        if wanted is not None and wanted not in there[label][1]:
            left_out.append(LeftOut(label, f"it has no results of {wanted}"))
            del there[label]


def _with_baseline(
    root: Path, runs: list[RunDir], baseline: str | None
) -> tuple[list[RunDir], RunDir | None]:
    """All runs with the baseline among them, and which one it is."""
    if baseline is None:
        return runs, runs[0] if runs else None
    (first,) = named(root, [baseline])
    return (runs if first in runs else [first, *runs]), first


def _leave_out(label: str, error: MetadistError, left_out: list[LeftOut], *, allowed: bool) -> None:
    """A run that was named must be there; one of many that were found may be left out."""
    if not allowed:
        raise error
    left_out.append(LeftOut(label, str(error)))


def _enough(found: list[str], left_out: list[LeftOut], by_mlflow: bool) -> None:
    if len(found) >= 2:
        return
    there = f"there is {found[0]}" if found else "there is none"
    if not by_mlflow:
        raise RunError(f"at least two runs are needed to compare, {there}; name more runs")
    listed = "; ".join(f"{out.name}: {out.why}" for out in left_out[:5])
    raise RunError(
        f"at least two finished runs of the experiment are needed, {there}"
        f"{f' (left out: {listed})' if listed else ''}"
    )


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

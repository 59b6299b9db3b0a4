"""Which runs are compared: those that were named, or those of an MLflow experiment."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from data_pipeline.errors import DataError
from data_pipeline.storage.object_uri import local_path
from metadist.errors import MetadistError, RunError
from metadist.runs.listing import list_runs, open_run
from metadist.runs.run_dir import RunDir
from metadist.track import default_tracking_uri, run_key, search_runs

T = TypeVar("T")


@dataclass
class Selection:
    """The runs that are compared.

    Attributes:
        runs: by their labels.
        baseline: None: it is yet to be chosen.
        by_mlflow: they are those of an experiment. Such a run may be left out, if it is not the
            baseline; one that was named must be there.
        left_out: runs of the experiment that are not compared, and why.
    """

    runs: dict[str, RunDir]
    baseline: RunDir | None
    by_mlflow: bool
    left_out: list[tuple[str, str]]

    def read(self, reader: Callable[[RunDir, str], T]) -> dict[str, T]:
        """What a reader of a run and its label makes of each; what it refuses is left out."""
        found = {}
        for label, run in list(self.runs.items()):
            try:
                found[label] = reader(run, label)
            except MetadistError as error:
                if not self.by_mlflow or run == self.baseline:
                    raise
                self.leave_out(label, str(error))
        return found

    def leave_out(self, label: str, why: str) -> None:
        """Do not compare a run."""
        self.left_out.append((label, why))
        del self.runs[label]

    def check_enough(self) -> None:
        """Raises RunError if there are not two."""
        if len(self.runs) >= 2:
            return
        there = f"there is {next(iter(self.runs))}" if self.runs else "there is none"
        if not self.by_mlflow:
            raise RunError(f"at least two runs are needed to compare, {there}; name more runs")
        listed = "; ".join(f"{name}: {why}" for name, why in self.left_out[:5])
        raise RunError(
            f"at least two finished runs of the experiment are needed, {there}"
            f"{f' (left out: {listed})' if listed else ''}"
        )


def select(
    root: Path,
    names: Sequence[str],
    experiment: str | None,
    filter_string: str | None,
    baseline: str | None,
    uri: str | None,
) -> Selection:
    """The runs that were asked for, with the baseline among them; see :func:`metadist.compare`."""
    by_mlflow = experiment is not None or filter_string is not None
    if by_mlflow and names:
        raise RunError("name runs, or an experiment and a filter, not both")
    left_out: list[tuple[str, str]] = []
    if by_mlflow:
        runs, left_out = of_experiment(root, uri, experiment or "metadist", filter_string or "")
    else:
        runs = named(root, names)
    # Of an experiment whose baseline is not named it is known when all runs are.
    first = runs[0] if runs and not by_mlflow else None
    if baseline is not None:
        (first,) = named(root, [baseline])
        runs = runs if first in runs else [first, *runs]
    return Selection(dict(zip(labels(runs), runs, strict=True)), first, by_mlflow, left_out)


def named(root: Path, names: Sequence[str]) -> list[RunDir]:
    """Runs by their names under ``root`` or their paths.

    Raises:
        RunError: there is no such run, or one is named twice.
    """
    runs: dict[Path, RunDir] = {}
    for name in names:
        run = open_run(root, name)
        if run.path in runs:
            raise RunError(f"{name}: the run {run.path} is named twice; name each run once")
        runs[run.path] = run
    return list(runs.values())


def of_experiment(
    root: Path, uri: str | None, experiment: str, filter_string: str
) -> tuple[list[RunDir], list[tuple[str, str]]]:
    """The finished runs of an MLflow experiment, the oldest first; and who is left out, and why.

    A run directory is where MLflow says that it was, or under ``root`` if it was moved: the name
    and the time of its creation tell whether it is the one.

    Args:
        uri: of the tracking store; the one beside ``root`` if not given.

    Raises:
        TrackingError: see :func:`metadist.track.search_runs`.
    """
    store = uri or default_tracking_uri(root.parent)
    here = functools.cache(lambda: {run_key(run.info()): run for run in list_runs(root)})
    runs: dict[Path, RunDir] = {}
    left_out = []
    for found in search_runs(store, experiment, filter_string):
        if not found.key or not found.finished:
            why = "not finished" if found.key else "not a training of metadist"
            left_out.append((found.name, why))
            continue
        run = _at(found.directory, found.key) or here().get(found.key)
        if run is None:
            was = f" (it was {found.directory})" if found.directory else ""
            left_out.append((found.name, f"its run directory is not here{was}"))
        else:
            runs[run.path] = run
    return list(runs.values()), left_out


def _at(directory: str, key: str) -> RunDir | None:
    """The run directory at a path, if it is the one of this key."""
    if not directory:
        return None
    try:
        run = RunDir(local_path(directory))
        return run if run.pull() and run_key(run.info()) == key else None
    except (RunError, DataError):
        return None


def labels(runs: Sequence[RunDir]) -> list[str]:
    """What the runs are called: their names, or their paths where names are not unique."""
    names = [run.name for run in runs]
    return [str(r.path) if names.count(r.name) > 1 else r.name for r in runs]

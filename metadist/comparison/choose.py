"""Which runs are compared: those that were named, or those of an MLflow experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_pipeline.errors import DataError
from data_pipeline.storage.object_uri import local_path
from metadist.errors import RunError
from metadist.runs.listing import list_runs, open_run
from metadist.runs.run_dir import RunDir
from metadist.track import default_tracking_uri, run_key, search_runs


@dataclass(frozen=True)
class LeftOut:
    """A run of the experiment that is not compared.

    Attributes:
        name: in MLflow.
    """

    name: str
    why: str


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
) -> tuple[list[RunDir], list[LeftOut]]:
    """The finished runs of an MLflow experiment, the oldest first, and those that are left out.

    A run directory is where MLflow says that it was, or under ``root`` if it was moved: the name
    and the time of its creation tell whether it is the one.

    Args:
        uri: of the tracking store; the one beside ``root`` if not given.

    Raises:
        TrackingError: see :func:`metadist.track.search_runs`.
    """
    store = uri or default_tracking_uri(root.parent)
    here: dict[str, RunDir] | None = None
    runs: dict[Path, RunDir] = {}
    left_out = []
    for found in search_runs(store, experiment, filter_string):
        if not found.key:
            left_out.append(LeftOut(found.name, "not a training of metadist"))
            continue
        if not found.finished:
            left_out.append(LeftOut(found.name, "not finished"))
            continue
        run = _at(found.directory, found.key)
        if run is None:
            if here is None:
                here = {run_key(r.info()): r for r in list_runs(root)}
            run = here.get(found.key)
        if run is None:
            was = f" (it was {found.directory})" if found.directory else ""
            left_out.append(LeftOut(found.name, f"its run directory is not here{was}"))
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

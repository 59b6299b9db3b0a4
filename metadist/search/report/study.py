"""A search as a study of Optuna's: for its dashboard, and for the figures of the report."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import optuna
from optuna.storages.journal import BaseJournalBackend, JournalStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from data_pipeline.storage.local import write_atomic
from metadist.executors.optuna_search import distribution
from metadist.search.report.data import SearchData, TrialData
from metadist.search.search_dir import SearchDir
from metadist.space import Choice, Space, When

_STATES = {
    "finished": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "running": TrialState.RUNNING,
}


def write_journal(search: SearchDir, data: SearchData) -> None:
    """Write the study to ``optuna.journal`` in the search's directory, in place of an older one."""
    backend = _Lines()
    as_study(data, JournalStorage(backend))
    lines = (json.dumps(line, separators=(",", ":")) + "\n" for line in backend.lines)
    write_atomic(search.journal, "".join(lines).encode())


def as_study(data: SearchData, storage: JournalStorage | None = None) -> optuna.Study:
    """The study of a search: its trials as far as they were begun, if they fit the space.

    Trial 1 of the search is Optuna's trial 0. Values are the best validation scores, intermediate
    values those of each validation, by outer step; what else is known stands in ``user_attrs``.
    """
    with quiet():
        direction = StudyDirection.MAXIMIZE if data.space.mode == "max" else StudyDirection.MINIMIZE
        study = optuna.create_study(storage=storage, study_name=data.name, direction=direction)
        for trial in data.trials:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                study.add_trial(_trial(data.space, trial))
    return study


def _trial(space: Space, trial: TrialData) -> FrozenTrial:
    """Raises ValueError, KeyError or TypeError if it does not fit the space."""
    state, score = _STATES[trial.status], trial.score
    known = {key: trial.point[key] for key in space.search if key in trial.point}
    more = {key: value for key, value in trial.point.items() if key not in known}
    if odd := [key for key in more if not key.endswith(".lr_changes")]:
        raise KeyError(odd[0])
    frozen = optuna.trial.create_trial(
        state=state,
        value=score if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        params={key: _clipped(space, key, value) for key, value in known.items()},
        distributions={key: distribution(space.search[key]) for key in known},
        intermediate_values={point.step: point.value for point in trial.curve},
        user_attrs={"run": trial.run, "trial": trial.number, "error": trial.error, **more},
    )
    if trial.curve:
        frozen.datetime_start = datetime.fromtimestamp(trial.curve[0].time / 1000)
        if state.is_finished():
            frozen.datetime_complete = datetime.fromtimestamp(trial.curve[-1].time / 1000)
    return frozen


def _clipped(space: Space, key: str, value: Any) -> Any:
    """A value within its domain: the last point of a grid may be a rounding error beyond."""
    domain = space.search[key]
    domain = domain.then if isinstance(domain, When) else domain
    if isinstance(domain, Choice) or isinstance(value, bool | str):
        return value
    return min(max(value, domain.low), domain.high)


class _Lines(BaseJournalBackend):
    """A journal in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.lines += logs

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        yield from self.lines[log_number_from:]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No news of Optuna's, and none of what it calls an experiment."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)

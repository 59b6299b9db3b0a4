"""Trials of a search on a Ray cluster: Ray Tune proposes, places, compares and stops them.

What a trial does is handed in and must be repeatable: given the same number and point again it
goes on where it was, and says again what it has said before. Nothing of Tune's own state is then
needed to continue a search. Its trials are proposed again in the same order; those that are
finished answer at once from what is written down.

A trial is never killed in order to stop it. A scheduler that wants it stopped leaves a file, the
trial sees it when its report has been taken, and ends itself, with whatever it has started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from ray import cloudpickle, tune
from ray.exceptions import RayTaskError
from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator

from metadist.errors import MetadistError
from metadist.executors.cluster.remote_process import DEATHS, cause_of
from metadist.executors.cluster.resources import Resources
from metadist.executors.cluster.worker_environment import with_same_code
from metadist.executors.control.trial_mailbox import Report
from metadist.executors.optuna_search import tpe_searcher
from metadist.executors.trial_schedulers import WORST, cooperative
from metadist.process.environment import restored
from metadist.process.imports import PACKAGES
from metadist.space import Point, Space

log = logging.getLogger(__name__)
#: What trials report, whatever a space calls its metric: their best validation score so far.
SCORE = "score"
#: Under which a trial's point stands where all of them are known from the start.
POINT = "point"
#: A trial: its number (from 1), its point, and whom it reports to. If it raises a MetadistError it
#: is tried again, and if it keeps raising it the search ends.
TrialFunction = Callable[[int, Point, Report], None]


class TrialListener(Protocol):
    """Who wants to know what happens."""

    def began(self, number: int, point: Point) -> None:
        """A trial has begun, or begins again after its process died."""

    def scored(self, number: int, step: int, score: float) -> None:
        """A trial was validated: its best score so far."""

    def ended(self, number: int) -> None:
        """A trial has ended by itself."""

    def died(self, number: int) -> None:
        """A trial's process has died too often."""


def run_trials(
    space: Space,
    function: TrialFunction,
    *,
    seed: int,
    resources: Resources,
    known: Sequence[Point],
    points: Sequence[Point] | None,
    stop_files: Path,
    listener: TrialListener,
) -> bool:
    """Run a space's trials on the Ray that this process is connected to.

    Args:
        function: the trial; sent to other processes.
        known: points of the trials that were begun before, in their order: they come first.
        points: all points, where they do not depend on results; else Optuna proposes them.
        stop_files: directory in which trials find that they are to stop.

    Returns:
        Whether all trials have ended; False after an interrupt.

    Raises:
        SpaceError: Optuna is asked for and not installed.
        MetadistError: what a trial has raised; the others were ended.
    """
    stop_files.mkdir(parents=True, exist_ok=True)
    for leftover in stop_files.parent.glob(".tune-*"):  # of a driver that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    searcher: Any
    if points is None:
        searcher = tpe_searcher(space, seed, known, SCORE)
    else:  # as they stand; it limits how many run at once itself
        searcher = BasicVariantGenerator(max_concurrent=resources.concurrent)
    events = _TrialEvents(listener)

    def name(trial: Trial) -> str:
        # Tune counts them at the head of their tag, one generator from 0, the other from 1.
        index = int(str(trial.experiment_tag).partition("_")[0])
        return f"trial-{index if points is None else index + 1:04d}"

    trainable = tune.with_resources(_trainable(function, space, stop_files), resources.bundle)
    directory = TemporaryDirectory(
        prefix=".tune-", dir=stop_files.parent, ignore_cleanup_errors=True
    )
    with directory as scratch, _quiet():
        tuner = tune.Tuner(
            trainable,
            param_space=None if points is None else {POINT: tune.grid_search([*points])},
            tune_config=tune.TuneConfig(
                metric=SCORE,
                mode=space.mode,
                num_samples=space.trials if points is None else 1,
                max_concurrent_trials=resources.concurrent if points is None else None,
                search_alg=searcher,
                scheduler=cooperative(space, stop_files),
                trial_name_creator=name,
                trial_dirname_creator=name,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                failure_config=tune.FailureConfig(max_failures=DEATHS),
                callbacks=[events],
                stop=events,
                verbose=0,
            ),
        )
        tuner.fit()
    if events.raised is not None:
        raise events.raised
    return events.all_ended(space.trials if points is None else len(points))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No files and lines of Tune's own: the search keeps its own record."""
    wanted = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
        "RAY_AIR_NEW_OUTPUT": "0",
        "TUNE_MAX_PENDING_TRIALS_PG": "auto",
    }
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "optuna")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with restored(*wanted):
            os.environ.update(wanted)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _number(trial: Trial | str) -> int:
    """From 1, by the trial's name."""
    return int(str(trial).rpartition("-")[2])


def _trainable(function: TrialFunction, space: Space, stop_files: Path) -> Callable[[Any], None]:
    def trial(config: dict[str, Any]) -> None:
        number = _number(tune.get_context().get_trial_name())

        def report(step: int, score: float) -> bool:
            finite = score if score == score else WORST[space.mode]
            tune.report({SCORE: finite, "step": step})
            return not (stop_files / f"{number:04d}").exists()

        function(number, config.get(POINT, config), report)

    return with_same_code(trial, *PACKAGES)


class _TrialEvents(tune.Callback, tune.Stopper):
    """Passes on what Tune tells of its trials, and ends them all when one has raised something."""

    def __init__(self, listener: TrialListener) -> None:
        self._listener = listener
        self._over: set[int] = set()
        #: What a trial has raised, again and again.
        self.raised: MetadistError | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes it down; it is never read back, and listeners hold streams.
        return {}

    def all_ended(self, trials: int) -> bool:
        return len(self._over) >= trials

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # no trial is ended for its own sake

    def stop_all(self) -> bool:
        return self.raised is not None

    def on_trial_start(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        config = trial.config
        self._listener.began(_number(trial), dict(config.get(POINT, config)))

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if SCORE in result and "step" in result:
            self._listener.scored(_number(trial), result["step"], result[SCORE])

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        self._over.add(_number(trial))
        self._listener.ended(_number(trial))

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """A trial's process has died, or the trial has raised something; not for the first time."""
        if (raised := _raised(trial)) is not None:
            self.raised = self.raised or raised
            return
        self._over.add(_number(trial))
        self._listener.died(_number(trial))


def _raised(trial: Trial) -> MetadistError | None:
    """What a trial has raised; None if its process has died."""
    path = trial.pickled_error_file
    if path is None:
        return None
    # This process has written it a moment ago, in a folder that is its own alone. What Ray offers
    # to read it looks in the storage, where it arrives later.
    error = cloudpickle.loads(Path(path).read_bytes())
    cause = cause_of(error) if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, MetadistError) else None
